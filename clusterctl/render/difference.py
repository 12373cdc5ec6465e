"""What differs between two specs, field by field. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from clusterctl.render.plain import plain

# A longer value is cut for people; JSON has it whole.
VALUE_CHARACTERS_MAX = 60

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Difference:
    """A field that was set, changed or taken away.

    Attributes:
        field: its path into the spec, such as ``task.container.image``.
        old, new: the values; None if it was, or is, not there.
    """

    field: str
    old: Any
    new: Any

    @property
    def sign(self) -> str:
        if self.old is None:
            return "+"
        return "-" if self.new is None else "~"


def differences(old: object, new: object) -> list[Difference]:
    """Return the fields in which two values of the model differ, in the order of the model.

    Unset, empty and absent are the same: such a field was added, or taken away.
    """
    return list(_walk(plain(old), plain(new), ""))


def _walk(old: Any, new: Any, path: str) -> Iterator[Difference]:
    if old == new:
        return
    if _is_map(old) or _is_map(new):
        before: Mapping[str, Any] = old if _is_map(old) else {}
        after: Mapping[str, Any] = new if _is_map(new) else {}
        for key in dict.fromkeys([*before, *after]):
            part = f"{path}.{key}" if path else str(key)
            yield from _walk(before.get(key), after.get(key), part)
        return
    old, new = _given(old), _given(new)
    if old is not new:
        yield Difference(path, old, new)


def _is_map(value: object) -> bool:
    return isinstance(value, dict)


def _given(value: Any) -> Any:
    """Return None for what says nothing."""
    return None if value is None or value in ("", [], {}) else value


def told(found: Sequence[Difference]) -> str:
    """Return the differences for people: a line each, coloured where the terminal can."""
    width = max((len(each.field) for each in found), default=0)
    return "".join(f"{_line(each, width)}\n" for each in found)


def _line(each: Difference, width: int) -> str:
    color = {"+": "green", "-": "red", "~": "yellow"}[each.sign]
    match each.sign:
        case "+":
            what = _shown(each.new)
        case "-":
            what = _shown(each.old)
        case _:
            what = f"{_shown(each.old)} -> {_shown(each.new)}"
    return click.style(f"{each.sign} {each.field:<{width}}  {what}", fg=color)


def _shown(value: Any) -> str:
    text = " ".join(map(str, value)) if _is_list_of_words(value) else str(value)
    if isinstance(value, bool):
        text = "yes" if value else "no"
    if len(text) > VALUE_CHARACTERS_MAX:
        return f"{text[: VALUE_CHARACTERS_MAX - 3]}..."
    return text


def _is_list_of_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, str) for part in value)


def brief(found: Sequence[Difference]) -> str:
    """Return in a few words what differs: the last parts of the fields' names."""
    names = dict.fromkeys(each.field.rpartition(".")[2] for each in found)
    return ", ".join(names)
