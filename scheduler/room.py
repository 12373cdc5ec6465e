"""What is left of a node while a plan is being made.

The one mutable thing in the scheduler; it lives for one call of ``place``.
"""

from operator import sub

from cluster.model import NodeId, ServiceId
from scheduler.demand import EVERY_ADDRESS, Demand, HostPort
from scheduler.dimensions import Amounts, amounts_of
from scheduler.snapshot import NodeSnapshot, PortKey


class Room:
    """A node of the snapshot and, laid over it, what the plan so far puts there.

    Attributes:
        node: as the snapshot has it; never changed.
        capacity, free: in the order of ``DIMENSIONS``; free room may be negative.
        task_count: tasks on the node, planned ones included.
    """

    __slots__ = ("_ports", "_replicas", "capacity", "free", "id", "node", "task_count")

    def __init__(self, node: NodeSnapshot) -> None:
        self.node = node
        self.id: NodeId = node.id
        self.capacity: Amounts = amounts_of(node.capacity)
        taken = amounts_of(node.reserved)
        self.free = tuple(map(sub, self.capacity, taken))
        self.task_count = node.task_count
        self._ports: dict[PortKey, list[str]] = {}
        self._replicas: dict[ServiceId, int] = {}

    def replicas(self, service_id: ServiceId) -> int:
        """Return how many tasks of the service are here, planned ones included."""
        return self.node.replicas.get(service_id, 0) + self._replicas.get(service_id, 0)

    def is_taken(self, port: HostPort) -> bool:
        """Tell whether a task here holds a port that *port* conflicts with."""
        key = (port.port, port.protocol)
        held = (*self.node.ports.get(key, ()), *self._ports.get(key, ()))
        if port.address == EVERY_ADDRESS:
            return bool(held)
        return EVERY_ADDRESS in held or port.address in held

    def book(self, demand: Demand) -> None:
        """Put one task of *demand* here, whether or not it fits."""
        self.free = tuple(map(sub, self.free, demand.need))
        self.task_count += 1
        if demand.service_id:
            planned = self._replicas.get(demand.service_id, 0)
            self._replicas[demand.service_id] = planned + 1
        for port in demand.ports:
            self._ports.setdefault((port.port, port.protocol), []).append(port.address)
