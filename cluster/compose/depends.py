"""``depends_on``: what a service of the files waits for, and whether that can ever be."""

from collections.abc import Mapping as ByKey
from itertools import pairwise

from cluster.compose import catalogue, fields
from cluster.compose.fields import Cursor, Fields
from cluster.compose.nodes import Mapping
from cluster.compose.problems import Position, Report
from cluster.compose.stack import Stack
from cluster.dependencies import completion_flaw, cycle_in
from cluster.errors import did_you_mean
from cluster.model import Dependency, DependencyCondition, ServiceSpec

_CONDITIONS = {condition.value: condition for condition in DependencyCondition}


def dependencies(service: Fields, stack: Stack) -> tuple[Dependency, ...]:
    """Return what a service waits for, in the order of the file."""

    def read(cursor: Cursor) -> tuple[Dependency, ...]:
        found = []
        for name, child in cursor.children():
            part = Fields(child, catalogue.DEPENDENCY)
            required = part.get("required", fields.boolean, True)
            if name not in stack.services and not _may_be_missing(
                cursor, name, stack, required=required
            ):
                continue
            found.append(
                Dependency(
                    service=f"{stack.name}_{name}",
                    condition=part.get(
                        "condition", fields.choice(_CONDITIONS), DependencyCondition.STARTED
                    ),
                    required=required,
                    restart=part.get("restart", fields.boolean, False),
                )
            )
        return tuple(found)

    return service.get("depends_on", read, ())


def _may_be_missing(cursor: Cursor, name: str, stack: Stack, *, required: bool) -> bool:
    """Report a service that the files do not have; tell whether one can go on without it."""
    at, path = cursor.map().keys_at[name], f"{cursor.path}.{name}"
    near = did_you_mean(name, stack.services)
    missing = f"there is no service {name!r} in this stack"
    if required:
        hint = near or " one that a profile leaves out needs `required: false`"
        cursor.report.problem(at, path, f"{missing};{hint}")
        return False
    cursor.report.warning(at, path, f"{missing}{near and ';' + near}: it is not waited for")
    return True


def check(specs: ByKey[str, ServiceSpec], cursors: ByKey[str, Cursor], report: Report) -> None:
    """Report circles, and waiting for the end of what never ends.

    Args:
        specs: by the key of the service.
        cursors: where each of the services is written.
        report: is told.
    """
    names = {spec.name: key for key, spec in specs.items()}
    edges = {
        key: [names[each.service] for each in spec.depends_on if each.service in names]
        for key, spec in specs.items()
    }
    if circle := cycle_in(edges):
        places = [_place(cursors[key], other) for key, other in pairwise(circle)]
        told = [f"{key} ({at})" for key, at in zip(circle, places, strict=False)]
        report.problem(
            places[0],
            f"services.{circle[0]}.depends_on.{circle[1]}",
            f"services depend on each other in a circle: {' -> '.join([*told, circle[-1]])}",
        )
    for key, spec in specs.items():
        for each in spec.depends_on:
            other = names.get(each.service)
            if other is not None and (flaw := completion_flaw(each, specs[other])):
                path = f"services.{key}.depends_on.{other}"
                report.problem(_place(cursors[key], other), path, f"waits for {other}, {flaw}")


def _place(service: Cursor, other: str) -> Position:
    depends_on = service.map().entries["depends_on"]
    assert isinstance(depends_on, Mapping)
    return depends_on.keys_at[other]
