"""Reaching a manager: the first that answers, another when it fails, and nothing done twice."""

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import grpc
import pytest

from cluster.clock import SystemClock
from cluster.errors import ConflictError, NotFoundError, UnavailableError
from cluster.model import ClusterSpec, ContainerSpec, Manager, ServiceSpec, TaskSpec
from clusterctl.calls import Caller, OutcomeUnknownError
from clusterctl.channel import CONNECT_SECONDS, Connector
from clusterctl.client import Client
from clusterctl.follow import Follower, Lost, Update
from clusterctl.settings import Target
from tests.fakes.control import FakeControl

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
SPEC = ServiceSpec(name="web", task=TaskSpec(container=ContainerSpec(image="web:1")), replicas=2)


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)


@contextmanager
def client_of(*endpoints: str, timeout_seconds: float = 5.0) -> Iterator[Client]:
    caller = Caller(
        Connector(Target(tuple(endpoints), None, ""), SystemClock()),
        SystemClock(),
        timeout_seconds=timeout_seconds,
        chance=random.Random(1),
        pause=pause,
    )
    with closing(caller):
        yield Client(caller)


def refused() -> str:
    """Return an endpoint that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@contextmanager
def hanging() -> Iterator[str]:
    """Yield an endpoint whose connections are accepted, but where nobody ever says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


# --- connecting ---


def test_the_first_that_answers_is_taken() -> None:
    with FakeControl() as control, client_of(refused(), refused(), control.endpoint) as client:
        assert len(client.nodes()) == 3
        assert client.caller.connection.endpoint == control.endpoint


def test_one_that_hangs_does_not_keep_from_the_next() -> None:
    with FakeControl() as control, hanging() as hung, client_of(hung, control.endpoint) as client:
        began = SystemClock().monotonic()
        assert client.nodes()
        assert SystemClock().monotonic() - began < CONNECT_SECONDS


def test_none_that_answers_is_told_with_every_reason_and_the_next_step() -> None:
    first = refused()
    with (
        hanging() as hung,
        client_of(first, hung) as client,
        pytest.raises(UnavailableError) as failure,
    ):
        client.nodes()
    text = str(failure.value)
    assert "\n" not in text
    assert f"{first} (connection refused), {hung} (no answer within 3s)" in text
    assert "clusterctl dev up" in text


# --- repeating ---


def test_a_question_is_asked_again_elsewhere() -> None:
    with (
        FakeControl() as one,
        FakeControl() as other,
        client_of(one.endpoint, other.endpoint) as client,
    ):
        one.fail("ListNodes", UNAVAILABLE)
        assert client.nodes()
        assert one.calls + other.calls == ["ListNodes", "ListNodes"]
        assert other.calls == ["ListNodes"]


def test_what_is_sent_once_may_take_all_the_time_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        FakeControl() as control,
        client_of(control.endpoint, refused(), timeout_seconds=60.0) as client,
    ):
        stub = client.caller.connection.stub
        given: dict[str, float] = {}
        for name in ("ListNodes", "Rebalance"):
            call = getattr(stub, name)

            def timed(
                request: object, timeout: float, name: str = name, call: Any = call
            ) -> object:
                given[name] = timeout
                return call(request, timeout=timeout)

            monkeypatch.setattr(stub, name, timed)
        client.nodes()
        client.rebalance(max_moves=1, plan=False)
        assert given["ListNodes"] <= 30.0
        assert given["Rebalance"] > 30.0


def test_with_a_single_manager_it_is_asked_again() -> None:
    with FakeControl() as control, client_of(control.endpoint) as client:
        control.fail("ListNodes", UNAVAILABLE, times=3)
        assert client.nodes()
        assert control.calls == ["ListNodes"] * 4


def test_a_manager_that_is_killed_between_two_calls_is_replaced() -> None:
    with (
        FakeControl() as one,
        FakeControl(nodes=1) as other,
        client_of(one.endpoint, other.endpoint) as client,
    ):
        assert len(client.nodes()) == 3
        one.stop()
        assert len(client.nodes()) == 1


def test_a_call_outlives_the_connection_that_a_stream_cuts_under_it() -> None:
    with FakeControl() as control, client_of(control.endpoint) as client:
        control.fail("ListNodes", grpc.StatusCode.CANCELLED)  # what closing a channel does
        assert client.nodes()


def test_a_call_outlives_the_connection_that_a_stream_cuts_before_it() -> None:
    with FakeControl() as control, client_of(control.endpoint) as client:
        connect = client.caller.connector.connect

        class CutAtFirst:
            """The stub of a connection that is found broken just before a call."""

            def __getattr__(self, name: str) -> object:
                client.caller.connector.connect = connect  # type: ignore[method-assign]
                client.caller.discard(given)
                return getattr(real.stub, name)

        real = connect()
        given = replace(real, stub=CutAtFirst())  # type: ignore[arg-type]
        client.caller.connector.connect = lambda after="": given  # type: ignore[method-assign]
        assert client.nodes()


def test_it_ends_when_the_time_is_up() -> None:
    with FakeControl() as control, client_of(control.endpoint, timeout_seconds=0.3) as client:
        control.fail("ListNodes", UNAVAILABLE, times=1000)
        with pytest.raises(UnavailableError, match=r"no answer within 0\.3s"):
            client.nodes()


def test_a_refusal_is_not_asked_again() -> None:
    with (
        FakeControl() as control,
        client_of(control.endpoint) as client,
        pytest.raises(NotFoundError, match="no node 'x'"),
    ):
        client.node("x")
    assert control.calls == ["GetNode"]


def test_setting_a_level_is_repeated() -> None:
    with FakeControl() as control, client_of(control.endpoint) as client:
        service = control.add_service(SPEC)
        control.fail("ScaleServices", UNAVAILABLE, done=True)
        (scaled,) = client.scale_services({"web": 5})
        assert scaled.spec.replicas == 5
        assert scaled.spec_version == service.spec_version + 1


def test_a_removal_that_was_done_at_the_first_attempt_is_done() -> None:
    with FakeControl() as control, client_of(control.endpoint) as client:
        control.add_service(SPEC)
        control.fail("RemoveServices", UNAVAILABLE, done=True)
        client.remove_services(["web"])
        with pytest.raises(NotFoundError):
            client.remove_services(["web"])


def test_what_is_not_safe_to_repeat_is_sent_once() -> None:
    with FakeControl() as control, client_of(control.endpoint) as client:
        version = client.cluster_info().cluster.version
        control.fail("UpdateCluster", UNAVAILABLE, done=True)
        with pytest.raises(OutcomeUnknownError, match="look before you try again"):
            client.update_cluster(version, ClusterSpec(task_history_limit=2))
        assert control.calls.count("UpdateCluster") == 1


def test_an_update_is_guarded_by_its_version() -> None:
    with FakeControl() as control, client_of(control.endpoint) as client:
        old = control.add_service(SPEC)
        control.fail("UpdateService", UNAVAILABLE, done=True)
        with pytest.raises(ConflictError):  # its own first attempt; the command looks closer
            client.update_service(old.id, old.version, ServiceSpec(name="web", task=SPEC.task))
        assert control.calls.count("UpdateService") == 2


# --- following ---


def updates(follower: Follower, until: int) -> list[Update | Lost]:
    """Take until the revision is reached."""
    found: list[Update | Lost] = []
    while not any(isinstance(item, Update) and item.revision >= until for item in found):
        found += follower.take(5.0)
    return found


def test_a_snapshot_comes_first_and_then_every_change() -> None:
    with (
        FakeControl(nodes=2) as control,
        client_of(control.endpoint) as client,
        Follower(client.caller, SystemClock(), random.Random(1)) as follower,
    ):
        first = updates(follower, control.revision)
        assert [item.snapshot for item in first if isinstance(item, Update)] == [True, False]
        service = control.add_service(SPEC)
        later = updates(follower, control.revision)
        changed = [v for item in later if isinstance(item, Update) for v in item.changed]
        assert service in changed


def test_when_the_stream_breaks_it_goes_on_at_another_with_a_snapshot() -> None:
    with (
        FakeControl(nodes=1) as one,
        FakeControl(nodes=4) as other,
        client_of(one.endpoint, other.endpoint) as client,
        Follower(client.caller, SystemClock(), random.Random(1)) as follower,
    ):
        updates(follower, one.revision)
        one.stop()
        found: list[Update | Lost] = []
        while not any(isinstance(item, Update) and item.revision for item in found):
            found += follower.take(5.0)
        assert isinstance(found[0], Lost)
        assert found[0].endpoint == one.endpoint
        assert isinstance(found[1], Update)
        assert found[1].snapshot


def test_managers_are_learnt_from_the_stream() -> None:
    with FakeControl(nodes=1) as one, FakeControl(nodes=4) as other:
        (there,) = other.all(Manager)
        one.put(there)
        with (
            client_of(one.endpoint) as client,
            Follower(client.caller, SystemClock(), random.Random(1)) as follower,
        ):
            updates(follower, one.revision)
            assert client.caller.connector.endpoints == (one.endpoint, other.endpoint)
            one.stop()
            assert len(client.nodes()) == 4


def test_only_the_services_that_matter_are_read() -> None:
    with FakeControl(nodes=1) as control, client_of(control.endpoint) as client:
        wanted = control.add_service(SPEC)
        control.add_service(ServiceSpec(name="other", task=SPEC.task))
        control.settle()
        with Follower(
            client.caller, SystemClock(), random.Random(1), services={wanted.id}
        ) as follower:
            items = updates(follower, control.revision)
        values = [v for item in items if isinstance(item, Update) for v in item.changed]
        ids = {getattr(v, "service_id", None) for v in values} - {None}
        assert ids == {wanted.id}
