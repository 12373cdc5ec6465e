"""On which nodes a service's tasks may be at all."""

import pytest

from cluster.eligibility import bound_volumes, eligible
from cluster.model import (
    ContainerSpec,
    Mount,
    MountKind,
    Node,
    NodeId,
    NodeSpec,
    Placement,
    TaskSpec,
)

BOUND = Mount(kind=MountKind.VOLUME, source="data", target="/data", bound=True)
LOOSE = Mount(kind=MountKind.VOLUME, source="cache", target="/cache")


def task(
    *mounts: Mount, constraints: tuple[str, ...] = (), tolerates: tuple[str, ...] = ()
) -> TaskSpec:
    return TaskSpec(
        container=ContainerSpec(image="web", mounts=mounts),
        placement=Placement(constraints=constraints, tolerates=tolerates),
    )


@pytest.mark.parametrize(
    ("spec", "node", "expected"),
    [
        (task(), NodeSpec(), True),
        (task(constraints=("node.labels.a == b",)), NodeSpec(labels={"a": "b"}), True),
        (
            task(constraints=("node.labels.a == b", "node.id == x")),
            NodeSpec(labels={"a": "b"}),
            False,
        ),
        (task(), NodeSpec(reserved_for=("gpu",)), False),
        (task(tolerates=("gpu", "more")), NodeSpec(reserved_for=("gpu",)), True),
        (task(tolerates=("gpu",)), NodeSpec(reserved_for=("gpu", "team-a")), False),
        (task(BOUND), NodeSpec(), False),
        (task(BOUND), NodeSpec(volumes=("other", "data")), True),
        (task(BOUND, LOOSE), NodeSpec(volumes=("data",)), True),
    ],
)
def test_a_node_takes_what_complies_with_it(spec: TaskSpec, node: NodeSpec, expected: bool) -> None:
    assert eligible(spec, Node(id=NodeId("n1"), spec=node)) is expected


def test_only_bound_volumes_bind() -> None:
    assert bound_volumes(task(BOUND, LOOSE)) == {"data"}
