"""What services wait for, as far as a request decides on it.

No circles, nothing unknown, and who is restarted together with what an operator changes.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from cluster.dependencies import completion_flaw, cycle_in, restarted_with
from cluster.errors import InvalidError, did_you_mean
from cluster.lifecycle import needs_replacing
from cluster.model import ServiceSpec
from manager.view import View


def check_dependencies(
    view: View, specs: Sequence[ServiceSpec], leaving: Collection[str] = ()
) -> None:
    """Refuse dependencies that can never be met.

    Args:
        view: has the other services.
        specs: services as they shall be.
        leaving: names of services that are removed in the same request.

    Raises:
        InvalidError: services wait for each other in a circle, for one that there is not, or
            for the end of one that never ends.
    """
    asked = [spec for spec in specs if spec.depends_on]
    if not asked:
        return
    after = _after(view, specs, leaving)
    for spec in asked:
        for each in spec.depends_on:
            other = after.get(each.service)
            if other is None and each.required:
                raise InvalidError(
                    f"service '{spec.name}' depends on '{each.service}', which is not there;"
                    f"{did_you_mean(each.service, after)} `required: false` lets it be missing"
                )
            if other is not None and (flaw := completion_flaw(each, other)):
                raise InvalidError(f"service '{spec.name}' depends on '{each.service}', {flaw}")
    edges = {
        name: [each.service for each in spec.depends_on if each.service in after]
        for name, spec in after.items()
        if spec.depends_on
    }
    if circle := cycle_in(edges):
        raise InvalidError(f"services depend on each other in a circle: {' -> '.join(circle)}")


def with_restarts(
    view: View, specs: Sequence[ServiceSpec], leaving: Collection[str] = ()
) -> list[ServiceSpec]:
    """Return *specs*, and after them other services that are restarted because of them.

    Whatever depends with ``restart`` on a service whose tasks the request replaces gets its
    counter of forced replacements raised. Its gate then holds it back until that service is
    ready again, so it goes on with what it has until then.
    """
    changed = {spec.name for spec in specs if _is_replaced(view, spec)}
    if not changed:
        return list(specs)
    after = _after(view, specs, leaving)
    followers = {
        name
        for name in restarted_with(changed, after) - changed
        if view.service_by_name(name) is not None
    }
    asked = {spec.name for spec in specs}
    return [
        *(_forced(spec) if spec.name in followers else spec for spec in specs),
        *(_forced(after[name]) for name in sorted(followers - asked)),
    ]


def _after(
    view: View, specs: Iterable[ServiceSpec], leaving: Collection[str]
) -> Mapping[str, ServiceSpec]:
    there = {each.spec.name: each.spec for each in view.services.values()}
    kept = {name: spec for name, spec in there.items() if name not in leaving}
    return {**kept, **{spec.name: spec for spec in specs}}


def _is_replaced(view: View, spec: ServiceSpec) -> bool:
    old = view.service_by_name(spec.name)
    if old is None or old.spec == spec:
        return False
    if spec.mode.is_job:
        return spec.job.schedule is None  # any change is a new run
    return needs_replacing(old.spec.task, spec.task)


def _forced(spec: ServiceSpec) -> ServiceSpec:
    task = msgspec.structs.replace(spec.task, force_update=spec.task.force_update + 1)
    return msgspec.structs.replace(spec, task=task)
