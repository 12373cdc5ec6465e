"""What happened, told from how things are: once each, with what was known before."""

from typing import Any

import msgspec

from cluster.model import (
    Availability,
    ContainerSpec,
    Node,
    NodeDescription,
    NodeId,
    NodeSpec,
    NodeState,
    NodeStatus,
    Object,
    Service,
    ServiceId,
    ServiceSpec,
    Stack,
    StackId,
    Task,
    TaskId,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from clusterctl.follow import Update
from clusterctl.happenings import Happening, Watcher

replace = msgspec.structs.replace
SERVICE = Service(
    id=ServiceId("s1"),
    spec=ServiceSpec(
        name="demo_web", stack="demo", task=TaskSpec(container=ContainerSpec(image="web:1"))
    ),
    created_at=10.0,
    updated_at=10.0,
)
NODE = Node(
    id=NodeId("n1"),
    description=NodeDescription(hostname="host1"),
    status=NodeStatus(state=NodeState.READY, changed_at=5.0),
)
TASK = Task(
    id=TaskId("t1"),
    service_id=SERVICE.id,
    spec_version=1,
    slot=1,
    node_id=NODE.id,
    status=TaskStatus(state=TaskState.RUNNING, at=20.0),
)


def snapshot(*values: Object, revision: int = 1) -> Update:
    return Update(revision, snapshot=True, changed=values, removed=())


def changed(*values: Object) -> Update:
    return Update(2, snapshot=False, changed=values, removed=())


def removed(*values: Object) -> Update:
    return Update(2, snapshot=False, changed=(), removed=values)


def told(happenings: list[Happening]) -> list[tuple[str, str, str]]:
    return [(each.kind, each.name, each.event) for each in happenings]


def watcher(*values: Object, **options: Any) -> Watcher:
    found = Watcher(**options)
    found.apply(snapshot(*values))
    return found


def test_what_lies_behind_is_told_by_time_and_only_the_last() -> None:
    latest = watcher(TASK, NODE, SERVICE).latest(10)
    assert told(latest) == [
        ("node", "host1", "ready"),
        ("service", "demo_web", "created"),
        ("task", "demo_web.1 t1", "running"),
    ]
    assert told(watcher(TASK, NODE, SERVICE).latest(1)) == [("task", "demo_web.1 t1", "running")]
    assert watcher(TASK, NODE).latest(0) == []


def test_a_snapshot_in_parts_counts_when_it_is_whole() -> None:
    found = Watcher()
    parts = [
        snapshot(SERVICE, revision=0),
        Update(7, snapshot=False, changed=(NODE, TASK), removed=()),
    ]
    complete = []
    for part in parts:
        found.apply(part)
        complete.append(found.complete)
    assert complete == [False, True]
    assert len(found.latest(10)) == 3


def test_a_task_that_moves_on_is_told_with_its_place_and_error() -> None:
    found = watcher(TASK, NODE, SERVICE)
    failed = replace(TASK, status=TaskStatus(state=TaskState.FAILED, at=30.0, error="exit code 1"))
    (event,) = found.apply(changed(failed))
    assert told([event]) == [("task", "demo_web.1 t1", "failed")]
    assert event.message == "on host1: exit code 1"
    assert event.at == 30.0


def test_nothing_is_told_twice() -> None:
    found = watcher(TASK, NODE, SERVICE)
    wished = replace(TASK, desired_state=TaskState.SHUTDOWN)
    assert found.apply(changed(TASK, NODE, SERVICE, wished)) == []
    assert found.apply(snapshot(wished, NODE, SERVICE, revision=9)) == []


def test_after_a_break_the_difference_is_told() -> None:
    found = watcher(TASK, NODE, SERVICE)
    down = replace(NODE, status=NodeStatus(state=NodeState.DOWN, changed_at=40.0, message="lost"))
    happened = found.apply(snapshot(down, TASK, revision=9))
    assert ("node", "host1", "down") in told(happened)
    assert ("service", "demo_web", "removed") in told(happened)
    assert len(happened) == 2


def test_updates_and_removals() -> None:
    found = watcher(SERVICE, NODE)
    bigger = replace(SERVICE, spec=replace(SERVICE.spec, replicas=4), spec_version=2)
    (event,) = found.apply(changed(bigger))
    assert (event.event, event.message) == ("updated", "web:1, 4 replicas")
    drained = replace(NODE, spec=NodeSpec(availability=Availability.DRAIN, labels={"a": "1"}))
    (event,) = found.apply(changed(drained))
    assert (event.event, event.message) == ("updated", "drain; a=1")
    apart = NodeSpec(task_slots=3, reserved_for=("gpu", "x"), volumes=("v",))
    (event,) = found.apply(changed(replace(NODE, spec=apart)))
    assert event.message == "active; at most 3 tasks; reserved for gpu, x; volumes v"
    assert told(found.apply(removed(bigger))) == [("service", "demo_web", "removed")]
    assert found.apply(removed(TASK)) == []


def test_only_the_kinds_and_the_stack_that_were_asked_for() -> None:
    stack = Stack(id=StackId("st"), name="demo", created_at=1.0, updated_at=1.0)
    other = replace(
        SERVICE,
        id=ServiceId("s2"),
        spec=replace(SERVICE.spec, name="other_web", stack="other"),
    )
    everything = (stack, SERVICE, other, NODE, TASK)
    assert {each.kind for each in watcher(*everything, kinds=("node",)).latest(9)} == {"node"}
    mine = watcher(*everything, stack="demo").latest(9)
    assert [each.kind for each in mine] == ["stack", "service", "task"]
