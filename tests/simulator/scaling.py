"""Services that scale themselves: what their tasks use, and how many there shall be in the end.

All that comes in is shared by the tasks that run: so much memory as *load* tasks use when they are
just at their target. The load is drawn with the service, as its program's environment.
"""

import math
from collections.abc import Iterator

from cluster.invariants import State
from cluster.lifecycle import live, serves
from cluster.model import Autoscale, Service, Task, TaskSpec
from cluster.scaling import as_scaled, wanted_replicas

LOAD = "LOAD"
TARGET_PERCENT = 50
WINDOW_SECONDS = 20.0


def range_to(most: int) -> Autoscale:
    """Return the rule of a service that scales itself up to *most* tasks."""
    return Autoscale(
        max_replicas=most,
        memory_percent=TARGET_PERCENT,
        up_window_seconds=WINDOW_SECONDS,
        down_window_seconds=WINDOW_SECONDS,
    )


def used_bytes(spec: TaskSpec, sharing: int) -> int:
    """Return what a task uses that shares its service's load with so many, itself among them."""
    target = spec.reservations.memory_bytes * TARGET_PERCENT / 100
    return round(_load(spec) * target / max(1, sharing))


def shall(state: State, service: Service) -> Service:
    """Return *service* with the replicas that it shall have, also if it scales itself."""
    return as_scaled(service, state.scalings.get(service.id))


def off(state: State) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the services that have come to rest with more or fewer replicas than their load calls for."""
    for service in state.services.values():
        spec = service.spec
        if spec.autoscale is None:
            continue
        number = wanted_replicas(spec, state.scalings.get(service.id))
        tasks = [task for task in state.of_service(service.id) if live(task)]
        rests = len(tasks) == number and all(_is_newest(task, service) for task in tasks)
        called = min(max(math.ceil(_load(spec.task)), 1), spec.autoscale.max_replicas)
        if rests and number != called:
            yield (
                f"{spec.name} has {number} replicas, and its load calls for {called}",
                (service.id,),
            )


def _is_newest(task: Task, service: Service) -> bool:
    return serves(task) and task.spec_version == service.spec_version


def _load(spec: TaskSpec) -> float:
    return float(spec.container.environment.get(LOAD, "0"))
