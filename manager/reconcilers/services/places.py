"""Places: which a service has, which it shall have, and who is in each of them.

A *place* is what a service has one serving task in: a slot of a replicated service, a node of a
global one. While a rollout reaches a place, or its task moves to another node, there are two live tasks in
it (I2): the *holder*, which is outdated or leaves, and its *successor*.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NewType

from cluster import lifecycle
from cluster.eligibility import eligible
from cluster.model import (
    Availability,
    Node,
    NodeId,
    NodeState,
    RestartPolicy,
    Rollout,
    ServiceMode,
    Task,
    TaskSpec,
    TaskState,
)
from manager.reconcilers.dependents import waiting
from manager.reconcilers.services.facts import Facts

Place = NewType("Place", str)


def is_running(task: Task | None) -> bool:
    """Tell whether a live task runs."""
    return task is not None and lifecycle.serves(task)


@dataclass(frozen=True, slots=True)
class Stand:
    """How things stand in one place.

    Attributes:
        history: all its tasks that are not to vanish, the newest first.
        leaving: those that are to vanish.
        holder: the live task that has the place; None if there is none.
        successor: the live task that is to have it; only beside a holder that is outdated or moves.
        extras: live tasks that nobody needs.
        serves: a task of the place runs and is to.
    """

    place: Place
    history: Sequence[Task] = ()
    leaving: Sequence[Task] = ()
    holder: Task | None = None
    successor: Task | None = None
    extras: Sequence[Task] = ()
    serves: bool = False

    @property
    def last(self) -> Task | None:
        return self.history[0] if self.history else None

    @property
    def is_in_use(self) -> bool:
        """Whether the place is taken: by a live task, or by one that ended by itself."""
        return self.holder is not None or (bool(self.history) and lifecycle.wanted(self.history[0]))

    def occupants(self) -> list[Task]:
        """Return the tasks that may still run here."""
        return [task for task in (*self.history, *self.leaving) if lifecycle.occupies(task)]


@dataclass(frozen=True, slots=True)
class Survey:
    """A service's places as one rollout sees them.

    Attributes:
        rollout: with the target by which tasks are judged.
        template: the target's.
        stands: of the places that shall be, in order.
        surplus: of those that shall not.
        same, good: whether a version's tasks comply with the target, and with the base, as far
            as it was asked: a plan asks for every task.
    """

    facts: Facts
    rollout: Rollout
    template: TaskSpec
    stands: Sequence[Stand] = ()
    surplus: Sequence[Stand] = ()
    same: dict[int, bool] = field(default_factory=dict)
    good: dict[int, bool] = field(default_factory=dict)

    def with_rollout(self, rollout: Rollout) -> "Survey":
        """Return the same places seen by another state of a rollout with the same target."""
        return replace(self, rollout=rollout, good={})

    def complies(self, task: Task) -> bool:
        known = self.same.get(task.spec_version)
        if known is None:
            known = self.facts.alike(task.spec_version, self.rollout.target)
            self.same[task.spec_version] = known
        return known

    def is_base(self, task: Task) -> bool:
        """Tell whether *task* is of the version that ran well before."""
        if not self.rollout.base:
            return False
        known = self.good.get(task.spec_version)
        if known is None:
            known = self.facts.alike(task.spec_version, self.rollout.base)
            self.good[task.spec_version] = known
        return known

    def is_gated(self) -> bool:
        """Tell whether the target's tasks may not start yet, for what the service depends on.

        A version that is returned to was through the gate when it ran well.
        """
        facts = self.facts
        return bool(facts.waits_for) and facts.alike(
            self.rollout.target, facts.service.spec_version
        )

    def is_held(self, number: int) -> bool:
        """Tell whether tasks of a version may not start yet, for what the service depends on.

        What ran well, and what is returned to, is not held: its gate was another one. All else is,
        though it be outdated: it may never have been through.
        """
        base = self.rollout.base
        if not self.facts.waits_for or (base and self.facts.alike(number, base)):
            return False
        return self.is_gated() or not self.facts.alike(number, self.rollout.target)

    def gate(self, number: int) -> str:
        """Return what tasks of a version wait for, to follow why they are made; mostly nothing."""
        return waiting(self.facts.waits_for) if self.is_held(number) else ""

    def standing(self, task: Task) -> tuple[bool, bool, bool, float, str]:
        """Order live tasks of a place: who serves first, of these whose version ran well."""
        may_run = task.desired_state is TaskState.RUNNING
        return is_running(task), self.is_base(task), may_run, task.created_at, task.id

    def restart_policy(self, number: int) -> RestartPolicy:
        """Return by which policy tasks of a version are replaced once they have ended: its own."""
        return (self.facts.template(number) or self.template).restart

    def is_move(self, stand: Stand) -> bool:
        """Tell whether the holder is to move, and is not about to get the target that way."""
        holder, successor = stand.holder, stand.successor
        if holder is None or not holder.moving:
            return False
        return self.complies(holder) or successor is None or not self.complies(successor)

    def is_open(self, stand: Stand) -> bool:
        """Tell whether the place can take another task; one of a lost or closed node cannot."""
        if self.facts.service.spec.mode is not ServiceMode.GLOBAL:
            return True
        node = self.facts.nodes.get(NodeId(stand.place))
        return node is not None and comes_to(self.template, node)


def survey(facts: Facts, rollout: Rollout) -> Survey:
    """Look at all places with the eyes of *rollout*."""
    template = facts.template(rollout.target) or facts.service.spec.task
    empty = Survey(facts, rollout, template)
    found = _stands(empty)
    wanted, surplus = _wanted(empty, found)
    return Survey(
        facts,
        rollout,
        template,
        [found.get(place) or Stand(place) for place in wanted],
        [found[place] for place in surplus],
        empty.same,
        empty.good,
    )


def _stands(look: Survey) -> dict[Place, Stand]:
    places: dict[Place, list[Task]] = {}
    is_global = look.facts.service.spec.mode is ServiceMode.GLOBAL
    newest_first = sorted(
        look.facts.tasks, key=lambda task: (task.created_at, task.id), reverse=True
    )
    for task in newest_first:
        place = Place(task.node_id if is_global else str(task.slot))
        places.setdefault(place, []).append(task)
    return {place: _stand(look, place, tasks) for place, tasks in places.items()}


def _stand(look: Survey, place: Place, tasks: Sequence[Task]) -> Stand:
    if len(tasks) == 1 and lifecycle.live(tasks[0]):  # as nearly all are
        return Stand(place, tasks, holder=tasks[0], serves=is_running(tasks[0]))
    history = [task for task in tasks if task.desired_state < TaskState.REMOVE]
    leaving = [task for task in tasks if task.desired_state is TaskState.REMOVE]
    live = [task for task in history if lifecycle.live(task)]
    outdated = [task for task in live if task.moving or not look.complies(task)]
    current = [task for task in live if look.complies(task) and not task.moving]
    # A task that runs as it shall and was there first needs nobody after it: whatever was to
    # replace it is not wanted any more.
    began = min((task.created_at for task in outdated), default=float("inf"))
    settled = [task for task in current if is_running(task) and task.created_at < began]
    holder, successor = None, None
    if outdated and not settled:
        holder = max(outdated, key=look.standing)
        heirs = _heirs(holder, live) if holder.moving and not current else current
        successor = max(heirs, key=look.standing, default=None)
    elif current:
        holder = max(settled or current, key=look.standing)
    extras = [task for task in live if task is not holder and task is not successor]
    serves = is_running(holder) or is_running(successor)
    return Stand(place, history, leaving, holder, successor, extras, serves)


def _heirs(holder: Task, live: Iterable[Task]) -> list[Task]:
    """Return who may take over from a task that moves, while its version's turn is not over."""
    return [task for task in live if not task.moving and task.created_at > holder.created_at]


def _wanted(look: Survey, found: Mapping[Place, Stand]) -> tuple[list[Place], list[Place]]:
    """Return the places that shall have a task, and those whose tasks shall go."""
    facts = look.facts
    in_use = [place for place, stand in found.items() if stand.is_in_use]
    if facts.service.spec.mode is ServiceMode.GLOBAL:
        keep = [place for place in in_use if _stays_on(look, facts.nodes.get(NodeId(place)))]
        kept = set(keep)
        opened = [
            Place(node.id)
            for node in facts.nodes.values()
            if Place(node.id) not in kept and comes_to(look.template, node)
        ]
        return sorted(keep) + sorted(opened), [place for place in in_use if place not in kept]
    replicas = facts.service.spec.replicas
    if len(in_use) > replicas:
        best = _best(look, found, in_use, replicas)
        kept = set(best)
        return best, [place for place in in_use if place not in kept]
    taken = set(in_use)
    number = 0
    while len(in_use) < replicas:
        number += 1
        if Place(str(number)) not in taken:
            in_use.append(Place(str(number)))
    return sorted(in_use, key=int), []


def _best(
    look: Survey, found: Mapping[Place, Stand], in_use: Sequence[Place], count: int
) -> list[Place]:
    """Return the *count* places to keep on scaling down.

    Those that run stay, current ones first; the crowded nodes give first, then the high slots.
    """
    crowd: dict[NodeId, int] = {}
    rank: list[tuple[bool, bool, int, int, Place]] = []
    for place in sorted(in_use, key=int):
        stand = found[place]
        task = stand.holder or stand.history[0]
        nth_on_node = 0
        if task.node_id:
            crowd[task.node_id] = nth_on_node = crowd.get(task.node_id, 0) + 1
        is_old = not look.complies(task)
        rank.append((not stand.serves, is_old, nth_on_node, int(place), place))
    return sorted((place for *_, place in sorted(rank)[:count]), key=int)


def _stays_on(look: Survey, node: Node | None) -> bool:
    return node is not None and eligible(look.template, node)


def comes_to(template: TaskSpec, node: Node) -> bool:
    """Tell whether a global service's place on *node* may get another task."""
    return (
        node.status.state is NodeState.READY
        and node.spec.availability is Availability.ACTIVE
        and eligible(template, node)
    )
