"""Rules for where tasks run, and in what order they are given places."""

from collections.abc import Callable, Iterator, Sequence

from cluster import constraints
from cluster.errors import InvalidError
from cluster.model import Affinity, Placement, ServiceSpec
from cluster.validation.flaws import Flaw, name_flaw, not_negative
from cluster.validation.scaling import REPLICAS_MAX

# Wide enough for classes of importance with room between them; the scale means nothing else.
PRIORITY_MAX = 1_000
WEIGHT_MAX = 100

# Regions, zones, racks, hosts: nobody nests deeper, and each level multiplies the groups.
PREFERENCES_MAX = 4

# Each is judged for every node, whenever a task of the service waits.
WISHES_MAX = 32

_GLOBAL = "has no use in mode global, which runs one task on each node"


def placement_flaws(placement: Placement) -> Iterator[Flaw]:
    """Find what is wrong with where the tasks may and should run."""
    at = "task.placement"
    yield from not_negative(f"{at}.max_replicas_per_node", placement.max_replicas_per_node)
    yield from _few(f"{at}.constraints", placement.constraints)
    for index, expression in enumerate(placement.constraints):
        yield from _refused(f"{at}.constraints[{index}]", constraints.parse, expression)
    yield from _preferences(placement)
    yield from _few(f"{at}.affinities", placement.affinities)
    for index, affinity in enumerate(placement.affinities):
        yield from _affinity(f"{at}.affinities[{index}]", affinity)
    yield from _few(f"{at}.prefer", placement.prefer)
    for index, wish in enumerate(placement.prefer):
        yield from _refused(f"{at}.prefer[{index}].constraint", constraints.parse, wish.constraint)
        yield from _weight(f"{at}.prefer[{index}].weight", wish.weight, least=1)
    yield from _few(f"{at}.tolerates", placement.tolerates)
    for index, name in enumerate(placement.tolerates):
        if flaw := name_flaw(name):
            yield Flaw(f"{at}.tolerates[{index}]", flaw)


def order_flaws(spec: ServiceSpec) -> Iterator[Flaw]:
    """Find what is wrong with the service's turn among others, and with its gang."""
    if not -PRIORITY_MAX <= spec.priority <= PRIORITY_MAX:
        yield Flaw("priority", f"must be {-PRIORITY_MAX} to {PRIORITY_MAX}, is {spec.priority}")
    if not 0 <= spec.max_unavailable <= REPLICAS_MAX:
        said = f"must be 0 to {REPLICAS_MAX}, is {spec.max_unavailable}"
        yield Flaw("budget.max_unavailable", said)
    if spec.gang and (flaw := name_flaw(spec.gang)):
        yield Flaw("gang", flaw)
    elif spec.gang and spec.stack and not spec.gang.startswith(f"{spec.stack}_"):
        yield Flaw("gang", f"must begin with its stack's name, {spec.stack}_")
    if spec.mode.is_global:
        if spec.gang:
            yield Flaw("gang", _GLOBAL)
        for field in ("preferences", "prefer"):
            if getattr(spec.task.placement, field):
                yield Flaw(f"task.placement.{field}", _GLOBAL)


def _preferences(placement: Placement) -> Iterator[Flaw]:
    at = "task.placement.preferences"
    if len(placement.preferences) > PREFERENCES_MAX:
        yield Flaw(at, f"must be at most {PREFERENCES_MAX}, are {len(placement.preferences)}")
    seen: set[str] = set()
    for index, preference in enumerate(placement.preferences):
        if preference.key in seen:
            yield Flaw(f"{at}[{index}].key", f"{preference.key} is spread over already")
        seen.add(preference.key)
        yield from _refused(f"{at}[{index}].key", constraints.topology, preference.key)


def _affinity(at: str, affinity: Affinity) -> Iterator[Flaw]:
    if flaw := name_flaw(affinity.service):
        yield Flaw(f"{at}.service", flaw)
    yield from _refused(f"{at}.topology", constraints.topology, affinity.topology)
    yield from _weight(f"{at}.weight", affinity.weight, least=0)


def _refused(at: str, parse: Callable[[str], object], text: str) -> Iterator[Flaw]:
    try:
        parse(text)
    except InvalidError as error:
        yield Flaw(at, str(error))


def _few(at: str, wishes: Sequence[object]) -> Iterator[Flaw]:
    if len(wishes) > WISHES_MAX:
        yield Flaw(at, f"must be at most {WISHES_MAX}, are {len(wishes)}")


def _weight(at: str, weight: int, *, least: int) -> Iterator[Flaw]:
    if not least <= weight <= WEIGHT_MAX:
        yield Flaw(at, f"must be {least} to {WEIGHT_MAX}, is {weight}")
