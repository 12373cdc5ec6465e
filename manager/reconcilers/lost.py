"""Tasks of a node that is down: when they are given up, so that others take their places. Pure.

What a task's service says of a lost node decides (``LostNode``):

* replace: at once;
* wait: when the node has been down for so long;
* fence: when its host has surely ended it. A host ends a fenced task by itself once its lease is
  over, which counts from its last vouched contact; nobody can have vouched for it since this
  leader saw its session go. So after that long, and a margin, it does not run. All of it rests on
  the node's record, which no session can come to stand behind unseen (``session_keys``), and the
  write is guarded by that record.

What is given up together starts elsewhere together. ``Pace`` bounds that by what the nodes that
are left can start, so that they are not flooded when many are lost; what is important goes first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from cluster import lifecycle
from cluster.model import LostNode, LostNodePolicy, Node, Task, TaskState, TaskStatus
from cluster.quantities import format_duration
from manager.committer import Change

# By how much a host's clock may run slower than the leader's, as a part of the lease. Real ones
# differ by less than a thousandth; the same margin as in ``manager.election``.
MARGIN = 1 / 6

# What the guard may take to see that a lease is over and to kill (a tenth of a second, or as long
# as a loaded host takes), and for how long a manager that another took for dead may vouch on: the
# life of its own lease, three seconds.
SLACK_SECONDS = 6.0

# Containers that one host starts a second, with one network each (docs/benchmarks.md). More than
# that only waits in its Docker daemon, and slows down what runs there.
STARTS_PER_SECOND = 5.0

# For so long at that rate without being held up: a single lost host of usual size goes at once.
BURST_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a decision may look at.

    Attributes:
        node: recorded as down, or just found to be.
        tasks: all that are bound to it.
        down_seconds: for how long it has been down.
        away_seconds: for how long this leader has seen it without a live session.
        is_on_record: the record says that it is down, and everything up to that was seen.
        policy_of: what counts for a task.
        priority_of: of a task's service.
        stays: a task that nobody could take over: a global service's.
        room: tasks that may be given up now.
        now: seconds since 1970 UTC.
    """

    node: Node
    tasks: Sequence[Task]
    down_seconds: float
    away_seconds: float
    is_on_record: bool
    policy_of: Callable[[Task], LostNode]
    priority_of: Callable[[Task], int]
    stays: Callable[[Task], bool]
    room: int
    now: float


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of them.

    Attributes:
        changes: to commit.
        given_up: tasks among them for which others will start.
        held_up: tasks that would be given up if there were room.
        look_again_seconds: when time will have changed something; None if it will not.
    """

    changes: Sequence[Change]
    given_up: int
    held_up: int
    look_again_seconds: float | None


def decide(facts: Facts) -> Decision:
    """Return which tasks are given up now."""
    due: list[tuple[Task, str]] = []
    aside: list[Change] = []
    waits: list[float] = []
    for task in facts.tasks:
        if task.status.state.finished or facts.stays(task):
            continue
        why, wait = _verdict(facts, task)
        if wait > 0:
            waits.append(wait)
        elif lifecycle.wanted(task):
            due.append((task, why))
        else:
            aside.append(_given_up(facts, task, why))  # nobody starts for its sake
    due.sort(key=lambda each: (-facts.priority_of(each[0]), each[0].created_at, each[0].id))
    now = due[: facts.room]
    return Decision(
        [*aside, *(_given_up(facts, task, why) for task, why in now)],
        len(now),
        len(due) - len(now),
        min(waits, default=None),
    )


def _verdict(facts: Facts, task: Task) -> tuple[str, float]:
    """Return why a task is given up, and in how many seconds at the earliest; 0 is now."""
    policy = facts.policy_of(task)
    if policy.policy is LostNodePolicy.FENCE:
        left = fence_seconds(policy.seconds) - facts.away_seconds
        if left <= 0 and not facts.is_on_record:
            left = 1.0  # the record's own change makes the node due, as a rule sooner
        return "its node is down, and its lease is over", max(0.0, left)
    if policy.policy is LostNodePolicy.WAIT and lifecycle.wanted(task):
        left = policy.seconds - facts.down_seconds
        return f"its node is down for {format_duration(policy.seconds)}", max(0.0, left)
    return "its node is down", 0.0


def fence_seconds(lease_seconds: float) -> float:
    """Return how long a fenced task's node must be seen without a session before it is replaced."""
    return lease_seconds * (1 + MARGIN) + SLACK_SECONDS


def _given_up(facts: Facts, task: Task, why: str) -> Change:
    fenced = facts.policy_of(task).policy is LostNodePolicy.FENCE
    return orphan(task, why, facts.now, expect=(facts.node,) if fenced else ())


def orphan(task: Task, why: str, now: float, *, expect: tuple[Node, ...] = ()) -> Change:
    """Return what gives up a task: it is finished, and its place is free."""
    status = TaskStatus(
        state=TaskState.ORPHANED,
        at=now,
        message="orphaned",
        error=why,
        container_id=task.status.container_id,
    )
    desired = max(task.desired_state, TaskState.SHUTDOWN)
    after = msgspec.structs.replace(task, desired_state=desired, status=status)
    return Change(save=(after,), why=why, expect=expect)


class Pace:
    """How many tasks may be given up, by how many nodes are left to start others.

    A bucket that holds ``BURST_SECONDS`` of what they can start, and is filled at that rate.
    """

    def __init__(self) -> None:
        self._spent = 0.0
        self._at: float | None = None

    def room(self, survivors: int, now: float) -> int:
        """Return how many may go now; *now* is monotonic, in seconds."""
        rate = STARTS_PER_SECOND * max(1, survivors)
        if self._at is not None:
            self._spent = max(0.0, self._spent - rate * (now - self._at))
        self._at = now
        return max(0, int(rate * BURST_SECONDS - self._spent))

    def take(self, count: int) -> None:
        """Note that so many go."""
        self._spent += count

    @staticmethod
    def seconds_to_more(survivors: int) -> float:
        """Return when to look again if there was no room."""
        return max(0.1, 1 / (STARTS_PER_SECOND * max(1, survivors)))
