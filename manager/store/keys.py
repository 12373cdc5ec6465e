"""Where things stand in the store: one key per object, one index key per name.

Keys under one prefix; ids never contain a slash. The number of a service version is padded so
that a listing is in order.
"""

from cluster.model import ManagerId, NodeId, ServiceId, StackId, TaskId

PREFIX = "/shoal/v1/"

# What happened is no part of how things are: no manager keeps it in memory or relists it.
JOURNAL = "/shoal/journal/v1/"

CLUSTER = f"{PREFIX}cluster"
LEADER = f"{PREFIX}leader"


def manager(manager_id: ManagerId) -> str:
    return f"{PREFIX}managers/{manager_id}"


def node(node_id: NodeId) -> str:
    return f"{PREFIX}nodes/{node_id}"


def session(node_id: NodeId) -> str:
    return f"{PREFIX}sessions/{node_id}"


def service(service_id: ServiceId) -> str:
    return f"{PREFIX}services/{service_id}"


def version(service_id: ServiceId, number: int) -> str:
    return f"{PREFIX}versions/{service_id}/{number:08d}"


def scaling(service_id: ServiceId) -> str:
    return f"{PREFIX}scalings/{service_id}"


def rollout(service_id: ServiceId) -> str:
    return f"{PREFIX}rollouts/{service_id}"


def job(service_id: ServiceId) -> str:
    return f"{PREFIX}jobs/{service_id}"


def task(task_id: TaskId) -> str:
    return f"{PREFIX}tasks/{task_id}"


def stack(stack_id: StackId) -> str:
    return f"{PREFIX}stacks/{stack_id}"


def name(kind: str, text: str) -> str:
    """Return the index key of *text* among the names of *kind* ("services", "stacks")."""
    return f"{PREFIX}names/{kind}/{text}"


def journal(at_seconds: float, suffix: str) -> str:
    """Return the key of an entry of the journal, written at that time; *suffix* makes it unique."""
    return f"{JOURNAL}{max(0, round(at_seconds * 1000)):014d}-{suffix}"


def split(key: str) -> tuple[str, str]:
    """Return the kind that *key* belongs to and what follows it.

    ``/shoal/v1/tasks/x`` gives ("tasks", "x"), ``/shoal/v1/cluster`` gives ("cluster", "").

    Raises:
        ValueError: the key is not under our prefix.
    """
    if not key.startswith(PREFIX):
        raise ValueError(f"{key} is not under {PREFIX}")
    kind, _, rest = key.removeprefix(PREFIX).partition("/")
    return kind, rest
