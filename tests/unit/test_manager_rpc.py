"""Errors on the wire: one table both ways, and nothing of an unknown error but its kind."""

import logging
from typing import Never

import grpc
import pytest
from grpc import aio

from cluster import codec, status
from cluster.api.v1 import control_pb2, types_pb2
from cluster.errors import (
    ClusterError,
    ConflictError,
    ExistsError,
    ForbiddenError,
    InternalError,
    InvalidError,
    NotFoundError,
    OverloadedError,
    StateError,
    UnavailableError,
)
from cluster.model import (
    Availability,
    ContainerSpec,
    NodeId,
    ServiceId,
    ServiceSpec,
    Task,
    TaskId,
    TaskSpec,
)
from cluster.resources import Resources
from manager.control.explaining import Told
from manager.control.nodes import NodeChange
from manager.control.outlook import Fate, Outlook, Room
from manager.control.summaries import TaskSummary
from manager.control.tasks import NodeVerdict, TaskExplanation
from manager.control.whatif import Asked
from manager.rpc.messages import (
    asked_from,
    availability_from,
    explanation,
    node_change_from,
    outlook,
    verdict,
)
from manager.rpc.refusals import refusals
from manager.store.interface import (
    GuardFailedError,
    StoreUnavailableError,
    TooLargeError,
)

KINDS = [
    InvalidError,
    NotFoundError,
    ConflictError,
    ExistsError,
    StateError,
    ForbiddenError,
    UnavailableError,
    OverloadedError,
    InternalError,
]


class Context:
    """What a call is refused through."""

    def __init__(self) -> None:
        self.code: grpc.StatusCode | None = None
        self.details = ""

    async def abort(self, code: grpc.StatusCode, details: str) -> Never:
        self.code, self.details = code, details
        raise aio.AbortError


async def refused(error: Exception) -> Context:
    context = Context()
    with pytest.raises(aio.AbortError):
        async with refusals(context):  # type: ignore[arg-type]
            raise error
    return context


@pytest.mark.parametrize("kind", KINDS)
async def test_every_error_arrives_as_what_it_was(kind: type[ClusterError]) -> None:
    context = await refused(kind("no service 'wbe'"))
    assert context.code is not None
    back = status.error_of(context.code, context.details)
    assert type(back) is kind
    assert str(back) == "no service 'wbe'"


def test_no_two_kinds_share_a_code() -> None:
    assert len({status.code_of(kind("x")) for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreUnavailableError("x"), grpc.StatusCode.UNAVAILABLE),
        (TooLargeError("x"), grpc.StatusCode.INVALID_ARGUMENT),
        (GuardFailedError(1, {}), grpc.StatusCode.ABORTED),
    ],
)
def test_errors_of_the_store_travel_as_their_kind(
    error: ClusterError, code: grpc.StatusCode
) -> None:
    assert status.code_of(error) is code


def test_every_code_reads_as_some_error() -> None:
    for code in grpc.StatusCode:
        assert isinstance(status.error_of(code, ""), ClusterError)
        assert code.name in str(status.error_of(code, ""))
    assert isinstance(status.error_of(grpc.StatusCode.UNKNOWN, ""), InternalError)
    assert isinstance(status.error_of(grpc.StatusCode.DEADLINE_EXCEEDED, ""), UnavailableError)


async def test_an_unknown_error_is_logged_once_and_told_by_its_kind_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR):
        context = await refused(ValueError("the secret is 1234"))
    assert context.code is grpc.StatusCode.INTERNAL
    assert "ValueError" in context.details
    assert "1234" not in context.details
    assert [record.exc_info is not None for record in caplog.records] == [True]


async def test_a_refusal_is_no_fault_of_ours_and_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await refused(NotFoundError("x"))
    assert not caplog.records


async def test_an_abort_passes() -> None:
    with pytest.raises(aio.AbortError):
        async with refusals(Context()):  # type: ignore[arg-type]
            raise aio.AbortError


@pytest.mark.parametrize("sign", ["x", "\n", "%", "ü", "\U0001f41f", "\ud800"])
def test_long_details_fit_into_a_header(sign: str) -> None:
    details = status.details_of(InvalidError(sign * 10_000))
    size = sum(
        1 if " " <= each <= "~" and each != "%" else 3 * len(each.encode(errors="replace"))
        for each in details
    )
    assert status.DETAILS_BYTES_MAX - 12 < size < 8_000
    short = "flaw: ü"
    assert status.details_of(InvalidError(short)) == short


def test_an_availability_that_is_left_out_is_none_and_an_unknown_one_is_refused() -> None:
    assert availability_from(types_pb2.AVAILABILITY_UNSPECIFIED) is None
    assert availability_from(types_pb2.AVAILABILITY_DRAIN) is Availability.DRAIN
    with pytest.raises(InvalidError):
        availability_from(99)


def test_a_change_of_a_node_arrives_as_it_was_meant() -> None:
    assert node_change_from(control_pb2.UpdateNodeRequest(node="n1")) == NodeChange()
    whole = control_pb2.UpdateNodeRequest(
        availability=types_pb2.AVAILABILITY_PAUSE,
        set_labels={"a": "1"},
        remove_labels=["b"],
        task_slots=0,
        reserve_for=["c"],
        unreserve_for=["d"],
        add_volumes=["e"],
        remove_volumes=["f"],
    )
    assert node_change_from(whole) == NodeChange(
        availability=Availability.PAUSE,
        set_labels={"a": "1"},
        remove_labels=("b",),
        task_slots=0,
        reserve_for=("c",),
        unreserve_for=("d",),
        add_volumes=("e",),
        remove_volumes=("f",),
    )


def test_an_explanation_leaves_with_all_that_it_says() -> None:
    task = Task(id=TaskId("t"), service_id=ServiceId("s"), spec_version=1)
    value = TaskExplanation(
        TaskSummary(task, "web", "n1", "web:1"),
        "web.1 waits",
        (
            NodeVerdict(NodeId("a"), "host-a", (), (("empty", 0), ("leftover", 0.5))),
            NodeVerdict(NodeId("b"), "host-b", ("down", "short of 1 CPU")),
        ),
        Told("host-b: down", ("free 1 CPU on host-b",), "host-a comes first"),
    )
    message = explanation(value, map(verdict, value.verdicts))
    assert (message.task.task.id, message.summary) == ("t", "web.1 waits")
    first, second = message.verdicts
    assert (first.node_id, first.hostname) == ("a", "host-a")
    assert [(term.name, term.value) for term in first.rank] == [("empty", 0.0), ("leftover", 0.5)]
    assert list(second.reasons) == ["down", "short of 1 CPU"]
    assert message.nearest == "host-b: down"
    assert list(message.fixes) == ["free 1 CPU on host-b"]
    assert message.preference == "host-a comes first"


def test_what_is_imagined_arrives_and_what_would_be_leaves_whole() -> None:
    spec = ServiceSpec(name="s_web", task=TaskSpec(container=ContainerSpec(image="web")))
    assert asked_from(control_pb2.WhatIfRequest()) == Asked(scale={})
    whole = control_pb2.WhatIfRequest(
        lose_nodes=["a"],
        lose_where=["node.id == b"],
        drain_nodes=["c"],
        scale={"web": 0},
        stack="s",
        services=[codec.to_wire(spec, types_pb2.ServiceSpec)],
        headroom=["d"],
        spare=True,
    )
    assert asked_from(whole) == Asked(
        lose_nodes=("a",),
        lose_where=("node.id == b",),
        drain_nodes=("c",),
        scale={"web": 0},
        stack="s",
        services=(spec,),
        headroom=("d",),
        spare=True,
    )
    message = outlook(
        Outlook(
            fates=(Fate("web.1", "a", "b"), Fate("web.2", "a", "", "no room")),
            staying=3,
            ending=4,
            rooms=(Room("web", 5, more=True),),
            indispensable=(("a", 6),),
            untried=7,
            capacity=Resources(cpu_nanos=8),
            reserved=Resources(generic={"gpu": 9}),
            revision=10,
        )
    )
    assert [(t.name, t.from_node, t.to_node, t.reason) for t in message.tasks] == [
        ("web.1", "a", "b", ""),
        ("web.2", "a", "", "no room"),
    ]
    assert (message.tasks_staying, message.tasks_ending) == (3, 4)
    (room,), (node,) = message.headroom, message.indispensable
    assert (room.service, room.tasks, room.more) == ("web", 5, True)
    assert (node.hostname, node.tasks, message.nodes_untried) == ("a", 6, 7)
    assert (message.capacity.cpu_nanos, message.reserved.generic["gpu"]) == (8, 9)
    assert message.revision == 10
