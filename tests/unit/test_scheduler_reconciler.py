"""Scheduling in the manager: what becomes of a plan."""

from typing import TypeVar

import msgspec
import pytest

from cluster.model import (
    Affinity,
    Autoscale,
    Cluster,
    ClusterId,
    ContainerSpec,
    DisruptionBudget,
    ManagerId,
    Mount,
    MountKind,
    Node,
    NodeDescription,
    NodeId,
    NodeState,
    NodeStatus,
    Object,
    Placement,
    Scaling,
    Service,
    ServiceId,
    ServiceSpec,
    ServiceVersion,
    Session,
    SessionId,
    Task,
    TaskId,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from cluster.resources import Resources
from manager import records
from manager.committer import GUARDS_MAX
from manager.reconcilers.scheduling import CLUSTER, TOGETHER_MAX, SchedulingReconciler
from manager.store.interface import KeyValue, Listing
from manager.view import Change, View

T = TypeVar("T", bound=Object)

NODES = [
    Node(
        id=NodeId(f"n{number}"),
        description=NodeDescription(
            hostname=f"host{number}",
            capacity=Resources(cpu_nanos=4, generic={"gpu": 2}),
            generic_items={"gpu": ("A", "B")},
        ),
        status=NodeStatus(state=NodeState.READY),
    )
    for number in (1, 2)
]

SESSIONS = [
    Session(id=SessionId(f"s-{each.id}"), node_id=each.id, manager_id=ManagerId("m"))
    for each in NODES
]


def service(name: str, replicas: int = 1, cpu: int = 1, **fields: object) -> list[Object]:
    """Return a service, its version, and its waiting tasks."""
    container = ContainerSpec(image="i", mounts=fields.pop("mounts", ()))  # type: ignore[arg-type]
    gpus = fields.pop("gpus", 0)
    placement = fields.pop("placement", Placement())
    reserved = Resources(cpu_nanos=cpu, generic={"gpu": gpus} if gpus else {})  # type: ignore[dict-item]
    spec = ServiceSpec(
        name=name,
        task=TaskSpec(container=container, reservations=reserved, placement=placement),  # type: ignore[arg-type]
        replicas=replicas,
        **fields,  # type: ignore[arg-type]
    )
    id_ = ServiceId(name)
    tasks = [
        Task(
            id=TaskId(f"{name}.{slot}"),
            service_id=id_,
            spec_version=1,
            slot=slot,
            status=TaskStatus(state=TaskState.NEW),
            created_at=float(slot),
        )
        for slot in range(1, replicas + 1)
    ]
    return [Service(id=id_, spec=spec), ServiceVersion(service_id=id_, number=1, spec=spec), *tasks]


def running(objects: list[Object], node_id: str) -> list[Object]:
    """Return the same with the tasks running on a node."""
    return [
        msgspec.structs.replace(
            each, node_id=NodeId(node_id), status=TaskStatus(state=TaskState.RUNNING)
        )
        if isinstance(each, Task)
        else each
        for each in objects
    ]


def reconciler(*objects: Object) -> SchedulingReconciler:
    view = View()
    everything = [Cluster(id=ClusterId("c")), *NODES, *SESSIONS, *objects]
    items = []
    for revision, value in enumerate(everything, 1):
        put = records.put(value)
        items.append(KeyValue(put.key, put.value, revision, revision))
    view.listed(Listing(len(items), sorted(items, key=lambda item: item.key)))
    return SchedulingReconciler(view)


def saved(scheduling: SchedulingReconciler, kind: type[T]) -> list[T]:
    changes = scheduling.plan(CLUSTER, 100.0).changes
    return [value for change in changes for value in change.save if isinstance(value, kind)]


def test_a_task_is_bound_with_the_items_that_are_its_own() -> None:
    (task,) = saved(reconciler(*service("web", gpus=1)), Task)
    assert (task.node_id, task.status.state) == ("n1", TaskState.ASSIGNED)
    assert task.generic_items == {"gpu": ("A",)}


def test_a_volumes_home_is_written_with_the_first_task_that_needs_it() -> None:
    mount = Mount(kind=MountKind.VOLUME, target="/d", source="data", bound=True)
    scheduling = reconciler(*service("db", replicas=3, mounts=(mount,)))
    changes = scheduling.plan(CLUSTER, 100.0).changes
    (change,) = changes
    node, task = change.save
    assert isinstance(node, Node)
    assert isinstance(task, Task)
    assert node.spec.volumes == ("data",)
    assert node.id == task.node_id
    assert task.id == "db.1", "the others follow when the home stands"


def test_a_gang_is_bound_in_one_change_and_only_when_all_its_tasks_are_there() -> None:
    gang = [*service("a", 2, gang="g"), *service("b", 1, gang="g")]
    (change,) = reconciler(*gang).plan(CLUSTER, 100.0).changes
    bound = [each for each in change.save if isinstance(each, Task)]
    assert {each.id for each in bound} == {"a.1", "a.2", "b.1"}
    nodes = {each.id for each in change.expect if isinstance(each, Node)}
    assert nodes == {each.node_id for each in bound}, "they may have been closed meanwhile"
    (waiting,) = saved(
        reconciler(*[each for each in gang if getattr(each, "id", "") != "a.2"][:3]), Task
    )
    assert waiting.status.state is TaskState.PENDING
    assert waiting.status.error == "waits until all of gang g is there"


def test_a_gang_of_any_size_is_bound_in_transactions_that_the_store_takes() -> None:
    gang = service("a", 3 * TOGETHER_MAX, cpu=0, gang="g")
    changes = reconciler(*gang).plan(CLUSTER, 100.0).changes
    assert [len(change.save) for change in changes] == 3 * [TOGETHER_MAX]
    assert all(len(change.guards()) <= GUARDS_MAX for change in changes)


SCALE = Autoscale(min_replicas=1, max_replicas=9, cpu_percent=50)


def test_a_gang_that_scales_itself_is_all_there_with_the_replicas_that_it_shall_have() -> None:
    gang = service("a", 2, gang="g", autoscale=SCALE)[:3]  # one of two tasks
    (waiting,) = saved(reconciler(*gang), Task)
    assert waiting.status.state is TaskState.PENDING
    (bound,) = saved(reconciler(*gang, Scaling(service_id=ServiceId("a"), replicas=1)), Task)
    assert bound.status.state is TaskState.ASSIGNED


def test_what_makes_room_is_told_to_stop_and_who_it_is_for_waits() -> None:
    low = running(service("low", 1, cpu=4), "n1") + running(service("lower", 1, cpu=4), "n2")
    high = service("high", 1, cpu=3, priority=5, preempts=True)
    tasks = {task.id: task for task in saved(reconciler(*low, *high), Task)}
    assert tasks[TaskId("low.1")].desired_state is TaskState.SHUTDOWN
    assert tasks[TaskId("high.1")].status.error == "room is being made for it on host1"
    assert len(tasks) == 2


def test_nobody_is_stopped_beyond_what_the_service_can_miss_now() -> None:
    """One of its two tasks is not running yet: the budget of one is used up."""
    low = service("low", 2, cpu=4, budget=DisruptionBudget(max_unavailable=1))
    first, second = [each for each in low if isinstance(each, Task)]
    bound = [
        *low[:2],
        *running([first], "n1"),
        msgspec.structs.replace(
            second, node_id=NodeId("n2"), status=TaskStatus(state=TaskState.STARTING)
        ),
    ]
    high = service("high", 1, cpu=3, priority=5, preempts=True)
    tasks = saved(reconciler(*bound, *high), Task)
    assert [task.id for task in tasks] == ["high.1"]
    assert tasks[0].status.error.startswith("no node fits; 2 nodes: short of")


def test_whom_another_reconciler_is_just_telling_to_stop_is_missed_already() -> None:
    budget = DisruptionBudget(max_unavailable=1)
    low = service("low", 2, cpu=4, budget=budget)
    first, second = [each for each in low if isinstance(each, Task)]
    bound = [*low[:2], *running([first], "n1"), *running([second], "n2")]
    scheduling = reconciler(*bound, *service("high", 1, cpu=3, priority=5, preempts=True))
    assert {TaskId("low.1"), TaskId("low.2")} & {task.id for task in saved(scheduling, Task)}
    with scheduling._view.parting([TaskId("low.2")]):
        assert [task.id for task in saved(scheduling, Task)] == ["high.1"]


def test_of_a_service_that_scales_itself_is_missing_what_it_shall_have() -> None:
    budget = DisruptionBudget(max_unavailable=1)
    low = running(service("low", 1, cpu=4, budget=budget, autoscale=SCALE), "n1")
    other = running(service("other", 1, cpu=4, priority=9), "n2")
    high = service("high", 1, cpu=3, priority=5, preempts=True)
    stopped = saved(reconciler(*low, *other, *high), Task)
    assert TaskId("low.1") in {task.id for task in stopped}
    wants_two = Scaling(service_id=ServiceId("low"), replicas=2)
    (left,) = saved(reconciler(*low, *other, *high, wants_two), Task)
    assert left.id == "high.1"


# --- when to look again (I17) ---------------------------------------------------------------------


def stands(task: Task, state: TaskState) -> Task:
    return msgspec.structs.replace(task, node_id=NodeId("n1"), status=TaskStatus(state=state))


def news_of_another(waiting: list[Object], before: TaskState, after: TaskState) -> bool:
    """Tell whether a waiting service's tasks are looked at again as a task of another goes on."""
    other = service("other")
    (task,) = [each for each in other if isinstance(each, Task)]
    old = stands(task, before)
    scheduling = reconciler(*waiting, *other[:2], old)
    return list(scheduling.concerned(Change(old, stands(task, after)))) == [CLUSTER]


HUGE = 1_000  # CPUs: more than there are


@pytest.mark.parametrize("preempts", [False, True])
def test_who_preempts_looks_again_when_a_service_can_spare_another_task(*, preempts: bool) -> None:
    waiting = service("big", cpu=HUGE, priority=1, preempts=preempts)
    assert news_of_another(waiting, TaskState.STARTING, TaskState.RUNNING) is preempts
    assert not news_of_another(waiting, TaskState.READY, TaskState.STARTING)


@pytest.mark.parametrize("is_near", [False, True])
def test_who_must_be_near_another_looks_again_when_that_has_a_node(*, is_near: bool) -> None:
    near = Placement(affinities=(Affinity(service="other"),) if is_near else ())
    waiting = service("shadow", placement=near)
    assert news_of_another(waiting, TaskState.PENDING, TaskState.ASSIGNED) is is_near


def test_a_gang_is_looked_at_again_when_one_of_its_services_is_made_smaller() -> None:
    gang = service("a", 2, gang="g")
    scheduling = reconciler(*gang[:3])  # one of two tasks
    old = gang[0]
    assert isinstance(old, Service)
    new = msgspec.structs.replace(old, spec=msgspec.structs.replace(old.spec, replicas=1))
    assert list(scheduling.concerned(Change(old, new))) == [CLUSTER]
