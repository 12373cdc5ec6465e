"""Errors on the wire: one table from our error tree to gRPC's codes, used both ways.

A refusal travels as its code and its message, nothing else. So whoever calls sees the same
sentence that was written where the error was raised.
"""

import grpc

from cluster.errors import (
    ClusterError,
    ConflictError,
    ExistsError,
    ForbiddenError,
    InternalError,
    InvalidError,
    NotFoundError,
    OverloadedError,
    StateError,
    UnavailableError,
)

# A subclass stands before its parent. The first line of a code is what it reads back as.
TABLE: tuple[tuple[type[ClusterError], grpc.StatusCode], ...] = (
    (InvalidError, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFoundError, grpc.StatusCode.NOT_FOUND),
    (ConflictError, grpc.StatusCode.ABORTED),
    (ExistsError, grpc.StatusCode.ALREADY_EXISTS),
    (StateError, grpc.StatusCode.FAILED_PRECONDITION),
    (ForbiddenError, grpc.StatusCode.PERMISSION_DENIED),
    (OverloadedError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (UnavailableError, grpc.StatusCode.UNAVAILABLE),
    (InternalError, grpc.StatusCode.INTERNAL),
    # What gRPC itself says.
    (UnavailableError, grpc.StatusCode.DEADLINE_EXCEEDED),
    (UnavailableError, grpc.StatusCode.CANCELLED),
    (ForbiddenError, grpc.StatusCode.UNAUTHENTICATED),
    (InvalidError, grpc.StatusCode.UNIMPLEMENTED),
)

# Details travel in a header; receivers take 8 KiB of headers in all, with every byte that is
# not plain ASCII spelt as three.
DETAILS_BYTES_MAX = 7_000


def code_of(error: ClusterError) -> grpc.StatusCode:
    """Return the code that *error* travels as."""
    return next((code for kind, code in TABLE if isinstance(error, kind)), grpc.StatusCode.INTERNAL)


def details_of(error: ClusterError) -> str:
    """Return the message that travels with it, cut to what a header holds."""
    text = str(error)
    size = 0
    for index, sign in enumerate(text):
        size += 1 if " " <= sign <= "~" and sign != "%" else 3 * len(sign.encode(errors="replace"))
        if size > DETAILS_BYTES_MAX:
            return text[:index] + "..."
    return text


def error_of(code: grpc.StatusCode, details: str) -> ClusterError:
    """Return the error that came as *code* and *details*."""
    kind = next((kind for kind, known in TABLE if known is code), InternalError)
    return kind(details or f"the call failed with {code.name}")
