"""I7: what a rollout takes away is its to take.

Judged is every stop of a running task of another version than the rollout's target, while no other
task of its place serves. The leader knows at once what it has written itself, rollouts too; news of
what agents saw may still be on its way to it, and so may what operators ask for. So a task that ran
lately counts as one that the leader may have believed to run, and a spec that was replaced lately
as one that it may have gone by.

Of moves, and of what an operator takes away by asking for fewer replicas, other rules hold.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from cluster.invariants import Breach, Place, State, Step
from cluster.lifecycle import live, needs_replacing, serves, wanted, was_stopped_regardless
from cluster.model import (
    RestartCondition,
    Rollout,
    RolloutState,
    Scaling,
    Service,
    ServiceId,
    ServiceMode,
    ServiceSpec,
    Task,
    TaskId,
    TaskState,
)
from cluster.scaling import wanted_replicas

# News reaches a leader within this, by a slow, a lagging or a deaf watch too.
NEWS_SECONDS_MAX = 90.0

# By so much a leader's clock may run faster than the simulation's.
CLOCK_SLACK = 0.005

PAUSED = (RolloutState.PAUSED, RolloutState.ROLLBACK_PAUSED)
RETURNS = (RolloutState.ROLLING_BACK, RolloutState.ROLLED_BACK, RolloutState.ROLLBACK_PAUSED)


@dataclass
class _Run:
    """How long a task was seen to serve; ``until`` is None while it does."""

    task: Task
    since: float
    until: float | None = None


class Takings:
    """Remembers who served when; feed it every transaction, once it is made."""

    def __init__(
        self, state: State, rollouts: Mapping[ServiceId, Rollout], now: Callable[[], float]
    ) -> None:
        self._state = state
        self._rollouts = rollouts
        self._now = now
        self._made_at: dict[TaskId, float] = {}
        self._replaced: dict[ServiceId, list[tuple[float, ServiceSpec]]] = {}
        self._runs: dict[ServiceId, dict[TaskId, _Run]] = {}
        self._open: dict[ServiceId, dict[Place, Task]] = {}
        self._bases: dict[ServiceId, int] = {}  # of the last rollout, also when it has ended
        self._longest: dict[ServiceId, dict[int, float]] = {}  # run of each version, seconds
        self._memories: tuple[dict[ServiceId, Any], ...] = (
            *(self._replaced, self._runs, self._open, self._bases, self._longest),
        )

    def breaches(self, steps: Iterable[Step], preempted: Container[str] = ()) -> Iterator[Breach]:
        """Take the steps of a transaction; yield the stops that were not the rollout's to make.

        Args:
            steps: what it did.
            preempted: tasks that it stopped for the sake of others.
        """
        stopped: list[Task] = []
        for old, new in steps:
            match old, new:
                case _, Rollout() if new.base or not new.state.settled:
                    self._bases[new.service_id] = new.base
                case Service(), Service() if old.spec != new.spec:
                    self._replaced.setdefault(new.id, []).append((self._now(), old.spec))
                    if old.spec.replicas != new.spec.replicas:
                        self._open.pop(new.id, None)
                case _, Scaling():
                    self._open.pop(new.service_id, None)
                case Service(), None:
                    for memory in self._memories:
                        memory.pop(old.id, None)
                case Task(), None:
                    self._made_at.pop(old.id, None)
                case Task() | None, Task():
                    self._made_at.setdefault(new.id, self._now())
                    self._note(new)
                    was_serving = old is not None and serves(old) and not old.moving
                    is_for_others = new.id in preempted or was_stopped_regardless(new)
                    if was_serving and _is_stopped(new) and not is_for_others:
                        stopped.append(new)
        for task in stopped:
            yield from self._stop(task)

    def _note(self, task: Task) -> None:
        runs = self._runs.setdefault(task.service_id, {})
        run = runs.get(task.id)
        if serves(task):
            if run is None:
                runs[task.id] = _Run(task, self._now())
                self._open.get(task.service_id, {}).pop(Place.of(task), None)
        elif run is not None and run.until is None:
            run.task, run.until = task, self._now()
            longest = self._longest.setdefault(task.service_id, {})
            number = task.spec_version
            longest[number] = max(longest.get(number, 0.0), run.until - run.since)

    def _stop(self, task: Task) -> Iterator[Breach]:
        state, service = self._state, self._state.services.get(task.service_id)
        rollout = self._rollouts.get(task.service_id)
        if (
            service is None
            or rollout is None
            or self._alike(task.service_id, task.spec_version, rollout.target) is not False
        ):
            return
        alone = not any(Place.of(run.task) == Place.of(task) for run in self._lately(task))
        if alone and rollout.state in PAUSED:
            text = f"{state.called(task)} was stopped, though the rollout is {rollout.state.value}"
            yield Breach("I7", (task.id, service.id), text)
        if service.spec.mode is not ServiceMode.REPLICATED:
            return
        specs = self._specs(service)
        if alone and not rollout.state.settled:
            self._open.setdefault(service.id, {})[Place.of(task)] = task
            bare = self._open[service.id] | self._long_without(task)
            if not any(self._may_be_bare(bare, spec, service, rollout) for spec in specs):
                names = ", ".join(map(state.called, bare.values()))
                text = (
                    f"nothing runs in the places of {names}, and {state.called(task)} was stopped"
                )
                yield Breach("I7", (service.id, task.id), f"{text} for a new version")
        if not any(self._may_lose(spec, task, rollout) for spec in specs):
            text = (
                f"{state.called(task)}, the last that ran well, was stopped before"
                f" version {rollout.target} had run well anywhere"
            )
            yield Breach("I7", (task.id, service.id), text)

    def _long_without(self, task: Task) -> dict[Place, Task]:
        """Return places of the service in which nothing has run for so long that it is known."""
        known_at = self._now() - NEWS_SECONDS_MAX
        served = {Place.of(run.task) for run in self._lately(task)}
        return {
            Place.of(other): other
            for other in self._state.of_service(task.service_id)
            if live(other) and self._made_at[other.id] < known_at and Place.of(other) not in served
        }

    def _may_be_bare(
        self, bare: Mapping[Place, Task], spec: ServiceSpec, service: Service, rollout: Rollout
    ) -> bool:
        """Tell whether no more places are without a running task than the rollout may open."""
        is_return = rollout.state in RETURNS or service.rolls_back
        parallelism = (spec.rollback if is_return else spec.update).parallelism
        counted = [
            place
            for place in bare
            if str(place.slot) not in rollout.failed and not self._is_over(spec, place)
        ]
        return not parallelism or len(counted) <= parallelism

    def _is_over(self, spec: ServiceSpec, place: Place) -> bool:
        """Tell whether what the place had may have come to its end for good."""
        if spec.task.restart.condition is RestartCondition.ANY:
            return False
        newest = max(self._state.in_place(place), key=lambda task: task.created_at, default=None)
        return newest is not None and wanted(newest) and newest.status.state.finished

    def _may_lose(self, spec: ServiceSpec, task: Task, rollout: Rollout) -> bool:
        """Tell whether the version that ran well could spare *task*."""
        base = self._bases.get(task.service_id, 0)
        if (
            rollout.state in RETURNS
            or not base
            or not self._alike(task.service_id, task.spec_version, base)
        ):
            return True
        lately = self._lately(task)
        has_heir = any(
            Place.of(run.task) == Place.of(task) and run.task.created_at > task.created_at
            for run in lately
        )
        if not has_heir and not 1 < spec.replicas > spec.update.parallelism > 0:
            return True
        if any(self._alike(task.service_id, run.task.spec_version, base) for run in lately):
            return True
        ran = [(run.task.spec_version, self._now() - run.since) for run in lately if not run.until]
        enough = spec.update.monitor_seconds * (1 - CLOCK_SLACK)
        return any(
            seconds >= enough and self._alike(task.service_id, number, rollout.target)
            for number, seconds in (*ran, *self._longest.get(task.service_id, {}).items())
        )

    def _lately(self, task: Task) -> list[_Run]:
        """Return the others of the service that the leader may have believed to run."""
        runs, oldest = self._runs[task.service_id], self._now() - NEWS_SECONDS_MAX
        for task_id, run in list(runs.items()):
            if run.until is not None and run.until < oldest:
                del runs[task_id]
        return [
            run
            for run in runs.values()
            if run.task.id != task.id and (run.until is None or not _is_stopped(run.task))
        ]

    def _specs(self, service: Service) -> list[ServiceSpec]:
        """Return what the leader may have gone by."""
        oldest = self._now() - NEWS_SECONDS_MAX
        replaced = [each for each in self._replaced.get(service.id, ()) if each[0] >= oldest]
        self._replaced[service.id] = replaced
        specs = [service.spec, *(spec for _, spec in replaced)]
        scaling = self._state.scalings.get(service.id)
        return [
            msgspec.structs.replace(spec, replicas=wanted_replicas(spec, scaling)) for spec in specs
        ]

    def _alike(self, service_id: ServiceId, one: int, other: int) -> bool | None:
        """Tell whether two versions run the same; None if one is forgotten."""
        first = self._state.versions.get((service_id, one))
        second = self._state.versions.get((service_id, other))
        if first is None or second is None:
            return None
        return not needs_replacing(first.spec.task, second.spec.task)


def _is_stopped(task: Task) -> bool:
    """Tell whether the leader has stopped it; one of a lost node is given up instead."""
    is_lost = task.status.state is TaskState.ORPHANED
    return task.desired_state is TaskState.SHUTDOWN and not is_lost
