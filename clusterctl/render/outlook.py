"""What the scheduler would do if things were otherwise, for people."""

from clusterctl.answers import Outlook
from clusterctl.render.people import count, cpus, generic, memory, share
from clusterctl.render.table import facts, table

# Tasks that are listed: two screens full. ``--format json`` has all.
TASKS_SHOWN = 40


def outlook(answer: Outlook, *, spare: bool) -> str:
    """Return numbers, then every task that would not stay as it is: those without place first."""
    lost = [task for task in answer.tasks if not task.to_node]
    moved = [task for task in answer.tasks if task.to_node and task.from_node]
    new = [task for task in answer.tasks if task.to_node and not task.from_node]
    capacity, reserved = answer.capacity, answer.reserved
    numbers = facts(
        [
            ("Without a place", str(len(lost) or "none")),
            ("Moved", str(len(moved) or "")),
            ("New", str(len(new) or "")),
            ("Ending", str(answer.tasks_ending or "")),
            ("Staying", str(answer.tasks_staying)),
            (
                "CPUs",
                _of(cpus(reserved.cpu_nanos), cpus(capacity.cpu_nanos))
                + _share(reserved.cpu_nanos, capacity.cpu_nanos),
            ),
            (
                "Memory",
                _of(memory(reserved.memory_bytes), memory(capacity.memory_bytes))
                + _share(reserved.memory_bytes, capacity.memory_bytes),
            ),
            *generic(capacity, reserved),
            *(
                (f"Room for {each.service}", _more(each.tasks, more=each.more))
                for each in answer.headroom
            ),
            *([("Spare", _spare(answer))] if spare else []),
        ]
    )
    parts = [numbers]
    shown = [*lost, *moved, *new]
    if shown:
        rows = [
            [each.name, each.from_node or "-", each.to_node or "-", each.reason]
            for each in shown[:TASKS_SHOWN]
        ]
        parts.append(table(["TASK", "FROM", "TO", "WHY NOT"], rows))
    if len(shown) > TASKS_SHOWN:
        parts.append(f"and {count(len(shown) - TASKS_SHOWN, 'task')} more: --format json has all")
    return "\n\n".join(parts) + "\n"


def _of(part: str, whole: str) -> str:
    return f"{part} reserved of {whole}"


def _share(part: int, whole: int) -> str:
    percent = share(part, whole)
    return f" ({percent})" if percent else ""


def _more(tasks: int, *, more: bool) -> str:
    return f"{'at least ' * more}{count(tasks, 'more task')}"


def _spare(answer: Outlook) -> str:
    lines = [
        f"not {each.hostname}: {count(each.tasks, 'task')} would find no place"
        for each in answer.indispensable
    ]
    if answer.nodes_untried:
        lines.append(f"{count(answer.nodes_untried, 'node')} with fewer tasks not tried")
    elif not lines:
        lines.append("any one more node can be lost")
    return "\n".join(lines)
