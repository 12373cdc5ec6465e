"""Services: the right number of tasks, each of the right version, each in a place of its own.

A *place* is what a service has a task in: a slot of a replicated service, a node of a global
one. A place has at most one live task (I2). Whatever ends a task, its successor is made in the
same place by the same rules:

* it may be made ready at once (image pulled, container created), but
* it starts only when its predecessors have ended and its restart delay has passed.

``plan`` is pure: facts in, changes out.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NewType

import msgspec

from cluster import lifecycle
from cluster.eligibility import eligible
from cluster.ids import IdSource
from cluster.model import (
    NO_NODE,
    Availability,
    Node,
    NodeId,
    NodeState,
    Service,
    ServiceId,
    ServiceMode,
    ServiceVersion,
    Task,
    TaskId,
    TaskState,
    TaskStatus,
)
from manager import view as views
from manager.committer import Change
from manager.reconcilers import restart
from manager.reconcilers.loop import Plan

# Beyond its grace period, so long may a task take to stop before its successor starts anyway.
# It stands for a Docker daemon that hangs: waiting for ever would leave the place empty.
STOP_SECONDS_MAX = 60.0

TICK_SECONDS = 1e-6  # the least by which two times of records are told apart
CLOCK_SLACK_SECONDS = 1.0  # a task made this much ahead of now tells of a clock that went back

Place = NewType("Place", str)


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a plan may look at.

    Attributes:
        service: as it is now.
        versions: specs that its tasks name, by number.
        tasks: all of the service's, ended ones included.
        nodes: all of the cluster's.
        now: seconds since 1970 UTC.
        new_id: makes the id of a new task.
        jitter: a random number in [0, 1).
    """

    service: Service
    versions: Mapping[int, ServiceVersion]
    tasks: Sequence[Task]
    nodes: Mapping[NodeId, Node]
    now: float
    new_id: Callable[[], TaskId]
    jitter: restart.Jitter


def plan(facts: Facts) -> Plan:
    """Return the changes that bring the service nearer to its spec; none when all is well."""
    places = by_place(facts)
    wanted, surplus = wanted_places(facts, places)
    changes = [
        change
        for place in surplus
        for task in places[place]
        for change in discard(task, "its place is no longer wanted")
    ]
    waits: list[float] = []
    outdated: list[Place] = []
    unavailable = 0
    for place in wanted:
        history = places.get(place, [])
        holders = [task for task in history if lifecycle.live(task)]
        changes += [_stop(task, "another task holds its place") for task in holders[1:]]
        if not holders:
            if (pause := _pause(facts, history)) > 0:
                unavailable += 1
                waits.append(pause)
                continue
            made = _successor(facts, place, history)
            if made is not None:
                changes.append(Change(save=(made,), why="its place has no live task"))
                unavailable += 1
                if made.start_after:
                    waits.append(made.start_after - facts.now)
            continue
        holder = holders[0]
        if is_outdated(facts, holder):
            outdated.append(place)
            continue
        if holder.status.state is not TaskState.RUNNING:
            unavailable += 1
        if holder.desired_state is TaskState.READY:
            change, wait = _release(facts, holder, history)
            changes += change
            waits += wait
    changes += _roll(facts, places, outdated, unavailable)
    return Plan(changes, min(waits, default=None))


# --- places ---


def by_place(facts: Facts) -> dict[Place, list[Task]]:
    """Return the tasks of each place, the newest first; a live one before those that are not."""
    places: dict[Place, list[Task]] = {}
    newest_first = sorted(
        facts.tasks,
        key=lambda task: (lifecycle.live(task), task.spec_version, task.created_at, task.id),
        reverse=True,
    )
    for task in newest_first:
        places.setdefault(place_of(facts.service, task), []).append(task)
    return places


def place_of(service: Service, task: Task) -> Place:
    is_global = service.spec.mode is ServiceMode.GLOBAL
    return Place(task.node_id if is_global else str(task.slot))


def wanted_places(
    facts: Facts, places: Mapping[Place, Sequence[Task]]
) -> tuple[list[Place], list[Place]]:
    """Return the places that shall have a task, and those whose tasks shall go."""
    in_use = [place for place, history in places.items() if _is_in_use(history)]
    if facts.service.spec.mode is ServiceMode.GLOBAL:
        keep = [place for place in in_use if _stays_on(facts, facts.nodes.get(NodeId(place)))]
        opened = [
            Place(node.id)
            for node in facts.nodes.values()
            if Place(node.id) not in keep and _comes_to(facts, node)
        ]
        return keep + sorted(opened), [place for place in in_use if place not in keep]
    replicas = facts.service.spec.replicas
    if len(in_use) > replicas:
        kept = _best_places(facts, places, in_use, replicas)
        return kept, [place for place in in_use if place not in kept]
    number = 0
    while len(in_use) < replicas:
        number += 1
        if Place(str(number)) not in in_use:
            in_use.append(Place(str(number)))
    return in_use, []


def _is_in_use(history: Sequence[Task]) -> bool:
    """Tell whether the place is taken: by a live task, or by one that ended by itself."""
    return lifecycle.wanted(history[0])


def _best_places(
    facts: Facts,
    places: Mapping[Place, Sequence[Task]],
    in_use: Sequence[Place],
    count: int,
) -> list[Place]:
    """Return the *count* places to keep on scaling down.

    Those that run stay, current ones first; the crowded nodes give first, then the high slots.
    """
    crowd: dict[NodeId, int] = {}
    rank: list[tuple[bool, bool, int, int, Place]] = []
    for place in sorted(in_use, key=int):
        task = places[place][0]
        nth_on_node = 0
        if task.node_id:
            crowd[task.node_id] = nth_on_node = crowd.get(task.node_id, 0) + 1
        runs = lifecycle.live(task) and task.status.state is TaskState.RUNNING
        rank.append((not runs, is_outdated(facts, task), nth_on_node, int(place), place))
    return sorted((place for *_, place in sorted(rank)[:count]), key=int)


def _stays_on(facts: Facts, node: Node | None) -> bool:
    return node is not None and eligible(facts.service.spec.task, node)


def _comes_to(facts: Facts, node: Node) -> bool:
    return (
        node.status.state is NodeState.READY
        and node.spec.availability is Availability.ACTIVE
        and eligible(facts.service.spec.task, node)
    )


# --- tasks ---


def is_outdated(facts: Facts, task: Task) -> bool:
    if task.spec_version == facts.service.spec_version:
        return False
    version = facts.versions.get(task.spec_version)
    return version is None or lifecycle.needs_replacing(version.spec.task, facts.service.spec.task)


def discard(task: Task, why: str) -> list[Change]:
    """Return what makes *task* vanish: at once if nothing of it runs, else after its end."""
    if task.status.state < TaskState.ASSIGNED or task.status.state.finished:
        return [Change(drop=(task,), why=why)]
    if task.desired_state is TaskState.REMOVE:
        return []
    removed = msgspec.structs.replace(task, desired_state=TaskState.REMOVE)
    return [Change(save=(removed,), why=why)]


def _stop(task: Task, why: str, *, successor: tuple[Task, ...] = ()) -> Change:
    """Return what ends *task*, in one go with the making of its successor."""
    if task.status.state < TaskState.ASSIGNED:
        return Change(save=successor, drop=(task,), why=why)
    stopped = msgspec.structs.replace(
        task, desired_state=max(task.desired_state, TaskState.SHUTDOWN)
    )
    return Change(save=(stopped, *successor), why=why)


def _pause(facts: Facts, history: Sequence[Task]) -> float:
    """Return for how many seconds the place stays as it is though a task of it has ended.

    A task that ended before it was let to start could not even be made ready, for instance for
    want of its image. The next one would fail as soon, so it is not made before its time either.
    """
    last = history[0] if history else None
    if last is None or not lifecycle.wanted(last) or is_outdated(facts, last):
        return 0.0
    return 0.0 if _clock_went_back(facts, last) else last.start_after - facts.now


def _successor(facts: Facts, place: Place, history: Sequence[Task]) -> Task | None:
    """Return the next task of a place that has no live one; None if it stays as it is."""
    last = history[0] if history else None
    ended_by_itself = last is not None and lifecycle.wanted(last)
    if last is None or not ended_by_itself or is_outdated(facts, last):
        if facts.service.spec.mode is ServiceMode.GLOBAL:
            node = facts.nodes.get(NodeId(place))
            if node is None or not _comes_to(facts, node):
                return None
        return _new_task(facts, place, history, failures=0, delay=0.0)
    policy = facts.service.spec.task.restart
    if not restart.may_restart(policy, last, history, facts.now):
        return None
    if facts.service.spec.mode is ServiceMode.GLOBAL and not _comes_to(
        facts, facts.nodes[NodeId(place)]
    ):
        return None
    failures = restart.failures_after(last, facts.now)
    delay = restart.delay_seconds(policy, failures, facts.jitter)
    return _new_task(facts, place, history, failures=failures, delay=delay)


def _new_task(
    facts: Facts, place: Place, history: Sequence[Task], *, failures: int, delay: float
) -> Task:
    is_global = facts.service.spec.mode is ServiceMode.GLOBAL
    may_start = delay <= 0 and not _still_stopping(history)
    # Later than its predecessors', though the clock stood still or went back: it is their order.
    created_at = max([facts.now, *(task.created_at + TICK_SECONDS for task in history)])
    return Task(
        id=facts.new_id(),
        service_id=facts.service.id,
        spec_version=facts.service.spec_version,
        slot=0 if is_global else int(place),
        node_id=NodeId(place) if is_global else NO_NODE,
        desired_state=TaskState.RUNNING if may_start else TaskState.READY,
        status=TaskStatus(state=TaskState.NEW, at=facts.now),
        created_at=created_at,
        start_after=facts.now + delay if delay > 0 else 0.0,
        failures=failures,
    )


def _release(
    facts: Facts, holder: Task, history: Sequence[Task]
) -> tuple[list[Change], list[float]]:
    """Let a task that was held back run, or tell in how many seconds to look again."""
    clock_went_back = _clock_went_back(facts, holder)
    wait = 0.0 if clock_went_back else holder.start_after - facts.now
    if wait > 0:
        return [], [wait]
    if _still_stopping([task for task in history if task is not holder]):
        over_in = holder.created_at + _stop_seconds(facts) - facts.now
        if over_in > 0 and not clock_went_back:
            return [], [over_in]
    released = msgspec.structs.replace(holder, desired_state=TaskState.RUNNING)
    return [Change(save=(released,), why="it may start now")], []


def _clock_went_back(facts: Facts, task: Task) -> bool:
    """Tell whether a wait counted from the task's times would be longer than was ever asked for."""
    return facts.now < task.created_at - CLOCK_SLACK_SECONDS


def _still_stopping(history: Iterable[Task]) -> bool:
    return any(lifecycle.occupies(task) for task in history)


def _stop_seconds(facts: Facts) -> float:
    graces = [version.spec.task.container.stop_grace_seconds for version in facts.versions.values()]
    return STOP_SECONDS_MAX + max(graces, default=0.0)


# --- updates ---


def _roll(
    facts: Facts,
    places: Mapping[Place, Sequence[Task]],
    outdated: Sequence[Place],
    unavailable: int,
) -> list[Change]:
    """Replace outdated tasks, as many at a time as the service allows.

    What does not run serves nobody: it is replaced regardless. A running task gives way only
    while fewer than ``parallelism`` places are without a running one.
    """
    parallelism = facts.service.spec.update.parallelism or len(places)
    changes: list[Change] = []
    running: list[Place] = []
    for place in outdated:
        if places[place][0].status.state is TaskState.RUNNING:
            running.append(place)
        else:
            changes.append(_replace(facts, place, places[place]))
            unavailable += 1
    given_way = running[: max(0, parallelism - unavailable)]
    return changes + [_replace(facts, place, places[place]) for place in given_way]


def _replace(facts: Facts, place: Place, history: Sequence[Task]) -> Change:
    old = history[0]
    new = _new_task(facts, place, history, failures=0, delay=0.0)
    return _stop(old, "the service has a new version", successor=(new,))


# --- the reconciler ---


class ServiceReconciler:
    """Plans one service at a time; a service that is gone has its tasks removed."""

    name = "services"

    def __init__(self, view: views.View, ids: IdSource, jitter: restart.Jitter) -> None:
        self._view = view
        self._ids = ids
        self._jitter = jitter

    def concerned(self, change: views.Change) -> Iterable[ServiceId]:
        match change.either:
            case Service() as service:
                return [service.id]
            case Task() as task:
                return [task.service_id]
            case Node():
                return [
                    service.id
                    for service in self._view.services.values()
                    if service.spec.mode is ServiceMode.GLOBAL
                ]
        return []

    def everything(self) -> Iterable[ServiceId]:
        return {*self._view.services, *(task.service_id for task in self._view.tasks.values())}

    def plan(self, key: ServiceId, now: float) -> Plan:
        tasks = list(self._view.tasks_of_service(key))
        service = self._view.services.get(key)
        if service is None:
            gone = [discard(task, "its service was removed") for task in tasks]
            return Plan([change for changes in gone for change in changes])
        numbers = {service.spec_version, *(task.spec_version for task in tasks)}
        versions = {
            number: version
            for number in numbers
            if (version := self._view.versions.get((key, number))) is not None
        }
        return plan(
            Facts(
                service=service,
                versions=versions,
                tasks=tasks,
                nodes=self._view.nodes,
                now=now,
                new_id=lambda: TaskId(self._ids.new()),
                jitter=self._jitter,
            )
        )
