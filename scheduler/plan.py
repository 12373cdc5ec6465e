"""What the scheduler answers: where tasks go, and why others go nowhere.

"Cannot place" is a value. Its reasons are counted over the nodes and read as a sentence that
is written into the waiting task's status:

    no node fits; 3 nodes: short of 180 MiB memory; 2 nodes: constraint node.labels.disk == ssd
    not met
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from cluster.model import NodeId, TaskId
from scheduler.dimensions import Amounts, written


class ReasonKind(Enum):
    """What can keep a task off a node; ``{}`` stands for the reason's subject."""

    GONE = "no such node"
    NODE = "{}"  # down, paused, ...
    PLATFORM = "platform is not {}"
    CONSTRAINT = "constraint {} not met"
    REPLICAS = "at the limit of {} per node of this service"
    PORT = "host port {} in use"
    ROOM = "short of {}"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one node does not take a task.

    Attributes:
        subject: what it is about: the constraint, the port, the node's state, ...
        missing: of kind ROOM: how much would have to be freed, in the order of ``DIMENSIONS``.
    """

    kind: ReasonKind
    subject: str = ""
    missing: Amounts = ()

    def __str__(self) -> str:
        return self.kind.value.format(written(self.missing) if self.missing else self.subject)


@dataclass(frozen=True, slots=True)
class Counted:
    """A reason that holds for several nodes.

    Attributes:
        reason: of lack of room: the least that is missing in each dimension.
        node_count: how many nodes it is counted for.
        is_least: others are short of more than ``reason`` says.
    """

    reason: Reason
    node_count: int
    is_least: bool = False

    def __str__(self) -> str:
        nodes = "1 node" if self.node_count == 1 else f"{self.node_count} nodes"
        if self.is_least:
            return f"{nodes}: short of at least {written(self.reason.missing)}"
        return f"{nodes}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Unplaced:
    """Tasks of one class for which there is no place now; ``str()`` says why.

    Attributes:
        task_ids: oldest first.
        counted: by the first reason of each node, the most frequent first.
        defects: why no node could ever take them; then nothing was counted.
        node_name: the only node that they may run on; empty if any would do.
    """

    task_ids: tuple[TaskId, ...]
    counted: tuple[Counted, ...] = ()
    defects: tuple[str, ...] = ()
    node_name: str = ""

    def __str__(self) -> str:
        if self.defects:
            return f"cannot be placed anywhere: {'; '.join(self.defects)}"
        if self.node_name:
            reasons = "; ".join(str(counted.reason) for counted in self.counted)
            return f"its node {self.node_name} does not take it: {reasons}"
        if not self.counted:
            return "no node fits: the cluster has no nodes"
        return f"no node fits; {'; '.join(map(str, self.counted))}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do with the waiting tasks: each is in one of the two.

    Attributes:
        snapshot_version: of the snapshot that it was made on.
        placements: the node of each task that has a place.
        unplaced: the others, with why.
    """

    snapshot_version: int = 0
    placements: Mapping[TaskId, NodeId] = field(default_factory=dict)
    unplaced: tuple[Unplaced, ...] = ()


def count(reasons: Iterable[Reason]) -> tuple[Counted, ...]:
    """Count equal reasons, the most frequent first.

    Lack of room counts together for the same dimensions, whatever the amounts.
    """
    kinds: dict[tuple[ReasonKind, str, tuple[bool, ...]], list[Reason]] = {}
    for reason in reasons:
        dimensions = tuple(amount > 0 for amount in reason.missing)
        kinds.setdefault((reason.kind, reason.subject, dimensions), []).append(reason)
    counted = [_counted(alike) for alike in kinds.values()]
    return tuple(sorted(counted, key=lambda c: (-c.node_count, _RANKS[c.reason.kind], str(c))))


def _counted(alike: list[Reason]) -> Counted:
    amounts = {reason.missing for reason in alike}
    least = tuple(map(min, zip(*amounts, strict=True)))
    return Counted(replace(alike[0], missing=least), len(alike), len(amounts) > 1)


_RANKS = {kind: rank for rank, kind in enumerate(ReasonKind)}
