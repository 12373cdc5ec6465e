"""Why a task is where it is, or nowhere, for people."""

from clusterctl.answers import Explanation, NodeVerdict
from clusterctl.render.people import count, short
from clusterctl.render.table import facts, table

# Nodes that are listed unless all are asked for: a screen full. The first ones matter most.
NODES_SHOWN = 20


def explanation(answer: Explanation, *, every: bool) -> str:
    """Return sentences, then a table of nodes: those that would take the task come first."""
    parts = [f"{answer.summary} (task {answer.task.task.id})"]
    help_ = facts(
        [
            ("Why this node", answer.preference),
            ("Nearest", answer.nearest),
            ("What would help", "\n".join(answer.fixes)),
        ]
    )
    if help_:
        parts.append(help_)
    shown = answer.verdicts if every else answer.verdicts[:NODES_SHOWN]
    if shown:
        parts.append(_nodes(shown))
    if len(shown) < len(answer.verdicts):
        left = count(len(answer.verdicts) - len(shown), "node")
        parts.append(f"and {left} more: --all shows them")
    return "\n\n".join(parts) + "\n"


def _nodes(verdicts: tuple[NodeVerdict, ...]) -> str:
    """Return a row for each node; the terms that nodes are compared by have columns."""
    terms = list(dict.fromkeys(term.name for each in verdicts for term in each.rank))
    header = ["NODE", *(term.upper() for term in terms), "VERDICT"]
    rows = []
    for each in verdicts:
        values = {term.name: f"{term.value:.4g}" for term in each.rank}
        said = "; ".join(each.reasons) or "would take it"
        rows.append(
            [each.hostname or short(each.node_id), *(values.get(t, "") for t in terms), said]
        )
    return table(header, rows)
