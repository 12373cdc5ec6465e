"""YAML text -> nodes, by the rules of YAML 1.2 rather than of 1.1.

Built from libyaml's events, without recursion in C, and with three differences to what PyYAML
would make of the same text: unquoted words have the types of the 1.2 core schema (so ``22:22``
is no number of minutes and ``on`` no boolean), a key that stands twice is a problem that names
both lines, and an alias can neither contain itself nor multiply without bound.
"""

from collections.abc import Iterator

import yaml

from cluster.compose.nodes import Items, Kind, Mapping, Node, Scalar, Tag, is_null, kind_of
from cluster.compose.problems import Position, Report

# Compose files nest about ten deep; every later step recurses as deep as the file does.
DEPTH_MAX = 64

# Some three thousand services of ordinary size, aliases counted as often as they are used.
NODES_MAX = 200_000

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE_KEY = "<<"
_YAML_TAGS = "tag:yaml.org,2002:"
_PLAIN_TAGS = frozenset(_YAML_TAGS + name for name in ("null", "bool", "int", "float"))
_COMPOSE_TAGS = {tag.value: tag for tag in (Tag.RESET, Tag.OVERRIDE)}


def parse(text: str, file: str, report: Report) -> list[Node]:
    """Return the documents in *text*; those before a syntax error if there is one."""
    documents: list[Node] = []
    try:
        documents.extend(_Composer(file, report).documents(text))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = Position(file, mark.line + 1, mark.column + 1) if mark else Position(file, 1, 1)
        report.problem(at, "", f"this is no YAML: {_explained(error, text, at)}")
    except yaml.reader.ReaderError as error:
        where = error.position if isinstance(error.position, int) else 0
        before = text[:where]
        at = Position(file, before.count("\n") + 1, where - before.rfind("\n"))
        report.problem(at, "", f"this is no YAML: {error.reason}")
    except UnicodeEncodeError as error:
        before = text[: error.start]
        at = Position(file, before.count("\n") + 1, error.start - before.rfind("\n"))
        report.problem(at, "", "this is no text: a file has to be written in UTF-8")
    except _TooMuchError as error:
        report.problem(error.at, "", str(error))
    return documents


class _TooMuchError(Exception):
    """The file is beyond a bound; nothing more is read of it."""

    def __init__(self, at: Position, message: str) -> None:
        super().__init__(message)
        self.at = at


class _Composer:
    """Makes nodes of one file's events."""

    def __init__(self, file: str, report: Report) -> None:
        self._file = file
        self._report = report
        self._trail: list[str] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._count = 0

    def documents(self, text: str) -> Iterator[Node]:
        events = iter(yaml.parse(text, Loader=_LOADER))
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors.clear()
                yield self._node(next(events), events, 0)

    def _node(self, event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> Node:
        at = self._position(event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event.anchor or "", at)
        before = self._count
        self._spend(1, at)
        if depth > DEPTH_MAX:
            raise _TooMuchError(at, f"values nest deeper than {DEPTH_MAX} levels here")
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event, at)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._items(event, events, at, depth)
        else:
            assert isinstance(event, yaml.MappingStartEvent)
            node = self._mapping(event, events, at, depth)
        if event.anchor:
            self._anchors[event.anchor] = (node, self._count - before)
        return node

    def _alias(self, anchor: str, at: Position) -> Node:
        if anchor not in self._anchors:
            self._problem(at, f"no anchor &{anchor} is complete before this alias")
            return Scalar("", Kind.BROKEN, at)
        node, size = self._anchors[anchor]
        self._spend(size, at)
        return node

    def _spend(self, nodes: int, at: Position) -> None:
        self._count += nodes
        if self._count > NODES_MAX:
            raise _TooMuchError(at, f"the file has more than {NODES_MAX} values up to here")

    def _scalar(self, event: yaml.ScalarEvent, at: Position) -> Scalar:
        tag = self._tag(event.tag, at)
        is_unquoted = event.implicit[0] if event.tag is None else event.style in (None, "")
        is_typed = event.tag is None or event.tag in _PLAIN_TAGS or tag is not Tag.NONE
        kind = Kind.STRING
        if is_typed and (is_unquoted or event.tag in _PLAIN_TAGS):
            kind = kind_of(event.value)
        return Scalar(event.value, kind, at, tag)

    def _items(
        self, start: yaml.SequenceStartEvent, events: Iterator[yaml.Event], at: Position, depth: int
    ) -> Items:
        items: list[Node] = []
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            self._trail.append(f"[{len(items)}]")
            items.append(self._node(event, events, depth + 1))
            self._trail.pop()
        return Items(tuple(items), at, self._tag(start.tag, at))

    def _mapping(
        self, start: yaml.MappingStartEvent, events: Iterator[yaml.Event], at: Position, depth: int
    ) -> Mapping:
        entries: dict[str, Node] = {}
        keys_at: dict[str, Position] = {}
        merged: list[Mapping] = []
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key_at = self._position(event)
            key_node = self._node(event, events, depth + 1)
            is_merge = (
                isinstance(event, yaml.ScalarEvent)
                and event.value == _MERGE_KEY
                and event.implicit[0]
            )
            key = key_node.text if isinstance(key_node, Scalar) else None
            self._trail.append(".?" if key is None else f".{key}")
            node = self._node(next(events), events, depth + 1)
            if key is None:
                self._problem(key_at, "a key must be a single word, not a list or a map")
            elif key in keys_at:
                first = keys_at[key]
                self._problem(key_at, f"this key stands here twice, first at {first}")
            else:
                keys_at[key] = key_at
                entries[key] = node
                if is_merge:
                    merged = self._merged(entries.pop(key))
            self._trail.pop()
        for base in merged:  # what stands in the map itself, or earlier in the list, wins
            entries = {**base.entries, **entries}
            keys_at = {**base.keys_at, **keys_at}
        if merged:
            keys_at = {key: keys_at[key] for key in entries}
        return Mapping(entries, keys_at, at, self._tag(start.tag, at))

    def _merged(self, node: Node) -> list[Mapping]:
        """Return the maps that a merge key brings in, the strongest first."""
        maps: list[Mapping] = []
        for part in node.items if isinstance(node, Items) else (node,):
            if isinstance(part, Mapping):
                maps.append(part)
            elif not is_null(part):
                self._problem(part.at, "a merge key takes a map or a list of maps")
        return maps

    def _tag(self, tag: str | None, at: Position) -> Tag:
        if tag is None or tag == "!" or tag.startswith(_YAML_TAGS):
            name = (tag or "").removeprefix(_YAML_TAGS)
            if name not in ("", "!", "str", "null", "bool", "int", "float", "map", "seq"):
                self._problem(at, f"the type !!{name} has no use in a Compose file")
            return Tag.NONE
        if tag not in _COMPOSE_TAGS:
            self._problem(at, f"unknown tag {tag}; there are {' and '.join(_COMPOSE_TAGS)}")
            return Tag.NONE
        return _COMPOSE_TAGS[tag]

    def _position(self, event: yaml.Event) -> Position:
        mark = event.start_mark
        assert mark is not None, "libyaml's events are marked"
        return Position(self._file, mark.line + 1, mark.column + 1)

    def _problem(self, at: Position, message: str) -> None:
        self._report.problem(at, "".join(self._trail).removeprefix("."), message)


def _explained(error: yaml.MarkedYAMLError, text: str, at: Position) -> str:
    lines = text.splitlines()
    line = lines[at.line - 1] if at.line <= len(lines) else ""
    if line[: at.column].lstrip(" ").startswith("\t"):
        return "lines are indented with spaces, not with tabs"
    parts = [error.context, error.problem]
    return ", ".join(part for part in parts if part)
