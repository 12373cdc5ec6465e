"""Services as clients ask for them: made, changed, scaled and removed, whole or not at all."""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import msgspec

from cluster.clock import Clock
from cluster.errors import ConflictError, ExistsError, InvalidError, StateError
from cluster.ids import IdSource
from cluster.model import (
    Concurrency,
    RunState,
    Service,
    ServiceId,
    ServiceMode,
    ServiceSpec,
    ServiceVersion,
)
from cluster.scaling import wanted_replicas
from cluster.validation import check_service
from manager.control import summaries
from manager.control.access import Access, Changes, Decision, as_stored
from manager.control.dependencies import check_dependencies, with_restarts
from manager.control.differences import differences
from manager.control.references import find_service, find_stack
from manager.control.summaries import ServiceSummary
from manager.view import View

Answer = TypeVar("Answer")

NAMES = "services"  # the kind of their index keys

# How many versions back the one is looked for that a stale request was decided on.
VERSIONS_LOOKED_AT_MAX = 100


class Services:
    """The part of the Control API that is about services."""

    def __init__(self, access: Access, ids: IdSource, clock: Clock) -> None:
        self._access = access
        self._view = access.view
        self._ids = ids
        self._clock = clock

    async def get(self, reference: str) -> ServiceSummary:
        return await self._access.read(
            lambda: summaries.of_service(self._view, find_service(self._view, reference))
        )

    async def all(self, stack: str = "") -> list[ServiceSummary]:
        """Return the services by name; of one stack, if it is named."""

        def listed() -> list[Service]:
            if not stack:
                return list(self._view.services.values())
            return self._view.services_of_stack(find_stack(self._view, stack).name)

        services = sorted(await self._access.read(listed), key=lambda each: each.spec.name)
        return [summaries.of_service(self._view, service) for service in services]

    async def create(self, spec: ServiceSpec) -> Service:
        """Make a service.

        Raises:
            InvalidError: the spec can never work; all that is wrong with it.
            ExistsError: the name is in use.
        """
        check_service(spec)
        if spec.stack:
            raise InvalidError(
                f"service '{spec.name}' names the stack '{spec.stack}': `clusterctl stack deploy`"
                " makes the services of stacks"
            )
        service = new_service(spec, ServiceId(self._ids.new()), self._clock.now())

        def decide() -> Decision[Service]:
            if other := self._view.service_by_name(spec.name):
                raise ExistsError(name_in_use(other))
            check_dependencies(self._view, [spec])
            changes = self._access.begin()
            create(changes, service)
            return Decision(changes, lambda revision: as_stored(service, revision))

        return await self._access.change(decide)

    async def update(self, reference: str, version: int, spec: ServiceSpec) -> Service:
        """Replace the spec of the service as it stood at *version*.

        Raises:
            InvalidError: the spec can never work, or changes what cannot change.
            ConflictError: the service has changed since *version*; shows how.
        """
        check_service(spec)
        if version <= 0:
            raise InvalidError("an update names the version of the service that it was decided on")
        await self._access.reached(version)  # it may have come from another manager

        def decide() -> Decision[Service]:
            old = find_service(self._view, reference)
            if old.version != version:
                raise ConflictError(_has_changed(self._view, old, version))
            check_dependencies(self._view, [spec])
            this, *others = with_restarts(self._view, [spec])
            wanted = [(old, this)]
            wanted += [(find_service(self._view, each.name), each) for each in others]
            return self._replace(wanted, lambda services: services[0])

        return await self._access.change(decide)

    async def scale(self, replicas: Mapping[str, int]) -> list[Service]:
        """Set how many replicas services have, by reference; all of them or none.

        Raises:
            InvalidError: a number out of range, a global service, a job, or one named twice.
            StateError: a service scales itself.
        """

        def decide() -> Decision[list[Service]]:
            wanted = scaled(self._view, replicas)
            for service, _ in wanted:
                if service.spec.autoscale is not None:
                    raise StateError(_scales_itself(self._view, service))
            return self._replace(wanted, lambda services: services)

        return await self._access.change(decide)

    async def run_job(self, reference: str) -> Service:
        """Ask for a run of a job now; ``run_requests`` of the answer is the number of the request.

        Raises:
            InvalidError: the service is no job.
            StateError: a run is under way, and the schedule forbids another one.
        """

        def decide() -> Decision[Service]:
            service = _find_job(self._view, reference)
            name, schedule = service.spec.name, service.spec.job.schedule
            status = self._view.jobs.get(service.id)
            under_way = (
                [run for run in status.runs if run.state is RunState.RUNNING] if status else []
            )
            if under_way and schedule and schedule.concurrency is Concurrency.FORBID:
                raise StateError(
                    f"run {under_way[-1].number} of job '{name}' is under way, and its schedule"
                    f" says concurrency: forbid; see `clusterctl job ps {name}`"
                )
            changes = self._access.begin()
            asked = msgspec.structs.replace(service, run_requests=service.run_requests + 1)
            changes.save(asked, old=service, why="an operator asked for a run")
            return Decision(changes, lambda revision: as_stored(asked, revision))

        return await self._access.change(decide)

    async def suspend_job(self, reference: str, *, suspended: bool) -> Service:
        """Let nothing of a job's schedule become due, or go on; that it is so already is fine.

        Raises:
            InvalidError: the service is no job, or has no schedule.
            StateError: it shall go on, and its own schedule says that it is suspended.
        """

        def decide() -> Decision[Service]:
            service = _find_job(self._view, reference)
            name, schedule = service.spec.name, service.spec.job.schedule
            if schedule is None:
                raise InvalidError(f"job '{name}' has no schedule: there is nothing to suspend")
            if schedule.suspended and not suspended:
                raise StateError(
                    f"job '{name}' was deployed with `suspended: true`: take that out of its"
                    " compose file and deploy it"
                )
            changes = self._access.begin()
            if service.suspended is suspended:
                return Decision(changes, lambda _: service)
            asked = msgspec.structs.replace(
                service, suspended=suspended, updated_at=self._clock.now()
            )
            why = "an operator suspended its schedule" if suspended else "its schedule goes on"
            changes.save(asked, old=service, why=why)
            return Decision(changes, lambda revision: as_stored(asked, revision))

        return await self._access.change(decide)

    async def remove(self, references: Iterable[str]) -> None:
        """Remove services, all or none; their tasks are stopped by and by."""
        names = tuple(references)

        def decide() -> Decision[None]:
            changes = self._access.begin()
            for service in {s.id: s for s in (find_service(self._view, n) for n in names)}.values():
                remove(changes, service)
            return Decision(changes, lambda _: None)

        await self._access.change(decide)

    def _replace(
        self,
        wanted: Iterable[tuple[Service, ServiceSpec]],
        answer: Callable[[list[Service]], Answer],
    ) -> Decision[Answer]:
        changes = self._access.begin()
        services = [replace(changes, old, spec, self._clock.now()) for old, spec in wanted]
        return Decision(
            changes,
            lambda revision: answer(
                [as_stored(each, revision) if touched else each for each, touched in services]
            ),
        )


def scaled(view: View, replicas: Mapping[str, int]) -> list[tuple[Service, ServiceSpec]]:
    """Return services, named by reference, with their specs of so many replicas.

    Raises:
        InvalidError: a number out of range, a global service, a job, or one named twice.
    """
    wanted: dict[ServiceId, tuple[Service, ServiceSpec]] = {}
    for reference, count in replicas.items():
        service = find_service(view, reference)
        if service.id in wanted:
            raise InvalidError(f"service '{service.spec.name}' is named twice")
        if service.spec.mode is not ServiceMode.REPLICATED:
            raise InvalidError(_cannot_be_scaled(service.spec))
        spec = msgspec.structs.replace(service.spec, replicas=count)
        check_service(spec)
        wanted[service.id] = service, spec
    return list(wanted.values())


def _find_job(view: View, reference: str) -> Service:
    service = find_service(view, reference)
    if not service.spec.mode.is_job:
        raise InvalidError(
            f"service '{service.spec.name}' is no job (it is {service.spec.mode.value}):"
            " `clusterctl job ls` lists those"
        )
    return service


def new_service(spec: ServiceSpec, service_id: ServiceId, now: float) -> Service:
    """Return a service that is still to be stored."""
    return Service(id=service_id, spec=spec, created_at=now, updated_at=now)


def create(changes: Changes, service: Service) -> None:
    """Store a new service with its first version and its name."""
    why = f"{service.spec.task.container.image}, {_extent(service.spec)}"
    changes.save(service, _version(service, service.created_at, changes.request_id), why=why)
    changes.take_name(NAMES, service.spec.name, service.id)


def replace(
    changes: Changes, old: Service, spec: ServiceSpec, now: float, *, rolls_back: bool = False
) -> tuple[Service, bool]:
    """Give *old* another spec, as a new version; return it, and whether anything changes.

    What operators have said about a rollout is said of a template: it lasts as long as that.

    Raises:
        InvalidError: it changes what cannot change.
    """
    if spec == old.spec:
        return old, False
    _check_lasting(old.spec, spec)
    number = old.spec_version + 1
    new = msgspec.structs.replace(
        old,
        spec=spec,
        spec_version=number,
        updated_at=now,
        rolls_back=rolls_back,
        paused=False,
    )
    if spec.task == old.spec.task:
        is_promoted = old.promoted_version == old.spec_version
        new = msgspec.structs.replace(
            new,
            rolls_back=rolls_back or old.rolls_back,
            paused=old.paused,
            promoted_version=number if is_promoted else old.promoted_version,
        )
    why = f"version {number}{' takes back' * rolls_back}: {differences(old.spec, spec)}"
    changes.save(new, _version(new, now, changes.request_id), old=old, why=why)
    return new, True


def remove(changes: Changes, service: Service) -> None:
    """Remove a service and free its name; its tasks and versions go by and by."""
    changes.drop(service, why="an operator had it removed")
    changes.free_name(NAMES, service.spec.name)


def _cannot_be_scaled(spec: ServiceSpec) -> str:
    if spec.mode is ServiceMode.REPLICATED_JOB:
        return (
            f"service '{spec.name}' is a job: it has completions, not replicas, and is run anew"
            f" when they change: `clusterctl service update --completions N {spec.name}`"
        )
    return (
        f"service '{spec.name}' is global: it runs once on every node that complies and cannot be"
        " scaled"
    )


def name_in_use(other: Service) -> str:
    """Return the sentence that refuses a name which *other* has."""
    of = f"stack '{other.spec.stack}'" if other.spec.stack else "no stack"
    return (
        f"the name '{other.spec.name}' is in use by a service of {of} (id {other.id});"
        f" choose another, or remove it: `clusterctl service rm {other.spec.name}`"
    )


def _scales_itself(view: View, service: Service) -> str:
    name, scale = service.spec.name, service.spec.autoscale
    assert scale is not None
    now = wanted_replicas(service.spec, view.scalings.get(service.id))
    return (
        f"service '{name}' scales itself, between {scale.min_replicas} and {scale.max_replicas}"
        f" replicas, and has {now} now: change the range"
        f" (`clusterctl service update --scale-min N --scale-max N {name}`, or its file), or take"
        f" it in hand (`clusterctl service update --no-autoscale --replicas N {name}`)"
    )


def _extent(spec: ServiceSpec) -> str:
    if spec.mode is ServiceMode.REPLICATED:
        return f"{spec.replicas} replica{'s' * (spec.replicas != 1)}"
    return f"{spec.mode.value}"


def _version(service: Service, now: float, request_id: str) -> ServiceVersion:
    return ServiceVersion(
        service_id=service.id,
        number=service.spec_version,
        spec=service.spec,
        created_at=now,
        request_id=request_id,
    )


def _check_lasting(old: ServiceSpec, new: ServiceSpec) -> None:
    for field in ("name", "mode", "stack"):
        before, after = getattr(old, field), getattr(new, field)
        if before != after:
            raise InvalidError(
                f"the {field} of service '{old.name}' cannot change"
                f" ({differences(old, msgspec.structs.replace(old, **{field: after}))}):"
                " remove it and make another"
            )


def _has_changed(view: View, service: Service, version: int) -> str:
    text = (
        f"service '{service.spec.name}' has changed: the update was decided on version {version},"
        f" it is at version {service.version} now"
    )
    if spec := _spec_at(view, service, version):
        text += f", which differs in {differences(spec, service.spec) or 'nothing'}"
    return f"{text}; look again: `clusterctl service inspect {service.spec.name}`"


def _spec_at(view: View, service: Service, version: int) -> ServiceSpec | None:
    """Return the spec that the service had at a revision; None if it is no longer kept."""
    oldest = max(0, service.spec_version - VERSIONS_LOOKED_AT_MAX)
    for number in range(service.spec_version, oldest, -1):
        found = view.versions.get((service.id, number))
        if found is not None and found.version == version:
            return found.spec
    return None
