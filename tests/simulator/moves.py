"""I8: for the sake of moves and of others no more of a service is taken away than its budget allows.

The leader knows at once what it has written itself: a place whose running task it has stopped for
a move, or to make room, is without one until another runs there. So at most as many of these places are open at a
time as the budget says, whatever news of other places is still on its way to the leader.

Of a rollout's stops, and those of a drain at its deadline, other rules hold; and of a global
service a stopped task's place is gone with it.
"""

from collections.abc import Container, Iterable, Iterator

from cluster.invariants import Breach, Place, State, Step
from cluster.lifecycle import needs_replacing, serves, wanted, was_stopped_regardless
from cluster.model import Rollout, Service, ServiceId, ServiceMode, Task, TaskState
from tests.simulator.scaling import shall


class Moves:
    """Remembers the places that were opened so; feed it every transaction, once it is made."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._rollouts: dict[ServiceId, Rollout] = {}
        self._open: dict[ServiceId, dict[Place, Task]] = {}

    def breaches(self, steps: Iterable[Step], preempted: Container[str] = ()) -> Iterator[Breach]:
        """Take the steps of a transaction; yield the services of which too much was taken.

        Args:
            steps: what it did.
            preempted: tasks that it stopped for the sake of others.
        """
        looked_at = list(steps)
        for _, new in looked_at:
            if isinstance(new, Rollout):
                self._rollouts[new.service_id] = new
            elif isinstance(new, Task) and serves(new):
                self._open.get(new.service_id, {}).pop(Place.of(new), None)
        touched: dict[ServiceId, None] = {}
        for old, new in looked_at:
            if not isinstance(old, Task) or not isinstance(new, Task) or not serves(old):
                continue
            is_for_others = new.id in preempted or self._is_for_a_move(old, new)
            if is_for_others and self._is_counted(new):
                self._open.setdefault(new.service_id, {})[Place.of(new)] = new
                touched[new.service_id] = None
        for service_id in touched:
            yield from self._too_many(shall(self._state, self._state.services[service_id]))

    def _is_for_a_move(self, old: Task, new: Task) -> bool:
        """Tell whether a running task was stopped because it is to move, not by a rollout."""
        if not old.moving or wanted(new) or was_stopped_regardless(new):
            return False
        if new.status.state is TaskState.ORPHANED:
            return False  # its node was lost meanwhile
        service = self._state.services.get(new.service_id)
        own = self._state.versions.get((new.service_id, new.spec_version))
        rollout = self._rollouts.get(new.service_id)
        if service is None or own is None:
            return False
        if rollout is not None and not rollout.state.settled:
            return False
        return not needs_replacing(own.spec.task, service.spec.task)

    def _is_counted(self, task: Task) -> bool:
        """Tell whether a place is left without a running task that there is to be."""
        service = self._state.services.get(task.service_id)
        is_replicated = service is not None and service.spec.mode is ServiceMode.REPLICATED
        return is_replicated and not any(map(serves, self._state.in_place(Place.of(task))))

    def _too_many(self, service: Service) -> Iterator[Breach]:
        opened = self._open[service.id]
        budget = service.spec.max_unavailable
        served = {Place.of(task) for task in self._state.of_service(service.id) if serves(task)}
        # Of a service that was made smaller since, fewer places are missed than were opened.
        missing = min(len(opened), service.spec.replicas - len(served))
        if missing > budget:
            names = ", ".join(self._state.called(task) for task in opened.values())
            text = f"{names} were stopped for others or to move, and nothing runs there; its budget is {budget}"
            yield Breach("I8", (service.id, *(task.id for task in opened.values())), text)
