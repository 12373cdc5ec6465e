"""Moves: tasks that shall run on another node, for the sake of a drain, a rule or a better layout.

Who is to move is not decided here: its task says so (``Task.moving``), and why. Here it gets a
successor in its place, as the service's update order has it, and goes when that can take over:

* start-first: the successor runs beside it, and it goes when the successor runs (I2);
* stop-first: the successor is made ready beside it (bound, image pulled, container made), and it
  goes when that is done and the service's disruption budget can spare it (I8); until then the
  successor gives way to a place that has nobody and needs its room;
* what does not run serves nobody: it gives way as soon as its successor has a node;
* a global service's task has nowhere to go: it stops when the budget can spare it.

While its successor finds no node it stays, and the successor says what it waits for.
"""

from dataclasses import replace

from cluster import lifecycle
from cluster.model import ServiceMode, Task, TaskState, UpdateOrder
from manager import disruption
from manager.committer import Change
from manager.reconcilers.services import tasks
from manager.reconcilers.services.places import Stand, Survey, is_running
from manager.reconcilers.services.turns import Turns


class Moves:
    """Decides for all places of a service whose holder is to move.

    Attributes:
        changes: to commit.
        waits: in how many seconds to look again.
    """

    def __init__(self, look: Survey, turns: Turns) -> None:
        self.changes: list[Change] = []
        self.waits: list[float] = []
        self._look = look
        self._turns = turns
        service = look.facts.service
        self._allowance = disruption.allowance(service, look.facts.tasks, look.facts.leaving)
        self._allowance -= turns.taken
        self._is_global = service.spec.mode is ServiceMode.GLOBAL
        self._start_first = service.spec.update.order is UpdateOrder.START_FIRST

    def take(self) -> None:
        """Decide; who does not run goes first, for it costs nothing."""
        stands = [stand for stand in self._look.stands if self._look.is_move(stand)]
        stands.sort(key=lambda stand: stand.serves)
        for stand in stands:
            assert stand.holder is not None
            if stand.place in self._turns.begun or stand.extras:
                continue  # it gets the new version just now, elsewhere; or others go first
            if self._is_global:
                self._leave(stand.holder)
            elif stand.successor is None:
                self._begin(stand, stand.holder)
            else:
                self._finish(stand, stand.holder, stand.successor)

    def _leave(self, holder: Task) -> None:
        if not is_running(holder):
            self.changes.append(tasks.stop(holder, holder.moving))
        elif self._allowance > 0:
            self._take_away(holder)

    def _begin(self, stand: Stand, holder: Task) -> None:
        number = self._version_for(holder)
        runs = is_running(holder)
        start_first = self._start_first and runs
        if runs and not start_first and self._turns.lacking and self._allowance <= 0:
            return
        last = stand.history[0]
        if last is not holder and lifecycle.wanted(last) and last.created_at > holder.created_at:
            # The one before has failed: its like comes as the restart policy has it.
            if (pause := tasks.pause_seconds(self._look.facts, last)) > 0:
                self.waits.append(pause)
                return
            made = tasks.again(
                self._look, stand, last, number, beside=True, start_first=start_first
            )
        else:
            made = tasks.make(self._look, stand, number, beside=True, start_first=start_first)
        if made is not None:
            aimed = tasks.aimed(made, holder.aims_at)
            # Whether the holder moves is not ours to say: should it just now be told to stay,
            # nobody may start beside it.
            why = f"is to take over: {holder.moving}"
            self.changes.append(Change(save=(aimed,), expect=(holder,), why=why))
            if made.start_after:
                self.waits.append(made.start_after - self._look.facts.now)

    def _version_for(self, holder: Task) -> int:
        """Return the version that it moves with: its own, by the newest number that is like it."""
        look = self._look
        if look.complies(holder):
            return look.rollout.target
        if look.is_base(holder):
            return look.rollout.base
        known = look.facts.template(holder.spec_version) is not None
        return holder.spec_version if known else look.rollout.target

    def _finish(self, stand: Stand, holder: Task, successor: Task) -> None:
        if not is_running(holder):
            if successor.status.state >= TaskState.ASSIGNED:
                self.changes.append(tasks.stop(holder, holder.moving))
            return
        if is_running(successor):
            self.changes.append(tasks.stop(holder, holder.moving))
            return
        if (wait := tasks.delay_left(self._look.facts, successor)) > 0:
            self.waits.append(wait)
        elif successor.start_first:
            if successor.desired_state is TaskState.READY and all(
                task in (holder, successor) for task in stand.occupants()
            ):
                change = tasks.released(successor)
                self.changes.append(replace(change, expect=(holder,)))
        elif successor.status.state >= TaskState.READY:
            if self._allowance > 0:
                self._take_away(holder)
            else:
                self.changes += self._turns.given_way(successor)

    def _take_away(self, holder: Task) -> None:
        self._allowance -= 1
        self.changes.append(tasks.stop(holder, holder.moving))
