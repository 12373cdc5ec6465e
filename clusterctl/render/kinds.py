"""Columns of each listing, and its rows as programs see them.

The rows' keys are a promise to scripts: add to them, never rename.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from cluster.model import PublishedPort, RolloutState, Service
from clusterctl.answers import (
    NodeSummary,
    ServiceSummary,
    StackSummary,
    StoreMember,
    TaskSummary,
)
from clusterctl.render.output import Kind
from clusterctl.render.people import ago, cpus, memory, moment, short
from clusterctl.render.plain import plain

Id = Callable[[str], str]


def ids(*, whole: bool) -> Id:
    """Return how to show an id in a table."""
    return str if whole else short


def services(now: float, show_id: Id = short) -> Kind[ServiceSummary]:
    return Kind(
        columns=(
            ("ID", lambda each: show_id(each.service.id)),
            ("NAME", lambda each: each.service.spec.name),
            ("MODE", lambda each: each.service.spec.mode.value),
            ("REPLICAS", replicas),
            ("ROLLOUT", _rollout),
            ("IMAGE", lambda each: each.service.spec.task.container.image),
            ("PORTS", lambda each: ports(each.service)),
            ("UPDATED", lambda each: ago(each.service.updated_at, now)),
        ),
        row=_service_row,
        identity=lambda each: each.service.id,
    )


def _service_row(each: ServiceSummary) -> dict[str, Any]:
    service = each.service
    return {
        "id": service.id,
        "name": service.spec.name,
        "stack": service.spec.stack,
        "mode": service.spec.mode.value,
        "replicas": f"{each.tasks_running}/{each.tasks_desired}",
        "running": each.tasks_running,
        "desired": each.tasks_desired,
        "current": each.tasks_current,
        "autoscale": plain(service.spec.autoscale),
        "scaling": plain(each.scaling),
        "rollout": each.rollout.state.value if each.rollout else "",
        "rollout_message": each.rollout.message if each.rollout else "",
        "completed": each.tasks_completed,
        "image": service.spec.task.container.image,
        "ports": [port(each) for each in service.spec.task.ports],
        "labels": service.spec.labels,
        "spec_version": service.spec_version,
        "version": service.version,
        "created_at": moment(service.created_at),
        "updated_at": moment(service.updated_at),
    }


def _rollout(each: ServiceSummary) -> str:
    """Return what a rollout is at; of one that is complete there is nothing to say."""
    is_news = each.rollout is not None and each.rollout.state is not RolloutState.COMPLETED
    return each.rollout.state.value if each.rollout and is_news else ""


def replicas(each: ServiceSummary) -> str:
    """Return ``3/5``, and how many of those that run are not of the newest template.

    Of a service that scales itself also between which numbers. Of a job it is ``3/10 done, 2 running``.
    """
    if each.service.spec.mode.is_job:
        return f"{each.tasks_completed}/{each.tasks_desired} done, {each.tasks_running} running"
    old = each.tasks_running - each.tasks_current
    scale = each.service.spec.autoscale
    extent = f" [{scale.min_replicas}..{scale.max_replicas}]" if scale else ""
    counts = f"{each.tasks_running}/{each.tasks_desired}{extent}"
    return f"{counts} ({old} outdated)" if old > 0 else counts


def ports(service: Service) -> str:
    return ", ".join(port(each) for each in service.spec.task.ports)


def port(each: PublishedPort) -> str:
    """Return ``8080->80/tcp``; a port that Docker chooses is ``*``."""
    host = f"{each.host_ip}:" if each.host_ip else ""
    return f"{host}{each.published or '*'}->{each.target}/{each.protocol}"


def present(tasks: Iterable[TaskSummary]) -> list[TaskSummary]:
    """Return what there is now: live tasks, and of each place at least the newest."""
    kept = []
    seen: set[tuple[str, int, int, str]] = set()
    newest_first = sorted(tasks, key=lambda each: each.task.created_at, reverse=True)
    for each in newest_first:
        task = each.task
        place = (task.service_id, task.run, task.slot, "" if task.slot else task.node_id)
        if place not in seen or not task.status.state.finished:
            kept.append(each)
        seen.add(place)
    return sorted(kept, key=lambda each: (each.service_name, each.task.slot, each.node_hostname))


def task_name(each: TaskSummary) -> str:
    """Return ``web.3``; a global service's task is named after its node."""
    task = each.task
    return f"{each.service_name or short(task.service_id)}.{task.slot or each.node_hostname}"


def tasks(now: float, show_id: Id = short) -> Kind[TaskSummary]:
    return Kind(
        columns=(
            ("ID", lambda each: show_id(each.task.id)),
            ("NAME", task_name),
            ("IMAGE", lambda each: each.image.partition("@")[0]),
            ("NODE", lambda each: each.node_hostname or "-"),
            ("DESIRED", lambda each: each.task.desired_state.value),
            ("STATE", lambda each: _task_state(each, now)),
            ("ERROR", task_error),
        ),
        row=_task_row,
        identity=lambda each: each.task.id,
    )


def tasks_of_runs(now: float, show_id: Id = short) -> Kind[TaskSummary]:
    """Return the listing of a job's tasks, with the run that each is of."""
    kind = tasks(now, show_id)
    run = ("RUN", lambda each: str(each.task.run))
    return dataclasses.replace(kind, columns=(kind.columns[0], run, *kind.columns[1:]))


def _task_state(each: TaskSummary, now: float) -> str:
    status = each.task.status
    since = ago(status.at, now)
    return f"{status.state.value} {since}" if since else status.state.value


def task_error(each: TaskSummary) -> str:
    status = each.task.status
    code = status.exit_code
    bad = code is not None and code != 0 and status.state.finished
    if bad and f"{code}" not in status.error:
        return f"exit code {code}" + (f": {status.error}" if status.error else "")
    return status.error or (f"waits for {each.waits_for}" if each.waits_for else "")


def _task_row(each: TaskSummary) -> dict[str, Any]:
    task = each.task
    return {
        "id": task.id,
        "name": task_name(each),
        "service": each.service_name,
        "service_id": task.service_id,
        "slot": task.slot,
        "node": each.node_hostname,
        "node_id": task.node_id,
        "image": each.image,
        "state": task.status.state.value,
        "desired_state": task.desired_state.value,
        "message": task.status.message,
        "error": task.status.error,
        "exit_code": task.status.exit_code,
        "container_id": task.status.container_id,
        "spec_version": task.spec_version,
        "failures": task.failures,
        "run": task.run,
        "waits_for": each.waits_for,
        "since": moment(task.status.at),
        "created_at": moment(task.created_at),
    }


def nodes(now: float, show_id: Id = short) -> Kind[NodeSummary]:
    return Kind(
        columns=(
            ("ID", lambda each: show_id(each.node.id)),
            ("NAME", node_name),
            ("STATUS", lambda each: each.node.status.state.value),
            ("AVAILABILITY", lambda each: each.node.spec.availability.value),
            ("TASKS", lambda each: f"{each.tasks_running}/{each.tasks_total}"),
            ("CPU RESERVED", lambda each: _of(cpus, each, "cpu_nanos")),
            ("CPU USED", lambda each: _used(cpus, each, "cpu_nanos")),
            ("MEMORY RESERVED", lambda each: _of(memory, each, "memory_bytes")),
            ("MEMORY USED", lambda each: _used(memory, each, "memory_bytes")),
            ("ADDRESS", lambda each: each.node.description.address),
            ("ENGINE", lambda each: each.node.description.engine_version),
            ("AGENT", lambda each: each.node.description.agent_version),
            ("HEARD", lambda each: _heard(each, now)),
        ),
        row=_node_row,
        identity=lambda each: each.node.id,
    )


def node_name(each: NodeSummary) -> str:
    return each.node.description.hostname or short(each.node.id)


def _of(text: Callable[[int], str], each: NodeSummary, field: str) -> str:
    part: int = getattr(each.reserved, field)
    whole: int = getattr(each.node.description.capacity, field)
    return f"{text(part)} of {text(whole)}"


def _used(text: Callable[[int], str], each: NodeSummary, field: str) -> str:
    if each.usage is None or not each.usage.measured_at:
        return "-"
    amount: int = getattr(each.usage, field)
    return text(amount)


def _heard(each: NodeSummary, now: float) -> str:
    """Return when the node was heard of last; of one that is down, since when it is."""
    if each.heard_seconds_ago is not None:
        return f"{each.heard_seconds_ago:.1f}s ago"
    return f"not since {ago(each.node.status.changed_at, now)}" if each.node.created_at else "-"


def _node_row(each: NodeSummary) -> dict[str, Any]:
    node = each.node
    return {
        "id": node.id,
        "name": node.description.hostname,
        "status": node.status.state.value,
        "availability": node.spec.availability.value,
        "drain_deadline_seconds": node.spec.drain_deadline_seconds,
        "since": moment(node.status.changed_at),
        "labels": node.spec.labels,
        "task_slots": node.spec.task_slots,
        "reserved_for": list(node.spec.reserved_for),
        "volumes": list(node.spec.volumes),
        "address": node.description.address,
        "os": node.description.platform.os,
        "architecture": node.description.platform.architecture,
        "engine_version": node.description.engine_version,
        "agent_version": node.description.agent_version,
        "cpu_nanos": node.description.capacity.cpu_nanos,
        "memory_bytes": node.description.capacity.memory_bytes,
        "cpu_nanos_reserved": each.reserved.cpu_nanos,
        "memory_bytes_reserved": each.reserved.memory_bytes,
        "generic": node.description.capacity.generic,
        "generic_reserved": each.reserved.generic,
        "tasks_running": each.tasks_running,
        "tasks_total": each.tasks_total,
        "usage": plain(each.usage),
        "heard_seconds_ago": each.heard_seconds_ago,
        "version": node.version,
        "created_at": moment(node.created_at),
    }


def stacks(now: float) -> Kind[StackSummary]:
    return Kind(
        columns=(
            ("NAME", lambda each: each.stack.name),
            ("SERVICES", lambda each: str(each.services)),
            ("TASKS", lambda each: f"{each.tasks_running}/{each.tasks_desired}"),
            ("UPDATED", lambda each: ago(each.stack.updated_at, now)),
        ),
        row=lambda each: {
            "id": each.stack.id,
            "name": each.stack.name,
            "services": each.services,
            "running": each.tasks_running,
            "desired": each.tasks_desired,
            "created_at": moment(each.stack.created_at),
            "updated_at": moment(each.stack.updated_at),
        },
        identity=lambda each: each.stack.name,
    )


def members() -> Kind[StoreMember]:
    return Kind(
        columns=(
            ("ENDPOINT", lambda each: each.endpoint),
            ("STATUS", lambda each: "reachable" if each.reachable else each.error or "no answer"),
            ("LEADS", lambda each: "yes" if each.leader else ""),
            ("VERSION", lambda each: each.server_version),
            ("SIZE", lambda each: memory(each.size_bytes) if each.reachable else ""),
        ),
        row=plain,
        identity=lambda each: each.endpoint,
    )
