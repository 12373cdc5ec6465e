"""What waiting tasks ask for.

Tasks that ask for the same are one class: each node is judged once per class, however many
tasks it has. So a ``Demand`` is compared by content, and holds nothing of a single task.
"""

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

from cluster.constraints import Constraint, parse
from cluster.errors import InvalidError
from cluster.model import NO_NODE, NodeId, Platform, PublishedPort, ServiceId, TaskId, TaskSpec
from cluster.resources import Resources
from scheduler.dimensions import AMOUNT_MAX, DIMENSIONS, Amounts, amounts_of

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


@dataclass(frozen=True, slots=True)
class Demand:
    """What each task of a class asks of a node.

    Attributes:
        service_id: whose replicas the tasks are; empty for tasks that belong to none, which
            are not counted against each other.
        reservations: set aside on the node; limits play no part.
        constraints: all of them must hold.
        platforms: any of them will do; empty is no demand.
        ports: of the host. Ports that Docker may choose freely are not listed.
        max_replicas_per_node: of the service, of whatever version; 0 is no limit.
        unreadable: why parts of the spec could not be understood; such a task is not placed.
        need: the reservations in the order of ``DIMENSIONS``; derived.
    """

    service_id: ServiceId = NO_SERVICE
    reservations: Resources = _NOTHING
    constraints: tuple[Constraint, ...] = ()
    platforms: tuple[Platform, ...] = ()
    ports: tuple[HostPort, ...] = ()
    max_replicas_per_node: int = 0
    unreadable: tuple[str, ...] = ()
    need: Amounts = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "need", amounts_of(self.reservations))

    @classmethod
    def of(cls, service_id: ServiceId, spec: TaskSpec) -> "Demand":
        """Return what a task of *spec* asks for. Never raises: see ``unreadable``."""
        constraints: list[Constraint] = []
        unreadable: list[str] = []
        for expression in spec.placement.constraints:
            try:
                constraints.append(parse(expression))
            except InvalidError as error:
                unreadable.append(str(error))
        return cls(
            service_id=service_id,
            reservations=spec.reservations,
            constraints=tuple(constraints),
            platforms=spec.placement.platforms,
            ports=tuple(HostPort.of(port) for port in spec.ports if port.published),
            max_replicas_per_node=spec.placement.max_replicas_per_node,
            unreadable=tuple(unreadable),
        )

    def defects(self) -> tuple[str, ...]:
        """Return why no node could ever take such a task; empty if the demand makes sense."""
        return (*self.unreadable, *self._senseless())

    def _senseless(self) -> Iterator[str]:
        for dimension, amount in zip(DIMENSIONS, self.need, strict=True):
            if not (isinstance(amount, int) and 0 <= amount <= AMOUNT_MAX):
                yield f"reserves {amount} {dimension.field}: not a whole number from 0 to 2^63-1"
        if self.max_replicas_per_node < 0:
            yield f"allows {self.max_replicas_per_node} replicas per node: less than 0"
        for port in self.ports:
            if not 1 <= port.port <= PORT_MAX:
                yield f"asks for host port {port}: not from 1 to {PORT_MAX}"
        for one, other in combinations(self.ports, 2):
            if one.conflicts(other):
                yield f"asks for host port {one} twice"


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
    seen: set[TaskId] = set()
    for task in pending:
        if task.id in seen:
            continue
        seen.add(task.id)
        classes.setdefault((task.demand, bool(task.node_id)), {})[task.id] = task.node_id
    return tuple(
        Group(demand, tuple(tasks), tuple(tasks.values()) if pinned else ())
        for (demand, pinned), tasks in classes.items()
    )


def _address(text: str) -> str:
    """Return a host address in the form in which equal ones look equal."""
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return text.lower()
    return EVERY_ADDRESS if address.is_unspecified else address.compressed
