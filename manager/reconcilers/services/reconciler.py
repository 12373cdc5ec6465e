"""The shell: gathers the facts of one service at a time from the view."""

from collections.abc import Iterable
from dataclasses import replace

from cluster import dependencies, lifecycle
from cluster.clock import Clock
from cluster.ids import IdSource
from cluster.model import (
    JobStatus,
    Node,
    Scaling,
    Service,
    ServiceId,
    ServiceMode,
    ServiceSpec,
    Task,
    TaskId,
    TaskState,
)
from manager import view as views
from manager.committer import Change
from manager.reconcilers import restart
from manager.reconcilers.dependents import Dependents, world_of
from manager.reconcilers.loop import Plan
from manager.reconcilers.services.facts import Facts
from manager.reconcilers.services.plan import plan
from manager.reconcilers.services.sightings import Sightings
from scheduler import Demand, explain, snapshot_of


class ServiceReconciler:
    """Plans one service at a time; jobs and tasks of services that are gone are others' business.

    It remembers since when it knows each task to be held back, or to be asked to end; a new leader
    counts anew.
    """

    name = "services"

    def __init__(
        self, view: views.View, ids: IdSource, jitter: restart.Jitter, clock: Clock
    ) -> None:
        self._view = view
        self._ids = ids
        self._jitter = jitter
        self._clock = clock
        self._sightings = Sightings()
        self._held_since: dict[TaskId, float] = {}
        self._ends_since: dict[TaskId, float] = {}
        self._dependents = Dependents(view)
        self._world = world_of(view)

    def concerned(self, change: views.Change) -> Iterable[ServiceId]:
        waiting = self._dependents.concerned(change)
        match change.either:
            case Service() as service:
                return [service.id, *waiting]
            case Scaling() as scaling:
                return [scaling.service_id, *waiting]
            case Task() as task:
                self._note_held(task, gone=change.new is None)
                return [task.service_id, *waiting]
            case JobStatus():
                return waiting
            case Node():
                return [
                    service.id
                    for service in self._view.services.values()
                    if service.spec.mode is ServiceMode.GLOBAL or service.spec.depends_on
                ]
        return []

    def everything(self) -> Iterable[ServiceId]:
        return dict.fromkeys((*self._view.services, *self._view.rollouts))

    def plan(self, key: ServiceId, now: float) -> Plan:
        service = self._view.services.get(key)
        if service is None:
            return self._remains(key)
        if service.spec.mode.is_job:
            return Plan()
        tasks = list(self._view.tasks_of_service(key))
        for task in tasks:
            self._note_held(task)
        service = self._view.as_scaled(service)
        rollout = self._view.rollouts.get(key)
        facts = Facts(
            service=service,
            versions=self._view.versions_of_service(key),
            tasks=tasks,
            nodes=self._view.nodes,
            now=now,
            new_id=lambda: TaskId(self._ids.new()),
            jitter=self._jitter,
            rollout=rollout,
            held_seconds=self._held_seconds,
            fits_without=self._fits_without,
            waits_for=dependencies.waits_for(service, self._world),
            leaving=self._view.leaving,
        )
        is_quiet = (
            rollout is not None
            and rollout.state.settled
            and facts.alike(rollout.spec_version, service.spec_version)
            and not any(lifecycle.occupies(task) and not lifecycle.wanted(task) for task in tasks)
        )
        if is_quiet:
            self._sightings.forget(key)
            return plan(facts)
        seen = self._sightings.look(key, tasks, self._clock.monotonic())
        return plan(replace(facts, seen=seen))

    def _note_held(self, task: Task, *, gone: bool = False) -> None:
        is_held = task.desired_state is TaskState.READY
        ends = not lifecycle.wanted(task) and lifecycle.occupies(task)
        for since, applies in ((self._held_since, is_held), (self._ends_since, ends)):
            if not applies or gone:
                since.pop(task.id, None)
            elif task.id not in since:
                since[task.id] = self._clock.monotonic()

    def _held_seconds(self, task_id: TaskId) -> float:
        now = self._clock.monotonic()
        return now - self._held_since.get(task_id, self._ends_since.get(task_id, now))

    def _remains(self, key: ServiceId) -> Plan:
        self._sightings.forget(key)
        rollout = self._view.rollouts.get(key)
        if rollout is None:
            return Plan()
        return Plan([Change(drop=(rollout,), why="its service was removed")])

    def _fits_without(self, successor: Task, holder: Task) -> bool:
        """Tell whether *successor* could be bound if *holder* were gone.

        Only the holder's node would have more to offer, so only that is looked at; but whether a
        service is to be near others or apart is for the whole cluster to say.
        """
        spec = self._spec_of(successor)
        node = self._view.nodes.get(holder.node_id)
        if spec is None or node is None or (successor.node_id or node.id) != node.id:
            return False
        nodes: Iterable[Node] = [node]
        tasks = self._view.tasks_on_node(holder.node_id)
        if spec.task.placement.affinities:
            nodes, tasks = self._view.nodes.values(), self._view.tasks.values()
        rest = (task for task in tasks if task.id not in (holder.id, successor.id))
        snapshot = snapshot_of(nodes, rest, self._spec_of)
        demand = Demand.of(successor.service_id, spec)
        return explain(snapshot, demand, node_id=node.id).chosen is not None

    def _spec_of(self, task: Task) -> ServiceSpec | None:
        version = self._view.version_of(task)
        return version.spec if version else None
