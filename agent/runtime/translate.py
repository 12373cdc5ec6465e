"""Our specifications as Docker's, and Docker's containers as ours. Pure.

``container_config`` is the body of ``POST /containers/create`` of API 1.41; ``observed``
reads what ``GET /containers/{id}/json`` says.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from agent.runtime import labels
from agent.runtime.interface import (
    CannotRunError,
    Container,
    ContainerId,
    ContainerState,
    Health,
    Owner,
)
from cluster import generic
from cluster.model import (
    Assignment,
    Healthcheck,
    Mount,
    MountKind,
    NetworkMode,
    PublishedPort,
    ServiceId,
    TaskSpec,
)
from cluster.resources import NANOS_PER_CPU

Json = dict[str, Any]

CPU_SHARES_PER_CPU = 1024  # Docker's weight of one CPU
CPU_SHARES_MIN = 2  # the kernel's
HEALTH_RETRIES_DEFAULT = 3  # Docker's
STOP_GRACE_DEFAULT_SECONDS = 10.0  # Docker's
PROBE_OUTPUT_MAX = 400  # characters of a failed probe's output that are worth showing
_NANOS_PER_SECOND = 1_000_000_000


def container_config(owner: Owner, assignment: Assignment, spec: TaskSpec) -> Json:
    """Return the whole configuration of the task's container.

    Only its first network is in it (an engine of API 1.41 takes no more at once); connect
    the others with ``endpoint_config`` before the start.

    Raises:
        CannotRunError: Docker has no way to say what is asked for.
    """
    container = spec.container
    config: Json = {
        "Image": container.image,
        "Cmd": None if container.command is None else list(container.command),
        "Entrypoint": _entrypoint(container.entrypoint),
        "Env": [f"{name}={value}" for name, value in _environment(assignment, spec).items()],
        "User": container.user,
        "WorkingDir": container.working_dir,
        "Hostname": container.hostname,
        "Labels": {**container.labels, **labels.container_labels(owner, assignment)},
        "Tty": container.tty,
        "OpenStdin": container.stdin_open,
        "StopTimeout": math.ceil(container.stop_grace_seconds),
        "HostConfig": _host_config(owner, spec),
    }
    if container.stop_signal:
        config["StopSignal"] = container.stop_signal
    if container.healthcheck is not None:
        config["Healthcheck"] = _healthcheck(container.healthcheck)
    if spec.network_mode is NetworkMode.NETWORKS:
        config["ExposedPorts"] = {_port_key(port): {} for port in spec.ports}
        for attachment in spec.networks[:1]:
            endpoint = endpoint_config(assignment, attachment.aliases)
            config["NetworkingConfig"] = {"EndpointsConfig": {attachment.network: endpoint}}
    return {name: value for name, value in config.items() if value is not None}


def endpoint_config(assignment: Assignment, aliases: tuple[str, ...]) -> Json:
    """Return how the container is found on a network: its service's names and *aliases*."""
    names = (labels.short_name(assignment), assignment.service_name, *aliases)
    return {"Aliases": list(dict.fromkeys(names))}


def _environment(assignment: Assignment, spec: TaskSpec) -> dict[str, str]:
    """Return the variables; the user's own word counts before ours."""
    own = generic.environment(spec.reservations.generic, assignment.generic_items)
    return {**own, **spec.container.environment}


def _entrypoint(words: tuple[str, ...] | None) -> list[str] | None:
    """Docker takes a list with one empty word for "no entrypoint at all"."""
    if words is None:
        return None
    return list(words) or [""]


def _host_config(owner: Owner, spec: TaskSpec) -> Json:
    container = spec.container
    binds = [mount for mount in container.mounts if _is_legacy_bind(mount)]
    config: Json = {
        "NetworkMode": _network_mode(spec),
        "RestartPolicy": {"Name": "no"},  # restarts are the cluster's business
        "Memory": spec.limits.memory_bytes,
        "MemoryReservation": spec.reservations.memory_bytes,
        "NanoCpus": spec.limits.cpu_nanos,
        "CpuShares": _cpu_shares(spec.reservations.cpu_nanos),
        "PidsLimit": container.pids_limit or None,
        "Ulimits": [
            {"Name": limit.name, "Soft": limit.soft, "Hard": limit.hard}
            for limit in container.ulimits
        ],
        "Sysctls": container.sysctls,
        "CapAdd": list(container.cap_add),
        "CapDrop": list(container.cap_drop),
        "GroupAdd": list(container.group_add),
        "Init": container.init,
        "ReadonlyRootfs": container.read_only,
        "ShmSize": container.shm_size_bytes or None,
        "OomScoreAdj": container.oom_score_adj,
        "ExtraHosts": list(container.extra_hosts),
        "Dns": list(container.dns),
        "DnsSearch": list(container.dns_search),
        "DnsOptions": list(container.dns_options),
        "LogConfig": {"Type": container.log.driver, "Config": container.log.options},
        "Binds": [_legacy_bind(mount) for mount in binds],
        "Mounts": [_mount(owner, mount) for mount in container.mounts if mount not in binds],
    }
    if spec.network_mode is NetworkMode.NETWORKS:
        config["PortBindings"] = _port_bindings(spec.ports)
    return {name: value for name, value in config.items() if value is not None}


def _network_mode(spec: TaskSpec) -> str:
    if spec.network_mode is NetworkMode.HOST:
        return "host"
    if spec.network_mode is NetworkMode.NONE:
        return "none"
    return spec.networks[0].network if spec.networks else "bridge"


def _cpu_shares(reserved_nanos: int) -> int:
    """Weigh a container by what it reserves; 0 leaves it at Docker's default weight."""
    if not reserved_nanos:
        return 0
    return max(CPU_SHARES_MIN, reserved_nanos * CPU_SHARES_PER_CPU // NANOS_PER_CPU)


def _healthcheck(check: Healthcheck) -> Json:
    return {
        "Test": list(check.test),
        "Interval": _nanos(check.interval_seconds),
        "Timeout": _nanos(check.timeout_seconds),
        "StartPeriod": _nanos(check.start_period_seconds),
        "Retries": check.retries,
    }


def _nanos(seconds: float) -> int:
    return round(seconds * _NANOS_PER_SECOND)


def _port_key(port: PublishedPort) -> str:
    return f"{port.target}/{port.protocol}"


def _port_bindings(ports: tuple[PublishedPort, ...]) -> dict[str, list[Json]]:
    bindings: dict[str, list[Json]] = {}
    for port in ports:
        published = str(port.published) if port.published else ""
        binding = {"HostIp": port.host_ip, "HostPort": published}
        bindings.setdefault(_port_key(port), []).append(binding)
    return bindings


def _is_legacy_bind(mount: Mount) -> bool:
    """Only Docker's older notation makes a missing source directory."""
    return mount.kind is MountKind.BIND and mount.create_host_path


def _legacy_bind(mount: Mount) -> str:
    if ":" in mount.source or ":" in mount.target:
        raise CannotRunError(
            f"bind mount {mount.source} -> {mount.target}: a path with a colon cannot be made on "
            "demand; create the directory on the host and set create_host_path to false"
        )
    options = [*(["ro"] if mount.read_only else []), *filter(None, [mount.propagation])]
    return ":".join([mount.source, mount.target, *([",".join(options)] if options else [])])


def _mount(owner: Owner, mount: Mount) -> Json:
    config: Json = {
        "Type": mount.kind.value,
        "Target": mount.target,
        "ReadOnly": mount.read_only,
    }
    if mount.kind is not MountKind.TMPFS:
        config["Source"] = mount.source
    if mount.kind is MountKind.BIND and mount.propagation:
        config["BindOptions"] = {"Propagation": mount.propagation}
    if mount.kind is MountKind.VOLUME:
        config["VolumeOptions"] = {
            "NoCopy": mount.no_copy,
            "Labels": {**mount.labels, labels.CLUSTER: owner.cluster_id},
        }
        if mount.driver:
            config["VolumeOptions"]["DriverConfig"] = {
                "Name": mount.driver,
                "Options": mount.driver_options,
            }
        elif mount.driver_options:
            config["VolumeOptions"]["DriverConfig"] = {"Options": mount.driver_options}
    if mount.kind is MountKind.TMPFS:
        config["TmpfsOptions"] = {"SizeBytes": mount.tmpfs_size_bytes, "Mode": mount.tmpfs_mode}
    return config


# --- what Docker says -------------------------------------------------------------------------

_STATES = {
    "created": ContainerState.CREATED,
    "running": ContainerState.RUNNING,
    "restarting": ContainerState.RUNNING,
    "paused": ContainerState.PAUSED,
    "exited": ContainerState.EXITED,
    "dead": ContainerState.EXITED,
    "removing": ContainerState.EXITED,
}


def observed(inspected: Mapping[str, Any]) -> Container | None:
    """Return what an inspection says in our words; None if the container is not ours."""
    name = inspected["Name"].removeprefix("/")
    marks: dict[str, str] = inspected["Config"].get("Labels") or {}
    task = labels.task_of(marks, name)
    if task is None:
        return None
    config, status = inspected["Config"], inspected["State"]
    state = _STATES[status["Status"]]
    health, output = _health(config, status, state)
    grace = config.get("StopTimeout")
    return Container(
        id=ContainerId(inspected["Id"]),
        name=name,
        task_id=task,
        service_id=ServiceId(marks.get(labels.SERVICE, "")),
        spec_version=_number(marks.get(labels.VERSION, "")),
        state=state,
        health=health,
        health_output=output,
        exit_code=status["ExitCode"] if state is ContainerState.EXITED else None,
        oom_killed=bool(status.get("OOMKilled")),
        error=status.get("Error") or "",
        stop_signal=config.get("StopSignal") or "SIGTERM",
        stop_grace_seconds=STOP_GRACE_DEFAULT_SECONDS if grace is None else float(grace),
        memory_limit_bytes=inspected.get("HostConfig", {}).get("Memory") or 0,
        started_at=seconds(status.get("StartedAt", "")),
        ended_at=seconds(status.get("FinishedAt", "")),
    )


def image_names(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what an image in a listing is called; Docker's ``<none>`` is no name."""
    for key in ("RepoTags", "RepoDigests"):
        names = tuple(name for name in row.get(key) or () if "<none>" not in name)
        if names:
            return names
    return ()


def listed(row: Mapping[str, Any]) -> Container | None:
    """Return the little that a listing says of a container that cannot be inspected."""
    name = row["Names"][0].removeprefix("/") if row.get("Names") else ""
    marks: dict[str, str] = row.get("Labels") or {}
    task = labels.task_of(marks, name)
    if task is None:
        return None
    state = _STATES[row["State"]]
    code = re.search(r"\((\d+)\)", row["Status"]) if state is ContainerState.EXITED else None
    return Container(
        id=ContainerId(row["Id"]),
        name=name,
        task_id=task,
        service_id=ServiceId(marks.get(labels.SERVICE, "")),
        spec_version=_number(marks.get(labels.VERSION, "")),
        state=state,
        exit_code=int(code[1]) if code else None,
    )


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _health(
    config: Mapping[str, Any], status: Mapping[str, Any], state: ContainerState
) -> tuple[Health, str]:
    """Read the health, and the output of the last failed probe if it is bad.

    When a container ends Docker calls it unhealthy whatever it was, so for a dead one only
    the run of failed probes tells.
    """
    seen = status.get("Health")
    if not seen or seen["Status"] == "none":
        return Health.NONE, ""
    health = Health(seen["Status"])
    if state is ContainerState.EXITED:
        retries = (config.get("Healthcheck") or {}).get("Retries") or HEALTH_RETRIES_DEFAULT
        is_bad = seen.get("FailingStreak", 0) >= retries
        health = Health.UNHEALTHY if is_bad else Health.NONE
    if health is not Health.UNHEALTHY:
        return health, ""
    failed = [probe for probe in seen.get("Log") or [] if probe.get("ExitCode")]
    return health, _one_line(failed[-1].get("Output", "")) if failed else ""


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= PROBE_OUTPUT_MAX else line[: PROBE_OUTPUT_MAX - 1] + "…"


_MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)$")


def seconds(text: str) -> float:
    """Read an RFC 3339 moment with nanoseconds; 0.0 for Docker's "never" (the year 1)."""
    match = _MOMENT.match(text)
    if match is None or text.startswith("0001"):
        return 0.0
    zone = "+00:00" if match[3] == "Z" else match[3]
    whole = datetime.fromisoformat(match[1] + zone).astimezone(UTC).timestamp()
    return whole + float(match[2] or 0)
