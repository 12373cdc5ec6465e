"""Compose files -> what the cluster shall run.

    text -> documents (YAML, variables, short forms, include, extends) -> merged
         -> services (each key by the catalogue) -> flaws at their lines -> Project

Pure: files other than the given ones are read by an injected function, the environment is a
mapping. What is wrong is collected as far as it makes sense and raised as one ``ComposeError``.
"""

from collections.abc import Mapping as Environment
from collections.abc import Sequence

import msgspec

from cluster.compose import catalogue, depends, fields
from cluster.compose.document import document
from cluster.compose.documents import Documents, Place, settled_map
from cluster.compose.fields import Cursor, Fields, Refused
from cluster.compose.flaws import report_flaws
from cluster.compose.merge import merge
from cluster.compose.nodes import Mapping
from cluster.compose.problems import Position, Problem, Report
from cluster.compose.service import service_spec
from cluster.compose.stack import Declared, ReadFile, Stack, declarations
from cluster.model import ServiceSpec
from cluster.validation import name_flaw

PROFILES_VARIABLE = "COMPOSE_PROFILES"
PROJECT_VARIABLE = "COMPOSE_PROJECT_NAME"
_EVERY_PROFILE = "*"
_NAMELESS = "nameless"


class Source(msgspec.Struct, frozen=True):
    """A file that the user named.

    Attributes:
        name: as problems should call it, such as ``compose.yaml``.
        text: all of it.
    """

    name: str
    text: str


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """What the files ask for.

    Attributes:
        name: of the stack.
        services: in the order of the files, each named ``<project>_<service>``.
        networks, volumes: as declared, by their key in the files; ``default`` is always there.
        warnings: what works otherwise than the files' author may think.
    """

    name: str
    services: tuple[ServiceSpec, ...]
    networks: dict[str, Declared]
    volumes: dict[str, Declared]
    warnings: tuple[Problem, ...] = ()

    def document(self) -> dict[str, object]:
        """Return one Compose document, all in long forms, that means the same."""
        return document(self.name, self.services, self.networks, self.volumes)


def load(
    files: Sequence[Source],
    *,
    environment: Environment[str, str],
    directory: str,
    read: ReadFile,
    project: str = "",
) -> Project:
    """Return what *files*, the later ones changing the earlier, ask for.

    Args:
        files: at least one.
        environment: variables for ``${...}`` and for bare names under ``environment``; what a
            ``.env`` file adds is the caller's business (``dotenv.read``). ``COMPOSE_PROFILES``
            chooses services with ``profiles``; ``HOME`` stands for ``~``.
        directory: absolute; where relative paths in *files* start.
        read: returns the text of a file by its absolute path; raises ``OSError`` or
            ``ValueError``.
        project: the stack's name; empty takes the files' own ``name``.

    Raises:
        ComposeError: everything that makes the files unusable.
    """
    report = Report(source.name for source in files)
    if project:
        environment = {**environment, PROJECT_VARIABLE: project}
    documents = Documents(read, report)
    whole: Mapping | None = None
    for source in files:
        tree = documents.tree(source.text, Place(source.name, directory, environment))
        whole = settled_map(tree) if whole is None else merge(whole, tree, report)
    assert whole is not None, "at least one file"
    result = _project(whole, project, environment, read, report)
    report.stop_if_unusable()
    return msgspec.structs.replace(result, warnings=report.warnings)


def _project(
    whole: Mapping,
    given_name: str,
    environment: Environment[str, str],
    read: ReadFile,
    report: Report,
) -> Project:
    top = Fields(Cursor(whole, "", report), catalogue.TOP)
    name = _name(top, given_name, whole.at, report)
    networks, volumes = declarations(top, name)
    active = _active_services(top, environment, whole.at, report)
    stack = Stack(
        name=name,
        services=frozenset(key for key, _, _ in active),
        networks=networks,
        volumes=volumes,
        environment=environment,
        read=read,
    )
    services: dict[str, ServiceSpec] = {}
    for key, cursor, key_at in active:
        try:
            spec = service_spec(cursor, key, stack)
        except Refused:
            continue
        report_flaws(spec, cursor.map(), cursor.path, key_at, report)
        services[key] = spec
    depends.check(services, {key: cursor for key, cursor, _ in active}, report)
    return Project(name=name, services=tuple(services.values()), networks=networks, volumes=volumes)


def _name(top: Fields, given: str, at: Position, report: Report) -> str:
    """Return the stack's name, or one to go on with if there is none of use."""
    name = given or top.get("name", fields.some_text, "")
    if name and not (flaw := name_flaw(name)):
        return name
    if given:
        report.problem(at, "", f"stack name {flaw}")
    elif name:
        report.problem(top.at("name").node.at, "name", flaw)
    elif not report.has_problem_at("name"):
        report.problem(at, "name", "the stack has no name: give one here or to the command")
    return _NAMELESS


def _active_services(
    top: Fields, environment: Environment[str, str], at: Position, report: Report
) -> list[tuple[str, Cursor, Position]]:
    """Return key, value and the key's place of each service that no profile leaves out."""
    if "services" not in top:
        report.problem(at, "services", "expected a map of services; there is none")
        return []
    try:
        keys_at = top.at("services").map().keys_at
    except Refused:
        return []
    children = list(top.at("services").children())
    profiles = set(filter(None, environment.get(PROFILES_VARIABLE, "").split(",")))
    active = []
    for key, cursor in children:
        wanted = _profiles(cursor)
        if not wanted or _EVERY_PROFILE in profiles or profiles & set(wanted):
            active.append((key, cursor, keys_at[key]))
        else:
            cursor.report.warning(
                keys_at[key],
                cursor.path,
                f"left out: none of its profiles ({', '.join(wanted)}) is in {PROFILES_VARIABLE}",
            )
    if not children:
        report.problem(at, "services", "expected a map of services; there is none")
    return active


def _profiles(cursor: Cursor) -> tuple[str, ...]:
    node = cursor.node
    if not isinstance(node, Mapping) or "profiles" not in node.entries:
        return ()
    part = Cursor(node.entries["profiles"], f"{cursor.path}.profiles", cursor.report)
    try:
        return fields.list_of(fields.some_text)(part)
    except Refused:
        return ()
