"""What waiting tasks ask for.

Tasks that ask for the same are one class: nodes are judged once per class, however many tasks
it has. So a ``Demand`` is compared by content, holds nothing of a single task, and carries
along what every pass would else derive anew.
"""

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

from cluster.constraints import Constraint, parse
from cluster.errors import InvalidError
from cluster.images import canonical
from cluster.model import (
    NO_NODE,
    Affinity,
    MountKind,
    NodeId,
    Platform,
    Preferred,
    PublishedPort,
    ServiceId,
    ServiceSpec,
    Strategy,
    TaskId,
    TaskSpec,
)
from cluster.resources import Resources
from scheduler.dimensions import SIZES, Amounts, amounts_of, is_amount

NO_SERVICE = ServiceId("")
EVERY_ADDRESS = ""
PORT_MAX = 65_535
_NOTHING = Resources()


@dataclass(frozen=True, slots=True)
class HostPort:
    """A port of the host that one task holds.

    Attributes:
        address: of the host; empty is every address.
    """

    port: int
    protocol: str = "tcp"
    address: str = EVERY_ADDRESS

    @classmethod
    def of(cls, published: PublishedPort) -> "HostPort":
        """Return the port with its address in the usual form (0.0.0.0 and :: are every one)."""
        return cls(published.published, published.protocol.lower(), _address(published.host_ip))

    def conflicts(self, other: "HostPort") -> bool:
        """Tell whether the two cannot be held at once on a host."""
        if (self.port, self.protocol) != (other.port, other.protocol):
            return False
        return EVERY_ADDRESS in (self.address, other.address) or self.address == other.address

    def __str__(self) -> str:
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{address}{':' if address else ''}{self.port}/{self.protocol}"


class Wish(NamedTuple):
    """A constraint that would be nice to hold, 1..100: the higher the nicer."""

    constraint: Constraint
    weight: int


@dataclass(frozen=True, slots=True)
class Demand:
    """What each task of a class asks of a node.

    What must hold counts once, however often it was written: else a node would give one reason
    twice, and the single change that removes it would not be found.

    Attributes:
        service_id: whose replicas the tasks are; empty for tasks that belong to none, which
            are not counted against each other.
        service: the service's full name; what affinities of others call it.
        version: of the service's spec; failures are counted by it.
        reservations: set aside on the node; limits play no part.
        constraints: all of them must hold.
        platforms: any of them will do; empty is no demand.
        ports: of the host. Ports that Docker may choose freely are not listed.
        max_replicas_per_node: of the service, of whatever version; 0 is no limit.
        volumes: names of volumes that live on certain nodes; one that lives nowhere yet comes
            to be where the first task that needs it goes.
        tolerates: names that a node may be reserved for.
        affinities: nearness to services, and distance.
        spread: topologies; evenly over the first, within each of its values over the next, ...
        wishes: constraints that need not hold.
        strategy: how tasks are laid out; None takes what the pass is given.
        image: preferably one that is on the node.
        priority: the higher is served first.
        preempts: tasks of a lower priority make way if there is no room.
        max_unavailable: tasks of the service that others may take away at a time.
        gang: classes with that name are placed together or not at all; empty if on its own.
        stays: not to be moved for a better layout.
        pinned: each task belongs to the node that it is on, and to no other.
        unreadable: why parts of the spec could not be understood; such a task is not placed.
        need: what is reserved, by dimension; derived.
        flaws: why no node could ever take such a task; empty if it makes sense; derived.
        terrain: what a node's description decides on; derived. Classes with the same terrain
            may go to the same nodes, room apart.
        is_plain: asks for nothing but room on nodes that suit it; derived.
        alike: equal for two classes whose tasks are the same to every node but for the
            service's name; None if the service plays a part; derived.
    """

    service_id: ServiceId = NO_SERVICE
    reservations: Resources = _NOTHING
    constraints: tuple[Constraint, ...] = ()
    platforms: tuple[Platform, ...] = ()
    ports: tuple[HostPort, ...] = ()
    max_replicas_per_node: int = 0
    service: str = ""
    version: int = 0
    volumes: tuple[str, ...] = ()
    tolerates: tuple[str, ...] = ()
    affinities: tuple[Affinity, ...] = ()
    spread: tuple[str, ...] = ()
    wishes: tuple[Wish, ...] = ()
    strategy: Strategy | None = None
    image: str = ""
    priority: int = 0
    preempts: bool = False
    max_unavailable: int = 1
    gang: str = ""
    stays: bool = False
    pinned: bool = False
    unreadable: tuple[str, ...] = ()
    need: Amounts = field(init=False, compare=False, repr=False)
    flaws: tuple[str, ...] = field(init=False, compare=False, repr=False)
    terrain: tuple[object, ...] = field(init=False, compare=False, repr=False)
    alike: tuple[object, ...] | None = field(init=False, compare=False, repr=False)
    is_plain: bool = field(init=False, compare=False, repr=False)
    _hash: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        derive = object.__setattr__
        derive(self, "constraints", tuple(dict.fromkeys(self.constraints)))
        derive(self, "affinities", _without_repetition(self.affinities))
        need = amounts_of(self.reservations)
        derive(self, "need", need)
        derive(self, "flaws", (*self.unreadable, *self._senseless(need)))
        terrain = (self.constraints, self.platforms, self.tolerates)
        derive(self, "terrain", terrain)
        simple = not (self.ports or self.volumes or self.affinities or self.spread or self.gang)
        alike = (need, terrain, self.wishes, self.strategy, self.image, self.preempts)
        derive(self, "alike", alike if simple else None)
        derive(self, "is_plain", bool(need) and simple and not (self.wishes or self.flaws))
        # Two versions of a service that ask for the same are told apart only by failures.
        derive(self, "_hash", hash((self.service_id, self.version, need, *terrain)))

    def __hash__(self) -> int:
        return self._hash

    @classmethod
    def of(cls, service_id: ServiceId, spec: ServiceSpec, version: int = 0) -> "Demand":
        """Return what a task of *spec* asks for. Never raises: see ``flaws``."""
        unreadable: list[str] = []
        task, placement = spec.task, spec.task.placement
        return cls(
            service_id=service_id,
            service=spec.name,
            version=version,
            reservations=task.reservations,
            constraints=tuple(_read(placement.constraints, unreadable)),
            platforms=placement.platforms,
            ports=tuple(HostPort.of(port) for port in task.ports if port.published),
            max_replicas_per_node=placement.max_replicas_per_node,
            volumes=_bound_volumes(task),
            tolerates=placement.tolerates,
            affinities=placement.affinities,
            spread=tuple(preference.key for preference in placement.preferences),
            wishes=_wishes(placement.prefer, unreadable),
            strategy=placement.strategy,
            image=canonical(task.container.image),
            priority=spec.priority,
            preempts=spec.preempts,
            max_unavailable=spec.max_unavailable,
            gang=spec.gang,
            stays=placement.stays,
            pinned=spec.mode.is_global,
            unreadable=tuple(unreadable),
        )

    def _senseless(self, need: Amounts) -> Iterator[str]:
        for name, amount in need:
            if not is_amount(amount):
                what = name if name in SIZES else f"of {name}"
                yield f"reserves {amount} {what}: not a whole number from 0 to 2^63-1"
        if self.max_replicas_per_node < 0:
            yield f"allows {self.max_replicas_per_node} replicas per node: less than 0"
        for port in self.ports:
            if not 1 <= port.port <= PORT_MAX:
                yield f"asks for host port {port}: not from 1 to {PORT_MAX}"
        for one, other in combinations(self.ports, 2):
            if one.conflicts(other):
                yield f"asks for host port {one} twice"
        for affinity in self.affinities:
            contrary = Affinity(service=affinity.service, topology=affinity.topology, anti=True)
            if not affinity.weight and not affinity.anti and contrary in self.affinities:
                where = f"{affinity.service} by {affinity.topology}"
                yield f"must be both near {where} and apart from it"


class PendingTask(NamedTuple):
    """A task that waits for a node.

    Attributes:
        node_id: the only node that it may run on (a global service's task); empty if the
            scheduler chooses.
    """

    id: TaskId
    demand: Demand
    node_id: NodeId = NO_NODE


@dataclass(frozen=True, slots=True)
class Group:
    """Waiting tasks that ask for the same.

    Attributes:
        task_ids: oldest first, without repetition; the oldest get what room there is.
        node_ids: empty if the scheduler chooses; else the only node of each task, in the
            same order.
    """

    demand: Demand
    task_ids: tuple[TaskId, ...]
    node_ids: tuple[NodeId, ...] = ()

    def __post_init__(self) -> None:
        if self.node_ids and len(self.node_ids) != len(self.task_ids):
            raise ValueError(f"{len(self.task_ids)} tasks, but {len(self.node_ids)} nodes")


def group(pending: Iterable[PendingTask]) -> tuple[Group, ...]:
    """Gather *pending*, given oldest first, into classes in the order of their oldest tasks.

    A task that occurs twice counts once.
    """
    classes: dict[tuple[Demand, bool], dict[TaskId, NodeId]] = {}
    members: dict[tuple[int, bool], dict[TaskId, NodeId]] = {}  # by the demand's identity
    demands: list[Demand] = []  # kept alive, so that an identity stays one demand's
    seen: set[TaskId] = set()
    for id_, demand, node_id in pending:
        if id_ in seen:
            continue
        seen.add(id_)
        is_pinned = bool(node_id)
        tasks = members.get((id(demand), is_pinned))
        if tasks is None:
            tasks = classes.setdefault((demand, is_pinned), {})
            members[id(demand), is_pinned] = tasks
            demands.append(demand)
        tasks[id_] = node_id
    return tuple(
        Group(demand, tuple(tasks), tuple(tasks.values()) if pinned else ())
        for (demand, pinned), tasks in classes.items()
    )


def _read(expressions: Iterable[str], unreadable: list[str]) -> Iterator[Constraint]:
    """Yield what can be read, and add why to *unreadable* for what cannot."""
    for expression in expressions:
        try:
            yield parse(expression)
        except InvalidError as error:
            unreadable.append(str(error))


def _wishes(prefer: Iterable[Preferred], unreadable: list[str]) -> tuple[Wish, ...]:
    return tuple(
        Wish(constraint, wish.weight)
        for wish in prefer
        for constraint in _read([wish.constraint], unreadable)
    )


def _without_repetition(affinities: tuple[Affinity, ...]) -> tuple[Affinity, ...]:
    """Return each affinity that must hold once; the weights of wishes add up."""
    kept: list[Affinity] = []
    for affinity in affinities:
        if affinity.weight or affinity not in kept:
            kept.append(affinity)
    return tuple(kept)


def _bound_volumes(task: TaskSpec) -> tuple[str, ...]:
    """Return the names of the bound volumes, each once, in the order of the spec."""
    mounts = task.container.mounts
    bound = (m.source for m in mounts if m.kind is MountKind.VOLUME and m.bound and m.source)
    return tuple(dict.fromkeys(bound))


def _address(text: str) -> str:
    """Return a host address in the form in which equal ones look equal."""
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return text.lower()
    return EVERY_ADDRESS if address.is_unspecified else address.compressed
