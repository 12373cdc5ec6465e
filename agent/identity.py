"""Who this node is: an id made once, and the cluster that it joined first.

Both are kept over restarts. Without them a restarted agent would not know its containers.
"""

import os
from pathlib import Path

import msgspec

from cluster.errors import InvalidError
from cluster.ids import ALPHABET, LENGTH, IdSource
from cluster.model import ClusterId, NodeId

NODE_FILE = "node-id"
CLUSTER_FILE = "cluster-id"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """A node and its cluster; ``cluster_id`` is empty until a manager has told it."""

    node_id: NodeId
    cluster_id: ClusterId = ClusterId("")


class IdentityFiles:
    """Keeps an identity in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self, ids: IdSource) -> Identity:
        """Return the identity; make one if there is none.

        Raises:
            InvalidError: the directory cannot be used, or its files are damaged.
        """
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            node_id = self._read(NODE_FILE)
            if not node_id:
                node_id = ids.new()
                self._write(NODE_FILE, node_id)
            return Identity(node_id=NodeId(node_id), cluster_id=ClusterId(self._read(CLUSTER_FILE)))
        except OSError as error:
            raise InvalidError(f"cannot keep the node's id: {error}") from error

    def join(self, cluster_id: ClusterId) -> None:
        """Remember which cluster the node belongs to."""
        self._write(CLUSTER_FILE, cluster_id)

    def _read(self, name: str) -> str:
        path = self._directory / name
        try:
            text = path.read_text(encoding="ascii", errors="replace").strip()
        except FileNotFoundError:
            return ""
        if len(text) != LENGTH or not set(text) <= set(ALPHABET):
            raise InvalidError(
                f"{path} does not hold an id; restore it, or remove it to make a new node"
            )
        return text

    def _write(self, name: str, text: str) -> None:
        """Write a file so that after a crash there is the whole of it or nothing."""
        path = self._directory / name
        draft = path.with_suffix(".new")
        with draft.open("w", encoding="ascii") as file:
            file.write(f"{text}\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
