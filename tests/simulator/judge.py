"""What must hold of the simulated world, looked at whenever something happens that can matter.

What can be told from the cluster's objects alone is told by ``cluster.invariants``, fed with
every transaction. Here is what takes a look from outside: who wrote it, what really runs, what
operators were promised.
"""

import dataclasses
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet

import msgspec

from agent.runtime import labels
from agent.runtime.interface import Container, Health
from cluster import invariants
from cluster.invariants import Breach, Gates, Name, Place, State, Step
from cluster.lifecycle import occupies, serves, wanted
from cluster.model import (
    NO_NODE,
    AskedMove,
    Cluster,
    JobStatus,
    LostNodePolicy,
    Manager,
    ManagerId,
    MoveState,
    Node,
    NodeId,
    NodeSpec,
    Object,
    Rollout,
    Scaling,
    Service,
    ServiceId,
    ServiceSpec,
    ServiceVersion,
    Session,
    Task,
    TaskId,
    TaskState,
)
from cluster.model import Event as Told
from manager import records
from manager.journal.entries import events_of
from manager.reconcilers.services.tasks import STOP_SECONDS_MAX
from manager.store import keys
from manager.store.interface import Changed, Event, KeyValue, Revision
from tests.simulator.engine import Engine
from tests.simulator.loop import Process, SimulatorLoop
from tests.simulator.moves import Moves
from tests.simulator.neighbours import Neighbours
from tests.simulator.runs import Runs
from tests.simulator.store import Commit
from tests.simulator.takings import Takings
from tests.simulator.trace import Trace

# New tasks of one place within a minute: what a crash loop may come to is a third of that, and
# what operators and lost nodes add is little.
TASKS_A_MINUTE_MAX = 20
MINUTE_SECONDS = 60.0

# After news of a host, such as which images it has, waiting tasks may say within so long what they
# lack there.
TOLD_SECONDS = 1.0

# How the journal's reason begins when a task is stopped for the sake of one of a higher priority.
PREEMPTED = "it makes room for task"

# A fenced container that an agent starts in the moment in which it is stopped lives for so long at
# most: its guard looks ten times a second.
GUARD_SECONDS = 0.3

# By so much a manager's clock may be slow against the store's over the life of a lease.
LEASE_SLACK_SECONDS = 0.05


class Judge:
    """Follows everything; notes the first breach and halts the loop.

    Attributes:
        state: the cluster's objects as the store holds them.
        sessions, managers, rollouts: likewise.
        breach: the first that was found.
        decisions: how many transactions changed anything but leases' keys, and what was seen of
            hosts and versions.
        cluster: its record.
        rounds: how often something new began that may begin in a healed cluster: moves for a
            better layout were asked for, a rollout went on that waits for room, or tasks made way.
    """

    def __init__(self, loop: SimulatorLoop, trace: Trace) -> None:
        self.state = State(with_names=True)
        self.rollouts: dict[ServiceId, Rollout] = {}
        self._gates = Gates(self.state)
        self._moves = Moves(self.state)
        self._runs = Runs(self.state)
        self._neighbours = Neighbours(self.state)
        self._takings = Takings(self.state, self.rollouts, lambda: self._loop.now)
        self.sessions: dict[NodeId, Session] = {}
        self.managers: dict[ManagerId, Manager] = {}
        self.leader: KeyValue | None = None
        self.breach: Breach | None = None
        self.decisions = 0
        self.cluster: Cluster | None = None
        self.rounds = 0
        self.commits = 0
        self._loop = loop
        self._trace = trace
        self._objects: dict[str, Object] = {}
        self._manager_ids: dict[str, Process] = {}
        self._terms: dict[Process, Revision] = {}
        self._node_told_at = -TOLD_SECONDS
        self._node_of: dict[TaskId, NodeId] = {}  # every task that ever was bound
        self._ended_at: dict[TaskId, float] = {}  # when it was asked to end
        self._running: dict[TaskId, Engine] = {}
        self._fenced: dict[TaskId, None] = {}
        self._places: dict[TaskId, Place] = {}
        self._services: dict[tuple[str, Revision], ServiceSpec] = {}
        self._nodes: dict[tuple[str, Revision], NodeSpec] = {}
        self._removed: dict[str, None] = {}
        self._made: dict[Place, deque[float]] = {}

    # --- what others tell ---------------------------------------------------------------------

    def found(self, breach: Breach) -> None:
        if self.breach is None:
            self.breach = breach
            self._trace.tell(self._loop.now, "judge", f"BREACH {breach}", *breach.objects)
            self._loop.halt()

    def found_all(self, breaches: Iterable[Breach]) -> None:
        for breach in breaches:
            if breach.certain:
                self.found(breach)

    def manager_began(self, manager_id: str, process: Process) -> None:
        self._manager_ids[manager_id] = process

    def term_of(self, process: Process) -> Revision:
        """Return the latest of the terms that this manager has led in; 0 if it has in none."""
        return self._terms.get(process, 0)

    # --- the store ----------------------------------------------------------------------------

    def committed(self, commit: Commit) -> None:
        """Take a transaction; look at all that it could have broken."""
        self.commits += 1
        leader = self.leader
        steps: list[Step] = []
        names: list[Name] = []
        leads = False
        told: dict[str, str] = {}
        for event in commit.events:
            if event.key.startswith(keys.JOURNAL):
                told |= {each.id: each.why for each in _told(event)}
                continue
            kind, rest = keys.split(event.key)
            if kind == "leader":
                self._take_leader(event, commit)
            elif kind == "names":
                names.append(self._take_name(event, rest))
            else:
                step = self._take_object(event, kind)
                self._tell(commit, step)
                if kind == "sessions":
                    continue
                steps.append(step)
                leads = leads or _is_the_leaders(step)
        if steps or names:
            self.decisions += any(map(self._is_decided, steps))
            self.found_all(self._as_known_here(invariants.after(self.state, steps, names)))
            for step in steps:
                self._gates.note(step)
            self.found_all(self._gates.breaches(steps))
            preempted = {key for key, why in told.items() if why.startswith(PREEMPTED)}
            scaled = any(isinstance(_either(step), Scaling) for step in steps)
            self.rounds += bool(preempted) + scaled
            self.found_all(self._moves.breaches(steps, preempted))
            self.found_all(self._takings.breaches(steps, preempted))
            self.found_all(self._runs.breaches(steps))
            self.found_all(self._released_in_time(steps))
            self.found_all(self._not_busy(steps))
            self.found_all(self._ends_are_true(steps))
            self.found_all(self._specs_have_one_owner(commit, steps))
            self.found_all(_is_all_told(steps, told.keys()))
        if leads:
            self.found_all(self._leader_leads(commit, leader))

    def _as_known_here(self, breaches: Iterable[Breach]) -> Iterator[Breach]:
        """Make certain what only who knows all that happened can tell."""
        for breach in breaches:
            if breach.invariant == "I6" and not breach.certain:
                task_id = TaskId(breach.objects[0])
                if not self._neighbours.are_believed(task_id, self._loop.now):
                    yield dataclasses.replace(breach, certain=True)
            else:
                yield breach

    def _is_decided(self, step: Step) -> bool:
        """Tell whether a step is more than news of a host, and what waiting tasks say of that."""
        match step:
            case (Node() as old, Node() as new):
                return (old.spec, old.status) != (new.spec, new.status)
            case (Task() as old, Task() as new) if (
                self._loop.now < self._node_told_at + TOLD_SECONDS
            ):
                waits = old.status.state is new.status.state is TaskState.PENDING
                same = msgspec.structs.replace(new, status=old.status, version=old.version)
                return not waits or same != old
            case (_, Rollout() as new):
                return not new.state.settled  # that a version has run well for a while is noted
        return not isinstance(_either(step), Manager)

    def _take_leader(self, event: Event, commit: Commit) -> None:
        if isinstance(event, Changed):
            self.leader = event.item
            process = self._manager_ids.get(event.item.value.decode())
            if process is not None:
                if self._terms.get(process) != event.item.create_revision:
                    self._trace.tell(self._loop.now, str(process), "leads")
                self._terms[process] = event.item.create_revision
        else:
            self._trace.tell(self._loop.now, str(commit.sender), "nobody leads")
            self.leader = None

    def _take_name(self, event: Event, rest: str) -> Name:
        kind, _, text = rest.partition("/")
        name = Name(kind, text)
        self.state.name(name, event.item.value.decode() if isinstance(event, Changed) else None)
        return name

    def _take_object(self, event: Event, kind: str) -> Step:
        old = self._objects.get(event.key)
        if isinstance(event, Changed):
            new = records.decode(event.item)
            assert new is not None
            self._objects[event.key] = new
            if kind == "sessions":
                assert isinstance(new, Session)
                self.sessions[new.node_id] = new
                return Step(old, new)
            if isinstance(new, Manager):
                self.managers[new.id] = new
            step = self.state.put(new)
        else:
            gone = self._objects.pop(event.key)
            if kind == "sessions":
                assert isinstance(gone, Session)
                self.sessions.pop(gone.node_id, None)
                return Step(gone, None)
            if isinstance(gone, Manager):
                self.managers.pop(gone.id, None)
            step = self.state.drop(gone)
        self._remember(Step(old, step.new))
        return Step(old, step.new)

    def _remember(self, step: Step) -> None:
        self._neighbours.note(step, self._loop.now)
        match step.new:
            case Task() as task:
                if occupies(task):
                    self._node_of[task.id] = task.node_id
                if not isinstance(step.old, Task) and self._is_fenced(task):
                    self._fenced[task.id] = None
                self._places.setdefault(task.id, Place.of(task))
                if task.desired_state > TaskState.RUNNING:
                    self._ended_at.setdefault(task.id, self._loop.now)
            case Rollout() as rollout:
                self.rounds += isinstance(step.old, Rollout) and not step.old.state.settled
                self.rollouts[rollout.service_id] = rollout
            case Service() as service:
                self._services[service.id, service.version] = service.spec
            case Node() as node:
                self._nodes[node.id, node.version] = node.spec
                self._node_told_at = self._loop.now
            case None if isinstance(step.old, Node):
                self._believe_gone(step.old)
            case Cluster() as cluster:
                before = self.cluster.moves if self.cluster is not None else ()
                self.rounds += not set(asked_moves(cluster.moves)) <= set(asked_moves(before))
                self.cluster = cluster

    def _tell(self, commit: Commit, step: Step) -> None:
        if not self._trace.is_kept:
            return
        value = _either(step)
        text = _described(step, self.state)
        if text:
            ids = _ids(value)
            self._trace.tell(
                self._loop.now, str(commit.sender), f"writes {commit.revision}: {text}", *ids
            )

    # --- invariants over writes ---------------------------------------------------------------

    def _leader_leads(self, commit: Commit, leader: KeyValue | None) -> Iterator[Breach]:
        """I4: what only a leader writes is written in its own term."""
        if leader is None or leader.create_revision != commit.term:
            now = f"term {leader.create_revision}" if leader else "nobody's term"
            objects = [event.key.rpartition("/")[2] for event in commit.events]
            yield Breach(
                "I4",
                tuple(objects),
                f"{commit.sender} wrote revision {commit.revision} as the leader of term"
                f" {commit.term}; it is {now}",
            )

    def _released_in_time(self, steps: Iterable[Step]) -> Iterator[Breach]:
        """I2: a successor starts when its predecessor has ended, or had all its time to."""
        for old, new in steps:
            if not isinstance(new, Task) or new.desired_state is not TaskState.RUNNING:
                continue
            if isinstance(old, Task) and old.desired_state is TaskState.RUNNING:
                continue
            for other in self.state.in_place(Place.of(new)):
                if other.id == new.id or not occupies(other):
                    continue
                if new.start_first and wanted(other):
                    continue  # that is what was asked for
                asked_at = self._ended_at.get(other.id)
                if asked_at is None or self._loop.now - asked_at < STOP_SECONDS_MAX:
                    since = (
                        "never" if asked_at is None else f"{self._loop.now - asked_at:.1f} s ago"
                    )
                    yield Breach(
                        "I2",
                        (new.id, other.id),
                        f"{self.state.called(new)} is let to run beside"
                        f" {self.state.called(other)}, which was asked to end {since}",
                    )

    def _not_busy(self, steps: Iterable[Step]) -> Iterator[Breach]:
        """I17: nothing is made over and over without a pause."""
        for old, new in steps:
            place = _where_made(old, new)
            if place is None:
                continue
            made = self._made.setdefault(place, deque())
            made.append(self._loop.now)
            while made[0] < self._loop.now - MINUTE_SECONDS:
                made.popleft()
            if len(made) > TASKS_A_MINUTE_MAX:
                what = self.state.service_called(place.service_id)
                where = (
                    f"place {place.slot or place.node_id}"
                    if place.slot or place.node_id
                    else "runs"
                )
                text = f"{what} has got {len(made)} in a minute for {where}"
                yield Breach("I17", (place.service_id,), text)

    def _ends_are_true(self, steps: Iterable[Step]) -> Iterator[Breach]:
        """I10: a task whose container runs has not ended, unless its node was lost."""
        for old, new in steps:
            if not isinstance(old, Task) or not isinstance(new, Task):
                continue
            state = new.status.state
            ended = state.finished and not old.status.state.finished
            if ended and state is not TaskState.ORPHANED and new.id in self._running:
                text = f"{self.state.called(new)} is said to be {state.value}"
                where = self._running[new.id].host
                error = f" ({new.status.error})" if new.status.error else ""
                text += f"{error}, yet its container runs on {where}"
                yield Breach("I10", (new.id, new.node_id), text)

    def lease_ended(self, process: Process, seconds_left: float) -> None:
        """I4: nobody relies on a lease longer than the store keeps it."""
        if seconds_left > LEASE_SLACK_SECONDS:
            text = f"{process} believes that its lease lasts for {seconds_left:.2f} s; it has ended"
            self.found(Breach("I4", (), text))

    def _specs_have_one_owner(self, commit: Commit, steps: Sequence[Step]) -> Iterator[Breach]:
        """I5: what operators asked for is changed by operators alone.

        But a volume that lives nowhere comes to live where a task is bound that has it.
        """
        for old, new in steps:
            if isinstance(old, Node) and isinstance(new, Node) and old.spec != new.spec:
                beside = [
                    event
                    for event in commit.events
                    if event.key != keys.node(new.id) and not event.key.startswith(keys.JOURNAL)
                ]
                is_alone = not beside and old.status == new.status
                is_asked = is_alone and old.description == new.description
                if not is_asked and not self._only_moves_in(old, new, steps):
                    yield Breach(
                        "I5",
                        (new.id,),
                        f"what is asked of node '{self.state.node_called(new.id)}' was changed"
                        f" from {old.spec} to {new.spec} by the way",
                    )

    def _only_moves_in(self, old: Node, new: Node, steps: Iterable[Step]) -> bool:
        """Tell whether nothing is new but homeless volumes of tasks that are bound there just now."""
        volumes = new.spec.volumes[len(old.spec.volumes) :]
        spec = msgspec.structs.replace(old.spec, volumes=(*old.spec.volumes, *volumes))
        bound = [
            self.state.spec_of(step.new)
            for step in steps
            if isinstance(step.new, Task) and step.new.node_id == new.id
        ]
        mounts = [mount for spec in bound if spec is not None for mount in spec.container.mounts]
        nodes = self.state.nodes.values()
        housed = {each for node in nodes if node.id != new.id for each in node.spec.volumes}
        homeless = {mount.source for mount in mounts if mount.bound} - housed
        as_it_was = msgspec.structs.replace(old, version=new.version, spec=spec)
        return new == as_it_was and homeless.issuperset(volumes)

    # --- what operators were promised ---------------------------------------------------------

    def acknowledged_service(self, service: Service) -> None:
        """I5: a service was answered as stored."""
        stored = self._services.get((service.id, service.version))
        if stored != service.spec:
            text = f"'{service.spec.name}' was acknowledged at revision {service.version}, where"
            held = "nothing of it" if stored is None else "something else"
            self.found(Breach("I5", (service.id,), f"{text} the store has {held}"))

    def acknowledged_node(self, node: Node) -> None:
        """I5: a node was answered as stored."""
        stored = self._nodes.get((node.id, node.version))
        if stored != node.spec:
            name = self.state.node_called(node.id)
            text = f"node '{name}' was acknowledged at revision {node.version}: {node.spec}"
            self.found(Breach("I5", (node.id,), f"{text}; stored was {stored}"))

    def acknowledged_removal(self, service_id: str) -> None:
        """I5: a service was answered as removed; ids are never used again."""
        self._removed[service_id] = None
        self.nothing_comes_back()

    def nothing_comes_back(self) -> None:
        for service in self.state.services.values():
            if service.id in self._removed:
                text = f"service '{service.spec.name}' is there though its removal was acknowledged"
                self.found(Breach("I5", (service.id,), text))

    # --- containers ---------------------------------------------------------------------------

    def began(self, engine: Engine, container: Container) -> None:
        """I10: a container runs for a task that was bound to its node, beside no other of it."""
        task_id = container.task_id
        self._trace.tell(self._loop.now, engine.host, f"starts {container.name}", task_id)
        node_id = engine.node_id
        if self._node_of.get(task_id) != node_id:
            where = self._node_of.get(task_id, "no node")
            text = f"{container.name} was started on {engine.host}; the task is bound to {where}"
            self.found(Breach("I10", (task_id, node_id), text))
        if (other := self._running.get(task_id)) is not None:
            text = f"{container.name} was started on {engine.host} though it runs on {other.host}"
            self.found(Breach("I10", (task_id, node_id), text))
        self._running[task_id] = engine
        self._loop.at(self._loop.now + GUARD_SECONDS, self._never_twice, task_id)

    def _never_twice(self, task_id: TaskId) -> None:
        """I2: a fenced task has ended before another of its place runs, whatever was cut or killed."""
        place = self._places[task_id]
        beside = [other for other in self._running if self._places[other] == place]
        if task_id not in beside or len(beside) == 1:
            return
        made = list(self._places)
        for earlier, later in itertools.pairwise(sorted(beside, key=made.index)):
            if earlier in self._fenced and not self._was_asked_for(later):
                one, other = (f"{each} on {self._running[each].host}" for each in (earlier, later))
                self.found(Breach("I2", (earlier, later), f"fenced, {one} runs beside {other}"))

    def _was_asked_for(self, task_id: TaskId) -> bool:
        """Tell whether a task starts first: then the service is not fenced any more."""
        task = self.state.tasks.get(task_id)
        return task is not None and task.start_first

    def _is_fenced(self, task: Task) -> bool:
        version = self.state.versions.get((task.service_id, task.spec_version))
        policy = version.spec.task.lost_node.policy if version else LostNodePolicy.REPLACE
        return policy is LostNodePolicy.FENCE

    def serving_with(self, task_id: TaskId) -> int:
        """Return how many tasks serve of the service that a task is of."""
        task = self.state.tasks.get(task_id)
        others = self.state.of_service(task.service_id) if task is not None else ()
        return sum(map(serves, others))

    def _believe_gone(self, node: Node) -> None:
        """Take an operator's word that nothing runs on a node that was removed."""
        for task_id, node_id in self._node_of.items():
            if node_id == node.id:
                self._fenced.pop(task_id, None)

    def ended(self, engine: Engine, container: Container) -> None:
        text = f"{container.name} has ended with {container.exit_code}"
        self._trace.tell(self._loop.now, engine.host, text, container.task_id)
        self._running.pop(container.task_id, None)

    def signalled(self, engine: Engine, container: Container) -> None:
        """I10, I11: an agent stops what is its own, and only if the cluster wants it stopped."""
        node_id = engine.node_id
        text = f"stops {container.name}"
        self._trace.tell(self._loop.now, engine.host, text, container.task_id)
        marks = engine.labels_of(container.id)
        if labels.task_of(marks, container.name) is None or marks[labels.NODE] != node_id:
            text = f"{engine.host} stopped {container.name}, which is not one of ours"
            self.found(Breach("I10", (container.task_id, node_id), text))
            return
        task = self.state.tasks.get(container.task_id)
        if (
            task is None
            or task.desired_state > TaskState.RUNNING
            or task.status.state.finished
            or task.node_id != node_id
            or container.health is Health.UNHEALTHY
            or engine.may_stop(container)
        ):
            return
        text = (
            f"{engine.host} stopped {container.name}, though {self.state.called(task)} is"
            f" {task.status.state.value} and to be {task.desired_state.value}"
        )
        self.found(Breach("I11", (container.task_id, node_id), text))


def _where_made(old: Object | None, new: Object | None) -> Place | None:
    """Return where there is something new: a task in its place, or a run of a job in none."""
    match old, new:
        case None, Task():
            return Place.of(new)
        case None | JobStatus(), JobStatus():
            before = old.runs_made if isinstance(old, JobStatus) else 0
            return Place(new.service_id, 0, NO_NODE) if new.runs_made > before else None
    return None


def _told(event: Event) -> Iterator[Told]:
    """Yield what an entry of the journal tells; pruning one tells nothing."""
    if isinstance(event, Changed):
        yield from events_of(event.item, str)


def _is_all_told(steps: Iterable[Step], told: AbstractSet[str]) -> Iterator[Breach]:
    """What becomes of a task or a service is told in the transaction that makes it so."""
    for step in steps:
        match step:
            case (Task() as old, Task() as new):
                is_news = (old.status.state, old.desired_state) != (
                    new.status.state,
                    new.desired_state,
                )
            case (Service() as old, Service() as new):
                is_news = old.spec != new.spec
            case _:
                is_news = isinstance(_either(step), Task | Service)
        value = _either(step)
        if is_news and isinstance(value, Task | Service) and value.id not in told:
            yield Breach("journal", (value.id,), f"the journal does not tell of {step}")


def _either(step: Step) -> Object:
    value = step.new if step.new is not None else step.old
    assert value is not None
    return value


def _is_the_leaders(step: Step) -> bool:
    """Tell whether only a leader may do that."""
    match step.old, step.new:
        case None, Task():
            return True
        case Task(), None:
            return True
        case Task() as old, Task() as new:
            if old.desired_state is not new.desired_state or old.node_id != new.node_id:
                return True
            state = new.status.state
            by_leader = state <= TaskState.ASSIGNED or state is TaskState.ORPHANED
            return by_leader and old.status != new.status
        case Node() as old, Node() as new:
            return old.status != new.status
        case ServiceVersion(), None:
            return True
        case (_, JobStatus() | Scaling()) | (JobStatus() | Scaling(), None):
            return True
        case Cluster() as old, Cluster() as new:
            seen_to = {each for each in new.moves if each.state is not MoveState.ASKED}
            return not seen_to <= set(old.moves)
    return False


def asked_moves(moves: Iterable[AskedMove]) -> list[AskedMove]:
    """Return the moves whose turn has not come."""
    return [move for move in moves if move.state is MoveState.ASKED]


def _ids(value: Object) -> tuple[str, ...]:
    match value:
        case Task():
            return (value.id, value.service_id, value.node_id)
        case Session():
            return (value.node_id,)
        case ServiceVersion() | JobStatus():
            return (value.service_id,)
    return (str(getattr(value, "id", "")),)


def _described(step: Step, state: State) -> str:
    value = _either(step)
    gone = step.new is None
    match value:
        case Task():
            if gone:
                return f"forgets task {state.called(value)}"
            was = f", was {_task(step.old)}" if isinstance(step.old, Task) else ""
            return f"task {state.called(value)}: {_task(value)}{was}"
        case Session():
            said = "ends" if gone else value.state.value
            return f"session {value.id[:5]} of {state.node_called(value.node_id)} {said}"
        case Service():
            said = "removed" if gone else f"version {value.spec_version}"
            return f"service {value.spec.name} {said}, {value.spec.replicas} replicas"
        case Node():
            if gone:
                return f"node {value.description.hostname} removed"
            asked = value.spec.availability.value
            return f"node {value.description.hostname} {value.status.state.value}, {asked}"
        case ServiceVersion():
            return f"version {value.number} of {value.spec.name} {'goes' if gone else 'comes'}"
        case JobStatus():
            runs = ", ".join(f"run {run.number} {run.state.value}" for run in value.runs)
            return f"job {state.service_called(value.service_id)}{' forgotten' if gone else ''}: {runs}"
        case Cluster() if value.moves:
            moves = ", ".join(
                f"{move.task_id[:5]} to {move.node_id[:5]} {move.state.value} {move.message}".rstrip()
                for move in value.moves
            )
            return f"cluster: moves {moves}"
    return f"{type(value).__name__.lower()} {'goes' if gone else 'is written'}"


def _task(task: Task) -> str:
    on = f" on {task.node_id[:5]}" if task.node_id else ""
    why = f" ({task.status.error})" if task.status.error else ""
    return f"{task.status.state.value} to be {task.desired_state.value}{on}{why}"
