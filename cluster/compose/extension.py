"""``x-shoal``: what the Compose format has no key for, of a service and of a volume."""

import msgspec

from cluster.compose import catalogue, fields
from cluster.compose.fields import Cursor, Fields
from cluster.compose.nodes import Mapping
from cluster.compose.stack import Stack
from cluster.errors import did_you_mean
from cluster.model import (
    Affinity,
    Autoscale,
    Concurrency,
    DisruptionBudget,
    JobSpec,
    LostNode,
    LostNodePolicy,
    Placement,
    Preferred,
    RestartPolicy,
    Schedule,
    ServiceMode,
    Strategy,
    UpdateConfig,
)

# Of a wish that does not say: in the middle, so that there is room on both sides.
WEIGHT_DEFAULT = 50

_CONCURRENCY = {concurrency.value: concurrency for concurrency in Concurrency}
# Outlives a restart of etcd or of all managers, and leaves a container ten seconds to stop.
LEASE_SECONDS_DEFAULT = 30.0

_POLICIES = {policy.value: policy for policy in LostNodePolicy}
_STRATEGIES = {strategy.value: strategy for strategy in Strategy}


def budget(ours: Fields) -> DisruptionBudget:
    """Return ``budget``; the default if it is absent."""
    part = ours.section("budget", catalogue.BUDGET)
    return DisruptionBudget(max_unavailable=part.get("max_unavailable", fields.integer, None))


def autoscale(ours: Fields) -> Autoscale | None:
    """Return ``autoscale``; None if it is absent."""
    if "autoscale" not in ours:
        return None
    usual = Autoscale()
    part = ours.section("autoscale", catalogue.AUTOSCALE)
    return Autoscale(
        min_replicas=part.get("min", fields.integer, usual.min_replicas),
        max_replicas=part.get("max", fields.integer, usual.max_replicas),
        cpu_percent=part.get("cpu", fields.integer, usual.cpu_percent),
        memory_percent=part.get("memory", fields.integer, usual.memory_percent),
        tolerance_percent=part.get("tolerance", fields.integer, usual.tolerance_percent),
        up_window_seconds=part.get("up_window", fields.duration, usual.up_window_seconds),
        down_window_seconds=part.get("down_window", fields.duration, usual.down_window_seconds),
    )


def updated(config: UpdateConfig, ours: Fields) -> UpdateConfig:
    """Return *config* with what our own keys add."""
    part = ours.section("update", catalogue.OURS_OF_UPDATE)
    return msgspec.structs.replace(
        config,
        canary=part.get("canary", fields.integer, config.canary),
        promote_after_seconds=part.get(
            "promote_after", fields.duration, config.promote_after_seconds
        ),
        progress_deadline_seconds=_deadline(config, part),
    )


def returned(config: UpdateConfig, ours: Fields) -> UpdateConfig:
    """Return *config*, of a rollback, with what our own keys add."""
    part = ours.section("rollback", catalogue.OURS_OF_ROLLBACK)
    return msgspec.structs.replace(config, progress_deadline_seconds=_deadline(config, part))


def _deadline(config: UpdateConfig, part: Fields) -> float:
    return part.get("progress_deadline", fields.duration, config.progress_deadline_seconds)


def lost_node(ours: Fields) -> LostNode:
    """Return ``lost_node``: a policy, or a map with one and ``after``."""
    return ours.get("lost_node", _lost_node, LostNode())


def _lost_node(cursor: Cursor) -> LostNode:
    if not isinstance(cursor.node, Mapping):
        policy = fields.choice(_POLICIES)(cursor)
        return LostNode(policy=policy, seconds=_after(policy))
    part = Fields(cursor, catalogue.LOST_NODE)
    if "policy" not in part:
        raise cursor.refused("expected a policy: replace, wait or fence")
    policy = fields.choice(_POLICIES)(part.at("policy"))
    return LostNode(policy=policy, seconds=part.get("after", fields.duration, _after(policy)))


def _after(policy: LostNodePolicy) -> float:
    return LEASE_SECONDS_DEFAULT if policy is LostNodePolicy.FENCE else 0.0


def gang(ours: Fields, stack: Stack) -> str:
    """Return the gang's name, of this stack; empty if there is none."""
    name = ours.get("gang", fields.some_text, "")
    return f"{stack.name}_{name}" if name else ""


def no_job(ours: Fields, mode: ServiceMode) -> JobSpec:
    """Refuse what only a job can have."""
    for key in ("job", "schedule"):
        if key in ours:
            cursor = ours.at(key)
            message = f"is only for jobs (deploy.mode: replicated-job), not for mode: {mode.value}"
            cursor.report.problem(ours.key_position(key), cursor.path, message)
    return JobSpec()


def job(
    ours: Fields, deploy: Fields, completions: int, restart: RestartPolicy
) -> tuple[JobSpec, RestartPolicy]:
    """Return how a job runs, and its restart policy without the attempts.

    Those, as Swarm's files have them, are the job's retries.
    """
    default = JobSpec()
    part = ours.section("job", catalogue.JOB)
    retries = part.get("retries", fields.integer, default.retries)
    if restart.max_attempts:
        if "retries" in part and retries != restart.max_attempts:
            part.at("retries").refused(
                f"is {retries}, but the restart policy says {restart.max_attempts} attempts;"
                " keep one"
            )
        retries = restart.max_attempts
    policy = deploy.section("restart_policy", catalogue.RESTART_POLICY)
    if "window" in policy:
        policy.at("window").refused("has no use for a job: each completion has its retries")
    return JobSpec(
        completions=completions,
        max_concurrent=part.get("max_concurrent", fields.integer, default.max_concurrent),
        retries=retries,
        time_limit_seconds=part.get("time_limit", fields.duration, default.time_limit_seconds),
        history=part.get("history", fields.integer, default.history),
        schedule=ours.get("schedule", _schedule, None),
    ), msgspec.structs.replace(restart, max_attempts=0, window_seconds=0.0)


def _schedule(cursor: Cursor) -> Schedule:
    part = Fields(cursor, catalogue.SCHEDULE)
    if "cron" not in part:
        raise cursor.refused("expected cron: a line such as 30 2 * * *")
    default = Schedule(cron=part.get("cron", fields.some_text, ""))
    return Schedule(
        cron=default.cron,
        time_zone=part.get("time_zone", fields.some_text, default.time_zone),
        concurrency=part.get("concurrency", fields.choice(_CONCURRENCY), default.concurrency),
        late_seconds_max=part.get("late", fields.duration, default.late_seconds_max),
        suspended=part.get("suspended", fields.boolean, default.suspended),
    )


def placed(placement: Placement, ours: Fields, stack: Stack) -> Placement:
    """Return *placement* with what our own keys add."""

    def near(cursor: Cursor) -> Affinity:
        return _affinity(cursor, stack, anti=False)

    def apart(cursor: Cursor) -> Affinity:
        return _affinity(cursor, stack, anti=True)

    return msgspec.structs.replace(
        placement,
        affinities=(
            *ours.get("affinity", fields.list_of(near), ()),
            *ours.get("anti_affinity", fields.list_of(apart), ()),
        ),
        prefer=ours.get("prefer", fields.list_of(_preferred), ()),
        strategy=ours.get("strategy", fields.choice(_STRATEGIES), None),
        tolerates=ours.get("tolerates", fields.list_of(fields.some_text), ()),
        stays=ours.get("stays", fields.boolean, False),
    )


def _affinity(cursor: Cursor, stack: Stack, *, anti: bool) -> Affinity:
    part = Fields(cursor, catalogue.AFFINITY)
    if "service" not in part:
        raise cursor.refused("expected a service")
    name = fields.some_text(part.at("service"))
    if not part.get("external", fields.boolean, False):
        if name not in stack.services:
            near = did_you_mean(name, stack.services)
            raise part.at("service").refused(
                f"there is no service {name!r} in this stack;"
                f"{near or ' of one elsewhere give the full name and external: true'}"
            )
        name = f"{stack.name}_{name}"
    return Affinity(
        service=name,
        topology=part.get("topology", fields.some_text, Affinity(service="").topology),
        anti=anti,
        weight=part.get("weight", fields.integer, 0),
    )


def _preferred(cursor: Cursor) -> Preferred:
    part = Fields(cursor, catalogue.PREFERRED)
    if "constraint" not in part:
        raise cursor.refused("expected a constraint such as node.labels.disk == ssd")
    return Preferred(
        constraint=fields.some_text(part.at("constraint")),
        weight=part.get("weight", fields.integer, WEIGHT_DEFAULT),
    )
