"""The agent on a real Docker daemon: its containers are as specified, and outlive everything."""

import asyncio
import contextlib
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import msgspec
import pytest

from agent.agent import Agent
from agent.channel import Dialer
from agent.host import PsutilMeter
from agent.identity import IdentityFiles
from agent.runtime.dockerd import DockerRuntime
from agent.runtime.engine import Patience
from agent.settings import AgentSettings
from agent.worker import LISTING_SECONDS
from cluster.api.v1 import dispatch_pb2 as pb
from cluster.clock import SystemClock
from cluster.ids import IdSource
from cluster.model import (
    Assignment,
    ContainerSpec,
    Healthcheck,
    LogOptions,
    Mount,
    MountKind,
    NetworkAttachment,
    NetworkMode,
    NodeId,
    PublishedPort,
    ServiceId,
    TaskId,
    TaskSpec,
    TaskState,
    Ulimit,
)
from cluster.resources import Resources
from tests.fakes.dispatch import FakeManager, until
from tests.harness.dockerd import IMAGE, WAIT, Dockerd, dockerd, unique

WAITS = ("sh", "-c", WAIT)


@dataclass
class Bench:
    """A daemon, a manager, and an agent's state directory."""

    daemon: Dockerd
    manager: FakeManager
    directory: Path
    client: docker.DockerClient
    slots: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def assignment(self, service: str = "shop_web") -> Assignment:
        number = next(self.slots)
        return Assignment(
            task_id=TaskId(unique(f"t{number}")),
            service_id=ServiceId(f"s{number}"),
            service_name=service,
            stack="shop",
            spec_version=1,
            slot=number,
            node_id=NodeId("n1"),
            desired_state=TaskState.RUNNING,
            state=TaskState.ASSIGNED,
        )

    async def run(self, spec: TaskSpec | None = None, service: str = "shop_web") -> TaskId:
        task = self.assignment(service)
        self.manager.assign(task, spec or container())
        await self.manager.reported(task.task_id, TaskState.RUNNING)
        return task.task_id

    async def ends(self, spec: TaskSpec, state: TaskState) -> Any:
        task = self.assignment()
        self.manager.assign(task, spec)
        return await self.manager.reported(task.task_id, state)

    def id_of(self, task_id: TaskId) -> str:
        return self.manager.statuses[task_id].container_id

    async def inspect(self, task_id: TaskId) -> dict[str, Any]:
        found: dict[str, Any] = await asyncio.to_thread(
            self.client.api.inspect_container, self.id_of(task_id)
        )
        return found

    async def shell(self, task_id: TaskId, command: str) -> str:
        def run() -> str:
            made = self.client.containers.get(self.id_of(task_id))
            result = made.exec_run(["sh", "-c", command])
            assert isinstance(result.output, bytes)
            return result.output.decode()

        return await asyncio.to_thread(run)

    @contextlib.asynccontextmanager
    async def agent(self) -> AsyncIterator[None]:
        source = random.Random(3)
        runtime = DockerRuntime(self.daemon.url, Patience(connect_seconds=1, quick_seconds=2))
        files = IdentityFiles(self.directory)
        agent = Agent(
            AgentSettings(managers=(self.manager.address,)),
            runtime,
            files,
            files.load(IdSource(source)),
            dialer=Dialer(None),
            clock=SystemClock(),
            source=source,
            meter=PsutilMeter(),
        )
        job = asyncio.create_task(agent.run())
        try:
            yield
        finally:
            job.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await job
            await runtime.aclose()


def container(command: tuple[str, ...] | None = WAITS, **fields: Any) -> TaskSpec:
    return TaskSpec(container=ContainerSpec(image=IMAGE, command=command, **fields))


@pytest.fixture(scope="module")
def daemon() -> Iterator[Dockerd]:
    with dockerd(live_restore=True) as running:
        yield running


async def _bench(daemon: Dockerd, directory: Path) -> AsyncIterator[Bench]:
    client = daemon.client()
    async with FakeManager() as manager:
        yield Bench(daemon, manager, directory, client)
    for each in client.containers.list(all=True):
        each.remove(force=True, v=True)
    client.networks.prune()
    client.close()


@pytest.fixture
async def bench(daemon: Dockerd, tmp_path: Path) -> AsyncIterator[Bench]:
    async for made in _bench(daemon, tmp_path / "state"):
        yield made


@pytest.fixture
async def lone(tmp_path: Path) -> AsyncIterator[Bench]:
    """A bench whose daemon may be shut down, and then stops its containers."""
    with dockerd() as own:
        async for made in _bench(own, tmp_path / "state"):
            yield made


# --- as specified -----------------------------------------------------------------------------


async def test_what_is_specified_is_what_runs(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("from the host")
    made_on_demand = tmp_path / "made"
    spec = TaskSpec(
        container=ContainerSpec(
            image=IMAGE,
            entrypoint=("sh", "-c"),
            command=(WAIT,),
            environment={"COLOUR": "blue", "EMPTY": ""},
            user="nobody",
            working_dir="/var",
            hostname="unit-1",
            labels={"team": "a"},
            mounts=(
                Mount(
                    kind=MountKind.BIND,
                    source=str(tmp_path / "data"),
                    target="/data",
                    read_only=True,
                ),
                Mount(
                    kind=MountKind.BIND,
                    source=str(made_on_demand),
                    target="/made",
                    create_host_path=True,
                ),
                Mount(kind=MountKind.VOLUME, source="store", target="/store", labels={"a": "b"}),
                Mount(kind=MountKind.VOLUME, target="/anonymous"),
                Mount(
                    kind=MountKind.TMPFS,
                    target="/scratch",
                    tmpfs_size_bytes=1 << 20,
                    tmpfs_mode=0o1777,
                ),
            ),
            ulimits=(Ulimit(name="nofile", soft=123, hard=456),),
            sysctls={"net.core.somaxconn": "77"},
            cap_add=("SYS_TIME",),
            cap_drop=("CHOWN",),
            group_add=("1234",),
            init=True,
            read_only=True,
            stop_signal="SIGINT",
            stop_grace_seconds=2.5,
            pids_limit=50,
            shm_size_bytes=1 << 20,
            oom_score_adj=100,
            extra_hosts=("db:198.18.9.9",),
            dns=("198.18.9.53",),
            dns_search=("example",),
            dns_options=("ndots:2",),
            log=LogOptions(driver="json-file", options={"max-size": "1m"}),
        ),
        reservations=Resources(cpu_nanos=250_000_000, memory_bytes=16 << 20),
        limits=Resources(cpu_nanos=500_000_000, memory_bytes=32 << 20),
        ports=(PublishedPort(target=80, published=18081, host_ip="127.0.0.1"),),
    )
    async with bench.agent():
        task_id = await bench.run(spec)
        seen = await bench.inspect(task_id)
        inside = await bench.shell(
            task_id,
            "id; pwd; hostname; echo $COLOUR; cat /data/file; touch /data/x /root-is-writable;"
            "cat /proc/sys/net/core/somaxconn; ulimit -Hn; df -k /scratch | tail -1;"
            "df -k /dev/shm | tail -1; cat /etc/hosts /etc/resolv.conf; cat /proc/1/comm",
        )

    for expected in (
        "uid=65534(nobody)",
        "1234",
        "/var\n",
        "unit-1\n",
        "blue\n",
        "from the host",
        "/data/x: Read-only file system",
        "/root-is-writable: Read-only file system",
        "77\n",
        "456\n",  # the soft one may be raised to it: a race in runc's exec, not ours
        "198.18.9.9\tdb",
        "nameserver 198.18.9.53",
        "search example",
        "ndots:2",
        "docker-init",
    ):
        assert expected in inside
    assert inside.count(" 1024 ") >= 2  # KiB of the scratch space and of /dev/shm
    assert made_on_demand.is_dir()
    host = seen["HostConfig"]
    assert host["Memory"] == 32 << 20
    assert host["MemoryReservation"] == 16 << 20
    assert host["NanoCpus"] == 500_000_000
    assert host["CpuShares"] == 256
    assert host["PidsLimit"] == 50
    assert host["Ulimits"] == [{"Name": "nofile", "Soft": 123, "Hard": 456}]
    assert host["OomScoreAdj"] == 100
    assert host["CapAdd"] in (["SYS_TIME"], ["CAP_SYS_TIME"])
    assert host["CapDrop"] in (["CHOWN"], ["CAP_CHOWN"])
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "1m"}}
    assert host["RestartPolicy"]["Name"] in ("no", "")
    assert host["PortBindings"] == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18081"}]}
    assert seen["Config"]["StopSignal"] == "SIGINT"
    assert seen["Config"]["StopTimeout"] == 3
    assert seen["Config"]["Labels"]["team"] == "a"
    volume = bench.client.volumes.get("store")
    assert volume.attrs["Labels"]["a"] == "b"


@pytest.mark.parametrize("mode", [NetworkMode.HOST, NetworkMode.NONE])
async def test_host_and_no_network(bench: Bench, mode: NetworkMode) -> None:
    async with bench.agent():
        task_id = await bench.run(TaskSpec(container=container().container, network_mode=mode))
        links = await bench.shell(task_id, "ip -o link | wc -l; ip -o link")

    assert ("docker0" in links) == (mode is NetworkMode.HOST)


async def test_services_find_each_other_by_name_on_their_networks(bench: Bench) -> None:
    both = (
        NetworkAttachment(network="shop_front", aliases=("www",)),
        NetworkAttachment(network="shop_back"),
    )
    back = (NetworkAttachment(network="shop_back"),)
    async with bench.agent():
        await bench.run(TaskSpec(container=container().container, networks=both))
        asker = await bench.run(
            TaskSpec(container=container().container, networks=back), service="shop_db"
        )
        found = {
            name: await bench.shell(asker, f"timeout 2 ping -c 1 {name} | head -2")
            for name in ("web", "shop_web", "www")
        }

    assert "bytes from" in found["web"]
    assert "bytes from" in found["shop_web"]
    assert "bytes from" not in found["www"]  # an alias on the other network alone


async def test_a_terminals_log_is_read(bench: Bench) -> None:
    async with bench.agent():
        task_id = await bench.run(container(("sh", "-c", f"echo hello; {WAIT}"), tty=True))
        lines = await published(bench, task_id, 1)

    assert lines == [(pb.LOG_STREAM_STDOUT, b"hello")]


async def test_both_streams_of_a_log_are_read(bench: Bench) -> None:
    talks = f"echo out; sleep 0.1; echo err >&2; {WAIT}"
    async with bench.agent():
        task_id = await bench.run(container(("sh", "-c", talks)))
        lines = await published(bench, task_id, 2)

    assert lines == [(pb.LOG_STREAM_STDOUT, b"out"), (pb.LOG_STREAM_STDERR, b"err")]


async def published(bench: Bench, task_id: TaskId, count: int) -> list[tuple[int, bytes]]:
    options = pb.LogOptionsWanted(follow=True, tail=-1)
    bench.manager.tell(
        logs=[pb.LogsWanted(subscription_id="s", task_ids=[task_id], options=options)]
    )

    def lines() -> list[tuple[int, bytes]]:
        messages = [each for each in bench.manager.logs.get("s", []) if each is not None]
        return [(entry.stream, entry.line) for each in messages for entry in each.entries]

    await until(lambda: len(lines()) >= count)
    return lines()


# --- how tasks end ----------------------------------------------------------------------------


async def test_exit_codes_are_told(bench: Bench) -> None:
    async with bench.agent():
        done = await bench.ends(container(("sh", "-c", "exit 0")), TaskState.COMPLETE)
        failed = await bench.ends(container(("sh", "-c", "exit 9")), TaskState.FAILED)

    assert done.exit_code == 0
    assert (failed.exit_code, failed.error) == (9, "exited with code 9")


async def test_a_container_that_takes_too_much_memory_is_told_apart(bench: Bench) -> None:
    hungry = TaskSpec(
        container=container(("sh", "-c", "tail /dev/zero")).container,
        limits=Resources(memory_bytes=16 << 20),
    )
    async with bench.agent():
        failed = await bench.ends(hungry, TaskState.FAILED)

    assert failed.error == "out of memory: killed at its limit of 16 MiB"


async def test_an_image_that_is_nowhere_rejects_with_its_name(bench: Bench) -> None:
    spec = TaskSpec(container=ContainerSpec(image="registry.invalid/nope:1"))
    async with bench.agent():
        rejected = await bench.ends(spec, TaskState.REJECTED)

    assert "image 'registry.invalid/nope:1' cannot be had" in rejected.error


async def test_a_killed_container_is_noticed_at_once(bench: Bench) -> None:
    async with bench.agent():
        task_id = await bench.run()
        await asyncio.to_thread(bench.client.containers.get(bench.id_of(task_id)).kill)
        began = time.monotonic()

        status = await bench.manager.reported(task_id, TaskState.FAILED)

        assert time.monotonic() - began < LISTING_SECONDS / 2  # so it was Docker's event
    assert status.error == "exited with code 137 (SIGKILL)"


async def test_an_unhealthy_container_is_stopped_and_failed(bench: Bench) -> None:
    check = Healthcheck(
        test=("CMD-SHELL", "test -e /tmp/well || { echo not well; false; }"),
        interval_seconds=0.2,
        retries=2,
        start_period_seconds=0.0,
    )
    well = ("sh", "-c", f"touch /tmp/well; {WAIT}")
    async with bench.agent():
        task_id = await bench.run(container(well, healthcheck=check))

        await bench.shell(task_id, "rm /tmp/well")
        status = await bench.manager.reported(task_id, TaskState.FAILED)

        assert not (await bench.inspect(task_id))["State"]["Running"]
    assert status.error == "unhealthy: not well"


async def test_a_stop_respects_signal_and_grace_and_a_drop_removes(bench: Bench) -> None:
    traps = 'trap "echo got int; exit 5" INT; while :; do sleep 0.1; done'
    spec = container(("sh", "-c", traps), stop_signal="SIGINT")
    async with bench.agent():
        task = bench.assignment()
        bench.manager.assign(task, spec)
        await bench.manager.reported(task.task_id, TaskState.RUNNING)
        await asyncio.sleep(0.2)  # it sets its trap

        stopping = msgspec.structs.replace(task, desired_state=TaskState.SHUTDOWN)
        bench.manager.assign(stopping, spec)
        status = await bench.manager.reported(task.task_id, TaskState.SHUTDOWN)
        assert status.exit_code == 5
        assert bench.client.api.containers(all=True)

        bench.manager.drop(task.task_id)
        await eventually(lambda: not bench.client.api.containers(all=True))


async def eventually(condition: Callable[[], Any]) -> None:
    """Wait for something that is asked of Docker, off the loop."""
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.05)


# --- restarts ---------------------------------------------------------------------------------


def run_state(seen: dict[str, Any]) -> tuple[int, str]:
    return seen["State"]["Pid"], seen["State"]["StartedAt"]


async def test_a_restarted_agent_adopts_its_containers(bench: Bench) -> None:
    async with bench.agent():
        tasks = [await bench.run() for _ in range(3)]
        before = [run_state(await bench.inspect(task_id)) for task_id in tasks]
    foreign = await asyncio.to_thread(
        lambda: bench.client.containers.run(IMAGE, detach=True, name=unique("foreign"))
    )
    bench.manager.statuses = dict(bench.manager.statuses)
    async with bench.agent():
        await bench.manager.has_sessions(2)
        await bench.run()
        after = [run_state(await bench.inspect(task_id)) for task_id in tasks]

        assert after == before
        for task_id in tasks:
            bench.manager.drop(task_id)
        await eventually(lambda: len(bench.client.api.containers(all=True)) == 2)
    foreign.reload()
    assert foreign.status == "running"


async def test_containers_outlive_a_daemon_with_live_restore(bench: Bench) -> None:
    async with bench.agent():
        task_id = await bench.run()
        before = run_state(await bench.inspect(task_id))

        await asyncio.to_thread(bench.daemon.kill)
        late = bench.assignment()
        bench.manager.assign(late, container())
        await asyncio.sleep(0.5)
        await asyncio.to_thread(bench.daemon.start)

        await bench.manager.reported(late.task_id, TaskState.RUNNING)
        assert run_state(await bench.inspect(task_id)) == before
        assert bench.manager.statuses[task_id].state is TaskState.RUNNING


async def test_containers_that_a_daemon_stops_with_itself_are_failures(lone: Bench) -> None:
    """Even those that exit with 0, as they were taught to: nobody asked them to end."""
    async with lone.agent():
        tasks = [await lone.run() for _ in range(2)]

        await asyncio.to_thread(lone.daemon.shut_down)
        await asyncio.to_thread(lone.daemon.start)

        for task_id in tasks:
            status = await lone.manager.reported(task_id, TaskState.FAILED)
            assert status.exit_code == 0
            assert status.error in (
                "was stopped from outside the cluster",
                "ended together with Docker",
            )
        await lone.run()


async def test_containers_that_died_with_a_killed_daemon_are_failures(lone: Bench) -> None:
    async with lone.agent():
        task_id = await lone.run()

        await asyncio.to_thread(lone.daemon.kill)
        await asyncio.to_thread(lone.daemon.start)

        await lone.manager.reported(task_id, TaskState.FAILED)


async def test_a_hung_daemon_holds_up_work_and_loses_nothing(bench: Bench) -> None:
    async with bench.agent():
        task_id = await bench.run()
        beats = bench.manager.beats[bench.manager.session]
        late = bench.assignment()
        with bench.daemon.hung():
            bench.manager.assign(late, container())
            await asyncio.sleep(4)
            assert bench.manager.beats[bench.manager.session] > beats + 20
            state = bench.manager.statuses[late.task_id].state
            assert state <= TaskState.PREPARING

        await bench.manager.reported(late.task_id, TaskState.RUNNING)
        assert bench.manager.statuses[task_id].state is TaskState.RUNNING


# --- the program ------------------------------------------------------------------------------


@contextlib.contextmanager
def program(bench: Bench, *flags: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "agent", "--docker", bench.daemon.url]
    command += ["--state-dir", str(bench.directory), "--managers", bench.manager.address, *flags]
    process = subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


async def test_the_program_says_when_it_is_ready_and_leaves_its_containers(
    bench: Bench, tmp_path: Path
) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(path)
        told.setblocking(False)
        with program(bench, NOTIFY_SOCKET=path) as process:
            said = b""
            while b"READY=1" not in said:
                async with asyncio.timeout(30):
                    said = await asyncio.get_running_loop().sock_recv(told, 1024)
            task_id = await bench.run()

            process.send_signal(signal.SIGTERM)

            assert await asyncio.to_thread(process.wait, 10) == 0
    assert (await bench.inspect(task_id))["State"]["Running"]


async def test_the_program_may_be_killed_at_any_time(bench: Bench) -> None:
    with program(bench):
        task_id = await bench.run()
        before = run_state(await bench.inspect(task_id))
    with program(bench):
        await bench.manager.has_sessions(2)
        await bench.run()

        assert run_state(await bench.inspect(task_id)) == before


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("--cpus", "lots"), b"lots"),
        (("--managers", "nowhere"), b"'nowhere' is not host:port"),
        (("--tls-ca", "/nope"), b"give all three or none"),
        (("--nonsense", "1"), b"--nonsense"),
    ],
)
async def test_the_program_refuses_bad_settings(
    bench: Bench, flags: tuple[str, ...], complaint: bytes
) -> None:
    with program(bench, *flags) as process:
        _, errors = await asyncio.to_thread(process.communicate, None, 30)

        assert process.returncode == 2
        assert complaint in errors
