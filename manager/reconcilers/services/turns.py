"""Whose turn it is: which places get the new version now, and which old tasks go.

The rules, place by place. A place is *under way* from the making of its successor until that
has run for the delay; at most ``parallelism`` are.

* The successor is made while the holder goes on. Stop-first: it is only prepared, and the
  holder is stopped when the successor could start at once. Start-first: it runs beside the
  holder, which is stopped when the successor runs.
* If the successor finds no place, and would were it not for the holder (a host port, a limit per
  node, room), the holder goes first: also with start-first, which says so.
* A running holder goes only while fewer than ``parallelism`` places are without a running task
  (not counting those whose failure is borne), unless its own successor runs.
* The last running task of the version that ran well goes only when some task of the new one has
  run for the monitor period; unless one place is all there is, or all places go at once.
* While the holder may not go, and a place that nobody serves waits for room, no successor is
  prepared; one that is gives way if it has that room: each would wait for the other.
* Who does not run serves nobody: it gives way without regard to any of that, unless its version
  ran well, and then its turn is worth waiting for.
* While a rollout is paused no place begins, and a successor whose holder runs is withdrawn. A
  place in which the new version failed gets the one that ran well again.
* While the new version waits for what its service depends on it is nobody's turn, and a successor
  is withdrawn likewise: what there is goes on, and is replaced by its like.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

from cluster import lifecycle
from cluster.model import NodeId, Task, TaskState, UpdateOrder
from manager import disruption
from manager.committer import Change
from manager.reconcilers import restart
from manager.reconcilers.services import tasks
from manager.reconcilers.services.places import Place, Stand, Survey, is_running
from manager.reconcilers.services.rollout import (
    ACTIVE,
    HALTED,
    RETURNS,
    canary_of,
    config_of,
    ended_for_good,
    is_begun,
    reachable,
)

NEW_VERSION = "the service has a new version"


class Turns:
    """Decides for all places of a service, one after the other.

    Attributes:
        changes: to commit.
        waits: in how many seconds to look again.
        note: what people should know beside the rollout's own message; empty if nothing.
        taken: running tasks that it stops before their successors run.
        begun: places that get a successor.
    """

    def __init__(self, look: Survey) -> None:
        self.changes: list[Change] = []
        self.waits: list[float] = []
        self.note = ""
        self.taken = 0
        self.begun: set[Place] = set()
        self._look = look
        self._rollout = look.rollout
        self._config = config_of(look.facts, look.rollout)
        self._is_halted = look.rollout.state in HALTED
        self._is_gated = look.is_gated()
        self._places = len(look.stands)
        self._parallelism = self._config.parallelism or max(1, self._places)
        self._under_way = self._missing = self._canary_left = self._good_running = 0
        self._proven_in: float | None = None

    def take(self) -> None:
        """Decide."""
        moving: list[Stand] = []
        empty: list[Stand] = []
        for stand in self._look.stands:
            if stand.extras:
                # Before anything is made there: one that could not be stopped, for news of it
                # came meanwhile, would else be a third in its place.
                self.changes += [
                    tasks.stop(extra, "another task holds its place") for extra in stand.extras
                ]
            elif stand.holder is None:
                empty.append(stand)
            elif not self._look.complies(stand.holder):
                if self._look.is_open(stand) and not self._leaves_as_it_is(stand):
                    moving.append(stand)
            elif stand.holder.moving:
                continue  # see ``moves``
            elif self._is_to_go_back(stand, stand.holder):
                made = tasks.make(self._look, stand, self._rollout.base)
                why = "it failed, and the rollout is paused"
                self.changes.append(tasks.stop(stand.holder, why, successor=(made,)))
            else:
                self._release(stand, stand.holder)
        if moving or self._rollout.base:
            self._count()
        for stand in empty:
            self._fill(stand)
        moving.sort(key=lambda stand: (stand.serves, self._is_base(stand.holder)))
        for stand in moving:
            if stand.holder and stand.successor:
                self._finish(stand, stand.holder, stand.successor)
        for stand in moving:
            if stand.holder and not stand.successor and not self._begin(stand, stand.holder):
                self._release(stand, stand.holder)
        if not self.changes:
            self._go_round(moving, empty)

    def _count(self) -> None:
        """Count what limits a rollout; a service of which nothing is to be moved need not."""
        look = self._look
        stands = list(reachable(look))
        self._places = len(stands)
        counted = [stand for stand in stands if stand.place not in look.rollout.failed]
        self._under_way = sum(self._is_under_way(stand) for stand in counted)
        self._missing = sum(
            not (self._is_served(stand) or self._is_over(stand)) for stand in counted
        )
        held = canary_of(look)
        begun = sum(is_begun(look, stand) for stand in stands) if held else 0
        self._canary_left = max(0, held - begun) if held else self._places
        self._good_running = sum(
            self._goes_on(stand.holder) and self._is_base(stand.holder) for stand in stands
        )
        self._proven_in = self._seconds_to_proof(stands)

    def _is_served(self, stand: Stand) -> bool:
        return stand.serves and (self._goes_on(stand.holder) or self._goes_on(stand.successor))

    def _goes_on(self, task: Task | None) -> bool:
        """Tell whether a task runs, and nobody is just telling it to stop."""
        return task is not None and is_running(task) and task.id not in self._look.facts.leaving

    def _release(self, stand: Stand, holder: Task) -> None:
        """Let the one who has the place run, if it was held back and need not be any more."""
        if holder.desired_state is TaskState.READY:
            changes, waits = tasks.release(self._look, stand, holder)
            self.changes += changes
            self.waits += waits

    def _leaves_as_it_is(self, stand: Stand) -> bool:
        """Tell whether an outdated holder moves with its own version, its successor being made."""
        return stand.successor is not None and self._look.is_move(stand)

    # --- places without a task ---

    def _fill(self, stand: Stand) -> None:
        if not self._look.is_open(stand):
            return
        facts, last = self._look.facts, stand.last
        number = self._version_for(stand)
        if last is not None and lifecycle.wanted(last) and facts.alike(last.spec_version, number):
            if (pause := tasks.pause_seconds(facts, last)) > 0:
                self.waits.append(pause)
                return
            made = tasks.again(self._look, stand, last, number)
        else:
            made = tasks.make(self._look, stand, number)
        if made is not None:
            self._made(made, "its place has no live task")

    def _go_round(self, moving: list[Stand], empty: list[Stand]) -> None:
        """Let the target prove itself in a place where nothing runs, while all others wait for that.

        A successor that is ready, and whose turn is taken by waiting, disturbs nobody.
        """
        waiting = sum(
            stand.successor is not None and stand.successor.status.state is TaskState.READY
            for stand in moving
        )
        under_way = self._under_way - waiting
        if (
            not waiting
            or self._is_halted
            or self._proven_in is not None  # some task of it runs, and is about to
            or under_way >= self._parallelism
            or not self._rollout.base
        ):
            return
        for stand in empty:
            if self._canary_left > 0 and self._look.is_open(stand) and self._is_over(stand):
                made = tasks.make(self._look, stand, self._rollout.target)
                self._made(made, "its place has no live task, and it is to prove its version")
                return

    def _version_for(self, stand: Stand) -> int:
        """Return what an empty place gets: what it had or shall have, as its turn is."""
        target, base = self._rollout.target, self._rollout.base
        if not base:
            return target
        last = stand.last
        if last is not None and lifecycle.wanted(last) and self._look.complies(last):
            return base if self._is_given_up(stand) else target
        return target if not self._is_halted and self._takes_turn(stand) else base

    def _is_given_up(self, stand: Stand) -> bool:
        """Tell whether the target has failed here, and is not tried again for now."""
        return self._is_halted and stand.place in self._rollout.failed

    def _is_to_go_back(self, stand: Stand, holder: Task) -> bool:
        """Tell whether the place is better off with the version that ran well."""
        given_up = self._is_given_up(stand) and self._rollout.base != 0
        return given_up and not is_running(holder) and self._look.is_open(stand)

    # --- places that have an outdated task ---

    def _begin(self, stand: Stand, holder: Task) -> bool:
        """Make the successor of *holder* if it is the place's turn; tell whether it was."""
        if self._is_halted:
            return False
        runs = is_running(holder)
        start_first = runs and self._config.order is UpdateOrder.START_FIRST
        if runs and not start_first and self.lacking and not self._can_spare(holder):
            return False
        number = self._rollout.target
        if runs or self._is_base(holder):
            if self._is_gated:
                return False
            if stand.place not in self._rollout.failed and not self._takes_turn(stand):
                return False
        elif (self._canary_left <= 0 or self._is_gated) and self._rollout.base:
            number = self._rollout.base  # not its turn, and what it has is of no use
        elif self._is_gated:
            return False  # its successor would wait as well
        last = stand.history[0]
        if last is not holder and lifecycle.wanted(last) and self._look.complies(last):
            pause = tasks.pause_seconds(self._look.facts, last)
            if pause > 0:
                self.waits.append(pause)
                return False
            made = tasks.again(
                self._look, stand, last, number, beside=runs, start_first=start_first
            )
            if made is None:
                return self._is_superseded(holder, last)
        else:
            made = tasks.make(self._look, stand, number, beside=runs, start_first=start_first)
        self.begun.add(stand.place)
        if runs:
            # Who starts first starts beside this one alone, and not if others are just stopping it.
            expect = (holder,) if start_first else ()
            self._made(made, "it is to replace an outdated task", expect)
        else:
            self.changes.append(tasks.stop(holder, NEW_VERSION, successor=(made,)))
        return True

    def _is_superseded(self, holder: Task, last: Task) -> bool:
        """Let *holder* go if the new version has come to its end beside it; tell whether it has."""
        if last.status.state is not TaskState.COMPLETE:
            return False
        self._stop(holder, "the new version has done its work in its place")
        return True

    def _finish(self, stand: Stand, holder: Task, successor: Task) -> None:
        """Let *holder* go once *successor* can take its place."""
        facts = self._look.facts
        serves = is_running(holder)
        if self._is_gated:
            why = "its service waits for what it depends on"
            self.changes += tasks.discard(successor, why)
            return
        if self._is_halted and (serves or self._is_base(holder)):
            self.changes += tasks.discard(successor, "the rollout is paused")
            return
        if not serves:
            self.changes.append(tasks.stop(holder, NEW_VERSION))
            return
        if is_running(successor):
            if self._may_lose(holder, alone=False):
                self._stop(holder, NEW_VERSION)
            return
        wait = tasks.delay_left(facts, successor)
        if wait > 0:
            self.waits.append(wait)
            return
        if successor.start_first and successor.desired_state is TaskState.READY:
            if all(task in (holder, successor) for task in stand.occupants()):
                self.changes.append(replace(tasks.released(successor), expect=(holder,)))
            return
        is_ready = successor.status.state >= TaskState.READY and not successor.start_first
        in_the_way = self._is_in_the_way(holder, successor)
        if not (is_ready or in_the_way):
            return
        if not self._can_spare(holder):
            self.changes += self.given_way(successor)
            return
        self._missing += 1
        self.taken += 1
        if in_the_way and successor.start_first:
            self.note = (
                "stop-first where the new task does not fit beside the old one"
                f" ({successor.status.error})"
            )
        self._stop(holder, NEW_VERSION)

    def given_way(self, successor: Task) -> list[Change]:
        """Return what withdraws a task that is held back where a place that has nobody needs its room."""
        if successor.status.state < TaskState.ASSIGNED:
            return []
        for task in self.lacking:
            if self._look.facts.fits_without(task, successor):
                return tasks.discard(successor, "a place that has no task needs its room")
        return []

    @cached_property
    def lacking(self) -> Sequence[Task]:
        """Who waits for room in a place that nobody serves; of each version one, for they fit alike."""
        found: dict[tuple[int, NodeId], Task] = {}
        for stand in self._look.stands:
            if not stand.serves:
                for task in (stand.holder, stand.successor):
                    if task is not None and _waits_for_room(task):
                        found.setdefault((task.spec_version, task.node_id), task)
        return list(found.values())

    def _is_in_the_way(self, holder: Task, successor: Task) -> bool:
        """Tell whether *successor* waits for the room, the port or the like of *holder*."""
        return _waits_for_room(successor) and self._look.facts.fits_without(successor, holder)

    def _can_spare(self, holder: Task) -> bool:
        """Tell whether *holder*, which runs, may stop before its successor runs."""
        may_take = disruption.update_allowance(self._parallelism, self._missing) > 0
        return self._may_lose(holder, alone=True) and may_take

    def _may_lose(self, holder: Task, *, alone: bool) -> bool:
        """Tell whether the version that ran well can spare *holder*.

        Args:
            holder: a running task.
            alone: it stops before its successor runs.
        """
        if self._rollout.state in RETURNS or not self._is_base(holder) or self._good_running > 1:
            return True
        if alone and (self._places == 1 or self._parallelism >= self._places):
            return True
        if self._proven_in is None:
            return False
        if self._proven_in > 0:
            self.waits.append(self._proven_in)
        return self._proven_in <= 0

    def _stop(self, holder: Task, why: str) -> None:
        self._good_running -= self._is_base(holder)
        self.changes.append(tasks.stop(holder, why))

    # --- counting ---

    def _takes_turn(self, stand: Stand) -> bool:
        """Tell whether it is the place's turn to get the target, and count it."""
        if self._is_gated or self._under_way >= self._parallelism or self._canary_left <= 0:
            return False
        self._under_way += 1
        self._canary_left -= not is_begun(self._look, stand)
        return True

    def _is_under_way(self, stand: Stand) -> bool:
        look = self._look
        if stand.successor is not None:
            return True
        if stand.holder is None:
            last = stand.last
            is_ours = last is not None and lifecycle.wanted(last) and look.complies(last)
            return self._rollout.state in ACTIVE and is_ours and not ended_for_good(look, stand)
        if not look.complies(stand.holder):
            return False
        if not is_running(stand.holder):
            return True
        if self._rollout.state not in ACTIVE:
            return False
        if stand.holder.created_at < self._rollout.started_at:
            return False
        left = self._config.delay_seconds - (look.facts.sighting(stand.holder).running_seconds or 0)
        if left > 0:
            self.waits.append(left)
        return left > 0

    def _seconds_to_proof(self, stands: list[Stand]) -> float | None:
        """Return in how many seconds a task of the target has run for the monitor period."""
        ran = [
            self._look.facts.sighting(task).running_seconds or 0.0
            for stand in stands
            for task in (stand.holder, stand.successor)
            if task is not None and is_running(task) and self._look.complies(task)
        ]
        return self._config.monitor_seconds - max(ran) if ran else None

    def _is_over(self, stand: Stand) -> bool:
        """Tell whether what the place had has ended for good: nobody lacks it, or brings it back."""
        last = stand.last
        if stand.holder is not None or last is None or not lifecycle.wanted(last):
            return False
        is_base = self._is_base(last)
        policy = self._look.restart_policy(self._rollout.base if is_base else self._rollout.target)
        return last.status.state.finished and not restart.may_restart(
            policy, last, stand.history, self._look.facts.now
        )

    def _is_base(self, task: Task | None) -> bool:
        return task is not None and self._look.is_base(task)

    def _made(self, task: Task, why: str, expect: tuple[Task, ...] = ()) -> None:
        why += self._look.gate(task.spec_version)
        self.changes.append(Change(save=(task,), expect=expect, why=why))
        if task.start_after:
            self.waits.append(task.start_after - task.created_at)


def _waits_for_room(task: Task) -> bool:
    return task.status.state is TaskState.PENDING and bool(task.status.error)
