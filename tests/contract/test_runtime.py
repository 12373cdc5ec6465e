"""What every runtime does: the dockerd and the fake are held to the same page."""

import asyncio
import contextlib
import functools
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest

from agent.runtime import labels
from agent.runtime.dockerd import DockerRuntime
from agent.runtime.engine import Patience
from agent.runtime.interface import (
    CannotRunError,
    Container,
    ContainerHint,
    ContainerId,
    ContainerState,
    Health,
    ImageMissingError,
    LogLine,
    LogRange,
    NetworkMissingError,
    NoContainerError,
    Owner,
    Runtime,
    RuntimeUnavailableError,
)
from cluster.images import canonical
from cluster.model import (
    Assignment,
    ClusterId,
    ContainerSpec,
    Healthcheck,
    LogOptions,
    Mount,
    MountKind,
    NetworkAttachment,
    NodeId,
    PublishedPort,
    ServiceId,
    TaskId,
    TaskSpec,
    TaskState,
)
from cluster.resources import Resources
from tests.fakes.runtime import FakeEngine, FakeRuntime, Program
from tests.harness.dockerd import IMAGE, WAIT, Dockerd, dockerd, unique

SECONDS_MAX = 30.0

WAITS = ("sh", "-c", WAIT)
EXITS_3 = ("sh", "-c", "exit 3")
STUBBORN = ("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done")
PRINTS = ("sh", "-c", f"for n in 1 2 3; do echo line $n; done; {WAIT}")
HEALTHY = ("sh", "-c", f": healthy; {WAIT}")
SICK = ("sh", "-c", f": sick; {WAIT}")
NO_SUCH = ("no-such-program",)

PROGRAMS: dict[Hashable, Program] = {
    EXITS_3: Program(runs_seconds=0.0, exit_code=3),
    STUBBORN: Program(ignores_stop=True, output=(b"up",)),
    PRINTS: Program(output=(b"line 1", b"line 2", b"line 3")),
    HEALTHY: Program(health=((0.01, Health.HEALTHY),)),
    SICK: Program(health=((0.01, Health.UNHEALTHY),)),
    NO_SUCH: Program(start_error="cannot execute 'no-such-program'"),
}


class Host(Protocol):
    """What the tests do to a host past the runtime."""

    def link(self) -> Runtime: ...
    def add_network(self, name: str) -> None: ...
    def remove_network(self, name: str) -> None: ...
    def networks(self) -> list[str]: ...
    def add_container(self, name: str, marks: Mapping[str, str]) -> ContainerId: ...
    def remove_by_hand(self, container_id: ContainerId) -> None: ...
    def stop_by_hand(self, container_id: ContainerId) -> None: ...
    def crash(self) -> None: ...
    def come_back(self) -> None: ...
    def hung(self) -> contextlib.AbstractContextManager[None]: ...


class FakeHost:
    def __init__(self) -> None:
        self.engine = FakeEngine(programs=PROGRAMS, images=[IMAGE])
        self.engine.patience_seconds = 1.0

    def link(self) -> Runtime:
        return FakeRuntime(self.engine)

    def add_network(self, name: str) -> None:
        self.engine.networks[name] = {}

    def remove_network(self, name: str) -> None:
        del self.engine.networks[name]

    def networks(self) -> list[str]:
        return list(self.engine.networks)

    def add_container(self, name: str, marks: Mapping[str, str]) -> ContainerId:
        return self.engine.add_foreign(name, marks)

    def remove_by_hand(self, container_id: ContainerId) -> None:
        self.engine.remove_by_hand(container_id)

    def stop_by_hand(self, container_id: ContainerId) -> None:
        self.engine.stop_by_hand(container_id)

    def crash(self) -> None:
        self.engine.crash()

    def come_back(self) -> None:
        self.engine.come_back()

    @contextlib.contextmanager
    def hung(self) -> Iterator[None]:
        self.engine.is_hung = True
        yield
        self.engine.is_hung = False


class DockerHost:
    def __init__(self, daemon: Dockerd) -> None:
        self._daemon = daemon
        self._client = daemon.client()

    def link(self) -> Runtime:
        return DockerRuntime(self._daemon.url, Patience(connect_seconds=1.0, quick_seconds=2.0))

    def add_network(self, name: str) -> None:
        self._client.networks.create(name)

    def remove_network(self, name: str) -> None:
        self._client.networks.get(name).remove()

    def networks(self) -> list[str]:
        return [str(network.name) for network in self._client.networks.list()]

    def add_container(self, name: str, marks: Mapping[str, str]) -> ContainerId:
        made = self._client.containers.run(IMAGE, name=name, labels=dict(marks), detach=True)
        return ContainerId(str(made.id))

    def remove_by_hand(self, container_id: ContainerId) -> None:
        self._client.containers.get(container_id).remove(force=True)

    def stop_by_hand(self, container_id: ContainerId) -> None:
        self._client.containers.get(container_id).stop()

    def crash(self) -> None:
        self._daemon.kill()

    def come_back(self) -> None:
        self._daemon.start()

    def hung(self) -> contextlib.AbstractContextManager[None]:
        return self._daemon.hung()

    def clean(self) -> None:
        for container in self._client.containers.list(all=True):
            container.remove(force=True, v=True)
        self._client.networks.prune()
        self._client.close()


@pytest.fixture(scope="module")
def daemon() -> Iterator[Dockerd]:
    with dockerd(live_restore=True) as running:
        yield running


@pytest.fixture(params=["fake", "dockerd"])
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    if request.param == "fake":
        yield FakeHost()
        return
    docker_host = DockerHost(request.getfixturevalue("daemon"))
    yield docker_host
    docker_host.clean()


@dataclass
class Bench:
    """A runtime under test, and whose tasks it runs."""

    host: Host
    runtime: Runtime
    owner: Owner = field(
        default_factory=lambda: Owner(ClusterId(unique("c")), NodeId(unique("node")))
    )
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def assignment(self, service: str = "shop_web", stack: str = "shop") -> Assignment:
        return Assignment(
            task_id=TaskId(unique("task")),
            service_id=ServiceId(f"id-of-{service}"),
            service_name=service,
            stack=stack,
            spec_version=7,
            slot=next(self._numbers),
            node_id=self.owner.node_id,
            desired_state=TaskState.RUNNING,
            state=TaskState.ASSIGNED,
        )

    async def running(self, spec: TaskSpec) -> Container:
        made = await self.runtime.create(self.owner, self.assignment(), spec)
        await self.runtime.start(made.id)
        return await self.see(made.id)

    async def see(self, container_id: ContainerId) -> Container:
        seen = await self.runtime.inspect(container_id)
        assert seen is not None
        return seen


@pytest.fixture
async def bench(host: Host) -> AsyncIterator[Bench]:
    runtime = host.link()
    yield Bench(host, runtime)
    await runtime.aclose()


def task(command: tuple[str, ...] | None = WAITS, **container: object) -> TaskSpec:
    spec = ContainerSpec(image=IMAGE, command=command, **container)  # type: ignore[arg-type]
    return TaskSpec(container=spec)


def with_check(command: tuple[str, ...], *test: str) -> TaskSpec:
    check = Healthcheck(test=("CMD", *test), interval_seconds=0.2, retries=2)
    return task(command, healthcheck=check)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while not await condition():
            await asyncio.sleep(0.02)


# --- looking ----------------------------------------------------------------------------------


async def test_info_describes_the_host(bench: Bench) -> None:
    info = await bench.runtime.info()

    assert info.platform.os == "linux"
    assert info.platform.architecture
    assert info.capacity.cpu_nanos >= 1_000_000_000
    assert info.capacity.memory_bytes > 1 << 20
    assert info.version


async def test_images_on_the_host_are_known_by_name(bench: Bench) -> None:
    images = await bench.runtime.images()

    assert IMAGE in {canonical(name) for image in images for name in image.names}
    assert all(image.names for image in images)


async def test_a_container_tells_which_task_it_is(bench: Bench) -> None:
    assignment = bench.assignment()

    made = await bench.runtime.create(bench.owner, assignment, task())
    (seen,) = await bench.runtime.list(bench.owner)

    assert seen.id == made.id
    assert seen.name == f"shop_web.{assignment.slot}.{assignment.task_id}"
    assert seen.task_id == assignment.task_id
    assert seen.service_id == assignment.service_id
    assert seen.spec_version == 7
    assert made.state is seen.state is ContainerState.CREATED
    assert seen.exit_code is None
    assert seen.started_at == 0.0


async def test_only_the_owners_containers_are_listed(bench: Bench) -> None:
    elsewhere = Owner(bench.owner.cluster_id, NodeId("another"))
    other_cluster = Owner(ClusterId("another"), bench.owner.node_id)
    mine = await bench.runtime.create(bench.owner, bench.assignment(), task())
    await bench.runtime.create(elsewhere, bench.assignment(), task())
    await bench.runtime.create(other_cluster, bench.assignment(), task())
    bench.host.add_container(unique("foreign"), {})

    assert [one.id for one in await bench.runtime.list(bench.owner)] == [mine.id]


async def test_labels_alone_do_not_make_a_container_ours(bench: Bench) -> None:
    """An image committed from one of our containers carries our labels on."""
    marks = labels.container_labels(bench.owner, bench.assignment())
    foreign = bench.host.add_container(unique("copy"), marks)

    assert await bench.runtime.list(bench.owner) == []
    assert await bench.runtime.inspect(foreign) is None


async def test_inspecting_what_is_gone_finds_nothing(bench: Bench) -> None:
    assert await bench.runtime.inspect(ContainerId("f" * 64)) is None


# --- a life -----------------------------------------------------------------------------------


async def test_a_container_runs_and_stops_when_asked(bench: Bench) -> None:
    before = time.time()
    container = await bench.running(task())
    assert container.state is ContainerState.RUNNING
    assert container.health is Health.NONE
    assert before - 5 < container.started_at < time.time() + 5

    await bench.runtime.stop(container.id)

    dead = await bench.see(container.id)
    assert dead.state is ContainerState.EXITED
    assert dead.exit_code == 0
    assert dead.ended_at >= dead.started_at
    assert not dead.oom_killed


async def test_creating_again_adopts(bench: Bench) -> None:
    assignment = bench.assignment()
    made = await bench.runtime.create(bench.owner, assignment, task())
    again = await bench.runtime.create(bench.owner, assignment, task())
    assert (again.id, again.state) == (made.id, ContainerState.CREATED)

    await bench.runtime.start(made.id)
    running = await bench.runtime.create(bench.owner, assignment, task())

    assert (running.id, running.state) == (made.id, ContainerState.RUNNING)
    assert len(await bench.runtime.list(bench.owner)) == 1


async def test_a_foreign_container_of_the_name_is_not_adopted(bench: Bench) -> None:
    assignment = bench.assignment()
    bench.host.add_container(labels.container_name(assignment), {})

    with pytest.raises(CannotRunError, match=assignment.task_id):
        await bench.runtime.create(bench.owner, assignment, task())


async def test_starting_again_changes_nothing(bench: Bench) -> None:
    container = await bench.running(task())

    await bench.runtime.start(container.id)

    assert (await bench.see(container.id)).started_at == container.started_at


async def test_starting_what_is_gone_says_so(bench: Bench) -> None:
    with pytest.raises(NoContainerError):
        await bench.runtime.start(ContainerId("f" * 64))


async def test_an_end_by_itself_shows_the_exit_code(bench: Bench) -> None:
    container = await bench.running(task(EXITS_3))

    async def is_dead() -> bool:
        return not (await bench.see(container.id)).alive

    await until(is_dead)
    dead = await bench.see(container.id)
    assert dead.state is ContainerState.EXITED
    assert dead.exit_code == 3
    assert dead.health is Health.NONE


async def test_a_stubborn_container_is_killed_after_its_grace(bench: Bench) -> None:
    container = await bench.running(task(STUBBORN, stop_grace_seconds=1))
    await written(bench, container.id, 1)  # it has set its trap
    began = time.monotonic()

    await bench.runtime.stop(container.id)

    assert time.monotonic() - began >= 0.9
    assert (await bench.see(container.id)).exit_code == 137


async def test_a_stop_may_be_given_less_grace(bench: Bench) -> None:
    container = await bench.running(task(STUBBORN, stop_grace_seconds=60))
    await written(bench, container.id, 1)

    async with asyncio.timeout(SECONDS_MAX):
        await bench.runtime.stop(container.id, grace_seconds=0.2)

    assert (await bench.see(container.id)).exit_code == 137


async def test_a_stop_uses_the_tasks_own_signal(bench: Bench) -> None:
    container = await bench.running(task(stop_signal="SIGINT"))

    assert container.stop_signal == "SIGINT"


async def test_stopping_killing_and_removing_may_be_repeated(bench: Bench) -> None:
    container = await bench.running(task())
    await bench.runtime.stop(container.id)

    await bench.runtime.stop(container.id)
    await bench.runtime.kill(container.id)
    await bench.runtime.remove(container.id)
    await bench.runtime.remove(container.id)
    await bench.runtime.stop(container.id)
    await bench.runtime.kill(container.id)

    assert await bench.runtime.list(bench.owner) == []


async def test_removing_kills(bench: Bench) -> None:
    container = await bench.running(task(STUBBORN, stop_grace_seconds=60))

    async with asyncio.timeout(SECONDS_MAX):
        await bench.runtime.remove(container.id)

    assert await bench.runtime.inspect(container.id) is None


# --- what can never run -----------------------------------------------------------------------


async def test_a_missing_image_is_named(bench: Bench) -> None:
    spec = TaskSpec(container=ContainerSpec(image="shoal-nowhere:9"))

    with pytest.raises(ImageMissingError, match="shoal-nowhere:9"):
        await bench.runtime.create(bench.owner, bench.assignment(), spec)


async def test_an_image_that_cannot_be_pulled_is_named(bench: Bench) -> None:
    with pytest.raises(CannotRunError, match=r"registry\.invalid/nowhere:9"):
        await bench.runtime.pull("registry.invalid/nowhere:9")


async def test_a_program_that_is_not_in_the_image_is_named(bench: Bench) -> None:
    made = await bench.runtime.create(bench.owner, bench.assignment(), task(NO_SUCH))

    with pytest.raises(CannotRunError, match="cannot execute 'no-such-program'"):
        await bench.runtime.start(made.id)

    assert (await bench.see(made.id)).state is ContainerState.CREATED


async def test_a_missing_bind_source_is_named(bench: Bench, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    mount = Mount(kind=MountKind.BIND, source=missing, target="/data")

    with pytest.raises(CannotRunError, match=f"{missing} does not exist"):
        await bench.runtime.create(bench.owner, bench.assignment(), task(mounts=(mount,)))


async def test_a_port_in_use_is_named(bench: Bench) -> None:
    port = PublishedPort(target=80, published=18080)
    spec = TaskSpec(container=task().container, ports=(port,))
    holder = await bench.running(spec)
    second = await bench.runtime.create(bench.owner, bench.assignment(), spec)

    with pytest.raises(CannotRunError, match=r"18080.* of this host is taken"):
        await bench.runtime.start(second.id)

    await bench.runtime.stop(holder.id)
    await bench.runtime.start(second.id)
    assert (await bench.see(second.id)).alive


# --- networks ---------------------------------------------------------------------------------


def on_networks(*names: str) -> TaskSpec:
    attachments = tuple(NetworkAttachment(network=name) for name in names)
    return TaskSpec(container=task().container, networks=attachments)


async def test_networks_are_made_once_and_joined(bench: Bench) -> None:
    front, back = unique("front"), unique("back")
    both = [bench.runtime.ensure_network(bench.owner, front) for _ in range(5)]
    await asyncio.gather(*both, bench.runtime.ensure_network(bench.owner, back))

    container = await bench.running(on_networks(front, back))

    assert container.alive
    assert {front, back} <= set(bench.host.networks())


async def test_agents_of_one_cluster_share_a_network(bench: Bench) -> None:
    name = unique("net")
    neighbour = Owner(bench.owner.cluster_id, NodeId("neighbour"))
    links = [bench.host.link(), bench.host.link()]
    owners = [bench.owner, neighbour]

    await asyncio.gather(
        *(
            link.ensure_network(owner, name)
            for link, owner in zip(links, owners, strict=True)
            for _ in range(3)
        )
    )

    assert bench.host.networks().count(name) == 1
    for link in links:
        await link.aclose()


@pytest.mark.parametrize("name", ["foreign", "bridge"])
async def test_a_network_that_is_not_ours_is_refused(bench: Bench, name: str) -> None:
    if name == "foreign":
        name = unique("foreign")
        bench.host.add_network(name)

    with pytest.raises(CannotRunError, match=f"network '{name}' that is not the cluster's"):
        await bench.runtime.ensure_network(bench.owner, name)


async def test_only_our_unused_networks_are_removed(bench: Bench) -> None:
    used, kept, unused, foreign, other = (unique(n) for n in ("u", "k", "n", "f", "o"))
    bench.host.add_network(foreign)
    for name in (used, kept, unused):
        await bench.runtime.ensure_network(bench.owner, name)
    await bench.runtime.ensure_network(Owner(ClusterId("other"), bench.owner.node_id), other)
    await bench.running(on_networks(used))

    await bench.runtime.remove_unused_networks(bench.owner, keep=[kept])

    assert {used, kept, foreign, other} <= set(bench.host.networks())
    assert unused not in bench.host.networks()
    await bench.runtime.ensure_network(bench.owner, unused)
    assert unused in bench.host.networks()


async def test_a_network_that_went_away_before_the_start_can_be_made_again(bench: Bench) -> None:
    name = unique("net")
    await bench.runtime.ensure_network(bench.owner, name)
    made = await bench.runtime.create(bench.owner, bench.assignment(), on_networks(name))
    bench.host.remove_network(name)

    with pytest.raises(NetworkMissingError, match=name):
        await bench.runtime.start(made.id)

    await bench.runtime.ensure_network(bench.owner, name)
    await bench.runtime.start(made.id)
    assert (await bench.see(made.id)).alive


# --- health -----------------------------------------------------------------------------------


async def test_a_container_becomes_healthy(bench: Bench) -> None:
    container = await bench.running(with_check(HEALTHY, "true"))
    assert container.health is Health.STARTING

    async def is_healthy() -> bool:
        return (await bench.see(container.id)).health is Health.HEALTHY

    await until(is_healthy)
    await bench.runtime.stop(container.id)
    assert (await bench.see(container.id)).health is Health.NONE


async def test_a_dead_container_still_tells_that_it_was_unhealthy(bench: Bench) -> None:
    container = await bench.running(with_check(SICK, "sh", "-c", "echo probe; false"))

    async def is_unhealthy() -> bool:
        return (await bench.see(container.id)).health is Health.UNHEALTHY

    await until(is_unhealthy)
    assert "probe" in (await bench.see(container.id)).health_output
    await bench.runtime.stop(container.id)

    dead = await bench.see(container.id)
    assert dead.health is Health.UNHEALTHY
    assert "probe" in dead.health_output


# --- events -----------------------------------------------------------------------------------


async def test_events_hint_at_what_happens_to_our_containers(bench: Bench) -> None:
    async with asyncio.timeout(SECONDS_MAX), bench.runtime.listen(bench.owner) as hints:
        await off_loop(functools.partial(bench.host.add_container, unique("foreign"), {}))
        container = await bench.running(task(EXITS_3))
        while (await bench.see(container.id)).alive:
            hint = await anext(hints)
            assert (hint.container_id, hint.task_id) == (container.id, container.task_id)
            assert not hint.signalled


async def test_events_tell_beginnings_from_ends(bench: Bench) -> None:
    async with asyncio.timeout(SECONDS_MAX), bench.runtime.listen(bench.owner) as hints:
        await bench.running(task(EXITS_3))

        assert [hint.began async for hint in first(3, hints)] == [True, True, False]


async def test_events_tell_of_health(bench: Bench) -> None:
    async with asyncio.timeout(SECONDS_MAX), bench.runtime.listen(bench.owner) as hints:
        container = await bench.running(with_check(HEALTHY, "true"))
        while (await bench.see(container.id)).health is not Health.HEALTHY:
            await anext(hints)


async def test_events_tell_of_signals(bench: Bench) -> None:
    container = await bench.running(task())
    async with asyncio.timeout(SECONDS_MAX), bench.runtime.listen(bench.owner) as hints:
        await off_loop(functools.partial(bench.host.stop_by_hand, container.id))
        assert any([hint.signalled async for hint in first(2, hints)])


async def test_events_tell_of_removals(bench: Bench) -> None:
    container = await bench.running(task())
    async with asyncio.timeout(SECONDS_MAX), bench.runtime.listen(bench.owner) as hints:
        await off_loop(functools.partial(bench.host.remove_by_hand, container.id))
        while await bench.runtime.inspect(container.id) is not None:
            await anext(hints)


async def drain(hints: AsyncIterator[ContainerHint]) -> None:
    async for _ in hints:
        pass


async def first(count: int, hints: AsyncIterator[ContainerHint]) -> AsyncIterator[ContainerHint]:
    for _ in range(count):
        yield await anext(hints)


# --- logs -------------------------------------------------------------------------------------


async def written(bench: Bench, container_id: ContainerId, count: int) -> None:
    async def has_lines() -> bool:
        return len(await read(bench, container_id, LogRange())) >= count

    await until(has_lines)


async def read(bench: Bench, container_id: ContainerId, wanted: LogRange) -> list[LogLine]:
    async with bench.runtime.logs(container_id, wanted) as lines:
        return [line async for line in lines]


async def test_logs_are_read_in_order(bench: Bench) -> None:
    container = await bench.running(task(PRINTS))
    await written(bench, container.id, 3)

    lines = await read(bench, container.id, LogRange())
    last = await read(bench, container.id, LogRange(tail=1))

    assert [line.line for line in lines] == [b"line 1", b"line 2", b"line 3"]
    assert all(abs(line.at - time.time()) < SECONDS_MAX for line in lines)
    assert [line.line for line in last] == [b"line 3"]


async def test_logs_can_begin_at_a_moment(bench: Bench) -> None:
    container = await bench.running(task(PRINTS))
    await written(bench, container.id, 3)

    assert await read(bench, container.id, LogRange(since=time.time() + 60)) == []


async def test_following_ends_with_the_container(bench: Bench) -> None:
    container = await bench.running(task(PRINTS))
    seen = []

    async with (
        asyncio.timeout(SECONDS_MAX),
        bench.runtime.logs(container.id, LogRange(follow=True)) as lines,
    ):
        async for line in lines:
            seen.append(line.line)
            if len(seen) == 3:
                await bench.runtime.stop(container.id)

    assert seen == [b"line 1", b"line 2", b"line 3"]


async def test_following_can_be_given_up(bench: Bench) -> None:
    container = await bench.running(task(PRINTS))

    async with (
        asyncio.timeout(SECONDS_MAX),
        bench.runtime.logs(container.id, LogRange(follow=True)) as lines,
    ):
        assert (await anext(lines)).line == b"line 1"

    assert (await bench.see(container.id)).alive


async def test_logs_of_what_is_gone_say_so(bench: Bench) -> None:
    with pytest.raises(NoContainerError):
        await read(bench, ContainerId("f" * 64), LogRange())


async def test_logs_that_cannot_be_read_say_so(bench: Bench) -> None:
    container = await bench.running(task(log=LogOptions(driver="none")))

    with pytest.raises(CannotRunError, match="does not support reading"):
        await read(bench, container.id, LogRange())


# --- measuring --------------------------------------------------------------------------------


async def test_use_is_measured_of_running_containers_only(bench: Bench) -> None:
    running = await bench.running(task())
    dead = await bench.running(task())
    await bench.runtime.kill(dead.id)

    async def is_dead() -> bool:
        return not (await bench.see(dead.id)).alive

    await until(is_dead)

    usage = await bench.runtime.usage([running.id, dead.id, ContainerId("f" * 64)])

    assert set(usage) == {running.id}
    assert usage[running.id].cpu_total_nanos > 0
    assert 0 < usage[running.id].memory_bytes < 1 << 30


# --- a daemon in trouble ----------------------------------------------------------------------


async def test_a_dead_daemon_is_unavailable_and_its_containers_live_on(bench: Bench) -> None:
    container = await bench.running(task())
    async with asyncio.timeout(SECONDS_MAX), bench.runtime.listen(bench.owner) as hints:
        await off_loop(bench.host.crash)
        with pytest.raises(RuntimeUnavailableError):
            await drain(hints)
    for call in (
        bench.runtime.info(),
        bench.runtime.list(bench.owner),
        bench.runtime.start(container.id),
        bench.runtime.stop(container.id),
        bench.runtime.remove(container.id),
        bench.runtime.create(bench.owner, bench.assignment(), task()),
    ):
        with pytest.raises(RuntimeUnavailableError):
            await call
    with pytest.raises(RuntimeUnavailableError):
        async with bench.runtime.listen(bench.owner):
            pass

    await off_loop(bench.host.come_back)
    (seen,) = await bench.runtime.list(bench.owner)
    assert seen.id == container.id
    assert seen.alive
    assert seen.started_at == container.started_at


async def test_a_hung_daemon_is_unavailable(bench: Bench) -> None:
    container = await bench.running(task())

    with bench.host.hung():
        async with asyncio.timeout(SECONDS_MAX):
            with pytest.raises(RuntimeUnavailableError):
                await bench.runtime.inspect(container.id)

    assert (await bench.see(container.id)).alive


async def off_loop(call: Callable[[], object]) -> None:
    """Run something that blocks; the fake's must stay on the loop."""
    method = call.func if isinstance(call, functools.partial) else call
    if isinstance(getattr(method, "__self__", None), FakeHost):
        call()
    else:
        await asyncio.to_thread(call)


async def test_limits_are_seen(bench: Bench) -> None:
    spec = TaskSpec(container=task().container, limits=Resources(memory_bytes=64 << 20))

    assert (await bench.running(spec)).memory_limit_bytes == 64 << 20
