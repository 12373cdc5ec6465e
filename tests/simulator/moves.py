"""I8: for the sake of a move no more of a service is taken away than its budget allows.

The leader knows at once what it has written itself: a place whose running task it has stopped for
a move is without one until another runs there. So at most as many of these places are open at a
time as the budget says, whatever news of other places is still on its way to the leader.

Of a rollout's stops, and those of a drain at its deadline, other rules hold; and of a global
service a stopped task's place is gone with it.
"""

from collections.abc import Iterable, Iterator

from cluster.invariants import Breach, Place, State, Step
from cluster.lifecycle import needs_replacing, serves, wanted, was_stopped_regardless
from cluster.model import Rollout, Service, ServiceId, ServiceMode, Task, TaskState


class Moves:
    """Remembers the places that moves have opened; feed it every transaction, once it is made."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._rollouts: dict[ServiceId, Rollout] = {}
        self._open: dict[ServiceId, dict[Place, Task]] = {}

    def breaches(self, steps: Iterable[Step]) -> Iterator[Breach]:
        """Take the steps of a transaction; yield the services of which too much was taken."""
        looked_at = list(steps)
        for _, new in looked_at:
            if isinstance(new, Rollout):
                self._rollouts[new.service_id] = new
            elif isinstance(new, Task) and serves(new):
                self._open.get(new.service_id, {}).pop(Place.of(new), None)
        touched: dict[ServiceId, None] = {}
        for old, new in looked_at:
            if isinstance(old, Task) and isinstance(new, Task) and self._is_for_a_move(old, new):
                self._open.setdefault(new.service_id, {})[Place.of(new)] = new
                touched[new.service_id] = None
        for service_id in touched:
            yield from self._too_many(self._state.services[service_id])

    def _is_for_a_move(self, old: Task, new: Task) -> bool:
        """Tell whether a running task was stopped because it is to move, before another runs."""
        if not serves(old) or not old.moving or wanted(new) or was_stopped_regardless(new):
            return False
        if new.status.state is TaskState.ORPHANED:
            return False  # its node was lost meanwhile
        service = self._state.services.get(new.service_id)
        own = self._state.versions.get((new.service_id, new.spec_version))
        rollout = self._rollouts.get(new.service_id)
        if service is None or own is None or service.spec.mode is not ServiceMode.REPLICATED:
            return False
        if rollout is not None and not rollout.state.settled:
            return False
        if needs_replacing(own.spec.task, service.spec.task):
            return False
        return not any(map(serves, self._state.in_place(Place.of(new))))

    def _too_many(self, service: Service) -> Iterator[Breach]:
        opened = self._open[service.id]
        budget = service.spec.max_unavailable
        served = {Place.of(task) for task in self._state.of_service(service.id) if serves(task)}
        # Of a service that was made smaller since, fewer places are missed than were opened.
        missing = min(len(opened), service.spec.replicas - len(served))
        if missing > budget:
            names = ", ".join(self._state.called(task) for task in opened.values())
            text = f"{names} were stopped to move, and nothing runs there; its budget is {budget}"
            yield Breach("I8", (service.id, *(task.id for task in opened.values())), text)
