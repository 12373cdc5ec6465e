"""How a service is run: ``deploy`` and the older keys that mean the same."""

import re
from typing import TypeVar

from cluster.compose import catalogue, fields
from cluster.compose.catalogue import Section
from cluster.compose.fields import Cursor, Fields, Reader
from cluster.compose.nodes import described
from cluster.constraints import canonical_architecture
from cluster.model import (
    FailureAction,
    Placement,
    Platform,
    RestartCondition,
    RestartPolicy,
    ServiceMode,
    SpreadPreference,
    UpdateConfig,
    UpdateOrder,
)
from cluster.resources import Resources

T = TypeVar("T")
D = TypeVar("D")

_MODES = {mode.value: mode for mode in ServiceMode}
_CONDITIONS = {condition.value: condition for condition in RestartCondition}
_RESTART = re.compile(r"(no|always|unless-stopped)|on-failure(?::([0-9]{1,9}))?")
_RESTART_FORM = '"no", always, unless-stopped or on-failure[:ATTEMPTS]'
_ACTIONS = {action.value: action for action in FailureAction}
_ORDERS = {order.value: order for order in UpdateOrder}
_PLATFORM_PARTS_MAX = 3
_SYSTEMS = ("linux", "windows", "darwin", "freebsd")


def mode(deploy: Fields) -> ServiceMode:
    return deploy.get("mode", fields.choice(_MODES), ServiceMode.REPLICATED)


def replicas(service: Fields, deploy: Fields, service_mode: ServiceMode) -> int:
    """Return how many replicas, or of a job completions; what is global cannot say."""
    number = either((deploy, "replicas"), (service, "scale"), fields.integer, 1)
    if service_mode.is_global:
        for where, key in ((deploy, "replicas"), (service, "scale")):
            if key in where:
                cursor = where.at(key)
                message = f"has no use with mode: {service_mode.value}: one task on each node"
                cursor.report.problem(where.key_position(key), cursor.path, message)
    return number


def resources(service: Fields, deploy: Fields) -> tuple[Resources, Resources, int]:
    """Return limits, reservations and the limit of processes; 0 is none."""
    both = deploy.section("resources", catalogue.RESOURCES)
    limits = both.section("limits", catalogue.LIMITS)
    reservations = both.section("reservations", catalogue.RESERVATIONS)
    return (
        Resources(
            cpu_nanos=either((limits, "cpus"), (service, "cpus"), fields.cpus, 0),
            memory_bytes=either((limits, "memory"), (service, "mem_limit"), fields.size, 0),
        ),
        Resources(
            cpu_nanos=reservations.get("cpus", fields.cpus, 0),
            memory_bytes=either(
                (reservations, "memory"), (service, "mem_reservation"), fields.size, 0
            ),
            generic=reservations.get("generic_resources", _generic, {}),
        ),
        either((limits, "pids"), (service, "pids_limit"), _pids, 0),
    )


def _generic(cursor: Cursor) -> dict[str, int]:
    counts: dict[str, int] = {}
    for item in cursor.items():
        spec = Fields(item, catalogue.GENERIC).section("discrete_resource_spec", catalogue.DISCRETE)
        if "kind" not in spec:
            item.refused("expected discrete_resource_spec with a kind and a value")
            continue
        kind = spec.get("kind", fields.some_text, "")
        if kind in counts:
            item.refused(f"{kind!r} is reserved twice")
        elif kind:
            counts[kind] = spec.get("value", fields.integer, 1)
    return counts


def either(
    one: tuple[Fields, str], other: tuple[Fields, str], reader: Reader[T], default: D
) -> T | D:
    """Return the value of two keys that mean the same; they must not differ."""
    (one_map, one_key), (other_map, other_key) = one, other
    first = one_map.get(one_key, reader, default)
    if other_key not in other_map:
        return first
    second = other_map.get(other_key, reader, default)
    if one_key in one_map and first != second:
        cursor, rival = other_map.at(other_key), one_map.at(one_key)
        cursor.report.problem(
            cursor.node.at,
            cursor.path,
            f"is {described(cursor.node)}, but {rival.path} at {rival.node.at} is "
            f"{described(rival.node)}; keep one",
        )
    return second


def _pids(cursor: Cursor) -> int:
    number = fields.integer(cursor)
    return 0 if number == -1 else number


def restart(service: Fields, deploy: Fields) -> RestartPolicy:
    """Return the policy of ``deploy``, else that of ``restart``, else: always."""
    simple = service.get("restart", _restart, RestartPolicy())
    if "restart_policy" not in deploy:
        return simple
    if "restart" in service:
        service.at("restart").warn("ignored: deploy.restart_policy counts")
    policy = deploy.section("restart_policy", catalogue.RESTART_POLICY)
    return RestartPolicy(
        condition=policy.get("condition", fields.choice(_CONDITIONS), RestartCondition.ANY),
        delay_seconds=policy.get("delay", fields.duration, 0.0),
        max_attempts=policy.get("max_attempts", fields.integer, 0),
        window_seconds=policy.get("window", fields.duration, 0.0),
    )


def _restart(cursor: Cursor) -> RestartPolicy:
    word = cursor.scalar(_RESTART_FORM).text
    match = _RESTART.fullmatch(word)
    if match is None:
        raise cursor.unexpected(_RESTART_FORM)
    if word == "no":
        return RestartPolicy(condition=RestartCondition.NONE)
    if match[1]:
        return RestartPolicy(condition=RestartCondition.ANY)
    return RestartPolicy(condition=RestartCondition.ON_FAILURE, max_attempts=int(match[2] or "0"))


def placement(service: Fields, deploy: Fields) -> Placement:
    place = deploy.section("placement", catalogue.PLACEMENT)
    platform = service.get("platform", _platform, None)
    return Placement(
        constraints=place.get("constraints", fields.list_of(fields.some_text), ()),
        platforms=(platform,) if platform else (),
        max_replicas_per_node=place.get("max_replicas_per_node", fields.integer, 0),
        preferences=place.get("preferences", fields.list_of(_preference), ()),
    )


def _preference(cursor: Cursor) -> SpreadPreference:
    preference = Fields(cursor, catalogue.PREFERENCE)
    if "spread" not in preference:
        raise cursor.refused("expected spread: KEY, such as node.labels.zone")
    return SpreadPreference(key=fields.some_text(preference.at("spread")))


def _platform(cursor: Cursor) -> Platform:
    """``OS[/ARCHITECTURE[/VARIANT]]`` or ``ARCHITECTURE``."""
    parts = fields.some_text(cursor).lower().split("/")
    if len(parts) > _PLATFORM_PARTS_MAX or not all(parts):
        raise cursor.unexpected("a platform such as linux/amd64")
    if len(parts) == _PLATFORM_PARTS_MAX:
        cursor.warn(
            f"the variant {parts[2]} is not compared: any {'/'.join(parts[:2])} node will do"
        )
    if len(parts) == 1 and parts[0] not in _SYSTEMS:
        return Platform(architecture=canonical_architecture(parts[0]))
    return Platform(
        os=parts[0], architecture=canonical_architecture(parts[1]) if len(parts) > 1 else ""
    )


def update(deploy: Fields, key: str, section: Section, service_mode: ServiceMode) -> UpdateConfig:
    """Return ``update_config`` or ``rollback_config``; the defaults if it is absent."""
    if service_mode.is_job and key in deploy:
        cursor = deploy.at(key)
        message = "has no use for a job, which is not updated but run anew"
        cursor.report.problem(deploy.key_position(key), cursor.path, message)
        return UpdateConfig()
    config = deploy.section(key, section)
    default = UpdateConfig()
    actions = _ACTIONS
    if section is catalogue.ROLLBACK_CONFIG:
        actions = {word: action for word, action in _ACTIONS.items() if word != "rollback"}
    return UpdateConfig(
        parallelism=config.get("parallelism", fields.integer, default.parallelism),
        delay_seconds=config.get("delay", fields.duration, default.delay_seconds),
        monitor_seconds=config.get("monitor", fields.duration, default.monitor_seconds),
        failure_action=config.get("failure_action", fields.choice(actions), default.failure_action),
        max_failure_ratio=config.get("max_failure_ratio", fields.ratio, default.max_failure_ratio),
        order=config.get("order", fields.choice(_ORDERS), default.order),
    )
