"""Who depends on what has changed: so that whoever waits is looked at when it may go on."""

from collections.abc import Iterable

from cluster.dependencies import World
from cluster.model import JobStatus, Scaling, Service, ServiceId, Task
from manager import view as views


def world_of(view: views.View) -> World:
    """Return what the gate may look at, in a manager's view."""

    def named(name: str) -> Service | None:
        service = view.service_by_name(name)
        return view.as_scaled(service) if service is not None else None

    return World(
        named=named,
        tasks_of=view.tasks_of_service,
        version=lambda service_id, number: view.versions.get((service_id, number)),
        job=view.jobs.get,
        nodes=view.nodes.values,
    )


def listed(waits_for: Iterable[str]) -> str:
    """Return what is waited for, to follow "waits for"; empty if nothing is."""
    return ", and for ".join(waits_for)


def waiting(waits_for: Iterable[str]) -> str:
    """Return what is waited for as the end of a sentence; empty if nothing is."""
    told = listed(waits_for)
    return f"; it waits for {told}" if told else ""


class Dependents:
    """Services by the names of those they depend on; feed it every change of the view."""

    def __init__(self, view: views.View) -> None:
        self._view = view
        self._waiting: dict[str, dict[ServiceId, None]] = {}  # in order
        for service in view.services.values():
            self._follow(None, service)

    def concerned(self, change: views.Change) -> Iterable[ServiceId]:
        """Return the services that depend on the one that *change* is about."""
        match change.either:
            case Service(spec=spec):
                old = change.old if isinstance(change.old, Service) else None
                new = change.new if isinstance(change.new, Service) else None
                self._follow(old, new)
                return self._waiting.get(spec.name, ())
            case (
                Task(service_id=service_id)
                | JobStatus(service_id=service_id)
                | Scaling(service_id=service_id)
            ):
                service = self._view.services.get(service_id)
                return self._waiting.get(service.spec.name, ()) if service else ()
        return ()

    def _follow(self, old: Service | None, new: Service | None) -> None:
        if old is not None:
            for each in old.spec.depends_on:
                waiting = self._waiting.get(each.service, {})
                waiting.pop(old.id, None)
                if not waiting:
                    self._waiting.pop(each.service, None)
        if new is not None:
            for each in new.spec.depends_on:
                self._waiting.setdefault(each.service, {})[new.id] = None
