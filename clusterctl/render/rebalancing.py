"""Moves for a better layout, for people."""

from clusterctl.answers import MovesAnswer
from clusterctl.render.table import table

# What a term of a task's rank means to whom it may concern.
_TERMS = {
    "failing": "fails again and again there",
    "spread": "spread more evenly",
    "beyond": "its node has more than its share",
    "missed": "wishes are met",
    "replicas": "fewer of its service there",
}


def moves(answer: MovesAnswer) -> str:
    """Return a line for each move, in the order in which they are made."""
    if not answer.moves:
        return "nothing to move: no task would be better off elsewhere\n"
    rows = [
        [move.name, move.from_node, move.to_node, f"{move.gain:.3g}", why(move.why)]
        for move in answer.moves
    ]
    return table(["TASK", "FROM", "TO", "GAIN", "WHY"], rows) + "\n"


def why(term: str) -> str:
    """Return the words for what makes a move pay."""
    return _TERMS.get(term.split(maxsplit=1)[0], term)
