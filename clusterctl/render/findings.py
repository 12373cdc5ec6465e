"""What ``verify`` has found, for people and for programs."""

from collections.abc import Iterator
from typing import Any

from cluster.invariants import PROMISES, Breach
from clusterctl.render.people import count
from clusterctl.render.table import facts
from clusterctl.verification import Report

# What to do about it, by the promise. That it is a defect is said once, below all.
_NEXT = {
    "I1": (
        "`clusterctl node inspect NODE` shows what it offers and gives away; `clusterctl node"
        " drain NODE` moves tasks off it"
    ),
    "I2": (
        "`clusterctl service ps --all SERVICE` shows the place's tasks; `clusterctl service"
        " update --force SERVICE` replaces them"
    ),
    "I3": (
        "look whether something else writes to the store: another cluster with the same prefix,"
        " managers of versions that do not go together, a hand"
    ),
    "I6": (
        "`clusterctl task inspect TASK` shows where it may run; `clusterctl service update"
        " --force SERVICE` places it anew"
    ),
    "I9": (
        "`clusterctl service inspect SERVICE` shows what it depends on; `clusterctl service ps --all"
        " SERVICE` shows when its tasks started"
    ),
    "I19": (
        "look whether something else writes to the store; if nothing does, deploy the stack or"
        " remove the service again"
    ),
}
_DEFECT = (
    "A broken promise is a defect, unless somebody has written to the store by hand. Please"
    " report it, with `clusterctl verify --format json` and the managers' logs."
)


def findings(report: Report) -> str:
    """Return the breaches, then the doubts, then what was looked at."""
    told = [*report.breaches, *report.doubts]
    parts = [facts(_told(breach)) + "\n" for breach in told]
    if report.breaches:
        parts.append(f"{_DEFECT}\n")
    return "\n".join([*parts, _summary(report)])


def row(report: Report) -> dict[str, Any]:
    """Return the report as programs see it."""
    return {
        "kept": not report.breaches,
        "revision": report.revision,
        "nodes": report.nodes,
        "services": report.services,
        "tasks": report.tasks,
        "changes": report.changes,
        "breaches": [_row(breach) for breach in report.breaches],
        "doubts": [_row(breach) for breach in report.doubts],
    }


def _told(breach: Breach) -> Iterator[tuple[str, str]]:
    yield "Broken" if breach.certain else "Perhaps", f"{breach.invariant}, {_promise(breach)}"
    yield "What", breach.text
    yield "Objects", " ".join(breach.objects)
    yield "Next", _NEXT.get(breach.invariant, "")


def _promise(breach: Breach) -> str:
    return PROMISES.get(breach.invariant, "")


def _row(breach: Breach) -> dict[str, Any]:
    return {
        "invariant": breach.invariant,
        "promise": _promise(breach),
        "objects": list(breach.objects),
        "text": breach.text,
        "next": _NEXT.get(breach.invariant, ""),
    }


def _summary(report: Report) -> str:
    objects = ", ".join(
        count(number, word)
        for number, word in (
            (report.nodes, "node"),
            (report.services, "service"),
            (report.tasks, "task"),
        )
    )
    looked_at = f"{objects}, {count(report.changes, 'change')}, up to revision {report.revision}"
    if not report.breaches:
        return f"{looked_at}: every promise is kept\n"
    number = len(report.breaches)
    return f"{looked_at}: {number} {'breach' if number == 1 else 'breaches'}\n"
