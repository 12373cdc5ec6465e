"""How far moves for a better layout are.

A move is made when its task is gone from where it was and another runs in its place. It was given
up when the leader says so, and why. Nothing fails before all of them have come to an end.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from cluster.lifecycle import live, occupies, wanted
from cluster.model import AskedMove, Cluster, MoveState, TaskId, TaskState
from clusterctl.answers import PlannedMove
from clusterctl.replicas import REASONS_MAX, Progress, runs
from clusterctl.view import View

MOVED = "moved"

_GIVEN_UP = "given up"
_UNSEEN = "not seen yet"


@dataclass(frozen=True, slots=True)
class Rebalanced:
    """Goal: the moves that were asked for are made, or given up.

    Attributes:
        cluster: as it was stored with them.
        moves: that are in it.
    """

    cluster: Cluster
    moves: tuple[PlannedMove, ...]


def progress_of_moves(view: View, goal: Rebalanced) -> Iterator[Progress]:
    """Yield how far the moves of each service are."""
    seen = view.cluster if view.cluster and view.cluster.version >= goal.cluster.version else None
    record = {move.task_id: move for move in seen.moves} if seen else None
    stands = {move.task_id: _stand(view, record, move) for move in goal.moves}
    is_over = all(stand in (MOVED, _GIVEN_UP) for stand in stands.values())
    for name in dict.fromkeys(_service(move) for move in goal.moves):
        moves = [move for move in goal.moves if _service(move) == name]
        words: dict[str, int] = {}
        for move in moves:
            word = stands[move.task_id]
            words[word] = words.get(word, 0) + 1
        moved = words.pop(MOVED, 0)
        stay = [move for move in moves if stands[move.task_id] == _GIVEN_UP]
        yield Progress(
            name,
            moved,
            len(moves),
            done=moved == len(moves),
            doing=tuple(words.items()),
            waiting=tuple(_waiting(view, moves))[:REASONS_MAX],
            failure=_failure(stay, record or {}) if is_over else "",
            verb=MOVED,
        )


def _service(move: PlannedMove) -> str:
    return move.name.rpartition(".")[0]


def _stand(view: View, record: Mapping[TaskId, AskedMove] | None, move: PlannedMove) -> str:
    if record is None:
        return _UNSEEN
    known = record.get(move.task_id)
    if known is not None and known.state is MoveState.GIVEN_UP:
        return _GIVEN_UP
    task = view.tasks.get(move.task_id)
    if task is not None and live(task):
        return "moving" if task.moving else "to be moved"
    if task is not None and occupies(task):
        return "stopping"
    return MOVED if _is_taken_over(view, move) else "starting"


def _is_taken_over(view: View, move: PlannedMove) -> bool:
    """Tell whether another task runs in the place, or nobody wants one there any more."""
    name, _, slot = move.name.rpartition(".")
    service = next((each for each in view.services.values() if each.spec.name == name), None)
    if service is None:
        return True
    place = [task for task in view.tasks_of(service.id) if str(task.slot) == slot and wanted(task)]
    return not place or any(runs(view, task) for task in place)


def _waiting(view: View, moves: Iterable[PlannedMove]) -> Iterator[tuple[str, str]]:
    """Yield the successors that find no room where they are to go, and why."""
    for move in moves:
        task = view.tasks.get(move.task_id)
        if task is None or not task.moving:
            continue
        for heir in view.tasks_of(task.service_id):
            is_next = heir.slot == task.slot and heir.created_at > task.created_at and live(heir)
            if is_next and heir.status.state <= TaskState.PENDING and heir.status.error:
                yield move.name, f"cannot be placed on {move.to_node}: {heir.status.error}"


def _failure(stay: list[PlannedMove], record: Mapping[TaskId, AskedMove]) -> str:
    if not stay:
        return ""
    told = [
        f"{move.name} stays on {move.from_node}: {record[move.task_id].message}"
        for move in stay[:REASONS_MAX]
    ]
    more = [f"and {len(stay) - REASONS_MAX} more stay"] if len(stay) > REASONS_MAX else []
    return "; ".join([*told, *more])
