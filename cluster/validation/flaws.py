"""What is wrong with something, and the rules for names that all objects share."""

import re
from collections.abc import Iterator

import msgspec

from cluster.errors import InvalidError

# One label of a DNS name, so that a service can be found by it.
NAME_CHARACTERS_MAX = 63

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?")


class Flaw(msgspec.Struct, frozen=True):
    """Something in a spec that can never work.

    Attributes:
        field: path into the spec, such as ``task.ports[1].published``.
        message: what is expected there and what was found.
    """

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


def name_flaw(name: str) -> str:
    """Return what is wrong with the name of a service, stack or node label; empty if nothing."""
    if not name:
        return "must not be empty"
    if len(name) > NAME_CHARACTERS_MAX:
        return f"must have at most {NAME_CHARACTERS_MAX} characters, has {len(name)}"
    if not _NAME.fullmatch(name):
        return (
            "must consist of letters, digits, '-' and '_' and begin and end with a letter or "
            f"digit, is {name!r}"
        )
    return ""


def check_name(kind: str, name: str) -> None:
    """Refuse a bad name of a *kind* ("stack").

    Raises:
        InvalidError: what is wrong with it.
    """
    if flaw := name_flaw(name):
        raise InvalidError(f"{kind} name {flaw}")


def not_negative(path: str, amount: int) -> Iterator[Flaw]:
    if amount < 0:
        yield Flaw(path, f"must be 0 or more, is {amount}")
