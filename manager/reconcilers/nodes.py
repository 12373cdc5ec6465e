"""Nodes: which can be reached, and what becomes of the tasks of those that cannot or shall not.

A node is ready while its agent has a live session at any manager. It is down

* at once, if the manager that held its session waited for it in vain for the whole grace
  (the session is ``SILENT``), or
* when it has had no session for the whole grace as this leader has seen it, be it that its
  connection broke or that it died together with the manager that held its session. When most
  nodes are without one at a time, managers or the store are the likelier cause, and all of
  them get longer: moving everything would hurt more than waiting.

The tasks of a node that is down are given up as ``lost`` says: their places get successors
elsewhere, and the node, should it come back, is told to stop them (I12). A global service's tasks
stay as they are: there is nowhere else to put them, and a node that comes back has kept them
running. Tasks that must leave a node (``leaving``) are told so, and ``services.moves`` does the
rest; what a drain has not moved by its deadline is stopped here.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from cluster import lifecycle
from cluster.clock import Clock
from cluster.model import (
    NO_NODE,
    Availability,
    Cluster,
    ClusterId,
    LostNode,
    LostNodePolicy,
    Node,
    NodeId,
    NodeState,
    NodeStatus,
    Rollout,
    Service,
    ServiceId,
    ServiceMode,
    Session,
    SessionState,
    Task,
    TaskId,
    TaskSpec,
    TaskState,
)
from cluster.quantities import format_duration
from manager import view as views
from manager.committer import Change
from manager.reconcilers import leaving, lost
from manager.reconcilers.loop import Plan

BEATS_MISSED_MAX = 3  # a node is lost after so many heartbeat periods without a word

# What agents get at least to come back when most of them are away at a time: after an outage
# each tries again within five seconds, and managers may still be on their way up.
MASS_GRACE_SECONDS = 15.0

# How often a node that has the longer grace is looked at: once the others are back, it is over.
MASS_LOOK_SECONDS = 1.0

# What an agent gets to come back that is absent since managers were: who tries in vain waits longer
# and longer, up to five seconds (``agent.managers``), and needs a moment to connect. A leader that
# joined only just before tells of such an outage; where one manager of several dies, the next
# leader was there all along, and agents that lose a manager are at another within a second.
RETURN_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a plan may look at.

    Attributes:
        node: None if it was removed while it had tasks.
        session: of its agent; None if it has none.
        absent_seconds: for how long this leader has seen it without a session.
        usual_grace_seconds: for how long it may be if it is alone in that.
        grace_seconds: for how long it may be as things are.
        tasks: all that are bound to the node.
        is_global: whether a service is global; a removed service is not.
        now: seconds since 1970 UTC.
        away_seconds: for how long this leader has seen it without a live session.
        down_seconds: for how long it has been down.
        is_seen: everything was seen up to what the node's record says.
        policy_of: what counts for a task if its node is lost.
        priority_of: of a task's service.
        room: tasks that may be given up now.
        drain_seconds_left: to the deadline of its drain; None if there is none.
        spec_of: what a task runs; None if that is not known.
        held_to: see ``leaving.Facts``.
        is_examined: whether who must leave may have changed.
    """

    node: Node | None
    session: Session | None
    absent_seconds: float
    usual_grace_seconds: float
    grace_seconds: float
    tasks: Sequence[Task]
    is_global: Callable[[ServiceId], bool]
    now: float
    away_seconds: float = 0.0
    down_seconds: float = 0.0
    is_seen: bool = True
    policy_of: Callable[[Task], LostNode] = lambda _: LostNode()
    priority_of: Callable[[Task], int] = lambda _: 0
    room: int = 1_000_000
    drain_seconds_left: float | None = None
    spec_of: Callable[[Task], TaskSpec | None] = lambda _: None
    held_to: Callable[[Task], TaskSpec | None] = lambda _: None
    is_examined: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """A plan, and what follows from it for the next one.

    Attributes:
        given_up: tasks that others will start for elsewhere.
        held_up: tasks that would be given up if there were room.
    """

    plan: Plan
    given_up: int = 0
    held_up: int = 0


def plan(facts: Facts) -> Plan:
    """Return the changes that make the node's record and its tasks what they have to be."""
    return outcome(facts).plan


def outcome(facts: Facts) -> Outcome:
    """Return the plan together with what it takes of the pace."""
    if facts.node is None:
        left = (task for task in facts.tasks if not task.status.state.finished)
        return Outcome(
            Plan([lost.orphan(task, "its node was removed", facts.now) for task in left])
        )
    status, look_again = _judged(facts, facts.node)
    changes: list[Change] = []
    if status != facts.node.status:
        after = msgspec.structs.replace(facts.node, status=status)
        changes.append(Change(save=(after,), why=f"the node is {status.state.value}"))
    if status.state is NodeState.DOWN:
        decision = _lost(facts, facts.node, is_on_record=not changes and facts.is_seen)
        decided = Plan([*changes, *decision.changes], decision.look_again_seconds)
        return Outcome(decided, decision.given_up, decision.held_up)
    deadline_in = facts.drain_seconds_left
    waits = [each for each in (look_again, deadline_in) if each is not None and each > 0]
    return Outcome(Plan([*changes, *_seen_off(facts, facts.node)], min(waits, default=None)))


def _judged(facts: Facts, node: Node) -> tuple[NodeStatus, float | None]:
    """Return whether the node can be reached, and when to look again if that is open."""
    if facts.session is not None and facts.session.state is SessionState.LIVE:
        return _status(facts, node, NodeState.READY, ""), None
    if facts.session is not None:
        return _status(facts, node, NodeState.DOWN, "its heartbeats ceased"), None
    if facts.absent_seconds >= facts.grace_seconds:
        message = "its agent has no connection to any manager"
        return _status(facts, node, NodeState.DOWN, message), None
    left = facts.grace_seconds - facts.absent_seconds
    usually_left = facts.usual_grace_seconds - facts.absent_seconds
    return node.status, min(left, usually_left if usually_left > 0 else MASS_LOOK_SECONDS)


def _status(facts: Facts, node: Node, state: NodeState, message: str) -> NodeStatus:
    if node.status.state is state:
        return node.status
    return NodeStatus(state=state, message=message, changed_at=facts.now)


def _lost(facts: Facts, node: Node, *, is_on_record: bool) -> lost.Decision:
    return lost.decide(
        lost.Facts(
            node=node,
            tasks=facts.tasks,
            down_seconds=facts.down_seconds,
            away_seconds=facts.away_seconds,
            is_on_record=is_on_record,
            policy_of=facts.policy_of,
            priority_of=facts.priority_of,
            stays=lambda task: lifecycle.wanted(task) and facts.is_global(task.service_id),
            room=facts.room,
            now=facts.now,
        )
    )


def _seen_off(facts: Facts, node: Node) -> list[Change]:
    """Tell tasks that they are to leave; end them if their drain is at its deadline."""
    if facts.drain_seconds_left is not None and facts.drain_seconds_left <= 0:
        return ended(node, facts.tasks)
    if not facts.is_examined:
        return []
    who = leaving.Facts(node, facts.tasks, facts.spec_of, facts.held_to, facts.priority_of)
    return told(facts.tasks, leaving.leaving(who))


def told(tasks: Sequence[Task], reasons: Mapping[TaskId, str]) -> list[Change]:
    """Return what tells the tasks that they are to move, and those that may stay after all.

    A move with an aim is not a matter of the node; it yields to one that is.
    """
    changes = []
    for task in tasks:
        if not lifecycle.live(task):
            continue
        why = reasons.get(task.id, "")
        if why and (task.moving != why or task.aims_at):
            after = msgspec.structs.replace(task, moving=why, aims_at=NO_NODE)
            changes.append(Change(save=(after,), why=why))
        elif not why and task.moving and not task.aims_at:
            after = msgspec.structs.replace(task, moving="")
            changes.append(Change(save=(after,), why="it may stay on its node after all"))
    return changes


def ended(node: Node, tasks: Sequence[Task]) -> list[Change]:
    """Return what ends the tasks that a drain has not moved by its deadline."""
    deadline = format_duration(node.spec.drain_deadline_seconds)
    name = node.description.hostname or node.id
    why = f"the drain of node {name} is at its deadline of {deadline}: {lifecycle.REGARDLESS}"
    return [_end(task, why) for task in tasks if lifecycle.live(task)]


def _end(task: Task, why: str) -> Change:
    """Return what ends *task*: one that no agent has been told of is forgotten at once."""
    if task.status.state < TaskState.ASSIGNED:
        return Change(drop=(task,), why=why)
    stopped = msgspec.structs.replace(task, moving=why, desired_state=TaskState.SHUTDOWN)
    return Change(save=(stopped,), why=why)


class NodeReconciler:
    """Plans one node at a time, and remembers since when each has been without a session.

    All it measures it measures with its own monotonic clock, from when it first saw a thing: a new
    leader begins anew, and only waits the longer.

    Args:
        view: what is decided on.
        clock: measures absence.
        joined_at: since when, by the monotonic clock, this manager is in without a break.
    """

    name = "nodes"

    def __init__(self, view: views.View, clock: Clock, joined_at: float) -> None:
        self._view = view
        self._clock = clock
        self._joined_at = joined_at
        self._absent_since: dict[NodeId, float] = {}
        self._away_since: dict[NodeId, float] = {}
        self._down_since: dict[NodeId, float] = {}
        self._drain_over_at: dict[NodeId, tuple[float, float, float]] = {}
        self._pace = lost.Pace()
        self._to_examine: set[NodeId] = set()
        self._listings = view.listings
        for node_id in self.everything():
            self._note_absence(node_id)

    def concerned(self, change: views.Change) -> Iterable[NodeId]:
        match change.either:
            case Node() as node:
                self._to_examine.add(node.id)
                return [node.id]
            case Session() as session:
                # However short it was: its agent was in contact until just now.
                if any(_is_live(each) for each in (change.old, change.new)):
                    self._away_since.pop(session.node_id, None)
                self._note_absence(session.node_id)
                return [session.node_id]
            case Task() as task if task.node_id:
                if change.new is None or _is_news(change.old, task):
                    self._to_examine.add(task.node_id)
                elif self._is_at_ease(task.node_id):
                    return []
                return [task.node_id]
            case Service() | Rollout() as either:
                service_id = either.id if isinstance(either, Service) else either.service_id
                there = {task.node_id for task in self._view.tasks_of_service(service_id)}
                there.discard(NO_NODE)
                self._to_examine |= there
                return there
        return []

    def everything(self) -> Iterable[NodeId]:
        bound = (task.node_id for task in self._view.tasks.values() if task.node_id)
        self._to_examine.update(self._view.nodes)
        return dict.fromkeys((*self._view.nodes, *bound))

    def plan(self, key: NodeId, now: float) -> Plan:
        self._note_absence(key)
        node = self._view.nodes.get(key)
        survivors = self._ready_nodes() if key in self._away_since else 0
        found = outcome(self._facts(key, node, survivors, now))
        self._pace.take(found.given_up)
        is_down = node is not None and node.status.state is NodeState.DOWN
        if not is_down:
            self._down_since.pop(key, None)
            if not found.plan.changes:
                self._to_examine.discard(key)  # else again, once they stand
        if not found.held_up:
            return found.plan
        more = lost.Pace.seconds_to_more(survivors)
        return Plan(found.plan.changes, min(more, found.plan.look_again_seconds or more))

    def _facts(self, key: NodeId, node: Node | None, survivors: int, now: float) -> Facts:
        monotonic = self._clock.monotonic()
        since = self._absent_since.get(key)
        usual_grace = self._usual_grace_seconds(since)
        held_to: dict[tuple[ServiceId, int], TaskSpec | None] = {}
        return Facts(
            node=node,
            session=self._view.sessions.get(key),
            absent_seconds=0.0 if since is None else monotonic - since,
            usual_grace_seconds=usual_grace,
            grace_seconds=usual_grace if since is None else self._grace_seconds(usual_grace),
            tasks=list(self._view.tasks_on_node(key)),
            is_global=self._is_global,
            now=now,
            away_seconds=monotonic - self._away_since.get(key, monotonic),
            down_seconds=self._down_seconds(node, now) if node else 0.0,
            is_seen=node is not None and self._view.revision >= node.version,
            policy_of=self._policy_of,
            priority_of=self._priority_of,
            room=self._pace.room(survivors, monotonic),
            drain_seconds_left=self._drain_seconds_left(node, now) if node else None,
            spec_of=self._spec_of,
            held_to=lambda task: self._held_to(task, held_to),
            is_examined=key in self._to_examine,
        )

    def _is_at_ease(self, node_id: NodeId) -> bool:
        """Tell whether how far a task of the node has come is no matter of ours."""
        node = self._view.nodes.get(node_id)
        return (
            node is not None
            and node.status.state is NodeState.READY
            and node.spec.availability is not Availability.DRAIN
        )

    def _ready_nodes(self) -> int:
        return sum(node.status.state is NodeState.READY for node in self._view.nodes.values())

    # --- nodes that are down ---

    def _down_seconds(self, node: Node, now: float) -> float:
        if node.status.state is not NodeState.DOWN:
            return 0.0
        monotonic = self._clock.monotonic()
        before = max(0.0, now - node.status.changed_at)
        return monotonic - self._down_since.setdefault(node.id, monotonic - before)

    def _policy_of(self, task: Task) -> LostNode:
        """Return what counts for a task: its lease as it was made with, else the word of today."""
        version = self._view.version_of(task)
        own = version.spec.task.lost_node if version else LostNode()
        service = self._view.services.get(task.service_id)
        today = service.spec.task.lost_node if service else own
        return own if LostNodePolicy.FENCE in (own.policy, today.policy) else today

    def _priority_of(self, task: Task) -> int:
        service = self._view.services.get(task.service_id)
        return service.spec.priority if service else 0

    # --- nodes that tasks must leave ---

    def _drain_seconds_left(self, node: Node, now: float) -> float | None:
        """Return how long a drain has to its deadline; None if there is no such thing."""
        spec = node.spec
        if spec.availability is not Availability.DRAIN or spec.drain_deadline_seconds <= 0:
            self._drain_over_at.pop(node.id, None)
            return None
        asked = (spec.drain_asked_at, spec.drain_deadline_seconds)
        known = self._drain_over_at.get(node.id)
        if known is None or known[:2] != asked:
            # However clocks differ or jump: it is neither over before it began nor any longer.
            gone = min(max(0.0, now - spec.drain_asked_at), spec.drain_deadline_seconds)
            over_at = self._clock.monotonic() + spec.drain_deadline_seconds - gone
            self._drain_over_at[node.id] = known = (*asked, over_at)
        return known[2] - self._clock.monotonic()

    def _spec_of(self, task: Task) -> TaskSpec | None:
        version = self._view.version_of(task)
        return version.spec.task if version else None

    def _held_to(
        self, task: Task, known: dict[tuple[ServiceId, int], TaskSpec | None]
    ) -> TaskSpec | None:
        """Return the template of who would take a task's place; None if nobody would."""
        key = (task.service_id, task.spec_version)
        if key not in known:
            known[key] = self._successors_template(task)
        return known[key]

    def _successors_template(self, task: Task) -> TaskSpec | None:
        service = self._view.services.get(task.service_id)
        own = self._spec_of(task)
        if service is None or own is None or service.spec.mode is not ServiceMode.REPLICATED:
            return None
        rollout = self._view.rollouts.get(service.id)
        target = rollout.target if rollout else service.spec_version
        if rollout and rollout.target == rollout.spec_version:
            target = service.spec_version  # a later version with the same template counts
        version = self._view.versions.get((service.id, target))
        template = version.spec.task if version else service.spec.task
        return own if lifecycle.needs_replacing(own, template) else template

    # --- how long for ---

    def _usual_grace_seconds(self, since: float | None) -> float:
        cluster = self._view.cluster or Cluster(id=ClusterId(""))
        grace = BEATS_MISSED_MAX * cluster.spec.heartbeat_period_seconds
        after_outage = since is not None and since - self._joined_at < RETURN_SECONDS
        return max(grace, RETURN_SECONDS) if after_outage else grace

    def _grace_seconds(self, usual_seconds: float) -> float:
        ready = {n.id for n in self._view.nodes.values() if n.status.state is NodeState.READY}
        absent = ready - self._view.sessions.keys()
        is_mass = 2 * len(absent) > len(ready)
        return max(usual_seconds, MASS_GRACE_SECONDS) if is_mass else usual_seconds

    def _note_absence(self, node_id: NodeId) -> None:
        if self._listings != self._view.listings:
            # Everything was read anew: a session may have come and gone unseen.
            self._listings = self._view.listings
            self._away_since.clear()
        now = self._clock.monotonic()
        session = self._view.sessions.get(node_id)
        if session is not None or node_id not in self._view.nodes:
            self._absent_since.pop(node_id, None)
        else:
            self._absent_since.setdefault(node_id, now)
        if _is_live(session) or node_id not in self._view.nodes:
            self._away_since.pop(node_id, None)
        else:
            self._away_since.setdefault(node_id, now)

    def _is_global(self, service_id: ServiceId) -> bool:
        service = self._view.services.get(service_id)
        return service is not None and service.spec.mode is ServiceMode.GLOBAL


def _is_live(value: object) -> bool:
    return isinstance(value, Session) and value.state is SessionState.LIVE


def _is_news(old: object, new: Task) -> bool:
    """Tell whether who must leave the task's node may be others now."""
    if not isinstance(old, Task):
        return True
    return (lifecycle.occupies(old), lifecycle.wanted(old), old.moving, old.node_id) != (
        *(lifecycle.occupies(new), lifecycle.wanted(new)),
        *(new.moving, new.node_id),
    )
