"""Changes to a service's spec, as ``service update`` words them. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from cluster.errors import InvalidError, NotFoundError, did_you_mean
from cluster.model import (
    Autoscale,
    FailureAction,
    LostNode,
    LostNodePolicy,
    Placement,
    RestartCondition,
    ServiceMode,
    ServiceSpec,
    SpreadPreference,
    Strategy,
    UpdateConfig,
    UpdateOrder,
)
from cluster.quantities import parse_duration
from cluster.resources import Resources

# What takes back a service's own strategy.
CLUSTERS_STRATEGY = "cluster"

_replace = msgspec.structs.replace


@dataclass(frozen=True, slots=True)
class Edit:
    """What to change; None and empty leave things as they are. Amounts are in base units."""

    image: str | None = None
    replicas: int | None = None
    force: bool = False
    args: tuple[str, ...] | None = None
    env_add: tuple[tuple[str, str], ...] = ()
    env_rm: tuple[str, ...] = ()
    label_add: tuple[tuple[str, str], ...] = ()
    label_rm: tuple[str, ...] = ()
    constraint_add: tuple[str, ...] = ()
    constraint_rm: tuple[str, ...] = ()
    limit_cpu: int | None = None
    limit_memory: int | None = None
    reserve_cpu: int | None = None
    reserve_memory: int | None = None
    reserve_generic: tuple[tuple[str, int], ...] = ()
    spread_add: tuple[str, ...] = ()
    spread_rm: tuple[str, ...] = ()
    tolerate_add: tuple[str, ...] = ()
    tolerate_rm: tuple[str, ...] = ()
    strategy: str | None = None
    priority: int | None = None
    preempts: bool | None = None
    max_unavailable: int | None = None
    lost_node: str | None = None
    restart_condition: str | None = None
    restart_delay: float | None = None
    restart_max_attempts: int | None = None
    restart_window: float | None = None
    stop_grace_period: float | None = None
    update_parallelism: int | None = None
    update_delay: float | None = None
    update_monitor: float | None = None
    update_order: str | None = None
    update_failure_action: str | None = None
    update_max_failure_ratio: float | None = None
    autoscale: bool | None = None
    scale_min: int | None = None
    scale_max: int | None = None
    scale_cpu: int | None = None
    scale_memory: int | None = None
    update_progress_deadline: float | None = None
    update_canary: int | None = None
    update_promote_after: float | None = None
    rollback_parallelism: int | None = None
    rollback_delay: float | None = None
    rollback_monitor: float | None = None
    rollback_order: str | None = None
    rollback_failure_action: str | None = None
    rollback_max_failure_ratio: float | None = None
    rollback_progress_deadline: float | None = None
    completions: int | None = None
    max_concurrent: int | None = None
    retries: int | None = None
    time_limit: float | None = None


def edited(spec: ServiceSpec, edit: Edit) -> ServiceSpec:
    """Return *spec* with the changes made.

    Raises:
        InvalidError: a job or a global service has no replicas to set.
        NotFoundError: what is to be removed is not there.
    """
    if edit.replicas is not None and spec.mode is not ServiceMode.REPLICATED:
        raise InvalidError(
            f"service '{spec.name}' is {spec.mode.value}: it has no number of replicas"
        )
    task = spec.task
    container = _replace(
        task.container,
        environment=_entries(task.container.environment, edit.env_add, edit.env_rm, "variable"),
        **_given(image=edit.image, command=edit.args, stop_grace_seconds=edit.stop_grace_period),
    )
    restart = _replace(
        task.restart,
        **_given(
            condition=_enum(RestartCondition, edit.restart_condition),
            delay_seconds=edit.restart_delay,
            max_attempts=edit.restart_max_attempts,
            window_seconds=edit.restart_window,
        ),
    )
    task = _replace(
        task,
        container=container,
        restart=restart,
        limits=_resources(task.limits, edit.limit_cpu, edit.limit_memory),
        reservations=_generic(
            _resources(task.reservations, edit.reserve_cpu, edit.reserve_memory),
            edit.reserve_generic,
        ),
        placement=_placement(task.placement, edit),
        force_update=task.force_update + edit.force,
        lost_node=task.lost_node if edit.lost_node is None else _lost_node(edit.lost_node),
    )
    return _replace(
        spec,
        task=task,
        labels=_entries(spec.labels, edit.label_add, edit.label_rm, "label"),
        update=_config(spec.update, edit, "update"),
        rollback=_config(spec.rollback, edit, "rollback"),
        autoscale=_autoscale(spec, edit),
        job=_replace(
            spec.job,
            **_given(
                completions=edit.completions,
                max_concurrent=edit.max_concurrent,
                retries=edit.retries,
                time_limit_seconds=edit.time_limit,
            ),
        ),
        budget=_replace(spec.budget, **_given(max_unavailable=edit.max_unavailable)),
        **_given(replicas=edit.replicas, priority=edit.priority, preempts=edit.preempts),
    )


def _autoscale(spec: ServiceSpec, edit: Edit) -> Autoscale | None:
    """Return the range with the changes made; what names a part of it begins one."""
    parts = _given(
        min_replicas=edit.scale_min,
        max_replicas=edit.scale_max,
        cpu_percent=edit.scale_cpu,
        memory_percent=edit.scale_memory,
    )
    if edit.autoscale is False:
        if parts:
            raise InvalidError("--no-autoscale takes all of --scale-... away: give one of them")
        return None
    if not parts:
        if spec.autoscale is not None and edit.replicas is not None:
            raise InvalidError(
                f"service '{spec.name}' scales itself: take it in hand with --no-autoscale"
            )
        return spec.autoscale
    if spec.mode is not ServiceMode.REPLICATED:
        raise InvalidError(
            f"service '{spec.name}' is a {spec.mode.value}: only replicas scale, leave --scale-..."
            " away"
            if spec.mode.is_job
            else f"service '{spec.name}' is global: only replicas scale, leave --scale-... away"
        )
    if edit.replicas is not None:
        raise InvalidError(f"service '{spec.name}' is to scale itself: leave --replicas away")
    begun = Autoscale(min_replicas=1, max_replicas=max(1, spec.replicas))
    return _replace(spec.autoscale or begun, **parts)


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _enum(kind: Any, value: str | None) -> Any:
    return None if value is None else kind(value)


def _resources(old: Resources, cpu_nanos: int | None, memory_bytes: int | None) -> Resources:
    return _replace(old, **_given(cpu_nanos=cpu_nanos, memory_bytes=memory_bytes))


def _generic(old: Resources, counts: Iterable[tuple[str, int]]) -> Resources:
    """Set counts; none takes a kind away."""
    generic = {kind: count for kind, count in {**old.generic, **dict(counts)}.items() if count}
    return _replace(old, generic=generic)


def _lost_node(text: str) -> LostNode:
    """Return what ``POLICY`` or ``POLICY=DURATION`` says.

    Raises:
        InvalidError: it says nothing.
    """
    word, _, after = text.partition("=")
    policies = {policy.value: policy for policy in LostNodePolicy}
    if word not in policies:
        raise InvalidError(
            f"--lost-node takes replace, wait=DURATION or fence=DURATION, not {text!r}"
        )
    return LostNode(policy=policies[word], seconds=parse_duration(after) if after else 0.0)


def _placement(old: Placement, edit: Edit) -> Placement:
    keys = _names([each.key for each in old.preferences], edit.spread_add, edit.spread_rm, "spread")
    strategy = old.strategy
    if edit.strategy is not None:
        strategy = None if edit.strategy == CLUSTERS_STRATEGY else Strategy(edit.strategy)
    return _replace(
        old,
        constraints=_constraints(old.constraints, edit.constraint_add, edit.constraint_rm),
        preferences=tuple(SpreadPreference(key=key) for key in keys),
        tolerates=tuple(
            _names(old.tolerates, edit.tolerate_add, edit.tolerate_rm, "name to tolerate")
        ),
        strategy=strategy,
    )


def _config(old: UpdateConfig, edit: Edit, kind: str) -> UpdateConfig:
    """Return *old*, of an "update" or a "rollback", with what the edit says about that."""

    def said(option: str) -> Any:
        return getattr(edit, f"{kind}_{option}", None)

    return _replace(
        old,
        **_given(
            parallelism=said("parallelism"),
            delay_seconds=said("delay"),
            monitor_seconds=said("monitor"),
            order=_enum(UpdateOrder, said("order")),
            failure_action=_enum(FailureAction, said("failure_action")),
            max_failure_ratio=said("max_failure_ratio"),
            progress_deadline_seconds=said("progress_deadline"),
            canary=said("canary"),
            promote_after_seconds=said("promote_after"),
        ),
    )


def _entries(
    old: Mapping[str, str],
    added: Iterable[tuple[str, str]],
    removed: Iterable[str],
    noun: str,
) -> dict[str, str]:
    new = dict(old)
    for name in removed:
        if name not in old:
            raise NotFoundError(f"there is no {noun} '{name}' to remove;{_near(name, old)}")
        new.pop(name, None)
    return new | dict(added)


def _names(
    old: Sequence[str], added: Iterable[str], removed: Collection[str], noun: str
) -> list[str]:
    for name in removed:
        if name not in old:
            raise NotFoundError(f"there is no {noun} '{name}' to remove;{_near(name, old)}")
    return [name for name in dict.fromkeys((*old, *added)) if name not in removed]


def _constraints(
    old: tuple[str, ...], added: Iterable[str], removed: Iterable[str]
) -> tuple[str, ...]:
    """Compare constraints without regard to the space in them."""

    def bare(text: str) -> str:
        return "".join(text.split())

    gone = {bare(text) for text in removed}
    kept = {bare(text): text for text in old}
    for text in removed:
        if bare(text) not in kept:
            raise NotFoundError(f"there is no constraint '{text}' to remove;{_near(text, old)}")
    kept = {key: text for key, text in kept.items() if key not in gone}
    for text in added:
        kept.setdefault(bare(text), text)
    return tuple(kept.values())


def _near(word: str, known: Iterable[str]) -> str:
    names = list(known)
    return did_you_mean(word, names) or f" there is {', '.join(names) or 'none'}"
