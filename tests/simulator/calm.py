"""I13: once faults stop, all is as desired within a bound; and then nothing more is decided.

``unfinished`` says what is still missing, looking at the store, at what really runs, and at each
manager's view. A task may go on waiting for a node only if there is none that could take it.
"""

from collections.abc import Iterator, Mapping, Sequence

from cluster import lifecycle
from cluster.constraints import NodeFacts, matches, parse
from cluster.invariants import Place, State
from cluster.invariants.gates import waits
from cluster.jobs import newest_begun
from cluster.model import (
    Availability,
    MoveState,
    Node,
    NodeState,
    RestartCondition,
    Rollout,
    RolloutState,
    RunState,
    Service,
    ServiceMode,
    ServiceVersion,
    SessionState,
    Task,
    TaskSpec,
    TaskState,
    UpdateConfig,
)
from tests.simulator.hosts import AgentStation, ManagerStation, World
from tests.simulator.room import Room, is_open
from tests.simulator.scaling import shall
from tests.simulator.takings import RETURNS

UNDER_WAY = (RolloutState.UPDATING, RolloutState.ROLLING_BACK)
RAN = (TaskState.COMPLETE, TaskState.FAILED)
HALTED = (RolloutState.PAUSED, RolloutState.ROLLBACK_PAUSED)

# Of objects that a view has, as ``State`` names them too.
KINDS = ("tasks", "nodes", "services", "versions", "stacks", "jobs")


def unfinished(
    world: World,
    managers: Mapping[str, ManagerStation],
    agents: Mapping[str, AgentStation],
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield what is not as it should be, with the objects that it concerns."""
    state = world.judge.state
    if not any(manager.leads for manager in managers.values()):
        yield "nobody leads", ()
    for agent in agents.values():
        yield from _node(world, agent)
    rollouts = world.judge.rollouts
    room = Room(state)
    for service in (shall(state, each) for each in state.services.values()):
        if service.spec.mode.is_job:
            yield from _job(state, service, room)
            continue
        rollout = rollouts.get(service.id)
        target = state.versions.get((service.id, rollout.target)) if rollout else None
        template = target.spec.task if target else service.spec.task
        is_return = service.rolls_back or (rollout is not None and rollout.state in RETURNS)
        config = service.spec.rollback if is_return else service.spec.update
        missing = list(_service(state, service, template, config, room))
        yield from missing
        if (
            rollout
            and rollout.state not in HALTED
            and not _is_busy(state, service, config, rollout)
        ):
            yield from _failed_successors(state, service, template, rollout.target)
        # Where a task waits for room, or for another service, the rollout waits too.
        is_held = waits(state, service) or not _all_well(state, service)
        if not missing and not is_held and rollout and _goes_on(rollout, target):
            yield f"the rollout of {service.spec.name} is {rollout.state.value}", (service.id,)
    for task in state.tasks.values():
        if not lifecycle.wanted(task) and not task.status.state.finished:
            yield f"{state.called(task)} has not ended", (task.id, task.node_id)
        if _is_forgotten_on_a_drained_node(state, task):
            yield f"{state.called(task)} is not told to leave its node", (task.id, task.node_id)
        if task.desired_state is TaskState.REMOVE:
            yield f"{state.called(task)} is not forgotten", (task.id, task.node_id)
    cluster = world.judge.cluster
    if cluster and any(move.state is not MoveState.GIVEN_UP for move in cluster.moves):
        yield "moves are still to be made", tuple(move.task_id for move in cluster.moves)
    for agent in agents.values():
        yield from _containers(state, agent)
    for manager in managers.values():
        yield from _view(world, manager)


def _goes_on(rollout: Rollout, target: ServiceVersion | None) -> bool:
    promotes = target is not None and target.spec.update.promote_after_seconds > 0
    return rollout.state in UNDER_WAY or (rollout.state is RolloutState.CANARY and promotes)


def _is_forgotten_on_a_drained_node(state: State, task: Task) -> bool:
    node = state.nodes.get(task.node_id)
    drained = node is not None and node.spec.availability is Availability.DRAIN
    return drained and lifecycle.live(task) and not task.moving


def _node(world: World, agent: AgentStation) -> Iterator[tuple[str, tuple[str, ...]]]:
    node = world.judge.state.nodes.get(agent.node_id)
    session = world.judge.sessions.get(agent.node_id)
    if node is None or node.status.state is not NodeState.READY:
        yield f"node {agent.host} is not ready", (agent.node_id,)
    if session is None or session.state is not SessionState.LIVE:
        yield f"node {agent.host} has no session", (agent.node_id,)


def _service(
    state: State, service: Service, template: TaskSpec, config: UpdateConfig, room: Room
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield what a service lacks.

    Args:
        state: of the cluster.
        service: in question.
        template: of the version that its rollout has come to.
        config: how that goes about it.
        room: for those that wait.
    """
    name = service.spec.name
    history: dict[Place, list[Task]] = {}
    for task in state.of_service(service.id):
        history.setdefault(Place.of(task), []).append(task)
    # A place whose newest task was asked to end is given up.
    ends = [max(tasks, key=_order) for tasks in history.values()]
    newest = [task for task in ends if lifecycle.wanted(task)]
    if service.spec.mode is ServiceMode.GLOBAL:
        there = {task.node_id for task in newest}
        for node in state.nodes.values():
            if _takes_global(node, template) and node.id not in there:
                yield f"{name} is missing on {state.node_called(node.id)}", (service.id, node.id)
    elif len(newest) != service.spec.replicas:
        yield f"{name} has {len(newest)} of {service.spec.replicas} replicas", (service.id,)
    for task in newest:
        status = task.status.state
        if _is_well(state, task):
            continue
        lacks_room = status <= TaskState.PENDING and not room.is_there_for(task)
        if lacks_room and not _comes_of_age(state, service, task, history):
            continue
        if status.finished and not _may_be_replaced(state, service, template, task):
            continue
        if task.desired_state is TaskState.READY and waits(state, service):
            continue  # what it waits for is looked at by itself
        waits_for_others = task.desired_state is TaskState.READY and _waits_for_others(
            service, config, task, history
        )
        if waits_for_others and not room.is_needed_from(task):
            continue
        yield (
            f"{state.called(task)} is {status.value} to be {task.desired_state.value}",
            (task.id, service.id, task.node_id),
        )


def _comes_of_age(
    state: State, service: Service, task: Task, history: Mapping[Place, Sequence[Task]]
) -> bool:
    """Tell whether *task* has only to wait for a time until it is let to run, room or no room.

    One that starts first waits for nothing else, whoever runs there.
    """
    alone = task.start_first or all(
        each.status.state.finished for each in history[Place.of(task)] if each is not task
    )
    return task.desired_state is TaskState.READY and alone and not waits(state, service)


def _waits_for_others(
    service: Service, config: UpdateConfig, task: Task, history: Mapping[Place, Sequence[Task]]
) -> bool:
    """Tell whether *task* is to take over where no more may be missing than there are already.

    One that starts first takes over when it runs: nobody is missing meanwhile.
    """
    serving = [place for place, tasks in history.items() if any(map(lifecycle.serves, tasks))]
    wanted = len(history) if service.spec.mode.is_global else service.spec.replicas
    budget, parallelism = service.spec.max_unavailable, config.parallelism or wanted
    return not task.start_first and any(
        wanted - len(serving) >= (budget if holder.moving else parallelism)
        for holder in history[Place.of(task)]
        if lifecycle.serves(holder)
    )


def _job(state: State, service: Service, room: Room) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield what a job has still to do; that a run has failed is an end too."""
    name, status = service.spec.name, state.jobs.get(service.id)
    if status is None or status.spec_version != service.spec_version:
        yield f"job {name} was not looked at", (service.id,)
        return
    if status.requests_done != service.run_requests:
        yield f"job {name} was not run as often as asked for", (service.id,)
    if status.suspended != service.suspended:
        yield f"job {name} is to be suspended, or to go on", (service.id,)
    if service.spec.job.schedule is None and newest_begun(status) is None:
        yield f"job {name} has no run", (service.id,)
    for run in status.runs:
        if run.state is not RunState.RUNNING:
            continue
        tasks = [task for task in state.of_service(service.id) if task.run == run.number]
        live = [task for task in tasks if lifecycle.live(task)]
        has_begun = any(lifecycle.let_start(task) or task.status.state in RAN for task in tasks)
        goes_on = any(
            task.status.state > TaskState.PENDING or room.is_there_for(task) for task in live
        )
        if not live:  # the next is to be made, if there is where
            nodes, template = state.nodes.values(), service.spec.task
            is_global = service.spec.mode.is_global
            goes_on = not is_global or any(_takes_global(node, template) for node in nodes)
        if goes_on and (has_begun or not waits(state, service)):
            yield f"run {run.number} of job {name} goes on", (service.id,)


def _is_busy(state: State, service: Service, config: UpdateConfig, rollout: Rollout) -> bool:
    """Tell whether as many places are under way as may be, though the rollout has ended.

    Places whose failure it has borne are no others than the rest then: their turn comes.
    """
    under_way = sum(
        lifecycle.live(task) and task.spec_version == rollout.target and not lifecycle.serves(task)
        for task in state.of_service(service.id)
    )
    return rollout.state.settled and 0 < config.parallelism <= under_way


def _failed_successors(
    state: State, service: Service, template: TaskSpec, target: int
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield who failed beside the one it was to replace, if another is to be tried."""
    newest: dict[Place, Task] = {}
    for task in sorted(state.of_service(service.id), key=lambda each: each.created_at):
        newest[Place.of(task)] = task
    leaving = {
        Place.of(task)
        for task in state.of_service(service.id)
        if lifecycle.live(task) and (task.moving or task.spec_version != target)
    }
    for place, task in newest.items():
        is_tried_again = (
            lifecycle.wanted(task)
            and task.spec_version == target
            and _may_be_replaced(state, service, template, task)
        )
        if place in leaving and is_tried_again and task.status.state.finished:
            yield f"{state.called(task)} is {task.status.state.value}", (task.id, service.id)


def _all_well(state: State, service: Service) -> bool:
    tasks = (task for task in state.of_service(service.id) if lifecycle.live(task))
    return all(_is_well(state, task) for task in tasks)


def _order(task: Task) -> tuple[bool, float, str]:
    return lifecycle.live(task), task.created_at, task.id


def _is_well(state: State, task: Task) -> bool:
    status = task.status.state
    if status is TaskState.COMPLETE:
        own = state.versions.get((task.service_id, task.spec_version))
        return own is not None and own.spec.task.restart.condition is not RestartCondition.ANY
    return status is TaskState.RUNNING and task.desired_state is TaskState.RUNNING


def _may_be_replaced(state: State, service: Service, template: TaskSpec, task: Task) -> bool:
    """Tell whether a task that ended gets a successor: not on a node that takes nothing new."""
    node = state.nodes.get(task.node_id)
    is_global = service.spec.mode is ServiceMode.GLOBAL
    return not is_global or (node is not None and _takes_global(node, template))


def _takes_global(node: Node, template: TaskSpec) -> bool:
    placement, mounts = template.placement, template.container.mounts
    return (
        is_open(node)
        and all(matches(parse(each), NodeFacts.of(node)) for each in placement.constraints)
        and all(team in placement.tolerates for team in node.spec.reserved_for)
        and all(mount.source in node.spec.volumes for mount in mounts if mount.bound)
    )


def _containers(state: State, agent: AgentStation) -> Iterator[tuple[str, tuple[str, ...]]]:
    alive = {
        one.task_id: one.name for one in agent.engine.containers() if one.alive and one.task_id
    }
    running = {
        task.id: state.called(task)
        for task in state.on_node(agent.node_id)
        if task.status.state is TaskState.RUNNING
    }
    for task_id, name in alive.items():
        if task_id not in running:
            yield f"{name} runs on {agent.host}, its task does not", (task_id, agent.node_id)
    for task_id, name in running.items():
        if task_id not in alive:
            yield f"{name} is said to run on {agent.host}", (task_id, agent.node_id)
    if agent.foreign_id not in [one.id for one in agent.engine.containers()]:
        yield f"a foreign container on {agent.host} is gone", (agent.node_id,)


def _view(world: World, manager: ManagerStation) -> Iterator[tuple[str, tuple[str, ...]]]:
    if manager.server is None or not manager.is_running:
        yield f"{manager.host} does not run", ()
        return
    view, judge = manager.server.view, world.judge
    held = {kind: getattr(judge.state, kind) for kind in KINDS}
    held |= {"sessions": judge.sessions, "managers": judge.managers}
    for kind, stored in held.items():
        seen = getattr(view, kind)
        for key in sorted(seen.keys() ^ stored.keys()):
            yield f"{manager.host} sees {kind} otherwise: {key}", (str(key),)
        for key, value in stored.items():
            if key in seen and seen[key].version != value.version:
                yield f"{manager.host} sees {kind} otherwise: {key}", (str(key),)
