"""Managers' views of one store in memory, for tests of what stands on a view.

async with sites(2) as (one, other):
    await one.write(service("web"))
    await other.caught_up()
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from cluster.ids import IdSource
from cluster.model import (
    Cluster,
    ClusterId,
    ContainerSpec,
    ManagerId,
    Node,
    NodeDescription,
    NodeId,
    NodeState,
    NodeStatus,
    Object,
    Service,
    ServiceId,
    ServiceSpec,
    ServiceVersion,
    Task,
    TaskId,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from cluster.resources import Resources
from manager import records
from manager.control.access import Access
from manager.journal.writer import Journal
from manager.store import keys
from manager.store.interface import (
    Delete,
    Guard,
    Put,
    Revision,
    Store,
    StoreUnavailableError,
    Unchanged,
    Write,
)
from manager.store.memory import MemoryState, MemoryStore
from manager.view import View, follow
from tests.fakes.virtual_time import LoopClock


class LossyStore(MemoryStore):
    """A store whose commits are counted, held up, or left without an answer."""

    def __init__(self, state: MemoryState) -> None:
        super().__init__(state)
        self.commits: list[tuple[Sequence[Guard], Sequence[Write]]] = []
        self.answers_lost = 0  # of so many commits to come; they are applied all the same
        self.away = False
        self.gate = asyncio.Event()  # commits wait for it
        self.gate.set()

    async def commit(self, guards: Sequence[Guard], writes: Sequence[Write]) -> Revision:
        if self.away:
            raise StoreUnavailableError("no member answers")
        self.commits.append((tuple(guards), tuple(writes)))
        await self.gate.wait()
        revision = await super().commit(guards, writes)
        if self.answers_lost:
            self.answers_lost -= 1
            raise StoreUnavailableError("no answer in time")
        return revision


class Site:
    """One manager's store and view."""

    def __init__(self, state: MemoryState, seed: int) -> None:
        self.state = state
        self.store = LossyStore(state)
        self.view = View()
        self.source = random.Random(seed)
        self.ids = IdSource(self.source)
        self.journal = Journal(self.view, LoopClock(), self.ids, ManagerId(f"m{seed}"))
        self.access = Access(self.store, self.view, self.journal)
        self._following: asyncio.Task[None] | None = None

    async def follow(self) -> None:
        """Keep the view up to date from now on."""
        self._following = asyncio.create_task(follow(self.store, self.view, self.source))
        await self.caught_up()

    async def follow_in(self, seconds: float) -> None:
        """Follow after a while."""
        await asyncio.sleep(seconds)
        await self.follow()

    async def lag(self) -> None:
        """Hear of nothing more."""
        if self._following is not None:
            self._following.cancel()
            with suppress(asyncio.CancelledError):
                await self._following
            self._following = None

    async def caught_up(self) -> None:
        await self.view.reached(self.state.revision)

    async def write(self, *values: Object) -> None:
        """Put objects into the store as a rival would, whatever stands there."""
        await overwrite(MemoryStore(self.state), *values)
        if self._following is not None:
            await self.caught_up()

    async def erase(self, *values: Object) -> None:
        await MemoryStore(self.state).commit([], [Delete(records.key_of(v)) for v in values])
        if self._following is not None:
            await self.caught_up()

    def stored(self, prefix: str = keys.PREFIX) -> dict[str, bytes]:
        """Return what stands in the store, names included."""
        return {item.key: item.value for item in self.state.list(prefix).items}


@asynccontextmanager
async def sites(count: int = 1) -> AsyncIterator[list[Site]]:
    state = MemoryState()
    await overwrite(MemoryStore(state), Cluster(id=ClusterId("cluster")))
    all_of_them = [Site(state, seed) for seed in range(count)]
    try:
        for site in all_of_them:
            await site.follow()
        yield all_of_them
    finally:
        for site in all_of_them:
            await site.lag()


async def overwrite(store: Store, *values: Object) -> None:
    writes: list[Write] = []
    for value in values:
        writes.append(records.put(value))
        if isinstance(value, Service):
            writes.append(Put(keys.name("services", value.spec.name), value.id.encode()))
    await store.commit([Unchanged("no such key", 0)], writes)


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Let everything else run until *condition* holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


# --- things to put there ----------------------------------------------------------------------


def spec(name: str = "web", image: str = "busybox", **more: object) -> ServiceSpec:
    task = more.pop("task", TaskSpec(container=ContainerSpec(image=image)))
    return ServiceSpec(name=name, task=task, **more)  # type: ignore[arg-type]


def service(name: str = "web", **more: object) -> tuple[Service, ServiceVersion]:
    """Return a service with its first version; its id is its name's."""
    wanted = spec(name, **more)  # type: ignore[arg-type]
    service_id = ServiceId(f"id-of-{name}")
    return (
        Service(id=service_id, spec=wanted),
        ServiceVersion(service_id=service_id, number=1, spec=wanted),
    )


def node(name: str = "n1", *, cpus: int = 4, state: NodeState = NodeState.READY) -> Node:
    capacity = Resources(cpu_nanos=cpus * 10**9, memory_bytes=8 * 2**30)
    return Node(
        id=node_id(name),
        description=NodeDescription(hostname=name, capacity=capacity),
        status=NodeStatus(state=state),
    )


def node_id(name: str) -> NodeId:
    return NodeId(name.ljust(25, "0"))


def task(
    name: str,
    *,
    of: str = "web",
    on: str = "",
    slot: int = 1,
    state: TaskState = TaskState.NEW,
    desired: TaskState = TaskState.RUNNING,
    created_at: float = 0.0,
) -> Task:
    return Task(
        id=TaskId(name),
        service_id=ServiceId(f"id-of-{of}"),
        spec_version=1,
        slot=slot,
        node_id=node_id(on) if on else NodeId(""),
        desired_state=desired,
        status=TaskStatus(state=state),
        created_at=created_at,
    )
