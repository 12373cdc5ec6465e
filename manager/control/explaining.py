"""Explanations of single tasks in words for people. Pure.

The scheduler says what each node lacks, which single changes would help, and by which terms it
compares the nodes that would do (``scheduler.explain``); here that becomes sentences.
"""

from dataclasses import dataclass

from cluster.model import NodeId
from scheduler import Explanation, Verdict

# Fixes beyond the smallest few are the same idea for other nodes.
FIXES_TOLD_MAX = 5

# What the terms of a node's rank count; of each the smaller is the better. See ``scheduler.rank``.
_TERMS = {
    "failing": "failures there of late",
    "beyond": "replicas beyond the share of one node",
    "missed": "weight of wishes that are not met",
    "empty": "empty node to be opened",
    "leftover": "room left over, and how lopsidedly",
    "replicas": "replicas of the service there",
    "tasks": "tasks there",
    "image": "image to be fetched first",
}
_SPREAD = "spread "
_SPREAD_TOLD = "replicas in its place by spread preference "


@dataclass(frozen=True, slots=True)
class Told:
    """What there is to say beside each node's own verdict; empty where there is nothing.

    Attributes:
        nearest: of a task that no node takes: the node which is the least short of it.
        fixes: for such a task: single changes each of which would place it, the smallest first.
        preference: why its node comes before the others, or would not any more.
    """

    nearest: str = ""
    fixes: tuple[str, ...] = ()
    preference: str = ""


def told(explanation: Explanation, node_id: NodeId) -> Told:
    """Return the sentences on one task.

    Args:
        explanation: of the task as if it had no place.
        node_id: where it is bound; empty if nowhere.
    """
    if explanation.defects:
        return Told()
    fixes = tuple(str(fix) for fix in explanation.fixes[:FIXES_TOLD_MAX])
    nearest = ""
    if explanation.chosen is None and explanation.nearest is not None:
        nearest = str(explanation.nearest)
    return Told(nearest, fixes, _preference(explanation, node_id))


def _preference(explanation: Explanation, node_id: NodeId) -> str:
    takers = [verdict for verdict in explanation.verdicts if verdict.fits]
    own = next((each for each in explanation.verdicts if each.node_id == node_id), None)
    if own is not None and not own.fits:
        return f"it would not be placed there now: {'; '.join(map(str, own.reasons))}"
    if len(takers) < 2:  # noqa: PLR2004  one is compared with none
        return f"{takers[0].node_name} is the only node that takes it" if takers else ""
    best, second = takers[:2]
    if own is None or own is best:
        return f"{best.node_name} comes before {second.node_name}: {_decisive(best, second)}"
    return (
        f"as nodes are now, {best.node_name} would come before {own.node_name}: "
        f"{_decisive(best, own)}"
    )


def _decisive(better: Verdict, worse: Verdict) -> str:
    """Tell the first term in which two nodes differ."""
    others = dict(worse.rank)
    for name, value in better.rank:
        if value != others[name]:
            return f"{_term(name)}: {value:.4g} against {others[name]:.4g}"
    return "they are equal but for their ids"


def _term(name: str) -> str:
    if name.startswith(_SPREAD):
        return _SPREAD_TOLD + name.removeprefix(_SPREAD)
    return _TERMS.get(name, name)
