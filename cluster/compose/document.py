"""Specs -> one Compose document in long forms: what ``stack config`` shows.

It says what the cluster will do rather than what was written: other files, variables and
defaults are worked in, and what is ignored is gone. Loaded again it gives the same specs.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal

import msgspec
import yaml

from cluster.compose.catalogue import EXTENSION
from cluster.compose.stack import DEFAULT_NETWORK, Declared
from cluster.model import (
    Affinity,
    Autoscale,
    ContainerSpec,
    Dependency,
    DisruptionBudget,
    Healthcheck,
    JobSpec,
    LostNode,
    Mount,
    MountKind,
    NetworkMode,
    Placement,
    PublishedPort,
    RestartPolicy,
    Schedule,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
)
from cluster.quantities import format_bytes, format_cpus, format_duration
from cluster.resources import Resources

Part = dict[str, object]

_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_DEFAULT = ContainerSpec(image="")


def as_yaml(part: Part) -> str:
    return yaml.dump(
        part, Dumper=_DUMPER, sort_keys=False, allow_unicode=True, default_flow_style=False
    )


def document(
    name: str,
    services: Iterable[ServiceSpec],
    networks: Mapping[str, Declared],
    volumes: Mapping[str, Declared],
) -> Part:
    """Return the document; a ``$`` in its values is doubled, as Compose wants it."""
    network_keys = {network.name: key for key, network in networks.items()}
    volume_keys = {volume.name: key for key, volume in volumes.items()}
    services = tuple(services)
    own = {spec.name: spec.name.removeprefix(f"{name}_") for spec in services}
    parts = {
        own[spec.name]: {
            **_service(spec, network_keys, volumes, volume_keys),
            **_given(**{EXTENSION: _extension(spec, own)}),
        }
        for spec in services
    }
    joined = {network.network for spec in services for network in spec.task.networks}
    declared = {
        key: network
        for key, network in networks.items()
        if key != DEFAULT_NETWORK or network.name in joined
    }
    whole = _given(
        name=name,
        services=parts,
        networks={key: _declared(network) for key, network in declared.items()},
        volumes={key: _declared(volume) for key, volume in volumes.items()},
    )
    return {key: _escaped(part) for key, part in whole.items()}


def _service(
    spec: ServiceSpec,
    network_keys: Mapping[str, str],
    volumes: Mapping[str, Declared],
    volume_keys: Mapping[str, str],
) -> Part:
    task = spec.task
    part = _container(task.container)
    platform = task.placement.platforms[0] if task.placement.platforms else None
    if platform:
        part["platform"] = "/".join(filter(None, (platform.os, platform.architecture)))
    if task.container.mounts:
        part["volumes"] = [_mount(mount, volumes, volume_keys) for mount in task.container.mounts]
    if task.ports:
        part["ports"] = [_port(port) for port in task.ports]
    if task.network_mode is not NetworkMode.NETWORKS:
        part["network_mode"] = task.network_mode.value
    elif not task.networks:
        part["network_mode"] = "bridge"
    else:
        part["networks"] = {
            network_keys.get(network.network, network.network): _given(
                aliases=list(network.aliases)
            )
            for network in task.networks
        }
    part["deploy"] = _deploy(spec)
    if spec.depends_on:
        part["depends_on"] = {
            each.service.removeprefix(f"{spec.stack}_"): _dependency(each)
            for each in spec.depends_on
        }
    return part


def _dependency(each: Dependency) -> Part:
    return {
        "condition": each.condition.value,
        **_given(restart=each.restart),
        **({} if each.required else {"required": False}),
    }


def _container(container: ContainerSpec) -> Part:
    part = _given(
        image=container.image,
        pull_policy=_unless_default(container.pull_policy.value, _DEFAULT.pull_policy.value),
        environment=container.environment,
        user=container.user,
        working_dir=container.working_dir,
        hostname=container.hostname,
        labels=container.labels,
        ulimits={
            limit.name: {"soft": limit.soft, "hard": limit.hard} for limit in container.ulimits
        },
        sysctls=container.sysctls,
        cap_add=list(container.cap_add),
        cap_drop=list(container.cap_drop),
        group_add=list(container.group_add),
        read_only=container.read_only,
        tty=container.tty,
        stdin_open=container.stdin_open,
        stop_signal=container.stop_signal,
        shm_size=_size(container.shm_size_bytes),
        oom_score_adj=container.oom_score_adj,
        extra_hosts=list(container.extra_hosts),
        dns=list(container.dns),
        dns_search=list(container.dns_search),
        dns_opt=list(container.dns_options),
        logging=_given(driver=container.log.driver, options=container.log.options),
    )
    # Where even nothing, or no, says something.
    if container.command is not None:
        part["command"] = list(container.command)
    if container.entrypoint is not None:
        part["entrypoint"] = list(container.entrypoint)
    if container.init is not None:
        part["init"] = container.init
    if container.healthcheck is not None:
        part["healthcheck"] = _healthcheck(container.healthcheck)
    if container.stop_grace_seconds != _DEFAULT.stop_grace_seconds:
        part["stop_grace_period"] = format_duration(container.stop_grace_seconds)
    return part


def _healthcheck(check: Healthcheck) -> Part:
    return _given(
        test=list(check.test),
        interval=_duration(check.interval_seconds),
        timeout=_duration(check.timeout_seconds),
        start_period=_duration(check.start_period_seconds),
        retries=check.retries,
    )


def _mount(mount: Mount, volumes: Mapping[str, Declared], keys: Mapping[str, str]) -> Part:
    key = keys.get(mount.source, mount.source)
    inherited = volumes[key].labels if key in volumes else {}
    return {
        "type": mount.kind.value,
        "target": mount.target,
        **_given(
            source=key,
            read_only=mount.read_only,
            bind=_bind(mount),
            volume=_given(
                nocopy=mount.no_copy,
                labels={
                    name: value
                    for name, value in mount.labels.items()
                    if inherited.get(name) != value
                },
            ),
            tmpfs=_given(
                size=_size(mount.tmpfs_size_bytes),
                mode=f"0{mount.tmpfs_mode:o}" if mount.tmpfs_mode else None,
            ),
        ),
    }


def _bind(mount: Mount) -> Part | None:
    if mount.kind is not MountKind.BIND:
        return None
    return {
        "create_host_path": mount.create_host_path,
        **_given(propagation=mount.propagation),
    }


def _port(port: PublishedPort) -> Part:
    return {
        "target": port.target,
        **_given(
            published=str(port.published) if port.published else None,
            protocol=port.protocol,
            host_ip=port.host_ip,
            mode="host",
        ),
    }


def _deploy(spec: ServiceSpec) -> Part:
    task = spec.task
    count = spec.job.completions if spec.mode.is_job else spec.replicas
    return {
        "mode": spec.mode.value,
        **({} if spec.mode.is_global else {"replicas": count}),
        **_given(
            labels=spec.labels,
            resources=_resources(task),
            restart_policy=_restart(task.restart) if task.restart != RestartPolicy() else None,
            placement=_placement(task.placement),
            update_config=_update(spec.update),
            rollback_config=_update(spec.rollback),
        ),
    }


def _extension(spec: ServiceSpec, own: Mapping[str, str]) -> Part:
    placement = spec.task.placement
    part = _given(
        priority=spec.priority,
        preempts=spec.preempts,
        gang=spec.gang.removeprefix(f"{spec.stack}_"),
        strategy=placement.strategy.value if placement.strategy else None,
        tolerates=list(placement.tolerates),
        stays=placement.stays,
        affinity=[_affinity(one, own) for one in placement.affinities if not one.anti],
        anti_affinity=[_affinity(one, own) for one in placement.affinities if one.anti],
        prefer=[
            {"constraint": wish.constraint, "weight": wish.weight} for wish in placement.prefer
        ],
    )
    part |= _given(update=_update_ours(spec.update), rollback=_update_ours(spec.rollback))
    if (lost := spec.task.lost_node) != LostNode():
        after = {"after": format_duration(lost.seconds)} if lost.seconds else {}
        part["lost_node"] = {"policy": lost.policy.value, **after}
    if spec.budget != DisruptionBudget():
        part["budget"] = {"max_unavailable": spec.budget.max_unavailable}
    if spec.autoscale is not None:
        part["autoscale"] = _autoscale(spec.autoscale)
    if spec.mode.is_job:
        part["job"] = _job(spec.job)
        if spec.job.schedule is not None:
            part["schedule"] = _schedule(spec.job.schedule)
    return part


def _autoscale(scale: Autoscale) -> Part:
    return {
        "min": scale.min_replicas,
        "max": scale.max_replicas,
        "cpu": scale.cpu_percent,
        "memory": scale.memory_percent,
        "tolerance": scale.tolerance_percent,
        "up_window": format_duration(scale.up_window_seconds),
        "down_window": format_duration(scale.down_window_seconds),
    }


def _job(job: JobSpec) -> Part:
    return {
        "retries": job.retries,
        "history": job.history,
        **_given(
            max_concurrent=job.max_concurrent,
            time_limit=_duration(job.time_limit_seconds),
        ),
    }


def _schedule(schedule: Schedule) -> Part:
    return {
        "cron": schedule.cron,
        "time_zone": schedule.time_zone,
        "concurrency": schedule.concurrency.value,
        "late": format_duration(schedule.late_seconds_max),
        **_given(suspended=schedule.suspended),
    }


def _affinity(affinity: Affinity, own: Mapping[str, str]) -> Part:
    return {
        "service": own.get(affinity.service, affinity.service),
        "topology": affinity.topology,
        **_given(weight=affinity.weight, external=affinity.service not in own),
    }


def _resources(task: TaskSpec) -> Part:
    return _given(
        limits=_given(**_amounts(task.limits), pids=task.container.pids_limit),
        reservations=_amounts(task.reservations),
    )


def _amounts(amounts: Resources) -> Part:
    return _given(
        cpus=format_cpus(amounts.cpu_nanos) if amounts.cpu_nanos else None,
        memory=_size(amounts.memory_bytes),
        generic_resources=[
            {"discrete_resource_spec": {"kind": kind, "value": count}}
            for kind, count in amounts.generic.items()
        ],
    )


def _restart(policy: RestartPolicy) -> Part:
    return _given(
        condition=policy.condition.value,
        delay=_duration(policy.delay_seconds),
        max_attempts=policy.max_attempts,
        window=_duration(policy.window_seconds),
    )


def _placement(placement: Placement) -> Part:
    return _given(
        constraints=list(placement.constraints),
        max_replicas_per_node=placement.max_replicas_per_node,
        preferences=[{"spread": preference.key} for preference in placement.preferences],
    )


def _update(config: UpdateConfig) -> Part | None:
    default = UpdateConfig()
    ours = msgspec.structs.replace(
        default,
        canary=config.canary,
        promote_after_seconds=config.promote_after_seconds,
        progress_deadline_seconds=config.progress_deadline_seconds,
    )
    if config == ours:
        return None
    return {
        "parallelism": config.parallelism,
        "delay": format_duration(config.delay_seconds),
        "monitor": format_duration(config.monitor_seconds),
        "failure_action": config.failure_action.value,
        "max_failure_ratio": format(Decimal(repr(config.max_failure_ratio)), "f"),
        "order": config.order.value,
    }


def _update_ours(config: UpdateConfig) -> Part:
    part = _given(canary=config.canary, promote_after=_duration(config.promote_after_seconds))
    if config.progress_deadline_seconds != UpdateConfig().progress_deadline_seconds:
        part["progress_deadline"] = format_duration(config.progress_deadline_seconds)
    return part


def _declared(declared: Declared) -> Part:
    return _given(
        name=declared.name,
        external=declared.external,
        driver=declared.driver,
        driver_opts=declared.driver_options,
        labels=declared.labels,
        **{EXTENSION: _given(bound=declared.bound)},
    )


def _given(**parts: object) -> Part:
    """Return the parts that are not zero, no, or empty."""
    return {key: part for key, part in parts.items() if part}


def _unless_default(value: str, default: str) -> str | None:
    return None if value == default else value


def _size(amount: int) -> str | None:
    return format_bytes(amount) if amount else None


def _duration(seconds: float) -> str | None:
    return format_duration(seconds) if seconds else None


def _escaped(part: object) -> object:
    if isinstance(part, str):
        return part.replace("$", "$$")
    if isinstance(part, dict):
        return {key: _escaped(value) for key, value in part.items()}
    if isinstance(part, list):
        return [_escaped(value) for value in part]
    return part
