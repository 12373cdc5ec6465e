"""Session keys: how the store learns which manager has an agent's session.

A key stands under the lease of the manager that holds the session, so it goes with the
manager. Rule: an older session never stands over a newer one. Opening a session reads its
key from the store first, so that it knows which one it supersedes; later writes are guarded
by the key's revision and give way to any other session that they find there.

The second rule: a session never comes to stand for a node that is recorded as down without that
record being written again. A session's key may come and go unseen; that leaves a trace, on
which the leader rests when it gives up fenced tasks (docs/decisions/0012-fencing.md).
"""

from collections.abc import Callable

import msgspec

from cluster.errors import ConflictError, UnavailableError
from cluster.model import (
    Node,
    NodeDescription,
    NodeId,
    NodeSpec,
    NodeState,
    Object,
    Session,
    SessionState,
)
from manager import records
from manager.journal.moments import Moment
from manager.journal.writer import Journal
from manager.store import keys
from manager.store.interface import (
    Delete,
    Guard,
    GuardFailedError,
    KeyValue,
    LeaseGoneError,
    LeaseId,
    Put,
    Revision,
    Store,
    Unchanged,
    Write,
)
from manager.view import View

# Who else writes these keys does so seldom.
ATTEMPTS_MAX = 5


class SessionKeys:
    """Writes the session keys of this manager's agents.

    Args:
        lease: this manager's, as of now; None while it has none.
    """

    def __init__(
        self, store: Store, view: View, journal: Journal, lease: Callable[[], LeaseId | None]
    ) -> None:
        self._store = store
        self._view = view
        self._journal = journal
        self._held_lease = lease

    @property
    def lease(self) -> LeaseId | None:
        """The lease that keys stand under now; None while there is none."""
        return self._held_lease()

    async def open(
        self, session: Session, description: NodeDescription, labels: dict[str, str]
    ) -> tuple[Session, LeaseId]:
        """Store a new session over whatever session the node had, and the node with it.

        Returns:
            The session as stored, and the lease that it stands under.

        Raises:
            UnavailableError: the node has opened another session meanwhile, or the store or
                this manager's lease is away: open again, perhaps elsewhere.
        """
        key = keys.session(session.node_id)
        before = await self._store.get(key)
        expected = before
        for _ in range(ATTEMPTS_MAX):
            lease = self._sure_lease()
            old = self._view.nodes.get(session.node_id)
            node = registered(old, session, description, labels)
            guards = [
                Unchanged(key, expected.mod_revision if expected else 0),
                Unchanged(keys.node(node.id), node.version),
            ]
            writes: list[Write] = [records.put(session, lease)]
            if node != old or _is_down(old):
                writes.append(records.put(node))
            joined = [Moment(None, node, "its agent opened a session")] if old is None else []
            try:
                revision = await self._store.commit(guards, [*writes, *self._journal.entry(joined)])
            except GuardFailedError as error:
                self._view.learned(error.current, error.revision)
                expected = error.current[key]
                if expected is not None and not _same_session(expected, before):
                    raise UnavailableError(
                        "the node has just opened another session: open a new one"
                    ) from error
            except LeaseGoneError as error:
                raise UnavailableError(
                    "this manager has just lost its lease: open a session elsewhere"
                ) from error
            else:
                self._view.committed(revision, writes)
                return msgspec.structs.replace(session, version=revision), lease
        raise UnavailableError("the node's record keeps changing: open a session again")

    async def keep(self, session: Session) -> tuple[Session, LeaseId] | None:
        """Write *session* over its own earlier state, or where nothing stands.

        Returns:
            The session as stored and its lease; None if another session stands there.

        Raises:
            UnavailableError, LeaseGoneError: not written, or not known to be.
        """
        lease = self._sure_lease()
        revision = await self._over_own(session, records.put(session, lease), missing_is_done=False)
        if revision is None:
            return None
        return msgspec.structs.replace(session, version=revision), lease

    async def describe(
        self, node_id: NodeId, change: Callable[[NodeDescription], NodeDescription]
    ) -> None:
        """Change what is stored of a node's host; nothing if the node is gone.

        Raises:
            UnavailableError: not written, or not known to be.
        """
        for _ in range(ATTEMPTS_MAX):
            old = self._view.nodes.get(node_id)
            if old is None or (description := change(old.description)) == old.description:
                return
            write = records.put(msgspec.structs.replace(old, description=description))
            try:
                revision = await self._store.commit([Unchanged(write.key, old.version)], [write])
            except GuardFailedError as error:
                self._view.learned(error.current, error.revision)
            else:
                self._view.committed(revision, [write])
                return
        raise UnavailableError("the node's record keeps changing: try again")

    async def drop(self, session: Session) -> None:
        """Delete the key if *session* still stands there.

        Raises:
            UnavailableError: not deleted, or not known to be.
        """
        await self._over_own(session, Delete(records.key_of(session)), missing_is_done=True)

    def _sure_lease(self) -> LeaseId:
        if (lease := self.lease) is None:
            raise UnavailableError("this manager has no lease just now: try another")
        return lease

    async def _over_own(
        self, session: Session, write: Write, *, missing_is_done: bool
    ) -> Revision | None:
        """Write while nothing but *session* stands there; return the revision if written."""
        expected: Revision = session.version
        for _ in range(ATTEMPTS_MAX):
            guards: list[Guard] = [Unchanged(write.key, expected)]
            writes = [write]
            if isinstance(write, Put) and session.state is SessionState.LIVE:
                node = self._view.nodes.get(session.node_id)
                if node is None:
                    return None
                guards.append(Unchanged(keys.node(node.id), node.version))
                if _is_down(node):
                    writes.append(records.put(node))
            try:
                revision = await self._store.commit(guards, writes)
            except GuardFailedError as error:
                self._view.learned(error.current, error.revision)
                item = error.current[write.key]
                if item is None and missing_is_done:
                    return None
                if item is not None and _session(item).id != session.id:
                    return None
                expected = item.mod_revision if item else 0
            else:
                self._view.committed(revision, writes)
                return revision
        raise ConflictError(f"the session of node {session.node_id} keeps changing")


def registered(
    old: Node | None, session: Session, description: NodeDescription, labels: dict[str, str]
) -> Node:
    """Return the node's record as it is to stand once the agent has a session.

    Only a node that was not known takes the agent's labels: afterwards they are the
    operators'.
    """
    if old is not None:
        return msgspec.structs.replace(old, description=description)
    return Node(
        id=session.node_id,
        spec=NodeSpec(labels=labels),
        description=description,
        created_at=session.opened_at,
    )


def _is_down(node: Node | None) -> bool:
    return node is not None and node.status.state is NodeState.DOWN


def _session(item: KeyValue) -> Session:
    value: Object | None = records.decode(item)
    assert isinstance(value, Session)
    return value


def _same_session(item: KeyValue, before: KeyValue | None) -> bool:
    return before is not None and _session(item).id == _session(before).id
