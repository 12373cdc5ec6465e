"""Filling: where all tasks of one class go, as if each had looked at every node in its turn.

Each task goes to the node of the smallest rank, which changes that node, and so on. What comes
of that for a whole class is worked out at once:

* packing: a task makes its node a still better fit for the next one, so nodes are filled one
  after the other, in the order of their ranks, up to the share of the service;
* beyond the share, and by count: the replicas on a node are the first term, and each task adds
  one; so nodes are served in turns, all those on the lowest level before any on the next;
* spread: branches are served in turns just the same, and within each its own nodes.

A property test holds it to what a look at all nodes for each single task gives.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cluster.model import Affinity, ServiceId, Strategy
from scheduler.arrays import Floats, Ints
from scheduler.board import Board
from scheduler.demand import Demand
from scheduler.filters import PASSING
from scheduler.rank import Ranks, share_of
from scheduler.terrain import in_groups, starts_of
from scheduler.turns import occurrences, quotas_of, runs, sums_before

# The best of this many nodes are put in order first; they often suffice.
FIRST_NODES = 32


class Candidates(NamedTuple):
    """Nodes that take at least one task, and how many each."""

    rows: Ints
    limits: Ints


class Entries(NamedTuple):
    """Tasks in order: the candidate each goes to, and how many went there before it."""

    at: Ints
    further: Ints


def choose(
    board: Board,
    demand: Demand,
    count: int,
    strategy: Strategy,
    services: Sequence[ServiceId] = (),
) -> Ints:
    """Book up to *count* tasks of a class; return their rows, in order, as far as there is room.

    Args:
        board: booked on.
        demand: of each task.
        count: of tasks.
        strategy: of a demand that does not say.
        services: of each task, if they differ.
    """
    share = share_of(board, board.replicas_or_none(demand.service_id), count)
    parts: list[Ints] = []
    left = count
    while left:
        found = candidates(board, demand, left)
        if not len(found.rows):
            break
        ranks = Ranks(board, demand, found.rows, share, strategy)
        number = 1 if is_restless(board, demand, ranks) else left
        at, limits = np.arange(len(found.rows)), found.limits
        if number > 1:
            at, limits = _apart(board, demand, ranks, limits)
        entries = fill(ranks, at, limits, number)
        sequence = found.rows[entries.at]
        board.book(demand, sequence, services[: len(sequence)])
        parts.append(sequence)
        left -= len(sequence)
        if number > 1:
            break
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def candidates(board: Board, demand: Demand, count: int) -> Candidates:
    """Return the nodes that take a task now, and how many of *count*."""
    rows = board.allowed(demand)
    room = board.limits(demand.need)
    if room is None:
        return Candidates(rows[:0], rows[:0])
    limits = np.minimum(room if len(rows) == len(board.table) else room[rows], count)
    if demand.max_replicas_per_node:
        here = board.replicas_or_none(demand.service_id)
        left = demand.max_replicas_per_node - (0 if here is None else here[rows])
        np.minimum(limits, left, out=limits)
    if demand.ports:
        np.minimum(limits, 1, out=limits)
    for refuses in PASSING:
        for refusal in refuses(demand, board):
            limits[refusal.nodes[rows]] = 0
    takes = limits > 0
    if takes.all():
        return Candidates(rows, limits)
    return Candidates(rows[takes], limits[takes])


def is_restless(board: Board, demand: Demand, ranks: Ranks) -> bool:
    """Tell whether the next task may change what other nodes are to the one after it."""
    if any(board.home(volume) is None for volume in demand.volumes):
        return True
    parts = _own_musts(demand)
    if len(parts) > 1 or (parts and ranks.spread):
        return True
    for affinity in demand.affinities:
        if affinity.service == demand.service and affinity not in parts:
            places = board.table.terrain.places(affinity.topology)[ranks.rows]
            near = board.near(affinity.service, affinity.topology)[ranks.rows]
            if not near[places > 0].all():
                return True
    return False


def _own_musts(demand: Demand) -> list[Affinity]:
    """Return what keeps the tasks of the class apart from each other."""
    own = (affinity for affinity in demand.affinities if affinity.service == demand.service)
    return [affinity for affinity in own if affinity.anti and not affinity.weight]


def _apart(board: Board, demand: Demand, ranks: Ranks, limits: Ints) -> tuple[Ints, Ints]:
    """Return the candidates that take part, and the limits, if the tasks must be apart.

    Of a place that takes only one of them, the best node stands for all.
    """
    at = np.arange(len(ranks.rows))
    for affinity in _own_musts(demand):  # there is one at most: see ``is_restless``
        places = board.table.terrain.places(affinity.topology)[ranks.rows]
        limits = np.where(places > 0, np.minimum(limits, 1), limits)
        terms = [ranks.term(name, at) for name in reversed(ranks.names)]
        order = np.lexsort([*terms, *([] if ranks.failing is None else [ranks.failing])])
        _, first = np.unique(places[order], return_index=True)
        keep = places == 0
        keep[order[first]] = True
        at = np.flatnonzero(keep)
    return at, limits


def fill(ranks: Ranks, at: Ints, limits: Ints, count: int) -> Entries:
    """Return where up to *count* tasks go.

    Args:
        ranks: of the candidates.
        at: which of them take part.
        limits: by candidate: how many it takes.
        count: of tasks.
    """
    if count == 1:
        return Entries(_best(ranks, at), np.zeros(1, dtype=np.int64))
    if ranks.failing is None:
        return _spread(ranks, at, limits, count, 0)
    parts: list[Entries] = []
    for failures in np.unique(ranks.failing[at]).tolist():
        part = _spread(ranks, at[ranks.failing[at] == failures], limits, count, 0)
        parts.append(part)
        count -= len(part.at)
        if not count:
            break
        ranks.count_in(part.at)
    return _joined(parts)


def _best(ranks: Ranks, at: Ints) -> Ints:
    """Return the one candidate with the smallest rank."""
    if ranks.failing is not None:
        at = _smallest(at, ranks.failing[at])
    for level in ranks.spread:
        at = _smallest(at, level.counts[level.codes[at]])
    for name in ranks.names:
        if len(at) == 1:
            break
        at = _smallest(at, ranks.term(name, at))
    return at[:1]


def _smallest(at: Ints, term: Ints | Floats) -> Ints:
    smallest: Ints = at[term == term.min()]
    return smallest


# --- in turns ---------------------------------------------------------------------------------


def _spread(ranks: Ranks, at: Ints, limits: Ints, count: int, depth: int) -> Entries:
    """Serve branches in turns, the one with the fewest tasks first."""
    if depth == len(ranks.spread):
        return _nodes(ranks, at, limits, count)
    if len(ranks.spread) == 1 and len(at) == len(ranks.rows):
        found = _over_used(ranks, limits, count)
        if found is not None:
            return found
    counts = ranks.spread[depth].counts
    members, branches, starts = _by_branch(ranks, at, depth)
    room = np.add.reduceat(np.minimum(limits[members], count), starts)
    levels = counts[branches]
    quotas, top = quotas_of(levels, np.minimum(room, count), count)
    wanted = quotas + ((levels <= top) & (levels + room > top))
    entries = _inside(ranks, members, limits, starts=starts, wanted=wanted, depth=depth)
    level = np.repeat(levels, wanted) + runs(wanted)
    deeper = [_levels(ranks, entries, below) for below in range(depth + 1, len(ranks.spread))]
    return _in_order(ranks, entries, [level, *deeper], count)


def _over_used(ranks: Ranks, limits: Ints, count: int) -> Entries | None:
    """Do as ``_spread`` does for a packed class, if one node in use in each branch suffices.

    It often does, and then only nodes in use have to be looked at.
    """
    level = ranks.spread[0]
    if ranks.names[-2:] != ["empty", "leftover"] or ranks.missed is not None:
        return None
    used = ranks.tasks.nonzero()[0]
    codes = level.codes[used]
    order = np.lexsort((ranks.leftover(used), codes))
    codes = codes[order]
    first = starts_of(codes)
    if len(first) < level.branch_count(is_all=ranks.is_all):
        return None  # in one of them no node is in use
    best, levels = used[order[first]], level.counts[codes[first]]
    quotas, top = quotas_of(levels, np.full(len(best), count), count)
    wanted = quotas + (levels <= top)
    if (_within(ranks, best, limits) < wanted).any():
        return None
    at, further = best.repeat(wanted), runs(wanted)
    turn = levels.repeat(wanted) + further
    order = np.lexsort((at, ranks.leftover(at, further), turn))[:count]
    return Entries(at[order], further[order])


def _by_branch(ranks: Ranks, at: Ints, depth: int) -> tuple[Ints, Ints, Ints]:
    """Return candidates by branch, the branch of each, and where each branch begins."""
    level = ranks.spread[depth]
    if ranks.is_all and len(at) == len(ranks.rows):
        order, starts = level.branches.order, level.branches.starts
        return order, level.codes[order[starts]], starts
    inside = level.codes[at]
    order = in_groups(inside)
    starts = starts_of(inside[order])
    return at[order], inside[order[starts]], starts


def _inside(
    ranks: Ranks, members: Ints, limits: Ints, *, starts: Ints, wanted: Ints, depth: int
) -> Entries:
    """Place as many tasks in each branch as it is to have.

    Args:
        ranks: of the candidates.
        members: candidates by branch.
        limits: by candidate.
        starts: where each branch begins in *members*.
        wanted: tasks of each branch.
        depth: of the branches.
    """
    if depth + 1 == len(ranks.spread) and ranks.names[-2:] == ["empty", "leftover"]:
        best = _best_of_each(ranks, members, starts)
        if ranks.missed is None and (_within(ranks, best, limits) >= wanted).all():
            return Entries(np.repeat(best, wanted), runs(wanted))
    parts = [
        _spread(ranks, branch, limits, number, depth + 1)
        for branch, number in zip(np.split(members, starts[1:]), wanted.tolist(), strict=True)
        if number
    ]
    return _joined(parts)


def _best_of_each(ranks: Ranks, members: Ints, starts: Ints) -> Ints:
    """Return, of each branch, the node that is packed first if no share stands in the way."""
    leftover = ranks.leftover(members)
    sizes = np.append(starts[1:], len(members)) - starts
    used = np.where(ranks.tasks[members] == 0, np.inf, leftover)
    least = np.minimum.reduceat(used, starts)
    none_used = np.isinf(least)
    if none_used.any():
        least = np.where(none_used, np.minimum.reduceat(leftover, starts), least)
        used = np.where(np.repeat(none_used, sizes), leftover, used)
    hits = np.flatnonzero(used == np.repeat(least, sizes))
    best: Ints = members[hits[np.searchsorted(hits, starts)]]
    return best


def _levels(ranks: Ranks, entries: Entries, depth: int) -> Ints:
    """Return how many tasks the branch of each entry had at *depth* when it came."""
    level = ranks.spread[depth]
    inside = level.codes[entries.at]
    return level.counts[inside] + occurrences(inside)


def _nodes(ranks: Ranks, at: Ints, limits: Ints, count: int) -> Entries:
    """Place tasks of one class on nodes of one branch."""
    if ranks.packs:
        return _packed(ranks, at, limits, count)
    if ranks.missed is None:
        return _in_turns(ranks, at, limits[at], count, 0)
    # What is wished for comes first, but not beyond the share.
    within = _within(ranks, at, limits)
    parts: list[Entries] = []
    for missed in np.unique(ranks.missed[at]).tolist():
        tier = ranks.missed[at] == missed
        part = _in_turns(ranks, at[tier], within[tier], count, 0)
        parts.append(part)
        count -= len(part.at)
        if not count:
            return _joined(parts)
    rest = limits[at] - within
    parts.append(_in_turns(ranks, at, rest, count, within))
    return _joined(parts)


def _packed(ranks: Ranks, at: Ints, limits: Ints, count: int) -> Entries:
    """Fill nodes one after the other, up to the share; then serve them in turns."""
    within = _within(ranks, at, limits)
    order = _order(ranks, at, within, count)
    asked = within[order]
    taken = np.minimum(asked, np.maximum(count - sums_before(asked), 0))
    full = Entries(np.repeat(at[order], taken), runs(taken))
    left = count - len(full.at)
    if not left:
        return full
    rest = limits[at] - within
    if not rest.any():
        return full
    return _joined([full, _in_turns(ranks, at, rest, left, within)])


def _within(ranks: Ranks, at: Ints, limits: Ints) -> Ints:
    """Return how many tasks some candidates take before they hold the share of the service."""
    if not ranks.counts:
        return limits[at]
    room = ranks.share if ranks.replicas is None else ranks.share - ranks.replicas[at]
    return np.minimum(limits[at], np.maximum(room, 0))


def _order(ranks: Ranks, at: Ints, within: Ints, count: int) -> Ints:
    """Return the order in which nodes are filled; without those that are not needed."""
    names = [name for name in ranks.names if name != "beyond"]
    if names != ["empty", "leftover"]:
        takers = np.flatnonzero(within > 0)
        return takers[np.lexsort([ranks.term(name, at[takers]) for name in reversed(names)])]
    tasks = ranks.tasks[at] if len(at) < len(ranks.tasks) else ranks.tasks
    parts: list[Ints] = []
    for is_empty in (False, True):
        part = np.flatnonzero(tasks == 0) if is_empty else np.flatnonzero(tasks)
        part = part[within[part] > 0]
        if len(part) and count > 0:
            parts.append(part[_sorted(ranks.leftover(at[part]), within[part], count)])
            count -= int(within[parts[-1]].sum())
        if count <= 0:
            break
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def _sorted(leftover: Floats, limits: Ints, count: int) -> Ints:
    """Return the order of nodes by *leftover*; as many as are needed to take *count* tasks."""
    if len(leftover) > 2 * FIRST_NODES:
        bound = np.partition(leftover, FIRST_NODES)[FIRST_NODES]
        first = np.flatnonzero(leftover <= bound)
        if int(limits[first].sum()) >= count:
            return first[np.argsort(leftover[first], kind="stable")]
    return np.argsort(leftover, kind="stable")


def _in_turns(ranks: Ranks, at: Ints, limits: Ints, count: int, further: Ints | int) -> Entries:
    """Serve nodes in turns, the one with the fewest replicas first.

    Args:
        ranks: of the candidates.
        at: which of them take part.
        limits: how many more each of these takes.
        count: of tasks.
        further: tasks of the class that each of these got before.
    """
    level = (ranks.level()[at] if ranks.counts else ranks.tasks[at]) + further
    quotas, top = quotas_of(level, np.minimum(limits, count), count)
    wanted = quotas + ((level <= top) & (level + limits > top))
    if ranks.packs:
        chosen = np.repeat(np.arange(len(at)), wanted)
        turn = runs(wanted)
        before = further[chosen] if isinstance(further, np.ndarray) else further
        return _in_order(ranks, Entries(at[chosen], before + turn), [level[chosen] + turn], count)
    # By count the nodes on one level are in the same order on each: sort them, not the tasks.
    terms: list[Ints | Floats] = [at, ranks.tasks[at] - (level - further)]
    if ranks.images is not None:
        terms.insert(1, ranks.images[at])
    if ranks.missed is not None:
        terms.append(ranks.missed[at])
    order = np.lexsort(terms)
    chosen = np.repeat(order, wanted[order])
    turn = runs(wanted[order])
    by_level = in_groups(level[chosen] + turn - int(level.min(initial=0)))[:count]
    chosen, turn = chosen[by_level], turn[by_level]
    before = further[chosen] if isinstance(further, np.ndarray) else further
    return Entries(at[chosen], before + turn)


def _in_order(ranks: Ranks, entries: Entries, levels: list[Ints], count: int) -> Entries:
    """Put tasks in the order in which they find their places, and take the first *count*."""
    at, further = entries
    terms = [ranks.term(name, at, further) for name in ranks.names_of(at, further)]
    order = np.lexsort([at, *reversed(terms), *reversed(levels)])[:count]
    return Entries(at[order], further[order])


def _joined(parts: list[Entries]) -> Entries:
    if len(parts) == 1:
        return parts[0]
    nothing = [np.zeros(0, dtype=np.int64)]
    return Entries(
        np.concatenate([part.at for part in parts] or nothing),
        np.concatenate([part.further for part in parts] or nothing),
    )
