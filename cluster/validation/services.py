"""Rules for a service, its template and the container in it."""

import ipaddress
import math
import posixpath
import re
from collections.abc import Iterable, Iterator

import msgspec

from cluster import generic, kernel
from cluster.errors import InvalidError, did_you_mean
from cluster.images import reference_flaw
from cluster.model import (
    ContainerSpec,
    FailureAction,
    Healthcheck,
    LostNodePolicy,
    Mount,
    MountKind,
    NetworkMode,
    PublishedPort,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    Ulimit,
    UpdateConfig,
    UpdateOrder,
)
from cluster.quantities import (
    DURATION_SECONDS_MAX,
    INT64_MAX,
    format_bytes,
    format_cpus,
    format_duration,
)
from cluster.resources import Resources
from cluster.validation import jobs, placement, scaling
from cluster.validation.flaws import NAME_CHARACTERS_MAX, Flaw, name_flaw, not_negative
from cluster.validation.scaling import REPLICAS_MAX

# Labels by which an agent knows its own containers: a user's label must not pass for one.
RESERVED_LABEL_PREFIX = "shoal."

# Docker refuses less (from 20.10 on 6 MiB): a container's first process would not fit.
MEMORY_LIMIT_BYTES_MIN = 6 * 1024**2

# Docker refuses a quota below a millisecond per hundred.
CPU_NANOS_MIN = 1_000_000

# Docker refuses shorter ones; 0 takes its default.
HEALTH_SECONDS_MIN = 0.001

# A host speaks with its managers every two seconds; of these words several may get lost.
LEASE_SECONDS_MIN = 10.0

# The last part of a lease, in which a container stops in good order (``agent.fence``).
STOP_PART = 1 / 3

# It becomes a folder on the host.
VOLUME_CHARACTERS_MAX = 255

PROTOCOLS = ("tcp", "udp", "sctp")
PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
HOST_GATEWAY = "host-gateway"
PORT_MAX = 65535
OOM_SCORE_ADJ_MAX = 1000
PERMISSION_BITS = 0o7777

# An error travels as one header of at most 8 KiB, so no more and no longer lines are told.
FLAWS_TOLD_MAX = 12
FLAW_CHARACTERS_MAX = 500

_DOCKER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_HOSTNAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
_EVERY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104  compared, not bound


def check_service(spec: ServiceSpec) -> None:
    """Refuse a service that can never work.

    Raises:
        InvalidError: its flaws, one a line.
    """
    flaws = service_flaws(spec)
    if not flaws:
        return
    service = f"service {spec.name[:NAME_CHARACTERS_MAX]!r}"
    lines = [_cut(f"{service}: {flaw}") for flaw in flaws[:FLAWS_TOLD_MAX]]
    if len(flaws) > FLAWS_TOLD_MAX:
        lines.append(f"{service}: and {len(flaws) - FLAWS_TOLD_MAX} more")
    raise InvalidError("\n".join(lines))


def service_flaws(spec: ServiceSpec) -> tuple[Flaw, ...]:
    """Return everything about *spec* that can never work."""
    return (
        *_unstorable(msgspec.to_builtins(spec), ""),
        *_identity(spec),
        *_labels("labels", spec.labels),
        *_task(spec.task),
        *_update("update", spec.update),
        *_update("rollback", spec.rollback),
        *_canary(spec),
        *_lost_node(spec),
        *placement.order_flaws(spec),
        *scaling.flaws(spec),
        *jobs.job_flaws(spec),
        *jobs.dependency_flaws(spec),
    )


def _unstorable(value: object, path: str) -> Iterator[Flaw]:
    """Find what neither the store nor a process can carry, whatever field it is in."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _unstorable(key, path)
            yield from _unstorable(part, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            yield from _unstorable(part, f"{path}[{index}]")
    elif isinstance(value, str):
        if "\0" in value:
            yield Flaw(path, "must not contain a NUL character")
        elif not value.isascii() and any("\ud800" <= sign <= "\udfff" for sign in value):
            yield Flaw(path, "must be text that can be written as UTF-8")
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield Flaw(path, f"must be a finite number, is {value}")
    elif isinstance(value, int) and not -INT64_MAX <= value <= INT64_MAX:
        yield Flaw(path, "is too large a number")


def _identity(spec: ServiceSpec) -> Iterator[Flaw]:
    if flaw := name_flaw(spec.name):
        yield Flaw("name", flaw)
    if spec.stack:
        if flaw := name_flaw(spec.stack):
            yield Flaw("stack", flaw)
        elif not spec.name.startswith(f"{spec.stack}_"):
            yield Flaw("name", f"must begin with its stack's name, {spec.stack}_")
    if spec.mode is ServiceMode.REPLICATED and not 0 <= spec.replicas <= REPLICAS_MAX:
        yield Flaw("replicas", f"must be 0 to {REPLICAS_MAX}, is {spec.replicas}")


def _labels(path: str, labels: Iterable[str]) -> Iterator[Flaw]:
    for label in labels:
        if not label or label.isspace():
            yield Flaw(path, "must not have an empty name in it")
        elif label.startswith(RESERVED_LABEL_PREFIX):
            message = f"names that begin with {RESERVED_LABEL_PREFIX!r} are reserved"
            yield Flaw(f"{path}.{label}", message)


def _task(task: TaskSpec) -> Iterator[Flaw]:
    yield from _container(task.container, task.network_mode)
    yield from _resources(task.reservations, task.limits)
    yield from _networks(task)
    yield from _ports(task.ports)
    yield from _duration("task.restart.delay_seconds", task.restart.delay_seconds)
    yield from _duration("task.restart.window_seconds", task.restart.window_seconds)
    yield from not_negative("task.restart.max_attempts", task.restart.max_attempts)
    yield from not_negative("task.force_update", task.force_update)
    yield from placement.placement_flaws(task.placement)


def _container(container: ContainerSpec, network_mode: NetworkMode) -> Iterator[Flaw]:
    at = "task.container"
    if flaw := reference_flaw(container.image):
        yield Flaw(f"{at}.image", flaw)
    for name in container.environment:
        if not name or "=" in name:
            yield Flaw(f"{at}.environment", f"{name!r} cannot be the name of a variable")
    yield from _labels(f"{at}.labels", container.labels)
    if container.working_dir and not container.working_dir.startswith("/"):
        yield Flaw(f"{at}.working_dir", f"must begin with '/', is {container.working_dir!r}")
    if container.hostname and (
        not _HOSTNAME.fullmatch(container.hostname) or len(container.hostname) > NAME_CHARACTERS_MAX
    ):
        yield Flaw(
            f"{at}.hostname",
            f"must be a host name of at most {NAME_CHARACTERS_MAX} letters, digits, '-' and '.', "
            f"is {container.hostname!r}",
        )
    yield from _mounts(container.mounts)
    if container.healthcheck is not None:
        yield from _healthcheck(container.healthcheck)
    yield from _kernel(container, network_mode)
    yield from not_negative(f"{at}.shm_size_bytes", container.shm_size_bytes)
    for index, group in enumerate(container.group_add):
        if not group:
            yield Flaw(f"{at}.group_add[{index}]", "must not be empty")
    for index, line in enumerate(container.extra_hosts):
        name, _, address = line.partition(":")
        if not _HOSTNAME.fullmatch(name) or not (address == HOST_GATEWAY or _is_address(address)):
            yield Flaw(f"{at}.extra_hosts[{index}]", f"must be NAME:ADDRESS, is {line!r}")
    for index, address in enumerate(container.dns):
        if not _is_address(address):
            yield Flaw(f"{at}.dns[{index}]", f"must be an IP address, is {address!r}")


def _kernel(container: ContainerSpec, network_mode: NetworkMode) -> Iterator[Flaw]:
    at = "task.container"
    for field in ("cap_add", "cap_drop"):
        for index, name in enumerate(getattr(container, field)):
            if flaw := kernel.capability_flaw(name):
                yield Flaw(f"{at}.{field}[{index}]", flaw)
    for name in container.sysctls:
        on_host_network = network_mode is NetworkMode.HOST
        if flaw := kernel.sysctl_flaw(name, on_host_network=on_host_network):
            yield Flaw(f"{at}.sysctls.{name}", flaw)
    yield from _ulimits(container.ulimits)
    yield from not_negative(f"{at}.pids_limit", container.pids_limit)
    if abs(container.oom_score_adj) > OOM_SCORE_ADJ_MAX:
        message = f"must be -{OOM_SCORE_ADJ_MAX} to {OOM_SCORE_ADJ_MAX}, is "
        yield Flaw(f"{at}.oom_score_adj", f"{message}{container.oom_score_adj}")
    if container.stop_signal and (flaw := kernel.signal_flaw(container.stop_signal)):
        yield Flaw(f"{at}.stop_signal", flaw)
    yield from _duration(f"{at}.stop_grace_seconds", container.stop_grace_seconds)


def _ulimits(ulimits: Iterable[Ulimit]) -> Iterator[Flaw]:
    seen = set()
    for limit in ulimits:
        path = f"task.container.ulimits.{limit.name}"
        if flaw := kernel.ulimit_flaw(limit.name):
            yield Flaw(path, flaw)
        if limit.name in seen:
            yield Flaw(path, "is set twice")
        seen.add(limit.name)
        if limit.soft < -1 or limit.hard < -1:
            yield Flaw(path, "must be -1 (unlimited) or more")
        elif limit.hard != -1 and (limit.soft == -1 or limit.soft > limit.hard):
            yield Flaw(path, f"soft ({limit.soft}) must not be above hard ({limit.hard})")


def _mounts(mounts: Iterable[Mount]) -> Iterator[Flaw]:
    seen: set[str] = set()
    for index, mount in enumerate(mounts):
        at = f"task.container.mounts[{index}]"
        target = posixpath.normpath(mount.target)
        if not mount.target.startswith("/") or target in ("/", "//"):
            message = f"must be a path that begins with '/' and is not '/', is {mount.target!r}"
            yield Flaw(f"{at}.target", message)
        if target in seen:
            yield Flaw(f"{at}.target", f"{mount.target!r} is mounted twice")
        seen.add(target)
        match mount.kind:
            case MountKind.BIND:
                if not mount.source.startswith("/"):
                    message = (
                        f"must be a path on the host that begins with '/', is {mount.source!r}"
                    )
                    yield Flaw(f"{at}.source", message)
                elif mount.create_host_path and ":" in mount.source + mount.target:
                    message = (
                        "a path with ':' cannot be made on demand; set create_host_path: false"
                    )
                    yield Flaw(f"{at}.source", message)
            case MountKind.VOLUME:
                if mount.source and (flaw := volume_flaw(mount.source)):
                    yield Flaw(f"{at}.source", flaw)
            case MountKind.TMPFS:
                if mount.source:
                    yield Flaw(f"{at}.source", "must be empty: a tmpfs has none")
        if mount.bound and (mount.kind is not MountKind.VOLUME or not mount.source):
            yield Flaw(f"{at}.bound", "must be of a named volume")
        if mount.propagation and (
            mount.kind is not MountKind.BIND or mount.propagation not in PROPAGATIONS
        ):
            message = f"must be one of {', '.join(PROPAGATIONS)}, and of a bind"
            yield Flaw(f"{at}.propagation", message)
        yield from _labels(f"{at}.labels", mount.labels)
        yield from not_negative(f"{at}.tmpfs_size_bytes", mount.tmpfs_size_bytes)
        if not 0 <= mount.tmpfs_mode <= PERMISSION_BITS:
            yield Flaw(f"{at}.tmpfs_mode", "must be permission bits, 0 to 07777")


def volume_flaw(name: str) -> str:
    """Return what is wrong with the name of a volume; empty if nothing."""
    if _DOCKER_NAME.fullmatch(name) and len(name) <= VOLUME_CHARACTERS_MAX:
        return ""
    shown = name[:VOLUME_CHARACTERS_MAX]
    return (
        f"must be the name of a volume of at most {VOLUME_CHARACTERS_MAX} characters, is {shown!r}"
    )


def _healthcheck(check: Healthcheck) -> Iterator[Flaw]:
    at = "task.container.healthcheck"
    match check.test:
        case () | ("NONE",) | ("CMD-SHELL", _) | ("CMD", _, *_):
            pass
        case ("CMD" | "CMD-SHELL", *_):
            message = "CMD needs a command with its arguments, CMD-SHELL one line for the shell"
            yield Flaw(f"{at}.test", message)
        case _:
            message = f"must begin with CMD, CMD-SHELL or NONE, begins with {check.test[0]!r}"
            yield Flaw(f"{at}.test", message)
    for field in ("interval_seconds", "timeout_seconds", "start_period_seconds"):
        seconds = getattr(check, field)
        if 0 < seconds < HEALTH_SECONDS_MIN:
            yield Flaw(f"{at}.{field}", "must be 0 (Docker's default) or at least 1ms")
        yield from _duration(f"{at}.{field}", seconds)
    yield from not_negative(f"{at}.retries", check.retries)


def _resources(reservations: Resources, limits: Resources) -> Iterator[Flaw]:
    for field, amounts in (("reservations", reservations), ("limits", limits)):
        if amounts.cpu_nanos < 0 or 0 < amounts.cpu_nanos < CPU_NANOS_MIN:
            yield Flaw(
                f"task.{field}.cpu_nanos",
                f"must be 0 (none) or at least {format_cpus(CPU_NANOS_MIN)} CPUs, "
                f"is {format_cpus(amounts.cpu_nanos)}",
            )
        yield from not_negative(f"task.{field}.memory_bytes", amounts.memory_bytes)
    if limits.generic:
        yield Flaw("task.limits.generic", "must be empty: generic resources are only reserved")
    for kind, message in generic.counts_flaws(reservations.generic):
        yield Flaw(f"task.reservations.generic.{kind}".removesuffix("."), message)
    if 0 < limits.memory_bytes < MEMORY_LIMIT_BYTES_MIN:
        yield Flaw(
            "task.limits.memory_bytes",
            f"must be 0 (none) or at least {format_bytes(MEMORY_LIMIT_BYTES_MIN)}, "
            f"is {format_bytes(limits.memory_bytes)}",
        )
    if 0 < limits.cpu_nanos < reservations.cpu_nanos:
        yield Flaw(
            "task.reservations.cpu_nanos",
            f"must not be above the limit of {format_cpus(limits.cpu_nanos)} CPUs, "
            f"is {format_cpus(reservations.cpu_nanos)}",
        )
    if 0 < limits.memory_bytes < reservations.memory_bytes:
        yield Flaw(
            "task.reservations.memory_bytes",
            f"must not be above the limit of {format_bytes(limits.memory_bytes)}, "
            f"is {format_bytes(reservations.memory_bytes)}",
        )


def _networks(task: TaskSpec) -> Iterator[Flaw]:
    if task.network_mode is not NetworkMode.NETWORKS:
        mode = task.network_mode.value
        if task.networks:
            yield Flaw("task.networks", f"must be empty with network mode {mode!r}")
        if task.ports:
            yield Flaw("task.ports", f"must be empty with network mode {mode!r}")
    seen = set()
    for index, attachment in enumerate(task.networks):
        at = f"task.networks[{index}]"
        if not _DOCKER_NAME.fullmatch(attachment.network):
            yield Flaw(f"{at}.network", f"must be a network's name, is {attachment.network!r}")
        if attachment.network in seen:
            yield Flaw(f"{at}.network", f"{attachment.network!r} is joined twice")
        seen.add(attachment.network)
        for alias in attachment.aliases:
            if not _DOCKER_NAME.fullmatch(alias):
                yield Flaw(f"{at}.aliases", f"must be names, {alias!r} is none")


def _ports(ports: Iterable[PublishedPort]) -> Iterator[Flaw]:
    taken: dict[tuple[str, int], list[str]] = {}
    for index, port in enumerate(ports):
        at = f"task.ports[{index}]"
        if not 1 <= port.target <= PORT_MAX:
            yield Flaw(f"{at}.target", f"must be 1 to {PORT_MAX}, is {port.target}")
        if not 0 <= port.published <= PORT_MAX:
            yield Flaw(f"{at}.published", f"must be 0 to {PORT_MAX}, is {port.published}")
        if port.protocol not in PROTOCOLS:
            near = did_you_mean(port.protocol, PROTOCOLS)
            message = f"must be {', '.join(PROTOCOLS)}, is {port.protocol!r}{near and ';' + near}"
            yield Flaw(f"{at}.protocol", message)
        if port.host_ip and not _is_address(port.host_ip):
            yield Flaw(f"{at}.host_ip", f"must be an IP address, is {port.host_ip!r}")
        if port.published:
            addresses = taken.setdefault((port.protocol, port.published), [])
            if any(_overlap(port.host_ip, other) for other in addresses):
                message = f"{port.published}/{port.protocol} is published twice"
                yield Flaw(f"{at}.published", message)
            addresses.append(port.host_ip)


def _overlap(one: str, other: str) -> bool:
    return one == other or one in _EVERY_ADDRESS or other in _EVERY_ADDRESS


def _update(at: str, update: UpdateConfig) -> Iterator[Flaw]:
    yield from not_negative(f"{at}.parallelism", update.parallelism)
    yield from _duration(f"{at}.delay_seconds", update.delay_seconds)
    yield from _duration(f"{at}.monitor_seconds", update.monitor_seconds)
    ratio = update.max_failure_ratio
    if math.isfinite(ratio) and not 0 <= ratio <= 1:
        yield Flaw(f"{at}.max_failure_ratio", f"must be 0 to 1, is {ratio:g}")
    yield from _duration(f"{at}.progress_deadline_seconds", update.progress_deadline_seconds)
    yield from _duration(f"{at}.promote_after_seconds", update.promote_after_seconds)
    yield from not_negative(f"{at}.canary", update.canary)
    if at != "rollback":
        return
    if update.failure_action is FailureAction.ROLLBACK:
        yield Flaw(
            f"{at}.failure_action", "must be pause or continue: nothing is left to go back to"
        )
    if update.canary or update.promote_after_seconds:
        yield Flaw(f"{at}.canary", "must be 0: a return is not tried on a few first")


def _lost_node(spec: ServiceSpec) -> Iterator[Flaw]:
    at, lost = "task.lost_node", spec.task.lost_node
    match lost.policy:
        case LostNodePolicy.REPLACE:
            if lost.seconds:
                yield Flaw(f"{at}.seconds", "must be 0: with replace nothing is waited for")
        case LostNodePolicy.WAIT:
            if not 0 < lost.seconds <= DURATION_SECONDS_MAX:
                yield Flaw(f"{at}.seconds", "must say how long the node has to come back")
        case LostNodePolicy.FENCE:
            yield from _fenced(spec)


def _fenced(spec: ServiceSpec) -> Iterator[Flaw]:
    lease = spec.task.lost_node.seconds
    if not LEASE_SECONDS_MIN <= lease <= DURATION_SECONDS_MAX:
        shortest = format_duration(LEASE_SECONDS_MIN)
        yield Flaw("task.lost_node.seconds", f"must be {shortest} at least, is {lease:g} s")
    grace = spec.task.container.stop_grace_seconds
    if grace > lease * STOP_PART:
        yield Flaw(
            "task.container.stop_grace_seconds",
            f"must be at most a third of the lease that fence gives it ({lease * STOP_PART:g} s),"
            f" is {grace:g}: what has not stopped at the lease's end is killed",
        )
    if spec.mode is ServiceMode.GLOBAL:
        yield Flaw("task.lost_node.policy", "fence has no use in mode global: nobody takes over")
    for name, update in (("update", spec.update), ("rollback", spec.rollback)):
        if update.order is UpdateOrder.START_FIRST:
            message = "must be stop-first with fence: start-first runs two at a time"
            yield Flaw(f"{name}.order", message)


def _canary(spec: ServiceSpec) -> Iterator[Flaw]:
    update = spec.update
    if update.promote_after_seconds and not update.canary:
        yield Flaw("update.promote_after_seconds", "must be 0 without a canary")
    # A service that is scaled to nothing keeps its settings.
    if spec.mode is ServiceMode.REPLICATED and 0 < spec.replicas < update.canary:
        message = f"must be at most the {spec.replicas} replicas there are, is {update.canary}"
        yield Flaw("update.canary", message)


def _cut(line: str) -> str:
    return line if len(line) <= FLAW_CHARACTERS_MAX else line[: FLAW_CHARACTERS_MAX - 3] + "..."


def _duration(path: str, seconds: float) -> Iterator[Flaw]:
    if math.isfinite(seconds) and not 0 <= seconds <= DURATION_SECONDS_MAX:
        yield Flaw(path, f"must be 0s to 100 years, is {seconds:g}s")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
