"""What differs between two specs, and what of it is told."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from cluster.differences import Difference, differences
from cluster.model import (
    ContainerSpec,
    Healthcheck,
    LogOptions,
    Mount,
    MountKind,
    PublishedPort,
    ServiceSpec,
    TaskSpec,
)
from cluster.resources import Resources


def spec(**container: object) -> ServiceSpec:
    return ServiceSpec(
        name="web",
        task=TaskSpec(container=msgspec.structs.replace(ContainerSpec(image="web:1"), **container)),
    )


def with_task(**changes: object) -> ServiceSpec:
    base = spec()
    return msgspec.structs.replace(base, task=msgspec.structs.replace(base.task, **changes))


def test_equal_specs_do_not_differ() -> None:
    assert not list(differences(spec(environment={"A": "1"}), spec(environment={"A": "1"})))


def test_only_what_changes_is_told_with_its_unit() -> None:
    old = with_task(reservations=Resources(cpu_nanos=500_000_000, memory_bytes=64 << 20))
    new = with_task(reservations=Resources(cpu_nanos=1_500_000_000, memory_bytes=64 << 20))
    assert list(differences(old, new)) == [Difference("task.reservations.cpu_nanos", "0.5", "1.5")]


def test_members_of_a_list_come_and_go_one_by_one() -> None:
    old = with_task(ports=(PublishedPort(target=80, published=8080), PublishedPort(target=81)))
    new = with_task(ports=(PublishedPort(target=80, published=8080), PublishedPort(target=82)))
    assert list(differences(old, new)) == [
        Difference("task.ports", before="target=81"),
        Difference("task.ports", after="target=82"),
    ]


def test_another_order_of_a_list_is_a_change() -> None:
    one, other = PublishedPort(target=80), PublishedPort(target=81)
    found = list(differences(with_task(ports=(one, other)), with_task(ports=(other, one))))
    assert found == [Difference("task.ports", "target=80, target=81", "target=81, target=80")]


def test_a_variable_is_named_but_its_value_is_not_told() -> None:
    old = spec(environment={"LEVEL": "low", "GONE": "x"})
    new = spec(environment={"LEVEL": "high", "NEW": "y"})
    at = "task.container.environment"
    assert list(differences(old, new)) == [
        Difference(f"{at}.LEVEL", "***", "***", hidden=True),
        Difference(f"{at}.GONE", "***", "", hidden=True),
        Difference(f"{at}.NEW", "", "***", hidden=True),
    ]


def test_values_are_told_when_they_are_asked_for() -> None:
    found = list(
        differences(spec(environment={"A": "1"}), spec(environment={"A": "2"}), values=True)
    )
    assert found == [Difference("task.container.environment.A", "1", "2", hidden=False)]


@given(secret=st.text("0123456789abcdef", min_size=12, max_size=20))
def test_no_byte_of_what_may_be_secret_is_told(secret: str) -> None:
    """I16, wherever in a spec a process, a driver or a probe can be told something."""
    carriers = [
        spec(environment={"TOKEN": secret}),
        spec(command=("serve", secret)),
        spec(entrypoint=("sh", "-c", secret)),
        spec(healthcheck=Healthcheck(test=("CMD-SHELL", secret))),
        spec(log=LogOptions(driver="fluentd", options={"key": secret})),
        spec(
            mounts=(
                Mount(
                    kind=MountKind.VOLUME,
                    target="/d",
                    source="d",
                    driver="nfs",
                    driver_options={"password": secret},
                ),
            )
        ),
    ]
    for carrier in carriers:
        for old, new in ((spec(), carrier), (carrier, spec())):
            found = list(differences(old, new))
            assert found
            assert secret not in repr(found)
