"""Moves for a better layout, for people."""

from cluster import gains
from clusterctl.answers import MovesAnswer
from clusterctl.render.table import table


def moves(answer: MovesAnswer) -> str:
    """Return a line for each move, in the order in which they are made."""
    if not answer.moves:
        return "nothing to move: no task would be better off elsewhere\n"
    rows = [
        [move.name, move.from_node, move.to_node, f"{move.gain:.3g}", gains.told(move.why)]
        for move in answer.moves
    ]
    return table(["TASK", "FROM", "TO", "GAIN", "WHY"], rows) + "\n"
