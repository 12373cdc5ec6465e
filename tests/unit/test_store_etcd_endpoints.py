"""Addresses as users write them, and what etcd's refusals mean."""

import random

import grpc
import pytest

from cluster.errors import ClusterError, ForbiddenError, InvalidError
from manager.store.etcd.endpoint import TlsFiles
from manager.store.etcd.endpoints import Endpoints
from manager.store.etcd.wire import Outcome, prefix_end, refusal
from manager.store.interface import (
    CompactedError,
    LeaseGoneError,
    StoreUnavailableError,
    TooLargeError,
)


async def ring(addresses: list[str], tls: TlsFiles | None = None) -> list[str]:
    endpoints = Endpoints(addresses, tls=tls, login=None, source=random.Random(1))
    found = [endpoint.address for endpoint in endpoints.ring]
    await endpoints.aclose()
    return found


async def test_addresses_may_be_written_with_a_scheme() -> None:
    written = ["a:2379", "http://b:2379/", "http://[::1]:2379", "a:2379"]
    assert await ring(written) == ["a:2379", "b:2379", "[::1]:2379"]


@pytest.mark.parametrize("address", ["a", "a:", ":2379", "a:b", "", "unix:///run/etcd"])
async def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidError, match="etcd endpoint"):
        await ring([address])


async def test_no_address_at_all_is_refused() -> None:
    with pytest.raises(InvalidError, match="at least one"):
        await ring([])


async def test_https_without_tls_files_is_refused() -> None:
    with pytest.raises(InvalidError, match="TLS"):
        await ring(["https://a:2379"])


async def test_each_client_begins_with_a_member_of_its_own() -> None:
    begins = set()
    for seed in range(20):
        endpoints = Endpoints(
            ["a:1", "b:1", "c:1"], tls=None, login=None, source=random.Random(seed)
        )
        begins.add(endpoints.current.address)
        await endpoints.aclose()
    assert begins == {"a:1", "b:1", "c:1"}


@pytest.mark.parametrize(("prefix", "end"), [(b"", b"\0"), (b"a", b"b"), (b"/x/", b"/x0")])
def test_the_end_of_a_prefix(prefix: bytes, end: bytes) -> None:
    assert prefix_end(prefix) == end


Code = grpc.StatusCode


@pytest.mark.parametrize(
    ("code", "details", "meaning"),
    [
        (Code.UNAVAILABLE, "etcdserver: no leader", Outcome.NOT_DONE),
        (Code.UNAVAILABLE, "etcdserver: leader changed", Outcome.UNKNOWN),
        (Code.UNAVAILABLE, "etcdserver: request timed out", Outcome.UNKNOWN),
        (Code.UNAVAILABLE, "failed to connect to all addresses", Outcome.UNKNOWN),
        (Code.DEADLINE_EXCEEDED, "Deadline Exceeded", Outcome.UNKNOWN),
        (Code.CANCELLED, "", Outcome.UNKNOWN),
        (Code.RESOURCE_EXHAUSTED, "etcdserver: too many requests", Outcome.NOT_DONE),
        (Code.UNAUTHENTICATED, "etcdserver: invalid auth token", Outcome.TOKEN_EXPIRED),
        (Code.INVALID_ARGUMENT, "etcdserver: user name is empty", Outcome.TOKEN_EXPIRED),
        (Code.UNKNOWN, "auth: revision in header is old", Outcome.TOKEN_EXPIRED),
    ],
)
def test_a_failed_call_tells_what_is_known_of_its_effect(
    code: Code, details: str, meaning: Outcome
) -> None:
    assert refusal(code, details) is meaning


@pytest.mark.parametrize(
    ("code", "details", "meaning"),
    [
        (Code.INVALID_ARGUMENT, "etcdserver: too many operations in txn request", TooLargeError),
        (Code.INVALID_ARGUMENT, "etcdserver: request is too large", TooLargeError),
        (Code.RESOURCE_EXHAUSTED, "received message larger than max (9 vs. 2)", TooLargeError),
        (
            Code.RESOURCE_EXHAUSTED,
            "etcdserver: mvcc: database space exceeded",
            StoreUnavailableError,
        ),
        (Code.NOT_FOUND, "etcdserver: requested lease not found", LeaseGoneError),
        (
            Code.OUT_OF_RANGE,
            "etcdserver: mvcc: required revision has been compacted",
            CompactedError,
        ),
        (
            Code.OUT_OF_RANGE,
            "etcdserver: mvcc: required revision is a future revision",
            InvalidError,
        ),
        (Code.PERMISSION_DENIED, "etcdserver: permission denied", ForbiddenError),
        (
            Code.INVALID_ARGUMENT,
            "etcdserver: authentication failed, invalid user ID or password",
            ForbiddenError,
        ),
    ],
)
def test_a_refusal_of_etcd_is_an_error_of_ours(
    code: Code, details: str, meaning: type[ClusterError]
) -> None:
    assert type(refusal(code, details)) is meaning
