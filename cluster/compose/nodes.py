"""The tree that a file becomes: values that know where they were written.

Every step from YAML to ``ServiceSpec`` (interpolation, short forms, merging) makes a new tree
out of old nodes, so a node's position stays that of the text its author has to mend.
"""

import re
from enum import Enum

import msgspec

from cluster.compose.problems import Position


class Kind(Enum):
    """What a scalar is by the YAML 1.2 core schema; only unquoted text is not a string."""

    STRING = "text"
    NULL = "nothing"
    BOOL = "true or false"
    INT = "a whole number"
    FLOAT = "a number"
    BROKEN = "unknown"  # a problem has been reported: whoever reads it keeps silent


class Tag(Enum):
    """What Compose wants done when files are merged."""

    NONE = ""
    RESET = "!reset"  # the value of the files before is removed
    OVERRIDE = "!override"  # the value replaces that of the files before, not merged with it


class Scalar(msgspec.Struct, frozen=True):
    """A single value; *text* is what was written, without quotes."""

    text: str
    kind: Kind
    at: Position
    tag: Tag = Tag.NONE


class Items(msgspec.Struct, frozen=True):
    """A list."""

    items: tuple["Node", ...]
    at: Position
    tag: Tag = Tag.NONE


class Mapping(msgspec.Struct, frozen=True):
    """A map; *keys_at* has the position of each key of *entries*."""

    entries: dict[str, "Node"]
    keys_at: dict[str, Position]
    at: Position
    tag: Tag = Tag.NONE

    def without(self, *keys: str) -> "Mapping":
        entries = {key: node for key, node in self.entries.items() if key not in keys}
        return msgspec.structs.replace(self, entries=entries)

    def replacing(self, entries: dict[str, "Node"]) -> "Mapping":
        """Return the map with some entries replaced or added; those added stand at the map."""
        added = {key: self.at for key in entries if key not in self.keys_at}
        return Mapping(
            entries={**self.entries, **entries},
            keys_at={**self.keys_at, **added},
            at=self.at,
            tag=self.tag,
        )


Node = Scalar | Items | Mapping

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), Kind.NULL),
    **dict.fromkeys(("true", "True", "TRUE", "false", "False", "FALSE"), Kind.BOOL),
}


def kind_of(text: str) -> Kind:
    """Return what unquoted *text* is in YAML 1.2: ``22:22``, ``on`` and dates are strings."""
    word = _WORDS.get(text)
    if word is not None:
        return word
    if text[0] in "+-.0123456789":
        if _INT.fullmatch(text):
            return Kind.INT
        if _FLOAT.fullmatch(text):
            return Kind.FLOAT
    return Kind.STRING


def string(text: str, at: Position) -> Scalar:
    return Scalar(text, Kind.STRING, at)


def mapping(entries: dict[str, Node], at: Position) -> Mapping:
    """Return a map that nobody wrote as one: all of it stands at *at*."""
    return Mapping(entries, dict.fromkeys(entries, at), at)


def is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.kind is Kind.NULL


def described(node: Node) -> str:
    """Return what a message calls the node's value."""
    match node:
        case Mapping():
            return "a map"
        case Items():
            return "a list"
        case Scalar(kind=Kind.NULL):
            return "nothing"
        case Scalar():
            text = node.text if len(node.text) <= _SHOWN_MAX else node.text[:_SHOWN_MAX] + "..."
            return repr(text)


# As much of a value as helps to find it.
_SHOWN_MAX = 80
