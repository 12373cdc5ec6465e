"""What nodes and tasks use, gathered from the managers that hold their sessions."""

import asyncio
from collections.abc import Callable, Sequence

from cluster.errors import ClusterError
from cluster.model import Manager, ManagerId, NodeId
from manager.control.peers import Peers
from manager.dispatch.open_session import HeardUsage
from manager.view import View


class Usages:
    """Usage of every node that some manager has heard of.

    Args:
        own: of the agents whose sessions this manager holds.
    """

    def __init__(
        self,
        view: View,
        own_id: ManagerId,
        own: Callable[[], Sequence[HeardUsage]],
        peers: Peers,
    ) -> None:
        self._view = view
        self._own_id = own_id
        self._own = own
        self._peers = peers

    def local(self) -> dict[NodeId, HeardUsage]:
        """Return what this manager's own agents have told."""
        return {heard.usage.node_id: heard for heard in self._own()}

    async def everywhere(self) -> dict[NodeId, HeardUsage]:
        """Return what all agents have told; those of a manager that does not answer are missing."""
        others = [m for m in self._view.managers.values() if m.id != self._own_id]
        answers = await asyncio.gather(*(self._ask(manager) for manager in others))
        found = {heard.usage.node_id: heard for answer in answers for heard in answer}
        return {**found, **self.local()}

    async def _ask(self, manager: Manager) -> Sequence[HeardUsage]:
        try:
            return await self._peers.usage(manager)
        except ClusterError:
            return ()
