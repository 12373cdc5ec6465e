"""The agent as a whole: a worker that runs tasks, and a link that speaks for it to managers.

The worker needs to know the cluster, for it touches that cluster's containers alone. A node
that has joined before knows it from its files, and its worker works from the beginning, with
or without managers; a new node learns it with its first session.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

import msgspec

from agent import host
from agent.channel import Dialer
from agent.fence import Fence
from agent.heartbeats import Heartbeats
from agent.identity import Identity, IdentityFiles
from agent.image_news import ImageNews
from agent.link import Link, SessionCall
from agent.log_publisher import LogPublisher
from agent.managers import Managers
from agent.runtime.interface import (
    EngineInfo,
    Owner,
    Runtime,
    RuntimeFailedError,
    RuntimeUnavailableError,
)
from agent.session import Opened, Session
from agent.settings import AgentSettings
from agent.usage import UsageMeter
from agent.worker import Worker
from cluster.api.v1 import dispatch_pb2 as pb
from cluster.clock import Clock
from cluster.errors import InvalidError
from cluster.model import ClusterId, NodeDescription, SessionId
from cluster.task_group import TaskGroup

if TYPE_CHECKING:  # it exists only for type checkers
    from cluster.api.v1.dispatch_pb2_grpc import DispatchAsyncStub

log = logging.getLogger(__name__)

ENGINE_RETRY_SECONDS = 1.0  # between questions to a Docker that does not answer


class Agent:
    """Runs on one host, for one node.

    Args:
        meter: measures what the host uses.
        fence: keeps the leases of fenced tasks; without it none can run.
        on_session: is called when there is a session.
        tell: is told what the agent waits for, in a few words.
    """

    def __init__(
        self,
        settings: AgentSettings,
        runtime: Runtime,
        files: IdentityFiles,
        identity: Identity,
        *,
        dialer: Dialer,
        clock: Clock,
        source: random.Random,
        meter: host.HostMeter,
        booted_at: float = 0.0,
        fence: Fence | None = None,
        on_session: Callable[[], None] = lambda: None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._runtime = runtime
        self._files = files
        self._identity = identity
        self._clock = clock
        self._source = source
        self._meter = meter
        self._booted_at = booted_at
        self._fence = fence
        self._on_session = on_session
        self._images = ImageNews(runtime, source)
        self._managers = Managers(settings.managers, source)
        self._link = Link(
            self,
            identity.node_id,
            settings.labels,
            managers=self._managers,
            dialer=dialer,
            clock=clock,
            tell=tell,
        )
        self._group = TaskGroup()
        self._crew: tuple[Worker, UsageMeter] | None = None
        self._description: NodeDescription | None = None
        self._outdated = asyncio.Event()  # set when that has changed; another for each
        self._engine_seen_at = clock.monotonic()

    @property
    def cluster_id(self) -> ClusterId:
        return self._identity.cluster_id

    async def run(self) -> NoReturn:
        """Work until cancelled; containers go on."""
        async with self._group as group:
            if self._identity.cluster_id:
                self._begin_work()
            group.create_task(self._link.run())
        raise AssertionError  # the link never returns

    # --- what the link asks -------------------------------------------------------------------

    async def describe(self) -> NodeDescription:
        last_error = ""
        while True:
            try:
                info = await self._runtime.info()
            except (RuntimeUnavailableError, RuntimeFailedError) as error:
                if str(error) != last_error:
                    log.warning("waits for Docker", extra={"error": str(error)})
                last_error = str(error)
                await asyncio.sleep(ENGINE_RETRY_SECONDS)
            else:
                described = self._take_info(info)
                images = await self._images.look()
                return msgspec.structs.replace(described, images=images)

    async def speak(
        self,
        description: NodeDescription,
        first: pb.SessionMessage,
        stub: "DispatchAsyncStub",
        call: SessionCall,
    ) -> NoReturn:
        worker, meter = self._join(ClusterId(first.cluster_id))
        self._managers.told(first.managers)
        without_images = msgspec.structs.replace(description, images=())
        opened = Opened(
            id=SessionId(first.session_id),
            engine_silence=self._engine_silence,
            told_managers=self._managers.told,
            stale=self._outdated_after(without_images),
        )
        heartbeats = Heartbeats(
            stub,
            opened.id,
            first.heartbeat_period_seconds,
            take_usage=meter.take,
            clock=self._clock,
            source=self._source,
            fence=self._fence,
        )
        logs = LogPublisher(self._runtime, worker.container_of, stub, opened.id)
        for wish in first.logs:
            logs.wanted(wish)
        self._on_session()
        await Session(
            opened,
            stub,
            call,
            worker,
            heartbeats=heartbeats,
            logs=logs,
            tell_images=lambda: self._images.tell(stub, opened.id, description.images),
            source=self._source,
        ).run()

    # --- inside -------------------------------------------------------------------------------

    def _join(self, cluster_id: ClusterId) -> tuple[Worker, UsageMeter]:
        """Return who works for the cluster; a node that has none yet joins it.

        Raises:
            InvalidError: the node belongs to another one.
        """
        if not self._identity.cluster_id:
            self._files.join(cluster_id)
            self._identity = Identity(node_id=self._identity.node_id, cluster_id=cluster_id)
            log.info("joined a cluster", extra={"cluster": cluster_id})
        if cluster_id != self._identity.cluster_id:
            raise InvalidError(
                f"the manager is of cluster {cluster_id}, this node of cluster "
                f"{self._identity.cluster_id}; an empty state directory makes it a new node"
            )
        return self._crew or self._begin_work()

    def _begin_work(self) -> tuple[Worker, UsageMeter]:
        node_id = self._identity.node_id
        worker = Worker(
            self._runtime,
            Owner(self._identity.cluster_id, node_id),
            clock=self._clock,
            source=self._source,
            booted_at=self._booted_at,
            fence=self._fence,
            on_connected=lambda: _ignore(self._group.create_task(self._look_at_engine())),
        )
        meter = UsageMeter(
            self._runtime, node_id, lambda: worker.containers, self._clock, self._meter
        )
        self._group.create_task(worker.run())
        self._group.create_task(meter.run())
        self._crew = worker, meter
        return self._crew

    async def _look_at_engine(self) -> None:
        """See whether the engine that has come back is still the same."""
        try:
            self._take_info(await self._runtime.info())
        except (RuntimeUnavailableError, RuntimeFailedError):
            return  # it has gone again; the worker notices

    def _take_info(self, info: EngineInfo) -> NodeDescription:
        self._engine_seen_at = self._clock.monotonic()
        description = host.describe(self._settings, info)
        if description != self._description:
            self._description = description
            self._outdated.set()
            self._outdated = asyncio.Event()
        return description

    def _outdated_after(self, description: NodeDescription) -> asyncio.Event:
        """Return what is set once *description* is not the host's any more; perhaps already."""
        if self._description == description:
            return self._outdated
        changed = asyncio.Event()
        changed.set()
        return changed

    def _engine_silence(self) -> float:
        since = self._clock.monotonic() - self._engine_seen_at
        return since if self._crew is None else min(since, self._crew[0].silence_seconds())


def _ignore(_: object) -> None:
    """Drop a value where none is wanted."""
