"""The differences of two specs for people: what differs is ``cluster.differences``' to say."""

from collections.abc import Sequence

import click

from cluster.differences import Difference

# A longer value is cut for people; JSON has it whole.
VALUE_CHARACTERS_MAX = 60

_SIGNS = {"added": "+", "removed": "-", "changed": "~"}
_COLORS = {"added": "green", "removed": "red", "changed": "yellow"}


def told(found: Sequence[Difference]) -> str:
    """Return the differences for people: a line each, coloured where the terminal can."""
    width = max((len(each.path) for each in found), default=0)
    return "".join(f"{_line(each, width)}\n" for each in found)


def _line(each: Difference, width: int) -> str:
    before, after = _cut(each.before), _cut(each.after)
    if each.hidden:
        what = f"{each.what} (values are not shown)"
    else:
        what = f"{before} -> {after}" if before and after else before or after
    text = f"{_SIGNS[each.what]} {each.path:<{width}}  {what}"
    return click.style(text, fg=_COLORS[each.what])


def _cut(text: str) -> str:
    return text if len(text) <= VALUE_CHARACTERS_MAX else f"{text[: VALUE_CHARACTERS_MAX - 3]}..."


def brief(found: Sequence[Difference]) -> str:
    """Return in a few words what differs: the last parts of the fields' names."""
    names = dict.fromkeys(each.path.rpartition(".")[2] for each in found)
    return ", ".join(names)


def row(each: Difference) -> dict[str, object]:
    """Return one difference for programs; what is hidden has no values."""
    return {
        "field": each.path,
        "old": None if each.hidden else each.before or None,
        "new": None if each.hidden else each.after or None,
        "sign": _SIGNS[each.what],
        "hidden": each.hidden,
    }
