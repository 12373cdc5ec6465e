"""The one place where our values become protobuf messages, and messages our values.

A model type and its message have the same name and the same fields by the same names, so one
walk over the type annotations serves all of them; the plan of that walk is made once per
type. ``converter`` fails for a type that differs from its message, and a unit test walks all.

| model                     | message                                            |
| ------------------------- | -------------------------------------------------- |
| ``str, int, float, bytes``| the scalar                                         |
| ``T | None``              | field presence; ``StringList`` for a tuple of text |
| ``Enum``                  | enum, ``TaskState.NEW`` is ``TASK_STATE_NEW``      |
| struct                    | message                                            |
| ``tuple[T, ...]``         | repeated                                           |
| ``dict[str, V]``          | map; to ``StringList`` for tuples of text          |
"""

import re
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar

import msgspec
from google.protobuf.message import Message

from cluster.api.v1 import types_pb2
from cluster.errors import InternalError, InvalidError

S = TypeVar("S", bound=msgspec.Struct)
M = TypeVar("M", bound=Message)

# How a part of a value is put into, and taken out of, a message's field.
_Encode = Callable[[Any], Any]
_Decode = Callable[[Any], Any]
_NAMESPACE = types_pb2

# Stands for an enum or a part that the sender left out: the field's own default takes its place.
_LEFT_OUT = msgspec.UNSET


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    put: Callable[[Message, Any], None]
    take: Callable[[Message], Any]


@dataclass(frozen=True, slots=True)
class Converter:
    """Both directions for one model type."""

    struct: type[msgspec.Struct]
    message: type[Message]
    fields: tuple[_Field, ...]

    def encode(self, value: msgspec.Struct) -> Message:
        message = self.message()
        for field in self.fields:
            part = getattr(value, field.name)
            if part is not None:
                field.put(message, part)
        return message

    def decode(self, message: Message) -> msgspec.Struct:
        taken = ((field.name, field.take(message)) for field in self.fields)
        return self.struct(**{name: part for name, part in taken if part is not _LEFT_OUT})


def to_wire(value: msgspec.Struct, kind: type[M]) -> M:
    """Return *value* as the message of its name; *kind* says which that is, for the reader.

    Raises:
        InvalidError: a number is beyond the field's range.
    """
    try:
        message = converter(type(value)).encode(value)
    except (ValueError, TypeError) as error:
        raise InvalidError(f"{type(value).__name__} does not fit its message: {error}") from error
    assert isinstance(message, kind)
    return message


def from_wire(message: Message, kind: type[S]) -> S:
    """Return the value of type *kind* that *message* holds.

    Raises:
        InvalidError: an enum has a value that this version does not know, or it or a part is
            left out where there is no default.
    """
    try:
        value = converter(kind).decode(message)
    except TypeError as error:
        raise InvalidError(f"{kind.__name__} is incomplete: {error}") from error
    assert isinstance(value, kind)
    return value


@cache
def converter(struct: type[msgspec.Struct]) -> Converter:
    """Return the converter of *struct* and the message of the same name.

    Raises:
        InternalError: the message does not exist or has other fields.
    """
    message: type[Message] | None = getattr(_NAMESPACE, struct.__name__, None)
    if message is None:
        raise InternalError(f"proto/ has no message {struct.__name__}")
    hints = typing.get_type_hints(struct)
    ours, theirs = set(hints), set(message.DESCRIPTOR.fields_by_name)
    if ours != theirs:
        raise InternalError(
            f"{struct.__name__} and its message differ in {', '.join(sorted(ours ^ theirs))}"
        )
    return Converter(struct, message, tuple(_field(name, hint) for name, hint in hints.items()))


def _field(name: str, hint: Any) -> _Field:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        (inner,) = (part for part in arguments if part is not type(None))
        return _optional(name, inner)
    if origin is tuple:
        encode, decode = _part(arguments[0])
        return _Field(
            name,
            lambda message, value: getattr(message, name).extend(map(encode, value)),
            lambda message: tuple(map(decode, getattr(message, name))),
        )
    if origin is dict:
        if typing.get_origin(arguments[1]) is tuple:
            return _Field(name, _put_lists(name), _take_lists(name))
        return _Field(
            name,
            lambda message, value: getattr(message, name).update(value),
            lambda message: dict(getattr(message, name)),
        )
    encode, decode = _part(hint)
    if _is_struct(hint):
        return _Field(
            name,
            lambda message, value: getattr(message, name).CopyFrom(encode(value)),
            lambda message: decode(getattr(message, name)) if message.HasField(name) else _LEFT_OUT,
        )
    return _Field(
        name,
        lambda message, value: setattr(message, name, encode(value)),
        lambda message: decode(getattr(message, name)),
    )


def _put_lists(name: str) -> Callable[[Message, Any], None]:
    def put(message: Message, value: dict[str, tuple[str, ...]]) -> None:
        lists = getattr(message, name)
        for key, texts in value.items():
            lists[key].CopyFrom(types_pb2.StringList(values=texts))

    return put


def _take_lists(name: str) -> Callable[[Message], Any]:
    return lambda message: {
        key: tuple(texts.values) for key, texts in getattr(message, name).items()
    }


def _optional(name: str, inner: Any) -> _Field:
    if typing.get_origin(inner) is tuple:
        return _Field(
            name,
            lambda message, value: getattr(message, name).CopyFrom(
                types_pb2.StringList(values=value)
            ),
            lambda message: (
                tuple(getattr(message, name).values) if message.HasField(name) else None
            ),
        )
    plain = _field(name, inner)
    return _Field(
        name,
        plain.put,
        lambda message: plain.take(message) if message.HasField(name) else None,
    )


def _part(hint: Any) -> tuple[_Encode, _Decode]:
    if _is_struct(hint):
        return (
            lambda value: converter(hint).encode(value),
            lambda message: converter(hint).decode(message),
        )
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _enum(hint)
    return (lambda value: value), (lambda value: value)


def _is_struct(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


def _enum(kind: type[Enum]) -> tuple[_Encode, _Decode]:
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).upper()
    wire = getattr(_NAMESPACE, kind.__name__)
    number = {member: wire.Value(f"{prefix}_{member.name}") for member in kind}
    member = {value: key for key, value in number.items()}

    def decode(value: int) -> Enum | msgspec.UnsetType:
        if value == 0:
            return _LEFT_OUT
        if value not in member:
            raise InvalidError(f"{kind.__name__} {value} is not known to this version")
        return member[value]

    return number.__getitem__, decode
