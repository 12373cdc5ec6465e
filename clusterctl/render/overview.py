"""The whole cluster on one screen: what ``cluster info`` shows."""

from collections import Counter
from collections.abc import Iterable

from cluster.model import AskedMove, MoveState, Rebalancing
from cluster.quantities import format_duration
from clusterctl.answers import ClusterInfo
from clusterctl.render.kinds import members
from clusterctl.render.output import TABLE, listing
from clusterctl.render.people import ago, count, cpus, generic, memory, share
from clusterctl.render.table import facts, table


def overview(info: ClusterInfo, now: float) -> str:
    """Return the cluster in numbers, then its managers, then the store's members."""
    spec, capacity, reserved = info.cluster.spec, info.capacity, info.reserved
    leader = next((each for each in info.managers if each.id == info.leader_id), None)
    head = facts(
        [
            ("Cluster", info.cluster.id),
            ("Nodes", f"{info.nodes_ready} ready of {info.nodes_total}"),
            ("Services", str(info.services_total)),
            ("Tasks", f"{info.tasks_running} running"),
            ("CPUs", _of(cpus(reserved.cpu_nanos), reserved.cpu_nanos, capacity.cpu_nanos, cpus)),
            (
                "Memory",
                _of(
                    memory(reserved.memory_bytes),
                    reserved.memory_bytes,
                    capacity.memory_bytes,
                    memory,
                ),
            ),
            *generic(capacity, reserved),
            ("Leader", leader.address if leader else "none just now"),
            ("Heartbeat", format_duration(spec.heartbeat_period_seconds)),
            ("Strategy", spec.strategy.value),
            ("Rebalancing", _rebalancing(spec.rebalancing)),
            ("Moves", _moves(info.cluster.moves)),
            ("History", f"{spec.task_history_limit} ended tasks of each slot"),
            ("Revision", str(info.revision)),
            ("Created", ago(info.cluster.created_at, now)),
        ]
    )
    managers = table(
        ["MANAGER", "HOST", "ROLE", "VERSION", "STARTED"],
        [
            [
                each.address,
                each.hostname,
                _role(info, each.id),
                each.software_version,
                ago(each.started_at, now),
            ]
            for each in info.managers
        ],
    )
    return f"{head}\n\n{managers}\n\n{listing(members(), info.store_members, TABLE)}"


def _rebalancing(spec: Rebalancing) -> str:
    if not spec.automatic:
        return "by command"
    when = f" within {spec.hours} {spec.time_zone}" if spec.hours else ""
    return f"by itself{when}, at most {count(spec.moves, 'move')} a round"


def _moves(moves: Iterable[AskedMove]) -> str:
    counts = Counter(move.state for move in moves)
    return ", ".join(f"{counts[state]} {state.value}" for state in MoveState if counts[state])


def _role(info: ClusterInfo, manager_id: str) -> str:
    roles = ["leads"] if manager_id == info.leader_id else []
    if manager_id == info.answered_by_id:
        roles.append("answered")
    return ", ".join(roles)


def _of(text: str, part: int, whole: int, show: "object") -> str:
    assert callable(show)
    percent = share(part, whole)
    return f"{text} reserved of {show(whole)}" + (f" ({percent})" if percent else "")
