"""How objects stand in the store: their key, and their JSON.

The store's revision is the object's ``version``; it is not part of the bytes.
"""

from typing import Any

import msgspec

from cluster.errors import InternalError
from cluster.model import (
    Cluster,
    JobStatus,
    Manager,
    Node,
    Object,
    Rollout,
    Scaling,
    Service,
    ServiceVersion,
    Session,
    Stack,
    Task,
)
from manager.store import keys
from manager.store.interface import NO_LEASE, KeyValue, LeaseId, Put

KINDS: dict[str, type[Object]] = {
    "cluster": Cluster,
    "managers": Manager,
    "nodes": Node,
    "sessions": Session,
    "services": Service,
    "versions": ServiceVersion,
    "rollouts": Rollout,
    "tasks": Task,
    "stacks": Stack,
    "scalings": Scaling,
    "jobs": JobStatus,
}

_decoders: dict[str, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(struct) for kind, struct in KINDS.items()
}
_encoder = msgspec.json.Encoder()


def key_of(value: Object) -> str:
    """Return the key that *value* stands under."""
    match value:
        case Task():
            return keys.task(value.id)
        case Service():
            return keys.service(value.id)
        case ServiceVersion():
            return keys.version(value.service_id, value.number)
        case Rollout():
            return keys.rollout(value.service_id)
        case Node():
            return keys.node(value.id)
        case Session():
            return keys.session(value.node_id)
        case Stack():
            return keys.stack(value.id)
        case Scaling():
            return keys.scaling(value.service_id)
        case JobStatus():
            return keys.job(value.service_id)
        case Manager():
            return keys.manager(value.id)
        case Cluster():
            return keys.CLUSTER
    raise InternalError(f"{type(value).__name__} has no key")


def put(value: Object, lease: LeaseId = NO_LEASE) -> Put:
    """Return the write that stores *value*."""
    return Put(key_of(value), encode(value), lease)


def encode(value: Object) -> bytes:
    return _encoder.encode(msgspec.structs.replace(value, version=0) if value.version else value)


def decode(item: KeyValue) -> Object | None:
    """Return the object in *item*; None if its kind is not one of ``KINDS``.

    Raises:
        InternalError: the bytes are not such an object.
    """
    kind, _ = keys.split(item.key)
    decoder = _decoders.get(kind)
    if decoder is None:
        return None
    try:
        value: Object = decoder.decode(item.value)
    except msgspec.MsgspecError as error:
        raise InternalError(f"the store holds a broken record at {item.key}: {error}") from error
    return msgspec.structs.replace(value, version=item.mod_revision)
