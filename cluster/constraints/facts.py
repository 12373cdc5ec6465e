"""What constraints can ask of a node, and by which keys.

To add a key that is not a label: list it in ``KEYS`` and read it in ``NodeFacts.find``.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cluster.errors import InvalidError, did_you_mean
from cluster.model import Node, NodeId, Platform

WORKER = "worker"
MANAGER = "manager"
ROLES = (WORKER, MANAGER)

NODE_LABELS = "node.labels."
ENGINE_LABELS = "engine.labels."
LABELS = (NODE_LABELS, ENGINE_LABELS)
KEYS = (
    "node.id",
    "node.hostname",
    "node.ip",
    "node.role",
    "node.platform.os",
    "node.platform.arch",
)
VALID_KEYS = ", ".join([*KEYS, *(f"{prefix}NAME" for prefix in LABELS)])

_LABEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]*")

_ARCHITECTURES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "armhf": "arm",
    "armel": "arm",
    "armv6l": "arm",
    "armv7l": "arm",
    "i386": "386",
    "i686": "386",
}

_UNKNOWN_PLATFORM = Platform()


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What constraints can ask of a node; empty where it is not known."""

    id: NodeId
    hostname: str = ""
    address: str = ""
    role: str = WORKER
    platform: Platform = _UNKNOWN_PLATFORM
    labels: Mapping[str, str] = field(default_factory=dict)
    engine_labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, node: Node) -> "NodeFacts":
        """Return the facts of a stored node; every node is a worker for now."""
        return cls(
            id=node.id,
            hostname=node.description.hostname,
            address=node.description.address,
            platform=node.description.platform,
            labels=node.spec.labels,
            engine_labels=node.description.engine_labels,
        )

    def find(self, key: str) -> str | None:
        """Return what *key* (as ``read_key`` returns it) stands for here.

        None for a label that is missing and for what is not known of the node; a label may
        well be there and empty.
        """
        if key.startswith(NODE_LABELS):
            return self.labels.get(key.removeprefix(NODE_LABELS))
        if key.startswith(ENGINE_LABELS):
            return self.engine_labels.get(key.removeprefix(ENGINE_LABELS))
        match key:
            case "node.id":
                return self.id or None
            case "node.hostname":
                return self.hostname or None
            case "node.ip":
                return self.address or None
            case "node.role":
                return self.role or None
            case "node.platform.os":
                return self.platform.os or None
            case "node.platform.arch":
                return self.platform.architecture or None
            case _:
                return None


def canonical_architecture(name: str) -> str:
    """Return Go's name for an architecture, in lower case, for that of any tool."""
    name = name.lower()
    return _ARCHITECTURES.get(name, name)


def read_key(written: str) -> str:
    """Return the key with its fixed part in lower case; a label's name keeps its case.

    Raises:
        InvalidError: there is no such key; says which are, and what was meant perhaps.
    """
    lowered = written.lower()
    if lowered in KEYS:
        return lowered
    for prefix in LABELS:
        if lowered.startswith(prefix):
            name = written[len(prefix) :]
            if not _LABEL_NAME.fullmatch(name):
                raise InvalidError(f"{name!r} is no label name; write {prefix}NAME")
            return prefix + name
    raise InvalidError(f"unknown key {written!r}; valid are {VALID_KEYS}{_nearest_key(written)}")


def topology(written: str) -> str:
    """Return the key by which nodes are told to be in the same place.

    Raises:
        InvalidError: it is no key, or no two nodes could ever share it but by chance.
    """
    key = read_key(written.strip())
    if key == "node.ip":
        raise InvalidError("node.ip groups nothing; write node.id for the node itself")
    return key


def hint(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean ...?", or nothing if none is near."""
    near = did_you_mean(word, known)
    return near and f";{near}"


def _nearest_key(written: str) -> str:
    """Return "; did you mean ...?" for an unknown key, or nothing if none is near."""
    if "." in written:
        label = [*written.split(".", 2), "NAME"][2]
        return hint(written, [*KEYS, *(prefix + label for prefix in LABELS)])
    for key in KEYS:  # "hostname" for "node.hostname"; else it is the bare name of a label
        if key.endswith(f".{written.lower()}"):
            return f"; did you mean '{key}'?"
    return f"; did you mean '{NODE_LABELS}{written}'?" if _LABEL_NAME.fullmatch(written) else ""
