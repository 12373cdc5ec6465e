"""The sessions of agents at this manager.

Heartbeats are kept in memory; the store only learns which manager has whose session
(``session_keys``). A session ends when its stream ends (then its key goes, and the leader gives
the node a grace), when three heartbeats in a row were missed (then its key says so), when the
node opens another one, and when the node is removed. Its agent then opens a new one.

What a key should be follows from what this manager has in memory. Whatever happens only marks
the node as due; ``run`` compares and repairs, so a write that failed, or that was applied when
nobody expected it any more, is mended too.
"""

import asyncio
import logging
import random
from collections.abc import Mapping, Sequence
from typing import NoReturn

import msgspec

from cluster.clock import Clock
from cluster.errors import (
    ClusterError,
    ConflictError,
    InvalidError,
    NotFoundError,
    OverloadedError,
    UnavailableError,
)
from cluster.generic import counts_flaws, items_flaws
from cluster.ids import ALPHABET, LENGTH, IdSource
from cluster.images import TOLD_MAX
from cluster.model import (
    Cluster,
    ClusterSpec,
    Manager,
    ManagerId,
    Node,
    NodeDescription,
    NodeId,
    NodeUsage,
    Object,
    Session,
    SessionId,
    SessionState,
)
from cluster.task_group import TaskGroup
from manager.dispatch.node_labels import check_labels
from manager.dispatch.open_session import HeardUsage, OpenSession
from manager.dispatch.session_keys import SessionKeys
from manager.store.interface import LeaseId
from manager.view import Batch, View

log = logging.getLogger(__name__)

# A node is lost after so many missed heartbeats: one may be lost on the way, two in a row are
# a slow network, and a third period is what a failover may cost.
MISSED_MAX = 3

# Heartbeats that one manager takes: at 0.2 to 0.4 ms each about a tenth of a core.
HEARTBEATS_PER_SECOND_MAX = 300

# How late silence may be noticed: sweeps are at least so far apart.
SWEEP_SECONDS = 0.25

# Turns of the event loop before an agent that seems silent is taken to be. What has arrived by
# then is read meanwhile, at 16 calls a turn or two: half a thousand heartbeats. A loop with
# little to do makes them in a millisecond; one with too much, in as long as it lags.
TURNS = 64

# Session keys written at once when all have to be (a new lease): 10,000 take two seconds.
WRITES_AT_ONCE_MAX = 32

# Between attempts while the store does not answer.
RETRY_SECONDS = 0.5

# A new session waits so long for the view to show everything up to its opening.
VIEW_SECONDS = 5.0

# What one process was measured to hold.
SESSIONS_MAX = 10_000

_TEXT_CHARACTERS_MAX = 1_000


def period_seconds(spec: ClusterSpec, sessions: int) -> float:
    """Return the time between two heartbeats of one agent, if a manager has *sessions*."""
    return max(spec.heartbeat_period_seconds, sessions / HEARTBEATS_PER_SECOND_MAX)


class Sessions:
    """Opens, keeps and ends the sessions of this manager."""

    def __init__(
        self,
        keys: SessionKeys,
        view: View,
        *,
        manager_id: ManagerId,
        ids: IdSource,
        clock: Clock,
        source: random.Random,
    ) -> None:
        self._keys = keys
        self._view = view
        self._manager_id = manager_id
        self._ids = ids
        self._clock = clock
        self._source = source
        self._held: dict[NodeId, OpenSession] = {}
        self._by_id: dict[SessionId, OpenSession] = {}
        self._silent: dict[NodeId, Session] = {}  # whose keys are still to say so
        self._opening: set[SessionId] = set()
        self._due: dict[NodeId, None] = {}
        self._news = asyncio.Event()
        self._sweep_due_at = float("inf")  # by the monotonic clock
        self._sweep_sooner = asyncio.Event()
        self._closed: ClusterError | None = None
        self._unsubscribe = view.subscribe(self._follow)

    # --- what agents ask for ---

    async def open(
        self,
        node_id: NodeId,
        description: NodeDescription,
        labels: Mapping[str, str],
        cluster_id: str,
    ) -> OpenSession:
        """Open a session for a node, which supersedes the one that it had.

        Raises:
            InvalidError: the agent is of another cluster, or says what cannot be.
            UnavailableError: open one again, perhaps elsewhere.
        """
        cluster = self._view.cluster
        if self._closed:
            raise self._closed
        if cluster is None:
            raise UnavailableError("the cluster is not set up yet")
        if len(self._held) >= SESSIONS_MAX:
            raise OverloadedError(f"this manager has {SESSIONS_MAX} sessions: open it elsewhere")
        if cluster_id not in ("", cluster.id):
            raise InvalidError(
                f"the agent belongs to cluster {cluster_id}, this is cluster {cluster.id}: give it"
                " managers of its own cluster, or an empty state directory to make it a new node"
            )
        _check(node_id, description)
        description = msgspec.structs.replace(description, images=_kept(description.images))
        check_labels(labels)
        session_id = SessionId(self._ids.new())
        session = Session(
            id=session_id,
            node_id=node_id,
            manager_id=self._manager_id,
            opened_at=self._clock.now(),
        )
        self._opening.add(session_id)
        try:
            stored, lease = await self._keys.open(session, description, dict(labels))
            # What it is told to run must not be older than what its last manager told it.
            async with asyncio.timeout(VIEW_SECONDS):
                await self._view.reached(stored.version)
            return self._hold(stored, lease)
        except TimeoutError:
            raise UnavailableError("this manager lags behind the store: try another") from None
        finally:
            self._opening.discard(session_id)
            self._mark_due(node_id)

    def find(self, session_id: str) -> OpenSession:
        """Return a session that is open.

        Raises:
            NotFoundError: it is not: open a new one.
        """
        found = self._by_id.get(SessionId(session_id))
        if found is None:
            raise NotFoundError("the session has ended: open a new one")
        return found

    def heartbeat(
        self, session_id: str, usage: NodeUsage | None, *, is_answered: bool = True
    ) -> float:
        """Note that the agent is alive; return the seconds between its heartbeats from now on.

        Args:
            session_id: whose.
            usage: what it has measured; None if that is not new.
            is_answered: whether it is told the period; else the one that it knows still holds.

        Raises:
            NotFoundError: there is no such session (any more): open a new one.
        """
        session = self.find(session_id)
        period = session.period_seconds
        if is_answered:
            period = period_seconds(self._spec, len(self._held))
        session.heard(self._clock.monotonic(), period, usage)
        self._mind(session)
        return period

    def vouches_for(self, session_id: str) -> bool:
        """Tell whether an open session surely stands in the store now, under our lease.

        That is what an agent's leases rest on: as long as it holds, no leader can have seen the
        node without a session for any time at all (docs/decisions/0012-fencing.md).
        """
        session = self._by_id.get(SessionId(session_id))
        return session is not None and session.lease == self._keys.lease

    async def images(self, session_id: str, images: tuple[str, ...]) -> None:
        """Store which images a host has; those beyond the bound are left out.

        Raises:
            NotFoundError: there is no such session (any more): open a new one.
            UnavailableError: not stored, or not known to be; it is only a hint.
        """
        node_id = self.find(session_id).node_id
        kept = _kept(images)
        await self._keys.describe(
            node_id, lambda description: msgspec.structs.replace(description, images=kept)
        )

    def ended(self, session: OpenSession) -> None:
        """Let a session go because its stream has ended."""
        if self._let_go(session, NotFoundError("the session's stream has ended: open a new one")):
            log.info("session ended", extra={"node": session.node_id, "session": session.id})

    # --- what the manager asks for ---

    def of_node(self, node_id: NodeId) -> OpenSession | None:
        return self._held.get(node_id)

    def usage(self) -> Sequence[HeardUsage]:
        """Return what each agent last told, and for how long it is silent."""
        now = self._clock.monotonic()
        return [
            HeardUsage(session.usage, now - session.heard_at) for session in self._held.values()
        ]

    def lease_replaced(self) -> None:
        """Write all keys anew, for this manager has another lease."""
        self._mark_due(*self._held, *self._silent)

    def close(self, why: ClusterError) -> None:
        """End all sessions with *why* and open no more; their keys go with the lease."""
        self._closed = why
        self._unsubscribe()
        self.send_away(why)

    def send_away(self, why: ClusterError) -> None:
        """End all sessions with *why*, so that their agents look for other managers."""
        for session in list(self._held.values()):
            self._let_go(session, why)

    async def run(self) -> NoReturn:
        """Notice silence, and keep the keys as they should be, for ever."""
        async with TaskGroup() as group:
            group.create_task(self._sweep_for_ever())
            group.create_task(self._settle_for_ever())
        raise AssertionError("unreachable")

    async def sweep(self) -> None:
        """End the sessions of agents that have missed too many heartbeats.

        Silence counts only while somebody listened. If the manager was stopped, nobody is judged
        by what was before; if it has too much to do, heartbeats wait unread, so those that seem
        silent are judged when what waits has been read.
        """
        now = self._clock.monotonic()
        if now > self._sweep_due_at + SWEEP_SECONDS:
            for session in self._held.values():
                session.heard_at = now
            self._sweep_sooner.set()
        if any(self._is_overdue(session) for session in self._held.values()):
            for _ in range(TURNS):
                await asyncio.sleep(0)
        for session in list(self._held.values()):
            if self._is_overdue(session):
                self._fall_silent(session)

    # --- inside ---

    @property
    def _spec(self) -> ClusterSpec:
        return self._view.cluster.spec if self._view.cluster else ClusterSpec()

    def _hold(self, stored: Session, lease: LeaseId) -> OpenSession:
        if self._closed:
            raise self._closed
        older = self._held.get(stored.node_id)
        if older is not None:
            self._let_go(older, _SUPERSEDED)
        self._silent.pop(stored.node_id, None)
        period = period_seconds(self._spec, len(self._held) + 1)
        opened = OpenSession(self._view, stored, lease, period, self._clock.monotonic())
        self._held[opened.node_id] = opened
        self._by_id[opened.id] = opened
        self._mind(opened)
        log.info("session opened", extra={"node": opened.node_id, "session": opened.id})
        return opened

    def _is_overdue(self, session: OpenSession) -> bool:
        return self._clock.monotonic() > _overdue_at(session)

    def _mind(self, session: OpenSession) -> None:
        """See that a sweep comes in time for *session*."""
        if _overdue_at(session) < self._sweep_due_at:
            self._sweep_sooner.set()

    def _fall_silent(self, session: OpenSession) -> None:
        log.warning("an agent is silent", extra={"node": session.node_id, "session": session.id})
        self._silent[session.node_id] = session.stored
        self._let_go(session, NotFoundError("no heartbeat came: open a new session"))

    def _let_go(self, session: OpenSession, why: ClusterError) -> bool:
        session.end(why)
        if self._by_id.pop(session.id, None) is None:
            return False
        if self._held.get(session.node_id) is session:
            del self._held[session.node_id]
        self._mark_due(session.node_id)
        return True

    def _mark_due(self, *node_ids: NodeId) -> None:
        self._due.update(dict.fromkeys(node_ids))
        self._news.set()

    def _follow(self, batch: Batch) -> None:
        for change in batch.changes:
            if isinstance(change.either, Manager | Cluster):
                for session in self._held.values():
                    session.nudge()
            for value in (change.old, change.new):
                if self._concerns(value):
                    assert isinstance(value, Session | Node)
                    self._mark_due(value.node_id if isinstance(value, Session) else value.id)

    def _concerns(self, value: Object | None) -> bool:
        match value:
            case Session():
                return value.manager_id == self._manager_id or value.node_id in self._held
            case Node():
                return value.id in self._held and value.id not in self._view.nodes
        return False

    async def _sweep_for_ever(self) -> NoReturn:
        while True:
            now = self._clock.monotonic()
            first = min(map(_overdue_at, self._held.values()), default=float("inf"))
            self._sweep_due_at = max(first, now + SWEEP_SECONDS)
            self._sweep_sooner.clear()
            try:
                async with asyncio.timeout(None if not self._held else self._sweep_due_at - now):
                    await self._sweep_sooner.wait()
            except TimeoutError:
                await self.sweep()

    async def _settle_for_ever(self) -> NoReturn:
        while True:
            await self._news.wait()
            self._news.clear()
            due, self._due = list(self._due), {}
            for start in range(0, len(due), WRITES_AT_ONCE_MAX):
                some = due[start : start + WRITES_AT_ONCE_MAX]
                outcomes = await asyncio.gather(*(self._settled(node_id) for node_id in some))
                if not all(outcomes):
                    await asyncio.sleep(RETRY_SECONDS * self._source.uniform(0.75, 1.25))

    async def _settled(self, node_id: NodeId) -> bool:
        """Make the node's key what it should be; tell whether that is done."""
        try:
            await self._settle(node_id)
        except (UnavailableError, ConflictError) as error:
            log.warning(
                "a session key could not be written",
                extra={"node": node_id, "error": str(error)},
            )
        except Exception:
            log.exception("a session key could not be written", extra={"node": node_id})
        else:
            return True
        self._mark_due(node_id)
        return False

    async def _settle(self, node_id: NodeId) -> None:
        held = self._held.get(node_id)
        stored = self._view.sessions.get(node_id)
        if self._keys.lease is None:
            return  # the keys went with it; all is due again when there is another
        if held is not None:
            await self._settle_held(held, stored)
        elif (silent := self._silent.get(node_id)) is not None:
            said = stored is not None and stored.state is SessionState.SILENT
            if stored is not None and stored.id == silent.id and not said:
                await self._keys.keep(_as_silent(stored))
            if self._silent.get(node_id) is silent:
                del self._silent[node_id]
        elif stored is not None and self._is_leftover(stored):
            await self._keys.drop(stored)

    async def _settle_held(self, held: OpenSession, stored: Session | None) -> None:
        if held.node_id not in self._view.nodes:
            self._let_go(held, NotFoundError("the node was removed: open a new session"))
        elif stored is not None and stored.id != held.id and stored.version > held.stored.version:
            self._let_go(held, _SUPERSEDED)
        elif stored is None or stored.id != held.id or held.lease != self._keys.lease:
            kept = await self._keys.keep(held.stored)
            if kept is None:
                self._let_go(held, _SUPERSEDED)
            else:
                held.stored, held.lease = kept

    def _is_leftover(self, stored: Session) -> bool:
        """Tell whether a key says that we hold a session which we do not hold."""
        return (
            stored.manager_id == self._manager_id
            and stored.state is SessionState.LIVE
            and stored.id not in self._opening
        )


_SUPERSEDED = NotFoundError("the node has opened another session")


def _overdue_at(session: OpenSession) -> float:
    return session.heard_at + MISSED_MAX * session.period_seconds


def _as_silent(session: Session) -> Session:
    return msgspec.structs.replace(session, state=SessionState.SILENT)


def _kept(images: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of images that are stored; an agent of another version may send more."""
    return tuple(name for name in images if len(name) <= _TEXT_CHARACTERS_MAX)[:TOLD_MAX]


def _check(node_id: NodeId, description: NodeDescription) -> None:
    if len(node_id) != LENGTH or not set(node_id) <= set(ALPHABET):
        raise InvalidError(f"a node's id has {LENGTH} characters of 0-9 and a-z: {node_id[:40]!r}")
    capacity = description.capacity
    if capacity.cpu_nanos < 0 or capacity.memory_bytes < 0:
        raise InvalidError("a host cannot have less than nothing to offer")
    items = description.generic_items
    for kind, flaw in (*counts_flaws(capacity.generic), *items_flaws(items)):
        raise InvalidError(f"generic resources of a host: {kind}: {flaw}")
    for kind, names in items.items():
        if capacity.generic.get(kind) != len(names):
            raise InvalidError(f"a host offers other than the {len(names)} {kind} that it names")
    texts = (
        *(description.hostname, description.address, description.engine_version),
        *(
            description.agent_version,
            *description.engine_labels,
            *description.engine_labels.values(),
        ),
    )
    if any(len(text) > _TEXT_CHARACTERS_MAX for text in texts):
        raise InvalidError(f"a host's description has a text of over {_TEXT_CHARACTERS_MAX} signs")
