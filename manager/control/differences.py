"""What differs between two specs, in words short enough for an error's sentence."""

from collections.abc import Iterator, Mapping
from enum import Enum

import msgspec

# More would not be read; the user looks at the object anyway.
SHOWN_MAX = 5
VALUE_CHARACTERS_MAX = 40

# Values under these may be secret: only that they differ is told.
_UNSHOWN = ("environment", "command", "entrypoint", "options", "test")


def differences(old: msgspec.Struct, new: msgspec.Struct) -> str:
    """Return the fields that differ, such as ``replicas (3, now 5)``; empty if none does."""
    found = list(_walk(old, new, ""))
    more = len(found) - SHOWN_MAX
    return ", ".join(found[:SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")


def _walk(old: object, new: object, path: str) -> Iterator[str]:
    if old == new:
        return
    before, after = _parts(old), _parts(new)
    if path.rpartition(".")[2] in _UNSHOWN:
        yield path
    elif before is not None and after is not None:
        for name in dict.fromkeys([*before, *after]):
            part = f"{path}.{name}" if path else name
            yield from _walk(before.get(name), after.get(name), part)
    elif _short(old) and _short(new):
        yield f"{path} ({_shown(old)}, now {_shown(new)})"
    else:
        yield path


def _parts(value: object) -> Mapping[str, object] | None:
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.asdict(value)
    return value if isinstance(value, dict) else None


def _short(value: object) -> bool:
    return isinstance(value, str | int | float | Enum | None) and (
        len(_shown(value)) <= VALUE_CHARACTERS_MAX
    )


def _shown(value: object) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    return "unset" if value in (None, "") else str(value)
