"""Generic resources: what else than CPU and memory hosts have and tasks reserve.

A kind ("gpu") is counted, or its items have names ("GPU-1", "GPU-2") and it matters which of
them a task gets. A container learns what is its own from its environment: the count, or the
names with commas between them, under a name of ours and under the one that Swarm uses.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from cluster.errors import InvalidError

# The scheduler has a dimension for each kind of the cluster; no host has more to offer.
KINDS_MAX = 16
KIND_CHARACTERS_MAX = 63

# Far above what any host has of anything that is worth reserving one by one.
COUNT_MAX = 1_000_000

# Names are stored with the node and, of those given away, with each task.
ITEMS_MAX = 256
ITEM_CHARACTERS_MAX = 128

_VARIABLE = "SHOAL_RESOURCE_"
_SWARM_VARIABLE = "DOCKER_RESOURCE_"

_COUNT = re.compile(r"[0-9]{1,9}", re.ASCII)
_KIND = re.compile(r"[A-Za-z](?:[A-Za-z0-9_-]*[A-Za-z0-9])?")
_ITEM = re.compile(r"[A-Za-z0-9/](?:[A-Za-z0-9_.:/-]*[A-Za-z0-9])?")


def offered(entries: Iterable[str]) -> tuple[dict[str, int], dict[str, tuple[str, ...]]]:
    """Return how many of each kind a host offers, and the names of those that have some.

    An entry is ``KIND=COUNT``, or ``KIND=NAME,NAME,...``; each name may also be an entry of its
    own, with the kind before it or not: so a list reads the same after it was split at commas.

    Raises:
        InvalidError: an entry says neither, or a name comes twice.
    """
    values: dict[str, list[str]] = {}
    kind = ""
    for part in (part.strip() for entry in entries for part in entry.split(",")):
        before, equals, value = part.partition("=")
        kind = before.strip() if equals else kind
        if not kind or not (value if equals else part):
            raise InvalidError(f"{part!r} is neither KIND=COUNT nor KIND=NAME,NAME")
        values.setdefault(kind, []).append(value.strip() if equals else part)
    counts: dict[str, int] = {}
    items: dict[str, tuple[str, ...]] = {}
    for kind, found in values.items():
        if len(found) == 1 and _COUNT.fullmatch(found[0]):
            counts[kind] = int(found[0])
        else:
            items[kind] = tuple(found)
            counts[kind] = len(found)
    for kind, flaw in (*counts_flaws(counts), *items_flaws(items)):
        raise InvalidError(f"{kind}: {flaw}" if kind else flaw)
    return counts, items


def items_flaws(items: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with names of items: their kind, and a sentence on it."""
    for kind, names in items.items():
        if len(names) > ITEMS_MAX:
            yield kind, f"must have at most {ITEMS_MAX} names, has {len(names)}"
        for name in names:
            if flaw := item_flaw(name):
                yield kind, flaw
        if len(set(names)) < len(names):
            yield kind, "must have names that differ, has one twice"


def counts_flaws(counts: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with counts of generic resources: the kind, and a sentence on it."""
    if len(counts) > KINDS_MAX:
        yield "", f"must be at most {KINDS_MAX} kinds, are {len(counts)}"
    known: dict[str, str] = {}
    for kind, count in counts.items():
        if flaw := kind_flaw(kind):
            yield kind, flaw
        elif not 1 <= count <= COUNT_MAX:
            yield kind, f"must be 1 to {COUNT_MAX}, is {count}"
        elif (other := known.setdefault(_shouted(kind), kind)) != kind:
            yield kind, f"cannot be told from {other!r} in a container's environment"


def kind_flaw(kind: str) -> str:
    """Return what is wrong with the name of a kind; empty if nothing."""
    if _KIND.fullmatch(kind) and len(kind) <= KIND_CHARACTERS_MAX:
        return ""
    return (
        f"must be a kind of at most {KIND_CHARACTERS_MAX} letters, digits, '-' and '_', "
        f"beginning with a letter, is {kind[:KIND_CHARACTERS_MAX]!r}"
    )


def item_flaw(item: str) -> str:
    """Return what is wrong with the name of an item; empty if nothing."""
    if _ITEM.fullmatch(item) and len(item) <= ITEM_CHARACTERS_MAX:
        return ""
    return (
        f"must be a name of at most {ITEM_CHARACTERS_MAX} letters, digits and '_.:/-', "
        f"is {item[:ITEM_CHARACTERS_MAX]!r}"
    )


def environment(counts: Mapping[str, int], items: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Return the variables that tell a container what is its own.

    Args:
        counts: what its task reserves.
        items: names of what it was given, of the kinds whose items have names.
    """
    told: dict[str, str] = {}
    for kind, count in counts.items():
        value = ",".join(items[kind]) if kind in items else str(count)
        told[_VARIABLE + _shouted(kind)] = value
        told[_SWARM_VARIABLE + kind.upper()] = value
    return told


def _shouted(kind: str) -> str:
    return kind.upper().replace("-", "_")
