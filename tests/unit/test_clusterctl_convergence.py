"""When is it done, when is it hopeless, and what is told meanwhile: the client's pure judgement."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from cluster.model import (
    Availability,
    ContainerSpec,
    DisruptionBudget,
    Node,
    NodeDescription,
    NodeId,
    NodeSpec,
    NodeState,
    NodeStatus,
    Object,
    Placement,
    RestartCondition,
    RestartPolicy,
    Service,
    ServiceId,
    ServiceMode,
    ServiceSpec,
    ServiceVersion,
    Task,
    TaskId,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from cluster.resources import Resources
from clusterctl.convergence import (
    Deployed,
    Drained,
    Goal,
    Removed,
    Verdict,
    converged,
    old_failures,
)
from clusterctl.follow import Update
from clusterctl.view import View

replace = msgspec.structs.replace
WEB = ServiceId("web-id")


def spec(replicas: int = 2, **fields: Any) -> ServiceSpec:
    task = fields.pop("task", TaskSpec(container=ContainerSpec(image="web:1")))
    return ServiceSpec(name="web", task=task, replicas=replicas, **fields)


def service(wanted: ServiceSpec | None = None, *, number: int = 1, version: int = 20) -> Service:
    return Service(id=WEB, spec=wanted or spec(), spec_version=number, version=version)


def task(slot: int, state: TaskState = TaskState.RUNNING, **fields: Any) -> Task:
    status = TaskStatus(state=state, at=100.0, error=fields.pop("error", ""))
    task_id = TaskId(fields.pop("id", f"task{slot}"))
    return Task(
        id=task_id,
        service_id=WEB,
        spec_version=fields.pop("number", 1),
        slot=slot,
        status=status,
        node_id=NodeId(fields.pop("node", "n1")),
        created_at=fields.pop("created_at", 50.0),
        **fields,
    )


def node(
    name: str,
    state: NodeState = NodeState.READY,
    availability: Availability = Availability.ACTIVE,
    **fields: Any,
) -> Node:
    return Node(
        id=NodeId(name),
        spec=NodeSpec(availability=availability, labels=fields.pop("labels", {})),
        description=NodeDescription(hostname=name),
        status=NodeStatus(state=state),
        **fields,
    )


def version(of: ServiceSpec, number: int) -> ServiceVersion:
    return ServiceVersion(service_id=WEB, number=number, spec=of)


def view_of(*objects: Object, revision: int = 30) -> View:
    view = View()
    view.apply(Update(revision=revision, snapshot=True, changed=objects, removed=()))
    return view


def judge(goal: Goal, *objects: Object, revision: int = 30) -> Verdict:
    return converged(view_of(*objects, revision=revision), goal)


def deployed(wanted: Service, *objects: Object, revision: int = 30) -> Verdict:
    return judge(Deployed([wanted]), *objects, revision=revision)


# --- done ---


def test_it_is_done_when_every_slot_runs_the_current_template() -> None:
    assert deployed(service(), service(), task(1), task(2)).done


@pytest.mark.parametrize("state", [s for s in TaskState if s < TaskState.RUNNING])
def test_it_is_not_done_while_a_task_does_not_run_yet(state: TaskState) -> None:
    verdict = deployed(service(), service(), task(1), task(2, state))
    assert not verdict.done
    assert (verdict.parts[0].reached, verdict.parts[0].wanted) == (1, 2)


def test_it_is_not_done_while_a_slot_is_empty() -> None:
    assert not deployed(service(), service(), task(1)).done


def test_it_is_not_done_while_the_view_is_older_than_the_request() -> None:
    asked = service(spec(replicas=1), number=2, version=25)
    behind = service(spec(replicas=1), number=1, version=20)
    verdict = deployed(asked, behind, task(1), revision=22)
    assert not verdict.done
    assert not verdict.failures


def test_a_new_service_that_this_manager_has_not_heard_of_is_not_gone() -> None:
    verdict = deployed(service(version=40), revision=30)
    assert not verdict.done
    assert not verdict.failures


def test_a_task_of_an_older_template_does_not_count_and_is_in_the_way() -> None:
    old = spec()
    new = spec(task=TaskSpec(container=ContainerSpec(image="web:2")))
    now = service(new, number=2)
    known = (now, version(old, 1), version(new, 2))
    assert not deployed(now, *known, task(1, number=2), task(2, number=1)).done
    both = deployed(now, *known, task(1, number=2), task(2, number=2), task(2, number=1, id="left"))
    assert not both.done
    assert both.parts[0].reached == 2


def test_a_task_of_an_older_version_with_the_same_template_counts() -> None:
    old, new = spec(replicas=1), spec(replicas=2)
    now = service(new, number=2)
    known = (now, version(old, 1), version(new, 2))
    assert deployed(now, *known, task(1, number=1), task(2, number=2)).done


def test_scaled_down_is_done_only_when_the_surplus_has_stopped() -> None:
    wanted = service(spec(replicas=1))
    stopping = task(2, desired_state=TaskState.REMOVE)
    assert not deployed(wanted, wanted, task(1), task(2)).done
    assert not deployed(wanted, wanted, task(1), stopping).done
    stopped = replace(stopping, status=TaskStatus(state=TaskState.SHUTDOWN))
    assert deployed(wanted, wanted, task(1), stopped).done
    assert deployed(wanted, wanted, task(1)).done


def test_scaled_to_nothing_is_done_when_nothing_is_left() -> None:
    wanted = service(spec(replicas=0))
    assert deployed(wanted, wanted).done
    assert not deployed(wanted, wanted, task(1)).done


def test_two_live_tasks_in_one_slot_are_not_done() -> None:
    wanted = service(spec(replicas=1))
    assert not deployed(wanted, wanted, task(1), task(1, id="other")).done


def test_the_past_of_a_slot_does_not_matter() -> None:
    wanted = service(spec(replicas=1))
    past = task(1, TaskState.FAILED, id="past", created_at=10.0)
    assert deployed(wanted, wanted, past, task(1)).done


def test_a_running_task_on_a_node_that_is_down_does_not_run() -> None:
    wanted = service(spec(replicas=1))
    assert not deployed(wanted, wanted, node("n1", NodeState.DOWN), task(1)).done
    assert deployed(wanted, wanted, node("n1"), task(1)).done


@pytest.mark.parametrize(
    ("condition", "done"),
    [
        (RestartCondition.NONE, True),
        (RestartCondition.ON_FAILURE, True),
        (RestartCondition.ANY, False),
    ],
)
def test_a_completed_task_is_done_unless_it_is_to_run_again(
    condition: RestartCondition, done: bool
) -> None:
    once = TaskSpec(
        container=ContainerSpec(image="web:1"), restart=RestartPolicy(condition=condition)
    )
    wanted = service(spec(replicas=1, task=once))
    assert deployed(wanted, wanted, task(1, TaskState.COMPLETE)).done is done


def test_services_that_were_pruned_must_be_gone() -> None:
    wanted = service(spec(replicas=1))
    goal = Deployed([wanted], removed={ServiceId("old"): "old"})
    left = replace(task(1, desired_state=TaskState.REMOVE, id="left"), service_id=ServiceId("old"))
    assert not judge(goal, wanted, task(1), left).done
    assert judge(goal, wanted, task(1)).done


# --- global services ---


def on(name: str, state: TaskState = TaskState.RUNNING, **fields: Any) -> Task:
    return task(0, state, node=name, id=f"task-{name}", **fields)


def test_a_global_service_runs_on_every_node_that_takes_tasks() -> None:
    wanted = service(spec(mode=ServiceMode.GLOBAL))
    nodes = [node("n1"), node("n2"), node("n3", NodeState.DOWN)]
    nodes += [node("n4", availability=Availability.DRAIN)]
    nodes += [node("n5", availability=Availability.PAUSE)]
    assert not deployed(wanted, wanted, *nodes, on("n1")).done
    verdict = deployed(wanted, wanted, *nodes, on("n1"), on("n2"))
    assert verdict.done
    assert verdict.parts[0].wanted == 2


def test_a_global_services_task_on_a_paused_node_stays_and_counts() -> None:
    wanted = service(spec(mode=ServiceMode.GLOBAL))
    paused = node("n1", availability=Availability.PAUSE)
    assert deployed(wanted, wanted, paused, on("n1")).parts[0].wanted == 1
    assert not deployed(wanted, wanted, paused, on("n1", TaskState.PREPARING)).done


def test_a_global_services_task_on_a_node_that_is_down_is_out_of_reach() -> None:
    wanted = service(spec(mode=ServiceMode.GLOBAL))
    nodes = [node("n1"), node("n2", NodeState.DOWN)]
    assert deployed(wanted, wanted, *nodes, on("n1"), on("n2", number=0)).done


def test_a_global_service_keeps_to_nodes_that_comply() -> None:
    here = TaskSpec(
        container=ContainerSpec(image="web:1"),
        placement=Placement(constraints=("node.labels.disk == ssd",)),
    )
    wanted = service(spec(mode=ServiceMode.GLOBAL, task=here))
    nodes = [node("n1", labels={"disk": "ssd"}), node("n2")]
    assert deployed(wanted, wanted, *nodes, on("n1")).done


def test_a_global_service_keeps_off_nodes_that_are_reserved_for_others() -> None:
    wanted = service(spec(mode=ServiceMode.GLOBAL))
    reserved = node("n2")
    reserved = replace(reserved, spec=replace(reserved.spec, reserved_for=("gpu",)))
    assert deployed(wanted, wanted, node("n1"), reserved, on("n1")).done
    tolerant = TaskSpec(
        container=ContainerSpec(image="web:1"), placement=Placement(tolerates=("gpu",))
    )
    wanted = service(spec(mode=ServiceMode.GLOBAL, task=tolerant))
    assert not deployed(wanted, wanted, node("n1"), reserved, on("n1")).done


# --- hopeless ---


def failures(count: int, state: TaskState = TaskState.FAILED, **fields: Any) -> list[Task]:
    return [
        task(1, state, id=f"bad{index}", created_at=10.0 + index, error="exit code 1", **fields)
        for index in range(count)
    ]


@pytest.mark.parametrize("state", [TaskState.FAILED, TaskState.REJECTED])
def test_it_is_given_up_after_three_bad_ends_in_a_row(state: TaskState) -> None:
    wanted = service(spec(replicas=1))
    again = task(1, TaskState.READY, desired_state=TaskState.READY)
    assert not deployed(wanted, wanted, *failures(2, state), again).failures
    (why,) = deployed(wanted, wanted, *failures(3, state), again).failures
    assert "web.1 failed 3 times in a row: exit code 1" in why
    assert "clusterctl service ps web" in why


def test_a_task_that_ran_in_between_breaks_the_row() -> None:
    wanted = service(spec(replicas=1))
    well = task(1, TaskState.SHUTDOWN, id="well", created_at=11.5)
    assert not deployed(wanted, wanted, *failures(3), well, task(1, TaskState.PREPARING)).failures


def test_it_is_not_given_up_while_the_task_runs() -> None:
    wanted = service(spec(replicas=1))
    verdict = deployed(wanted, wanted, *failures(4), task(1))
    assert verdict.done
    assert not verdict.failures


def test_bad_ends_of_an_older_template_do_not_count() -> None:
    new = spec(replicas=1, task=TaskSpec(container=ContainerSpec(image="web:2")))
    now = service(new, number=2)
    old = version(spec(replicas=1), 1)
    assert not deployed(now, now, old, *failures(5), task(1, TaskState.NEW, number=2)).failures


def test_bad_ends_from_before_the_request_do_not_count() -> None:
    wanted = service(spec(replicas=1))
    goal = Deployed([wanted], unchanged=frozenset({WEB}))
    again = task(1, TaskState.PREPARING)
    first = view_of(wanted, *failures(5), again)
    old = old_failures(first, goal)
    assert not converged(first, goal, old).failures
    assert converged(first, goal).failures
    later = [replace(each, id=TaskId(f"new{each.id}"), created_at=30.0) for each in failures(3)]
    assert converged(view_of(wanted, *failures(5), *later, again), goal, old).failures


@pytest.mark.parametrize(
    ("policy", "hopeless"),
    [
        (RestartPolicy(condition=RestartCondition.NONE), True),
        (RestartPolicy(condition=RestartCondition.ON_FAILURE), False),
        (RestartPolicy(max_attempts=1), True),
        (RestartPolicy(max_attempts=2), False),
    ],
)
def test_a_bad_end_without_a_restart_is_given_up_at_once(
    policy: RestartPolicy, hopeless: bool
) -> None:
    once = TaskSpec(container=ContainerSpec(image="web:1"), restart=policy)
    wanted = service(spec(replicas=1, task=once))
    history = [
        task(1, TaskState.FAILED, id="first", created_at=10.0),
        task(1, TaskState.FAILED, id="second", created_at=11.0, failures=1, error="boom"),
    ]
    verdict = deployed(wanted, wanted, *history)
    assert bool(verdict.failures) is hopeless
    if hopeless:
        assert "is not restarted: boom" in verdict.failures[0]


def test_a_service_that_somebody_else_changed_is_given_up() -> None:
    asked = service(number=2, version=20)
    other = service(spec(replicas=7), number=3, version=25)
    (why,) = deployed(asked, other, task(1), task(2)).failures
    assert "changed again meanwhile" in why


def test_a_service_that_somebody_else_removed_is_given_up() -> None:
    (why,) = deployed(service(version=20), revision=30).failures
    assert "removed meanwhile" in why


# --- what is told ---


def test_it_tells_why_tasks_wait_and_each_reason_once() -> None:
    wanted = service(spec(replicas=3))
    tasks = [task(slot, TaskState.PENDING, error="no node fits") for slot in (1, 2, 3)]
    ((who, why),) = deployed(wanted, wanted, *tasks).parts[0].waiting
    assert who == "web.1 (task1) and 2 more"
    assert why == "cannot be placed: no node fits"


def test_it_tells_what_goes_on() -> None:
    wanted = service(spec(replicas=4))
    tasks = [
        task(1, TaskState.NEW),
        task(2, TaskState.PREPARING),
        task(3, TaskState.STARTING),
        task(4, TaskState.READY, desired_state=TaskState.READY, failures=1),
        task(5, desired_state=TaskState.SHUTDOWN),
    ]
    assert dict(deployed(wanted, wanted, *tasks).parts[0].doing) == {
        "to be placed": 1,
        "preparing": 1,
        "starting": 1,
        "to be restarted": 1,
        "stopping": 1,
    }


# --- removal ---


def test_removed_is_done_when_neither_service_nor_task_is_left() -> None:
    goal = Removed({WEB: "web"})
    assert not judge(goal, service()).done
    assert not judge(goal, task(1, desired_state=TaskState.REMOVE)).done
    assert not judge(goal, task(1, TaskState.SHUTDOWN, desired_state=TaskState.REMOVE)).done
    assert judge(goal, replace(task(1), service_id=ServiceId("other"))).done


# --- drain ---


def drain(running: int = 1) -> Drained:
    return Drained(node("n1", version=20), {WEB: running})


def drained_node(version: int = 20, **fields: Any) -> Node:
    return node("n1", availability=Availability.DRAIN, version=version, **fields)


def test_a_drain_is_done_when_the_node_is_empty_and_as_much_runs_elsewhere() -> None:
    wanted = service(spec(replicas=1))
    gone = task(1, TaskState.SHUTDOWN, id="gone", desired_state=TaskState.SHUTDOWN)
    there = task(1, desired_state=TaskState.SHUTDOWN, id="there")
    elsewhere = task(1, node="n2")
    assert not judge(drain(), drained_node(), wanted, there, elsewhere).done
    assert not judge(drain(), drained_node(), wanted, gone).done
    starting = task(1, TaskState.STARTING, node="n2")
    assert not judge(drain(), drained_node(), wanted, gone, starting).done
    assert judge(drain(), drained_node(), wanted, gone, elsewhere).done


def test_a_drain_tells_which_jobs_it_waits_for() -> None:
    job = service(spec(mode=ServiceMode.REPLICATED_JOB))
    there = task(1, desired_state=TaskState.COMPLETE)
    verdict = judge(drain(), drained_node(), job, there)
    assert not verdict.done
    reasons = [why for each in verdict.parts for _, why in each.waiting]
    assert reasons == ["a job's task runs to its end: a `--deadline` would end it"]


@pytest.mark.parametrize(
    ("most", "said"),
    [
        (2, ["waits: its budget lets 2 be missing at a time"]),
        (0, ["stays: its budget lets none be missing", " a `--deadline` would move it"]),
    ],
)
def test_a_drain_tells_whose_budget_holds_it_up_and_what_would_not(
    most: int, said: list[str]
) -> None:
    wanted = service(spec(replicas=1, budget=DisruptionBudget(max_unavailable=most)))
    there = task(1, id="there", moving="node n1 is drained")
    heir = task(1, TaskState.READY, id="heir", node="n2", created_at=60.0)

    def told(heir: Task) -> list[tuple[str, str]]:
        parts = judge(drain(), drained_node(), wanted, there, heir).parts
        return [waiting for each in parts for waiting in each.waiting]

    ((name, why),) = told(heir)
    assert name == "web (1)"
    assert all(part in why for part in said)
    pulling = replace(heir, status=TaskStatus(state=TaskState.PREPARING))
    assert not told(pulling), "it is not the budget that it waits for"
    other = task(2, TaskState.PENDING, id="other", node="")
    ((name, why),) = told(other)
    assert all(part in why for part in said), "none is made ready while another finds no room"


def test_a_drain_needs_no_more_replicas_than_are_wanted_now() -> None:
    wanted = service(spec(replicas=1))
    assert judge(drain(running=5), drained_node(), wanted, task(1, node="n2")).done


def test_a_drain_does_not_wait_for_a_service_that_is_gone_or_global() -> None:
    assert judge(drain(), drained_node()).done
    everywhere = service(spec(mode=ServiceMode.GLOBAL))
    assert judge(drain(), drained_node(), everywhere).done


def test_a_drain_is_not_done_while_the_view_is_older() -> None:
    verdict = judge(drain(), node("n1", version=10), revision=15)
    assert not verdict.done
    assert not verdict.failures


def test_a_drain_that_somebody_takes_back_is_given_up() -> None:
    (why,) = judge(drain(), node("n1", version=25)).failures
    assert "is to take tasks again" in why


def test_a_node_that_is_forgotten_may_come_back_as_another() -> None:
    old = node("n1", version=20, created_at=1.0)
    goal = Drained(old, {}, forgotten=True)
    assert not judge(goal, old).done
    assert judge(goal).done
    assert judge(goal, node("n1", version=30, created_at=2.0)).done


# --- the view ---


def changes(*changed: Object, removed: tuple[Object, ...] = ()) -> Update:
    return Update(revision=31, snapshot=False, changed=changed, removed=removed)


def test_a_snapshot_replaces_all_that_was_known() -> None:
    view = view_of(service(), task(1), task(2))
    view.apply(Update(revision=0, snapshot=True, changed=(service(),), removed=()))
    assert view.revision == 0
    view.apply(changes(task(1)))
    assert [each.id for each in view.tasks_of(WEB)] == ["task1"]
    assert view.revision == 31


@pytest.mark.parametrize(
    ("value", "find"),
    [
        (service(), lambda view: view.services),
        (task(1), lambda view: view.tasks),
        (node("n1"), lambda view: view.nodes),
        (version(spec(), 1), lambda view: view.versions),
    ],
)
def test_the_view_learns_and_forgets(value: Object, find: Callable[[View], Any]) -> None:
    view = view_of()
    view.apply(changes(value))
    assert list(find(view).values()) == [value]
    view.apply(changes(removed=(value,)))
    assert not find(view)
    assert not list(view.tasks_of(WEB))


def test_reservations_are_part_of_the_template() -> None:
    old = spec(replicas=1)
    bigger = TaskSpec(
        container=ContainerSpec(image="web:1"), reservations=Resources(cpu_nanos=1_000_000_000)
    )
    now = service(spec(replicas=1, task=bigger), number=2)
    assert not deployed(now, now, version(old, 1), task(1, number=1)).done
