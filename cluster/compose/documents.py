"""A file's text -> one normalised tree, with all that it takes in from other files.

For each document in the file, in this order: YAML, variables, short forms, ``include``,
``extends``; then its documents are merged, as several files are. Relative paths start at the
folder of the file that they stand in, so what comes from elsewhere keeps meaning the same.
"""

import posixpath
from collections.abc import Mapping as Environment

import msgspec

from cluster.compose import catalogue, dotenv, fields, yaml12
from cluster.compose.fields import Cursor, Fields, Refused
from cluster.compose.forms import normalised
from cluster.compose.interpolation import interpolate
from cluster.compose.merge import merge, merge_service, settled
from cluster.compose.nodes import Items, Mapping, Node, is_null, mapping
from cluster.compose.problems import Position, Report
from cluster.compose.short import Base
from cluster.compose.stack import ReadFile, file_text, optional_file_text
from cluster.errors import did_you_mean

# Deeper than anyone can follow; a circle is found as such before.
CHAIN_MAX = 20

# More than any stack is split into; files that include each other twice grow without bound.
FILES_MAX = 200

_DOTENV = ".env"
_SHARED = ("services", "networks", "volumes", "secrets", "configs", "models")


class Place(msgspec.Struct, frozen=True):
    """Where a file is read from.

    Attributes:
        file: its name as problems tell it.
        directory: where its relative paths start; absolute.
        environment: what its variables stand for.
        included_by: the files that include it, the outermost first.
    """

    file: str
    directory: str
    environment: Environment[str, str]
    included_by: tuple[str, ...] = ()

    def path_of(self, relative: str) -> str:
        return Base.of(self.directory, self.environment).absolute(relative)


class Documents:
    """Reads files into trees."""

    def __init__(self, read: ReadFile, report: Report) -> None:
        self._read = read
        self._report = report
        self._files = 0
        self._bases: dict[str, Mapping] = {}  # files that services extend, before their own extends

    def tree(self, text: str, place: Place) -> Mapping:
        """Return the file's documents as one, its merge tags kept for the files before it.

        It is empty if the file is of no use.
        """
        whole: Mapping | None = None
        for document in self._normalised(text, place):
            extended = self._extended(self._with_includes(document, place), place)
            whole = extended if whole is None else merge(whole, extended, self._report)
        return whole or mapping({}, Position(place.file, 1, 1))

    def _normalised(self, text: str, place: Place) -> list[Mapping]:
        documents: list[Mapping] = []
        nodes = yaml12.parse(text, place.file, self._report)
        for node in nodes:
            if not isinstance(node, Mapping):
                if not is_null(node):
                    self._report.problem(node.at, "", "expected a map with `services`")
                continue
            own = node.without(*(key for key in node.entries if catalogue.is_of_others(key)))
            complete = interpolate(own, place.environment, self._report)
            assert isinstance(complete, Mapping)
            base = Base.of(place.directory, place.environment)
            documents.append(normalised(complete, base, self._report))
        return documents

    def _text(self, path: str, asked_by: Cursor) -> str:
        """Return the text of another file; refused where it is asked for."""
        self._files += 1
        if self._files > FILES_MAX:
            raise asked_by.refused(f"more than {FILES_MAX} files are read up to here")
        return file_text(self._read, path, asked_by)

    # --- include ------------------------------------------------------------------------------

    def _with_includes(self, document: Mapping, place: Place) -> Mapping:
        """Return the document with what it includes; nothing may be defined on both sides."""
        included = document.entries.get("include")
        own = document.without("include")
        if included is None or is_null(included):
            return own
        try:
            entries = Cursor(included, "include", self._report).items()
        except Refused:
            return own
        for cursor in entries:
            try:
                own = self._joined(own, self._included(cursor, place))
            except Refused:
                continue
        return own

    def _included(self, cursor: Cursor, place: Place) -> Mapping:
        if isinstance(cursor.node, Mapping):
            entry = Fields(cursor, catalogue.INCLUDE)
            if "path" not in entry:
                raise cursor.refused("expected a path")
            paths = _one_or_more(entry.at("path"))
            directory = entry.get("project_directory", fields.some_text, "")
            env_files = entry.get("env_file", _one_or_more, ())
        else:
            paths, directory, env_files = (fields.some_text(cursor),), "", ()
        files = [place.path_of(path) for path in paths]
        chain = (*place.included_by, place.file)
        if any(file in chain for file in files):
            raise cursor.refused("a file cannot include itself: " + " -> ".join((*chain, *files)))
        if not files or len(chain) > CHAIN_MAX:
            raise cursor.refused(f"expected 1 path or more, nested at most {CHAIN_MAX} deep")
        home = place.path_of(directory) if directory else posixpath.dirname(files[0])
        variables = self._variables(
            cursor, [place.path_of(file) for file in env_files], home, place
        )
        whole: Mapping | None = None
        for file in files:
            tree = self.tree(
                self._text(file, cursor), Place(file, home, variables, included_by=chain)
            )
            whole = tree if whole is None else merge(whole, tree, self._report)
        assert whole is not None
        return whole

    def _variables(
        self, cursor: Cursor, env_files: list[str], home: str, place: Place
    ) -> dict[str, str]:
        """Return the environment of an included file: ours, then that of its own ``.env``."""
        variables: dict[str, str] = {}
        for path in env_files or [posixpath.join(home, _DOTENV)]:
            text = optional_file_text(self._read, path, cursor)
            if text is None and env_files:
                raise cursor.refused(f"there is no file {path}")
            found = dotenv.parse(text or "", path, place.environment, self._report)
            variables.update({name: value for name, value in found.items() if value is not None})
        return {**variables, **place.environment}

    def _joined(self, own: Mapping, included: Mapping) -> Mapping:
        sections: dict[str, Node] = {}
        for name in _SHARED:
            theirs = included.entries.get(name)
            if not isinstance(theirs, Mapping):
                continue
            ours = own.entries.get(name)
            if not isinstance(ours, Mapping):
                sections[name] = theirs
                continue
            for key in theirs.entries.keys() & ours.entries.keys():
                if theirs.entries[key] != ours.entries[key]:
                    message = f"is also defined by the included {theirs.keys_at[key]}"
                    self._report.problem(ours.keys_at[key], f"{name}.{key}", message)
            sections[name] = Mapping(
                {**theirs.entries, **ours.entries}, {**theirs.keys_at, **ours.keys_at}, ours.at
            )
        return own.replacing(sections)

    # --- extends ------------------------------------------------------------------------------

    def _extended(self, document: Mapping, place: Place) -> Mapping:
        """Return the document with every service that extends another merged onto that."""
        services = document.entries.get("services")
        if not isinstance(services, Mapping):
            return document
        entries = {
            name: self._service(node, name, services, place, chain=())
            for name, node in services.entries.items()
        }
        return document.replacing({"services": services.replacing(entries)})

    def _service(
        self,
        node: Node,
        name: str,
        services: Mapping,
        place: Place,
        chain: tuple[tuple[str, str], ...],
    ) -> Node:
        if not isinstance(node, Mapping) or "extends" not in node.entries:
            return node
        own = node.without("extends")
        cursor = Cursor(node.entries["extends"], f"services.{name}.extends", self._report)
        if is_null(cursor.node):
            return own
        link = (place.file, name)
        try:
            if link in chain:
                names = " -> ".join(step for _, step in (*chain, link))
                raise cursor.refused(f"a service cannot extend itself: {names}")
            if len(chain) > CHAIN_MAX:
                raise cursor.refused(f"services extend each other more than {CHAIN_MAX} deep")
            base = self._base(cursor, services, place, (*chain, link))
        except Refused:
            return own
        return merge_service(base, own, name, self._report)

    def _base(
        self, cursor: Cursor, services: Mapping, place: Place, chain: tuple[tuple[str, str], ...]
    ) -> Mapping:
        """Return the service that is extended, complete."""
        extends = Fields(cursor, catalogue.EXTENDS)
        if "service" not in extends:
            raise cursor.refused("expected a service")
        name = fields.some_text(extends.at("service"))
        if "file" in extends:
            path = place.path_of(fields.some_text(extends.at("file")))
            place = Place(path, posixpath.dirname(path), place.environment)
            services = self._services_of(extends.at("file"), place)
        if name not in services.entries:
            near = did_you_mean(name, services.entries)
            message = f"there is no service {name!r} in {place.file}{near and ';' + near}"
            raise extends.at("service").refused(message)
        base = self._service(services.entries[name], name, services, place, chain)
        if not isinstance(base, Mapping):
            raise cursor.refused(f"the service {name!r} of {base.at} is no map")
        return settled_map(base)

    def _services_of(self, cursor: Cursor, place: Place) -> Mapping:
        """Return the services of a file that is extended, their own extends not yet followed."""
        if place.file not in self._bases:
            whole: Mapping | None = None
            for document in self._normalised(self._text(place.file, cursor), place):
                whole = (
                    settled_map(document) if whole is None else merge(whole, document, self._report)
                )
            services = whole.entries.get("services") if whole else None
            empty = mapping({}, Position(place.file, 1, 1))
            self._bases[place.file] = services if isinstance(services, Mapping) else empty
        return self._bases[place.file]


def settled_map(node: Mapping) -> Mapping:
    """Return the map with its merge tags obeyed."""
    result = settled(node)
    assert isinstance(result, Mapping)
    return result


def _one_or_more(cursor: Cursor) -> tuple[str, ...]:
    if isinstance(cursor.node, Items):
        return fields.list_of(fields.some_text)(cursor)
    return (fields.some_text(cursor),)
