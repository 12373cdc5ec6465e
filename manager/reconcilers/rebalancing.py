"""Rebalancing: have the moves made that the cluster's record asks for, and see to their end.

A move is made by its task's saying that it is to move, and where; the rest is done as for any
move (``services.moves``): start-first or within the disruption budget. A few are under way at a
time. What stands in the way of a move is waited out for a while, and then the move is given up;
so is one whose successor ends, or comes no further. Then the task says that it stays, and the
successor goes. The record and the tasks are written together, so what is under way is no guess.

A move is done when its task is no longer wanted; what comes after that is its place's business.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from cluster import gains, lifecycle
from cluster.clock import Clock
from cluster.model import (
    NO_NODE,
    AskedMove,
    Cluster,
    MoveState,
    Node,
    NodeId,
    Rollout,
    Service,
    ServiceId,
    ServiceSpec,
    Task,
    TaskId,
    TaskState,
    UpdateConfig,
)
from cluster.quantities import format_duration
from manager import rebalancing
from manager import view as views
from manager.committer import Change
from manager.reconcilers.loop import Plan

# Each costs a start, and room on two nodes: so few that the rest of the cluster hardly notices.
AT_ONCE_MAX = 4

# For so long a move may wait: for its service to be whole, for room where it goes, for its
# service's budget. All of that was there when it was worked out; if it has not come back by
# then, a layout without the move is what is to be looked for.
WAITS_SECONDS_MAX = 60.0

# A successor in one of these is being worked on, for as long as its service says it may be.
WORKED_ON = (TaskState.PREPARING, TaskState.STARTING)

CLUSTER = "cluster"  # the one key


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a plan may look at.

    Attributes:
        cluster: its record, with the moves.
        tasks: all there are.
        nodes: all there are.
        rollouts: of services.
        hindrance: why a task may not be moved now (``manager.rebalancing``).
        heir_of: the newest task that was made to take over from one.
        update_of: of a task's service.
        stood_seconds: for how long this leader has known a move to be at a stage.
        now: seconds since 1970 UTC.
    """

    cluster: Cluster
    tasks: Mapping[TaskId, Task]
    nodes: Mapping[NodeId, Node]
    rollouts: Mapping[ServiceId, Rollout]
    hindrance: Callable[[Task], str]
    heir_of: Callable[[Task], Task | None]
    update_of: Callable[[Task], UpdateConfig]
    stood_seconds: Callable[[TaskId, Hashable], float]
    now: float


def said(move: AskedMove) -> str:
    """Return what a task says of its move."""
    return f"rebalancing: {gains.told(move.why)}"


def plan(facts: Facts) -> Plan:
    """Return the next step of the moves; none when nothing is asked for, or all must wait."""
    course = _Course(facts)
    course.take()
    if not course.is_news:
        return Plan((), min(course.waits, default=None))
    record = msgspec.structs.replace(facts.cluster, moves=tuple(course.moves))
    change = Change(save=(record, *course.tasks), why="; ".join(course.why) or "moves are done")
    return Plan([change], min(course.waits, default=None))


class _Course:
    """Goes through the moves in their order.

    Attributes:
        moves: as they shall stand.
        tasks: that are to say something else.
        why: for the log.
        is_news: something of it is to be written.
        waits: in how many seconds to look again.
    """

    def __init__(self, facts: Facts) -> None:
        self.moves: list[AskedMove] = []
        self.tasks: list[Task] = []
        self.why: list[str] = []
        self.is_news = False
        self.waits: list[float] = []
        self._facts = facts
        self._under_way = 0

    def take(self) -> None:
        """Decide; who is under way first, so that those who wait get what room there is."""
        found: dict[TaskId, AskedMove] = {}
        moves = self._facts.cluster.moves
        for move in sorted(moves, key=lambda each: each.state is not MoveState.UNDER_WAY):
            task = self._facts.tasks.get(move.task_id)
            if task is None or not lifecycle.live(task):
                # Done, or ended by itself. One that was given up vanishes when all is written.
                self.is_news |= move.state is not MoveState.GIVEN_UP
            elif move.state is MoveState.UNDER_WAY:
                found[move.task_id] = self._followed(move, task)
            elif move.state is MoveState.ASKED:
                found[move.task_id] = self._begun(move, task)
            else:
                found[move.task_id] = move
        self.moves = [found[move.task_id] for move in moves if move.task_id in found]

    def _begun(self, move: AskedMove, task: Task) -> AskedMove:
        """Begin a move, if nothing is in its way and its turn has come."""
        if self._under_way >= AT_ONCE_MAX:
            return move
        target = self._facts.nodes.get(move.node_id)
        why = self._facts.hindrance(task) or rebalancing.closed(target)
        if why:
            left = WAITS_SECONDS_MAX - self._facts.stood_seconds(task.id, "hindered")
            if left <= 0:
                return self._given_up(move, why)
            self.waits.append(left)
            return move
        self._under_way += 1
        moving = msgspec.structs.replace(task, moving=said(move), aims_at=move.node_id)
        self.tasks.append(moving)
        return self._now(move, MoveState.UNDER_WAY, f"task {task.id} moves: {said(move)}")

    def _followed(self, move: AskedMove, task: Task) -> AskedMove:
        """Look after a move that is under way; give it up if nothing comes of it."""
        if task.moving != said(move) or task.aims_at != move.node_id:
            return self._given_up(move, task.moving or "it was told to stay")
        why = self._in_the_way(move, task)
        if not why:
            self._under_way += 1
            return move
        self.tasks.append(msgspec.structs.replace(task, moving="", aims_at=NO_NODE))
        return self._given_up(move, why)

    def _in_the_way(self, move: AskedMove, task: Task) -> str:
        facts = self._facts
        rollout = facts.rollouts.get(task.service_id)
        if rollout is not None and not rollout.state.settled:
            return f"the rollout of its service is {rollout.state.value}"
        heir = facts.heir_of(task)
        if heir is not None and heir.status.state.finished and heir.created_at < move.changed_at:
            heir = None  # it failed before, in another move; this one is to be tried first
        state = heir.status.state if heir is not None else TaskState.NEW
        if state is TaskState.RUNNING:
            return ""
        if heir is not None and state.finished:
            error = heir.status.error or heir.status.message
            return f"its successor is {state.value}{': ' if error else ''}{error}"
        if why := rebalancing.closed(facts.nodes.get(move.node_id)):
            return why
        longest = WAITS_SECONDS_MAX
        if state in WORKED_ON:
            longest = max(longest, facts.update_of(task).progress_deadline_seconds)
        stage = (heir.id, state) if heir is not None else None
        left = longest - facts.stood_seconds(task.id, stage)
        if left > 0:
            self.waits.append(left)
            return ""
        error = f" ({heir.status.error})" if heir is not None and heir.status.error else ""
        return f"its successor is {state.value} since {format_duration(longest)}{error}"

    def _given_up(self, move: AskedMove, why: str) -> AskedMove:
        after = msgspec.structs.replace(move, message=why)
        return self._now(after, MoveState.GIVEN_UP, f"task {move.task_id} stays: {why}")

    def _now(self, move: AskedMove, state: MoveState, why: str) -> AskedMove:
        self.is_news = True
        self.why.append(why)
        return msgspec.structs.replace(move, state=state, changed_at=self._facts.now)


class RebalancingReconciler:
    """Sees to all moves together; it remembers for how long each has stood where it stands."""

    name = "rebalancing"

    def __init__(self, view: views.View, clock: Clock) -> None:
        self._view = view
        self._clock = clock
        self._stages: dict[TaskId, tuple[Hashable, float]] = {}

    def concerned(self, change: views.Change) -> Iterable[str]:
        if isinstance(change.either, Cluster):
            return [CLUSTER]
        if not self._open():
            return []
        match change.either:
            case Task() as task:
                return [CLUSTER] if task.service_id in self._services() else []
            case Node() | Service() | Rollout():
                return [CLUSTER]
        return []

    def everything(self) -> Iterable[str]:
        return [CLUSTER]

    def plan(self, key: str, now: float) -> Plan:  # noqa: ARG002 - there is only one key
        cluster, moves = self._view.cluster, self._open()
        if cluster is None or not moves:
            self._stages.clear()
            return Plan()
        ids = {move.task_id for move in moves}
        self._stages = {id_: stage for id_, stage in self._stages.items() if id_ in ids}
        view = self._view
        whom = rebalancing.Facts(
            nodes=view.nodes,
            services=view.services,
            rollouts=view.rollouts,
            tasks_of=view.tasks_of_service,
            spec_of=self._spec_of,
        )
        return plan(
            Facts(
                cluster=cluster,
                tasks=view.tasks,
                nodes=view.nodes,
                rollouts=view.rollouts,
                hindrance=lambda task: rebalancing.hindrance(whom, task),
                heir_of=self._heir_of,
                update_of=self._update_of,
                stood_seconds=self._stood_seconds,
                now=now,
            )
        )

    def _open(self) -> list[AskedMove]:
        cluster = self._view.cluster
        moves = cluster.moves if cluster is not None else ()
        return [move for move in moves if move.state is not MoveState.GIVEN_UP]

    def _services(self) -> set[ServiceId]:
        tasks = (self._view.tasks.get(move.task_id) for move in self._open())
        return {task.service_id for task in tasks if task is not None}

    def _heir_of(self, task: Task) -> Task | None:
        others = (
            other
            for other in self._view.tasks_of_service(task.service_id)
            if other.slot == task.slot
            and other.created_at > task.created_at
            and lifecycle.wanted(other)
        )
        return max(others, key=lambda other: (other.created_at, other.id), default=None)

    def _spec_of(self, task: Task) -> ServiceSpec | None:
        version = self._view.version_of(task)
        return version.spec if version else None

    def _update_of(self, task: Task) -> UpdateConfig:
        service = self._view.services.get(task.service_id)
        return service.spec.update if service is not None else UpdateConfig()

    def _stood_seconds(self, task_id: TaskId, stage: Hashable) -> float:
        now = self._clock.monotonic()
        known = self._stages.get(task_id)
        if known is None or known[0] != stage:
            self._stages[task_id] = known = (stage, now)
        return now - known[1]
