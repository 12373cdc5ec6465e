"""Summaries and logs as messages; objects themselves are ``cluster.codec``'s."""

import re
from collections.abc import Iterable
from enum import Enum
from typing import TypeVar

from cluster import codec
from cluster.api.v1 import control_pb2, dispatch_pb2, types_pb2
from cluster.errors import InvalidError
from cluster.model import (
    Availability,
    Event,
    Node,
    NodeUsage,
    Object,
    Service,
    ServiceSpec,
    Task,
    TaskId,
)
from manager.control import rebalancing
from manager.control.cluster import ClusterInfo
from manager.control.log_reading import LogChunk
from manager.control.nodes import NodeChange
from manager.control.outlook import Outlook
from manager.control.rollouts import RolledBack, RolloutAction
from manager.control.summaries import NodeSummary, ServiceSummary, StackSummary, TaskSummary
from manager.control.tasks import NodeVerdict, TaskExplanation
from manager.control.watching import Seen
from manager.control.whatif import Asked
from manager.dispatch.log_broker import LogEntry, LogStream
from manager.dispatch.open_session import HeardUsage, LogsAsked

E = TypeVar("E", bound=Enum)


def node(value: Node) -> types_pb2.Node:
    return codec.to_wire(value, types_pb2.Node)


def service(value: Service) -> types_pb2.Service:
    return codec.to_wire(value, types_pb2.Service)


def service_summary(value: ServiceSummary) -> control_pb2.ServiceSummary:
    message = control_pb2.ServiceSummary(
        service=service(value.service),
        tasks_desired=value.tasks_desired,
        tasks_running=value.tasks_running,
        tasks_current=value.tasks_current,
        scaling=codec.to_wire(value.scaling, types_pb2.Scaling) if value.scaling else None,
        job=codec.to_wire(value.job, types_pb2.JobStatus) if value.job else None,
        tasks_completed=value.tasks_completed,
    )
    if value.rollout is not None:
        message.rollout.CopyFrom(codec.to_wire(value.rollout, types_pb2.Rollout))
    return message


def rolled_back(value: RolledBack) -> control_pb2.RolledBackService:
    return control_pb2.RolledBackService(service=service(value.service), to=value.to)


def rollback_wishes_from(request: control_pb2.RollbackServicesRequest) -> dict[str, int]:
    """Return to which version each service is to go back.

    Raises:
        InvalidError: one is named twice.
    """
    wishes: dict[str, int] = {}
    for wish in request.wishes:
        if wish.service in wishes:
            raise InvalidError(f"service '{wish.service}' is named twice")
        wishes[wish.service] = wish.to
    return wishes


def rollout_action_from(number: int) -> RolloutAction:
    """Return what is to be done.

    Raises:
        InvalidError: nothing, or something that this version does not know.
    """
    try:
        name = control_pb2.RolloutAction.Name(number)  # type: ignore[arg-type]
        return RolloutAction[name.removeprefix("ROLLOUT_ACTION_")]
    except (ValueError, KeyError) as error:
        raise InvalidError(f"rollout action {number} is not known to this version") from error


def stack_summary(value: StackSummary) -> control_pb2.StackSummary:
    return control_pb2.StackSummary(
        stack=codec.to_wire(value.stack, types_pb2.Stack),
        services=value.services,
        tasks_desired=value.tasks_desired,
        tasks_running=value.tasks_running,
    )


def task_summary(value: TaskSummary) -> control_pb2.TaskSummary:
    return control_pb2.TaskSummary(
        task=codec.to_wire(value.task, types_pb2.Task),
        service_name=value.service_name,
        node_hostname=value.node_hostname,
        image=value.image,
        waits_for=value.waits_for,
    )


def verdict(value: NodeVerdict) -> control_pb2.NodeVerdict:
    return control_pb2.NodeVerdict(
        node_id=value.node_id,
        hostname=value.hostname,
        reasons=value.reasons,
        rank=[control_pb2.RankTerm(name=name, value=number) for name, number in value.rank],
    )


def explanation(
    value: TaskExplanation, verdicts: Iterable[control_pb2.NodeVerdict]
) -> control_pb2.ExplainTaskResponse:
    return control_pb2.ExplainTaskResponse(
        task=task_summary(value.summary),
        summary=value.text,
        verdicts=verdicts,
        nearest=value.told.nearest,
        fixes=value.told.fixes,
        preference=value.told.preference,
    )


def asked_from(message: control_pb2.WhatIfRequest) -> Asked:
    return Asked(
        lose_nodes=tuple(message.lose_nodes),
        lose_where=tuple(message.lose_where),
        drain_nodes=tuple(message.drain_nodes),
        scale=dict(message.scale),
        stack=message.stack,
        services=tuple(codec.from_wire(spec, ServiceSpec) for spec in message.services),
        headroom=tuple(message.headroom),
        spare=message.spare,
    )


def outlook(value: Outlook) -> control_pb2.WhatIfResponse:
    return control_pb2.WhatIfResponse(
        tasks=[
            control_pb2.ImaginedTask(
                name=fate.name, from_node=fate.left, to_node=fate.found, reason=fate.reason
            )
            for fate in value.fates
        ],
        tasks_staying=value.staying,
        tasks_ending=value.ending,
        headroom=[
            control_pb2.Headroom(service=room.service, tasks=room.tasks, more=room.more)
            for room in value.rooms
        ],
        indispensable=[
            control_pb2.IndispensableNode(hostname=name, tasks=tasks)
            for name, tasks in value.indispensable
        ],
        nodes_untried=value.untried,
        capacity=codec.to_wire(value.capacity, types_pb2.Resources),
        reserved=codec.to_wire(value.reserved, types_pb2.Resources),
        revision=value.revision,
    )


def rebalanced(value: rebalancing.Answer) -> control_pb2.RebalanceResponse:
    return control_pb2.RebalanceResponse(
        moves=[
            control_pb2.PlannedMove(
                task_id=each.move.task_id,
                name=each.name,
                from_node=each.source,
                to_node=each.target,
                gain=each.move.gain,
                why=each.move.why,
            )
            for each in value.moves
        ],
        revision=value.revision,
        cluster=codec.to_wire(value.cluster, types_pb2.Cluster) if value.cluster else None,
    )


def task_summary_from(message: control_pb2.TaskSummary) -> TaskSummary:
    return TaskSummary(
        codec.from_wire(message.task, Task),
        message.service_name,
        message.node_hostname,
        message.image,
        message.waits_for,
    )


def node_summary(value: NodeSummary) -> control_pb2.NodeSummary:
    message = control_pb2.NodeSummary(
        node=node(value.node),
        manager_id=value.manager_id or "",
        reserved=codec.to_wire(value.reserved, types_pb2.Resources),
        tasks_running=value.tasks_running,
        tasks_total=value.tasks_total,
    )
    if value.heard is not None:
        message.heard_seconds_ago = value.heard.heard_seconds_ago
        if value.heard.usage.measured_at:
            message.usage.CopyFrom(codec.to_wire(value.heard.usage, types_pb2.NodeUsage))
    return message


def node_change_from(message: control_pb2.UpdateNodeRequest) -> NodeChange:
    return NodeChange(
        availability=availability_from(message.availability),
        set_labels=dict(message.set_labels),
        remove_labels=tuple(message.remove_labels),
        task_slots=message.task_slots if message.HasField("task_slots") else None,
        reserve_for=tuple(message.reserve_for),
        unreserve_for=tuple(message.unreserve_for),
        add_volumes=tuple(message.add_volumes),
        remove_volumes=tuple(message.remove_volumes),
        drain_deadline_seconds=message.drain_deadline_seconds,
    )


def heard_usage(value: HeardUsage) -> control_pb2.HeardUsage:
    return control_pb2.HeardUsage(
        usage=codec.to_wire(value.usage, types_pb2.NodeUsage),
        heard_seconds_ago=value.heard_seconds_ago,
    )


def heard_usage_from(message: control_pb2.HeardUsage) -> HeardUsage:
    return HeardUsage(codec.from_wire(message.usage, NodeUsage), message.heard_seconds_ago)


def cluster_info(value: ClusterInfo) -> control_pb2.GetClusterInfoResponse:
    return control_pb2.GetClusterInfoResponse(
        cluster=codec.to_wire(value.cluster, types_pb2.Cluster),
        managers=[codec.to_wire(manager, types_pb2.Manager) for manager in value.managers],
        leader_id=value.leader_id or "",
        answered_by_id=value.answered_by_id,
        store_members=[
            control_pb2.StoreMember(
                endpoint=member.endpoint,
                reachable=member.reachable,
                server_version=member.server_version,
                size_bytes=member.size_bytes,
                leader=member.leads,
                error=member.error,
            )
            for member in value.store_members
        ],
        revision=value.revision,
        nodes_ready=value.nodes_ready,
        nodes_total=value.nodes_total,
        services_total=value.services_total,
        tasks_running=value.tasks_running,
        capacity=codec.to_wire(value.capacity, types_pb2.Resources),
        reserved=codec.to_wire(value.reserved, types_pb2.Resources),
    )


def watch_message(value: Seen) -> control_pb2.WatchMessage:
    return control_pb2.WatchMessage(
        revision=value.revision,
        snapshot=value.snapshot,
        events=[
            control_pb2.WatchEvent(removed=change.new is None, object=_any_object(change.either))
            for change in value.changes
        ],
    )


def _any_object(value: Object) -> control_pb2.AnyObject:
    name = type(value).__name__
    field = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
    return control_pb2.AnyObject(**{field: codec.to_wire(value, getattr(types_pb2, name))})


def event(value: Event) -> types_pb2.Event:
    return codec.to_wire(value, types_pb2.Event)


def log_chunk(value: LogChunk) -> control_pb2.StreamLogsMessage:
    return control_pb2.StreamLogsMessage(
        entries=[log_entry(entry) for entry in value.entries],
        tasks=[task_summary(each) for each in value.tasks],
        warnings=value.warnings,
    )


def log_entry(value: LogEntry) -> dispatch_pb2.LogEntry:
    return dispatch_pb2.LogEntry(
        task_id=value.task_id, stream=_STREAMS[value.stream], at=value.at, line=value.line
    )


def log_entry_from(message: dispatch_pb2.LogEntry) -> LogEntry:
    stream = (
        LogStream.STDERR if message.stream == dispatch_pb2.LOG_STREAM_STDERR else LogStream.STDOUT
    )
    return LogEntry(TaskId(message.task_id), stream, message.at, message.line)


_STREAMS = {
    LogStream.STDOUT: dispatch_pb2.LOG_STREAM_STDOUT,
    LogStream.STDERR: dispatch_pb2.LOG_STREAM_STDERR,
}


def logs_asked(value: LogsAsked) -> dispatch_pb2.LogOptionsWanted:
    return dispatch_pb2.LogOptionsWanted(follow=value.follow, tail=value.tail, since=value.since)


def logs_asked_from(message: dispatch_pb2.LogOptionsWanted) -> LogsAsked:
    return LogsAsked(message.follow, message.tail, message.since)


def availability_from(number: int) -> Availability | None:
    """Return what was asked for; None if nothing was.

    Raises:
        InvalidError: this version does not know it.
    """
    if number == types_pb2.AVAILABILITY_UNSPECIFIED:
        return None
    try:
        name = types_pb2.Availability.Name(number)  # type: ignore[arg-type]
        return Availability[name.removeprefix("AVAILABILITY_")]
    except (ValueError, KeyError) as error:
        raise InvalidError(f"availability {number} is not known to this version") from error
