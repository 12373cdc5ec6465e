"""Feasibility: which nodes may run a task at all.

A filter returns nothing to accept a node, or every reason why it refuses. To add one, write
the function and list it in ``FILTERS``. Their order decides which reason is counted for a node
that several refuse: what lasts comes first (the node's state, its labels), what passes last
(room), so that "short of memory" is said only of nodes that would do but for the memory.
"""

from collections.abc import Callable, Sequence

from cluster.constraints import NodeFacts, canonical_architecture, matches
from cluster.model import Availability, NodeState, Platform
from scheduler.demand import Demand
from scheduler.dimensions import shortfall
from scheduler.plan import Reason, ReasonKind
from scheduler.room import Room

Filter = Callable[[Demand, Room], Sequence[Reason]]

_NONE: Sequence[Reason] = ()

_STATES = {NodeState.DOWN: "down", NodeState.UNKNOWN: "not heard of yet"}
_AVAILABILITIES = {Availability.PAUSE: "paused", Availability.DRAIN: "draining"}


def takes_tasks(_demand: Demand, room: Room) -> Sequence[Reason]:
    """Take only nodes that live, are open, and whose room is known."""
    node = room.node
    if node.state is NodeState.READY and node.availability is Availability.ACTIVE:
        if not node.unsized:
            return _NONE
        subject = f"holds {node.unsized[0]}, of whose needs nothing is known"
        return [Reason(ReasonKind.NODE, subject)]
    said = (_STATES.get(node.state), _AVAILABILITIES.get(node.availability))
    return [Reason(ReasonKind.NODE, subject) for subject in said if subject]


def has_platform(demand: Demand, room: Room) -> Sequence[Reason]:
    """Compare operating system and architecture with what the image was built for."""
    wanted = demand.platforms
    if not wanted or any(_runs(platform, room.node.facts) for platform in wanted):
        return _NONE
    names = " or ".join(f"{p.os or 'any'}/{p.architecture or 'any'}" for p in wanted)
    return [Reason(ReasonKind.PLATFORM, names)]


def meets_constraints(demand: Demand, room: Room) -> Sequence[Reason]:
    """Require every constraint (I6)."""
    if not demand.constraints:
        return _NONE
    facts = room.node.facts
    return [
        Reason(ReasonKind.CONSTRAINT, str(constraint))
        for constraint in demand.constraints
        if not matches(constraint, facts)
    ]


def may_have_another(demand: Demand, room: Room) -> Sequence[Reason]:
    """Hold the limit of replicas per node; tasks that still stop count too."""
    limit = demand.max_replicas_per_node
    if not limit or room.replicas(demand.service_id) < limit:
        return _NONE
    return [Reason(ReasonKind.REPLICAS, str(limit))]


def has_ports_free(demand: Demand, room: Room) -> Sequence[Reason]:
    """Give each port of a host one holder (I1)."""
    if not demand.ports:
        return _NONE
    return [Reason(ReasonKind.PORT, str(port)) for port in demand.ports if room.is_taken(port)]


def has_room(demand: Demand, room: Room) -> Sequence[Reason]:
    """Compare reservations, not use: what is promised must be deliverable (I1)."""
    for needed, free in zip(demand.need, room.free, strict=True):
        if needed > free and needed > 0:
            return [Reason(ReasonKind.ROOM, missing=shortfall(demand.need, room.free))]
    return _NONE


FILTERS: tuple[Filter, ...] = (
    takes_tasks,
    has_platform,
    meets_constraints,
    may_have_another,
    has_ports_free,
    has_room,
)


def first_reason(demand: Demand, room: Room) -> Reason | None:
    """Return the reason that counts for a node, or None if it takes the task."""
    for refuses in FILTERS:
        reasons = refuses(demand, room)
        if reasons:
            return reasons[0]
    return None


def all_reasons(demand: Demand, room: Room) -> tuple[Reason, ...]:
    """Return everything that keeps the task off the node; nothing if it takes it."""
    return tuple(reason for refuses in FILTERS for reason in refuses(demand, room))


def _runs(wanted: Platform, facts: NodeFacts) -> bool:
    here = facts.platform
    return (not wanted.os or wanted.os.lower() == here.os.lower()) and (
        not wanted.architecture
        or canonical_architecture(wanted.architecture) == canonical_architecture(here.architecture)
    )
