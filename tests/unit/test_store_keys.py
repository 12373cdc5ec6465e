"""Keys: each object has one, and each tells what it belongs to."""

import pytest

from cluster.model import ManagerId, NodeId, ServiceId, StackId, TaskId
from manager.store import keys


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        (keys.CLUSTER, ("cluster", "")),
        (keys.LEADER, ("leader", "")),
        (keys.manager(ManagerId("m")), ("managers", "m")),
        (keys.node(NodeId("n")), ("nodes", "n")),
        (keys.session(NodeId("n")), ("sessions", "n")),
        (keys.service(ServiceId("s")), ("services", "s")),
        (keys.version(ServiceId("s"), 7), ("versions", "s/00000007")),
        (keys.task(TaskId("t")), ("tasks", "t")),
        (keys.stack(StackId("k")), ("stacks", "k")),
        (keys.name("services", "web/a"), ("names", "services/web/a")),
    ],
)
def test_a_key_tells_its_kind_and_what_follows(key: str, parts: tuple[str, str]) -> None:
    assert keys.split(key) == parts


def test_versions_list_in_the_order_of_their_numbers() -> None:
    numbers = [1, 2, 9, 10, 99, 100, 12_345_678]
    listed = sorted(keys.version(ServiceId("s"), number) for number in numbers)
    assert [int(key.rpartition("/")[2]) for key in listed] == numbers


def test_no_key_is_the_beginning_of_another() -> None:
    """A watch or a listing of one key must not meet another's."""
    fixed = [keys.CLUSTER, keys.LEADER]
    others = [keys.manager(ManagerId("m")), keys.name("leader", "x"), keys.stack(StackId("k"))]
    assert not any(
        other.startswith(key) for key in fixed for other in [*fixed, *others] if other != key
    )


def test_a_foreign_key_is_refused() -> None:
    with pytest.raises(ValueError, match="not under"):
        keys.split("/registry/pods")
