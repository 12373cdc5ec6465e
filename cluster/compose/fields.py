"""Reading values: from a node to a Python value, or a problem at the node's place.

A reader is a function of a ``Cursor``: it returns the value, or reports and raises ``Refused``;
``Fields.get`` and the list and map readers catch that and go on, so one bad value hides none of
the others.
"""

import difflib
import re
from collections.abc import Callable, Iterator
from collections.abc import Mapping as Choices
from typing import TypeVar

import msgspec

from cluster import quantities
from cluster.compose.catalogue import EXTENSION, SECTIONS, Key, Section, Support, is_of_others
from cluster.compose.nodes import Items, Kind, Mapping, Node, Scalar, described, is_null
from cluster.compose.problems import Position, Report
from cluster.errors import InvalidError, did_you_mean

T = TypeVar("T")
D = TypeVar("D")

# Where a section has no more keys than this, a misspelt one is answered with all of them.
KEYS_LISTED_MAX = 12

# So near to our own extension that it is probably meant: two letters that changed places are.
_EXTENSION_LIKENESS_MIN = 0.8

_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_HEX_OR_OCTAL = re.compile(r"0x[0-9a-fA-F]{1,15}|0o[0-7]{1,20}")
_RATIO = re.compile(r"[-+]?(?:[0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})")
_OCTAL = re.compile(r"0(?:o?([0-7]{1,7}))?")
_TRUE = frozenset({"true", "yes", "on", "y"})
_FALSE = frozenset({"false", "no", "off", "n"})


class Refused(Exception):  # noqa: N818  a step of reading, never seen outside of it
    """The value is of no use; the problem has been reported."""


class Cursor(msgspec.Struct, frozen=True):
    """A value, the path by which it is used, and whom to tell about it."""

    node: Node
    path: str
    report: Report

    def refused(self, message: str) -> Refused:
        """Report a problem; return what to raise."""
        self.report.problem(self.node.at, self.path, message)
        return Refused()

    def unexpected(self, what: str) -> Refused:
        """Report that *what* was expected, unless the value was reported before."""
        if isinstance(self.node, Scalar) and self.node.kind is Kind.BROKEN:
            return Refused()
        return self.refused(f"expected {what}, found {described(self.node)}")

    def warn(self, message: str) -> None:
        self.report.warning(self.node.at, self.path, message)

    def scalar(self, what: str) -> Scalar:
        """Return the node if it is a single value that is not nothing."""
        if isinstance(self.node, Scalar) and self.node.kind not in (Kind.NULL, Kind.BROKEN):
            return self.node
        raise self.unexpected(what)

    def map(self) -> Mapping:
        """Return the node if it is a map."""
        if isinstance(self.node, Mapping):
            return self.node
        raise self.unexpected("a map")

    def children(self) -> "Iterator[tuple[str, Cursor]]":
        """Return the entries of a map, whatever their names."""
        for key, node in self.map().entries.items():
            yield key, Cursor(node, f"{self.path}.{key}", self.report)

    def items(self) -> "list[Cursor]":
        """Return the entries of a list."""
        if not isinstance(self.node, Items):
            raise self.unexpected("a list")
        return [
            Cursor(node, f"{self.path}[{index}]", self.report)
            for index, node in enumerate(self.node.items)
        ]


Reader = Callable[[Cursor], T]


class Fields:
    """The keys of one map, each checked against the catalogue at once."""

    def __init__(self, cursor: Cursor, section: Section) -> None:
        if not isinstance(cursor.node, Mapping):
            raise cursor.unexpected(
                f"a map of {_listed(section)}" if _is_short(section) else "a map"
            )
        self._cursor = cursor
        self._map = cursor.node
        self._section = section
        for name, node in self._map.entries.items():
            self._check(name, node)

    def __contains__(self, name: str) -> bool:
        """Tell whether a key is there and has a value."""
        node = self._map.entries.get(name)
        return node is not None and not is_null(node)

    def at(self, name: str) -> Cursor:
        """Return the value of a key that is there."""
        node = self._map.entries[name]
        return Cursor(node, self._path(name), self._cursor.report)

    def get(self, name: str, reader: Reader[T], default: D) -> T | D:
        """Return what *reader* makes of a key's value; *default* if there is none of use."""
        assert self._section.keys[name].support is Support.HONOURED, name
        if name not in self:
            return default
        try:
            return reader(self.at(name))
        except Refused:
            return default

    def section(self, name: str, section: Section) -> "Fields":
        """Return the keys of a map in this one; none if it is absent or of no use."""
        empty = Mapping({}, {}, self._cursor.node.at)
        absent = Fields(Cursor(empty, self._path(name), self._cursor.report), section)
        return self.get(name, lambda cursor: Fields(cursor, section), absent)

    def key_position(self, name: str) -> Position:
        return self._map.keys_at[name]

    def _path(self, name: str) -> str:
        return f"{self._cursor.path}.{name}" if self._cursor.path else name

    def _check(self, name: str, node: Node) -> None:
        key = self._section.keys.get(name)
        at = self._map.keys_at[name]
        report = self._cursor.report
        if key is None:
            if not (self._section.takes_extensions and is_of_others(name)):
                report.problem(at, self._path(name), f"unknown key{_hint(name, self._section)}")
            elif difflib.get_close_matches(name, [EXTENSION], cutoff=_EXTENSION_LIKENESS_MIN):
                report.warning(at, self._path(name), f"passed over; did you mean {EXTENSION!r}?")
        elif _asks_for_nothing(node, key):
            pass
        elif key.support is Support.REFUSED:
            report.problem(at, self._path(name), f"not supported: {key.note}")
        elif key.support is Support.IGNORED:
            report.warning(at, self._path(name), f"ignored: {key.note}")


def _asks_for_nothing(node: Node, key: Key) -> bool:
    match node:
        case Scalar():
            return node.kind in (Kind.NULL, Kind.BROKEN) or node.text.lower() in key.harmless
        case Items():
            return not node.items
        case Mapping():
            return not node.entries


def _hint(name: str, section: Section) -> str:
    if near := did_you_mean(name, section.keys):
        return f";{near}"
    elsewhere = [other.title for other in SECTIONS if name in other.keys and other is not section]
    if elsewhere:
        return f" here; it belongs in {elsewhere[0]}"
    return f"; there are {_listed(section)}" if _is_short(section) else " of the Compose format"


def _is_short(section: Section) -> bool:
    return len(section.keys) <= KEYS_LISTED_MAX


def _listed(section: Section) -> str:
    return ", ".join(
        name for name, key in section.keys.items() if key.support is not Support.REFUSED
    )


# --- readers ----------------------------------------------------------------------------------


def text(cursor: Cursor) -> str:
    """A string; a number stands for its digits as written."""
    node = cursor.scalar("text")
    if node.kind is Kind.BOOL:
        raise cursor.unexpected(f"text (write '{node.text}' in quotes)")
    return node.text


def some_text(cursor: Cursor) -> str:
    """A string that is not empty."""
    value = text(cursor)
    if not value:
        raise cursor.unexpected("text")
    return value


def any_text(cursor: Cursor) -> str:
    """A string, number or boolean, as written; nothing is the empty string."""
    return "" if is_null(cursor.node) else cursor.scalar("text").text


def boolean(cursor: Cursor) -> bool:
    word = cursor.scalar("true or false").text.lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise cursor.unexpected("true or false")


def integer(cursor: Cursor) -> int:
    node = cursor.scalar("a whole number")
    if _INTEGER.fullmatch(node.text):
        return int(node.text)
    if node.kind is Kind.INT and _HEX_OR_OCTAL.fullmatch(node.text):
        return int(node.text, base=0)
    raise cursor.unexpected("a whole number")


def ratio(cursor: Cursor) -> float:
    node = cursor.scalar("a number")
    if not _RATIO.fullmatch(node.text):
        raise cursor.unexpected("a number such as 0.1")
    return float(node.text)


def permissions(cursor: Cursor) -> int:
    """Permission bits, which have to look like octal so that nobody means another number."""
    match = _OCTAL.fullmatch(cursor.scalar("permissions in octal").text)
    if match is None:
        raise cursor.unexpected("permissions in octal, such as 01777")
    return int(match[1] or "0", base=8)


def cpus(cursor: Cursor) -> int:
    return _quantity(cursor, quantities.parse_cpus)


def size(cursor: Cursor) -> int:
    return _quantity(cursor, quantities.parse_bytes)


def duration(cursor: Cursor) -> float:
    return _quantity(cursor, quantities.parse_duration)


def _quantity(cursor: Cursor, parse: Callable[[str], T]) -> T:
    node = cursor.scalar("an amount")
    try:
        return parse(node.text)
    except InvalidError as error:
        raise cursor.refused(str(error)) from None


def choice(values: Choices[str, T], refused: Choices[str, str] | None = None) -> Reader[T]:
    """Return the reader of a word that has to be one of *values*.

    Args:
        values: what each word stands for.
        refused: words of the Compose format that are not supported, and why.
    """

    def read(cursor: Cursor) -> T:
        word = text(cursor)
        if word in values:
            return values[word]
        if refused and word in refused:
            raise cursor.refused(f"{word} is not supported: {refused[word]}")
        near = did_you_mean(word, values)
        raise cursor.refused(f"expected {' or '.join(values)}, found {word!r}{near and ';' + near}")

    return read


def list_of(reader: Reader[T]) -> Reader[tuple[T, ...]]:
    """Return the reader of a list; entries of no use are left out."""

    def read(cursor: Cursor) -> tuple[T, ...]:
        values: list[T] = []
        for item in cursor.items():
            try:
                values.append(reader(item))
            except Refused:
                continue
        return tuple(values)

    return read


def map_of(reader: Reader[T]) -> Reader[dict[str, T]]:
    """Return the reader of a map with keys of the user's own; entries of no use are left out."""

    def read(cursor: Cursor) -> dict[str, T]:
        values: dict[str, T] = {}
        for key, child in cursor.children():
            try:
                values[key] = reader(child)
            except Refused:
                continue
        return values

    return read
