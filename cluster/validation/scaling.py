"""What of a service's own scaling can never work."""

from collections.abc import Iterator

from cluster.model import Autoscale, ServiceMode, ServiceSpec
from cluster.validation.flaws import Flaw

# A target beyond this is no target: tasks would be ten times over what they reserve.
PERCENT_MAX = 1_000

# Longer than a day remembers yesterday's load.
WINDOW_SECONDS_MAX = 86_400.0

# What a whole cluster is built for; more in one service is a slip of the finger.
REPLICAS_MAX = 1_000_000


def flaws(spec: ServiceSpec) -> Iterator[Flaw]:
    """Yield what is wrong with ``autoscale``."""
    scale = spec.autoscale
    if scale is None:
        return
    if spec.mode.is_job:
        yield Flaw(
            "autoscale",
            f"is of replicas, and a {spec.mode.value} has completions: set how many run at a time"
            " by job.max_concurrent",
        )
        return
    if spec.mode is ServiceMode.GLOBAL:
        yield Flaw(
            "autoscale",
            "is of replicas, and a global service runs once on every node that complies: make it"
            " replicated",
        )
        return
    if not 1 <= scale.min_replicas <= scale.max_replicas <= REPLICAS_MAX:
        yield Flaw(
            "autoscale",
            f"must have 1 <= min <= max <= {REPLICAS_MAX}, has min {scale.min_replicas} and max"
            f" {scale.max_replicas}",
        )
    if not 0 <= scale.tolerance_percent < 100:  # noqa: PLR2004  a whole
        yield Flaw("autoscale.tolerance_percent", "must be 0 to 99")
    for name in ("up_window_seconds", "down_window_seconds"):
        if not 0 <= getattr(scale, name) <= WINDOW_SECONDS_MAX:
            yield Flaw(f"autoscale.{name}", f"must be 0 to {WINDOW_SECONDS_MAX:g}")
    yield from _targets(spec, scale)


def _targets(spec: ServiceSpec, scale: Autoscale) -> Iterator[Flaw]:
    if not (scale.cpu_percent or scale.memory_percent):
        yield Flaw("autoscale", "needs a target: cpu or memory, in percent")
    for what, percent, field in (
        ("cpu", scale.cpu_percent, "cpu_nanos"),
        ("memory", scale.memory_percent, "memory_bytes"),
    ):
        if not 0 <= percent <= PERCENT_MAX:
            yield Flaw(f"autoscale.{what}_percent", f"must be 0 to {PERCENT_MAX}, is {percent}")
        amounts = (getattr(spec.task.reservations, field), getattr(spec.task.limits, field))
        if percent and not any(amounts):
            yield Flaw(
                f"autoscale.{what}_percent",
                f"is of the {what} that a task reserves or is limited to: give it one of these",
            )
