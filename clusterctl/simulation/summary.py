"""A simulation's outcome for people: numbers, what went nowhere, and the nodes in use."""

import math

from cluster.model import NodeId
from clusterctl.render.people import count
from clusterctl.render.table import clean, facts, table
from clusterctl.simulation.report import Report

# As many as fit on a screen beside the numbers; ``--format json`` has all.
NODES_SHOWN = 20
LEFT_SHOWN = 10


def heading(report: Report, *, strategy: str, together: bool) -> str:
    """Return the outcome in a line."""
    how = "all together" if together else "as they come"
    return (
        f"{strategy}, {how}: {count(len(report.packing.placed), 'task')} on {report.nodes_used} of "
        f"{count(len(report.nodes), 'node')}, of which at least {report.bound.nodes} are needed"
    )


def told(report: Report) -> str:
    """Return numbers, what found no place and why, and how full the first nodes are."""
    bound = f"{report.bound.nodes}, for {report.bound.dimension}" if report.bound.nodes else "0"
    fills = [(each, report.fill_percent(each)) for each in report.dimensions]
    parts = [
        facts(
            [
                ("Tasks", f"{len(report.packing.placed)} placed of {report.tasks_total}"),
                ("Nodes", f"{report.nodes_used} in use of {len(report.nodes)}"),
                ("At least", bound),
                ("Gap", f"{report.gap_percent:.1f} %"),
                ("Full", ", ".join(f"{each} {n:.1f} %" for each, n in fills if n is not None)),
            ]
        )
    ]
    if report.packing.left:
        parts.append(_left(report))
    if report.reserved:
        parts.append(_nodes(report))
    return "\n\n".join(parts) + "\n"


def _left(report: Report) -> str:
    lines = [
        f"{_named(left.names)} (line {report.work[left.work].line}): {left.why}"
        for left in report.packing.left[:LEFT_SHOWN]
    ]
    if len(report.packing.left) > LEFT_SHOWN:
        lines.append(f"and {len(report.packing.left) - LEFT_SHOWN} more rows")
    return "\n".join(map(clean, lines))


def _named(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{count(len(names), 'task')} from {names[0]} on"


def _nodes(report: Report) -> str:
    shown = list(report.reserved)[:NODES_SHOWN]
    header = ["NODE", "TASKS", *(dimension.upper() for dimension in report.dimensions)]
    lines = [
        [each, str(report.tasks[each]), *(_full(report, each, d) for d in report.dimensions)]
        for each in shown
    ]
    text = table(header, lines)
    left = len(report.reserved) - len(shown)
    return f"{text}\nand {left} more" if left else text


def _full(report: Report, node_id: NodeId, dimension: str) -> str:
    part, whole = report.reserved[node_id][dimension], report.capacity[node_id][dimension]
    return f"{100 * part / whole:.1f} %" if whole and math.isfinite(whole) else ""
