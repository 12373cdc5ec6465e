"""Rules for what an operator may ask of a node, its labels aside."""

from collections.abc import Iterator, Sequence

from cluster.errors import InvalidError
from cluster.model import NodeSpec
from cluster.quantities import DURATION_SECONDS_MAX, format_duration
from cluster.validation.flaws import Flaw, name_flaw, not_negative
from cluster.validation.services import volume_flaw

# A node's record is read with every other, so it names few things; no host holds more.
RESERVED_FOR_MAX = 16
VOLUMES_MAX = 256


def check_node(spec: NodeSpec) -> None:
    """Refuse what no node can be asked.

    Raises:
        InvalidError: what is wrong, one thing a line.
    """
    flaws = [
        *not_negative("task_slots", spec.task_slots),
        *_deadline(spec.drain_deadline_seconds),
        *_few("reserved_for", spec.reserved_for, RESERVED_FOR_MAX),
        *(Flaw("reserved_for", flaw) for name in spec.reserved_for if (flaw := name_flaw(name))),
        *_few("volumes", spec.volumes, VOLUMES_MAX),
        *(Flaw("volumes", flaw) for name in spec.volumes if (flaw := volume_flaw(name))),
    ]
    if flaws:
        raise InvalidError("\n".join(map(str, flaws)))


def _deadline(seconds: float) -> Iterator[Flaw]:
    if not 0 <= seconds <= DURATION_SECONDS_MAX:
        longest = format_duration(DURATION_SECONDS_MAX)
        yield Flaw("drain_deadline_seconds", f"must be 0 to {longest}, is {seconds:g}")


def _few(field: str, names: Sequence[str], most: int) -> Iterator[Flaw]:
    if len(names) > most:
        yield Flaw(field, f"must be at most {most}, are {len(names)}")
