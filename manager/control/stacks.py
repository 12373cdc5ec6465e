"""Stacks: services that are deployed and removed together.

A deploy is one transaction. It always rewrites the stack's own record when it changes
anything, under the guard of the record that it was decided on: so two deploys of one stack
never mix, and one that finds everything as asked for writes nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

import msgspec

from cluster.clock import Clock
from cluster.dependencies import dependents_first
from cluster.errors import ExistsError, InvalidError
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

    async def deploy(self, name: str, specs: Sequence[ServiceSpec], *, prune: bool) -> Deployment:
        """Bring the stack to exactly *specs*, all at once.

        Raises:
            InvalidError: a spec can never work, or is not of this stack; all that is wrong.
            ExistsError: a service of another stack, or of none, has one of the names.
            TooLargeError: more than the store takes in one transaction.
        """
        _check(name, specs)

        def decide() -> Decision[Deployment]:
            return decide_deploy(
                self._view, name, specs, prune=prune, new_id=self._ids.new, now=self._clock.now()
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
        changes = Changes()
        for service in together:
            services.remove(changes, service)
        if more:
            changes.expect(stack)
        else:
            changes.drop(stack)
            changes.free_name(NAMES, stack.name)
        return Decision(changes, lambda _: ([service.spec.name for service in together], more))


def decide_deploy(
    view: View,
    name: str,
    specs: Iterable[ServiceSpec],
    *,
    prune: bool,
    new_id: Callable[[], str],
    now: float,
) -> Decision[Deployment]:
    """Compare the stack with *specs*; write what differs, and nothing if nothing does.

    Raises:
        ExistsError: a service of another stack, or of none, has one of the names.
    """
    changes = Changes()
    deployed: list[tuple[Service, DeployAction]] = []
    specs = _over_all(view, name, specs)
    asked_for = {spec.name for spec in specs}
    others = [s for s in view.services_of_stack(name) if s.spec.name not in asked_for]
    leaving = {other.spec.name for other in others} if prune else set()
    check_dependencies(view, specs, leaving)
    for spec in with_restarts(view, specs, leaving):
        old = view.service_by_name(spec.name)
        if old is None:
            service = services.new_service(spec, ServiceId(new_id()), now)
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
        changes.save(stack)
        changes.take_name(NAMES, name, stack.id)
    elif changes.writes:
        changes.save(msgspec.structs.replace(old, updated_at=now))


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
