"""Carrying out a plan exactly, or not at all (I14).

A plan holds what was shown: the revision, and what becomes of each place. It is carried out if
nothing of the stack has changed since that revision, which its transaction is guarded by, and if
the same forecast today has the same outcome. Whatever else has moved meanwhile does not matter.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cluster.errors import ConflictError, InvalidError
from cluster.model import Availability, ClusterId, Node, NodeState, ServiceId, ServiceSpec
from manager.control.stacks import Deployment, Pin, Stacks, check_unmoved, moved_since
from manager.forecast.desk import Forecasts, Trial
from manager.forecast.outcome import PlannedTask
from manager.store.interface import Revision
from manager.view import View


@dataclass(frozen=True, slots=True)
class PinnedPlan:
    """What was planned, as the client brings it back.

    Attributes:
        service_ids: of the services that are new, by name.
    """

    cluster_id: ClusterId
    revision: Revision
    service_ids: Mapping[str, ServiceId]
    tasks: Sequence[PlannedTask]


class PinnedDeploys:
    """Deploys what was planned."""

    def __init__(self, view: View, stacks: Stacks, forecasts: Forecasts) -> None:
        self._view = view
        self._stacks = stacks
        self._forecasts = forecasts

    async def deploy(
        self, name: str, specs: Sequence[ServiceSpec], *, prune: bool, pinned: PinnedPlan
    ) -> Deployment:
        """Bring the stack to *specs*, as planned.

        Raises:
            ConflictError: the world has moved; names what.
            InvalidError: the plan is of another cluster.
        """
        self._check_cluster(pinned)
        pin = Pin(pinned.revision, pinned.service_ids)
        check_unmoved(self._view, name, specs, pin)

        async def again(trial: Trial) -> object:
            return await trial.stacks.deploy(name, specs, prune=prune, pin=pin)

        now = (await self._forecasts.of(again)).outcome
        if moved := _moved(pinned.tasks, now.tasks):
            raise ConflictError(moved_since([*moved, *self._changed_nodes(pinned)]))
        return await self._stacks.deploy(name, specs, prune=prune, pin=pin)

    def _check_cluster(self, pinned: PinnedPlan) -> None:
        cluster = self._view.cluster
        if cluster is None or cluster.id != pinned.cluster_id:
            raise InvalidError(
                f"the plan was made for cluster {pinned.cluster_id}, this is"
                f" {cluster.id if cluster else 'none yet'}: plan again here"
            )
        if pinned.revision > self._view.revision:
            raise ConflictError(
                f"the plan was made at revision {pinned.revision}, the cluster is at"
                f" {self._view.revision}: was it restored from a backup? plan again"
            )

    def _changed_nodes(self, pinned: PinnedPlan) -> Iterable[str]:
        known = {_hostname(node): node for node in self._view.nodes.values()}
        for name in sorted({name for t in pinned.tasks for name in (t.from_node, t.to_node)}):
            node = known.get(name)
            if name and node is None:
                yield f"node '{name}' is gone"
            elif node is not None and node.version > pinned.revision and (state := _ailing(node)):
                yield f"node '{name}' is {state}"


def _hostname(node: Node) -> str:
    return node.description.hostname or node.id


def _ailing(node: Node) -> str:
    if node.status.state is not NodeState.READY:
        return f"{node.status.state.value}"
    usual = node.spec.availability is Availability.ACTIVE
    return "" if usual else f"set to {node.spec.availability.value}"


def _moved(planned: Iterable[PlannedTask], now: Iterable[PlannedTask]) -> list[str]:
    """Return, of each place that would come to something else, what."""
    before, after = _by_place(planned), _by_place(now)
    found = []
    for place in sorted(before.keys() | after.keys()):
        was, is_ = before.get(place), after.get(place)
        if was is None or is_ is None or _gist(was) != _gist(is_):
            service, run, slot, node = place
            name = f"{service}.{slot or node}{f' of run {run}' if run else ''}"
            found.append(f"{name} was to {_told(was)}, now it would {_told(is_)}")
    return found


def _by_place(tasks: Iterable[PlannedTask]) -> dict[tuple[str, int, int, str], PlannedTask]:
    return {
        (
            each.service,
            each.run,
            each.slot,
            "" if each.slot else each.to_node or each.from_node,
        ): each
        for each in tasks
    }


def _gist(task: PlannedTask) -> tuple[object, ...]:
    return task.effect, task.from_node, task.to_node


def _told(task: PlannedTask | None) -> str:
    if task is None:
        return "stay as it is"
    origin = f" from {task.from_node}" if task.from_node else ""
    goal = f" to {task.to_node}" if task.to_node and task.to_node != task.from_node else ""
    return f"{task.effect.value}{origin}{goal}"
