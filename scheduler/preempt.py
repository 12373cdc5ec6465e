"""Preemption: whom to stop so that a task of a higher priority finds room.

Only for services that ask for it, only tasks of a lower priority, and of each service no more
than its budget allows, with those counted that are missing already. Nobody is stopped for the
sake of a task that must be near it: that would have nothing to be near. Of all sets that would
do, on whatever node, the cheapest is taken: with the lowest highest priority, then of the fewest
tasks, then of the least size.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import NamedTuple

from cluster.model import ServiceId, TaskId
from scheduler.demand import NO_SERVICE, Demand
from scheduler.dimensions import SLOTS, Amounts, shares
from scheduler.snapshot import NodeSnapshot, Snapshot

# Up to so many sets of victims on one node are looked at, every one; with more, the largest
# help is taken first, and then whoever turns out not to be needed is spared.
SETS_MAX = 4096

_NO_BUDGET = 2**31


class Price(NamedTuple):
    """What a set of victims costs; the smaller is the better.

    Attributes:
        priority: the highest among them.
        tasks: how many they are.
        size: their reservations as shares of the node.
    """

    priority: int
    tasks: int
    size: float


@dataclass(frozen=True, slots=True)
class Victims:
    """Tasks of one node that would make room: which, and what each asks for."""

    price: Price
    tasks: tuple[tuple[TaskId, Demand], ...]


class Kind(NamedTuple):
    """Tasks of one class on one node that may be stopped.

    Attributes:
        most: how many of them.
        least: how many have to go in any case.
    """

    demand: Demand
    most: int
    least: int = 0


NOBODY = Victims(Price(-(2**63), 0, 0.0), ())


class Budgets:
    """How many tasks of each service may still be taken away.

    Args:
        snapshot: the nodes.
        waiting: tasks of each service that have no place.
        allowances: how many may be taken, by whoever knows it; of services that are not listed
            it is worked out from the other two.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        waiting: Mapping[ServiceId, int],
        allowances: Mapping[ServiceId, int],
    ) -> None:
        self._missing = dict(waiting)
        self._taken: dict[ServiceId, int] = {}
        self._allowances = allowances
        for node in snapshot.nodes.values():
            if not node.is_alive:
                for service_id, count in node.replicas.items():
                    self._lose(service_id, count)
                continue
            for task_id in node.leaving:
                if task_id in node.tasks:
                    self._lose(node.tasks[task_id].service_id, 1)

    def left(self, demand: Demand) -> int:
        """Return how many more tasks of a class may go."""
        if demand.service_id == NO_SERVICE:
            return _NO_BUDGET
        id_ = demand.service_id
        known = self._allowances.get(id_)
        if known is None:
            known = demand.max_unavailable - self._missing.get(id_, 0)
        return max(0, known - self._taken.get(id_, 0))

    def take(self, demands: Sequence[Demand]) -> None:
        """Note that tasks of these classes are taken away."""
        for demand in demands:
            self._taken[demand.service_id] = self._taken.get(demand.service_id, 0) + 1

    def _lose(self, service_id: ServiceId, count: int) -> None:
        self._missing[service_id] = self._missing.get(service_id, 0) + count


class Preemption:
    """Looks for victims; nodes that are alike are looked at once."""

    def __init__(self, budgets: Budgets) -> None:
        self.budgets = budgets
        self.gone: set[TaskId] = set()
        self._known: dict[tuple[object, ...], tuple[Price, tuple[int, ...]] | None] = {}

    def cheapest(self, demand: Demand, node: NodeSnapshot, lacks: Amounts) -> Victims | None:
        """Return the cheapest set of tasks to stop on a node; None if there is none.

        Args:
            demand: of the task that needs room.
            node: which takes it but for lack of room or ports.
            lacks: how much has to be freed.
        """
        companions = {each.service for each in demand.affinities if each.must_be_near}
        members: dict[int, list[TaskId]] = {}
        kinds: dict[int, Kind] = {}
        for task_id, other in node.tasks.items():
            if task_id in node.leaving or task_id in self.gone:
                continue
            blocks = bool(demand.ports) and _holds_port_of(other, demand)
            makes_way = other.priority < demand.priority and other.service not in companions
            most = self.budgets.left(other) if makes_way else 0
            if not most and not blocks:
                continue
            ids = members.setdefault(id(other), [])
            ids.append(task_id)
            least = kinds[id(other)].least if id(other) in kinds else 0
            kinds[id(other)] = Kind(other, min(most, len(ids)), least + blocks)
        if not lacks and not any(kind.least for kind in kinds.values()):
            return NOBODY
        order = sorted(kinds, key=lambda each: (kinds[each].demand.priority, min(members[each])))
        found = self._counts(node, tuple(kinds[each] for each in order), lacks)
        if found is None:
            return None
        tasks = [
            (task_id, kinds[each].demand)
            for each, number in zip(order, found[1], strict=True)
            for task_id in sorted(members[each])[:number]
        ]
        return Victims(found[0], tuple(tasks))

    def take(self, victims: Victims) -> None:
        """Note that these tasks are being stopped."""
        self.budgets.take([demand for _, demand in victims.tasks])
        self.gone.update(task_id for task_id, _ in victims.tasks)
        self._known.clear()

    def _counts(
        self, node: NodeSnapshot, kinds: tuple[Kind, ...], lacks: Amounts
    ) -> tuple[Price, tuple[int, ...]] | None:
        """Return the cheapest way to take some of each kind."""
        capacity = (node.capacity.cpu_nanos, node.capacity.memory_bytes)
        key = (lacks, capacity, *((id(kind.demand), kind.most, kind.least) for kind in kinds))
        if key not in self._known:
            self._known[key] = self._search(node, kinds, dict(lacks))
        return self._known[key]

    def _search(
        self, node: NodeSnapshot, kinds: tuple[Kind, ...], lacks: dict[str, int]
    ) -> tuple[Price, tuple[int, ...]] | None:
        sizes = [shares(kind.demand.need, node.capacity) for kind in kinds]

        def priced(counts: tuple[int, ...]) -> Price:
            taken = [kind.demand.priority for kind, n in zip(kinds, counts, strict=True) if n]
            size = sum(size * number for size, number in zip(sizes, counts, strict=True))
            return Price(max(taken), sum(counts), size)

        for priority in sorted({kind.demand.priority for kind in kinds}):
            most = [kind.most if kind.demand.priority <= priority else 0 for kind in kinds]
            if any(kind.least > limit for kind, limit in zip(kinds, most, strict=True)):
                continue
            if not _covers(kinds, most, lacks):
                continue
            if prod(limit + 1 for limit in most) <= SETS_MAX:
                found = self._exact(kinds, most, lacks)
                best = min(found, key=lambda each: (priced(each), each), default=None)
            else:
                best = self._greedy(kinds, most, lacks)
            if best is not None:
                return priced(best), best
        return None

    def _exact(
        self, kinds: Sequence[Kind], most: list[int], lacks: dict[str, int]
    ) -> list[tuple[int, ...]]:
        """Return every set of the fewest tasks that would do."""
        ranges = [range(kind.least, n + 1) for kind, n in zip(kinds, most, strict=True)]
        found: list[tuple[int, ...]] = []
        for counts in sorted(product(*ranges), key=sum):
            if found and sum(counts) > sum(found[0]):
                break
            if sum(counts) and _covers(kinds, counts, lacks) and self._within(kinds, counts):
                found.append(counts)
        return found

    def _greedy(
        self, kinds: Sequence[Kind], most: list[int], lacks: dict[str, int]
    ) -> tuple[int, ...] | None:
        """Take the largest help first, then spare whoever is not needed."""
        counts = [kind.least for kind in kinds]
        while missing := dict(_remaining(kinds, counts, lacks)):
            able = [
                index
                for index, limit in enumerate(most)
                if counts[index] < limit and self._within(kinds, _plus(counts, index, 1))
            ]
            if not able:
                return None
            best = max(able, key=lambda index: (_help(kinds[index].demand, missing), -index))
            counts[best] += 1
        for index in reversed(range(len(kinds))):
            while counts[index] > kinds[index].least and _covers(
                kinds, _plus(counts, index, -1), lacks
            ):
                counts[index] -= 1
        return tuple(counts) if self._within(kinds, counts) else None

    def _within(self, kinds: Sequence[Kind], counts: Sequence[int]) -> bool:
        """Tell whether no service loses more than it may."""
        taken: dict[ServiceId, int] = {}
        for (demand, _, _), number in zip(kinds, counts, strict=True):
            taken[demand.service_id] = taken.get(demand.service_id, 0) + number
            if number and taken[demand.service_id] > self.budgets.left(demand):
                return False
        return True


def _plus(counts: list[int], index: int, number: int) -> list[int]:
    changed = list(counts)
    changed[index] += number
    return changed


def _help(other: Demand, missing: Mapping[str, int]) -> float:
    """Return how much of what is missing would be there, as shares added up."""
    given = dict(other.need) | {SLOTS: 1}
    return sum(min(given.get(name, 0), amount) / amount for name, amount in missing.items())


def _remaining(
    kinds: Sequence[Kind], counts: Sequence[int], lacks: Mapping[str, int]
) -> Iterator[tuple[str, int]]:
    """Yield what is still missing when so many of each kind are gone."""
    for name, amount in lacks.items():
        left = amount
        for kind, number in zip(kinds, counts, strict=True):
            each = 1 if name == SLOTS else dict(kind.demand.need).get(name, 0)
            left -= number * each
        if left > 0:
            yield name, left


def _covers(kinds: Sequence[Kind], counts: Sequence[int], lacks: Mapping[str, int]) -> bool:
    return next(_remaining(kinds, counts, lacks), None) is None


def _holds_port_of(other: Demand, demand: Demand) -> bool:
    return any(port.conflicts(held) for port in demand.ports for held in other.ports)
