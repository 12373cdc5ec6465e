"""A leader's core in one process: memory store, view, reconcilers, and agents that obey.

In virtual time, without gRPC and Docker: what is decided meets nodes that do at once what they are told, or what
a test makes them do instead.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import msgspec

from cluster.model import (
    Cluster,
    ClusterId,
    ContainerSpec,
    ManagerId,
    Node,
    NodeDescription,
    NodeId,
    NodeSpec,
    Object,
    Platform,
    Service,
    ServiceId,
    ServiceSpec,
    ServiceVersion,
    Session,
    SessionId,
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from cluster.resources import Resources
from manager import reconcilers, records
from manager.control.picture import Picture
from manager.store import keys
from manager.store.interface import Delete, GuardFailedError, Put, Store, Unchanged
from manager.store.memory import MemoryState, MemoryStore
from manager.view import View, follow
from tests.fakes.virtual_time import LoopClock

CAPACITY = Resources(cpu_nanos=8_000_000_000, memory_bytes=8 << 30)
SECONDS_MAX = 600.0  # of virtual time, for anything that is waited for

Behaviour = Callable[[Task], TaskStatus | None]


def obey(task: Task) -> TaskStatus | None:
    """What a well-behaved agent reports of a task at once; None: nothing new."""
    now = LoopClock().now()
    wanted = {
        TaskState.READY: TaskState.READY,
        TaskState.RUNNING: TaskState.RUNNING,
        TaskState.COMPLETE: TaskState.COMPLETE,
    }.get(task.desired_state, TaskState.SHUTDOWN)
    if task.status.state.finished or task.status.state >= wanted:
        return None
    return TaskStatus(state=wanted, at=now)


def service_spec(name: str = "web", **changes: object) -> ServiceSpec:
    spec = ServiceSpec(name=name, task=TaskSpec(container=ContainerSpec(image="app:1")))
    return msgspec.structs.replace(spec, **changes)


@dataclass
class Leading:
    """The running core.

    Attributes:
        store: what an operator's requests would be written to.
        behaviour: what agents report; those of *silent* nodes nothing.
        agents_take_seconds: before they do what they are told.
    """

    state: MemoryState
    store: Store
    view: View
    behaviour: Behaviour = obey
    silent: set[NodeId] = field(default_factory=set)
    agents_take_seconds: float = 0.0

    async def write(self, *values: Object) -> None:
        """Store *values* whatever stood there before."""
        for _ in range(100):
            guards = []
            for value in values:
                item = await self.store.get(records.key_of(value))
                guards.append(Unchanged(records.key_of(value), item.mod_revision if item else 0))
            with contextlib.suppress(GuardFailedError):
                await self.store.commit(guards, [records.put(value) for value in values])
                return
        raise AssertionError("the key never stood still")

    async def add_node(self, name: str, **changes: object) -> NodeId:
        node_id = NodeId(name)
        description = NodeDescription(
            hostname=name, capacity=CAPACITY, platform=Platform(os="linux", architecture="amd64")
        )
        await self.write(
            msgspec.structs.replace(Node(id=node_id, description=description), **changes),
            Session(id=SessionId(f"s-{name}"), node_id=node_id, manager_id=ManagerId("m")),
        )
        return node_id

    async def drop_session(self, node_id: NodeId) -> None:
        session = self.view.sessions[node_id]
        key = records.key_of(session)
        await self.store.commit([Unchanged(key, session.version)], [Delete(key)])
        await self.until(lambda: node_id not in self.view.sessions)

    async def set_node(self, node_id: NodeId, spec: NodeSpec) -> None:
        await self.until(lambda: node_id in self.view.nodes)
        await self.write(msgspec.structs.replace(self.view.nodes[node_id], spec=spec))

    async def submit(self, spec: ServiceSpec) -> ServiceId:
        """Create the service of that name, or give it *spec* as its next version."""
        old = self.view.service_by_name(spec.name)
        service_id = old.id if old else ServiceId(f"id-{spec.name}")
        number = old.spec_version + 1 if old else 1
        await self.write(
            Service(id=service_id, spec=spec, spec_version=number),
            ServiceVersion(service_id=service_id, number=number, spec=spec),
        )
        return service_id

    async def remove(self, *names: str) -> None:
        """Remove services in one transaction."""
        services = [self.view.service_by_name(name) for name in names]
        found = [service for service in services if service is not None]
        assert len(found) == len(names)
        await self.store.commit(
            [Unchanged(records.key_of(service), service.version) for service in found],
            [Delete(records.key_of(service)) for service in found],
        )

    def tasks(self, name: str, *states: TaskState) -> list[Task]:
        service_id = ServiceId(f"id-{name}")
        tasks = sorted(self.view.tasks_of_service(service_id), key=lambda task: task.created_at)
        return [task for task in tasks if not states or task.status.state in states]

    def running(self, name: str) -> list[Task]:
        return self.tasks(name, TaskState.RUNNING)

    async def until(self, met: Callable[[], bool]) -> None:
        """Wait for a condition on the view; fail with what stands there."""
        if met():
            return
        done = asyncio.get_running_loop().create_future()

        def look(_: object) -> None:
            if not done.done() and met():
                done.set_result(None)

        unsubscribe = self.view.subscribe(look)
        try:
            async with asyncio.timeout(SECONDS_MAX):
                await done
        except TimeoutError:
            stand = "\n".join(map(str, self.view.tasks.values()))
            raise AssertionError(f"not within {SECONDS_MAX} s; tasks:\n{stand}") from None
        finally:
            unsubscribe()

    async def agents(self) -> None:
        """Report for every bound task what ``behaviour`` says, as agents would."""
        news = asyncio.Event()
        news.set()
        unsubscribe = self.view.subscribe(lambda _: news.set())
        try:
            while True:
                await news.wait()
                news.clear()
                await asyncio.sleep(self.agents_take_seconds)
                done = [
                    msgspec.structs.replace(task, status=report)
                    for task in self.view.tasks.values()
                    if task.status.state >= TaskState.ASSIGNED
                    and task.node_id not in self.silent
                    and (report := self.behaviour(task))
                ]
                if not done:
                    continue
                try:
                    await self.store.commit(
                        [Unchanged(records.key_of(task), task.version) for task in done],
                        [records.put(task) for task in done],
                    )
                except GuardFailedError:
                    news.set()  # the leader was quicker
        finally:
            unsubscribe()


@contextlib.asynccontextmanager
async def leading(
    *, seed: int = 1, period: float = 0.2, joined_at: float = float("-inf")
) -> AsyncIterator[Leading]:
    """Run a leader over an empty cluster whose heartbeat period is *period* seconds.

    It has been a manager since *joined_at*.
    """
    state = MemoryState()
    store = MemoryStore(state)
    view = View()
    core = Leading(state, MemoryStore(state), view)
    spec = msgspec.structs.replace(Cluster(id=ClusterId("c")).spec, heartbeat_period_seconds=period)
    await core.write(Cluster(id=ClusterId("c"), spec=spec))
    await store.commit([Unchanged(keys.LEADER, 0)], [Put(keys.LEADER, b"m")])
    item = await store.get(keys.LEADER)
    assert item is not None
    source = random.Random(seed)
    tasks = [
        asyncio.create_task(follow(store, view, source)),
        asyncio.create_task(
            reconcilers.lead(
                item.create_revision,
                store,
                view,
                LoopClock(),
                source,
                joined_at=joined_at,
                find_moves=Picture(view).moves,
            )
        ),
        asyncio.create_task(core.agents()),
    ]
    try:
        await view.reached(item.mod_revision)
        yield core
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        await store.aclose()
        broken = [end for end in ended if isinstance(end, Exception)]
        assert not broken, broken
