"""The ledger: snapshots that follow the cluster's objects, whatever came first."""

from cluster.model import (
    ContainerSpec,
    Node,
    NodeDescription,
    NodeId,
    NodeSpec,
    NodeState,
    NodeStatus,
    Placement,
    PublishedPort,
    ServiceId,
    ServiceSpec,
    Task,
    TaskId,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from cluster.resources import Resources
from scheduler import Group, Ledger, place, snapshot_of

WEB = ServiceId("web")
SPEC = ServiceSpec(
    name="web",
    task=TaskSpec(
        container=ContainerSpec(image="i"),
        reservations=Resources(cpu_nanos=1, memory_bytes=10),
        ports=(PublishedPort(target=80, published=80), PublishedPort(target=81)),
    ),
)
NODE = Node(
    id=NodeId("n"),
    spec=NodeSpec(labels={"disk": "ssd"}),
    description=NodeDescription(capacity=Resources(cpu_nanos=4, memory_bytes=40)),
    status=NodeStatus(state=NodeState.READY),
)


class Specs:
    """A lookup that knows no spec until it is told to."""

    def __init__(self, *, known: bool = True) -> None:
        self.known = known
        self.lookups = 0

    def __call__(self, _task: Task) -> ServiceSpec | None:
        self.lookups += 1
        return SPEC if self.known else None


def task(name: str, state: TaskState = TaskState.RUNNING, node: str = "n") -> Task:
    return Task(
        id=TaskId(name),
        service_id=WEB,
        spec_version=1,
        node_id=NodeId(node),
        status=TaskStatus(state=state),
    )


def test_a_bound_task_takes_its_reservations_and_its_ports() -> None:
    node = snapshot_of([NODE], [task("t")], Specs()).nodes[NODE.id]
    assert node.reserved == SPEC.task.reservations
    assert node.ports == {(80, "tcp"): ("",)}
    assert node.replicas == {WEB: 1}
    assert node.task_count == 1
    assert node.facts.labels == {"disk": "ssd"}
    assert node.capacity == NODE.description.capacity


def test_a_task_takes_room_from_when_it_is_bound_until_its_end_was_seen() -> None:
    counted = {
        state
        for state in TaskState
        if snapshot_of([NODE], [task("t", state)], Specs()).nodes[NODE.id].task_count
    }
    assert counted == {
        TaskState.ASSIGNED,
        TaskState.ACCEPTED,
        TaskState.PREPARING,
        TaskState.READY,
        TaskState.STARTING,
        TaskState.RUNNING,
    }


def test_a_task_may_be_known_before_its_node_and_stays_known_without_it() -> None:
    ledger = Ledger(Specs())
    ledger.apply_task(task("t"))
    assert ledger.snapshot().nodes == {}
    ledger.apply_node(NODE)
    assert ledger.snapshot().nodes[NODE.id].task_count == 1
    ledger.remove_node(NODE.id)
    assert ledger.snapshot().nodes == {}
    ledger.apply_node(NODE)
    assert ledger.snapshot().nodes[NODE.id].task_count == 1


def test_room_comes_back_when_a_task_ends_or_is_forgotten() -> None:
    ledger = Ledger(Specs())
    ledger.apply_node(NODE)
    ledger.apply_task(task("t"))
    ledger.apply_task(task("u"))
    assert ledger.snapshot().nodes[NODE.id].reserved == Resources(cpu_nanos=2, memory_bytes=20)
    ledger.apply_task(task("t", TaskState.FAILED))
    ledger.remove_task(TaskId("u"))
    ledger.remove_task(TaskId("never heard of"))
    node = ledger.snapshot().nodes[NODE.id]
    assert (node.reserved, node.ports, node.replicas) == (Resources(), {}, {})


def test_the_version_counts_what_matters_and_untouched_nodes_are_handed_on() -> None:
    ledger = Ledger(Specs())
    ledger.apply_node(NODE)
    ledger.apply_node(Node(id=NodeId("m")))
    first = ledger.snapshot()
    assert ledger.snapshot() is first
    ledger.apply_node(NODE)
    ledger.apply_task(task("t", TaskState.PENDING))
    assert ledger.snapshot() is first, "nothing that a scheduler would see has changed"
    ledger.apply_task(task("t"))
    second = ledger.snapshot()
    assert second.version == first.version + 1
    assert second.nodes[NodeId("m")] is first.nodes[NodeId("m")]
    assert first.nodes[NODE.id].task_count == 0, "a snapshot never changes"


def test_a_node_with_a_task_of_unknown_needs_gets_nothing_until_they_are_known() -> None:
    specs = Specs(known=False)
    ledger = Ledger(specs)
    ledger.apply_node(NODE)
    ledger.apply_task(task("t"))
    waiting = task("w", TaskState.PENDING, node="")
    assert place(ledger.snapshot(), [Group(ledger.demand_of(waiting), (waiting.id,))]).unplaced[
        0
    ].defects == ("version 1 of service web is not known",)
    (unplaced,) = place(ledger.snapshot(), [group_of("w")]).unplaced
    assert str(unplaced) == ("no node fits; 1 node: holds t, of whose needs nothing is known")

    specs.known = True
    assert ledger.snapshot().nodes[NODE.id].reserved == SPEC.task.reservations
    assert place(ledger.snapshot(), [group_of("w")]).placements == {"w": NODE.id}


def test_a_spec_is_read_once_per_version() -> None:
    specs = Specs()
    ledger = Ledger(specs)
    for number in range(10):
        ledger.apply_task(task(f"t{number}"))
    assert specs.lookups == 1
    assert ledger.demand_of(task("t")) is ledger.demand_of(task("u"))


def test_a_constraint_that_cannot_be_read_is_carried_along() -> None:
    spec = TaskSpec(
        container=ContainerSpec(image="i"), placement=Placement(constraints=("disk = ssd",))
    )
    service = ServiceSpec(name="web", task=spec)
    demand = Ledger(lambda _task: service).demand_of(task("t"))
    assert "constraint 'disk = ssd'" in demand.flaws[0]


def group_of(name: str) -> Group:
    spec = TaskSpec(container=ContainerSpec(image="i"), reservations=Resources(cpu_nanos=1))
    service = ServiceSpec(name="web", task=spec)
    demand = Ledger(lambda _task: service).demand_of(task(name))
    return Group(demand, (TaskId(name),))
