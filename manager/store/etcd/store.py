"""The store on etcd; see ``manager.store.interface.Store`` for what each call promises.

Calls are thin here: ``wire`` knows etcd's messages, ``endpoints`` which member to ask and what
may be repeated, ``watch`` how to resume. Rule: a commit is sent once. Nobody knows what becomes
of one that gets no answer, and a member that wakes up may apply it half a minute later.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from cluster.errors import InvalidError
from manager.store.etcd import etcd_pb2 as pb
from manager.store.etcd.endpoint import (
    CallFailedError,
    Endpoint,
    Metadata,
    Method,
    TlsFiles,
)
from manager.store.etcd.endpoints import Endpoints, Patience
from manager.store.etcd.members import MemberStatus, member_statuses
from manager.store.etcd.watch import follow
from manager.store.etcd.wire import (
    Outcome,
    as_they_stand,
    key_value,
    prefix_end,
    range_start,
    transaction,
)
from manager.store.interface import (
    CompactedError,
    Guard,
    GuardFailedError,
    KeyValue,
    LeaseGoneError,
    LeaseId,
    Listing,
    Revision,
    StoreUnavailableError,
    WatchBatch,
    Write,
    check_transaction,
)

Ask = TypeVar("Ask", bound=Message)
Answer = TypeVar("Answer", bound=Message)

# A healthy etcd answers in milliseconds, a busy disk makes it tens, and an election of etcd's
# takes one to two seconds, in which reads go on trying.
READ = Patience(attempt_seconds=1.0, total_seconds=5.0, repeat=True)

# A page of a large listing is megabytes.
READ_PAGE = Patience(attempt_seconds=3.0, total_seconds=10.0, repeat=True)

# Two seconds for one member: after a hang, the next write goes elsewhere within three.
WRITE = Patience(attempt_seconds=2.0, total_seconds=5.0, repeat=False)

# Leases live for seconds, so a member that hangs must be left while there is time for the next.
# A lease granted twice is one too many that ends by itself; the other two are idempotent.
LEASE = Patience(attempt_seconds=1.0, total_seconds=5.0, repeat=True)

# Keys in one page: 2 MB of tasks, some 20 ms of etcd's time.
PAGE_KEYS = 10_000

# A listing that outlives the retention of history, which is minutes, has another cause.
LISTING_ATTEMPTS = 3

RANGE: Method[pb.RangeRequest, pb.RangeResponse] = Method(
    "/etcdserverpb.KV/Range", pb.RangeResponse
)
TXN: Method[pb.TxnRequest, pb.TxnResponse] = Method("/etcdserverpb.KV/Txn", pb.TxnResponse)
COMPACT: Method[pb.CompactionRequest, pb.CompactionResponse] = Method(
    "/etcdserverpb.KV/Compact", pb.CompactionResponse
)
GRANT: Method[pb.LeaseGrantRequest, pb.LeaseGrantResponse] = Method(
    "/etcdserverpb.Lease/LeaseGrant", pb.LeaseGrantResponse
)
REVOKE: Method[pb.LeaseRevokeRequest, pb.LeaseRevokeResponse] = Method(
    "/etcdserverpb.Lease/LeaseRevoke", pb.LeaseRevokeResponse
)
KEEP_ALIVE: Method[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse] = Method(
    "/etcdserverpb.Lease/LeaseKeepAlive", pb.LeaseKeepAliveResponse
)


class EtcdStore:
    """One client of an etcd cluster. Make it where its event loop runs."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        tls: TlsFiles | None = None,
        user: str | None = None,
        password: str | None = None,
        source: random.Random | None = None,
        page_keys: int = PAGE_KEYS,
    ) -> None:
        """Connect when first used.

        Args:
            endpoints: ``host:port`` of each member.
            tls: files for an encrypted connection.
            user: etcd's user, if it asks for one.
            password: of that user.
            source: of jitter, and of the member to begin with.
            page_keys: keys that a listing asks for at once.

        Raises:
            InvalidError: something of this cannot be right.
        """
        if (user is None) != (password is None):
            raise InvalidError("etcd's login needs both user and password, or neither")
        self._endpoints = Endpoints(
            endpoints,
            tls=tls,
            login=None if user is None or password is None else (user, password),
            source=source or random.SystemRandom(),
        )
        self._page_keys = page_keys

    async def get(self, key: str) -> KeyValue | None:
        answer = await self._unary(RANGE, pb.RangeRequest(key=key.encode()), READ)
        return key_value(answer.kvs[0]) if answer.kvs else None

    async def list(self, prefix: str) -> Listing:
        for _ in range(LISTING_ATTEMPTS):
            try:
                return await self._list_once(prefix.encode())
            except CompactedError:
                continue
        raise StoreUnavailableError(
            f"etcd is compacted faster than {prefix!r} can be listed: raise its retention"
        )

    async def _list_once(self, prefix: bytes) -> Listing:
        ask = pb.RangeRequest(
            key=range_start(prefix), range_end=prefix_end(prefix), limit=self._page_keys
        )
        items: list[KeyValue] = []
        while True:
            answer = await self._unary(RANGE, ask, READ_PAGE)
            ask.revision = ask.revision or answer.header.revision  # the first page's, for all
            items += [key_value(item) for item in answer.kvs]
            if not answer.more:
                return Listing(ask.revision, items)
            ask.key = answer.kvs[-1].key + b"\0"

    async def commit(self, guards: Sequence[Guard], writes: Sequence[Write]) -> Revision:
        check_transaction(guards, writes)
        answer = await self._unary(TXN, transaction(guards, writes), WRITE)
        if not answer.succeeded:
            raise GuardFailedError(answer.header.revision, as_they_stand(guards, answer))
        return answer.header.revision

    def watch(self, prefix: str, after: Revision) -> AsyncGenerator[WatchBatch, None]:
        return follow(self._endpoints, prefix, after, self._newest)

    async def grant_lease(self, ttl_seconds: int) -> LeaseId:
        answer = await self._unary(GRANT, pb.LeaseGrantRequest(TTL=ttl_seconds), LEASE)
        return LeaseId(answer.ID)

    async def keep_alive(self, lease: LeaseId) -> float:
        ask = pb.LeaseKeepAliveRequest(ID=lease)

        async def once(
            endpoint: Endpoint, metadata: Metadata, seconds: float
        ) -> pb.LeaseKeepAliveResponse:
            try:
                async with asyncio.timeout(seconds):
                    with endpoint.stream(KEEP_ALIVE, metadata) as stream:
                        await stream.write(ask)
                        return await stream.read()
            except TimeoutError:
                reason = f"{endpoint.address}: no answer in {seconds:.1f} s"
                raise CallFailedError(Outcome.UNKNOWN, reason) from None

        try:
            return float((await self._endpoints.call(once, LEASE)).TTL)
        except LeaseGoneError:
            return 0.0

    async def revoke_lease(self, lease: LeaseId) -> None:
        try:
            await self._unary(REVOKE, pb.LeaseRevokeRequest(ID=lease), LEASE)
        except LeaseGoneError:
            return

    async def compact(self, revision: Revision) -> None:
        try:
            await self._unary(COMPACT, pb.CompactionRequest(revision=revision), LEASE)
        except CompactedError:
            return

    @property
    def endpoint(self) -> str:
        """Return the address of the member that calls go to now."""
        return self._endpoints.current.address

    async def members(self) -> Sequence[MemberStatus]:
        """Return how each configured endpoint does, and members that are not configured."""
        return await member_statuses(self._endpoints)

    async def aclose(self) -> None:
        await self._endpoints.aclose()

    async def _newest(self) -> Revision:
        ask = pb.RangeRequest(key=b"\0", limit=1, keys_only=True)
        return (await self._unary(RANGE, ask, READ)).header.revision

    async def _unary(self, method: Method[Ask, Answer], ask: Ask, patience: Patience) -> Answer:
        async def once(endpoint: Endpoint, metadata: Metadata, seconds: float) -> Answer:
            return await endpoint.call(method, ask, metadata, seconds)

        return await self._endpoints.call(once, patience)
