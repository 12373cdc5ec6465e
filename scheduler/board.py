"""What is left of the nodes while a plan is being made.

The one mutable thing in the scheduler; it lives for one pass. Bookings are whole classes at a
time, kept in a journal, and can be taken back to any earlier point: gangs and batches are tried
before they are decided.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from cluster.model import Affinity, NodeId, ServiceId
from scheduler.arrays import Bools, Floats, Ints
from scheduler.demand import EVERY_ADDRESS, NO_SERVICE, Demand, HostPort
from scheduler.dimensions import Amounts
from scheduler.snapshot import Snapshot
from scheduler.table import need_columns
from scheduler.terrain import NOWHERE

# Sizes of which is remembered how they fit: waiting classes often have sizes in common, and then
# only what was booked in between is looked at. Sixteen bytes per node each.
FITS_KEPT_MAX = 64

K = TypeVar("K")
E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Booking:
    """Tasks of one class that were put somewhere.

    Attributes:
        demand: of all of them; of the first, if they only look alike to the nodes.
        sequence: the row of each task, in the order of the tasks.
        rows, counts: how many came to each row.
        services: of each task, if they differ.
    """

    demand: Demand
    sequence: Ints
    rows: Ints
    counts: Ints
    services: Sequence[ServiceId] = ()


@dataclass(frozen=True, slots=True)
class Packed:
    """Tasks of many classes that were put somewhere together.

    Attributes:
        demands: the classes.
        counts: tasks of each.
        sequence: the row of each task, class by class.
        services: of the tasks of each class, if they differ.
    """

    demands: Sequence[Demand]
    counts: Ints
    sequence: Ints
    services: Sequence[Sequence[ServiceId]]


@dataclass(frozen=True, slots=True)
class Size:
    """What a task takes of the block of columns of a board.

    Attributes:
        vector: (column, 1), of each column.
        at: the columns that it is limited by.
        amounts: (column, 1), of each of these.
    """

    vector: Ints
    at: Ints
    amounts: Ints


@dataclass(slots=True)
class Fit:
    """What tasks of one size come to on each node.

    Attributes:
        limits: how many there is room for.
        seen: bookings that are allowed for.
        leftover: what one of them would leave; None while nobody asked.
    """

    limits: Ints
    seen: int
    leftover: Floats | None = None


class Board:
    """The nodes of a snapshot and, laid over them, what the plan so far puts there.

    Args:
        snapshot: never changed.
        service_ids: of services that have no task yet, by full name; for affinities.

    Attributes:
        free: (dimension, node); may be negative where capacity has shrunk.
        slots: how many more tasks each node takes, room apart.
        task_count: tasks on each node, planned ones included.
    """

    def __init__(
        self, snapshot: Snapshot, service_ids: dict[str, tuple[ServiceId, ...]] | None = None
    ) -> None:
        self.snapshot = snapshot
        self.table = table = snapshot.table
        # One block, so that a booking is one step: free room, slots, then the tasks there are.
        self._state = np.vstack([table.free, table.slots, table.task_count])
        self.free, self.slots, self.task_count = self._state[:-2], self._state[-2], self._state[-1]
        self._service_ids = service_ids or {}
        self._journal: list[Booking | Packed] = []
        self._planned: dict[ServiceId, list[tuple[Ints, Ints]]] = {}
        self._single: dict[ServiceId, int] = {}
        self._repelling: list[tuple[Demand, Ints, Ints]] = []
        self._ports: dict[tuple[int, str], list[tuple[str, Ints]]] = {}
        self._settled: dict[str, int] = {}
        self._allowed: dict[tuple[object, ...], Ints] = {}
        self._fits: dict[Amounts, Fit] = {}
        self._sizes: dict[Amounts, Size] = {}
        self._touched: list[Ints] = []

    # --- what stands ---------------------------------------------------------------------------

    def allowed(self, demand: Demand) -> Ints:
        """Return the rows of the nodes that are open and suit *demand* by their description."""
        rows = self._allowed.get(demand.terrain)
        if rows is None:
            table = self.table
            rows = np.flatnonzero(table.is_open & table.terrain.suits(demand))
            self._allowed[demand.terrain] = rows
        return rows

    def limits(self, need: Amounts) -> Ints | None:
        """Return how many tasks of a size each node has room for; None if no node ever has.

        It may be less than 1 where there is none.
        """
        fit = self._fit(need)
        return None if fit is None else fit.limits

    def leftover(self, need: Amounts) -> Floats:
        """Return ``leftover_at`` for every node and one task; where it does not fit, anything."""
        fit = self._fit(need)
        assert fit is not None, "asked only of sizes that fit somewhere"
        if fit.leftover is None:
            fit.leftover = self.leftover_at(need, slice(None), 1)
        return fit.leftover

    def leftover_at(self, need: Amounts, rows: Ints | slice, tasks: Ints | int) -> Floats:
        """Return the sum of squares of what is left of nodes after some tasks of a size.

        As shares of the nodes, over all dimensions.
        """
        free, per_unit = self.free, self.table.per_unit
        if not isinstance(rows, slice):
            free, per_unit = free.take(rows, axis=1), per_unit.take(rows, axis=1)
        shares = (free - self._size(need).vector[:-2] * tasks) * per_unit
        shares *= shares
        return _added_up(shares)

    def has_tasks_of(self, service_id: ServiceId) -> bool:
        """Tell whether any node has a task of the service, planned ones included."""
        return (
            service_id in self.table.replicas
            or service_id in self._planned
            or service_id in self._single
        )

    def replicas_or_none(self, service_id: ServiceId) -> Ints | None:
        """Return ``replicas``, or None if there are none anywhere; tasks of no service are none."""
        if service_id == NO_SERVICE or not self.has_tasks_of(service_id):
            return None
        return self.replicas(service_id)

    def replicas(self, service_id: ServiceId) -> Ints:
        """Return the tasks of a service on each node, planned ones included."""
        column = self.table.column(self.table.replicas.get(service_id, {}))
        for rows, counts in self._planned.get(service_id, ()):
            column[rows] += counts
        if service_id in self._single:
            column[self._single[service_id]] += 1
        return column

    def replicas_by_name(self, service: str) -> Ints:
        """Return the tasks on each node of the service with that full name."""
        known = self.snapshot.service_ids.get(service, ())
        planned = self._service_ids.get(service, ())
        ids = {*known, *planned} or {ServiceId(service)}
        columns = [self.replicas(id_) for id_ in sorted(ids) if self.has_tasks_of(id_)]
        return sum(columns, start=np.zeros(len(self.table), dtype=np.int64))

    def repels(self, demand: Demand) -> Bools | None:
        """Return where *demand* is not wanted by tasks that must be apart from its service.

        That its own service's tasks must be apart is its own affinity, not counted here.
        """
        if not demand.service or not (self.table.repels or self._repelling):
            return None
        own = [each.topology for each in demand.affinities if is_must_part(each, demand.service)]
        refused: list[Bools] = []
        for (service, topology, by), by_node in self.table.repels.items():
            if service == demand.service and not (by == demand.service_id and topology in own):
                refused.append(self._around(topology, self.table.column(by_node)))
        for other, rows, counts in self._repelling:
            for affinity in other.affinities:
                is_own = other.service_id == demand.service_id and affinity.topology in own
                if is_must_part(affinity, demand.service) and not is_own:
                    column = np.zeros(len(self.table), dtype=np.int64)
                    column[rows] = counts
                    refused.append(self._around(affinity.topology, column))
        return np.logical_or.reduce(refused) if refused else None

    def near(self, service: str, topology: str) -> Bools:
        """Return the nodes in whose place (by *topology*) there is a task of the service."""
        return self._around(topology, self.replicas_by_name(service))

    def port_taken(self, port: HostPort) -> Bools:
        """Return where a task holds a port that *port* conflicts with."""
        key = (port.port, port.protocol)
        mask = self.table.mask(
            id_
            for id_, addresses in self.table.ports.get(key, {}).items()
            if _overlaps(port.address, addresses)
        )
        for address, rows in self._ports.get(key, ()):
            if _overlaps(port.address, (address,)):
                mask[rows] = True
        return mask

    def home(self, volume: str) -> Bools | None:
        """Return the nodes that a bound volume lives on; None if it lives nowhere yet."""
        by_node = self.table.volumes.get(volume)
        if by_node:
            return self.table.mask(by_node)
        row = self._settled.get(volume)
        if row is None:
            return None
        mask = np.zeros(len(self.table), dtype=np.bool_)
        mask[row] = True
        return mask

    @property
    def settled(self) -> dict[str, NodeId]:
        """Where volumes came to live in this plan."""
        return {volume: self.table.ids[row] for volume, row in self._settled.items()}

    # --- what is planned -----------------------------------------------------------------------

    def book(self, demand: Demand, sequence: Ints, services: Sequence[ServiceId] = ()) -> None:
        """Put a task of *demand* on each row of *sequence*, whether or not it fits."""
        if len(sequence) == 1:
            rows, counts = sequence, np.ones(1, dtype=np.int64)
        else:
            per_row = np.bincount(sequence, minlength=len(self.table))
            rows = per_row.nonzero()[0]
            counts = per_row[rows]
        self._enter(Booking(demand, sequence, rows, counts, services), 1)

    def book_packed(self, packed: Packed) -> None:
        """Put tasks of many classes, which ask for nothing but room, on their rows."""
        self._enter_packed(packed, 1)

    def mark(self) -> int:
        """Return this point, for ``undo``."""
        return len(self._journal)

    def undo(self, mark: int) -> None:
        """Take back every booking since *mark*."""
        while len(self._journal) > mark:
            last = self._journal[-1]
            if isinstance(last, Packed):
                self._enter_packed(last, -1)
            else:
                self._enter(last, -1)

    def set_aside(self, row: int, amounts: Mapping[str, int]) -> dict[str, int]:
        """Take room out of what is left for others; return how much there was of it."""
        taken: dict[str, int] = {}
        for name, amount in amounts.items():
            index = self.table.dimensions.get(name)
            column = self.slots if index is None else self.free[index]
            taken[name] = max(0, min(amount, int(column[row])))
            column[row] -= taken[name]
        self._touched.append(np.array([row], dtype=np.int64))
        return taken

    def _size(self, need: Amounts) -> "Size":
        """Return a size as columns; its dimensions are those of the table."""
        size = self._sizes.get(need)
        if size is None:
            needs = self.table.needs(need) or ()
            vector = np.zeros((len(self._state), 1), dtype=np.int64)
            vector[[index for index, _ in needs], 0] = [amount for _, amount in needs]
            vector[-2:, 0] = 1, -1  # a slot less, a task more
            at = [*(index for index, _ in needs), len(self.free)]
            size = Size(vector, np.array(at), vector[at])
            if len(self._sizes) >= FITS_KEPT_MAX:
                self._sizes.clear()
            self._sizes[need] = size
        return size

    def _fit(self, need: Amounts) -> "Fit | None":
        """Return what is known of a size, brought up to date where something was booked."""
        fit = self._fits.get(need)
        if fit is None:
            if self.table.needs(need) is None:
                return None
            if len(self._fits) >= FITS_KEPT_MAX:
                del self._fits[next(iter(self._fits))]
            limits = self._limits(need, slice(None))
            fit = self._fits[need] = Fit(limits, len(self._touched))
            return fit
        if fit.seen == len(self._touched):
            return fit
        stale = self._touched[fit.seen :]
        fit.seen = len(self._touched)
        rows = stale[0] if len(stale) == 1 else np.concatenate(stale)
        if 2 * len(rows) > len(self.table):
            fit.limits, fit.leftover = self._limits(need, slice(None)), None
            return fit
        fit.limits[rows] = self._limits(need, rows)
        if fit.leftover is not None:
            fit.leftover[rows] = self.leftover_at(need, rows, 1)
        return fit

    def _limits(self, need: Amounts, rows: Ints | slice) -> Ints:
        size = self._size(need)
        if isinstance(rows, slice):
            each = self._state[size.at]
        else:
            each = self._state[size.at[:, None], rows]
        each //= size.amounts
        limits: Ints = np.minimum.reduce(each)
        return limits

    def _enter(self, booking: Booking, sign: int) -> None:
        rows, counts = booking.rows, booking.counts
        vector = self._size(booking.demand.need).vector
        if sign > 0:
            self._state[:, rows] -= vector * counts
            self._journal.append(booking)
        else:
            self._state[:, rows] += vector * counts
            self._journal.pop()
        self._touched.append(rows)
        self._note(booking, sign)

    def _enter_packed(self, packed: Packed, sign: int) -> None:
        table, rows = self.table, packed.sequence
        needs = need_columns([demand.need for demand in packed.demands], list(table.dimensions))
        for index, amounts in enumerate(needs):
            if amounts.any():
                np.subtract.at(self.free[index], rows, sign * np.repeat(amounts, packed.counts))
        per_row = np.bincount(rows, minlength=len(table))
        self._touched.append(np.flatnonzero(per_row))
        self.slots -= sign * per_row
        self.task_count += sign * per_row
        end = 0
        for demand, count, services in zip(
            packed.demands, packed.counts.tolist(), packed.services, strict=True
        ):
            here, end = rows[end : end + count], end + count
            if services and sign > 0:
                self._single.update(zip(services, here.tolist(), strict=True))
            elif services:
                for service_id in services:
                    del self._single[service_id]
            elif demand.service_id != NO_SERVICE:
                entry = np.unique(here, return_counts=True)
                _push(self._planned, demand.service_id, entry, sign)
        if sign > 0:
            self._journal.append(packed)
        else:
            self._journal.pop()

    def _note(self, booking: Booking, sign: int) -> None:
        """Keep, or forget, what later classes may ask for."""
        demand, rows, counts = booking.demand, booking.rows, booking.counts
        if booking.services and sign > 0:
            self._single.update(zip(booking.services, booking.sequence.tolist(), strict=True))
        elif booking.services:
            for service_id in booking.services:
                del self._single[service_id]
        elif demand.service_id != NO_SERVICE:
            _push(self._planned, demand.service_id, (rows, counts), sign)
        for port in demand.ports:
            _push(self._ports, (port.port, port.protocol), (port.address, rows), sign)
        if any(is_must_part(affinity, affinity.service) for affinity in demand.affinities):
            if sign > 0:
                self._repelling.append((demand, rows, counts))
            else:
                self._repelling.pop()
        for volume in demand.volumes:
            if sign > 0 and volume not in self.table.volumes:
                self._settled.setdefault(volume, int(booking.sequence[0]))
            elif sign < 0 and not any(volume in each.volumes for each in self._bound()):
                self._settled.pop(volume, None)

    def _bound(self) -> Iterator[Demand]:
        """Yield the classes that are booked one by one; only such have bound volumes."""
        return (each.demand for each in self._journal if isinstance(each, Booking))

    def _around(self, topology: str, column: Ints) -> Bools:
        """Return the nodes in a place in which *column* counts something."""
        places = self.table.terrain.places(topology)
        full = np.bincount(places, weights=column) > 0
        return full[places] & (places > NOWHERE)


def is_must_part(affinity: Affinity, service: str) -> bool:
    """Tell whether it is that the task must be apart from a service."""
    return affinity.anti and not affinity.weight and affinity.service == service


def _added_up(rows: Floats) -> Floats:
    """Add up rows, always in the same order, so that equal nodes get equal sums."""
    total: Floats = rows[0].copy()
    for row in rows[1:]:
        total += row
    return total


def _overlaps(address: str, held: Sequence[str]) -> bool:
    if address == EVERY_ADDRESS:
        return bool(held)
    return EVERY_ADDRESS in held or address in held


def _push(entries: dict[K, list[E]], key: K, entry: E, sign: int) -> None:
    """Append an entry, or take the last one back."""
    if sign > 0:
        entries.setdefault(key, []).append(entry)
    else:
        entries[key].pop()
        if not entries[key]:
            del entries[key]
