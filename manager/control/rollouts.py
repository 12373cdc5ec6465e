"""Rollouts as clients steer them, and versions as they are gone back to.

What an operator wants of a rollout is a field of the service, guarded by its version like
everything; the leader follows it and keeps its own account (``Rollout``).

Going back is an update like any other: the service gets a new version whose spec is that of an
earlier one. How many replicas there are stays as it is: that was changed for other reasons.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import msgspec

from cluster.clock import Clock
from cluster.errors import InvalidError, NotFoundError, StateError
from cluster.lifecycle import needs_replacing
from cluster.model import (
    Rollout,
    RolloutState,
    Service,
    ServiceId,
    ServiceSpec,
    ServiceVersion,
    Stack,
)
from cluster.validation import check_service
from manager.control import services, summaries
from manager.control.access import Access, Changes, Decision, as_stored
from manager.control.dependencies import check_dependencies
from manager.control.references import find_service, find_stack
from manager.control.summaries import ServiceSummary
from manager.view import View


class RolloutAction(Enum):
    """What an operator says about a rollout."""

    PROMOTE = "promote"  # the canary is good: go on
    PAUSE = "pause"  # replace nothing more for now
    RESUME = "resume"  # go on; what failed so far is forgiven


@dataclass(frozen=True, slots=True)
class RolledBack:
    """A service, and the version whose template it has again; 0: there was nothing to do."""

    service: Service
    to: int


_HALTED = (RolloutState.PAUSED, RolloutState.ROLLBACK_PAUSED)
_MOVING = (RolloutState.UPDATING, RolloutState.CANARY, RolloutState.ROLLING_BACK)


class Rollouts:
    """The part of the Control API that is about versions and rollouts."""

    def __init__(self, access: Access, clock: Clock) -> None:
        self._access = access
        self._view = access.view
        self._clock = clock

    async def versions(self, reference: str) -> tuple[ServiceSummary, list[ServiceVersion]]:
        """Return a service and its versions as far as they are kept, the oldest first."""

        def found() -> tuple[ServiceSummary, list[ServiceVersion]]:
            service = find_service(self._view, reference)
            kept = self._view.versions_of_service(service.id)
            return (
                summaries.of_service(self._view, service),
                [kept[number] for number in sorted(kept)],
            )

        return await self._access.read(found)

    async def rollback(self, wishes: Mapping[str, int]) -> list[RolledBack]:
        """Give services the specs of earlier versions again, all of them or none.

        Args:
            wishes: reference to the number of a version; 0 is the last that ran well and has
                another template than now.

        Raises:
            NotFoundError: there is no such version (any more).
            StateError: there is nothing to go back to.
            InvalidError: a service is named twice, or the old spec cannot have as many replicas,
                or depends on what cannot be met any more.
        """

        def decide() -> Decision[list[RolledBack]]:
            chosen: dict[ServiceId, tuple[Service, int]] = {}
            for reference, number in wishes.items():
                service = find_service(self._view, reference)
                if service.id in chosen:
                    raise InvalidError(f"service '{service.spec.name}' is named twice")
                chosen[service.id] = service, _chosen(self._view, service, number)
            return self._go_back(list(chosen.values()), self._access.begin())

        return await self._access.change(decide)

    async def rollback_stack(self, reference: str) -> list[RolledBack]:
        """Take back what the last deploy of a stack has changed, all of it or nothing.

        Services that it made stay, and those that it removed are gone.

        Raises:
            StateError: it has changed nothing that could be taken back.
        """

        def decide() -> Decision[list[RolledBack]]:
            stack = find_stack(self._view, reference)
            members = self._view.services_of_stack(stack.name)
            chosen = [(each, before_deploy(self._view, each, stack)) for each in members]
            if not any(number for _, number in chosen):
                raise StateError(
                    f"the last deploy of stack '{stack.name}' has changed no service that had"
                    f" another spec before: `clusterctl service history NAME` shows what there was"
                )
            changes = self._access.begin()
            taken_back = msgspec.structs.replace(stack, updated_at=self._clock.now())
            changes.save(taken_back, old=stack, why="its last deploy was taken back")
            return self._go_back(chosen, changes)

        return await self._access.change(decide)

    async def steer(self, reference: str, action: RolloutAction) -> Service:
        """Say a word about a service's rollout.

        Raises:
            StateError: there is no rollout of which that could be said.
        """

        def decide() -> Decision[Service]:
            service = find_service(self._view, reference)
            rollout = self._view.rollouts.get(service.id)
            steered = _steered(service, rollout, action, self._clock.now())
            changes = self._access.begin()
            if steered != service:
                why = f"an operator asked for: {action.value}"
                changes.save(steered, old=service, why=why)
            return Decision(
                changes,
                lambda revision: as_stored(steered, revision) if changes.writes else service,
            )

        return await self._access.change(decide)

    def _go_back(
        self, chosen: Sequence[tuple[Service, int]], changes: Changes
    ) -> Decision[list[RolledBack]]:
        done: list[tuple[Service, int]] = []
        specs = {
            service.id: as_it_was(service, self._view.versions[service.id, number])
            for service, number in chosen
            if number
        }
        check_dependencies(self._view, list(specs.values()))
        for service, number in chosen:
            if not number:
                done.append((service, 0))
                continue
            spec = specs[service.id]
            check_service(spec)
            new, _ = services.replace(changes, service, spec, self._clock.now(), rolls_back=True)
            done.append((new, number))
        done.sort(key=lambda each: each[0].spec.name)
        return Decision(
            changes,
            lambda revision: [
                RolledBack(as_stored(service, revision) if number else service, number)
                for service, number in done
            ],
        )


def as_it_was(service: Service, version: ServiceVersion) -> ServiceSpec:
    """Return the spec of an earlier version with as many replicas as the service has now."""
    return msgspec.structs.replace(version.spec, replicas=service.spec.replicas)


def before_deploy(view: View, service: Service, stack: Stack) -> int:
    """Return the version that the stack's last deploy has replaced; 0 if it did not.

    Of what was there before, that which ran well is meant, if it is known.
    """
    versions = view.versions_of_service(service.id)
    before = [n for n, version in versions.items() if version.created_at < stack.updated_at]
    if not before or max(before) == service.spec_version:
        return 0
    rollout = view.rollouts.get(service.id)
    good = [n for n in (rollout.healthy if rollout else ()) if n in before]
    number = _newest_alike(versions, max(good), max(before) + 1) if good else max(before)
    return 0 if as_it_was(service, versions[number]) == service.spec else number


def _chosen(view: View, service: Service, number: int) -> int:
    name, versions = service.spec.name, view.versions_of_service(service.id)
    look = f"`clusterctl service history {name}` lists those that are kept"
    if number:
        if number not in versions:
            was = "is no longer kept" if 0 < number < service.spec_version else "never was"
            raise NotFoundError(
                f"version {number} of service '{name}' {was}; it is at version"
                f" {service.spec_version}; {look}"
            )
        if as_it_was(service, versions[number]) == service.spec:
            raise StateError(
                f"service '{name}' is as it was at version {number} already (but for its"
                f" replicas); {look}"
            )
        return number
    rollout = view.rollouts.get(service.id)
    earlier = [*(rollout.healthy if rollout else ())]
    earlier = [n for n in earlier if n in versions] or sorted(versions)
    for each in reversed(earlier):
        if each < service.spec_version and _differs(versions[each], service):
            return _newest_alike(versions, each, service.spec_version)
    raise StateError(
        f"service '{name}' has had no other template that ran well; --to goes back to any"
        f" version; {look}"
    )


def _differs(version: ServiceVersion, service: Service) -> bool:
    return needs_replacing(version.spec.task, service.spec.task)


def _newest_alike(versions: Mapping[int, ServiceVersion], number: int, before: int) -> int:
    """Return the newest version before *before* whose tasks are like those of *number*."""
    spec = versions[number].spec.task
    alike = (
        each
        for each, version in versions.items()
        if number <= each < before and not needs_replacing(spec, version.spec.task)
    )
    return max(alike)


def _steered(
    service: Service, rollout: Rollout | None, action: RolloutAction, now: float
) -> Service:
    name = service.spec.name
    state = rollout.state if rollout else None
    stands = f"its rollout is {state.value}" if state else "nothing was ever rolled out"
    match action:
        case RolloutAction.PROMOTE:
            if not service.spec.update.canary:
                raise StateError(f"service '{name}' has no canary: update with --update-canary")
            if state not in (RolloutState.UPDATING, RolloutState.CANARY):
                raise StateError(f"no canary of service '{name}' waits for a word: {stands}")
            return msgspec.structs.replace(service, promoted_version=service.spec_version)
        case RolloutAction.PAUSE:
            if state not in _MOVING and not service.paused:
                raise StateError(f"service '{name}' is not being updated: {stands}")
            return msgspec.structs.replace(service, paused=True)
        case RolloutAction.RESUME:
            if state not in _HALTED and not service.paused:
                raise StateError(f"no rollout of service '{name}' is paused: {stands}")
            # Later than the last one, though clocks of managers differ: it is told by that.
            at = max(now, service.resumed_at + 1e-3)
            return msgspec.structs.replace(service, paused=False, resumed_at=at)
