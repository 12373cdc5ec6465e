"""Tasks as users see them: listed, shown, and explained by the scheduler."""

from collections.abc import Iterable
from dataclasses import dataclass

from cluster.clock import Clock
from cluster.errors import InternalError
from cluster.lifecycle import let_start, live, wanted
from cluster.model import NodeId, ServiceId, Task, TaskSpec, TaskState
from manager.control import summaries
from manager.control.access import Access
from manager.control.explaining import Told, told
from manager.control.picture import Picture
from manager.control.references import find_node, find_service, find_task, node_name, task_name
from manager.control.summaries import TaskSummary
from manager.view import View
from scheduler import Explanation


@dataclass(frozen=True, slots=True)
class NodeVerdict:
    """What the scheduler says of one node; no reasons: it would do, and this is its rank."""

    node_id: NodeId
    hostname: str
    reasons: tuple[str, ...]
    rank: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class TaskExplanation:
    """Why a task is or is not there.

    Attributes:
        text: in a sentence or two.
        verdicts: nodes that would take it, the best first; then the others, the nearest first.
        told: what would help, and why its node is its node.
    """

    summary: TaskSummary
    text: str
    verdicts: tuple[NodeVerdict, ...]
    told: Told


class Tasks:
    """The part of the Control API that is about tasks."""

    def __init__(self, access: Access, picture: Picture, clock: Clock) -> None:
        self._access = access
        self._picture = picture
        self._view = access.view
        self._clock = clock

    async def all(
        self,
        *,
        service: str = "",
        node: str = "",
        stack: str = "",
        ended: bool = False,
    ) -> list[TaskSummary]:
        """Return tasks by service name and slot, the newest first.

        Args:
            service: reference; only its tasks.
            node: reference; only tasks there.
            stack: name; only tasks of its services.
            ended: also those that are meant to have ended.
        """

        def listed() -> list[Task]:
            return list(_filtered(self._view, service, node, stack))

        tasks = [task for task in await self._access.read(listed) if ended or wanted(task)]
        waiting = _Waiting()
        found = [summaries.of_task(self._view, task, waiting) for task in tasks]
        return sorted(
            found,
            key=lambda each: (
                each.service_name,
                each.task.slot,
                each.node_hostname if not each.task.slot else "",
                -each.task.created_at,
                each.task.id,
            ),
        )

    async def get(self, reference: str) -> tuple[TaskSummary, TaskSpec]:
        """Return a task and the template that it runs."""
        task = await self._access.read(lambda: find_task(self._view, reference))
        version = self._view.version_of(task)
        if version is None:
            raise InternalError(
                f"version {task.spec_version} of service {task.service_id}, which task {task.id}"
                " runs, is not in the store"
            )
        return summaries.of_task(self._view, task), version.spec.task

    async def explain(self, reference: str) -> TaskExplanation:
        """Tell, node by node, why a task is or is not there."""
        task = await self._access.read(lambda: find_task(self._view, reference))
        await self.get(task.id)
        task, explanation = await self._picture.explained(lambda: find_task(self._view, task.id))
        text = _told(self._view, task, explanation, self._clock.now())
        return TaskExplanation(
            summaries.of_task(self._view, task),
            f"{task_name(self._view, task)} {text}",
            tuple(
                NodeVerdict(each.node_id, each.node_name, tuple(map(str, each.reasons)), each.rank)
                for each in explanation.verdicts
            ),
            told(explanation, task.node_id),
        )


class _Waiting:
    """What tasks wait for, asked once for all that stand before the same gate."""

    def __init__(self) -> None:
        self._known: dict[tuple[ServiceId, int], str] = {}

    def __call__(self, view: View, task: Task) -> str:
        if not live(task) or let_start(task):
            return ""
        gate = task.service_id, task.run
        if gate not in self._known:
            self._known[gate] = summaries.waits_for(view, task)
        return self._known[gate]


def _filtered(view: View, service: str, node: str, stack: str) -> Iterable[Task]:
    tasks: Iterable[Task] = view.tasks.values()
    if service:
        tasks = view.tasks_of_service(find_service(view, service).id)
    if node:
        node_id = find_node(view, node).id
        tasks = (
            [task for task in tasks if task.node_id == node_id]
            if service
            else view.tasks_on_node(node_id)
        )
    if stack:
        tasks = [task for task in tasks if _stack_of(view, task) == stack]
    return tasks


def _stack_of(view: View, task: Task) -> str:
    version = view.version_of(task)
    return version.spec.stack if version else ""


def _told(view: View, task: Task, explanation: Explanation, now: float) -> str:
    state, at = task.status.state, f"on node '{node_name(view, task.node_id)}'"
    error = f": {task.status.error}" if task.status.error else ""
    if state.finished:
        return f"has ended {at if task.node_id else 'without a node'} ({state.value}){error}"
    if not wanted(task):
        return f"is being stopped {at if task.node_id else ''}".rstrip()
    if state >= TaskState.ASSIGNED:
        waits = f"; {_until(view, task, now)}" if task.desired_state is TaskState.READY else ""
        return f"is {state.value} {at}{waits}{error}"
    if view.leader is None:
        return "waits: no manager leads just now, so nothing is placed"
    if explanation.defects:
        return f"cannot be placed anywhere: {'; '.join(explanation.defects)}"
    if explanation.chosen:
        return f"is about to be placed: node '{explanation.chosen.node_name}' would take it{error}"
    if not explanation.verdicts:
        return "waits: the cluster has no nodes"
    return f"waits: {'; '.join(map(str, explanation.counted))}"


def _until(view: View, task: Task, now: float) -> str:
    if needed := summaries.waits_for(view, task):
        return f"it waits for {needed}"
    seconds = task.start_after - now
    return f"it may start in {seconds:.1f} s" if seconds > 0 else "it is about to be started"
