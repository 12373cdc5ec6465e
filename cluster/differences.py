"""What differs between two specs: field by field, and without what may be secret. Pure.

Every place that shows a change of a spec takes it from here: refusals, events, plans and the
comparison of two versions. One rule: a value that stands under one of ``HIDDEN`` may be secret
(I16). Only that it differs is told; its value leaves this module solely if the caller asks for
values by name, which is for a terminal of somebody who may read the spec anyway.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import msgspec

from cluster import quantities

# Fields whose values may be secret, wherever they stand in a spec: what a process is told, and
# what drivers and probes are given.
HIDDEN = frozenset(
    ("environment", "command", "entrypoint", "options", "driver_options", "test", "sysctls")
)

_Parts = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that differs.

    Attributes:
        path: of the field, with dots: ``task.container.image``.
        before, after: as people read them; empty where there is no value.
        hidden: the values may be secret and are left out.
    """

    path: str
    before: str = ""
    after: str = ""
    hidden: bool = False

    @property
    def what(self) -> str:
        """Return "added", "removed" or "changed"; of what is hidden, too."""
        if not self.before:
            return "added" if self.after else "changed"
        return "changed" if self.after else "removed"


def differences(
    old: object, new: object, *, values: bool = False, path: str = ""
) -> Iterator[Difference]:
    """Yield what differs, in the order of the fields.

    Args:
        old: a spec or a part of one.
        new: of the same type; of lists the members that came and went are told.
        values: show also what may be secret.
        path: of the two in what holds them.
    """
    yield from _walk(old, new, path, hidden=False, values=values)


def _walk(
    old: object, new: object, path: str, *, hidden: bool, values: bool
) -> Iterator[Difference]:
    if old == new or (_nothing(old) and _nothing(new)):
        return
    hidden = hidden or path.rpartition(".")[2] in HIDDEN
    before, after = _parts(old), _parts(new)
    if before is not None and after is not None:
        for name in dict.fromkeys([*before, *after]):
            if name.endswith("_at"):
                continue  # when it was asked for is no part of what is
            part = f"{path}.{name}" if path else name
            yield from _walk(before.get(name), after.get(name), part, hidden=hidden, values=values)
    elif _is_list(old) and _is_list(new) and not hidden:
        yield from _members(_list(old), _list(new), path)
    else:
        yield _difference(path, old, new, hidden=hidden and not values)


def _difference(path: str, old: object, new: object, *, hidden: bool) -> Difference:
    name = path.rpartition(".")[2]
    if not hidden:
        return Difference(path, shown(old, name), shown(new, name))
    sign = "***"
    return Difference(path, sign * (not _nothing(old)), sign * (not _nothing(new)), hidden=True)


def _members(old: Sequence[object], new: Sequence[object], path: str) -> Iterator[Difference]:
    """Tell what came into a list and what went; the whole list if only the order differs."""
    gone = [each for each in old if each not in new]
    come = [each for each in new if each not in old]
    if not gone and not come:
        yield Difference(path, shown(old), shown(new))
    for each in gone:
        yield Difference(path, before=shown(each))
    for each in come:
        yield Difference(path, after=shown(each))


def _parts(value: object) -> _Parts | None:
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.asdict(value)
    return value if isinstance(value, dict) else None


def _is_list(value: object) -> bool:
    return isinstance(value, tuple) or value is None


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, tuple) else ()


def _nothing(value: object) -> bool:
    return value is None or value in ("", (), {})


def shown(value: object, name: str = "") -> str:
    """Return a value as people read it, by the unit that stands last in its field's *name*."""
    if _nothing(value):
        return ""
    match value:
        case Enum():
            return str(value.value)
        case bool():
            return "yes" if value else "no"
        case int() if name == "cpu_nanos":
            return quantities.format_cpus(value)
        case int() if name.endswith("_bytes") and value:
            return quantities.format_bytes(value)
        case int() | float() if name.endswith(("_seconds", "_seconds_max")):
            return quantities.format_duration(value)
        case msgspec.Struct():
            return _on_one_line(msgspec.structs.asdict(value), type(value))
        case dict():
            return _on_one_line(value, None)
        case tuple():
            return ", ".join(shown(each) for each in value)
        case _:
            return str(value)


def _on_one_line(parts: _Parts, kind: type[msgspec.Struct] | None) -> str:
    """Return what is not as usual: ``target=80 published=8080``; hidden values left out."""
    usual = {} if kind is None else _defaults(kind)
    told = []
    for name, value in parts.items():
        if (name in usual and usual[name] == value) or _nothing(value):
            continue
        told.append(f"{name}=***" if name in HIDDEN else f"{name}={shown(value, name)}")
    return " ".join(told) or "default"


def _defaults(kind: type[msgspec.Struct]) -> dict[str, object]:
    return {
        field.name: field.default_factory()
        if field.default_factory is not msgspec.NODEFAULT
        else field.default
        for field in msgspec.structs.fields(kind)
        if not field.required
    }
