"""Whole managers on real etcd and real gRPC: two at once, stopped, cut off from the store."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import grpc
import pytest
from google.protobuf.message import Message
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from cluster.api.v1 import control_pb2 as control
from cluster.api.v1 import dispatch_pb2 as dispatch
from cluster.api.v1 import types_pb2 as types
from cluster.clock import SystemClock
from cluster.errors import InvalidError
from cluster.model import Node, NodeState
from manager.reconcilers.nodes import RETURN_SECONDS
from manager.store import keys
from manager.store.etcd import EtcdStore
from tests.harness.etcd import EtcdCluster
from tests.harness.managers import (
    PATIENCE_SECONDS,
    RunningManager,
    StrawAgent,
    create,
    manager,
    spec,
    until,
)
from tests.harness.tcp_proxy import TcpProxy

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def etcd() -> Iterator[EtcdCluster]:
    with EtcdCluster() as cluster:
        yield cluster


@pytest.fixture
async def managers(etcd: EtcdCluster) -> AsyncIterator[tuple[RunningManager, RunningManager]]:
    """Return two managers, the first of which leads."""
    async with manager(etcd.endpoints) as one:
        await one.leads()
        async with manager(etcd.endpoints) as other:
            yield one, other


Pair = tuple[RunningManager, RunningManager]


async def code_of(call: Awaitable[Message]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(aio.AioRpcError) as refusal:
        await call
    return refusal.value.code(), refusal.value.details() or ""


async def eventually(ask: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await ask():
            await asyncio.sleep(0.02)


async def test_every_manager_serves_whoever_leads(managers: Pair) -> None:
    one, other = managers
    made = await create(other, "web", 2)
    found = await one.control.GetService(control.GetServiceRequest(service="web"))
    assert found.service.service == made

    code, details = await code_of(create(one, "web"))
    assert code is grpc.StatusCode.ALREADY_EXISTS
    assert made.id in details

    info = await other.control.GetClusterInfo(control.GetClusterInfoRequest())
    assert (info.leader_id, info.answered_by_id) == (one.server.id, other.server.id)
    assert {each.address for each in info.managers} == {one.address, other.address}
    assert [each.reachable for each in info.store_members] == [True]


async def test_from_a_deploy_to_running_tasks_over_two_managers(managers: Pair) -> None:
    one, other = managers
    agent = await StrawAgent.join(other, "n1")
    watch = one.control.Watch(control.WatchRequest(kinds=["task"], stack="shop"))
    assert (await watch.read()).snapshot

    deployed = await one.control.DeployStack(
        control.DeployStackRequest(
            name="shop", services=[spec("shop_web", 3, stack="shop"), spec("shop_db", stack="shop")]
        )
    )
    assert [each.action for each in deployed.services] == [control.DEPLOY_ACTION_CREATED] * 2
    await agent.take(lambda tasks: len(tasks) == 4)
    await agent.report(types.TASK_STATE_RUNNING)

    running: set[str] = set()
    while len(running) < 4:
        for event in (await watch.read()).events:
            if event.object.task.status.state == types.TASK_STATE_RUNNING:
                running.add(event.object.task.id)
    watch.cancel()
    answer = await one.control.ListServices(control.ListServicesRequest(stack="shop"))
    assert [(each.tasks_desired, each.tasks_running) for each in answer.services] == [
        (1, 1),
        (3, 3),
    ]
    [node] = (await one.control.ListNodes(control.ListNodesRequest())).nodes
    assert (node.node.description.hostname, node.manager_id) == ("n1", other.server.id)
    assert (node.tasks_running, node.usage.memory_bytes) == (4, 7)
    assert node.HasField("heard_seconds_ago")

    explained = await one.control.ExplainTask(control.ExplainTaskRequest(task="shop_web.1"))
    assert explained.summary == "shop_web.1 is running on node 'n1'"
    await agent.leave()


async def test_logs_of_an_agent_are_read_at_the_other_manager(managers: Pair) -> None:
    one, other = managers
    agent = await StrawAgent.join(other, "n1")
    await create(one, "web")
    await agent.take(lambda tasks: len(tasks) == 1)
    [task_id] = agent.tasks
    reading = one.control.StreamLogs(
        control.StreamLogsRequest(
            service="web", options=dispatch.LogOptionsWanted(tail=-1, follow=True)
        )
    )
    first = await reading.read()
    assert [each.service_name for each in first.tasks] == ["web"]
    while not (message := await agent.stream.read()).logs:
        pass
    [wish] = message.logs
    assert (list(wish.task_ids), wish.options.follow, wish.options.tail) == ([task_id], True, -1)

    async def publish() -> AsyncIterator[dispatch.PublishLogsRequest]:
        for number in range(3):
            yield dispatch.PublishLogsRequest(
                session_id=agent.session_id,
                subscription_id=wish.subscription_id,
                entries=[
                    dispatch.LogEntry(
                        task_id=task_id,
                        stream=dispatch.LOG_STREAM_STDERR,
                        at=10.0 + number,
                        line=b"line %d" % number,
                    )
                ],
            )
        await asyncio.Event().wait()

    publishing = other.dispatch.PublishLogs(publish())
    lines: list[bytes] = []
    while len(lines) < 3:
        message = await reading.read()
        lines += [entry.line for entry in message.entries]
        assert all(entry.stream == dispatch.LOG_STREAM_STDERR for entry in message.entries)
    assert lines == [b"line 0", b"line 1", b"line 2"]

    reading.cancel()  # and the agent hears that nobody reads any more
    while not (message := await agent.stream.read()).logs:
        pass
    assert message.logs[0].cancelled
    publishing.cancel()
    await agent.leave()


async def test_a_leader_that_stops_is_followed_at_once_and_leaves_nothing(
    etcd: EtcdCluster, managers: Pair
) -> None:
    one, other = managers
    leaving, staying = await StrawAgent.join(one, "n1"), await StrawAgent.join(other, "n2")
    watch = one.control.Watch(control.WatchRequest())
    await watch.read()

    async with asyncio.timeout(4):
        await one.stop()
    code, details = await code_of(leaving.stream.read())
    assert (code, details) == (
        grpc.StatusCode.UNAVAILABLE,
        "this manager is stopping: go to another",
    )
    assert await watch.code() is grpc.StatusCode.UNAVAILABLE

    async with asyncio.timeout(2):
        await other.leads()
    await create(other, "web", 2)
    await staying.take(lambda tasks: len(tasks) == 2)
    store = EtcdStore(etcd.endpoints)
    assert await store.get(keys.session(leaving.node_id)) is None  # type: ignore[arg-type]
    assert await store.get(keys.manager(one.server.id)) is None
    await store.aclose()
    await leaving.leave()
    await staying.leave()


async def test_a_silent_agent_s_node_is_down_and_its_tasks_run_elsewhere(managers: Pair) -> None:
    one, other = managers
    silent, alive = await StrawAgent.join(one, "n1"), await StrawAgent.join(other, "n2")
    await create(one, "web", 4)
    await silent.take(lambda tasks: len(tasks) == 2)
    await alive.take(lambda tasks: len(tasks) == 2)
    silent.fall_silent()  # its connection stays up
    await alive.take(lambda tasks: len(tasks) == 4)
    nodes = (await one.control.ListNodes(control.ListNodesRequest())).nodes
    assert [each.node.status.state for each in nodes] == [
        types.NODE_STATE_DOWN,
        types.NODE_STATE_READY,
    ]
    await silent.leave()
    await silent.open()
    await silent.take(
        lambda tasks: sum(t.state == types.TASK_STATE_ORPHANED for t in tasks.values()) == 2
    )
    await silent.leave()
    await alive.leave()


async def test_a_manager_that_has_only_just_come_waits_for_who_comes_back_late(
    etcd: EtcdCluster,
) -> None:
    def in_state(manager: RunningManager, state: NodeState) -> list[Node]:
        return [node for node in manager.server.view.nodes.values() if node.status.state is state]

    async with manager(etcd.endpoints) as gone:
        agents = [await StrawAgent.join(gone, f"n{i}") for i in (1, 2, 3)]
        await until(lambda: len(in_state(gone, NodeState.READY)) == 3)
        for agent in agents:
            await agent.leave()
    began_at = SystemClock().now()
    async with manager(etcd.endpoints) as new:
        agents = [await StrawAgent.join(new, name) for name in ("n1", "n2")]
        await until(lambda: in_state(new, NodeState.DOWN))
        (down,) = in_state(new, NodeState.DOWN)
        assert down.description.hostname == "n3"
        assert down.status.changed_at - began_at >= RETURN_SECONDS
        for agent in agents:
            await agent.leave()


async def test_without_its_store_a_manager_reads_refuses_writes_and_recovers(
    etcd: EtcdCluster,
) -> None:
    async with manager(etcd.endpoints) as one:
        agent = await StrawAgent.join(one, "n1")
        await create(one, "web", 2)
        await agent.take(lambda tasks: len(tasks) == 2)
        etcd.members[0].kill()

        found = await one.control.GetService(control.GetServiceRequest(service="web"))
        assert found.service.service.spec.replicas == 2
        scale = control.ScaleServicesRequest(replicas={"web": 3})
        code, details = await code_of(one.control.ScaleServices(scale))
        assert code is grpc.StatusCode.UNAVAILABLE
        assert details
        info = await one.control.GetClusterInfo(control.GetClusterInfoRequest())
        assert [each.reachable for each in info.store_members] == [False]
        # Longer than the lease lives: sessions and leadership have to be taken anew.
        await asyncio.sleep(4)
        etcd.members[0].start()

        async def scaled() -> bool:
            try:
                await one.control.ScaleServices(scale)
            except aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE, error  # noqa: PT017
                return False
            return True

        await eventually(scaled)
        await agent.take(lambda tasks: len(tasks) == 3)
        [node] = (await one.control.ListNodes(control.ListNodesRequest())).nodes
        assert node.node.status.state == types.NODE_STATE_READY
        assert node.manager_id == one.server.id
        await agent.leave()


async def test_a_manager_that_alone_has_lost_the_store_sends_its_agents_to_the_others(
    etcd: EtcdCluster,
) -> None:
    async with (
        manager(etcd.endpoints) as well,
        TcpProxy(etcd.endpoints[0]) as link,
        manager([link.endpoint]) as cut_off,
    ):
        agent = await StrawAgent.join(cut_off, "n1")
        await until(lambda: len(cut_off.server.view.managers) == 2)
        link.cut()
        async with asyncio.timeout(PATIENCE_SECONDS):
            code, details = await code_of(agent.stream.read())
        assert (code, "no lease" in details) == (grpc.StatusCode.UNAVAILABLE, True)
        agent.fall_silent()
        moved = await StrawAgent.join(well, "n1")
        await create(well, "web")
        await moved.take(lambda tasks: len(tasks) == 1)
        [node] = (await well.control.ListNodes(control.ListNodesRequest())).nodes
        assert node.node.status.state == types.NODE_STATE_READY
        await moved.leave()


async def test_a_manager_waits_for_its_store_and_may_be_stopped_meanwhile() -> None:
    cluster = EtcdCluster()
    try:
        async with manager(cluster.endpoints, wait=False) as one:
            await asyncio.sleep(1.0)
            assert not one.ready.is_set()
            async with asyncio.timeout(10):
                await one.stop()
        async with manager(cluster.endpoints, wait=False) as one:
            cluster.start()
            await one.started()
            await create(one, "web")
    finally:
        cluster.close()


async def test_refusals_say_everything_and_leave_nothing_half_done(managers: Pair) -> None:
    one, _ = managers
    bad = [spec(f"shop_{number}", -1, "no image!", stack="shop") for number in range(3)]
    deploy = control.DeployStackRequest(name="shop", services=bad)
    code, details = await code_of(one.control.DeployStack(deploy))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert len(details.splitlines()) == 6
    assert all(f"'shop_{number}': replicas:" in details for number in range(3))

    many = [spec(f"shop_{number}", stack="shop") for number in range(60)]
    deploy = control.DeployStackRequest(name="shop", services=many)
    code, details = await code_of(one.control.DeployStack(deploy))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "--max-txn-ops" in details

    code, details = await code_of(one.control.GetTask(control.GetTaskRequest(task="x.1")))
    assert code is grpc.StatusCode.NOT_FOUND
    stacks = await one.control.ListStacks(control.ListStacksRequest())
    services = await one.control.ListServices(control.ListServicesRequest())
    assert not stacks.stacks
    assert not services.services


async def test_health_and_reflection_are_served(managers: Pair) -> None:
    one, _ = managers
    health = health_pb2_grpc.HealthStub(one.channel)
    for name in ("", "cluster.api.v1.Control", "cluster.api.v1.Dispatch"):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    call = reflection_pb2_grpc.ServerReflectionStub(one.channel).ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    listed = {each.name for each in (await call.read()).list_services_response.service}
    assert {"cluster.api.v1.Control", "cluster.api.v1.Dispatch"} <= listed
    await call.done_writing()
    call.cancel()


async def test_a_quiet_client_that_pings_is_not_thrown_out(managers: Pair) -> None:
    one, _ = managers
    options = (
        ("grpc.keepalive_time_ms", 1_100),
        ("grpc.http2.ping_timeout_ms", 1_000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.use_local_subchannel_pool", 1),
    )
    async with aio.insecure_channel(one.address, options) as channel:
        stub = type(one.control)(channel)
        watch = stub.Watch(control.WatchRequest(kinds=["stack"]))
        await watch.read()
        quiet = asyncio.create_task(watch.read())
        done, _ = await asyncio.wait({quiet}, timeout=8)
        if done:  # at most what brings it to the newest revision
            assert isinstance(quiet.result(), control.WatchMessage)
        watch.cancel()


async def test_a_port_in_use_is_refused(etcd: EtcdCluster) -> None:
    async with manager(etcd.endpoints) as one:
        with pytest.raises(InvalidError, match=f"cannot listen on {one.address}: is the port"):
            async with manager(etcd.endpoints, listen=one.address):
                pass
