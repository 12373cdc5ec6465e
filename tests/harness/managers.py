"""Managers in this process, on real etcd and real gRPC over loopback; and agents of straw.

async with manager(etcd.endpoints) as one, manager(etcd.endpoints) as other:
    await one.control.CreateService(...)
    agent = await StrawAgent.join(other, "n1")
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

from grpc import aio

from cluster.api.v1 import control_pb2 as control
from cluster.api.v1 import dispatch_pb2 as dispatch
from cluster.api.v1 import types_pb2 as types
from cluster.api.v1.control_pb2_grpc import ControlStub
from cluster.api.v1.dispatch_pb2_grpc import DispatchStub
from cluster.clock import SystemClock
from cluster.settings import TlsFiles
from manager.control.cluster import StoreMember
from manager.rpc.transport import GrpcTransport, channel_credentials
from manager.server import ManagerServer
from manager.store.etcd import EtcdStore

OPTIONS = (("grpc.use_local_subchannel_pool", 1),)

# What a loaded machine may need for what takes milliseconds on a quiet one.
PATIENCE_SECONDS = 20.0


class RunningManager:
    """A manager, and a client's way to it."""

    def __init__(self, server: ManagerServer, tls: TlsFiles | None) -> None:
        self.server = server
        self.address = server.address
        self.stopping = asyncio.Event()
        self.ready = asyncio.Event()
        self.running = asyncio.create_task(server.run(self.stopping, self.ready.set))
        self.channel = channel(self.address, tls)
        self.control: Any = ControlStub(self.channel)
        self.dispatch: Any = DispatchStub(self.channel)

    async def started(self) -> Self:
        """Wait until it serves; fail as it does if it ends instead."""
        ready = asyncio.create_task(self.ready.wait())
        await asyncio.wait({ready, self.running}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self.running.done():
            self.running.result()
        return self

    async def stop(self) -> None:
        self.stopping.set()
        await self.running

    async def leads(self) -> None:
        """Wait until it leads."""
        await until(lambda: self._leader_id() == self.server.id)

    def _leader_id(self) -> str:
        leader = self.server.view.leader
        return leader.manager_id if leader else ""


def channel(address: str, tls: TlsFiles | None = None) -> aio.Channel:
    if tls is None:
        return aio.insecure_channel(address, OPTIONS)
    return aio.secure_channel(address, channel_credentials(tls), OPTIONS)


@asynccontextmanager
async def manager(
    endpoints: Sequence[str],
    *,
    listen: str = "127.0.0.1:0",
    tls: TlsFiles | None = None,
    wait: bool = True,
) -> AsyncIterator[RunningManager]:
    """Run a manager until the end of the block."""
    store = EtcdStore(endpoints)

    async def members() -> Sequence[StoreMember]:
        return [StoreMember(each.endpoint, each.reachable) for each in await store.members()]

    server = ManagerServer(
        store,
        members,
        listen=listen,
        transport=GrpcTransport(tls),
        clock=SystemClock(),
        source=random.SystemRandom(),
    )
    running = RunningManager(server, tls)
    try:
        yield await running.started() if wait else running
    finally:
        await running.channel.close()
        running.stopping.set()
        with suppress(asyncio.CancelledError):
            await running.running


class StrawAgent:
    """Speaks as an agent does, and has no containers."""

    def __init__(self, to: RunningManager, name: str) -> None:
        self.node_id = name.ljust(25, "0")
        self.name = name
        self._to = to
        self._beating: asyncio.Task[None] | None = None
        self.period_seconds = 1.0

    @classmethod
    async def join(cls, to: RunningManager, name: str) -> Self:
        agent = cls(to, name)
        await agent.open()
        return agent

    async def open(self) -> None:
        self.stream = self._to.dispatch.Session(
            dispatch.SessionRequest(
                node_id=self.node_id,
                description=types.NodeDescription(
                    hostname=self.name,
                    capacity=types.Resources(cpu_nanos=64 * 10**9, memory_bytes=2**36),
                    platform=types.Platform(os="linux", architecture="amd64"),
                ),
            )
        )
        first = await self.stream.read()
        assert isinstance(first, dispatch.SessionMessage), await self.stream.code()
        self.session_id = first.session_id
        self.period_seconds = first.heartbeat_period_seconds
        self._beating = asyncio.create_task(self._beat())
        self.assignments = self._to.dispatch.Assignments(
            dispatch.AssignmentsRequest(session_id=self.session_id)
        )
        self.tasks: dict[str, types.Assignment] = {}

    async def take(self, done: Callable[[dict[str, types.Assignment]], object]) -> None:
        """Take assignments until *done* says that it is enough."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not done(self.tasks):
                message = await self.assignments.read()
                assert isinstance(message, dispatch.AssignmentsMessage), message
                if message.kind == dispatch.ASSIGNMENTS_KIND_COMPLETE:
                    self.tasks.clear()
                self.tasks.update((task.task_id, task) for task in message.tasks)
                for task_id in message.removed_task_ids:
                    del self.tasks[task_id]

    async def report(self, state: int) -> None:
        """Say that all tasks are in a state."""
        await self._to.dispatch.UpdateTaskStatus(
            dispatch.UpdateTaskStatusRequest(
                session_id=self.session_id,
                reports=[
                    dispatch.TaskReport(
                        task_id=task_id,
                        status=types.TaskStatus(state=state, at=1.0),  # type: ignore[arg-type]
                    )
                    for task_id in self.tasks
                ],
            )
        )

    async def leave(self) -> None:
        self.fall_silent()
        self.stream.cancel()
        self.assignments.cancel()

    def fall_silent(self) -> None:
        if self._beating is not None:
            self._beating.cancel()

    async def _beat(self) -> None:
        stream = self._to.dispatch.Heartbeats()
        try:
            while True:
                await stream.write(
                    dispatch.HeartbeatRequest(
                        session_id=self.session_id,
                        usage=types.NodeUsage(cpu_nanos=5, memory_bytes=7, measured_at=1.0),
                        answer=True,
                    )
                )
                await stream.read()
                await asyncio.sleep(self.period_seconds)
        finally:
            stream.cancel()


def spec(
    name: str, replicas: int = 1, image: str = "busybox", stack: str = ""
) -> types.ServiceSpec:
    return types.ServiceSpec(
        name=name,
        stack=stack,
        mode=types.SERVICE_MODE_REPLICATED,
        replicas=replicas,
        task=types.TaskSpec(container=types.ContainerSpec(image=image)),
    )


async def create(on: RunningManager, name: str, replicas: int = 1) -> types.Service:
    answer = await on.control.CreateService(control.CreateServiceRequest(spec=spec(name, replicas)))
    service: types.Service = answer.service
    return service


async def until(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
