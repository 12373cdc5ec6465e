"""I1, node by node: what is promised of a host can be delivered.

A node's capacity is what its agent says of it, and may shrink while tasks run there: memory is
taken out, a setting is lowered. Nobody kills tasks for that, so "more is promised than there
is" does not prove by itself that somebody promised too much. The proof is the moment of binding
(``binding.fits``): if each binding left the sum within the capacity as it stood, and nothing
else makes the sum grow (I3: what is finished stays finished; a version never changes), then I1
holds. Ports cannot shrink: two holders are a breach whenever they are seen.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping

from cluster.invariants.breach import Breach
from cluster.invariants.state import State, takes_room
from cluster.model import NodeId, PublishedPort, Task
from cluster.resources import Resources

_EVERY_ADDRESS = ""


def amounts(resources: Resources) -> Iterator[tuple[str, int]]:
    """Yield each dimension's name and amount, whatever dimensions there are.

    A field that is a mapping has a dimension for each of its keys.
    """
    for field in resources.__struct_fields__:
        value = getattr(resources, field)
        if isinstance(value, Mapping):
            for key, amount in value.items():
                yield f"{field}.{key}", amount
        else:
            yield field, value


def reserved(state: State, node_id: NodeId) -> dict[str, int]:
    """Return what the tasks of a node reserve together, by dimension."""
    total: dict[str, int] = {}
    for task in state.on_node(node_id):
        spec = state.spec_of(task) if takes_room(task) else None
        if spec is not None:
            for dimension, amount in amounts(spec.reservations):
                total[dimension] = total.get(dimension, 0) + amount
    return total


def reservations_fit(state: State, node_id: NodeId) -> Iterator[Breach]:
    """Compare what is reserved with the capacity, as both are now.

    Not certain: the capacity may have shrunk since.
    """
    node = state.nodes.get(node_id)
    if node is None:
        return
    capacity = dict(amounts(node.description.capacity))
    for dimension, amount in reserved(state, node_id).items():
        if amount > capacity.get(dimension, 0):
            yield Breach(
                "I1",
                (node_id,),
                f"the tasks of node '{state.node_called(node_id)}' reserve {amount} {dimension},"
                f" it offers {capacity.get(dimension, 0)}; allowed only if it offered more when"
                " they were bound",
                certain=False,
            )


def ports_have_one_holder(state: State, node_id: NodeId) -> Iterator[Breach]:
    """Compare the host's ports that its tasks hold: by address, protocol and number.

    A port on every address is in the way of the same port on any.
    """
    held: dict[tuple[int, str], list[tuple[str, Task]]] = {}
    for task in state.on_node(node_id):
        spec = state.spec_of(task) if takes_room(task) else None
        for port in spec.ports if spec else ():
            if port.published:
                holders = held.setdefault((port.published, port.protocol.lower()), [])
                holders.append((_address(port), task))
    for (number, protocol), holders in held.items():
        if len(holders) > 1:
            yield from _collisions(state, node_id, f"{number}/{protocol}", holders)


def items_have_one_holder(state: State, node_id: NodeId) -> Iterator[Breach]:
    """Compare the named generic resources that the node's tasks were given."""
    holders: dict[tuple[str, str], Task] = {}
    for task in state.on_node(node_id):
        for kind, items in task.generic_items.items() if takes_room(task) else ():
            for item in items:
                other = holders.setdefault((kind, item), task)
                if other.id != task.id:
                    yield Breach(
                        "I1",
                        (node_id, other.id, task.id),
                        f"on node '{state.node_called(node_id)}' {kind} {item} has two holders:"
                        f" {state.called(other)} and {state.called(task)}",
                    )


def _collisions(
    state: State, node_id: NodeId, port: str, holders: Iterable[tuple[str, Task]]
) -> Iterator[Breach]:
    before: list[tuple[str, Task]] = []
    for address, task in holders:
        for other_address, other in before:
            same = address == other_address or _EVERY_ADDRESS in (address, other_address)
            if same and other.id != task.id:
                yield Breach(
                    "I1",
                    (node_id, other.id, task.id),
                    f"on node '{state.node_called(node_id)}' port {port} has two holders:"
                    f" {state.called(other)} at {other_address or 'every address'} and"
                    f" {state.called(task)} at {address or 'every address'}",
                )
        before.append((address, task))


def _address(port: PublishedPort) -> str:
    """Return the address in the form in which equal ones look equal; empty for every one."""
    try:
        address = ipaddress.ip_address(port.host_ip.strip("[]"))
    except ValueError:
        return port.host_ip.lower()
    return _EVERY_ADDRESS if address.is_unspecified else address.compressed
