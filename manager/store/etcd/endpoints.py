"""Several members as one: which to talk to, when to leave it, what may be tried again.

Rules. One member is current, and all calls go to it while it answers; a call that fails or gets
no answer makes the next one in the ring current and ends the streams of the old one, so that a
hung member costs one call's patience. What etcd surely did not do is tried again in any case,
what it may have done only if doing it twice is the same as once.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cluster.errors import ForbiddenError, InvalidError
from manager.store.etcd import etcd_pb2 as pb
from manager.store.etcd.endpoint import CallFailedError, Endpoint, Metadata, Method, TlsFiles
from manager.store.etcd.wire import REQUIRE_LEADER, Outcome
from manager.store.interface import StoreUnavailableError

log = logging.getLogger(__name__)

T = TypeVar("T")

# A connection on a local network takes milliseconds; a host that is down never answers.
CONNECT_SECONDS = 1.0

# Before a call is tried again: long enough to be no storm, short against an election of etcd's
# (one to two seconds), after which it works.
BACKOFF_SECONDS = (0.05, 0.5)

# etcd hashes the password slowly on purpose.
LOGIN_SECONDS = 3.0

AUTHENTICATE: Method[pb.AuthenticateRequest, pb.AuthenticateResponse] = Method(
    "/etcdserverpb.Auth/Authenticate", pb.AuthenticateResponse
)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for one member, how long altogether, and whether to repeat."""

    attempt_seconds: float
    total_seconds: float
    repeat: bool  # doing it twice is the same as doing it once


class Backoff:
    """The pauses of one caller: doubling, and jittered so that callers do not go in step."""

    def __init__(self, source: random.Random) -> None:
        self._source = source
        self._seconds = BACKOFF_SECONDS[0]

    async def pause(self) -> None:
        seconds = self._seconds * self._source.uniform(0.5, 1.0)
        self._seconds = min(self._seconds * 2, BACKOFF_SECONDS[1])
        await asyncio.sleep(seconds)

    def reset(self) -> None:
        self._seconds = BACKOFF_SECONDS[0]


class Endpoints:
    """The ring of members, and the login that they ask for."""

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        tls: TlsFiles | None,
        login: tuple[str, str] | None,
        source: random.Random,
    ) -> None:
        """Take addresses such as ``host:2379``; ``http://`` or ``https://`` may stand before.

        Raises:
            InvalidError: no address, or one that cannot be right.
        """
        if not addresses:
            raise InvalidError("etcd needs at least one endpoint, such as 127.0.0.1:2379")
        named = dict.fromkeys(
            _host_and_port(address, secure=tls is not None) for address in addresses
        )
        self.ring = [Endpoint(address, tls) for address in named]
        self.closed = False
        # Each client begins elsewhere, so that managers share the members' work.
        self._current = source.randrange(len(self.ring))
        self._source = source
        self._login = login
        self._token: str | None = None
        self._logging_in = asyncio.Lock()
        self._in_trouble = False

    @property
    def current(self) -> Endpoint:
        return self.ring[self._current]

    def backoff(self) -> Backoff:
        return Backoff(self._source)

    async def call(
        self,
        attempt: Callable[[Endpoint, Metadata, float], Awaitable[T]],
        patience: Patience,
    ) -> T:
        """Run *attempt* with the current member and, where that is safe, with the next ones.

        *attempt* gets the member, the metadata to send and the seconds that it may take.

        Raises:
            StoreUnavailableError: no member answered in time.
            ClusterError: etcd's own refusal.
        """
        deadline = asyncio.get_running_loop().time() + patience.total_seconds
        backoff = self.backoff()
        while True:
            endpoint = await self.connected(deadline)
            try:
                metadata = await self.metadata(endpoint)
                seconds = min(patience.attempt_seconds, _left(deadline))
                answer = await attempt(endpoint, metadata, seconds)
            except CallFailedError as failure:
                self.failed(endpoint, failure)
                if failure.outcome is Outcome.UNKNOWN and not patience.repeat:
                    raise StoreUnavailableError(
                        f"etcd gave no answer, so the outcome is unknown ({failure})"
                    ) from failure
                if self.closed or _left(deadline) <= 0:
                    raise StoreUnavailableError(f"etcd gave no answer ({failure})") from failure
                await backoff.pause()
            else:
                self.answered(endpoint)
                return answer

    async def connected(self, deadline: float) -> Endpoint:
        """Return a member that we are connected to: nothing is sent into the void.

        Raises:
            StoreUnavailableError: there is none before *deadline* (a time of the loop's).
        """
        backoff = self.backoff()
        tried = 0
        while not self.closed:
            endpoint = self.current
            if await endpoint.connect(min(CONNECT_SECONDS, max(0.0, _left(deadline)))):
                return endpoint
            self._leave(endpoint, f"cannot connect to {endpoint.address}")
            if _left(deadline) <= 0:
                addresses = ", ".join(endpoint.address for endpoint in self.ring)
                raise StoreUnavailableError(
                    f"cannot connect to etcd at {addresses}: does it run there?"
                )
            tried += 1
            if tried % len(self.ring) == 0:
                await backoff.pause()
        raise StoreUnavailableError("this client of etcd is closed")

    def failed(self, endpoint: Endpoint, failure: CallFailedError) -> None:
        """Draw the conclusion for the calls to come: another member, or a new token.

        Raises:
            ForbiddenError: etcd asks for a login, and there is none.
        """
        if failure.outcome is not Outcome.TOKEN_EXPIRED:
            self._leave(endpoint, failure)
        elif self._login is None:
            raise ForbiddenError("etcd asks for a user and password: configure them") from failure
        else:
            self._token = None

    def answered(self, endpoint: Endpoint) -> None:
        """Note that all is well."""
        if self._in_trouble:
            self._in_trouble = False
            log.info("etcd answers again, at %s", endpoint.address)

    def _leave(self, endpoint: Endpoint, reason: object) -> None:
        """Make the next member current, unless another caller has done so already."""
        if endpoint is not self.current:
            return
        if not self._in_trouble and not self.closed:
            self._in_trouble = True
            log.warning("etcd does not answer: %s", reason)
        if len(self.ring) > 1:
            self._current = (self._current + 1) % len(self.ring)
            endpoint.hang_up()

    async def metadata(self, endpoint: Endpoint) -> Metadata:
        """Return what to send along with a call; log in first if need be.

        Raises:
            ForbiddenError: etcd knows no such user and password.
            CallFailedError: no answer to the login.
        """
        if self._login is None:
            return (REQUIRE_LEADER,)
        async with self._logging_in:  # one login serves all who wait for it
            if self._token is None:
                self._token = await _authenticate(endpoint, *self._login)
            token = self._token
        return (REQUIRE_LEADER, ("token", token)) if token else (REQUIRE_LEADER,)

    async def aclose(self) -> None:
        self.closed = True
        for endpoint in self.ring:
            await endpoint.aclose()


async def _authenticate(endpoint: Endpoint, user: str, password: str) -> str:
    """Return a token; an empty one if this etcd asks nobody who they are."""
    ask = pb.AuthenticateRequest(name=user, password=password)
    try:
        answer = await endpoint.call(AUTHENTICATE, ask, (REQUIRE_LEADER,), LOGIN_SECONDS)
    except CallFailedError as failure:
        if failure.outcome is Outcome.NO_LOGIN_NEEDED:
            return ""
        raise CallFailedError(Outcome.NOT_DONE, f"login at {failure}") from failure
    return answer.token


def _host_and_port(address: str, *, secure: bool) -> str:
    """Return ``host:port`` of an address as users write them."""
    scheme, slashes, rest = address.partition("://")
    if not slashes:
        scheme, rest = "https" if secure else "http", address
    if scheme not in ("http", "https") or (scheme == "https") != secure:
        raise InvalidError(
            f"etcd endpoint {address!r} does not go with the TLS settings:"
            f" without TLS files it is http, with them https"
        )
    host, _, port = rest.rstrip("/").rpartition(":")
    if not host or not port.isdecimal():
        raise InvalidError(f"etcd endpoint {address!r} is not host:port, such as 127.0.0.1:2379")
    return f"{host}:{port}"


def _left(deadline: float) -> float:
    return deadline - asyncio.get_running_loop().time()
