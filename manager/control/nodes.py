"""Nodes as operators see them: listed, labelled, paused, drained and forgotten."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import msgspec

from cluster.clock import Clock
from cluster.errors import ConflictError, InvalidError, StateError
from cluster.lifecycle import occupies
from cluster.model import Availability, Node, NodeSpec, NodeState, SessionState
from cluster.validation import check_node
from manager.control import summaries
from manager.control.access import Access, Decision, as_stored
from manager.control.differences import differences
from manager.control.references import find_node, node_name
from manager.control.summaries import NodeSummary
from manager.control.usage import Usages
from manager.dispatch.node_labels import check_labels
from manager.view import View


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeChange:
    """What shall become different in what is asked of a node.

    Attributes:
        availability, task_slots: None leaves it.
        set_labels: added or replaced.
        remove_labels, unreserve_for, remove_volumes: a missing one is no error.
        reserve_for, add_volumes: one that is there already is no error.
        drain_deadline_seconds: with a drain: after that what is left is stopped; 0 is never.
    """

    availability: Availability | None = None
    set_labels: Mapping[str, str] = field(default_factory=dict)
    remove_labels: Collection[str] = ()
    task_slots: int | None = None
    reserve_for: Collection[str] = ()
    unreserve_for: Collection[str] = ()
    add_volumes: Collection[str] = ()
    remove_volumes: Collection[str] = ()
    drain_deadline_seconds: float = 0.0

    def applied(self, spec: NodeSpec, now: float = 0.0) -> NodeSpec:
        """Return *spec* with the change made at a time.

        Raises:
            InvalidError: it contradicts itself, or leads to what no node can be asked.
        """
        for what, added, removed in (
            ("label", self.set_labels, self.remove_labels),
            ("reservation for", self.reserve_for, self.unreserve_for),
            ("volume", self.add_volumes, self.remove_volumes),
        ):
            for name in removed:
                if name in added:
                    raise InvalidError(f"{what} '{name}' is both set and removed")
        labels = {k: v for k, v in spec.labels.items() if k not in self.remove_labels}
        labels |= self.set_labels
        check_labels(labels)
        changed = msgspec.structs.replace(
            spec,
            availability=self.availability or spec.availability,
            labels=labels,
            task_slots=spec.task_slots if self.task_slots is None else self.task_slots,
            reserved_for=_joined(spec.reserved_for, self.reserve_for, self.unreserve_for),
            volumes=_joined(spec.volumes, self.add_volumes, self.remove_volumes),
        )
        changed = self._with_deadline(changed, was=spec.availability, now=now)
        # The leader adds bound volumes too: their number must not be in an operator's way.
        known = changed if self.add_volumes else msgspec.structs.replace(changed, volumes=())
        check_node(known)
        return changed

    def _with_deadline(self, spec: NodeSpec, *, was: Availability, now: float) -> NodeSpec:
        """Return *spec* with the deadline of its drain, if this change asks for one."""
        deadline = self.drain_deadline_seconds
        if deadline and self.availability is not Availability.DRAIN:
            raise InvalidError("only a drain has a deadline")
        if self.availability is None:
            return spec
        if self.availability is not Availability.DRAIN:
            return msgspec.structs.replace(spec, drain_asked_at=0.0, drain_deadline_seconds=0.0)
        if was is Availability.DRAIN and deadline == spec.drain_deadline_seconds == 0:
            return spec  # it is asked for what it does already
        return msgspec.structs.replace(spec, drain_asked_at=now, drain_deadline_seconds=deadline)


def _joined(
    names: tuple[str, ...], added: Collection[str], removed: Collection[str]
) -> tuple[str, ...]:
    return tuple(name for name in dict.fromkeys((*names, *added)) if name not in removed)


class Nodes:
    """The part of the Control API that is about nodes."""

    def __init__(self, access: Access, usages: Usages, clock: Clock) -> None:
        self._access = access
        self._clock = clock
        self._view = access.view
        self._usages = usages

    async def all(self) -> list[NodeSummary]:
        """Return the nodes by host name."""
        heard = await self._usages.everywhere()
        nodes = sorted(self._view.nodes.values(), key=lambda n: (n.description.hostname, n.id))
        return [summaries.of_node(self._view, node, heard) for node in nodes]

    async def get(self, reference: str) -> NodeSummary:
        node = await self._access.read(lambda: find_node(self._view, reference))
        heard = await self._usages.everywhere()
        return summaries.of_node(self._view, self._view.nodes.get(node.id, node), heard)

    async def update(self, reference: str, change: NodeChange, *, version: int = 0) -> Node:
        """Change what is asked of a node.

        Args:
            reference: of the node.
            change: what shall become different.
            version: that the change was decided on; 0: it holds for any.

        Raises:
            ConflictError: the node has changed since *version*.
        """
        if version:
            await self._access.reached(version)

        def decide() -> Decision[Node]:
            old = find_node(self._view, reference)
            if version not in (0, old.version):
                raise ConflictError(
                    f"node '{node_name(self._view, old.id)}' has changed: the update was decided"
                    f" on version {version}, it is at version {old.version} now"
                    f" ({_as_it_is(old)}); look again: `clusterctl node inspect {old.id}`"
                )
            spec = change.applied(old.spec, self._clock.now())
            changes = self._access.begin()
            if spec == old.spec:
                return Decision(changes, lambda _: old)
            new = msgspec.structs.replace(old, spec=spec)
            changes.save(new, old=old, why=differences(old.spec, spec))
            return Decision(changes, lambda revision: as_stored(new, revision))

        return await self._access.change(decide)

    async def remove(self, reference: str, *, force: bool) -> None:
        """Forget a node; an agent that still runs there makes it known anew.

        Raises:
            StateError: it can be reached, and *force* is not given.
        """

        def decide() -> Decision[None]:
            node = find_node(self._view, reference)
            session = self._view.sessions.get(node.id)
            reachable = node.status.state is NodeState.READY or (
                session is not None and session.state is SessionState.LIVE
            )
            if reachable and not force:
                raise StateError(_still_there(self._view, node))
            changes = self._access.begin()
            changes.drop(node, why="an operator had it forgotten")
            if session is not None:
                changes.drop(session)
            return Decision(changes, lambda _: None)

        await self._access.change(decide)


def _as_it_is(node: Node) -> str:
    labels = ", ".join(f"{name}={value}" for name, value in sorted(node.spec.labels.items()))
    parts = [node.spec.availability.value, labels or "no labels"]
    if node.spec.task_slots:
        parts.append(f"{node.spec.task_slots} task slots")
    if node.spec.reserved_for:
        parts.append(f"reserved for {', '.join(node.spec.reserved_for)}")
    if node.spec.volumes:
        parts.append(f"volumes {', '.join(node.spec.volumes)}")
    return "; ".join(parts)


def _still_there(view: View, node: Node) -> str:
    name = node_name(view, node.id)
    tasks = sum(occupies(task) for task in view.tasks_on_node(node.id))
    return (
        f"node '{name}' can be reached and has {tasks} tasks: stop its agent first,"
        " or use --force to have its tasks run elsewhere"
    )
