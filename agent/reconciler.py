"""Decide what to do about this host's tasks. Pure: facts in, actions out.

Level-driven: nothing is remembered but what was reported. Each call compares what the manager
assigned with the containers that there are, and returns the next step for each task; taking it
makes facts for the next call. Facts that are as they should be yield no action (I18).

The one rule: a task runs once. Whatever has ended, been lost or been refused is reported and
never started again; a restart is a new task, and the manager's business.

| desired             | no container          | created      | alive                     | ended  |
| ------------------- | --------------------- | ------------ | ------------------------- | ------ |
| ready               | prepare; gone: failed | report ready | report; stop if unhealthy | report |
| running, complete   | prepare; gone: failed | start        | report; stop if unhealthy | report |
| shutdown            | report                | report       | stop                      | report |
| remove              | report                | remove       | stop                      | remove |
| *it has finished*   | nothing               | nothing      | stop                      | keep   |
| *not ours any more* | nothing               | remove       | stop                      | remove |

Only containers that carry our cluster's and node's labels are ever among the facts (I10), and
nothing at all is done before a manager of our cluster has sent a complete set; but what runs on
a lease that is nearly over stops in any case.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from agent.runtime.interface import Container, ContainerId, ContainerState, Health
from cluster.model import Assignment, ServiceId, TaskId, TaskSpec, TaskState, TaskStatus

# How long after a signal by somebody else an end still counts as its doing, beyond the
# container's own grace: the daemon's and our own delays in telling.
SIGNAL_SLACK_SECONDS = 5.0

CONTACT_LOST = "fenced: its host had no contact with a manager for most of its lease"

SpecKey = tuple[ServiceId, int]

_SIGNALS = {1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 6: "SIGABRT", 9: "SIGKILL", 11: "SIGSEGV"}
_SIGNALS |= {13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM"}
_SIGNAL_BASE = 128  # shells and Docker add a deadly signal's number to it


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the manager."""

    task_id: TaskId
    status: TaskStatus


@dataclass(frozen=True, slots=True)
class Prepare:
    """Get the image, the networks and the container, but do not start it."""

    assignment: Assignment
    spec: TaskSpec

    @property
    def task_id(self) -> TaskId:
        return self.assignment.task_id


@dataclass(frozen=True, slots=True)
class Start:
    """Start the prepared container."""

    assignment: Assignment
    spec: TaskSpec
    container_id: ContainerId

    @property
    def task_id(self) -> TaskId:
        return self.assignment.task_id


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop a container with its own signal and grace; keep what is left of it."""

    task_id: TaskId
    container_id: ContainerId
    reason: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a dead container."""

    task_id: TaskId
    container_id: ContainerId


@dataclass(frozen=True, slots=True)
class Cancel:
    """Give up what is under way for a task that is not wanted any more."""

    task_id: TaskId


Step = Prepare | Start | Stop | Remove
Action = Step | Report | Cancel


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a decision rests on.

    Attributes:
        is_complete: *assignments* is the whole set, from a manager of our cluster.
        specs: what the assignments' service versions say.
        containers: all of ours, as last seen.
        statuses: what we know or reported of each task.
        busy: the step that is under way for a task; nothing else is done to it meanwhile.
        signalled_at: when somebody sent a container a signal that was not ours.
        found_dead: those that were dead already when this agent first looked.
        interrupted: those that were alive when the engine went away, and dead when it was back.
        booted_at: when the host came up.
        overdue: fenced ones whose lease is nearly over: they stop, manager or no manager.
        now: all times are the wall clock's, seconds since 1970 UTC.
    """

    now: float
    is_complete: bool = False
    assignments: Mapping[TaskId, Assignment] = field(default_factory=dict)
    specs: Mapping[SpecKey, TaskSpec] = field(default_factory=dict)
    containers: Collection[Container] = ()
    statuses: Mapping[TaskId, TaskStatus] = field(default_factory=dict)
    busy: Mapping[TaskId, Step] = field(default_factory=dict)
    signalled_at: Mapping[ContainerId, float] = field(default_factory=dict)
    found_dead: Collection[ContainerId] = ()
    interrupted: Collection[ContainerId] = ()
    booted_at: float = 0.0
    overdue: Collection[ContainerId] = ()


def plan(facts: Facts) -> list[Action]:
    """Return the next step of each task that needs one."""
    fenced = list(_fenced(facts))
    if not facts.is_complete:
        return fenced
    by_task: defaultdict[TaskId, list[Container]] = defaultdict(list)
    for container in facts.containers:
        by_task[container.task_id].append(container)
    actions: list[Action] = fenced
    for task_id, assignment in facts.assignments.items():
        chosen, extra = _chosen(by_task.pop(task_id, []))
        actions += _Task(facts, assignment, chosen).actions()
        actions += _discard(facts, extra)
    for orphans in by_task.values():
        actions += _discard(facts, orphans)
    actions += _give_up_what_was_dropped(facts)
    return actions


def _chosen(containers: Sequence[Container]) -> tuple[Container | None, Sequence[Container]]:
    """Return a task's container and those that should not be; there never are any."""
    if not containers:
        return None, ()
    first, *extra = sorted(containers, key=lambda one: (not one.alive, one.id))
    return first, extra


def _fenced(facts: Facts) -> Iterator[Action]:
    """Stop what must not run any longer, whatever was assigned."""
    for container in facts.containers:
        if container.alive and container.id in facts.overdue:
            step = facts.busy.get(container.task_id)
            if step is None:
                yield Stop(container.task_id, container.id, CONTACT_LOST)
            elif isinstance(step, Prepare | Start):
                yield Cancel(container.task_id)


def _discard(facts: Facts, containers: Sequence[Container]) -> Iterator[Action]:
    for container in containers:
        if container.task_id in facts.busy or (container.alive and container.id in facts.overdue):
            continue
        if container.alive:
            yield Stop(container.task_id, container.id, "not assigned to this node any more")
        else:
            yield Remove(container.task_id, container.id)


def _give_up_what_was_dropped(facts: Facts) -> Iterator[Action]:
    for task_id, step in facts.busy.items():
        if task_id not in facts.assignments and isinstance(step, Prepare | Start):
            yield Cancel(task_id)


@dataclass(frozen=True, slots=True)
class _Task:
    """One assignment with its container."""

    facts: Facts
    assignment: Assignment
    container: Container | None

    @property
    def id(self) -> TaskId:
        return self.assignment.task_id

    @property
    def state(self) -> TaskState:
        """How far the task has come, by what we know and what the manager knew."""
        known = self.facts.statuses.get(self.id)
        return max(self.assignment.state, known.state) if known else self.assignment.state

    @property
    def is_wanted(self) -> bool:
        return self.assignment.desired_state <= TaskState.COMPLETE

    def actions(self) -> Iterator[Action]:
        container = self.container
        if container is not None and container.alive and container.id in self.facts.overdue:
            return  # it is being stopped
        if (step := self.facts.busy.get(self.id)) is not None:
            if not self.is_wanted and isinstance(step, Prepare | Start):
                yield Cancel(self.id)
        elif self.state.finished:
            yield from self._clean_up()
        elif self.is_wanted:
            yield from self._go_on()
        else:
            yield from self._end()

    def _clean_up(self) -> Iterator[Action]:
        """See that what has finished does not run; keep it for its logs until it is dropped."""
        if self.container is None:
            return
        if self.container.alive:
            yield Stop(self.id, self.container.id, "the task has finished")
        elif self.assignment.desired_state is TaskState.REMOVE:
            yield Remove(self.id, self.container.id)

    def _end(self) -> Iterator[Action]:
        """Bring a task that is not wanted any more to its end."""
        container = self.container
        if container is not None and container.alive:
            yield Stop(self.id, container.id, "asked to stop")
            return
        if container is not None and container.state is ContainerState.CREATED:
            # A start that was called off may have happened: it has ended when nothing is there.
            yield Remove(self.id, container.id)
            return
        code = None if container is None else container.exit_code
        yield self._report(TaskState.SHUTDOWN, message="stopped as asked", exit_code=code)
        if container is not None and self.assignment.desired_state is TaskState.REMOVE:
            yield Remove(self.id, container.id)

    def _go_on(self) -> Iterator[Action]:
        """Bring a wanted task one step further."""
        container = self.container
        if container is None:
            yield from self._begin()
        elif container.state is ContainerState.CREATED:
            yield from self._start(container)
        elif container.alive:
            yield from self._watch(container)
        else:
            yield self._ended(container)

    def _begin(self) -> Iterator[Action]:
        if self.state >= TaskState.STARTING:
            yield self._report(TaskState.FAILED, error="its container is gone")
            return
        if self.state < TaskState.ACCEPTED:
            yield self._report(TaskState.ACCEPTED)
        yield from self._prepare()

    def _prepare(self) -> Iterator[Action]:
        spec = self._spec()
        if spec is not None:
            yield Prepare(self.assignment, spec)

    def _start(self, container: Container) -> Iterator[Action]:
        if self.state < TaskState.READY:
            yield from self._prepare()  # it may have been left half done; the steps repeat well
        elif self.assignment.desired_state in (TaskState.RUNNING, TaskState.COMPLETE):
            spec = self._spec()
            if spec is not None:
                yield Start(self.assignment, spec, container.id)

    def _watch(self, container: Container) -> Iterator[Action]:
        if container.health is Health.UNHEALTHY:
            yield Stop(self.id, container.id, _unhealthy(container))
        elif container.health is Health.STARTING:
            if self.state < TaskState.STARTING:
                yield self._report(TaskState.STARTING, message="waiting for its health check")
        elif self.state < TaskState.RUNNING:
            yield self._report(TaskState.RUNNING)

    def _ended(self, container: Container) -> Report:
        code = container.exit_code
        if error := self._fault(container):
            return self._report(TaskState.FAILED, error=error, exit_code=code)
        return self._report(TaskState.COMPLETE, message="exited with code 0", exit_code=code)

    def _fault(self, container: Container) -> str:
        """Return why the end was a bad one; empty if it was a good one."""
        if container.health is Health.UNHEALTHY:
            return _unhealthy(container)
        if container.id in self.facts.overdue:
            return CONTACT_LOST
        if container.exit_code:
            return _bad_exit(container)
        # From here on the exit code is 0: well done, unless others made it end.
        was_up = container.started_at > self.facts.booted_at
        if container.id in self.facts.found_dead and not was_up:
            return "ended when the host went down"
        if container.id in self.facts.interrupted:
            return "ended together with Docker"
        signalled_at = self.facts.signalled_at.get(container.id)
        patience = container.stop_grace_seconds + SIGNAL_SLACK_SECONDS
        if signalled_at is not None and container.ended_at <= signalled_at + patience:
            return "was stopped from outside the cluster"
        return ""

    def _spec(self) -> TaskSpec | None:
        return self.facts.specs.get((self.assignment.service_id, self.assignment.spec_version))

    def _report(
        self,
        state: TaskState,
        *,
        message: str = "",
        error: str = "",
        exit_code: int | None = None,
    ) -> Report:
        status = TaskStatus(
            state=state,
            at=self.facts.now,
            message=message,
            error=error,
            exit_code=exit_code,
            container_id="" if self.container is None else self.container.id,
        )
        return Report(self.id, status)


def _unhealthy(container: Container) -> str:
    output = container.health_output
    return f"unhealthy: {output}" if output else "unhealthy"


def _bad_exit(container: Container) -> str:
    code = container.exit_code or 0
    if container.oom_killed:
        limit = container.memory_limit_bytes
        return (
            f"out of memory: killed at its limit of {limit >> 20} MiB"
            if limit
            else ("out of memory: killed by the host's kernel")
        )
    signal = _SIGNALS.get(code - _SIGNAL_BASE)
    ended = f"exited with code {code}" + (f" ({signal})" if signal else "")
    return f"{ended}: {container.error}" if container.error else ended
