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
    RESERVED = "reserved for {}"
    PLATFORM = "platform is not {}"
    CONSTRAINT = "constraint {} not met"
    VOLUME = "volume {} is elsewhere"
    AFFINITY = "is {}"  # not near what it must be near, or near what it must be apart from
    REPLICAS = "at the limit of {} per node of this service"
    PORT = "host port {} in use"
    ROOM = "short of {}"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one node does not take a task.

    Attributes:
        subject: what it is about: the constraint, the port, the node's state, ...
        missing: of kind ROOM: how much would have to be freed.
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
        gang: it is this that could not be placed as a whole; the reasons are those of its
            class that lacks a place.
        making_room: nodes on which room is being made for them.
    """

    task_ids: tuple[TaskId, ...]
    counted: tuple[Counted, ...] = ()
    defects: tuple[str, ...] = ()
    node_name: str = ""
    gang: str = ""
    making_room: tuple[str, ...] = ()

    def __str__(self) -> str:
        lead = f"gang {self.gang} cannot be placed as a whole: " if self.gang else ""
        if self.defects:
            return f"{lead}cannot be placed anywhere: {'; '.join(self.defects)}"
        if self.making_room:
            return f"room is being made for it on {', '.join(self.making_room)}"
        if self.node_name:
            reasons = "; ".join(str(counted.reason) for counted in self.counted)
            return f"{lead}its node {self.node_name} does not take it: {reasons}"
        if not self.counted:
            return f"{lead}no node fits: the cluster has no nodes"
        return f"{lead}no node fits; {'; '.join(map(str, self.counted))}"


@dataclass(frozen=True, slots=True)
class Hold:
    """Room that is set aside for a task that could not be placed: see ``scheduler.holds``.

    Attributes:
        room: set aside of what is free.
        seen: what was free when the plan was made, in the dimensions that the task needs.
        victims: tasks that are being stopped for it.
    """

    task_id: TaskId
    node_id: NodeId
    room: Amounts = ()
    seen: Amounts = ()
    victims: tuple[TaskId, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do with the waiting tasks: each is in one of the first two.

    Attributes:
        snapshot_version: of the snapshot that it was made on.
        placements: the node of each task that has a place.
        unplaced: the others, with why.
        items: names of generic resources that placed tasks are given, by kind.
        volumes: where bound volumes come to live that lived nowhere yet.
        evictions: tasks to stop, for the sake of one of a higher priority: who for.
        holds: to be given to the next pass.
    """

    snapshot_version: int = 0
    placements: Mapping[TaskId, NodeId] = field(default_factory=dict)
    unplaced: tuple[Unplaced, ...] = ()
    items: Mapping[TaskId, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    volumes: Mapping[str, NodeId] = field(default_factory=dict)
    evictions: Mapping[TaskId, TaskId] = field(default_factory=dict)
    holds: tuple[Hold, ...] = ()


def count(reasons: Iterable[Reason]) -> tuple[Counted, ...]:
    """Count equal reasons, the most frequent first.

    Lack of room counts together for the same dimensions, whatever the amounts.
    """
    kinds: dict[tuple[ReasonKind, str, tuple[str, ...]], list[Reason]] = {}
    for reason in reasons:
        dimensions = tuple(name for name, _ in reason.missing)
        kinds.setdefault((reason.kind, reason.subject, dimensions), []).append(reason)
    return in_order(_counted(alike) for alike in kinds.values())


def in_order(counted: Iterable[Counted]) -> tuple[Counted, ...]:
    """Return the most frequent first, then what lasts longest."""
    return tuple(sorted(counted, key=lambda c: (-c.node_count, _RANKS[c.reason.kind], str(c))))


def _counted(alike: list[Reason]) -> Counted:
    amounts = {reason.missing for reason in alike}
    least = tuple(
        (dimension[0][0], min(amount for _, amount in dimension))
        for dimension in zip(*amounts, strict=True)
    )
    return Counted(replace(alike[0], missing=least), len(alike), len(amounts) > 1)


_RANKS = {kind: rank for rank, kind in enumerate(ReasonKind)}
