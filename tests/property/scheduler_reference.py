"""A placer that is plainly right, and slow: every node is looked at for every single task.

It works on the stored objects and shares no code with the scheduler: not its filters, its
ledger, its ranks, its columns or its arithmetic.
"""

from collections.abc import Sequence
from fractions import Fraction

from cluster.model import (
    Affinity,
    Availability,
    Node,
    NodeId,
    NodeState,
    ServiceId,
    ServiceSpec,
    Strategy,
    Task,
    TaskId,
    TaskState,
)
from cluster.resources import Resources
from scheduler import ReasonKind
from tests.property.scheduler_worlds import CONSTRAINTS, World

BOUND = ("assigned", "accepted", "preparing", "ready", "starting", "running")
MANY_FAILURES = 5
SHARES = 3

Bound = list[tuple[ServiceId, ServiceSpec]]
Held = dict[NodeId, Bound]  # who is bound to each node
Place = tuple[str, str]


class Reference:
    """A cluster in which tasks are bound one after the other.

    Attributes:
        held: who takes room on each node.
        homes: where bound volumes live.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.held: Held = {node.id: [] for node in world.nodes}
        for task in world.tasks:
            if task.status.state.value in BOUND:
                self.held.setdefault(task.node_id, []).append(
                    (task.service_id, world.spec_of(task))
                )
        self.homes: dict[str, set[NodeId]] = {}
        for node in world.nodes:
            for volume in node.spec.volumes:
                self.homes.setdefault(volume, set()).add(node.id)
        self.placed: dict[TaskId, NodeId] = {}

    def bind(self, task: Task, node_id: NodeId) -> None:
        spec = self.world.spec_of(task)
        self.placed[task.id] = node_id
        self.held[node_id].append((task.service_id, spec))
        for mount in spec.task.container.mounts:
            if mount.bound:
                self.homes.setdefault(mount.source, {node_id})

    # --- feasibility ---------------------------------------------------------------------------

    def refusals(self, node: Node, service_id: ServiceId) -> set[ReasonKind]:
        """Return what keeps one more task of the service off the node."""
        spec, bound = self.world.specs[service_id], self.held[node.id]
        placement = spec.task.placement
        why: set[ReasonKind] = set()
        if node.status.state != NodeState.READY or node.spec.availability != Availability.ACTIVE:
            why.add(ReasonKind.NODE)
        if not set(node.spec.reserved_for) <= set(placement.tolerates):
            why.add(ReasonKind.RESERVED)
        if placement.platforms and node.description.platform.architecture != "arm64":
            why.add(ReasonKind.PLATFORM)  # the only platform that a world's services ask for
        if not all(CONSTRAINTS[expression](node) for expression in placement.constraints):
            why.add(ReasonKind.CONSTRAINT)
        for mount in spec.task.container.mounts:
            if node.id not in self.homes.get(mount.source, {node.id}):
                why.add(ReasonKind.VOLUME)
        if self.breaks_affinity(node, spec):
            why.add(ReasonKind.AFFINITY)
        replicas = len([1 for other, _ in bound if other == service_id])
        limit = placement.max_replicas_per_node
        if limit and replicas + 1 > limit:
            why.add(ReasonKind.REPLICAS)
        taken = [claim for _, other in bound for claim in claims(other)]
        if any(clash(mine, other) for mine in claims(spec) for other in taken):
            why.add(ReasonKind.PORT)
        if lacking(node, bound, spec):
            why.add(ReasonKind.ROOM)
        return why

    def breaks_affinity(self, node: Node, spec: ServiceSpec) -> bool:
        for affinity in spec.task.placement.affinities:
            if affinity.weight:
                continue
            near = self.near(node, affinity)
            if affinity.anti and near:
                return True
            if not affinity.anti and not near:
                is_first = affinity.service == spec.name and not self.anywhere(spec.name)
                if not (is_first and place(node, affinity.topology) is not None):
                    return True
        for other in self.world.nodes:
            for _, theirs in self.held[other.id]:
                for affinity in theirs.task.placement.affinities:
                    if affinity.anti and not affinity.weight and affinity.service == spec.name:
                        here = place(node, affinity.topology)
                        if here is not None and here == place(other, affinity.topology):
                            return True
        return False

    def near(self, node: Node, affinity: Affinity) -> bool:
        here = place(node, affinity.topology)
        return here is not None and any(
            spec.name == affinity.service
            for other in self.world.nodes
            if place(other, affinity.topology) == here
            for _, spec in self.held[other.id]
        )

    def anywhere(self, name: str) -> bool:
        known = (self.held[node.id] for node in self.world.nodes)
        return any(spec.name == name for bound in known for _, spec in bound)

    # --- preference ----------------------------------------------------------------------------

    def rank(
        self, node: Node, service_id: ServiceId, total: int, strategy: Strategy
    ) -> tuple[object, ...]:
        spec, bound = self.world.specs[service_id], self.held[node.id]
        placement = spec.task.placement
        replicas = len([1 for other, _ in bound if other == service_id])
        reserves = spec.task.reservations
        image = 0 if spec.task.container.image + ":latest" in node.description.images else 1
        terms: list[object] = [
            self.failing(node, service_id),
            *self.branches(node, service_id),
            max(0, replicas + 1 - -(-total // SHARES)),
            self.missed(node, spec),
        ]
        if (placement.strategy or strategy) is Strategy.SPREAD or reserves == Resources():
            return (*terms, replicas, len(bound), image, node.id)
        squares = Fraction(0)
        for capacity, taken, need in amounts(node, bound, spec):
            if capacity:
                squares += Fraction(capacity - taken - need, capacity) ** 2
        return (*terms, 1 if len(bound) == 0 else 0, squares, image, node.id)

    def failing(self, node: Node, service_id: ServiceId) -> int:
        failed = [
            task
            for task in self.world.tasks
            if (task.node_id, task.service_id) == (node.id, service_id)
            and task.status.state in (TaskState.FAILED, TaskState.REJECTED)
        ]
        return len(failed) if len(failed) >= MANY_FAILURES else 0

    def branches(self, node: Node, service_id: ServiceId) -> list[int]:
        """Return how many tasks of the service are in each of the node's branches."""
        keys = [
            preference.key for preference in self.world.specs[service_id].task.placement.preferences
        ]
        counts = []
        for depth in range(1, len(keys) + 1):
            branch = [place(node, key) for key in keys[:depth]]
            mates = [
                other.id
                for other in self.world.nodes
                if other.status.state is NodeState.READY
                and [place(other, key) for key in keys[:depth]] == branch
            ]
            counts.append(len([1 for id_ in mates for s, _ in self.held[id_] if s == service_id]))
        return counts

    def missed(self, node: Node, spec: ServiceSpec) -> int:
        placement = spec.task.placement
        wishes = [
            wish.weight for wish in placement.prefer if not CONSTRAINTS[wish.constraint](node)
        ]
        soft = [a.weight for a in placement.affinities if self.near(node, a) == a.anti]
        return sum(wishes) + sum(soft)  # the weight of a must is 0

    # --- the pass ------------------------------------------------------------------------------

    def serve(self, wave: Sequence[Task], strategy: Strategy) -> list[Task]:
        """Place the tasks of one class, the first first; return those without a place."""
        service_id = wave[0].service_id
        alive = [n for n in self.world.nodes if n.status.state is NodeState.READY]
        mates = [s for n in alive for s, _ in self.held[n.id] if s == service_id]
        total = len(mates) + len(wave)
        left = []
        for task in wave:
            asked = [n for n in self.world.nodes if task.node_id in ("", n.id)]
            takers = [node for node in asked if not self.refusals(node, service_id)]
            if takers and is_sensible(self.world.specs[service_id]):
                ranks = [self.rank(node, service_id, total, strategy) for node in takers]
                self.bind(task, takers[ranks.index(min(ranks))].id)
            else:
                left.append(task)
        return left


def reference_place(world: World, strategy: Strategy) -> dict[TaskId, NodeId]:
    """Return where all waiting tasks go."""
    waves: dict[tuple[bool, ServiceId], list[Task]] = {}
    for task in world.pending:
        waves.setdefault((bool(task.node_id), task.service_id), []).append(task)
    order = list(waves)
    order.sort(key=lambda key: (-world.specs[key[1]].priority, not key[0]))
    state = Reference(world)
    tried: set[str] = set()
    for key in order:
        gang = world.specs[key[1]].gang
        if not gang:
            state.serve(waves[key], strategy)
        elif gang not in tried:
            tried.add(gang)
            members = [wave for (_, s), wave in waves.items() if world.specs[s].gang == gang]
            attempt = Reference(world)
            attempt.held = {id_: list(bound) for id_, bound in state.held.items()}
            attempt.homes = {volume: set(ids) for volume, ids in state.homes.items()}
            attempt.placed = dict(state.placed)
            if not any(attempt.serve(wave, strategy) for wave in members):
                state = attempt
    return state.placed


def place(node: Node, topology: str) -> str | None:
    """Return the node's place; None if it has none."""
    if topology == "node.id":
        return node.id
    if topology == "node.platform.arch":
        return node.description.platform.architecture
    return node.spec.labels.get(topology.removeprefix("node.labels."))


def amounts(node: Node, bound: Bound, spec: ServiceSpec) -> list[tuple[int, int, int]]:
    """Return capacity, what is taken and what is needed, in each dimension."""
    here = node.description.capacity
    everyone = [other.task.reservations for _, other in bound]
    need = spec.task.reservations
    return [
        (here.cpu_nanos, sum(r.cpu_nanos for r in everyone), need.cpu_nanos),
        (here.memory_bytes, sum(r.memory_bytes for r in everyone), need.memory_bytes),
        (
            here.generic.get("gpu", 0),
            sum(r.generic.get("gpu", 0) for r in everyone),
            need.generic.get("gpu", 0),
        ),
    ]


def lacking(node: Node, bound: Bound, spec: ServiceSpec) -> bool:
    slots = node.spec.task_slots
    return bool(slots and len(bound) + 1 > slots) or any(
        need and taken + need > capacity for capacity, taken, need in amounts(node, bound, spec)
    )


def claims(spec: ServiceSpec) -> list[tuple[str, int, str]]:
    """Return address, port and protocol of each host port, "*" for all addresses."""
    addresses = {"": "*", "0.0.0.0": "*"}
    return [
        (addresses.get(port.host_ip, port.host_ip), port.published, port.protocol)
        for port in spec.task.ports
        if port.published != 0
    ]


def clash(one: tuple[str, int, str], other: tuple[str, int, str]) -> bool:
    return one[1:] == other[1:] and ("*" in (one[0], other[0]) or one[0] == other[0])


def is_sensible(spec: ServiceSpec) -> bool:
    """Tell whether any node could ever run it."""
    mine = claims(spec)
    pairs = [(one, other) for i, one in enumerate(mine) for other in mine[:i]]
    musts = [a for a in spec.task.placement.affinities if not a.weight]
    contrary = [
        (a, b)
        for a in musts
        for b in musts
        if not a.anti and b.anti and (a.service, a.topology) == (b.service, b.topology)
    ]
    return not any(clash(one, other) for one, other in pairs) and not contrary
