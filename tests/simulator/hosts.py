"""Managers and agents as they run in production, in processes that can be killed at any await.

A ``Station`` is where a program runs again and again: each life is a new process with new
objects, made of what survives: an agent's identity and its engine's containers, a manager's
address. Nothing of an earlier life runs on.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from agent.agent import Agent
from agent.fence import Fence
from agent.identity import Identity, IdentityFiles
from agent.runtime.interface import Container
from agent.settings import AgentSettings
from cluster.model import ClusterId, NodeId
from manager.control.cluster import StoreMember
from manager.membership import HeldLease
from manager.server import ManagerServer
from tests.simulator.clocks import ProcessClock, WallClock
from tests.simulator.engine import Engine, Runtime
from tests.simulator.guard import HostGuard
from tests.simulator.judge import Judge
from tests.simulator.loop import Process, SimulatorLoop
from tests.simulator.network import Network
from tests.simulator.presence import Presence
from tests.simulator.rpc import Wire
from tests.simulator.store import Link, SharedState, StoreClient
from tests.simulator.trace import Trace

# What clocks gain or lose at most: far more than crystals do.
DRIFT_MAX = 0.001

# Of the clock that leases are measured by: most of what is promised to be borne, a sixth.
BOOT_DRIFT_MAX = 0.12

MANAGER_PORT = 7420

# A program that ended is started again after so long, as its system service says.
RESTART_SECONDS = 2.0


class World:
    """What all stations share."""

    def __init__(self, seed: int, *, copies: bool = False, with_trace: bool = True) -> None:
        self.seed = seed
        self.copies = copies
        self.loop = SimulatorLoop()  # type: ignore[abstract]
        self.trace = Trace(is_kept=with_trace)
        self.judge = Judge(self.loop, self.trace)
        self.network = Network(self.loop, self.source("network"))
        self.state = SharedState(self.loop, self.judge.committed)

    def source(self, *of: object) -> random.Random:
        """Return a source of chance of its own for each thing that is named."""
        return random.Random("/".join(map(str, (self.seed, *of))))

    def tell(self, who: object, text: str, *objects: str) -> None:
        self.trace.tell(self.loop.now, str(who), text, *objects)


class Station:
    """Where a program runs; see the module.

    Attributes:
        host: its name, also the network's.
        process: of the present life, or the last one.
        wanted_down: how many faults keep it from being started.
    """

    def __init__(self, world: World, host: str) -> None:
        self.world = world
        self.host = host
        self.wall = WallClock(world.loop, world.source(host).uniform(-DRIFT_MAX, DRIFT_MAX))
        self.lives = 0
        self.process = Process(host, 0)
        self.process.alive = self.process.runs = False
        self.wanted_down = 0

    @property
    def is_running(self) -> bool:
        return self.process.alive

    def start(self) -> None:
        """Begin another life, unless there is one or a fault forbids it."""
        if self.process.alive or self.wanted_down:
            return
        self.lives += 1
        source = self.world.source(self.host, self.lives)
        rate = 1.0 + source.uniform(-DRIFT_MAX, DRIFT_MAX)
        self.process = process = Process(self.host, self.lives, rate=rate)
        self.world.tell(process, "starts")
        with self.world.loop.acting_for(process):
            work = self.make(process, source)
        running = self.world.loop.start(process, work)
        process.context.run(running.add_done_callback, self._ended)

    def kill(self, *, silently: bool = False) -> None:
        """End this life at once: no last words. *silently*: nor does a kernel close connections."""
        process = self.process
        if process.alive:
            self.world.tell(process, "is killed")
            self.world.loop.kill(process)
            self.cut_off()
            self.world.network.killed(process, silently=silently)

    def pause(self) -> None:
        if self.process.alive and not self.process.paused:
            self.world.tell(self.process, "is paused")
            self.world.loop.pause(self.process)
            self.world.network.paused_or_resumed(self.process)

    def resume(self) -> None:
        if self.process.paused and self.process.alive:
            self.world.tell(self.process, "goes on")
            self.world.loop.resume(self.process)
            self.world.network.paused_or_resumed(self.process)

    def make(self, process: Process, source: random.Random) -> Coroutine[Any, Any, None]:
        """Put a program together; return its work."""
        raise NotImplementedError

    def cut_off(self) -> None:
        """Let nothing of this life reach anybody any more."""

    def wire(self, process: Process) -> Wire:
        world = self.world
        return Wire(world.loop, world.network, process, self.host, copies=world.copies)

    def _ended(self, running: asyncio.Task[None]) -> None:
        """Its program has ended by itself; a supervisor starts it again."""
        world = self.world
        error = None if running.cancelled() else running.exception()
        if error is not None:
            world.loop.failures.append((self.process, {"message": "ended", "exception": error}))
        world.tell(self.process, "has ended")
        world.loop.kill(self.process)
        self.cut_off()
        world.network.killed(self.process, silently=False)
        world.loop.at(world.loop.now + RESTART_SECONDS, self.start)


class ManagerStation(Station):
    """Runs managers."""

    def __init__(self, world: World, host: str) -> None:
        super().__init__(world, host)
        self.address = f"{host}:{MANAGER_PORT}"
        self.link = Link()
        self.server: ManagerServer | None = None
        self.on_leg: Callable[[], None] = _nothing
        self._stopping = asyncio.Event()
        self._store: StoreClient | None = None

    def stop(self) -> None:
        """Ask it to stop, as its system service would."""
        if self.process.alive:
            self.world.tell(self.process, "is asked to stop")
            self._stopping.set()

    @property
    def held_lease(self) -> HeldLease | None:
        """Return the lease that the present life believes to hold."""
        if self.server is None or not self.process.alive:
            return None
        return self.server._membership.lease

    @property
    def leads(self) -> bool:
        leader = self.world.judge.leader
        return (
            self.process.alive
            and leader is not None
            and self.server is not None
            and leader.value.decode() == self.server.id
        )

    def make(self, process: Process, source: random.Random) -> Coroutine[Any, Any, None]:
        world = self.world
        self._stopping = asyncio.Event()
        self._store = StoreClient(
            world.loop,
            world.state,
            process,
            self.link,
            world.source(self.host, self.lives, "store"),
            term=lambda: world.judge.term_of(process),
            on_leg=self._on_leg,
        )
        self.server = ManagerServer(
            self._store,
            _no_members,
            listen=self.address,
            transport=self.wire(process),  # type: ignore[arg-type]
            clock=ProcessClock(world.loop, self.wall, process),
            source=source,
            until_gone=Presence(world.network, process, self.host).until_gone,
        )
        world.judge.manager_began(self.server.id, process)
        return self.server.run(self._stopping, lambda: world.tell(process, "serves"))

    def _on_leg(self) -> None:
        self.on_leg()

    def cut_off(self) -> None:
        if self._store is not None:
            self._store.forget_watches()


async def _no_members() -> Sequence[StoreMember]:
    return ()


def _nothing() -> None:
    """Do nothing."""


class MemoryIdentity(IdentityFiles):
    """Keeps a node's identity over its agent's lives."""

    def __init__(self, node_id: NodeId) -> None:
        super().__init__(Path())
        self.identity = Identity(node_id=node_id)

    def join(self, cluster_id: ClusterId) -> None:
        self.identity = Identity(node_id=self.identity.node_id, cluster_id=cluster_id)


class IdleHost:
    """Measures a host on which nothing costs anything."""

    def measure(self) -> tuple[int, int]:
        return 0, 0


class AgentStation(Station):
    """A host with an engine, which runs agents."""

    def __init__(
        self,
        world: World,
        host: str,
        settings: AgentSettings,
        make_engine: Callable[["AgentStation"], Engine],
        node_id: NodeId,
    ) -> None:
        super().__init__(world, host)
        self.node_id = node_id
        self.agent: Agent | None = None
        self._settings = settings
        self._identity = MemoryIdentity(node_id)
        self._booted_at = self.wall.now()
        self.engine = make_engine(self)
        self.engine.may_stop = self._may_stop
        rate = 1.0 + world.source(host, "boot").uniform(-BOOT_DRIFT_MAX, BOOT_DRIFT_MAX)
        self._guard = HostGuard(world.loop, rate, self.engine.kill_processes)
        self.foreign_id = self.engine.add_foreign("somebody's")
        self._without_power = 0

    def power_off(self) -> None:
        """Lose power: nobody is told, and nothing runs any more."""
        self._without_power += 1
        if self._without_power > 1:
            return
        self.world.tell(self.host, "loses power")
        self.wanted_down += 1
        self.kill(silently=True)
        self.world.network.power_off(self.host)
        self.engine.crash()

    def power_on(self) -> None:
        self._without_power -= 1
        if self._without_power:
            return
        self.world.tell(self.host, "has power again")
        self._booted_at = self.wall.now()
        self._guard.reboot()
        self.engine.come_back(with_containers=False)
        self.world.network.power_on(self.host)
        self.wanted_down -= 1
        self.start()

    def make(self, process: Process, source: random.Random) -> Coroutine[Any, Any, None]:
        world = self.world
        self.agent = Agent(
            self._settings,
            Runtime(self.engine),
            self._identity,
            self._identity.identity,
            dialer=self.wire(process),  # type: ignore[arg-type]
            clock=ProcessClock(world.loop, self.wall, process),
            source=source,
            meter=IdleHost(),
            booted_at=self._booted_at,
            fence=Fence(self._guard, self._guard.since_boot),
            on_session=lambda: world.tell(process, "has a session", self.node_id),
        )
        return self.agent.run()

    def _may_stop(self, container: Container) -> bool:
        """Tell whether the agent knows that a task has ended, or must end for want of contact."""
        agent = self.agent
        if agent is None or agent._crew is None or agent._fence is None:
            return False
        known = agent._crew[0].outbox.known.get(container.task_id)
        is_ended = known is not None and known.state.finished
        return is_ended or container.id in agent._fence.overdue()
