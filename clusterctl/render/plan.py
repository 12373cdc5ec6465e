"""A plan for people: the differences of specs, what becomes of each task, and what will not fit."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from cluster.differences import Difference, differences
from cluster.model import ContainerSpec, ServiceMode, ServiceSpec, TaskSpec
from clusterctl.answers import Plan, PlannedNode, PlannedService, PlannedTask
from clusterctl.render.people import count, span
from clusterctl.render.table import clean

_GREEN, _YELLOW, _RED, _DIM, _PLAIN = "\033[32m", "\033[33m", "\033[31m", "\033[2m", "\033[0m"
_SIGNS = {
    "create": ("+", _GREEN),
    "added": ("+", _GREEN),
    "update": ("~", _YELLOW),
    "changed": ("~", _YELLOW),
    "restart": ("~", _YELLOW),
    "move": ("~", _YELLOW),
    "remove": ("-", _RED),
    "removed": ("-", _RED),
    "wait": ("!", _RED),
}
_TOTALS = (
    ("create", "to create"),
    ("restart", "to restart"),
    ("move", "to move"),
    ("remove", "to remove"),
    ("wait", "without a node"),
)

# Lines of one service's tasks; a thousand replicas are told by their number and their nodes.
TASKS_SHOWN_MAX = 20


def spec_differences(
    before: ServiceSpec | None, after: ServiceSpec | None, *, values: bool
) -> list[Difference]:
    """Return what differs; of a new service, what it says at all."""
    if after is None:
        return []
    if before is not None:
        return list(differences(before, after, values=values))
    usual = ServiceSpec(
        name=after.name,
        stack=after.stack,
        mode=after.mode,
        task=TaskSpec(container=ContainerSpec(image="")),
    )
    found = differences(usual, after, values=values)
    return [Difference(d.path, "", d.after or "none", hidden=d.hidden) for d in found]


def plan(value: Plan, *, colors: bool, values: bool = False) -> str:
    """Return the plan as lines; *values*: show also what may be secret."""
    lines = _Lines(colors=colors)
    for each in value.services:
        lines.service(each, values=values)
    for node in value.nodes:
        lines.node(node)
    for service, tasks in groupby(value.tasks, key=lambda task: task.service):
        lines.tasks(service, list(tasks))
    lines.summary(value)
    return "".join(f"{line}\n" for line in lines.found)


class _Lines:
    def __init__(self, *, colors: bool) -> None:
        self.found: list[str] = []
        self._colors = colors

    def service(self, each: PlannedService, *, values: bool) -> None:
        spec = each.after or each.before
        is_plain = spec is None or spec.mode is ServiceMode.REPLICATED
        mode = "" if is_plain or spec is None else f" ({spec.mode.value})"
        self._add(each.effect, f"service {each.name}{mode}", indent=0)
        for difference in spec_differences(each.before, each.after, values=values):
            self._add(difference.what, _difference(difference))
        if each.waits_for:
            self._add("wait", f"none of its new tasks starts: it waits for {each.waits_for}")

    def node(self, each: PlannedNode) -> None:
        self._add(each.effect, f"node {each.hostname}", indent=0)
        for difference in differences(each.before, each.after) if each.after else ():
            self._add(difference.what, _difference(difference))

    def tasks(self, service: str, tasks: Sequence[PlannedTask]) -> None:
        self.found.append("")
        self.found.append(f"{service}:")
        for each in tasks[:TASKS_SHOWN_MAX]:
            self._add(each.effect, _task(each))
        for effect, rest in _by_effect(tasks[TASKS_SHOWN_MAX:]):
            nodes = len({task.to_node for task in rest if task.to_node})
            on = f" on {count(nodes, 'node')}" if nodes else ""
            self._add(effect, f"and {count(len(rest), 'task')} more to {effect}{on}")

    def summary(self, value: Plan) -> None:
        if value.is_empty:
            self.found.append("nothing to do")
        else:
            totals = [
                f"{number} {words}"
                for effect, words in _TOTALS
                if (number := sum(task.effect == effect for task in value.tasks))
            ]
            kept = f"{value.tasks_kept} stay as they are"
            self.found.append("")
            self.found.append(f"tasks: {', '.join([*totals, kept])}")
            if value.awaiting_room:
                waiting = count(value.awaiting_room, "task")
                self.found.append(
                    f"{waiting} can only come once others have left: the host that is"
                )
                self.found.append("free first takes them, which may be another one than shown")
            if value.seconds >= 1:
                took = f"delays and monitoring take {span(value.seconds)}"
                self.found.append(f"{took}; pulls and starts come on top")
        if not value.complete:
            self.found.append("the forecast was cut off: there is more than is shown")
        self.found.append(self._painted(f"at revision {value.revision}", _DIM))

    def _add(self, effect: str, text: str, *, indent: int = 1) -> None:
        sign, color = _SIGNS[effect]
        self.found.append(self._painted(f"{'  ' * indent}{sign} {clean(text)}", color))

    def _painted(self, text: str, color: str) -> str:
        return f"{color}{text}{_PLAIN}" if self._colors else text


def _difference(each: Difference) -> str:
    path = each.path.removeprefix("task.")
    if each.hidden:
        return f"{path} ({each.what}; values are not shown)"
    if each.before and each.after:
        return f"{path}: {each.before} -> {each.after}"
    return f"{path}: {each.before or each.after}"


def _task(each: PlannedTask) -> str:
    name = f"{each.service}.{each.slot or each.to_node or each.from_node or '*'}"
    if each.run:
        name += f" of run {each.run}"
    match each.effect:
        case "create":
            return f"{name} on {each.to_node}"
        case "restart":
            return f"{name} anew on {each.to_node}"
        case "move":
            return f"{name} from {each.from_node} to {each.to_node}"
        case "remove":
            return f"{name} from {each.from_node}" if each.from_node else name
        case _:
            gone = f" (now on {each.from_node})" if each.from_node else ""
            return f"{name} waits{gone}: {each.why or 'no node fits'}"


def _by_effect(tasks: Sequence[PlannedTask]) -> Iterator[tuple[str, list[PlannedTask]]]:
    for effect in _SIGNS:
        if rest := [task for task in tasks if task.effect == effect]:
            yield effect, rest


def row(value: Plan, *, values: bool = False) -> dict[str, object]:
    """Return the plan for programs: differences instead of specs, for these may hold secrets."""
    return {
        "cluster_id": value.cluster_id,
        "revision": value.revision,
        "changes": not value.is_empty,
        "services": [
            {
                "effect": each.effect,
                "name": each.name,
                "id": each.service_id,
                "waits_for": each.waits_for,
                "differences": [
                    {
                        "path": difference.path,
                        "before": difference.before,
                        "after": difference.after,
                        "hidden": difference.hidden,
                    }
                    for difference in spec_differences(each.before, each.after, values=values)
                ],
            }
            for each in value.services
        ],
        "nodes": [
            {
                "effect": each.effect,
                "name": each.hostname,
                "id": each.node_id,
                "differences": [
                    {
                        "path": difference.path,
                        "before": difference.before,
                        "after": difference.after,
                    }
                    for difference in (differences(each.before, each.after) if each.after else ())
                ],
            }
            for each in value.nodes
        ],
        "tasks": [
            {
                "effect": each.effect,
                "service": each.service,
                "slot": each.slot,
                "run": each.run,
                "from_node": each.from_node,
                "to_node": each.to_node,
                "why": each.why,
            }
            for each in value.tasks
        ],
        "tasks_kept": value.tasks_kept,
        "seconds": value.seconds,
        "awaiting_room": value.awaiting_room,
        "complete": value.complete,
        "left_over": list(value.left_over),
    }
