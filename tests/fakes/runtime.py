"""A container engine in memory: the same semantics as dockerd's, on asyncio alone.

``FakeEngine`` is the daemon and its host, with knobs for what can go wrong; ``FakeRuntime``
is one agent's link to it. Nothing happens but by the event loop's clock and the knobs, so on
a virtual loop a run repeats exactly.

Containers run *programs*: how long they run, how they end, what their health check says.
Which one, an engine finds by the container's command, then by its image.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agent.runtime import labels
from agent.runtime.interface import (
    CannotRunError,
    Container,
    ContainerHint,
    ContainerId,
    ContainerState,
    ContainerUsage,
    EngineInfo,
    Health,
    HostImage,
    ImageMissingError,
    LogLine,
    LogRange,
    LogStream,
    NetworkMissingError,
    NoContainerError,
    Owner,
    RuntimeFailedError,
    RuntimeUnavailableError,
)
from cluster.clock import Clock, SystemClock
from cluster.model import (
    Assignment,
    ContainerSpec,
    MountKind,
    NetworkMode,
    Platform,
    TaskSpec,
)
from cluster.resources import Resources

KILLED = 137  # exit code of a process that SIGKILL ended
RESERVED_NETWORKS = frozenset({"bridge", "host", "none"})

INFO = EngineInfo(
    hostname="fake",
    platform=Platform(os="linux", architecture="amd64"),
    capacity=Resources(cpu_nanos=4_000_000_000, memory_bytes=8 << 30),
    version="20.10.24",
    labels={},
)


USAGE = ContainerUsage(cpu_total_nanos=1_000_000, memory_bytes=1 << 20)


@dataclass(frozen=True, kw_only=True)
class Program:
    """What a container does once it has started.

    Attributes:
        runs_seconds: until it ends by itself; None is for ever.
        exit_code: then.
        start_seconds: how long the engine takes to start it.
        start_error: why it cannot be started.
        ignores_stop: only SIGKILL ends it.
        stop_seconds: from the stop signal to the end.
        stop_exit_code: after the stop signal.
        health: what the check says from how many seconds after the start on.
        output: lines that it writes at its start.
        usage: what is measured while it runs.
    """

    runs_seconds: float | None = None
    exit_code: int = 0
    start_seconds: float = 0.0
    start_error: str = ""
    ignores_stop: bool = False
    stop_seconds: float = 0.0
    stop_exit_code: int = 0
    health: Sequence[tuple[float, Health]] = ()
    output: Sequence[bytes] = ()
    usage: ContainerUsage = USAGE


@dataclass
class Held:
    """What the engine knows of a container."""

    seen: Container
    labels: Mapping[str, str]
    spec: TaskSpec
    program: Program
    output: list[LogLine] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    timers: list[asyncio.TimerHandle] = field(default_factory=list)
    followers: int = 0  # of its log


class FakeEngine:
    """A daemon and what it holds. Change the public fields to make it misbehave.

    Attributes:
        images: those on the host.
        registry: those that can be pulled.
        pull_seconds: how long a pull takes; ``float("inf")`` never ends.
        paths: directories of the host that a bind mount may name.
        is_down: nothing answers; see also ``crash`` and ``come_back``.
        is_hung: calls give up after ``patience_seconds``, streams are silent.
        hint_seconds: how late hints come.
        answers_late: seconds between doing a "create" or "start" and answering.
        failures: how many of the next calls fail, by the method's name ("*": of any).
    """

    def __init__(
        self,
        *,
        programs: Mapping[Hashable, Program] | None = None,
        images: Collection[str] = (),
        registry: Collection[str] = (),
        info: EngineInfo = INFO,
        clock: Clock | None = None,
    ) -> None:
        self.programs = dict(programs or {})
        self.images = set(images)
        self.registry = set(registry)
        self.pull_seconds = 0.0
        self.paths: set[str] = set()
        self.is_down = False
        self.is_hung = False
        self.patience_seconds = 15.0
        self.hint_seconds = 0.0
        self.answers_late: dict[str, float] = {}
        self.failures: dict[str, int] = {}
        self.calls: list[str] = []
        self.info = info
        self.networks: dict[str, dict[str, str]] = {}
        self._clock = clock or SystemClock()
        self._held: dict[ContainerId, Held] = {}
        self._listeners: list[tuple[Owner, asyncio.Queue[ContainerHint | None]]] = []
        self._made = 0

    # --- what a test does to it ---------------------------------------------------------------

    def containers(self) -> list[Container]:
        return [held.seen for held in self._held.values()]

    def labels_of(self, container_id: ContainerId) -> Mapping[str, str]:
        return self._held[container_id].labels

    def spec_of(self, container_id: ContainerId) -> TaskSpec:
        return self._held[container_id].spec

    def exit(self, container_id: ContainerId, code: int, *, oom_killed: bool = False) -> None:
        """Let a running container end by itself."""
        self._end(self._held[container_id], code, oom_killed=oom_killed)

    def set_health(self, container_id: ContainerId, health: Health, output: str = "") -> None:
        held = self._held[container_id]
        if held.seen.alive and held.seen.health is not health:
            shown = output if health is Health.UNHEALTHY else ""
            held.seen = replace(held.seen, health=health, health_output=shown)
            self._tell(held)

    def write(self, container_id: ContainerId, line: bytes) -> None:
        """Let a container write a line to its standard output."""
        held = self._held[container_id]
        held.output.append(LogLine(LogStream.STDOUT, self._clock.now(), line))
        self._wake(held)

    def stop_by_hand(self, container_id: ContainerId) -> None:
        """Stop a container as somebody with the Docker client would."""
        held = self._held[container_id]
        self._tell(held, signalled=True)
        self._end(held, held.program.stop_exit_code)

    def remove_by_hand(self, container_id: ContainerId) -> None:
        """Remove a container as somebody with the Docker client would."""
        held = self._held[container_id]
        self._end(held, KILLED)
        self._forget(held)

    def lose(self, container_id: ContainerId) -> None:
        """Forget a container without a word, as a daemon that lost its files would."""
        self._drop_timers(self._held.pop(container_id))

    def crash(self) -> None:
        """Kill the daemon; its containers go on."""
        self.is_down = True
        self._break_streams()

    def come_back(self, *, with_containers: bool = True) -> None:
        """Start the daemon again; without live-restore its containers are stopped by that."""
        if not with_containers:
            for held in self._held.values():
                self._end(held, KILLED)
        self.is_down = False

    def reboot(self) -> None:
        """Lose power and come back: nothing runs any more."""
        self.crash()
        self.come_back(with_containers=False)

    # --- what the daemon does -----------------------------------------------------------------

    async def answer(self, call: str) -> None:
        """Let a call begin, or fail as the knobs say."""
        self.calls.append(call)
        await asyncio.sleep(0)
        if self.is_hung:
            await asyncio.sleep(self.patience_seconds)
        if self.is_down or self.is_hung:
            raise RuntimeUnavailableError("Docker does not answer")
        for key in (call, "*"):
            if self.failures.get(key, 0) > 0:
                self.failures[key] -= 1
                raise RuntimeFailedError("the fake was told to fail")

    async def download(self) -> None:
        """Take as long as a pull takes."""
        if self.pull_seconds:
            await asyncio.sleep(self.pull_seconds)

    def held(self, container_id: ContainerId) -> Held | None:
        return self._held.get(container_id)

    def named(self, name: str) -> Held | None:
        return next((held for held in self._held.values() if held.seen.name == name), None)

    def owned_by(self, owner: Owner) -> Iterator[Held]:
        wanted = labels.owner_labels(owner)
        return (held for held in list(self._held.values()) if labels.has(held.labels, wanted))

    def make(self, owner: Owner, assignment: Assignment, spec: TaskSpec) -> Held:
        self._made += 1
        container = spec.container
        program = self.programs.get(container.command) or self.programs.get(container.image)
        seen = Container(
            id=ContainerId(f"{self._made:064x}"),
            name=labels.container_name(assignment),
            task_id=assignment.task_id,
            service_id=assignment.service_id,
            spec_version=assignment.spec_version,
            state=ContainerState.CREATED,
            stop_signal=container.stop_signal or "SIGTERM",
            stop_grace_seconds=container.stop_grace_seconds,
            memory_limit_bytes=spec.limits.memory_bytes,
        )
        marks = {**container.labels, **labels.container_labels(owner, assignment)}
        held = Held(seen=seen, labels=marks, spec=spec, program=program or Program())
        self._held[seen.id] = held
        self._tell(held, began=True)
        return held

    def add_foreign(self, name: str, marks: Mapping[str, str] | None = None) -> ContainerId:
        """Run a container that somebody else made; *marks* are its labels."""
        self._made += 1
        container_id = ContainerId(f"{self._made:064x}")
        task = (marks or {}).get(labels.TASK, "")
        seen = Container(
            id=container_id,
            name=name,
            task_id=task,  # type: ignore[arg-type]
            service_id="",  # type: ignore[arg-type]
            spec_version=0,
            state=ContainerState.RUNNING,
        )
        spec = TaskSpec(container=ContainerSpec(image=""))
        self._held[container_id] = Held(
            seen=seen, labels=dict(marks or {}), spec=spec, program=Program()
        )
        return container_id

    def taken_port(self, spec: TaskSpec) -> int | None:
        """Return a host port of *spec* that a running container holds."""
        taken = {
            (port.published, port.protocol)
            for held in self._held.values()
            if held.seen.alive and held.spec.network_mode is NetworkMode.NETWORKS
            for port in held.spec.ports
            if port.published
        }
        if spec.network_mode is not NetworkMode.NETWORKS:
            return None
        wanted = [port for port in spec.ports if (port.published, port.protocol) in taken]
        return wanted[0].published if wanted else None

    def run(self, held: Held) -> None:
        checks = held.program.health
        held.seen = replace(
            held.seen,
            state=ContainerState.RUNNING,
            started_at=self._clock.now(),
            health=Health.STARTING if checks else Health.NONE,
        )
        for line in held.program.output:
            self.write(held.seen.id, line)
        self._tell(held, began=True)
        loop = asyncio.get_running_loop()
        for after_seconds, health in checks:
            timer = loop.call_later(after_seconds, self.set_health, held.seen.id, health, "probe")
            held.timers.append(timer)
        if held.program.runs_seconds is not None:
            end = loop.call_later(
                held.program.runs_seconds, self._end, held, held.program.exit_code
            )
            held.timers.append(end)

    def signal(self, held: Held, *, kill: bool) -> None:
        if not held.seen.alive:
            return
        self._tell(held, signalled=True)
        if kill:
            self._end(held, KILLED)
        elif not held.program.ignores_stop:
            timer = asyncio.get_running_loop().call_later(
                held.program.stop_seconds, self._end, held, held.program.stop_exit_code
            )
            held.timers.append(timer)

    def remove(self, held: Held) -> None:
        if held.seen.alive:
            self._end(held, KILLED)
        if held.seen.id in self._held:
            self._forget(held)

    def in_use(self, network: str) -> bool:
        return any(
            held.seen.alive and network in [one.network for one in held.spec.networks]
            for held in self._held.values()
        )

    def listen(self, owner: Owner) -> asyncio.Queue[ContainerHint | None]:
        queue: asyncio.Queue[ContainerHint | None] = asyncio.Queue()
        self._listeners.append((owner, queue))
        return queue

    def unlisten(self, queue: asyncio.Queue[ContainerHint | None]) -> None:
        self._listeners = [pair for pair in self._listeners if pair[1] is not queue]

    def _end(self, held: Held, code: int, *, oom_killed: bool = False) -> None:
        if not held.seen.alive:
            return
        self._drop_timers(held)
        seen = held.seen
        was_bad = seen.health is Health.UNHEALTHY
        held.seen = replace(
            seen,
            state=ContainerState.EXITED,
            exit_code=code,
            oom_killed=oom_killed,
            health=Health.UNHEALTHY if was_bad else Health.NONE,
            ended_at=self._clock.now(),
        )
        self._tell(held)

    def _forget(self, held: Held) -> None:
        self._drop_timers(held)
        del self._held[held.seen.id]
        self._tell(held)

    @staticmethod
    def _drop_timers(held: Held) -> None:
        for timer in held.timers:
            timer.cancel()
        held.timers.clear()

    def _tell(self, held: Held, *, began: bool = False, signalled: bool = False) -> None:
        self._wake(held)
        if self.is_down or self.is_hung:
            return
        hint = ContainerHint(held.seen.id, held.seen.task_id, began=began, signalled=signalled)
        for owner, queue in self._listeners:
            if labels.has(held.labels, labels.owner_labels(owner)):
                if self.hint_seconds:
                    loop = asyncio.get_running_loop()
                    loop.call_later(self.hint_seconds, queue.put_nowait, hint)
                else:
                    queue.put_nowait(hint)

    @staticmethod
    def _wake(held: Held) -> None:
        held.changed.set()
        held.changed = asyncio.Event()

    def _break_streams(self) -> None:
        for _, queue in self._listeners:
            queue.put_nowait(None)
        for held in self._held.values():
            self._wake(held)


class FakeRuntime:
    """Implements ``agent.runtime.interface.Runtime`` on a ``FakeEngine``."""

    def __init__(self, engine: FakeEngine | None = None, *, starts_max: int = 4) -> None:
        self.engine = engine or FakeEngine()
        self._starts = asyncio.Semaphore(starts_max)

    async def info(self) -> EngineInfo:
        await self.engine.answer("info")
        return self.engine.info

    async def images(self) -> Sequence[HostImage]:
        await self.engine.answer("images")
        return [HostImage((name,)) for name in sorted(self.engine.images)]

    async def list(self, owner: Owner) -> Sequence[Container]:
        await self.engine.answer("list")
        return [
            held.seen
            for held in self.engine.owned_by(owner)
            if labels.task_of(held.labels, held.seen.name) is not None
        ]

    async def inspect(self, container_id: ContainerId) -> Container | None:
        await self.engine.answer("inspect")
        held = self.engine.held(container_id)
        is_ours = held and labels.task_of(held.labels, held.seen.name) is not None
        return held.seen if held and is_ours else None

    async def pull(self, image: str) -> None:
        await self.engine.answer("pull")
        await self.engine.download()
        if image not in self.engine.registry:
            raise CannotRunError(f"image '{image}' cannot be had: the registry does not know it")
        self.engine.images.add(image)

    async def ensure_network(self, owner: Owner, name: str) -> None:
        await self.engine.answer("ensure_network")
        wanted = labels.network_labels(owner, name)
        there = self.engine.networks.setdefault(name, wanted)
        if name in RESERVED_NETWORKS or there != wanted:
            raise CannotRunError(f"this host has a network '{name}' that is not the cluster's")

    async def remove_unused_networks(self, owner: Owner, keep: Collection[str]) -> None:
        await self.engine.answer("remove_unused_networks")
        for name, marks in list(self.engine.networks.items()):
            is_ours = labels.has(marks, labels.network_labels(owner, name))
            if is_ours and name not in keep and not self.engine.in_use(name):
                del self.engine.networks[name]

    async def create(self, owner: Owner, assignment: Assignment, spec: TaskSpec) -> Container:
        await self.engine.answer("create")
        held = self.engine.named(labels.container_name(assignment))
        if held is not None:
            if not labels.has(held.labels, labels.container_labels(owner, assignment)):
                raise CannotRunError(f"this host has a container '{held.seen.name}' already")
            return held.seen
        if spec.container.image not in self.engine.images:
            raise ImageMissingError(f"image '{spec.container.image}' is not on this host")
        for mount in spec.container.mounts:
            must_exist = mount.kind is MountKind.BIND and not mount.create_host_path
            if must_exist and mount.source not in self.engine.paths:
                raise CannotRunError(f"bind mount: {mount.source} does not exist on this host")
        self._require_networks(spec)
        made = self.engine.make(owner, assignment, spec)
        await asyncio.sleep(self.engine.answers_late.get("create", 0.0))
        return made.seen

    async def start(self, container_id: ContainerId) -> None:
        async with self._starts:
            await self.engine.answer("start")
            held = self._held(container_id)
            await asyncio.sleep(held.program.start_seconds)
            held = self._held(container_id)
            if not held.seen.alive:
                self._require_networks(held.spec)
                if held.program.start_error:
                    raise CannotRunError(held.program.start_error)
                if (port := self.engine.taken_port(held.spec)) is not None:
                    raise CannotRunError(f"port {port} of this host is taken")
                self.engine.run(held)
            await asyncio.sleep(self.engine.answers_late.get("start", 0.0))

    async def stop(self, container_id: ContainerId, grace_seconds: float | None = None) -> None:
        await self.engine.answer("stop")
        held = self.engine.held(container_id)
        if held is None or not held.seen.alive:
            return
        grace = held.seen.stop_grace_seconds if grace_seconds is None else grace_seconds
        self.engine.signal(held, kill=False)
        try:
            async with asyncio.timeout(grace):
                while held.seen.alive:
                    await held.changed.wait()
        except TimeoutError:
            await self.kill(container_id)
        if self.engine.is_down or self.engine.is_hung:
            raise RuntimeUnavailableError("Docker does not answer")

    async def kill(self, container_id: ContainerId) -> None:
        await self.engine.answer("kill")
        if held := self.engine.held(container_id):
            self.engine.signal(held, kill=True)

    async def remove(self, container_id: ContainerId) -> None:
        await self.engine.answer("remove")
        if held := self.engine.held(container_id):
            self.engine.remove(held)

    @contextlib.asynccontextmanager
    async def listen(self, owner: Owner) -> AsyncIterator[AsyncIterator[ContainerHint]]:
        await self.engine.answer("listen")
        queue = self.engine.listen(owner)
        try:
            yield self._hints(queue)
        finally:
            self.engine.unlisten(queue)

    @staticmethod
    async def _hints(queue: asyncio.Queue[ContainerHint | None]) -> AsyncIterator[ContainerHint]:
        while (hint := await queue.get()) is not None:
            yield hint
        raise RuntimeUnavailableError("Docker ended the stream of events")

    @contextlib.asynccontextmanager
    async def logs(
        self, container_id: ContainerId, wanted: LogRange
    ) -> AsyncIterator[AsyncIterator[LogLine]]:
        await self.engine.answer("logs")
        held = self._held(container_id)
        if held.spec.container.log.driver == "none":
            raise CannotRunError("configured logging driver does not support reading")
        held.followers += 1
        try:
            yield self._lines(held, wanted)
        finally:
            held.followers -= 1

    @staticmethod
    async def _lines(held: Held, wanted: LogRange) -> AsyncIterator[LogLine]:
        begin = 0
        if wanted.tail >= 0:
            begin = max(0, len(held.output) - wanted.tail)
        while True:
            for line in held.output[begin:]:
                if line.at >= wanted.since:
                    yield line
            begin = len(held.output)
            if not wanted.follow or not held.seen.alive:
                return
            await held.changed.wait()

    async def usage(
        self, container_ids: Collection[ContainerId]
    ) -> Mapping[ContainerId, ContainerUsage]:
        await self.engine.answer("usage")
        found = {key: self.engine.held(key) for key in container_ids}
        return {key: held.program.usage for key, held in found.items() if held and held.seen.alive}

    async def aclose(self) -> None:
        """Nothing to let go of."""

    def _held(self, container_id: ContainerId) -> Held:
        held = self.engine.held(container_id)
        if held is None:
            raise NoContainerError(f"container {container_id} is gone")
        return held

    def _require_networks(self, spec: TaskSpec) -> None:
        if spec.network_mode is not NetworkMode.NETWORKS:
            return
        for attachment in spec.networks:
            if attachment.network not in self.engine.networks:
                raise NetworkMissingError(f"network '{attachment.network}' is not on this host")
