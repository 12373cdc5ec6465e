"""The short spellings of ports and mounts, made long.

ports       [[ADDRESS:]PUBLISHED:]TARGET[/PROTOCOL]; either port may be a range A-B
volumes     [SOURCE:]TARGET[:OPTION,...]; a SOURCE that begins with '/', '.' or '~' is a path
"""

import posixpath
import re
from collections.abc import Mapping as Environment

import msgspec

from cluster.compose.nodes import Kind, Mapping, Node, Scalar, mapping, string
from cluster.compose.problems import Position, Report
from cluster.errors import did_you_mean
from cluster.validation import PROPAGATIONS

# A container with more ports than this wants the host's network.
PORTS_PER_RANGE_MAX = 1024

_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_PORT_FORM = "[[ADDRESS:]PUBLISHED:]TARGET[/PROTOCOL]"
_MOUNT_FORM = "[SOURCE:]TARGET[:OPTIONS]"
_NO_EFFECT = ("rw", "cached", "delegated", "consistent")
_SELINUX = ("z", "Z")
_MOUNT_OPTIONS = ("ro", "nocopy", *_NO_EFFECT, *_SELINUX, *PROPAGATIONS)


class Base(msgspec.Struct, frozen=True):
    """Where relative paths of a file start.

    Attributes:
        directory: absolute.
        home: what ``~`` stands for; empty if unknown.
    """

    directory: str
    home: str = ""

    def absolute(self, path: str) -> str:
        """Return *path* as an absolute one; unchanged where ``~`` is not known."""
        if path == "~" or path.startswith("~/"):
            if not self.home:
                return path
            path = self.home + path[1:]
        return posixpath.normpath(posixpath.join(self.directory, path))

    @classmethod
    def of(cls, directory: str, environment: Environment[str, str]) -> "Base":
        return cls(directory, environment.get("HOME", ""))


def ports(node: Scalar, path: str, report: Report) -> list[Node]:
    """Return the long form of a short port, one map for each port of a range."""
    text, slash, protocol = node.text.partition("/")
    rest, _, target = text.rpartition(":")
    address, _, published = rest.rpartition(":")
    targets = _range(target)
    publishes = _range(published) if published else ()
    if targets is None or publishes is None or (slash and not protocol) or text.startswith(":"):
        report.problem(node.at, path, f"expected {_PORT_FORM}, found {node.text!r}")
        return [_broken(node.at)]
    if publishes and len(publishes) != len(targets):
        message = f"{len(publishes)} published ports for {len(targets)}: give as many of each"
        report.problem(node.at, path, message)
        return [_broken(node.at)]
    if max(len(targets), len(publishes)) > PORTS_PER_RANGE_MAX:
        message = f"more than {PORTS_PER_RANGE_MAX} ports; network_mode: host opens them all"
        report.problem(node.at, path, message)
        return [_broken(node.at)]
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    common: dict[str, Node] = {}
    if protocol:
        common["protocol"] = string(protocol, node.at)
    if address:
        common["host_ip"] = string(address, node.at)
    long: list[Node] = []
    for index, port in enumerate(targets):
        entries: dict[str, Node] = {"target": string(str(port), node.at)}
        if publishes:
            entries["published"] = string(str(publishes[index]), node.at)
        long.append(mapping({**entries, **common}, node.at))
    return long


def _range(text: str) -> range | None:
    match = _RANGE.fullmatch(text)
    if match is None:
        return None
    first = int(match[1])
    last = int(match[2] or first)
    return range(first, last + 1) if first <= last else None


def mount(node: Scalar, path: str, base: Base, report: Report) -> Node:
    """Return the long form of a short mount, a relative path still as it was written."""
    parts = node.text.split(":")
    if not 1 <= len(parts) <= 3 or not all(parts):  # noqa: PLR2004  as in the form
        report.problem(node.at, path, f"expected {_MOUNT_FORM}, found {node.text!r}")
        return _broken(node.at)
    source = parts[0] if len(parts) > 1 else ""
    is_bind = source.startswith(("/", ".", "~"))
    entries: dict[str, Node] = {
        "type": string("bind" if is_bind else "volume", node.at),
        "target": string(parts[1] if len(parts) > 1 else parts[0], node.at),
    }
    if source:
        entries["source"] = string(source, node.at)
    for option in parts[2].split(",") if len(parts) > 2 else ():  # noqa: PLR2004
        entries.update(_mount_option(option, node, path, report))
    long = mapping(entries, node.at)
    return mount_source(long, path, base, report)


def _mount_option(option: str, node: Scalar, path: str, report: Report) -> dict[str, Node]:
    if option == "ro":
        return {"read_only": Scalar("true", Kind.BOOL, node.at)}
    if option == "nocopy":
        return {"volume": mapping({"nocopy": Scalar("true", Kind.BOOL, node.at)}, node.at)}
    if option in PROPAGATIONS:
        return {"bind": mapping({"propagation": string(option, node.at)}, node.at)}
    if option in _SELINUX:
        return {"bind": mapping({"selinux": string(option, node.at)}, node.at)}
    if option not in _NO_EFFECT:
        near = did_you_mean(option, _MOUNT_OPTIONS) or f" there are {', '.join(_MOUNT_OPTIONS)}"
        report.problem(node.at, path, f"unknown option {option!r};{near}")
    return {}


def mount_source(node: Mapping, path: str, base: Base, report: Report) -> Mapping:
    """Return a long mount with its host path made absolute."""
    kind, source = node.entries.get("type"), node.entries.get("source")
    if not (isinstance(kind, Scalar) and kind.text == "bind" and isinstance(source, Scalar)):
        return node
    absolute = base.absolute(source.text)
    if source.kind is Kind.BROKEN or absolute == source.text or source.text.startswith("/"):
        return node
    message = f"{source.text} is {absolute} on whichever host runs a task; nothing is copied there"
    report.warning(source.at, path, message)
    return node.replacing({"source": string(absolute, source.at)})


def _broken(at: Position) -> Scalar:
    return Scalar("", Kind.BROKEN, at)
