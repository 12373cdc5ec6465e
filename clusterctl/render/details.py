"""Single objects for people: what ``inspect`` shows unless asked for JSON or YAML."""

from collections.abc import Iterator

from cluster.model import (
    Affinity,
    ContainerSpec,
    DisruptionBudget,
    Healthcheck,
    LostNode,
    LostNodePolicy,
    Mount,
    NetworkMode,
    Node,
    Placement,
    RestartPolicy,
    Rollout,
    RolloutState,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
)
from cluster.quantities import format_duration
from clusterctl.answers import NodeSummary, ServiceSummary, TaskDetails
from clusterctl.render import jobs
from clusterctl.render.kinds import port, replicas, task_error, task_name
from clusterctl.render.people import (
    ago,
    count,
    cpus,
    generic,
    memory,
    moment,
    pairs,
    resources,
    share,
)
from clusterctl.render.table import facts

_MODES = {
    NetworkMode.NETWORKS: "Docker's default bridge",
    NetworkMode.HOST: "the host's own",
    NetworkMode.NONE: "none",
}

Facts = Iterator[tuple[str, str]]


def service(each: ServiceSummary, now: float) -> str:
    value, spec = each.service, each.service.spec
    rows = [
        ("ID", value.id),
        ("Name", spec.name),
        ("Stack", spec.stack),
        ("Mode", spec.mode.value),
        ("Replicas", replicas(each)),
        *_scaling(each),
        ("Labels", pairs(spec.labels)),
        *template(spec.task),
        *_order(spec),
        *_dependencies(spec),
        *(jobs.facts_of(each, now) if spec.mode.is_job else ()),
        ("Update", "" if spec.mode.is_job else _update(spec.update)),
        ("Rollback", "" if spec.mode.is_job else _update(spec.rollback)),
        ("Rollout", _rollout(each.rollout, now)),
        ("Template", f"number {value.spec_version}, version {value.version}"),
        ("Created", ago(value.created_at, now)),
        ("Updated", ago(value.updated_at, now)),
    ]
    if spec.mode is ServiceMode.GLOBAL:
        rows.remove(("Mode", spec.mode.value))
        rows.insert(3, ("Mode", "global: one on every node that complies"))
    return facts(rows) + "\n"


def _scaling(each: ServiceSummary) -> Facts:
    scale = each.service.spec.autoscale
    if scale is None:
        return
    targets = [
        f"{what} at {percent}%"
        for what, percent in (("CPU", scale.cpu_percent), ("memory", scale.memory_percent))
        if percent
    ]
    goal = f"{' and '.join(targets)}, give or take {scale.tolerance_percent}%"
    up, down = format_duration(scale.up_window_seconds), format_duration(scale.down_window_seconds)
    extent = f"{scale.min_replicas} to {scale.max_replicas}"
    yield "Scales itself", f"{extent}, {goal}; up after {up}, down after {down}"
    if each.scaling is not None:
        yield "Last scaled", each.scaling.why


def _dependencies(spec: ServiceSpec) -> Facts:
    told = []
    for each in spec.depends_on:
        notes = [
            note
            for note, holds in (("optional", not each.required), ("restarts", each.restart))
            if holds
        ]
        told.append(f"{each.service}: {', '.join([each.condition.value, *notes])}")
    yield "Depends on", "\n".join(told)


def template(task: TaskSpec) -> Facts:
    """Yield what a task spec says, as far as it says anything."""
    yield from _container(task.container)
    yield "Reserved", resources(task.reservations)
    yield "Limits", resources(task.limits)
    yield "Ports", ", ".join(port(each) for each in task.ports)
    yield "Networks", ", ".join(each.network for each in task.networks) or _MODES[task.network_mode]
    yield from _placement(task.placement)
    yield "Restart", _restart(task.restart)
    yield "Lost node", _lost_node(task.lost_node)


def _lost_node(lost: LostNode) -> str:
    after = format_duration(lost.seconds)
    match lost.policy:
        case LostNodePolicy.REPLACE:
            return ""
        case LostNodePolicy.WAIT:
            return f"waits {after} for it to come back"
        case LostNodePolicy.FENCE:
            return f"never two at a time: its host ends it {after} after the last word"


def _placement(placement: Placement) -> Facts:
    yield "Placement", "\n".join(placement.constraints)
    if placement.max_replicas_per_node:
        yield "Per node", f"at most {placement.max_replicas_per_node}"
    yield "Spread over", ", then ".join(each.key for each in placement.preferences)
    yield "Affinity", "\n".join(_affinity(each) for each in placement.affinities if not each.anti)
    yield "Apart from", "\n".join(_affinity(each) for each in placement.affinities if each.anti)
    yield "Prefers", "\n".join(f"{each.constraint} ({each.weight})" for each in placement.prefer)
    yield "Strategy", placement.strategy.value if placement.strategy else ""
    yield "Tolerates", ", ".join(placement.tolerates)
    yield "Stays", "yes" if placement.stays else ""


def _affinity(each: Affinity) -> str:
    weight = f"wished for ({each.weight})" if each.weight else "a must"
    return f"{each.service} by {each.topology}, {weight}"


def _order(spec: ServiceSpec) -> Facts:
    if spec.priority or spec.preempts:
        yield "Priority", f"{spec.priority}{', preempts lower ones' if spec.preempts else ''}"
    if spec.budget != DisruptionBudget():
        yield "Budget", f"at most {spec.max_unavailable} unavailable"
    yield "Gang", spec.gang


def _container(spec: ContainerSpec) -> Facts:
    yield "Image", spec.image
    yield "Entrypoint", _words(spec.entrypoint)
    yield "Command", _words(spec.command)
    yield (
        "Environment",
        "\n".join(f"{key}={text}" for key, text in sorted(spec.environment.items())),
    )
    yield "User", spec.user
    yield "Directory", spec.working_dir
    yield "Mounts", "\n".join(map(_mount, spec.mounts))
    if spec.healthcheck is not None:
        yield "Health", _health(spec.healthcheck)


def _words(words: tuple[str, ...] | None) -> str:
    import shlex

    return "" if words is None else shlex.join(words)


def _mount(mount: Mount) -> str:
    notes = [
        note for note, holds in (("read only", mount.read_only), ("bound", mount.bound)) if holds
    ]
    mode = f" ({', '.join(notes)})" if notes else ""
    return f"{mount.kind.value} {mount.source or '-'} at {mount.target}{mode}"


def _health(check: Healthcheck) -> str:
    every = f" every {format_duration(check.interval_seconds)}" if check.interval_seconds else ""
    return _words(check.test) + every


def _restart(policy: RestartPolicy) -> str:
    attempts = f", {count(policy.max_attempts, 'attempt')}" if policy.max_attempts else ""
    return f"{policy.condition.value}, after {format_duration(policy.delay_seconds)}{attempts}"


def _update(update: UpdateConfig) -> str:
    words = [f"{update.parallelism} at a time" if update.parallelism else "all at once"]
    words.append(update.order.value)
    if update.canary:
        words.append(f"canary of {update.canary}")
    if update.delay_seconds:
        words.append(f"{format_duration(update.delay_seconds)} apart")
    words.append(f"on failure {update.failure_action.value}")
    if update.max_failure_ratio:
        words.append(f"bears {update.max_failure_ratio:.0%}")
    words.append(f"watched for {format_duration(update.monitor_seconds)}")
    if update.progress_deadline_seconds:
        words.append(f"deadline {format_duration(update.progress_deadline_seconds)}")
    return ", ".join(words)


def _rollout(rollout: Rollout | None, now: float) -> str:
    if rollout is None:
        return ""
    told = f"{rollout.state.value} {ago(rollout.changed_at, now)}".rstrip()
    return f"{told}: {rollout.message}" if rollout.message else told


def rollout_line(each: ServiceSummary) -> str:
    """Return where a service's rollout stands; empty if it is as it should be."""
    rollout = each.rollout
    if rollout is None or (rollout.state is RolloutState.COMPLETED and not rollout.message):
        return ""
    told = f"{each.service.spec.name}: {rollout.state.value}"
    return f"{told}: {rollout.message}" if rollout.message else told


def task(each: TaskDetails, now: float) -> str:
    value, status = each.task.task, each.task.task.status
    code = "" if status.exit_code is None else str(status.exit_code)
    rows = [
        ("ID", value.id),
        ("Name", task_name(each.task)),
        ("Service", f"{each.task.service_name} ({value.service_id})"),
        ("Node", f"{each.task.node_hostname} ({value.node_id})" if value.node_id else "none yet"),
        *((kind, ", ".join(names)) for kind, names in sorted(value.generic_items.items())),
        ("Desired", value.desired_state.value),
        ("State", f"{status.state.value} {ago(status.at, now)}".rstrip()),
        ("Message", status.message),
        ("Error", task_error(each.task)),
        ("Exit code", code),
        ("Failures before", str(value.failures or "")),
        ("Container", status.container_id),
        ("Created", ago(value.created_at, now)),
        ("Template", f"number {value.spec_version}"),
        *template(each.spec),
    ]
    return facts(rows) + "\n"


def _deadline(value: Node) -> str:
    if not value.spec.drain_deadline_seconds:
        return ""
    deadline = format_duration(value.spec.drain_deadline_seconds)
    return f", at most {deadline} from {moment(value.spec.drain_asked_at)} on"


def node(each: NodeSummary, now: float) -> str:
    value = each.node
    described, capacity, usage = value.description, value.description.capacity, each.usage
    heard = "" if each.heard_seconds_ago is None else f"{each.heard_seconds_ago:.1f}s ago"
    cpu_used = memory_used = ""
    if usage is not None and usage.measured_at:
        cpu_used = f", {share(usage.cpu_nanos, capacity.cpu_nanos)} used"
        memory_used = f", {memory(usage.memory_bytes)} used"
    slots = f", at most {value.spec.task_slots}" if value.spec.task_slots else ""
    rows = [
        ("ID", value.id),
        ("Name", described.hostname),
        ("Status", f"{value.status.state.value} {ago(value.status.changed_at, now)}".rstrip()),
        ("Reason", value.status.message),
        ("Availability", f"{value.spec.availability.value}{_deadline(value)}"),
        ("Labels", pairs(value.spec.labels)),
        ("Address", described.address),
        ("Platform", f"{described.platform.os}/{described.platform.architecture}"),
        (
            "CPUs",
            f"{cpus(capacity.cpu_nanos)}, {cpus(each.reserved.cpu_nanos)} reserved{cpu_used}",
        ),
        (
            "Memory",
            f"{memory(capacity.memory_bytes)}, {memory(each.reserved.memory_bytes)} reserved{memory_used}",
        ),
        *generic(capacity, each.reserved),
        *((f"{kind} names", ", ".join(names)) for kind, names in described.generic_items.items()),
        ("Tasks", f"{each.tasks_running} running of {each.tasks_total}{slots}"),
        ("Reserved for", ", ".join(value.spec.reserved_for)),
        ("Volumes", ", ".join(value.spec.volumes)),
        ("Engine", described.engine_version),
        ("Engine labels", pairs(described.engine_labels)),
        ("Agent", described.agent_version),
        ("Images", str(len(described.images) or "")),
        ("Heard of", heard),
        ("Session at", each.manager_id),
        ("Known since", ago(value.created_at, now)),
    ]
    return facts(rows) + "\n"
