"""A host's container engine: the fake one, with a life of its own beside its agent's."""

import asyncio
from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Protocol

from agent.runtime.interface import (
    Container,
    ContainerId,
    ContainerUsage,
    EngineInfo,
    Health,
)
from cluster.clock import Clock
from cluster.model import NodeId, TaskId
from tests.fakes.runtime import KILLED, FakeEngine, FakeRuntime, Held, Program
from tests.simulator import scaling
from tests.simulator.loop import Process, SimulatorLoop
from tests.simulator.scaling import LOAD
from tests.simulator.workload import BATCHES


class Watcher(Protocol):
    """Is told what an engine does."""

    def began(self, engine: "Engine", container: Container) -> None: ...

    def ended(self, engine: "Engine", container: Container) -> None: ...

    def signalled(self, engine: "Engine", container: Container) -> None:
        """Take note that an agent stops or kills a container that runs."""

    def serving_with(self, task_id: TaskId) -> int:
        """Return how many tasks of its service serve."""


class Engine(FakeEngine):
    """Runs containers on one host, whatever becomes of the agent there.

    Attributes:
        host: its name.
        node_id: of the agent on it.
        may_stop: tells whether the agent there has reasons of its own to stop a container.
        slow_seconds: what each call may take longer.
    """

    def __init__(
        self,
        loop: SimulatorLoop,
        host: str,
        node_id: NodeId,
        watcher: Watcher,
        *,
        programs: Mapping[Hashable, Program],
        registry: set[str],
        info: EngineInfo,
        clock: Clock,
    ) -> None:
        super().__init__(programs=programs, registry=registry, info=info, clock=clock)
        self.host = host
        self.node_id = node_id
        self.may_stop: Callable[[Container], bool] = lambda _: False
        self.process = Process(f"engine {host}")
        self.slow_seconds = 0.0
        self._loop = loop
        self._watcher = watcher

    async def answer(self, call: str) -> None:
        await super().answer(call)
        if self.slow_seconds:
            await asyncio.sleep(self.slow_seconds)
        self.calls.clear()  # for tests that count them; hours of calls are many

    async def download(self) -> None:
        """Look now and then whether the registry has become quick again."""
        began_at = self._loop.now
        while self._loop.now < began_at + self.pull_seconds:
            await asyncio.sleep(min(1.0, began_at + self.pull_seconds - self._loop.now))

    def run(self, held: Held) -> None:
        with self._loop.acting_for(self.process):
            super().run(held)
        self._watcher.began(self, held.seen)

    def signal(self, held: Held, *, kill: bool) -> None:
        if held.seen.alive:
            self._watcher.signalled(self, held.seen)
        with self._loop.acting_for(self.process):
            super().signal(held, kill=kill)

    def remove(self, held: Held) -> None:
        if held.seen.alive:
            self._watcher.signalled(self, held.seen)
        super().remove(held)

    def steady(self) -> None:
        """Let everything that runs go on running, but for jobs: the faults are over.

        So does what is ready to start: which program it has was told when it was made.
        """
        for held in self._held.values():
            image = held.spec.container.image
            held.program = self.programs.get(image, held.program)
            if held.seen.alive and image not in BATCHES:
                self._drop_timers(held)
                if held.seen.health is Health.STARTING:
                    self.set_health(held.seen.id, Health.HEALTHY)

    def used_bytes(self, held: Held) -> int:
        return scaling.used_bytes(held.spec, self._watcher.serving_with(held.seen.task_id))

    def _end(self, held: Held, code: int, *, oom_killed: bool = False) -> None:
        was_alive = held.seen.alive
        super()._end(held, code, oom_killed=oom_killed)
        if was_alive:
            self._watcher.ended(self, held.seen)

    def kill_processes(self, container_id: ContainerId) -> None:
        """Kill what runs in a container, as somebody could who knows its control group."""
        if container_id in self._held:
            self._end(self._held[container_id], KILLED)

    def lose(self, container_id: ContainerId) -> None:
        held = self._held[container_id]
        was_alive = held.seen.alive
        super().lose(container_id)
        if was_alive:
            self._watcher.ended(self, held.seen)


class Runtime(FakeRuntime):
    """An agent's link to its engine; it measures only those containers by which somebody decides."""

    async def usage(
        self, container_ids: Collection[ContainerId]
    ) -> Mapping[ContainerId, ContainerUsage]:
        await self.engine.answer("usage")
        engine = self.engine
        assert isinstance(engine, Engine)
        found = (engine.held(key) for key in container_ids)
        return {
            held.seen.id: ContainerUsage(cpu_total_nanos=0, memory_bytes=engine.used_bytes(held))
            for held in found
            if held is not None and held.seen.alive and LOAD in held.spec.container.environment
        }
