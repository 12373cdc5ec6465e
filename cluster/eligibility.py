"""Which nodes a service's tasks may be on at all, whatever room they have left.

What is asked here lasts: an operator's or an owner's word. The scheduler asks the same and
more; a global service has a task on every node that passes.
"""

from cluster import constraints
from cluster.model import MountKind, Node, TaskSpec


def eligible(spec: TaskSpec, node: Node) -> bool:
    """Tell whether *node* meets the constraints, is not reserved for others, and has the volumes.

    Raises:
        InvalidError: a constraint cannot be read.
    """
    facts = constraints.NodeFacts.of(node)
    return (
        all(
            constraints.matches(constraints.parse(one), facts) for one in spec.placement.constraints
        )
        and set(node.spec.reserved_for) <= set(spec.placement.tolerates)
        and bound_volumes(spec) <= set(node.spec.volumes)
    )


def bound_volumes(spec: TaskSpec) -> set[str]:
    """Return the names of the volumes that bind the tasks to the nodes they live on."""
    return {
        mount.source
        for mount in spec.container.mounts
        if mount.bound and mount.kind is MountKind.VOLUME
    }
