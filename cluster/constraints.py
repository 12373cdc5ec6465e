"""Placement constraints: where a task may run, as the user writes it.

    expression := key ("==" | "!=") value

    node.id               the node's id
    node.hostname         its name
    node.ip               its address; the value is an address or a network (10.0.0.0/8)
    node.role             "worker" or "manager"
    node.platform.os      as Go names it (linux)
    node.platform.arch    as Go names it (amd64); the kernel's names (x86_64) mean the same
    node.labels.NAME      a label that an operator gave the node
    engine.labels.NAME    a label of the node's Docker daemon

Values are compared whole and without regard to case, label names with regard to it. A label
that is missing compares as the empty string, so ``!=`` holds on a node without it. Several
constraints are joined by AND.

What could never hold because it was misspelt (a key, an operator, a role, an address) is
refused when it is parsed: better at the submit than as a task that waits for ever.

To add a key that is not a label: list it in ``KEYS`` and read it in ``NodeFacts.value_of``.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache

from cluster.errors import InvalidError, did_you_mean
from cluster.model import Node, NodeId, Platform

WORKER = "worker"
MANAGER = "manager"
ROLES = (WORKER, MANAGER)

NODE_LABELS = "node.labels."
ENGINE_LABELS = "engine.labels."
KEYS = (
    "node.id",
    "node.hostname",
    "node.ip",
    "node.role",
    "node.platform.os",
    "node.platform.arch",
)

_LABEL_PREFIXES = (NODE_LABELS, ENGINE_LABELS)
_VALID_KEYS = ", ".join([*KEYS, *(f"{prefix}NAME" for prefix in _LABEL_PREFIXES)])

# A key, then a run of comparison signs or, to be named in the refusal, any word, then a value.
_EXPRESSION = re.compile(r"([^\s=!<>~]*)\s*([=!<>~]+|\S*)\s*(.*)", re.DOTALL)
_LABEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]*")

# What people write for the two operators where other tools or languages taught them to.
_OPERATOR_WORDS = {
    "=": "==",
    "===": "==",
    "is": "==",
    "eq": "==",
    "<>": "!=",
    "=!": "!=",
    "ne": "!=",
}

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

# Addresses of nodes and networks in constraints that are kept parsed. A cluster beyond that
# size only parses again.
_ADDRESSES_CACHED_MAX = 16_384

_UNKNOWN_PLATFORM = Platform()

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Operator(Enum):
    EQUAL = "=="
    NOT_EQUAL = "!="


@dataclass(frozen=True, slots=True)
class Constraint:
    """A parsed expression; ``str()`` of it is the expression in its usual form.

    Attributes:
        key: one of ``KEYS``, or a label prefix and the label's name.
        value: as written, without the space around it; never empty.
    """

    key: str
    operator: Operator
    value: str

    def __str__(self) -> str:
        return f"{self.key} {self.operator.value} {self.value}"


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

    def value_of(self, key: str) -> str:
        """Return what *key* of a ``Constraint`` stands for here; empty for a missing label."""
        if key.startswith(NODE_LABELS):
            return self.labels.get(key.removeprefix(NODE_LABELS), "")
        if key.startswith(ENGINE_LABELS):
            return self.engine_labels.get(key.removeprefix(ENGINE_LABELS), "")
        match key:
            case "node.id":
                return self.id
            case "node.hostname":
                return self.hostname
            case "node.ip":
                return self.address
            case "node.role":
                return self.role
            case "node.platform.os":
                return self.platform.os
            case "node.platform.arch":
                return self.platform.architecture
            case _:
                return ""


def parse(expression: str) -> Constraint:
    """Read a constraint as a user wrote it.

    Raises:
        InvalidError: it can never hold as it is written; says why, and what was meant perhaps.
    """
    match = _EXPRESSION.fullmatch(expression.strip())
    assert match is not None, "the pattern matches any text"
    written_key, written_operator, value = match.groups()
    if not written_key:
        raise _refusal(expression, f"it does not begin with a key; valid are {_VALID_KEYS}")
    key = _key(expression, written_key)
    operator = _operator(expression, written_operator)
    value = value.strip()
    if not value:
        raise _refusal(expression, f"nothing follows {operator.value}; give a value")
    _check_value(expression, key, value)
    return Constraint(key, operator, value)


def matches(constraint: Constraint, facts: NodeFacts) -> bool:
    """Tell whether *constraint* holds on the node."""
    found = facts.value_of(constraint.key)
    wanted = constraint.value
    if constraint.key == "node.ip":
        equal = _within(found, wanted)
    elif constraint.key == "node.platform.arch":
        equal = canonical_architecture(found) == canonical_architecture(wanted)
    else:
        equal = found.lower() == wanted.lower()
    return equal is (constraint.operator is Operator.EQUAL)


def canonical_architecture(name: str) -> str:
    """Return Go's name for an architecture, in lower case, for that of any tool."""
    name = name.lower()
    return _ARCHITECTURES.get(name, name)


def _key(expression: str, written: str) -> str:
    """Return the key with its fixed part in lower case; a label's name keeps its case."""
    lowered = written.lower()
    if lowered in KEYS:
        return lowered
    for prefix in _LABEL_PREFIXES:
        if lowered.startswith(prefix):
            name = written[len(prefix) :]
            if not _LABEL_NAME.fullmatch(name):
                raise _refusal(expression, f"{name!r} is no label name; write {prefix}NAME")
            return prefix + name
    raise _refusal(
        expression, f"unknown key {written!r}; valid are {_VALID_KEYS}{_nearest_key(written)}"
    )


def _nearest_key(written: str) -> str:
    """Return "; did you mean ...?" for an unknown key, or nothing if none is near."""
    if "." in written:
        label = [*written.split(".", 2), "NAME"][2]
        return _hint(written, [*KEYS, *(prefix + label for prefix in _LABEL_PREFIXES)])
    for key in KEYS:  # "hostname" for "node.hostname"; else it is the bare name of a label
        if key.endswith(f".{written.lower()}"):
            return f"; did you mean '{key}'?"
    return f"; did you mean '{NODE_LABELS}{written}'?" if _LABEL_NAME.fullmatch(written) else ""


def _hint(word: str, known: Iterable[str]) -> str:
    near = did_you_mean(word, known)
    return near and f";{near}"


def _operator(expression: str, written: str) -> Operator:
    try:
        return Operator(written)
    except ValueError:
        pass
    valid = " and ".join(operator.value for operator in Operator)
    if not written:
        raise _refusal(expression, f"it has no operator; valid are {valid}")
    near = _OPERATOR_WORDS.get(written.lower(), written)
    hint = _hint(near, [operator.value for operator in Operator])
    raise _refusal(expression, f"unknown operator {written!r}; valid are {valid}{hint}")


def _check_value(expression: str, key: str, value: str) -> None:
    """Refuse a value that nothing can ever equal."""
    if len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]:
        raise _refusal(expression, f"write the value without quotes: {value[1:-1]}")
    if key == "node.role" and value.lower() not in ROLES:
        valid = " and ".join(ROLES)
        hint = _hint(value.lower(), ROLES)
        raise _refusal(expression, f"unknown role {value!r}; valid are {valid}{hint}")
    if key == "node.ip" and _network(value) is None:
        raise _refusal(
            expression,
            f"{value!r} is neither an address (192.0.2.7) nor a network (192.0.2.0/24)",
        )


def _refusal(expression: str, why: str) -> InvalidError:
    return InvalidError(f"constraint {expression!r}: {why}")


def _within(address: str, network: str) -> bool:
    """Tell whether *address* is in *network*; an unknown address is in none."""
    where = _address(address)
    net = _network(network)
    return where is not None and net is not None and where in net


@lru_cache(maxsize=_ADDRESSES_CACHED_MAX)
def _address(text: str) -> Address | None:
    """Return the address; an IPv4 one in IPv6 clothes as IPv4; None if it is none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


@lru_cache(maxsize=_ADDRESSES_CACHED_MAX)
def _network(text: str) -> Network | None:
    """Return the network, a single address as a network of one; None if it is neither."""
    single = _address(text)
    try:
        return ipaddress.ip_network(single if single is not None else text, strict=False)
    except ValueError:
        return None
