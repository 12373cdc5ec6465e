"""Stacks: services that are deployed and removed together.

A deploy is one transaction. It always rewrites the stack's own record when it changes
anything, under the guard of the record that it was decided on: so two deploys of one stack
never mix, and one that finds everything as asked for writes nothing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import msgspec

from cluster.clock import Clock
from cluster.dependencies import dependents_first
from cluster.errors import ConflictError, ExistsError, InvalidError
from cluster.ids import IdSource
from cluster.model import Service, ServiceId, ServiceSpec, Stack, StackId
from cluster.validation import FLAWS_TOLD_MAX, check_name, check_service
from manager.control import services, summaries
from manager.control.access import Access, Changes, Decision, as_stored
from manager.control.dependencies import check_dependencies, with_restarts
from manager.control.references import find_stack
from manager.control.summaries import StackSummary
from manager.store.interface import OPERATIONS_MAX, Revision
from manager.view import View

NAMES = "stacks"  # the kind of their index keys

# Services in one transaction of a removal: two operations each, and two for the stack.
REMOVED_TOGETHER_MAX = OPERATIONS_MAX // 2 - 1


# What has changed since a plan: the first few lead to the rest.
MOVED_TOLD_MAX = 5


class DeployAction(Enum):
    """What a deploy did to a service."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Deployed:
    service: Service
    action: DeployAction


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a deploy came to.

    Attributes:
        services: by name.
        revision: at which the store holds it all.
        left_over: names of services of the stack that were neither asked for nor pruned.
    """

    services: Sequence[Deployed]
    revision: Revision
    left_over: Sequence[str]


@dataclass(frozen=True, slots=True)
class Pin:
    """What a planned deploy rests on.

    Attributes:
        revision: of the store: nothing of the stack may have changed since.
        service_ids: that the services get which are new, by name.
    """

    revision: Revision
    service_ids: Mapping[str, ServiceId]


class Stacks:
    """The part of the Control API that is about stacks."""

    def __init__(self, access: Access, ids: IdSource, clock: Clock) -> None:
        self._access = access
        self._view = access.view
        self._ids = ids
        self._clock = clock

    def all(self) -> list[StackSummary]:
        stacks = sorted(self._view.stacks.values(), key=lambda stack: stack.name)
        return [summaries.of_stack(self._view, stack) for stack in stacks]

    async def deploy(
        self, name: str, specs: Sequence[ServiceSpec], *, prune: bool, pin: Pin | None = None
    ) -> Deployment:
        """Bring the stack to exactly *specs*, all at once.

        Args:
            name: of the stack.
            specs: of its services.
            prune: remove services that are not among them.
            pin: what the deploy was planned on, if it was.

        Raises:
            ConflictError: the stack has changed since it was planned.
            InvalidError: a spec can never work, or is not of this stack; all that is wrong.
            ExistsError: a service of another stack, or of none, has one of the names.
            TooLargeError: more than the store takes in one transaction.
        """
        _check(name, specs)

        def decide() -> Decision[Deployment]:
            if pin is not None:
                check_unmoved(self._view, name, specs, pin)
            return decide_deploy(
                self._view,
                self._access.begin(),
                name,
                specs,
                prune=prune,
                service_ids=pin.service_ids if pin else {},
                new_id=self._ids.new,
                now=self._clock.now(),
            )

        return await self._access.change(decide)

    async def remove(self, reference: str) -> list[str]:
        """Remove a stack with its services; return their names.

        Many services go in several transactions, the stack itself in the last of them.
        """
        names: list[str] = []
        while True:
            removed, more = await self._access.change(lambda: self._decide_remove(reference))
            names += removed
            if not more:
                return sorted(names)

    def _decide_remove(self, reference: str) -> Decision[tuple[list[str], bool]]:
        stack = find_stack(self._view, reference)
        all_services = self._view.services_of_stack(stack.name)
        together = _dependents_first(all_services)[:REMOVED_TOGETHER_MAX]
        more = len(all_services) > len(together)
        changes = self._access.begin()
        for service in together:
            services.remove(changes, service)
        if more:
            changes.expect(stack)
        else:
            changes.drop(stack, why="an operator had it removed")
            changes.free_name(NAMES, stack.name)
        return Decision(changes, lambda _: ([service.spec.name for service in together], more))


def decide_deploy(
    view: View,
    changes: Changes,
    name: str,
    specs: Iterable[ServiceSpec],
    *,
    prune: bool,
    service_ids: Mapping[str, ServiceId],
    new_id: Callable[[], str],
    now: float,
) -> Decision[Deployment]:
    """Compare the stack with *specs*; write what differs, and nothing if nothing does.

    Raises:
        ExistsError: a service of another stack, or of none, has one of the names.
    """
    deployed: list[tuple[Service, DeployAction]] = []
    specs = _over_all(view, name, specs)
    asked_for = {spec.name for spec in specs}
    others = [s for s in view.services_of_stack(name) if s.spec.name not in asked_for]
    leaving = {other.spec.name for other in others} if prune else set()
    check_dependencies(view, specs, leaving)
    for spec in with_restarts(view, specs, leaving):
        old = view.service_by_name(spec.name)
        if old is None:
            service_id = service_ids.get(spec.name) or ServiceId(new_id())
            service = services.new_service(spec, service_id, now)
            services.create(changes, service)
            deployed.append((service, DeployAction.CREATED))
        else:
            service, changed = services.replace(changes, old, spec, now)
            action = DeployAction.UPDATED if changed else DeployAction.UNCHANGED
            deployed.append((service, action))
    if prune:
        for service in others:
            services.remove(changes, service)
            deployed.append((service, DeployAction.REMOVED))
    _save_stack(changes, view.stack_by_name(name), name, new_id, now)
    return Decision(
        changes,
        lambda revision: Deployment(
            [
                Deployed(as_stored(service, revision) if action in _WRITTEN else service, action)
                for service, action in sorted(deployed, key=lambda each: each[0].spec.name)
            ],
            revision,
            [] if prune else sorted(service.spec.name for service in others),
        ),
    )


_WRITTEN = (DeployAction.CREATED, DeployAction.UPDATED)


def _save_stack(
    changes: Changes, old: Stack | None, name: str, new_id: Callable[[], str], now: float
) -> None:
    if old is None:
        stack = Stack(id=StackId(new_id()), name=name, created_at=now, updated_at=now)
        changes.save(stack, why="deployed")
        changes.take_name(NAMES, name, stack.id)
    elif changes.writes:
        new = msgspec.structs.replace(old, updated_at=now)
        changes.save(new, old=old, why="deployed")


def _dependents_first(all_services: Sequence[Service]) -> list[Service]:
    """Return the services so that none is removed before another that depends on it."""
    by_name = {service.spec.name: service for service in all_services}
    edges = {
        name: [each.service for each in service.spec.depends_on if each.service in by_name]
        for name, service in by_name.items()
    }
    return [by_name[name] for name in dependents_first(edges)]


def as_deployed(view: View, name: str, specs: Sequence[ServiceSpec]) -> list[ServiceSpec]:
    """Return *specs* as a deploy of the stack would store them.

    Raises:
        InvalidError, ExistsError: as the deploy itself.
    """
    _check(name, specs)
    kept = _over_all(view, name, specs)
    check_dependencies(view, kept)
    return kept


def _over_all(view: View, name: str, specs: Iterable[ServiceSpec]) -> list[ServiceSpec]:
    known = ((view.service_by_name(spec.name), spec) for spec in specs)
    return [_over(old, spec, name) if old is not None else spec for old, spec in known]


def _over(old: Service, spec: ServiceSpec, stack: str) -> ServiceSpec:
    """Return *spec* with the counter of forced replacements, which no file knows of.

    Raises:
        ExistsError: the service is not of the stack.
    """
    if old.spec.stack != stack:
        raise ExistsError(services.name_in_use(old))
    force = max(old.spec.task.force_update, spec.task.force_update)
    if force == spec.task.force_update:
        return spec
    return msgspec.structs.replace(
        spec, task=msgspec.structs.replace(spec.task, force_update=force)
    )


def check_unmoved(view: View, name: str, specs: Iterable[ServiceSpec], pin: Pin) -> None:
    """Refuse a planned deploy if something of the stack is not as it was planned on.

    Raises:
        ConflictError: names what has changed.
    """
    asked_for = {spec.name for spec in specs}
    known = {each.id: each for each in view.services_of_stack(name)}
    moved = []
    for service in known.values():
        if service.spec.name in pin.service_ids:
            moved.append(f"service '{service.spec.name}' is there already")
        elif service.version > pin.revision:
            moved.append(f"service '{service.spec.name}' has changed")
    moved += [
        f"service '{service_name}' was removed"
        for service_name in asked_for - pin.service_ids.keys()
        if view.service_by_name(service_name) is None
    ]
    stack = view.stack_by_name(name)
    if not moved and stack is not None and stack.version > pin.revision:
        moved.append(f"stack '{name}' has been deployed")
    if moved:
        raise ConflictError(moved_since(moved))


def moved_since(moved: Iterable[str]) -> str:
    """Return the sentence that refuses a plan because of what has changed."""
    told = sorted(moved)
    more = len(told) - MOVED_TOLD_MAX
    and_more = f"; and {more} more" if more > 0 else ""
    return (
        f"the world has moved since it was planned: {'; '.join(told[:MOVED_TOLD_MAX])}{and_more};"
        " nothing was changed: plan again (`clusterctl stack plan`)"
    )


def _check(name: str, specs: Sequence[ServiceSpec]) -> None:
    """Refuse what can never work, with everything that is wrong."""
    check_name("stack", name)
    flaws: list[str] = []
    seen: set[str] = set()
    for spec in specs:
        if spec.stack != name:
            flaws.append(f"service '{spec.name}': its stack is '{spec.stack}', not '{name}'")
        if spec.name in seen:
            flaws.append(f"service '{spec.name}': there are two of that name")
        seen.add(spec.name)
        try:
            check_service(spec)
        except InvalidError as error:
            flaws += str(error).splitlines()
    if len(flaws) > FLAWS_TOLD_MAX:
        flaws[FLAWS_TOLD_MAX:] = [f"and {len(flaws) - FLAWS_TOLD_MAX} more"]
    if flaws:
        raise InvalidError("\n".join(flaws))
