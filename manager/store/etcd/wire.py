"""What the store's vocabulary is in etcd's messages, and what etcd's answers mean.

Pure: no connection, no waiting. ``refusal`` is the one table of what etcd's errors mean.
"""

from collections.abc import Iterable, Sequence
from enum import Enum, auto

import grpc

from cluster.errors import ClusterError, ForbiddenError, InvalidError
from manager.store.etcd import etcd_pb2 as pb
from manager.store.interface import (
    Changed,
    CompactedError,
    Event,
    Guard,
    KeyValue,
    LeaseGoneError,
    LeaseId,
    Put,
    Removed,
    StoreUnavailableError,
    TooLargeError,
    Unchanged,
    Write,
)

# Asked of the member with every call: refuse at once if you see no leader, rather than wait.
REQUIRE_LEADER = ("hasleader", "true")


# Endings of refusals that a new token mends.
TOKEN_TEXTS = (
    "invalid auth token",
    "user name is empty",  # we sent none, and users have been switched on since
    "revision of auth store is old",
    "revision in header is old",
)


class Outcome(Enum):
    """What a failed call tells about its effect."""

    NOT_DONE = auto()  # the member refused before it tried: try again, anywhere
    TOKEN_EXPIRED = auto()  # not done; get a token, or a new one, first
    NO_LOGIN_NEEDED = auto()  # not done; this etcd has no users
    UNKNOWN = auto()  # done, not done, or done later


def prefix_end(prefix: bytes) -> bytes:
    """Return the first key after all that start with *prefix*, as etcd writes it.

    Text has no byte 0xff, so the last byte can always be counted up.
    """
    return prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else b"\0"


def range_start(prefix: bytes) -> bytes:
    """Return the first key of a range over *prefix*: the empty key is written as a zero."""
    return prefix or b"\0"


def key_value(item: pb.KeyValue) -> KeyValue:
    return KeyValue(
        item.key.decode(), item.value, item.create_revision, item.mod_revision, LeaseId(item.lease)
    )


def event(message: pb.Event) -> Event:
    if message.type == pb.Event.DELETE:
        return Removed(message.kv.key.decode(), message.kv.mod_revision)
    return Changed(key_value(message.kv))


def transaction(guards: Sequence[Guard], writes: Sequence[Write]) -> pb.TxnRequest:
    """Return the transaction; its failure branch reads every guarded key once."""
    return pb.TxnRequest(
        compare=[_compare(guard) for guard in guards],
        success=[_operation(write) for write in writes],
        failure=[
            pb.RequestOp(request_range=pb.RangeRequest(key=key.encode()))
            for key in guarded_keys(guards)
        ],
    )


def guarded_keys(guards: Iterable[Guard]) -> list[str]:
    """Return each guarded key once, in order: the order of the failure branch's answers."""
    return list(dict.fromkeys(guard.key for guard in guards))


def as_they_stand(guards: Iterable[Guard], answer: pb.TxnResponse) -> dict[str, KeyValue | None]:
    """Return what a failed transaction's answer tells about every guarded key."""
    found = [list(response.response_range.kvs) for response in answer.responses]
    return {
        key: key_value(items[0]) if items else None
        for key, items in zip(guarded_keys(guards), found, strict=True)
    }


def _compare(guard: Guard) -> pb.Compare:
    if isinstance(guard, Unchanged):
        return pb.Compare(
            result=pb.Compare.EQUAL,
            target=pb.Compare.MOD,
            key=guard.key.encode(),
            mod_revision=guard.mod_revision,
        )
    return pb.Compare(
        result=pb.Compare.EQUAL,
        target=pb.Compare.CREATE,
        key=guard.key.encode(),
        create_revision=guard.create_revision,
    )


def _operation(write: Write) -> pb.RequestOp:
    if isinstance(write, Put):
        return pb.RequestOp(
            request_put=pb.PutRequest(key=write.key.encode(), value=write.value, lease=write.lease)
        )
    return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=write.key.encode()))


def refusal(code: grpc.StatusCode, details: str) -> ClusterError | Outcome:
    """Tell what a failed call means: etcd's own verdict as an error of ours, or an outcome.

    The texts are those of etcd's ``rpctypes`` (3.4 to 3.6), which its clients go by as well.
    """
    if details.endswith(TOKEN_TEXTS):
        return Outcome.TOKEN_EXPIRED
    if details.endswith("authentication is not enabled"):
        return Outcome.NO_LOGIN_NEEDED
    match code:
        case grpc.StatusCode.INVALID_ARGUMENT if "too many operations" in details:
            return TooLargeError(f"{details}: etcd's limit is --max-txn-ops")
        case grpc.StatusCode.INVALID_ARGUMENT if "request is too large" in details:
            return TooLargeError(f"{details}: etcd's limit is --max-request-bytes")
        case grpc.StatusCode.RESOURCE_EXHAUSTED if "larger than max" in details:
            return TooLargeError(f"{details}: etcd's limit is --max-request-bytes")
        case grpc.StatusCode.RESOURCE_EXHAUSTED if "space exceeded" in details:
            return StoreUnavailableError(
                f"{details}: etcd is out of space; compact and defragment it,"
                " then run `etcdctl alarm disarm`"
            )
        case grpc.StatusCode.NOT_FOUND if "lease not found" in details:
            return LeaseGoneError()
        case grpc.StatusCode.OUT_OF_RANGE if "compacted" in details:
            return CompactedError(f"{details}; list again")
        case grpc.StatusCode.OUT_OF_RANGE:
            return InvalidError(details)
        case grpc.StatusCode.PERMISSION_DENIED:
            return ForbiddenError(f"{details}: grant etcd's user read and write on our keys")
        case grpc.StatusCode.INVALID_ARGUMENT if "authentication failed" in details:
            return ForbiddenError(f"{details}: check the user and password for etcd")
        case grpc.StatusCode.INVALID_ARGUMENT:
            return InvalidError(details)
        case grpc.StatusCode.UNAVAILABLE if details == "etcdserver: no leader":
            return Outcome.NOT_DONE
        case grpc.StatusCode.RESOURCE_EXHAUSTED if "too many requests" in details:
            return Outcome.NOT_DONE
        case _:
            return Outcome.UNKNOWN
