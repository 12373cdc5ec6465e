"""From a flaw of a ``ServiceSpec`` back to the line that it comes from.

``cluster.validation`` knows what can never work and names fields; a file's author knows keys.
The tables say which keys a field is read from: the first one that the file has is shown.
"""

import re

from cluster.compose.catalogue import EXTENSION
from cluster.compose.nodes import Items, Mapping, Node
from cluster.compose.problems import Position, Report
from cluster.model import ServiceSpec
from cluster.validation import service_flaws

# Where a field is not simply called as its key, with its units cut off.
_KEYS = {
    "name": ("",),
    "stack": ("",),
    "replicas": ("deploy.replicas", "scale"),
    "labels": ("deploy.labels",),
    "update": ("deploy.update_config",),
    "update.canary": (f"{EXTENSION}.update.canary",),
    "update.promote_after_seconds": (f"{EXTENSION}.update.promote_after",),
    "update.progress_deadline_seconds": (f"{EXTENSION}.update.progress_deadline",),
    "rollback": ("deploy.rollback_config",),
    "rollback.progress_deadline_seconds": (f"{EXTENSION}.rollback.progress_deadline",),
    "task.limits.cpu_nanos": ("deploy.resources.limits.cpus", "cpus"),
    "task.limits.memory_bytes": ("deploy.resources.limits.memory", "mem_limit"),
    "task.reservations.cpu_nanos": ("deploy.resources.reservations.cpus",),
    "task.reservations.memory_bytes": (
        "deploy.resources.reservations.memory",
        "mem_reservation",
    ),
    "task.restart": ("deploy.restart_policy", "restart"),
    "task.reservations.generic": ("deploy.resources.reservations.generic_resources",),
    "task.placement": ("deploy.placement",),
    "task.placement.prefer": (f"{EXTENSION}.prefer",),
    "task.placement.tolerates": (f"{EXTENSION}.tolerates",),
    "priority": (f"{EXTENSION}.priority",),
    "budget": (f"{EXTENSION}.budget",),
    "gang": (f"{EXTENSION}.gang",),
    "autoscale": (f"{EXTENSION}.autoscale",),
    "autoscale.cpu_percent": (f"{EXTENSION}.autoscale.cpu",),
    "autoscale.memory_percent": (f"{EXTENSION}.autoscale.memory",),
    "autoscale.tolerance_percent": (f"{EXTENSION}.autoscale.tolerance",),
    "job": (f"{EXTENSION}.job",),
    "job.completions": ("deploy.replicas", "scale"),
    "job.schedule": (f"{EXTENSION}.schedule",),
    "job.schedule.late_seconds_max": (f"{EXTENSION}.schedule.late",),
    "job.retries": (f"{EXTENSION}.job.retries", "deploy.restart_policy.max_attempts", "restart"),
    "depends_on": ("depends_on",),
    "task.lost_node": (f"{EXTENSION}.lost_node",),
    "task.lost_node.seconds": (f"{EXTENSION}.lost_node.after",),
    "task.networks": ("networks", "network_mode"),
    "task.ports": ("ports",),
    "task.container.environment": ("environment", "env_file"),
    "task.container.log": ("logging",),
    "task.container.dns_options": ("dns_opt",),
    "task.container.pids_limit": ("deploy.resources.limits.pids", "pids_limit"),
    "task.container.shm_size_bytes": ("shm_size",),
    "task.container.stop_grace_seconds": ("stop_grace_period",),
    "task.container": ("",),
    "": ("",),
}
_UNITS = re.compile(r"_(?:seconds|bytes|nanos)$")
_MOUNT = re.compile(r"task\.container\.mounts\[([0-9]+)\]\.?(.*)")
_MOUNT_PARTS = {
    "tmpfs_size": "tmpfs.size",
    "tmpfs_mode": "tmpfs.mode",
    "propagation": "bind.propagation",
}
_AFFINITY = re.compile(r"task\.placement\.affinities(?:\[([0-9]+)\])?(.*)")
_SPREAD = re.compile(r"(task\.placement\.preferences\[[0-9]+\])\.key")
_STEP = re.compile(r"\.?([^.\[\]]+)|\[([0-9]+)\]")


def report_flaws(
    spec: ServiceSpec, service: Mapping, path: str, key_at: Position, report: Report
) -> None:
    """Report each flaw of *spec* at the value of *service* that it comes from.

    A flaw of a value that was reported already is left out: it is a consequence. So are those
    of a list with a problem in it, because its entries no longer stand at their places.
    """
    for flaw in service_flaws(spec):
        candidates = _candidates(flaw.field, service)
        node, found = next(
            (place for place in (_walk(service, path) for path in candidates) if place[1]),
            (service, candidates[0]),
        )
        shown = f"{path}.{found}" if found else path
        if not report.has_problem_at(shown.partition("[")[0]):
            report.problem(key_at if node is service else node.at, shown, flaw.message)


def _candidates(field: str, service: Mapping) -> list[str]:
    """Return the paths within a service that *field* may be read from."""
    mount = _MOUNT.fullmatch(field)
    if mount is not None:
        return [_mount_path(int(mount[1]), mount[2], service)]
    affinity = _AFFINITY.fullmatch(field)
    if affinity is not None:
        return [_affinity_path(int(affinity[1] or "0"), affinity[2], service)]
    field = _SPREAD.sub(r"\1.spread", field)
    known = field
    while known not in _KEYS:
        known = known[: max(known.rfind("."), known.rfind("["), 0)]
    rest = _UNITS.sub("", field[len(known) :])
    return [(key + rest).removeprefix(".") for key in _KEYS[known]]


def _affinity_path(index: int, rest: str, service: Mapping) -> str:
    """Return the path of an affinity: what is near comes first, then what is apart."""
    ours = service.entries.get(EXTENSION)
    near = ours.entries.get("affinity") if isinstance(ours, Mapping) else None
    count = len(near.items) if isinstance(near, Items) else 0
    if index >= count:
        return f"{EXTENSION}.anti_affinity[{index - count}]{rest}"
    return f"{EXTENSION}.affinity[{index}]{rest}"


def _mount_path(index: int, rest: str, service: Mapping) -> str:
    """Return the path of a mount: those of ``volumes`` come first, then those of ``tmpfs``."""
    volumes = service.entries.get("volumes")
    count = len(volumes.items) if isinstance(volumes, Items) else 0
    if index >= count:
        return f"tmpfs[{index - count}]"
    part = _UNITS.sub("", rest)
    return f"volumes[{index}].{_MOUNT_PARTS.get(part, part)}"


def _walk(service: Mapping, path: str) -> tuple[Node, str]:
    """Return the deepest node on *path* that is there, and its own path."""
    node: Node = service
    at = 0
    while at < len(path):
        whole = path[at:].removeprefix(".")
        if (
            isinstance(node, Mapping) and whole in node.entries
        ):  # a key with dots in it, or the last
            return node.entries[whole], path
        step = _STEP.match(path, at)
        assert step is not None, path
        key, index = step.groups()
        if key is not None and isinstance(node, Mapping) and key in node.entries:
            node = node.entries[key]
        elif index is not None and isinstance(node, Items) and int(index) < len(node.items):
            node = node.items[int(index)]
        else:
            break
        at = step.end()
    return node, path[:at]
