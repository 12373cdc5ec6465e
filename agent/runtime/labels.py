"""How a container says whose it is: our labels, and the name that we give it.

The labels alone would not do. An image that somebody commits from one of our containers
carries them on to whatever is run from it; but the name stays ours.
"""

from collections.abc import Mapping

from agent.runtime.interface import Owner
from cluster.model import Assignment, TaskId

CLUSTER = "shoal.cluster"
NODE = "shoal.node"
TASK = "shoal.task"
SERVICE = "shoal.service"
SERVICE_NAME = "shoal.service.name"
VERSION = "shoal.version"
SLOT = "shoal.slot"
STACK = "shoal.stack"
NETWORK = "shoal.network"
REQUEST = "shoal.request"  # that led to it: what `clusterctl events --request` takes


def container_name(assignment: Assignment) -> str:
    """Return ``<service>.<slot>.<task id>``."""
    return f"{assignment.service_name}.{assignment.slot}.{assignment.task_id}"


def container_labels(owner: Owner, assignment: Assignment) -> dict[str, str]:
    """Return the labels that make a container *owner*'s and that task's."""
    labels = {
        CLUSTER: owner.cluster_id,
        NODE: owner.node_id,
        TASK: assignment.task_id,
        SERVICE: assignment.service_id,
        SERVICE_NAME: assignment.service_name,
        VERSION: str(assignment.spec_version),
        SLOT: str(assignment.slot),
    }
    more = {STACK: assignment.stack, REQUEST: assignment.request_id}
    return labels | {name: text for name, text in more.items() if text}


def owner_labels(owner: Owner) -> dict[str, str]:
    """Return the labels that all of *owner*'s containers share."""
    return {CLUSTER: owner.cluster_id, NODE: owner.node_id}


def network_labels(owner: Owner, name: str) -> dict[str, str]:
    """Return the labels of a network: agents of one cluster on one host share it."""
    return {CLUSTER: owner.cluster_id, NETWORK: name}


def task_of(labels: Mapping[str, str], name: str) -> TaskId | None:
    """Return which task a container of these labels and this name is; None if it is not ours."""
    task = labels.get(TASK, "")
    is_ours = bool(task) and CLUSTER in labels and NODE in labels and name.endswith(f".{task}")
    return TaskId(task) if is_ours else None


def has(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return wanted.items() <= labels.items()


def short_name(assignment: Assignment) -> str:
    """Return the service's name as its own stack's file calls it."""
    return assignment.service_name.removeprefix(f"{assignment.stack}_" if assignment.stack else "")
