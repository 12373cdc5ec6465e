"""What we last saw of each container, however late and out of order the answers come.

Looking takes time, and several looks overlap, so each takes a ticket when it begins. Of two
views of one container that of the later ticket stands; and a listing only removes what was
last seen by an earlier ticket. A container that has run is never again one that has not.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NewType

from agent.runtime.interface import Container, ContainerId, ContainerState

Ticket = NewType("Ticket", int)


@dataclass(frozen=True, slots=True)
class _Seen:
    ticket: Ticket
    container: Container | None  # None: it was gone


class Observed:
    """The containers of this node as far as we know."""

    def __init__(self) -> None:
        self._seen: dict[ContainerId, _Seen] = {}
        self._last = Ticket(0)

    @property
    def containers(self) -> Collection[Container]:
        return [seen.container for seen in self._seen.values() if seen.container is not None]

    def get(self, container_id: ContainerId) -> Container | None:
        seen = self._seen.get(container_id)
        return None if seen is None else seen.container

    def begin(self) -> Ticket:
        """Return the ticket of a look that begins now."""
        self._last = Ticket(self._last + 1)
        return self._last

    def note(self, ticket: Ticket, container: Container) -> bool:
        """Take a container as seen; tell whether that was news."""
        return self._set(ticket, container.id, container)

    def note_gone(self, ticket: Ticket, container_id: ContainerId) -> bool:
        """Take a container as gone; tell whether that was news."""
        return self._set(ticket, container_id, None)

    def note_all(self, ticket: Ticket, containers: Iterable[Container]) -> bool:
        """Take a listing: whatever is not in it is gone; tell whether there was news."""
        listed = {container.id: container for container in containers}
        older = {key: seen for key, seen in self._seen.items() if seen.ticket < ticket}
        # A tombstone outlives one listing: by then no look is older than it is.
        tombstones = [key for key, seen in older.items() if seen.container is None]
        for key in tombstones:
            del self._seen[key]
        missing = older.keys() - listed.keys() - set(tombstones)
        news = [self._set(ticket, key, listed.get(key)) for key in (*missing, *listed)]
        return any(news)

    def _set(self, ticket: Ticket, container_id: ContainerId, container: Container | None) -> bool:
        before = self._seen.get(container_id)
        if before is not None and before.ticket > ticket:
            return False
        if before is not None and _is_stale(before.container, container):
            return False
        self._seen[container_id] = _Seen(ticket, container)
        return (None if before is None else before.container) != container


def _is_stale(before: Container | None, after: Container | None) -> bool:
    has_run = before is not None and before.state is not ContainerState.CREATED
    return has_run and after is not None and after.state is ContainerState.CREATED
