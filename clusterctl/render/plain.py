"""Our values as plain dictionaries: what ``--format json`` and ``yaml`` write in full."""

from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import msgspec


def plain(value: Any) -> Any:
    """Return *value* with every field by name, defaults included; enums by their values."""
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [plain(part) for part in value]
    return value
