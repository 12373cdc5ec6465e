"""What the journal costs: a thousand tasks come up on twenty nodes, and writes are counted."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from time import perf_counter
from typing import Any

from cluster.clock import SystemClock
from cluster.ids import IdSource
from cluster.model import (
    Cluster,
    ClusterId,
    ContainerSpec,
    ManagerId,
    Node,
    NodeDescription,
    NodeId,
    Object,
    ServiceSpec,
    Session,
    SessionId,
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from cluster.resources import Resources
from manager import reconcilers, records
from manager.control.access import Access
from manager.control.picture import Picture
from manager.control.services import Services
from manager.dispatch.statuses import Report, Statuses
from manager.journal.writer import Journal
from manager.store import keys
from manager.store.interface import Guard, Put, Revision, Write
from manager.store.memory import MemoryState, MemoryStore
from manager.view import View, follow

NODES, TASKS = 20, 1_000
STEPS = (
    TaskState.ACCEPTED,
    TaskState.PREPARING,
    TaskState.READY,
    TaskState.STARTING,
    TaskState.RUNNING,
)

# A round trip to etcd with its write to disk, on a usual machine.
COMMIT_SECONDS = 0.002

OWN = ManagerId("m".ljust(25, "0"))


@dataclass
class Counting(MemoryStore):
    """A store that counts what is written into it."""

    state: MemoryState
    puts: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    sizes: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    transactions: int = 0

    def __post_init__(self) -> None:
        super().__init__(self.state)

    async def commit(self, guards: Sequence[Guard], writes: Sequence[Write]) -> Revision:
        await asyncio.sleep(COMMIT_SECONDS)
        revision = await super().commit(guards, writes)
        self.transactions += 1
        for write in writes:
            if isinstance(write, Put):
                of_journal = write.key.startswith(keys.JOURNAL)
                self.puts[of_journal] += 1
                self.sizes[of_journal] += len(write.key) + len(write.value)
        return revision


@dataclass(frozen=True, slots=True)
class Amplification:
    """What was written until all tasks ran."""

    tasks: int
    seconds: float
    transactions: int
    journal_keys: int
    journal_bytes: int
    other_keys: int
    other_bytes: int

    def notes(self) -> Mapping[str, Any]:
        return {
            "seconds": round(self.seconds, 2),
            "transactions": self.transactions,
            "journal_keys": self.journal_keys,
            "other_keys": self.other_keys,
            "journal_keys_per_s": round(self.journal_keys / self.seconds),
            "journal_bytes_per_s": round(self.journal_bytes / self.seconds),
            "other_keys_per_s": round(self.other_keys / self.seconds),
            "other_bytes_per_s": round(self.other_bytes / self.seconds),
        }


async def bring_up(seed: int) -> Amplification:
    """Let a service of ``TASKS`` replicas come up, and return what was written for it."""
    state = MemoryState()
    store, view, clock, source = Counting(state), View(), SystemClock(), random.Random(seed)
    plain = MemoryStore(state)
    await plain.commit([], [records.put(each) for each in _cluster()])
    await plain.commit([], [Put(keys.LEADER, OWN.encode())])
    item = await plain.get(keys.LEADER)
    assert item is not None
    journal = Journal(view, clock, IdSource(source), OWN)
    statuses = Statuses(store, view, journal)
    running = [asyncio.create_task(follow(plain, view, source))]
    await view.reached(item.mod_revision)
    lead = reconcilers.lead(
        item.create_revision,
        store,
        view,
        clock,
        source,
        joined_at=float("-inf"),
        find_moves=Picture(view).moves,
    )
    running += [asyncio.create_task(lead), asyncio.create_task(_agents(view, statuses))]
    spec = ServiceSpec(
        name="web", replicas=TASKS, task=TaskSpec(container=ContainerSpec(image="app:1"))
    )
    began_at = perf_counter()
    await Services(Access(store, view, journal), IdSource(source), clock).create(spec)
    await _all_run(view)
    seconds = perf_counter() - began_at
    await statuses.close()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return Amplification(
        TASKS,
        seconds,
        store.transactions,
        store.puts[True],
        store.sizes[True],
        store.puts[False],
        store.sizes[False],
    )


def _cluster() -> list[Object]:
    found: list[Object] = [Cluster(id=ClusterId("c"))]
    for number in range(NODES):
        node_id = NodeId(f"n{number:024d}")
        capacity = Resources(cpu_nanos=64 * 10**9, memory_bytes=1 << 40)
        description = NodeDescription(hostname=f"node{number}", capacity=capacity)
        session_id = SessionId(f"s{number:024d}")
        found.append(Node(id=node_id, description=description))
        found.append(Session(id=session_id, node_id=node_id, manager_id=OWN))
    return found


async def _all_run(view: View) -> None:
    done = asyncio.Event()

    def look(_: object) -> None:
        running = sum(task.status.state is TaskState.RUNNING for task in view.tasks.values())
        if running == TASKS:
            done.set()

    unsubscribe = view.subscribe(look)
    await done.wait()
    unsubscribe()


async def _agents(view: View, statuses: Statuses) -> None:
    """Report each step of each task; a node's agent has one report on its way at a time."""
    news = asyncio.Event()
    unsubscribe = view.subscribe(lambda _: news.set())
    busy: set[NodeId] = set()

    async def report(node_id: NodeId, reports: list[Report]) -> None:
        await statuses.report(node_id, reports)
        busy.discard(node_id)
        news.set()

    async with asyncio.TaskGroup() as group:
        try:
            while True:
                await news.wait()
                news.clear()
                due = [task for task in view.tasks.values() if _next(task) and task.node_id]
                by_node = sorted(due, key=lambda task: task.node_id)
                for node_id, tasks in groupby(by_node, key=lambda task: task.node_id):
                    if node_id not in busy:
                        busy.add(node_id)
                        reports = [Report(task.id, _status(task)) for task in tasks]
                        group.create_task(report(node_id, reports))
        finally:
            unsubscribe()


def _next(task: Task) -> TaskState | None:
    if not TaskState.ASSIGNED <= task.status.state < TaskState.RUNNING:
        return None
    return next(state for state in STEPS if state > task.status.state)


def _status(task: Task) -> TaskStatus:
    state = _next(task)
    assert state is not None
    container = task.id * 3 if state >= TaskState.READY else ""
    return TaskStatus(state=state, at=SystemClock().now(), container_id=container[:64])
