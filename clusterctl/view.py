"""The client's picture of the cluster, kept up to date by ``follow.Update``s."""

from collections.abc import Iterable, Mapping

from cluster.dependencies import World
from cluster.model import (
    Cluster,
    JobStatus,
    Node,
    NodeId,
    Object,
    Rollout,
    Scaling,
    Service,
    ServiceId,
    ServiceVersion,
    Task,
    TaskId,
)
from cluster.scaling import as_scaled
from clusterctl.follow import Update

_NO_TASKS: Mapping[TaskId, Task] = {}


class View:
    """What is known. Read the mappings, never change them.

    Attributes:
        revision: up to which everything is known; 0 until a whole snapshot has come. An object
            may be newer.
    """

    def __init__(self) -> None:
        self.revision = 0
        self.cluster: Cluster | None = None
        self.services: dict[ServiceId, Service] = {}  # with the replicas that they shall have
        self.versions: dict[tuple[ServiceId, int], ServiceVersion] = {}
        self.rollouts: dict[ServiceId, Rollout] = {}
        self.nodes: dict[NodeId, Node] = {}
        self.jobs: dict[ServiceId, JobStatus] = {}
        self.tasks: dict[TaskId, Task] = {}
        self._asked: dict[ServiceId, Service] = {}
        self._scalings: dict[ServiceId, Scaling] = {}
        self._tasks_of: dict[ServiceId, dict[TaskId, Task]] = {}

    def tasks_of(self, service: ServiceId) -> Iterable[Task]:
        return self._tasks_of.get(service, _NO_TASKS).values()

    def world(self) -> World:
        """Return what the gate of services that depend on others may look at."""
        return World(
            named=lambda name: next(
                (each for each in self.services.values() if each.spec.name == name), None
            ),
            tasks_of=self.tasks_of,
            version=lambda service, number: self.versions.get((service, number)),
            job=self.jobs.get,
            nodes=self.nodes.values,
        )

    def hostname(self, node: NodeId) -> str:
        """Return a node's name; the beginning of its id if it has none."""
        known = self.nodes.get(node)
        return (known.description.hostname if known else "") or node[:12]

    def apply(self, update: Update) -> None:
        if update.snapshot:
            self.__init__()  # type: ignore[misc]  # begin anew
        self.revision = max(self.revision, update.revision)
        for value in update.changed:
            self._set(value)
        for value in update.removed:
            self._remove(value)

    def _set(self, value: Object) -> None:
        match value:
            case Cluster():
                self.cluster = value
            case Task():
                self.tasks[value.id] = value
                self._tasks_of.setdefault(value.service_id, {})[value.id] = value
            case Service():
                self._asked[value.id] = value
                self._scale(value.id)
            case Scaling():
                self._scalings[value.service_id] = value
                self._scale(value.service_id)
            case ServiceVersion():
                self.versions[value.service_id, value.number] = value
            case Rollout():
                self.rollouts[value.service_id] = value
            case JobStatus():
                self.jobs[value.service_id] = value
            case Node():
                self.nodes[value.id] = value

    def _scale(self, service_id: ServiceId) -> None:
        if (asked := self._asked.get(service_id)) is not None:
            self.services[service_id] = as_scaled(asked, self._scalings.get(service_id))

    def _remove(self, value: Object) -> None:
        match value:
            case Task():
                self.tasks.pop(value.id, None)
                self._tasks_of.get(value.service_id, {}).pop(value.id, None)
            case Service():
                self._asked.pop(value.id, None)
                self.services.pop(value.id, None)
            case Scaling():
                self._scalings.pop(value.service_id, None)
                self._scale(value.service_id)
            case ServiceVersion():
                self.versions.pop((value.service_id, value.number), None)
            case Rollout():
                self.rollouts.pop(value.service_id, None)
            case JobStatus():
                self.jobs.pop(value.service_id, None)
            case Node():
                self.nodes.pop(value.id, None)
