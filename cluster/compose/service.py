"""One service of the files -> ``ServiceSpec``."""

import shlex

from cluster import kernel
from cluster.compose import (
    catalogue,
    depends,
    deploy,
    environment,
    extension,
    fields,
    mounts,
    networks,
    ports,
)
from cluster.compose.fields import Cursor, Fields
from cluster.compose.nodes import Items, Scalar
from cluster.compose.stack import Stack
from cluster.model import (
    ContainerSpec,
    Healthcheck,
    LogOptions,
    NetworkMode,
    PublishedPort,
    PullPolicy,
    ServiceSpec,
    TaskSpec,
    Ulimit,
)

_PULL_POLICIES = {
    "always": PullPolicy.ALWAYS,
    "missing": PullPolicy.MISSING,
    "if_not_present": PullPolicy.MISSING,
    "never": PullPolicy.NEVER,
}
_PULL_POLICIES_REFUSED = {
    "build": "images are not built here",
    **dict.fromkeys(("refresh", "daily", "weekly"), "`always` asks the registry each time"),
}


def service_spec(cursor: Cursor, name: str, stack: Stack) -> ServiceSpec:
    """Return the spec of the service *name*; what was refused of it has its default.

    Raises:
        Refused: the service is not even a map.
    """
    service = Fields(cursor, catalogue.SERVICE)
    section = service.section("deploy", catalogue.DEPLOY)
    ours = service.section(catalogue.EXTENSION, catalogue.OURS)
    mode = deploy.mode(section)
    limits, reservations, pids = deploy.resources(service, section)
    network_mode, attachments = networks.attachments(service, stack)
    count = deploy.replicas(service, section, mode)
    restart = deploy.restart(service, section)
    if mode.is_job:
        job, restart = extension.job(ours, section, count, restart)
    else:
        job = extension.no_job(ours, mode)
    return ServiceSpec(
        name=f"{stack.name}_{name}",
        stack=stack.name,
        labels=section.get("labels", fields.map_of(fields.any_text), {}),
        mode=mode,
        replicas=1 if mode.is_job else count,
        update=extension.updated(
            deploy.update(section, "update_config", catalogue.UPDATE_CONFIG, mode), ours
        ),
        rollback=extension.returned(
            deploy.update(section, "rollback_config", catalogue.ROLLBACK_CONFIG, mode), ours
        ),
        task=TaskSpec(
            container=_container(service, stack, pids),
            limits=limits,
            reservations=reservations,
            network_mode=network_mode,
            networks=attachments,
            ports=_ports(service, network_mode),
            restart=restart,
            placement=extension.placed(deploy.placement(service, section), ours, stack),
            lost_node=extension.lost_node(ours),
        ),
        priority=ours.get("priority", fields.integer, 0),
        preempts=ours.get("preempts", fields.boolean, False),
        budget=extension.budget(ours),
        autoscale=extension.autoscale(ours),
        gang=extension.gang(ours, stack),
        job=job,
        depends_on=depends.dependencies(service, stack),
    )


def _ports(service: Fields, network_mode: NetworkMode) -> tuple[PublishedPort, ...]:
    if network_mode is NetworkMode.NETWORKS or "ports" not in service:
        return ports.published(service)
    service.at("ports").warn(
        f"ignored: with network_mode: {network_mode.value} a container has no ports of its own"
    )
    return ()


def _container(service: Fields, stack: Stack, pids: int) -> ContainerSpec:
    default = ContainerSpec(image="")
    texts = fields.list_of(fields.some_text)
    return ContainerSpec(
        image=service.get("image", fields.some_text, ""),
        pull_policy=service.get(
            "pull_policy",
            fields.choice(_PULL_POLICIES, _PULL_POLICIES_REFUSED),
            default.pull_policy,
        ),
        command=service.get("command", _words, None),
        entrypoint=service.get("entrypoint", _words, None),
        environment=environment.variables(service, stack),
        user=service.get("user", fields.text, ""),
        working_dir=service.get("working_dir", fields.text, ""),
        hostname=service.get("hostname", fields.text, ""),
        labels=service.get("labels", fields.map_of(fields.any_text), {}),
        mounts=mounts.mounted(service, stack),
        healthcheck=service.get("healthcheck", _healthcheck, None),
        ulimits=service.get("ulimits", _ulimits, ()),
        sysctls=service.get("sysctls", fields.map_of(fields.any_text), {}),
        cap_add=service.get("cap_add", fields.list_of(_capability), ()),
        cap_drop=service.get("cap_drop", fields.list_of(_capability), ()),
        group_add=service.get("group_add", texts, ()),
        init=service.get("init", fields.boolean, None),
        read_only=service.get("read_only", fields.boolean, False),
        tty=service.get("tty", fields.boolean, False),
        stdin_open=service.get("stdin_open", fields.boolean, False),
        stop_signal=service.get("stop_signal", fields.text, ""),
        stop_grace_seconds=service.get(
            "stop_grace_period", fields.duration, default.stop_grace_seconds
        ),
        pids_limit=pids,
        shm_size_bytes=service.get("shm_size", fields.size, 0),
        oom_score_adj=service.get("oom_score_adj", fields.integer, 0),
        extra_hosts=service.get("extra_hosts", _hosts, ()),
        dns=service.get("dns", texts, ()),
        dns_search=service.get("dns_search", texts, ()),
        dns_options=service.get("dns_opt", texts, ()),
        log=service.get("logging", _logging, LogOptions()),
    )


def _words(cursor: Cursor) -> tuple[str, ...]:
    """A list, or a line that is split as a shell would split it."""
    if isinstance(cursor.node, Items):
        return fields.list_of(fields.text)(cursor)
    line = fields.text(cursor)
    try:
        return tuple(shlex.split(line))
    except ValueError as error:
        reason = str(error).lower()
        raise cursor.refused(f"cannot be split into words: {reason}; use a list") from None


def _healthcheck(cursor: Cursor) -> Healthcheck:
    check = Fields(cursor, catalogue.HEALTHCHECK)
    test = check.get("test", _test, ())
    if check.get("disable", fields.boolean, False):
        if test not in ((), ("NONE",)):
            cursor.warn("the test is not run: `disable` is true")
        test = ("NONE",)
    return Healthcheck(
        test=test,
        interval_seconds=check.get("interval", fields.duration, 0.0),
        timeout_seconds=check.get("timeout", fields.duration, 0.0),
        start_period_seconds=check.get("start_period", fields.duration, 0.0),
        retries=check.get("retries", fields.integer, 0),
    )


def _test(cursor: Cursor) -> tuple[str, ...]:
    if isinstance(cursor.node, Scalar):
        return ("CMD-SHELL", fields.some_text(cursor))
    return fields.list_of(fields.text)(cursor)


def _ulimits(cursor: Cursor) -> tuple[Ulimit, ...]:
    return tuple(
        Ulimit(name=name, soft=soft, hard=hard)
        for name, (soft, hard) in fields.map_of(_soft_and_hard)(cursor).items()
    )


def _soft_and_hard(cursor: Cursor) -> tuple[int, int]:
    limit = Fields(cursor, catalogue.ULIMIT)
    for key in ("soft", "hard"):
        if key not in limit:
            raise cursor.refused(f"expected a number, or soft and hard; {key} is missing")
    return fields.integer(limit.at("soft")), fields.integer(limit.at("hard"))


def _capability(cursor: Cursor) -> str:
    return kernel.capability(fields.some_text(cursor))


def _hosts(cursor: Cursor) -> tuple[str, ...]:
    lists = fields.map_of(fields.list_of(fields.some_text))(cursor)
    return tuple(
        f"{name}:{address.removeprefix('[').removesuffix(']')}"
        for name, addresses in lists.items()
        for address in addresses
    )


def _logging(cursor: Cursor) -> LogOptions:
    log = Fields(cursor, catalogue.LOGGING)
    return LogOptions(
        driver=log.get("driver", fields.text, ""),
        options=log.get("options", fields.map_of(fields.any_text), {}),
    )
