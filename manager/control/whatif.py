"""What the scheduler would do if things were otherwise; nothing is changed.

What is imagined is ``imagining``'s; what comes of it ``outlook``'s, with the scheduler's own
``place``. That may take seconds on a large cluster, so it happens beside the event loop, on
values that nobody changes, and for one client at a time.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from cluster import constraints
from cluster.errors import InvalidError
from cluster.model import NodeId, ServiceSpec, Strategy
from manager.control import outlook
from manager.control.access import Access
from manager.control.imagining import Real, Wishes, imagined
from manager.control.outlook import Outlook
from manager.control.references import find_node, find_service
from manager.control.services import scaled
from manager.control.stacks import as_deployed
from manager.view import View


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a client imagines, in its own words.

    Attributes:
        lose_nodes, drain_nodes: references.
        lose_where: constraints; nodes that meet one of them are lost.
        scale: reference of a service to its replicas.
        stack, services: as if they were deployed.
        headroom: references of services, or names of those that would be new.
        spare: tell which nodes could not be lost besides.
    """

    lose_nodes: Sequence[str] = ()
    lose_where: Sequence[str] = ()
    drain_nodes: Sequence[str] = ()
    scale: Mapping[str, int]
    stack: str = ""
    services: Sequence[ServiceSpec] = ()
    headroom: Sequence[str] = ()
    spare: bool = False


class WhatIf:
    """The part of the Control API that imagines."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._view = access.view
        self._one_at_a_time = asyncio.Lock()
        self._work: set[asyncio.Task[Outlook]] = set()

    async def ask(self, asked: Asked) -> Outlook:
        """Tell what would become of the tasks.

        Raises:
            InvalidError: it contradicts itself, or could not be done either.
        """
        wishes = await self._access.read(lambda: _wishes(self._view, asked))
        names = await self._access.read(lambda: _names(self._view, asked))
        work = asyncio.create_task(self._answer(wishes, names, spare=asked.spare))
        self._work.add(work)  # it goes on, and keeps others waiting, though nobody waits for it
        work.add_done_callback(self._work.discard)
        return await asyncio.shield(work)

    async def _answer(self, wishes: Wishes, headroom: Sequence[str], *, spare: bool) -> Outlook:
        async with self._one_at_a_time:
            view = self._view
            real = Real(
                nodes=dict(view.nodes),
                services=dict(view.services),
                versions=dict(view.versions),
                tasks={id_: tuple(view.tasks_of_service(id_)) for id_ in view.services},
                scalings=dict(view.scalings),
            )
            strategy = view.cluster.spec.strategy if view.cluster else Strategy.BINPACK
            return await asyncio.to_thread(
                lambda: outlook.foreseen(
                    imagined(real, wishes),
                    strategy=strategy,
                    headroom=headroom,
                    spare=spare,
                    revision=view.revision,
                )
            )


def _wishes(view: View, asked: Asked) -> Wishes:
    lost = {find_node(view, each).id for each in asked.lose_nodes}
    for expression in asked.lose_where:
        lost |= _meeting(view, expression)
    drained = {find_node(view, each).id for each in asked.drain_nodes}
    if both := lost & drained:
        raise InvalidError(f"node '{_host(view, both)}' cannot be both lost and drained")
    specs = as_deployed(view, asked.stack, asked.services) if asked.services else []
    replicas = {service.id: spec.replicas for service, spec in scaled(view, asked.scale)}
    for spec in specs:
        old = view.service_by_name(spec.name)
        if old is not None and old.id in replicas:
            raise InvalidError(f"service '{spec.name}' is both scaled and deployed")
    return Wishes(frozenset(lost), frozenset(drained), replicas, specs)


def _meeting(view: View, expression: str) -> set[NodeId]:
    constraint = constraints.parse(expression)
    found = {
        node.id
        for node in view.nodes.values()
        if constraints.matches(constraint, constraints.NodeFacts.of(node))
    }
    if not found:
        raise InvalidError(f"no node meets {str(constraint)!r}: nothing would be lost")
    return found


def _host(view: View, nodes: Collection[NodeId]) -> str:
    return min(view.nodes[node_id].description.hostname or node_id for node_id in nodes)


def _names(view: View, asked: Asked) -> list[str]:
    """Return the full names of the services whose headroom is asked for."""
    new = {spec.name: spec for spec in asked.services}
    names: list[str] = []
    for reference in asked.headroom:
        spec = new.get(reference) or find_service(view, reference).spec
        if spec.mode.is_global:
            raise InvalidError(
                f"service '{spec.name}' is global: it has one task on every node that complies,"
                " so there is no room for more"
            )
        names.append(spec.name)
    return names
