"""What tasks take of the node that they are bound to, added up."""

from collections.abc import Iterable
from typing import NamedTuple

from cluster.model import ServiceId
from cluster.resources import Resources
from scheduler.demand import Demand
from scheduler.dimensions import CPU, MEMORY, is_amount
from scheduler.snapshot import PortKey, Repelled


class Taken(NamedTuple):
    """See ``scheduler.snapshot.NodeSnapshot`` for the fields."""

    reserved: Resources
    ports: dict[PortKey, tuple[str, ...]]
    replicas: dict[ServiceId, int]
    repels: dict[Repelled, int]


def taken_by(demands: Iterable[Demand]) -> Taken:
    """Add up what tasks of these demands take."""
    classes: dict[int, tuple[Demand, int]] = {}
    for demand in demands:
        _, count = classes.get(id(demand), (demand, 0))
        classes[id(demand)] = demand, count + 1
    amounts: dict[str, int] = {}
    ports: dict[PortKey, tuple[str, ...]] = {}
    replicas: dict[ServiceId, int] = {}
    repels: dict[Repelled, int] = {}
    for demand, count in classes.values():
        for name, amount in demand.need:
            if is_amount(amount):
                amounts[name] = amounts.get(name, 0) + count * amount
        if demand.service_id:
            replicas[demand.service_id] = replicas.get(demand.service_id, 0) + count
        for port in demand.ports:
            key = (port.port, port.protocol)
            ports[key] = tuple(sorted((*ports.get(key, ()), *([port.address] * count))))
        for affinity in demand.affinities:
            if affinity.anti and not affinity.weight:
                near = (affinity.service, affinity.topology, demand.service_id)
                repels[near] = repels.get(near, 0) + count
    cpu, memory = amounts.pop(CPU, 0), amounts.pop(MEMORY, 0)
    reserved = Resources(cpu_nanos=cpu, memory_bytes=memory, generic=amounts)
    return Taken(reserved, ports, replicas, repels)
