"""Nodes: which can be reached, and what becomes of the tasks of those that cannot or shall not.

A node is ready while its agent has a live session at any manager. It is down

* at once, if the manager that held its session waited for it in vain for the whole grace
  (the session is ``SILENT``), or
* when it has had no session for the whole grace as this leader has seen it, be it that its
  connection broke or that it died together with the manager that held its session. When most
  nodes are without one at a time, managers or the store are the likelier cause, and all of
  them get longer: moving everything would hurt more than waiting.

The tasks of a node that is down are orphaned: their places get successors elsewhere, and the
node, should it come back, is told to stop them (I12). A global service's tasks stay as they
are: there is nowhere else to put them, and a node that comes back has kept them running.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from cluster import lifecycle
from cluster.clock import Clock
from cluster.model import (
    Availability,
    Cluster,
    ClusterId,
    Node,
    NodeId,
    NodeState,
    NodeStatus,
    ServiceId,
    ServiceMode,
    Session,
    SessionState,
    Task,
    TaskState,
    TaskStatus,
)
from manager import view as views
from manager.committer import Change
from manager.reconcilers.loop import Plan

BEATS_MISSED_MAX = 3  # a node is lost after so many heartbeat periods without a word

# What agents get at least to come back when most of them are away at a time: after an outage
# each tries again within five seconds, and managers may still be on their way up.
MASS_GRACE_SECONDS = 15.0

# How often a node that has the longer grace is looked at: once the others are back, it is over.
MASS_LOOK_SECONDS = 1.0


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
    """

    node: Node | None
    session: Session | None
    absent_seconds: float
    usual_grace_seconds: float
    grace_seconds: float
    tasks: Sequence[Task]
    is_global: Callable[[ServiceId], bool]
    now: float


def plan(facts: Facts) -> Plan:
    """Return the changes that make the node's record and its tasks what they have to be."""
    if facts.node is None:
        return Plan([_orphan(task, "its node was removed", facts.now) for task in _open(facts)])
    changes: list[Change] = []
    look_again = None
    status = facts.node.status
    if facts.session is not None and facts.session.state is SessionState.LIVE:
        status = _status(facts, NodeState.READY, "")
    elif facts.session is not None:
        status = _status(facts, NodeState.DOWN, "its heartbeats ceased")
    elif facts.absent_seconds >= facts.grace_seconds:
        status = _status(facts, NodeState.DOWN, "its agent has no connection to any manager")
    else:
        look_again = _seconds_to_judgement(facts)
    if status != facts.node.status:
        changes.append(
            Change(
                save=(msgspec.structs.replace(facts.node, status=status),),
                why=f"the node is {status.state.value}",
            )
        )
    if status.state is NodeState.DOWN:
        changes += [
            _orphan(task, "its node is down", facts.now)
            for task in _open(facts)
            if not (lifecycle.wanted(task) and facts.is_global(task.service_id))
        ]
    elif facts.node.spec.availability is Availability.DRAIN:
        changes += [_drain(task) for task in facts.tasks if lifecycle.live(task)]
    return Plan(changes, look_again)


def _seconds_to_judgement(facts: Facts) -> float:
    left = facts.grace_seconds - facts.absent_seconds
    usually_left = facts.usual_grace_seconds - facts.absent_seconds
    return min(left, usually_left if usually_left > 0 else MASS_LOOK_SECONDS)


def _status(facts: Facts, state: NodeState, message: str) -> NodeStatus:
    assert facts.node is not None
    if facts.node.status.state is state:
        return facts.node.status
    return NodeStatus(state=state, message=message, changed_at=facts.now)


def _open(facts: Facts) -> Iterable[Task]:
    return (task for task in facts.tasks if not task.status.state.finished)


def _drain(task: Task) -> Change:
    """Return what ends *task*: one that no agent has been told of is forgotten at once."""
    why = "its node is drained"
    if task.status.state < TaskState.ASSIGNED:
        return Change(drop=(task,), why=why)
    stopped = msgspec.structs.replace(task, desired_state=TaskState.SHUTDOWN)
    return Change(save=(stopped,), why=why)


def _orphan(task: Task, why: str, now: float) -> Change:
    status = TaskStatus(
        state=TaskState.ORPHANED,
        at=now,
        message="orphaned",
        error=why,
        container_id=task.status.container_id,
    )
    desired = max(task.desired_state, TaskState.SHUTDOWN)
    return Change(
        save=(msgspec.structs.replace(task, desired_state=desired, status=status),), why=why
    )


class NodeReconciler:
    """Plans one node at a time, and remembers since when each has been without a session."""

    name = "nodes"

    def __init__(self, view: views.View, clock: Clock) -> None:
        self._view = view
        self._clock = clock
        self._absent_since: dict[NodeId, float] = {}
        for node_id in self.everything():
            self._note_absence(node_id)

    def concerned(self, change: views.Change) -> Iterable[NodeId]:
        match change.either:
            case Node() as node:
                return [node.id]
            case Session() as session:
                self._note_absence(session.node_id)
                return [session.node_id]
            case Task() as task if task.node_id:
                return [task.node_id]
        return []

    def everything(self) -> Iterable[NodeId]:
        bound = (task.node_id for task in self._view.tasks.values() if task.node_id)
        return dict.fromkeys((*self._view.nodes, *bound))

    def plan(self, key: NodeId, now: float) -> Plan:
        self._note_absence(key)
        since = self._absent_since.get(key)
        usual_grace = self._usual_grace_seconds()
        return plan(
            Facts(
                node=self._view.nodes.get(key),
                session=self._view.sessions.get(key),
                absent_seconds=0.0 if since is None else self._clock.monotonic() - since,
                usual_grace_seconds=usual_grace,
                grace_seconds=usual_grace if since is None else self._grace_seconds(usual_grace),
                tasks=list(self._view.tasks_on_node(key)),
                is_global=self._is_global,
                now=now,
            )
        )

    def _usual_grace_seconds(self) -> float:
        cluster = self._view.cluster or Cluster(id=ClusterId(""))
        return BEATS_MISSED_MAX * cluster.spec.heartbeat_period_seconds

    def _grace_seconds(self, usual_seconds: float) -> float:
        ready = {n.id for n in self._view.nodes.values() if n.status.state is NodeState.READY}
        absent = ready - self._view.sessions.keys()
        is_mass = 2 * len(absent) > len(ready)
        return max(usual_seconds, MASS_GRACE_SECONDS) if is_mass else usual_seconds

    def _note_absence(self, node_id: NodeId) -> None:
        if node_id in self._view.sessions or node_id not in self._view.nodes:
            self._absent_since.pop(node_id, None)
        else:
            self._absent_since.setdefault(node_id, self._clock.monotonic())

    def _is_global(self, service_id: ServiceId) -> bool:
        service = self._view.services.get(service_id)
        return service is not None and service.spec.mode is ServiceMode.GLOBAL
