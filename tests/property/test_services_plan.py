"""Any history of a service, however wild, keeps its promises and ends where it should."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster import lifecycle
from cluster.model import (
    Availability,
    FailureAction,
    NodeSpec,
    NodeState,
    NodeStatus,
    RolloutState,
    ServiceMode,
    Task,
    TaskState,
    TaskStatus,
    UpdateConfig,
    UpdateOrder,
)
from manager.reconcilers.services import Sightings
from tests.property.service_world import CRASHES, GOOD, HANGS, NO_IMAGE, NODES, World

replace = msgspec.structs.replace
BAD_ENDS = [TaskState.FAILED, TaskState.COMPLETE, TaskState.REJECTED]

UPDATES = st.builds(
    UpdateConfig,
    parallelism=st.integers(0, 2),
    delay_seconds=st.sampled_from([0.0, 7.0]),
    monitor_seconds=st.sampled_from([0.0, 5.0]),
    failure_action=st.sampled_from(FailureAction),
    max_failure_ratio=st.sampled_from([0.0, 0.3]),
    order=st.sampled_from(UpdateOrder),
    progress_deadline_seconds=st.sampled_from([0.0, 60.0]),
    canary=st.integers(0, 2),
    promote_after_seconds=st.sampled_from([0.0, 20.0]),
)
MODES = st.sampled_from([ServiceMode.REPLICATED, ServiceMode.GLOBAL])
TAGS = st.sampled_from(GOOD + CRASHES + NO_IMAGE + HANGS)

ACTIONS = st.one_of(
    st.tuples(st.just("submit"), st.integers(0, 4), TAGS, UPDATES),
    st.tuples(st.just("steer"), st.sampled_from(["promote", "pause", "resume"])),
    st.tuples(st.just("end"), st.integers(0, 20), st.sampled_from(BAD_ENDS)),
    st.tuples(st.just("preempt"), st.integers(0, 20)),
    st.tuples(st.just("node"), st.sampled_from(NODES), st.sampled_from(list(Availability))),
    st.tuples(st.just("lose"), st.sampled_from(NODES)),
    st.tuples(st.just("return"), st.sampled_from(NODES)),
    st.tuples(st.just("pass"), st.floats(0, 40)),
    st.tuples(st.just("jump"), st.sampled_from([-3600.0, 3600.0])),
    st.tuples(st.just("gate"), st.booleans()),
    st.tuples(st.just("leader")),
    st.tuples(st.just("obey")),
    st.tuples(st.just("step")),
    st.tuples(st.just("run"), st.integers(1, 12)),
)


def act(world: World, action: tuple[Any, ...]) -> None:
    match action:
        case ("submit", replicas, tag, update):
            world.submit(world.spec(replicas, tag, update))
        case ("steer", word):
            world.steer(word)
        case ("end", index, ending):
            open_ = [
                task
                for task in world.tasks.values()
                if task.status.state >= TaskState.ASSIGNED and not task.status.state.finished
            ]
            if open_:
                task = open_[index % len(open_)]
                status = TaskStatus(state=ending, at=world.now)
                world.tasks[task.id] = replace(task, status=status)
        case ("preempt", index):
            if running := [task for task in world.running() if lifecycle.wanted(task)]:
                world.decide_while_another_takes(running[index % len(running)])
        case ("node", node_id, availability):
            spec = NodeSpec(availability=availability)
            world.nodes[node_id] = replace(world.nodes[node_id], spec=spec)
        case ("lose", node_id):
            world.down.add(node_id)
        case ("return", node_id):
            world.down.discard(node_id)
            ready = NodeStatus(state=NodeState.READY)
            world.nodes[node_id] = replace(world.nodes[node_id], status=ready)
        case ("pass", seconds):
            world.wait(seconds)
        case ("jump", seconds):
            world.now += seconds
        case ("gate", is_open):
            world.is_gate_open = is_open
        case ("leader",):
            world.sightings = Sightings()
            world.held_since.clear()
        case ("obey",):
            world.obey()
        case ("step",):
            world.step()
        case ("run", seconds):
            world.run(seconds)


def state(world: World) -> RolloutState | None:
    return world.rollout.state if world.rollout else None


def settled(
    mode: ServiceMode = ServiceMode.REPLICATED,
    *,
    replicas: int,
    update: UpdateConfig,
    one_per_node: bool = False,
) -> World:
    """Return a world in which the first version runs, and is known to run well."""
    world = World(mode, one_per_node)
    world.submit(world.spec(replicas, "1", update))
    world.settle()
    return world


def prepare(world: World, task: Task) -> None:
    """Let its agent have made *task* ready."""
    ready = TaskStatus(state=TaskState.READY, at=world.now)
    world.tasks[task.id] = replace(task, status=ready)


def heal(world: World) -> None:
    """Bring every node back, and what the service depends on."""
    world.is_gate_open = True
    for node_id in NODES:
        act(world, ("return", node_id))
        act(world, ("node", node_id, Availability.ACTIVE))


@settings(max_examples=200, deadline=None)
@given(
    mode=MODES,
    one_per_node=st.booleans(),
    first=UPDATES,
    last=UPDATES,
    tag=st.sampled_from(GOOD),
    actions=st.lists(ACTIONS, max_size=40),
)
def test_any_history_keeps_its_promises_and_converges(
    *,
    mode: ServiceMode,
    one_per_node: bool,
    first: UpdateConfig,
    last: UpdateConfig,
    tag: str,
    actions: list[tuple[Any, ...]],
) -> None:
    world = World(mode, one_per_node)
    world.submit(world.spec(2, "1", first))
    for action in actions:
        act(world, action)
        world.check()
    heal(world)
    replicas = world.service.spec.replicas if world.service else 0
    spec = world.spec(min(replicas, 3), tag, replace(last, canary=0))
    # What was rolled back stays so until something else is asked for.
    world.submit(replace(spec, task=replace(spec.task, force_update=1)))
    world.settle()
    # What was broken by chance may have paused it: let it go on.
    world.steer("resume")
    world.settle()
    assert world.service is not None
    current = world.service.spec.task
    running = world.running()
    count = len(NODES) if mode is ServiceMode.GLOBAL else world.service.spec.replicas
    assert len(running) == count, world.messages
    assert world.rollout is None or world.rollout.state is RolloutState.COMPLETED
    for task in running:
        assert not lifecycle.needs_replacing(world.versions[task.spec_version].spec.task, current)
    # I18: when all is well, nothing is decided any more.
    assert not world.plan().changes
    assert world.reap() == []


@settings(max_examples=80, deadline=None)
@given(
    mode=MODES,
    one_per_node=st.booleans(),
    replicas=st.integers(1, 3),
    tag=st.sampled_from(CRASHES + NO_IMAGE + HANGS),
    update=UPDATES,
    events=st.lists(st.sampled_from(["leader", "jump"]), max_size=3),
)
def test_a_version_that_never_runs_ends_as_its_owner_wished(
    *,
    mode: ServiceMode,
    one_per_node: bool,
    replicas: int,
    tag: str,
    update: UpdateConfig,
    events: list[str],
) -> None:
    """A bad version stops, or goes back, whatever happens to leaders and clocks meanwhile."""
    update = replace(update, progress_deadline_seconds=60.0, max_failure_ratio=0.0)
    world = settled(mode, one_per_node=one_per_node, replicas=replicas, update=update)
    places = len(NODES) if mode is ServiceMode.GLOBAL else replicas
    assert len(world.running()) == places
    world.submit(world.spec(replicas, tag, update))
    for event in events:
        world.run(5)
        act(world, ("leader",) if event == "leader" else ("jump", 3600.0))
    if update.failure_action is FailureAction.CONTINUE:
        world.run(100)  # it is tried for ever
    else:
        world.settle()
    assert world.rollout is not None
    good = [task for task in world.running() if world.tag(task) == "1"]
    match update.failure_action:
        case FailureAction.ROLLBACK:
            assert world.rollout.state is RolloutState.ROLLED_BACK
            assert len(good) == places
            assert not world.plan().changes
        case FailureAction.PAUSE:
            assert world.rollout.state is RolloutState.PAUSED
            assert "failed in" in world.rollout.message
            assert len(good) == places
        case FailureAction.CONTINUE:
            assert world.rollout.state is not RolloutState.PAUSED


@settings(max_examples=60, deadline=None)
@given(mode=MODES, one_per_node=st.booleans(), update=UPDATES, event=st.sampled_from(BAD_ENDS))
def test_a_version_that_waits_for_others_has_not_failed_and_takes_nothing_away(
    *, mode: ServiceMode, one_per_node: bool, update: UpdateConfig, event: TaskState
) -> None:
    """However long it waits: what runs goes on, and is replaced by its like."""
    update = replace(update, canary=0, progress_deadline_seconds=60.0, max_failure_ratio=0.0)
    world = settled(mode, one_per_node=one_per_node, replicas=3, update=update)
    world.is_gate_open = False
    world.submit(world.spec(3, "2", update))
    world.run(70)
    act(world, ("end", 0, event))
    world.run(70)
    assert [world.tag(task) for task in world.running()] == ["1"] * 3
    assert state(world) is RolloutState.UPDATING
    world.is_gate_open = True
    world.settle()
    assert state(world) is RolloutState.COMPLETED
    assert [world.tag(task) for task in world.running()] == ["2"] * 3


@given(mode=MODES, deadline=st.sampled_from([0.0, 60.0]))
def test_a_first_version_is_prepared_and_waits_for_others(
    mode: ServiceMode, deadline: float
) -> None:
    update = UpdateConfig(progress_deadline_seconds=deadline)
    world = World(mode)
    world.is_gate_open = False
    world.submit(world.spec(3, "3", update))
    world.submit(world.spec(3, "1", update))
    world.run(100)
    assert [task.status.state for task in world.tasks.values()] == [TaskState.READY] * 3
    world.is_gate_open = True
    world.settle()
    assert state(world) is RolloutState.COMPLETED


def test_an_update_whose_gate_shuts_again_takes_nothing_away() -> None:
    update = UpdateConfig(parallelism=2)
    world = settled(replicas=3, update=update)
    world.submit(world.spec(3, "2", update))
    world.step()
    assert sum(world.tag(task) == "2" for task in world.tasks.values()) == 2  # to be prepared
    world.is_gate_open = False
    world.run(20)
    assert [world.tag(task) for task in world.running()] == ["1"] * 3
    assert not world.plan().changes
    world.is_gate_open = True
    world.settle()
    assert [world.tag(task) for task in world.running()] == ["2"] * 3


def test_a_task_that_is_prepared_and_waits_for_others_is_not_stuck() -> None:
    update = UpdateConfig(parallelism=0, monitor_seconds=500.0, progress_deadline_seconds=60.0)
    world = settled(replicas=2, update=update)
    world.submit(world.spec(2, "2", update))
    world.run(20)
    assert [world.tag(task) for task in world.running()] == ["2"] * 2
    world.is_gate_open = False
    world.submit(world.spec(2, "1", update))  # nothing of it runs any more, and no base is needed
    act(world, ("end", 1, TaskState.FAILED))
    world.run(100)
    assert [world.tag(task) for task in world.running()] == ["2"]
    assert world.rollout is not None
    assert world.rollout.failed == ()
    world.is_gate_open = True
    world.step()
    assert world.rollout.failed == ()
    world.settle()
    assert [world.tag(task) for task in world.running()] == ["1"] * 2


def test_who_is_returned_to_waits_for_nobody() -> None:
    """The version that ran well was through its gate; that of the one that failed is shut."""
    update = UpdateConfig(parallelism=0, failure_action=FailureAction.ROLLBACK)
    world = settled(replicas=2, update=update)
    world.submit(world.spec(2, "4", update))
    world.is_gate_open = False
    world.step()
    world.is_gate_open = True
    world.settle()
    assert state(world) is RolloutState.ROLLED_BACK
    world.is_gate_open = False
    act(world, ("end", 0, TaskState.FAILED))
    world.run(30)
    assert [world.tag(task) for task in world.running()] == ["1"] * 2


@settings(max_examples=40, deadline=None)
@given(replicas=st.integers(2, 5), canary=st.integers(1, 4), update=UPDATES)
def test_a_canary_waits_for_a_word(replicas: int, canary: int, update: UpdateConfig) -> None:
    canary = min(canary, replicas - 1)
    update = replace(update, canary=canary, promote_after_seconds=0.0)
    world = settled(replicas=replicas, update=update)
    world.submit(world.spec(replicas, "2", update))
    world.settle()
    assert state(world) is RolloutState.CANARY
    assert sum(world.tag(task) == "2" for task in world.running()) == canary
    assert len(world.running()) == replicas
    assert not world.plan().changes
    world.steer("promote")
    world.settle()
    assert state(world) is RolloutState.COMPLETED
    assert [world.tag(task) for task in world.running()] == ["2"] * replicas


def test_two_that_are_ready_at_once_do_not_take_more_than_is_left() -> None:
    """One place is missing already: of two successors that are ready only one may go on."""
    update = UpdateConfig(parallelism=2)
    world = settled(replicas=4, update=update)
    world.submit(world.spec(4, "2", update))
    world.step()
    successors = [task for task in world.tasks.values() if world.tag(task) == "2"]
    assert len(successors) == 2
    for task in successors:
        prepare(world, task)
    begun = {task.slot for task in successors}
    victim = next(task for task in world.running() if task.slot not in begun)
    failed = TaskStatus(state=TaskState.FAILED, at=world.now)
    world.tasks[victim.id] = replace(victim, status=failed)
    world.step()  # checks I7
    stopped = [t for t in world.tasks.values() if t.desired_state is TaskState.SHUTDOWN]
    assert len(stopped) == 1
    world.settle()
    assert [world.tag(task) for task in world.running()] == ["2"] * 4


@pytest.mark.parametrize("moves", [False, True], ids=["update", "drain"])
def test_what_another_is_just_taking_is_left_to_it(*, moves: bool) -> None:
    """It takes as many as may be missing, and its write is under way: nobody else goes now."""
    world = settled(replicas=3, update=UpdateConfig(parallelism=1))
    holder = world.running()[0]
    if moves:
        act(world, ("node", holder.node_id, Availability.DRAIN))
    else:
        world.submit(world.spec(3, "2", UpdateConfig(parallelism=1)))
    world.step()
    world.step()
    (successor,) = [task for task in world.tasks.values() if task.status.state < TaskState.RUNNING]
    prepare(world, successor)
    victim = next(task for task in world.running() if task.slot != successor.slot)
    world.decide_while_another_takes(victim)  # checks I7 and I8
    stopped = [t for t in world.tasks.values() if t.desired_state is TaskState.SHUTDOWN]
    assert [task.id for task in stopped] == [victim.id]
    world.settle()
    assert len(world.running()) == 3


def test_who_starts_first_does_not_beside_one_that_another_is_just_stopping() -> None:
    update = UpdateConfig(parallelism=0, order=UpdateOrder.START_FIRST)
    world = settled(replicas=3, update=update)
    world.submit(world.spec(3, "2", update))
    victim = world.running()[0]
    world.decide_while_another_takes(victim)
    begun = {task.slot for task in world.tasks.values() if world.tag(task) == "2"}
    assert begun == {1, 2, 3} - {victim.slot}
    world.settle()
    assert [world.tag(task) for task in world.running()] == ["2"] * 3


@settings(max_examples=20, deadline=None)
@given(replicas=st.integers(1, 5), order=st.sampled_from(UpdateOrder))
def test_a_drained_node_is_left_by_the_order_that_updates_have(
    replicas: int, order: UpdateOrder
) -> None:
    world = settled(replicas=replicas, update=UpdateConfig(order=order))
    for node_id in reversed(NODES[1:]):
        act(world, ("node", node_id, Availability.DRAIN))
        world.settle()  # checks I2 and I8 at every step
    assert [task.node_id for task in world.running()] == [NODES[0]] * replicas
