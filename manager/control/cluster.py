"""The cluster as a whole: how it is, its settings, and its first record."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec

from cluster import hours
from cluster.clock import Clock
from cluster.errors import ConflictError, InvalidError, UnavailableError
from cluster.ids import IdSource
from cluster.lifecycle import occupies
from cluster.model import (
    Cluster,
    ClusterId,
    ClusterSpec,
    Manager,
    ManagerId,
    NodeState,
    Rebalancing,
    TaskState,
)
from cluster.quantities import DURATION_SECONDS_MAX, format_duration
from cluster.resources import Resources
from manager import records
from manager.control.access import Access, Decision, as_stored
from manager.control.differences import differences
from manager.control.summaries import reserved_by
from manager.rebalancing import MOVES_MAX
from manager.store import keys
from manager.store.interface import GuardFailedError, Revision, Store, Unchanged

# Less would load managers for nothing; more would make "down" a matter of minutes.
HEARTBEAT_SECONDS_MIN = 0.2
HEARTBEAT_SECONDS_MAX = 60.0

# Each kept task is a record that every manager holds.
TASK_HISTORY_MAX = 100

# A task that is moved more often than that does little else than start.
REST_SECONDS_MIN = 60.0

# Someone waits at a prompt, and the store's members may be down.
MEMBERS_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class StoreMember:
    """A member of the store; what it could not be asked is empty."""

    endpoint: str
    reachable: bool = False
    server_version: str = ""
    size_bytes: int = 0
    leads: bool = False
    error: str = ""


Members = Callable[[], Awaitable[Sequence[StoreMember]]]


@dataclass(frozen=True, slots=True)
class ClusterInfo:
    """The cluster in numbers.

    Attributes:
        leader_id: None if no manager leads just now.
        revision: of the store, that the answer reflects.
        capacity: of all ready nodes, of which ``reserved`` is promised.
    """

    cluster: Cluster
    managers: Sequence[Manager]
    leader_id: ManagerId | None
    answered_by_id: ManagerId
    store_members: Sequence[StoreMember]
    revision: int
    nodes_ready: int
    nodes_total: int
    services_total: int
    tasks_running: int
    capacity: Resources
    reserved: Resources


class Clusters:
    """The part of the Control API that is about the cluster itself."""

    def __init__(self, access: Access, own_id: ManagerId, members: Members) -> None:
        self._access = access
        self._view = access.view
        self._own_id = own_id
        self._members = members

    async def info(self) -> ClusterInfo:
        members = await self._store_members()
        view = self._view
        ready = [node for node in view.nodes.values() if node.status.state is NodeState.READY]
        there = [task for node in ready for task in view.tasks_on_node(node.id) if occupies(task)]
        return ClusterInfo(
            cluster=self.record(),
            managers=sorted(view.managers.values(), key=lambda manager: manager.address),
            leader_id=view.leader.manager_id if view.leader else None,
            answered_by_id=self._own_id,
            store_members=members,
            revision=view.revision,
            nodes_ready=len(ready),
            nodes_total=len(view.nodes),
            services_total=len(view.services),
            tasks_running=sum(t.status.state is TaskState.RUNNING for t in view.tasks.values()),
            capacity=sum((node.description.capacity for node in ready), Resources()),
            reserved=reserved_by(view, there),
        )

    async def update(self, version: int, spec: ClusterSpec) -> Cluster:
        """Replace the settings.

        Args:
            version: that the change was decided on; 0: it holds for any.
            spec: the new settings, whole.

        Raises:
            ConflictError: they have changed since *version*.
        """
        _check(spec)
        if version:
            await self._access.reached(version)

        def decide() -> Decision[Cluster]:
            old = self.record()
            if version not in (0, old.version):
                raise ConflictError(
                    "the cluster's settings have changed: the update was decided on version"
                    f" {version}, they are at version {old.version} now and differ from the update"
                    f" in {differences(spec, old.spec) or 'nothing'};"
                    " look again: `clusterctl cluster info`"
                )
            changes = self._access.begin()
            if spec == old.spec:
                return Decision(changes, lambda _: old)
            new = msgspec.structs.replace(old, spec=spec)
            changes.save(new, old=old, why=differences(old.spec, spec))
            return Decision(changes, lambda revision: as_stored(new, revision))

        return await self._access.change(decide)

    def record(self) -> Cluster:
        if self._view.cluster is None:
            raise UnavailableError("the cluster is not set up yet: try again in a moment")
        return self._view.cluster

    async def _store_members(self) -> Sequence[StoreMember]:
        try:
            async with asyncio.timeout(MEMBERS_SECONDS):
                return await self._members()
        except TimeoutError:
            return ()


async def establish(store: Store, ids: IdSource, clock: Clock) -> Revision:
    """Make the cluster's record in an empty store; return the revision at which there is one.

    Raises:
        StoreUnavailableError: the store does not answer; do it again.
    """
    new = Cluster(id=ClusterId(ids.new()), created_at=clock.now())
    try:
        return await store.commit([Unchanged(keys.CLUSTER, 0)], [records.put(new)])
    except GuardFailedError as error:
        item = error.current[keys.CLUSTER]
        assert item is not None  # the guard was that there is none
        return item.mod_revision


def _check(spec: ClusterSpec) -> None:
    period = spec.heartbeat_period_seconds
    if not math.isfinite(period) or not HEARTBEAT_SECONDS_MIN <= period <= HEARTBEAT_SECONDS_MAX:
        raise InvalidError(
            f"heartbeat_period_seconds must be {HEARTBEAT_SECONDS_MIN} to"
            f" {HEARTBEAT_SECONDS_MAX:g}, is {period:g}"
        )
    if not 0 <= spec.task_history_limit <= TASK_HISTORY_MAX:
        raise InvalidError(
            f"task_history_limit must be 0 to {TASK_HISTORY_MAX}, is {spec.task_history_limit}"
        )
    _check_rebalancing(spec.rebalancing)


def _check_rebalancing(spec: Rebalancing) -> None:
    flaws = list(hours.flaws(spec.hours, spec.time_zone))
    if not 1 <= spec.moves <= MOVES_MAX:
        flaws.append(("moves", f"must be 1 to {MOVES_MAX}, is {spec.moves}"))
    if not REST_SECONDS_MIN <= spec.rest_seconds <= DURATION_SECONDS_MAX:
        shortest, longest = map(format_duration, (REST_SECONDS_MIN, DURATION_SECONDS_MAX))
        flaws.append(
            ("rest_seconds", f"must be {shortest} to {longest}, is {spec.rest_seconds:g} s")
        )
    if flaws:
        raise InvalidError("\n".join(f"rebalancing.{field}: {message}" for field, message in flaws))
