"""When a new spec needs new tasks."""

from typing import Any

import msgspec
import pytest

from cluster.lifecycle import needs_replacing
from cluster.model import (
    Affinity,
    ContainerSpec,
    Mount,
    MountKind,
    Placement,
    RestartPolicy,
    Strategy,
    TaskSpec,
)
from cluster.resources import Resources


def mount(**fields: Any) -> Mount:
    return Mount(kind=MountKind.VOLUME, source="data", target="/data", **fields)


OLD = TaskSpec(container=ContainerSpec(image="web:1", mounts=(mount(),)))


def with_mounts(*mounts: Mount) -> TaskSpec:
    container = msgspec.structs.replace(OLD.container, mounts=mounts)
    return msgspec.structs.replace(OLD, container=container)


@pytest.mark.parametrize(
    "new",
    [
        msgspec.structs.replace(OLD, restart=RestartPolicy(delay_seconds=1)),
        msgspec.structs.replace(
            OLD,
            placement=Placement(
                strategy=Strategy.SPREAD, stays=True, affinities=(Affinity(service="db"),)
            ),
        ),
        with_mounts(mount(bound=True)),
    ],
)
def test_where_a_task_may_run_does_not_replace_it(new: TaskSpec) -> None:
    assert not needs_replacing(OLD, new)
    assert not needs_replacing(new, OLD)


@pytest.mark.parametrize(
    "new",
    [
        msgspec.structs.replace(OLD, reservations=Resources(generic={"gpu": 1})),
        with_mounts(mount(bound=True, read_only=True)),
        with_mounts(mount(), mount()),
        with_mounts(),
        msgspec.structs.replace(OLD, force_update=1, placement=Placement(stays=True)),
    ],
)
def test_what_runs_does(new: TaskSpec) -> None:
    assert needs_replacing(OLD, new)
    assert needs_replacing(new, OLD)
