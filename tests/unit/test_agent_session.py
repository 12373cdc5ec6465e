"""The whole agent on a fake engine, with fake managers on loopback."""

import asyncio
import contextlib
import itertools
import random
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Hashable
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
import msgspec
import pytest

from agent import agent as agent_module
from agent import heartbeats, image_news, link, log_publisher, session, usage
from agent.agent import Agent
from agent.channel import Dialer
from agent.host import PsutilMeter
from agent.identity import CLUSTER_FILE, Identity, IdentityFiles
from agent.runtime import labels
from agent.runtime.interface import ContainerId, HostImage, Owner
from agent.settings import AgentSettings
from cluster.api.v1 import dispatch_pb2 as pb
from cluster.clock import SystemClock
from cluster.ids import IdSource
from cluster.images import TOLD_MAX
from cluster.model import (
    Assignment,
    ClusterId,
    ContainerSpec,
    NodeId,
    ServiceId,
    TaskId,
    TaskSpec,
    TaskState,
)
from cluster.resources import Resources
from cluster.settings import TlsFiles
from tests.fakes.dispatch import CLUSTER, FakeManager, until
from tests.fakes.runtime import FakeEngine, FakeRuntime, Program

IMAGE = "web:1"
CHATTY = "chatty:1"
SPEC = TaskSpec(container=ContainerSpec(image=IMAGE))
NODE = NodeId("n" * 25)


@dataclass
class Bench:
    """An agent's host and its files; agents come and go on it."""

    directory: Path
    engine: FakeEngine
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def assignment(self) -> Assignment:
        number = next(self.numbers)
        return Assignment(
            task_id=TaskId(f"t{number}"),
            service_id=ServiceId(f"s{number}"),
            service_name=f"web{number}",
            spec_version=1,
            slot=1,
            node_id=NODE,
            desired_state=TaskState.RUNNING,
            state=TaskState.ASSIGNED,
        )

    async def run(self, manager: FakeManager) -> TaskId:
        """Assign a task and wait until it is reported as running."""
        task = self.assignment()
        manager.assign(task, SPEC)
        await manager.reported(task.task_id, TaskState.RUNNING)
        return task.task_id

    def alive(self) -> list[ContainerId]:
        return [one.id for one in self.engine.containers() if one.alive]

    @contextlib.asynccontextmanager
    async def agent(
        self, *managers: str, tls: TlsFiles | None = None, **changes: str | dict[str, str]
    ) -> AsyncIterator[Agent]:
        source = random.Random(5)
        files = IdentityFiles(self.directory)
        made = Agent(
            AgentSettings(managers=managers, **changes),  # type: ignore[arg-type]
            FakeRuntime(self.engine),
            files,
            files.load(IdSource(source)),
            dialer=Dialer(tls),
            clock=SystemClock(),
            source=source,
            meter=PsutilMeter(),
        )
        job = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            job.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await job


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    programs: dict[Hashable, Program] = {CHATTY: Program(output=(b"one", b"two", b"three"))}
    engine = FakeEngine(programs=programs, images=[IMAGE, CHATTY])
    engine.patience_seconds = 0.2
    return Bench(tmp_path / "state", engine)


@pytest.fixture
async def manager() -> AsyncIterator[FakeManager]:
    async with FakeManager() as made:
        yield made


@pytest.fixture
async def second() -> AsyncIterator[FakeManager]:
    async with FakeManager() as made:
        yield made


# --- a session --------------------------------------------------------------------------------


async def test_an_agent_introduces_itself(bench: Bench, manager: FakeManager) -> None:
    async with bench.agent(
        manager.address, labels={"zone": "a"}, cpus="1.5", memory="1GiB", hostname="h1"
    ):
        await manager.has_sessions(1)

    (request,) = manager.opened
    assert len(request.node_id) == 25
    assert request.cluster_id == ""
    assert dict(request.labels) == {"zone": "a"}
    description = request.description
    assert description.hostname == "h1"
    assert description.address == "127.0.0.1"
    assert description.platform.os == "linux"
    assert description.capacity.cpu_nanos == 1_500_000_000
    assert description.capacity.memory_bytes == 1 << 30
    assert description.engine_version == "20.10.24"
    assert description.agent_version


async def test_a_node_stays_itself_over_restarts(bench: Bench, manager: FakeManager) -> None:
    async with bench.agent(manager.address):
        await manager.has_sessions(1)
    async with bench.agent(manager.address):
        await manager.has_sessions(2)

    first, again = manager.opened
    assert again.node_id == first.node_id
    assert again.cluster_id == CLUSTER


async def test_assigned_tasks_run_and_are_reported(bench: Bench, manager: FakeManager) -> None:
    early = bench.assignment()
    manager.assign(early, SPEC)
    async with bench.agent(manager.address):
        await manager.reported(early.task_id, TaskState.RUNNING)
        late = await bench.run(manager)

        stopping = msgspec.structs.replace(early, desired_state=TaskState.SHUTDOWN)
        manager.assign(stopping, SPEC)
        await manager.reported(early.task_id, TaskState.SHUTDOWN)
        manager.drop(early.task_id)

        await until(lambda: [one.task_id for one in bench.engine.containers()] == [late])
    assert manager.sets_asked == 1
    assert len(manager.opened) == 1


async def test_what_is_stored_is_not_reported_again(bench: Bench, manager: FakeManager) -> None:
    async with bench.agent(manager.address):
        await bench.run(manager)
        reports = manager.reports
        beats = manager.beats[manager.session]

        await until(lambda: manager.beats[manager.session] > beats + 3)

        assert manager.reports == reports


async def test_heartbeats_follow_the_managers_period(
    bench: Bench, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeats, "ANSWER_SECONDS", 0.0)
    async with bench.agent(manager.address):
        await manager.has_sessions(1)
        manager.period_seconds = 10.0
        await until(lambda: manager.beats[manager.session] >= 2)
        beats = manager.beats[manager.session]

        await asyncio.sleep(0.5)

        assert manager.beats[manager.session] <= beats + 1


async def test_only_now_and_then_a_heartbeat_asks_for_an_answer(
    bench: Bench, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeats, "ANSWER_SECONDS", 600.0)
    manager.period_seconds = 0.02
    async with bench.agent(manager.address):
        await manager.has_sessions(1)
        await until(lambda: manager.beats[manager.session] > 15)

    assert manager.answers == 1


async def test_use_comes_with_heartbeats_once_each(
    bench: Bench, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "PERIOD_SECONDS", 0.2)
    async with bench.agent(manager.address):
        task_id = await bench.run(manager)
        await until(lambda: any(one.tasks for one in manager.usage))
        beats_before, usage_before = manager.beats[manager.session], len(manager.usage)
        await until(lambda: manager.beats[manager.session] >= beats_before + 6)

    seen = manager.usage[-1]
    assert [one.task_id for one in seen.tasks] == [task_id]
    assert seen.tasks[0].memory_bytes == 1 << 20
    assert seen.memory_bytes > 0
    assert seen.node_id == manager.opened[0].node_id
    assert len(manager.usage) - usage_before < 6


# --- gaps -------------------------------------------------------------------------------------


async def test_after_a_gap_the_whole_set_is_asked_for(bench: Bench, manager: FakeManager) -> None:
    async with bench.agent(manager.address):
        task_id = await bench.run(manager)
        before = bench.alive()

        manager.send_gap()
        await until(lambda: manager.sets_asked == 2)

        await bench.run(manager)
        assert bench.alive()[:1] == before
        assert manager.statuses[task_id].state is TaskState.RUNNING
    assert len(manager.opened) == 1


async def test_a_broken_stream_of_assignments_does_not_end_the_session(
    bench: Bench, manager: FakeManager
) -> None:
    async with bench.agent(manager.address):
        await bench.run(manager)

        manager.break_assignments()
        await until(lambda: manager.sets_asked == 2)

        await bench.run(manager)
    assert len(manager.opened) == 1


async def test_a_store_that_is_away_does_not_end_the_session(
    bench: Bench, manager: FakeManager
) -> None:
    async with bench.agent(manager.address):
        await manager.has_sessions(1)
        manager.is_storeless = True
        task = bench.assignment()
        manager.assign(task, SPEC)
        await until(bench.alive)
        await until(lambda: manager.beats[manager.session] > 5)
        assert manager.statuses == {}

        manager.is_storeless = False

        await manager.reported(task.task_id, TaskState.RUNNING)
    assert len(manager.opened) == 1


async def test_a_task_without_its_specification_is_asked_for_again(
    bench: Bench, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "SPEC_SECONDS", 0.05)
    async with bench.agent(manager.address):
        await manager.has_sessions(1)
        task = bench.assignment()
        manager.assign(msgspec.structs.replace(task, spec_version=2), SPEC)
        manager.assign(msgspec.structs.replace(task, spec_version=2), SPEC)
        await manager.reported(task.task_id, TaskState.RUNNING)


# --- managers lost and found ------------------------------------------------------------------


async def test_another_manager_takes_over(
    bench: Bench, manager: FakeManager, second: FakeManager
) -> None:
    manager.managers = second.managers = (manager.address, second.address)
    async with bench.agent(manager.address):
        task_id = await bench.run(manager)
        before = bench.alive()
        assignment = msgspec.structs.replace(bench.assignment(), task_id=task_id)
        second.assign(msgspec.structs.replace(assignment, state=TaskState.RUNNING), SPEC)

        await manager.stop()
        await second.has_sessions(1)

        await bench.run(second)
        assert bench.alive()[:1] == before


async def test_what_was_not_acknowledged_is_reported_to_the_next_manager(
    bench: Bench, manager: FakeManager, second: FakeManager
) -> None:
    async with bench.agent(manager.address, second.address):
        await until(lambda: manager.opened or second.opened)
        first, other = (manager, second) if manager.opened else (second, manager)
        await first.has_sessions(1)
        first.is_storeless = True
        task = bench.assignment()
        first.assign(task, SPEC)
        other.assign(task, SPEC)
        await until(bench.alive)

        await first.stop()

        await other.reported(task.task_id, TaskState.RUNNING)
        assert bench.engine.calls.count("start") == 1


async def test_losing_every_manager_stops_no_container(bench: Bench, manager: FakeManager) -> None:
    async with bench.agent(manager.address):
        doomed, healthy = await bench.run(manager), await bench.run(manager)
        await manager.stop()
        (container,) = (one for one in bench.engine.containers() if one.task_id == doomed)
        bench.engine.exit(container.id, 7)
        await asyncio.sleep(0.3)
        assert len(bench.alive()) == 1
        manager.statuses.clear()

        await manager.start()

        status = await manager.reported(doomed, TaskState.FAILED)
        assert status.exit_code == 7
        await manager.reported(healthy, TaskState.RUNNING)
        assert "stop" not in bench.engine.calls


async def test_a_mute_manager_is_left(
    bench: Bench,
    manager: FakeManager,
    second: FakeManager,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeats, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(heartbeats, "PATIENCE_SECONDS", 0.3)
    manager.managers = (manager.address, second.address)
    async with bench.agent(manager.address):
        await manager.has_sessions(1)

        manager.is_mute = True

        await second.has_sessions(1)


async def test_a_manager_that_never_opens_the_session_is_left(
    bench: Bench, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something listens there that does not speak our language."""
    monkeypatch.setattr(link, "OPEN_SECONDS_MAX", 0.3)
    monkeypatch.setattr(link, "CONNECT_SECONDS_MAX", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with bench.agent(f"127.0.0.1:{silent.getsockname()[1]}", manager.address):
            await manager.has_sessions(1)


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INVALID_ARGUMENT])
async def test_a_manager_that_refuses_is_asked_again(
    bench: Bench, manager: FakeManager, code: grpc.StatusCode
) -> None:
    manager.refuses = code
    async with bench.agent(manager.address):
        await asyncio.sleep(0.2)
        assert manager.opened == []

        manager.refuses = None

        await manager.has_sessions(1)


@pytest.mark.parametrize("how", ["heartbeat", "end"])
async def test_a_session_that_is_gone_is_opened_anew(
    bench: Bench, manager: FakeManager, how: str
) -> None:
    async with bench.agent(manager.address):
        await bench.run(manager)
        before = bench.alive()

        if how == "end":
            manager.end_session()
        else:
            manager.forgets = True
            await until(lambda: len(manager.opened) >= 2)
            manager.forgets = False

        await manager.has_sessions(2)
        await bench.run(manager)
        assert bench.alive()[:1] == before


async def test_a_manager_of_another_cluster_is_not_obeyed(
    bench: Bench, manager: FakeManager
) -> None:
    async with bench.agent(manager.address):
        await bench.run(manager)
    async with FakeManager(cluster_id="d" * 25) as stranger, bench.agent(stranger.address):
        await until(lambda: len(stranger.opened) >= 2)

        assert len(bench.alive()) == 1
        assert stranger.sets_asked == 0
    assert (bench.directory / CLUSTER_FILE).read_text().strip() == CLUSTER


async def test_a_node_that_has_joined_works_without_any_manager(
    bench: Bench, manager: FakeManager
) -> None:
    async with bench.agent(manager.address):
        await bench.run(manager)
    await manager.stop()
    async with bench.agent(manager.address):
        await until(lambda: bench.engine.calls.count("list") >= 2)

        assert len(bench.alive()) == 1


# --- Docker lost and found --------------------------------------------------------------------


async def test_without_docker_there_is_no_session_until_it_is_there(
    bench: Bench, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_module, "ENGINE_RETRY_SECONDS", 0.05)
    bench.engine.crash()
    async with bench.agent(manager.address):
        await asyncio.sleep(0.3)
        assert manager.opened == []

        bench.engine.come_back()

        await manager.has_sessions(1)


async def test_a_docker_that_stays_away_ends_the_session(
    bench: Bench, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_module, "ENGINE_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(session, "ENGINE_SILENCE_SECONDS_MAX", 0.5)
    monkeypatch.setattr(session, "ENGINE_LOOK_SECONDS", 0.05)
    async with bench.agent(manager.address):
        await bench.run(manager)

        bench.engine.crash()
        await asyncio.sleep(0.3)
        assert len(manager.opened) == 1
        beats = manager.beats[manager.session]
        await asyncio.sleep(1.0)
        assert manager.beats[manager.session] < beats + 10
        assert len(manager.opened) == 1

        bench.engine.come_back()
        await manager.has_sessions(2)
        assert len(bench.alive()) == 1


async def test_a_changed_host_is_described_anew(
    bench: Bench, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "ENGINE_LOOK_SECONDS", 0.05)
    async with bench.agent(manager.address):
        await manager.has_sessions(1)

        bench.engine.crash()
        more = Resources(cpu_nanos=64_000_000_000, memory_bytes=1 << 40)
        bench.engine.info = replace(bench.engine.info, version="28.0", capacity=more)
        bench.engine.come_back()

        await manager.has_sessions(2)
    assert manager.opened[-1].description.engine_version == "28.0"
    assert manager.opened[-1].description.capacity.cpu_nanos == 64_000_000_000


# --- images -----------------------------------------------------------------------------------


async def test_images_are_told_at_once_and_news_of_them_in_the_same_session(
    bench: Bench, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_news, "PERIOD_SECONDS", 0.02)
    monkeypatch.setattr(session, "ENGINE_LOOK_SECONDS", 0.01)
    async with bench.agent(manager.address):
        await manager.has_sessions(1)
        assert list(manager.opened[0].description.images) == [CHATTY, IMAGE]

        looks = bench.engine.calls.count("images")
        await until(lambda: bench.engine.calls.count("images") > looks + 3)
        assert not manager.images, "nothing new is no news"

        bench.engine.images.add("docker.io/library/new")
        await until(lambda: manager.images == {manager.session: (CHATTY, "new:latest", IMAGE)})
        bench.engine.images.remove(CHATTY)
        await until(lambda: manager.images == {manager.session: ("new:latest", IMAGE)})
    assert len(manager.opened) == 1


async def test_news_of_images_that_cannot_be_had_or_told_do_not_end_the_session(
    bench: Bench, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_news, "PERIOD_SECONDS", 0.02)
    async with bench.agent(manager.address):
        await manager.has_sessions(1)
        bench.engine.failures["images"] = 2
        manager.knows_images = False
        bench.engine.images.add("new:1")
        await until(lambda: manager.images_refused > 1)
        manager.knows_images = True
        await until(lambda: "new:1" in manager.images.get(manager.session, ()))
    assert len(manager.opened) == 1


def test_the_largest_images_are_told_of() -> None:
    images = [HostImage((f"web:{size}", f"again:{size}"), size) for size in range(100)]

    told = image_news.largest(images)

    assert len(told) == TOLD_MAX
    assert sorted(told) == list(told)
    assert {"web:99", "again:99", "web:75", "again:75"} <= set(told)
    assert "web:74" not in told


# --- logs -------------------------------------------------------------------------------------


def wish(*task_ids: TaskId, follow: bool = False, tail: int = -1) -> pb.LogsWanted:
    options = pb.LogOptionsWanted(follow=follow, tail=tail)
    return pb.LogsWanted(subscription_id="sub", task_ids=task_ids, options=options)


def lines(manager: FakeManager) -> list[bytes]:
    return [
        entry.line
        for message in manager.logs.get("sub", [])
        if message is not None
        for entry in message.entries
    ]


def errors(manager: FakeManager) -> list[str]:
    return [message.error for message in manager.logs["sub"] if message and message.error]


async def chatty(bench: Bench, manager: FakeManager) -> tuple[TaskId, ContainerId]:
    task = bench.assignment()
    manager.assign(task, TaskSpec(container=ContainerSpec(image=CHATTY)))
    status = await manager.reported(task.task_id, TaskState.RUNNING)
    return task.task_id, ContainerId(status.container_id)


async def test_logs_are_sent_task_by_task(bench: Bench, manager: FakeManager) -> None:
    async with bench.agent(manager.address):
        first, _ = await chatty(bench, manager)
        second, _ = await chatty(bench, manager)

        manager.tell(logs=[wish(first, second, tail=2)])
        await until(lambda: manager.logs.get("sub", [])[-1:] == [None])

    assert lines(manager) == [b"two", b"three", b"two", b"three"]
    entries = [entry for message in manager.logs["sub"] if message for entry in message.entries]
    assert [entry.task_id for entry in entries] == [first, first, second, second]
    assert all(entry.stream == pb.LOG_STREAM_STDOUT for entry in entries)
    assert abs(entries[0].at - time.time()) < 60


async def test_followed_logs_go_on_until_the_container_ends(
    bench: Bench, manager: FakeManager
) -> None:
    async with bench.agent(manager.address):
        task_id, container_id = await chatty(bench, manager)
        manager.tell(logs=[wish(task_id, follow=True)])
        await until(lambda: len(lines(manager)) == 3)

        bench.engine.write(container_id, b"four")
        await until(lambda: lines(manager)[-1:] == [b"four"])
        bench.engine.exit(container_id, 0)

        await until(lambda: manager.logs["sub"][-1:] == [None])


async def test_a_log_that_nobody_wants_any_more_is_not_sent(
    bench: Bench, manager: FakeManager
) -> None:
    async with bench.agent(manager.address):
        task_id, container_id = await chatty(bench, manager)
        manager.tell(logs=[wish(task_id, follow=True)])
        await until(lambda: len(lines(manager)) == 3)

        manager.tell(logs=[pb.LogsWanted(subscription_id="sub", cancelled=True)])
        await until(lambda: not bench.engine.held(container_id).followers)  # type: ignore[union-attr]

        bench.engine.write(container_id, b"unheard")
        await asyncio.sleep(0.1)
        assert lines(manager)[-1] == b"three"


async def test_a_wish_is_answered_at_once_even_if_there_is_nothing_to_send(
    bench: Bench, manager: FakeManager
) -> None:
    async with bench.agent(manager.address):
        task_id = await bench.run(manager)

        manager.tell(logs=[wish(task_id, follow=True)])
        await until(lambda: "sub" in manager.logs)

        assert lines(manager) == []


async def test_a_log_that_cannot_be_had_says_why(bench: Bench, manager: FakeManager) -> None:
    async with bench.agent(manager.address):
        task_id, _ = await chatty(bench, manager)

        manager.tell(logs=[wish(TaskId("nobody"), task_id)])
        await until(lambda: manager.logs.get("sub", [])[-1:] == [None])

    assert errors(manager) == ["task nobody has no container here"]
    assert lines(manager) == [b"one", b"two", b"three"]


async def test_a_task_that_is_followed_before_it_starts_is_heard_from_its_start(
    bench: Bench, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_publisher, "START_LOOK_SECONDS", 0.02)
    async with bench.agent(manager.address):
        task = msgspec.structs.replace(bench.assignment(), desired_state=TaskState.READY)
        spec = TaskSpec(container=ContainerSpec(image=CHATTY))
        manager.assign(task, spec)
        await manager.reported(task.task_id, TaskState.READY)
        manager.tell(logs=[wish(task.task_id, follow=True)])
        await until(lambda: "sub" in manager.logs)

        manager.assign(msgspec.structs.replace(task, desired_state=TaskState.RUNNING), spec)

        await until(lambda: len(lines(manager)) == 3)


async def test_long_logs_come_in_order_and_in_several_messages(
    bench: Bench, manager: FakeManager
) -> None:
    async with bench.agent(manager.address):
        task_id, container_id = await chatty(bench, manager)
        for number in range(3_000):
            bench.engine.write(container_id, b"%04d" % number)

        manager.tell(logs=[wish(task_id)])
        await until(lambda: manager.logs.get("sub", [])[-1:] == [None])

    assert lines(manager)[3:] == [b"%04d" % number for number in range(3_000)]
    assert len(manager.logs["sub"]) > 3_000 / log_publisher.BATCH_LINES_MAX


# --- TLS --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tls")
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    make += ["-nodes", "-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    make += ["-keyout", str(directory / "key.pem"), "-out", str(directory / "cert.pem")]
    subprocess.run(make, check=True, capture_output=True)
    return directory


async def test_managers_are_spoken_to_with_tls_if_there_are_files(
    bench: Bench, certificates: Path
) -> None:
    key, cert = certificates / "key.pem", certificates / "cert.pem"
    manager = FakeManager()
    credentials = grpc.ssl_server_credentials(
        [(key.read_bytes(), cert.read_bytes())], cert.read_bytes(), require_client_auth=True
    )
    await manager.start(credentials)
    try:
        tls = TlsFiles(ca=str(cert), cert=str(cert), key=str(key))
        async with bench.agent(manager.address, tls=tls):
            await manager.has_sessions(1)
    finally:
        await manager.stop()


# --- whose host it is -------------------------------------------------------------------------


async def test_containers_carry_the_nodes_and_the_clusters_identity(
    bench: Bench, manager: FakeManager
) -> None:
    async with bench.agent(manager.address):
        await bench.run(manager)
    identity = IdentityFiles(bench.directory).load(IdSource(random.Random(9)))

    (container,) = bench.engine.containers()

    assert identity == Identity(
        node_id=NodeId(manager.opened[0].node_id), cluster_id=ClusterId(CLUSTER)
    )
    owner = Owner(identity.cluster_id, identity.node_id)
    assert labels.has(bench.engine.labels_of(container.id), labels.owner_labels(owner))
