"""Removals: the tasks of services that are gone go too, dependents before what they depend on.

A service that is removed leaves its tasks behind, and with them the versions that say what it
depended on. Its tasks are stopped once nothing of those removed services is left that depends
on it. Services that still are have no say: whoever removes what they need has chosen so.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cluster import lifecycle
from cluster.clock import Clock
from cluster.model import Service, ServiceId, ServiceSpec, Task
from manager import view as views
from manager.committer import Change
from manager.reconcilers.loop import Plan
from manager.reconcilers.services.tasks import STOP_SECONDS_MAX, discard

LEAVING = "leaving"  # the one key: what is gone is looked at together


@dataclass(frozen=True, slots=True)
class Leaving:
    """What is left of a removed service.

    Attributes:
        spec: the newest that a task names; None if the store was tampered with.
        tasks: all of them; at least one.
        waited_seconds: for how long it has been held for its dependents.
    """

    spec: ServiceSpec | None
    tasks: Sequence[Task]
    waited_seconds: float = 0.0


def plan(leaving: Mapping[ServiceId, Leaving]) -> Plan:
    """Return what stops and removes the tasks whose turn it is."""
    changes: list[Change] = []
    look_again: list[float] = []
    for each in leaving.values():
        left = _patience_seconds(each, leaving) - each.waited_seconds
        if left > 0:
            look_again.append(left)
            continue
        for task in each.tasks:
            changes += discard(task, "its service was removed")
    return Plan(changes, min(look_again, default=None))


def _patience_seconds(each: Leaving, leaving: Mapping[ServiceId, Leaving]) -> float:
    """Return for how long at most its tasks are left alone in all; 0 if nobody needs them.

    A dependent on a host whose Docker hangs would keep it for ever.
    """
    if each.spec is None:
        return 0.0
    graces = [
        other.spec.task.container.stop_grace_seconds
        for other in _dependents(each.spec.name, leaving.values())
        if other.spec is not None
        and any(lifecycle.occupies(task) or lifecycle.live(task) for task in other.tasks)
    ]
    return max(graces) + STOP_SECONDS_MAX if graces else 0.0


def _dependents(name: str, leaving: Iterable[Leaving]) -> list[Leaving]:
    """Return those that depend on a name, or on somebody who does."""
    rest = [each for each in leaving if each.spec is not None]
    found: list[Leaving] = []
    names = {name}
    while names:
        near = [
            each
            for each in rest
            if each.spec and any(needed.service in names for needed in each.spec.depends_on)
        ]
        found += near
        rest = [each for each in rest if each not in near]
        names = {each.spec.name for each in near if each.spec}
    return found


class RemovalReconciler:
    """Plans all services that are gone at a time."""

    name = "removals"

    def __init__(self, view: views.View, clock: Clock) -> None:
        self._view = view
        self._clock = clock
        self._gone_since: dict[ServiceId, float] = {}
        for task in view.tasks.values():
            if task.service_id not in view.services:
                self._gone_since.setdefault(task.service_id, clock.monotonic())

    def concerned(self, change: views.Change) -> Iterable[str]:
        match change.either:
            case Service(id=service_id):
                if change.new is None:
                    self._gone_since.setdefault(service_id, self._clock.monotonic())
                    return [LEAVING]
            case Task(service_id=service_id) if service_id not in self._view.services:
                self._gone_since.setdefault(service_id, self._clock.monotonic())
                return [LEAVING]
        return []

    def everything(self) -> Iterable[str]:
        return [LEAVING]

    def plan(self, key: str, now: float) -> Plan:  # noqa: ARG002 - one key; its own clock counts
        leaving: dict[ServiceId, Leaving] = {}
        for service_id, since in list(self._gone_since.items()):
            tasks = list(self._view.tasks_of_service(service_id))
            if not tasks or service_id in self._view.services:
                del self._gone_since[service_id]
                continue
            waited = self._clock.monotonic() - since
            leaving[service_id] = Leaving(self._spec(service_id, tasks), tasks, waited)
        return plan(leaving)

    def _spec(self, service_id: ServiceId, tasks: Sequence[Task]) -> ServiceSpec | None:
        newest = max(task.spec_version for task in tasks)
        version = self._view.versions.get((service_id, newest))
        return version.spec if version is not None else None
