"""Events: what happened in the cluster, why, and which request it goes back to."""

from cluster.model.base import NodeId, ServiceId, Value


class Event(Value, frozen=True):
    """Something that was decided or seen, as it is told to people and programs.

    Attributes:
        at: when, by the clock of whoever decided or saw it.
        kind: of the object: "task", "service", "stack", "node", "manager", ...
        event: in a word: "created", "assigned", "running", "down", "removed".
        id: of the object.
        name: of the object, as people know it.
        why: in a sentence; empty if there is no more to say.
        request_id: of the request that it goes back to; empty if nobody asked for it.
        service_id: of the service concerned; empty if none is.
        service: its name.
        stack: that the service belongs to, or the stack itself.
        slot: of a task.
        node_id: of the node concerned; empty if none is.
        node: its host name.
        container_id: the beginning of Docker's id, where a task got its container.
        by: the manager that wrote it down.
        revision: of the store, at which it became so; what has the same became so together.
        run: of a job, that it is about or that its task is part of; else 0.
    """

    at: float
    kind: str
    event: str
    id: str = ""
    name: str = ""
    why: str = ""
    request_id: str = ""
    service_id: ServiceId = ServiceId("")
    service: str = ""
    stack: str = ""
    slot: int = 0
    node_id: NodeId = NodeId("")
    node: str = ""
    container_id: str = ""
    by: str = ""
    revision: int = 0
    run: int = 0
