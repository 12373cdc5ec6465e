"""A cluster's networks on one Docker daemon: a bridge for each, shared by the agents there."""

import asyncio
import json
from collections.abc import Collection

from agent.runtime import labels, refusals
from agent.runtime.engine import Engine, EngineRefusalError
from agent.runtime.host_lock import host_lock
from agent.runtime.interface import CannotRunError, Owner


class Networks:
    """Makes networks that are needed and removes those that are not."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: set[tuple[Owner, str]] = set()  # to be there
        self._lock = asyncio.Lock()

    def doubt(self) -> None:
        """Look anew next time: something may have happened to them."""
        self._known.clear()

    async def ensure(self, owner: Owner, name: str) -> None:
        """Make the network unless it is there.

        Raises:
            CannotRunError: the name belongs to a network that is not the cluster's.
        """
        async with self._lock:  # ten tasks that start at once make it once
            if (owner, name) in self._known:
                return
            if not await self._is_there(owner, name):
                async with host_lock("networks"):
                    if not await self._is_there(owner, name):
                        await self._make(owner, name)
            self._known.add((owner, name))

    async def remove_unused(self, owner: Owner, keep: Collection[str]) -> None:
        """Remove the cluster's networks that no container uses, except those in *keep*."""
        label = f"{labels.CLUSTER}={owner.cluster_id}"
        filters = json.dumps({"label": [label, labels.NETWORK], "dangling": ["true"]})
        rows = await self._engine.look(lambda client: client.get_json("/networks", filters=filters))
        for name, network_id in [(row["Name"], row["Id"]) for row in rows]:
            if name not in keep:
                async with self._lock:
                    self._known.discard((owner, name))
                    await self._remove(network_id)

    async def _remove(self, network_id: str) -> None:
        await self._engine.act_if_possible(
            lambda client: client.delete_path("/networks/{}", network_id)
        )

    async def _is_there(self, owner: Owner, name: str) -> bool:
        filters = json.dumps({"name": [name]})  # matches parts of names too
        rows = await self._engine.look(lambda client: client.get_json("/networks", filters=filters))
        same = [row for row in rows if row["Name"] == name]
        if any(labels.has(row["Labels"] or {}, labels.network_labels(owner, name)) for row in same):
            return True
        if same:
            raise CannotRunError(
                f"this host has a network '{name}' that is not the cluster's; rename one of them"
            )
        return False

    async def _make(self, owner: Owner, name: str) -> None:
        body = {
            "Name": name,
            "Driver": "bridge",
            "CheckDuplicate": True,
            "Labels": labels.network_labels(owner, name),
        }
        try:
            await self._engine.act(lambda client: client.post_json("/networks/create", body=body))
        except EngineRefusalError as error:
            raise refusals.refused(str(error)) from error
