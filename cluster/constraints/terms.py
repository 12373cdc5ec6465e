"""What a constraint is once it was read, and where it holds.

To add an operator: list it in ``Operator``, say when it holds in ``Term.holds``, and what may
follow it in ``cluster.constraints.reading``.
"""

import ipaddress
import re
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from functools import lru_cache

from cluster.constraints.facts import NodeFacts, canonical_architecture
from cluster.constraints.patterns import pattern

# Addresses and numbers of nodes and in constraints that are kept parsed. A cluster beyond that
# size only parses again.
_PARSED_MAX = 16_384

# More digits only cost time: no label counts that far.
_NUMBER_CHARACTERS_MAX = 40

_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)", re.ASCII)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Operator(Enum):
    EQUAL = "=="
    NOT_EQUAL = "!="
    IN = "in"
    NOT_IN = "not in"
    MATCHES = "=~"
    EXISTS = "exists"
    NOT_EXISTS = "not exists"
    LESS = "<"
    GREATER = ">"


@dataclass(frozen=True, slots=True)
class Term:
    """One comparison; ``str()`` of it is the text in its usual form.

    Attributes:
        key: one of ``KEYS``, or a label prefix and the label's name.
        values: as written, without the space around them; none of them is empty. As many as
            the operator takes: of EXISTS none, of IN one or more, of the others one.
    """

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def holds(self, found: str | None) -> bool:
        """Tell whether it holds where the key stands for *found*; None if for nothing."""
        match self.operator:
            case Operator.EQUAL | Operator.IN:
                return self._is_any(found or "")
            case Operator.NOT_EQUAL | Operator.NOT_IN:
                return not self._is_any(found or "")
            case Operator.MATCHES:
                return pattern(self.values[0]).matches(found or "")
            case Operator.EXISTS:
                return found is not None
            case Operator.NOT_EXISTS:
                return found is None
            case Operator.LESS | Operator.GREATER:
                return self._compares(found or "")

    def _is_any(self, found: str) -> bool:
        if self.key == "node.ip":
            return any(_within(found, wanted) for wanted in self.values)
        if self.key == "node.platform.arch":
            found = canonical_architecture(found)
            return any(found == canonical_architecture(wanted) for wanted in self.values)
        found = found.lower()
        return any(found == wanted.lower() for wanted in self.values)

    def _compares(self, found: str) -> bool:
        here, wanted = number(found), number(self.values[0])
        if here is None or wanted is None:
            return False
        return here < wanted if self.operator is Operator.LESS else here > wanted

    def __str__(self) -> str:
        text = f"{self.key} {self.operator.value}"
        if self.operator in (Operator.IN, Operator.NOT_IN):
            return f"{text} ({', '.join(self.values)})"
        return " ".join((text, *self.values))


@dataclass(frozen=True, slots=True)
class Constraint:
    """A parsed expression; ``str()`` of it is the expression in its usual form.

    Attributes:
        terms: any of them must hold; at least one.
    """

    terms: tuple[Term, ...]

    def __str__(self) -> str:
        if len(self.terms) == 1:
            return str(self.terms[0])
        return f"any({'; '.join(map(str, self.terms))})"


def matches(constraint: Constraint, facts: NodeFacts) -> bool:
    """Tell whether *constraint* holds on the node."""
    return any(term.holds(facts.find(term.key)) for term in constraint.terms)


@lru_cache(maxsize=_PARSED_MAX)
def number(text: str) -> Decimal | None:
    """Return the number that *text* is written as, with a point for a decimal one; or None."""
    if len(text) > _NUMBER_CHARACTERS_MAX or not _NUMBER.fullmatch(text):
        return None
    return Decimal(text)


@lru_cache(maxsize=_PARSED_MAX)
def network(text: str) -> Network | None:
    """Return the network, a single address as a network of one; None if it is neither."""
    single = _address(text)
    try:
        return ipaddress.ip_network(single if single is not None else text, strict=False)
    except ValueError:
        return None


def _within(address: str, wanted: str) -> bool:
    """Tell whether *address* is in the network *wanted*; an unknown address is in none."""
    where = _address(address)
    net = network(wanted)
    return where is not None and net is not None and where in net


@lru_cache(maxsize=_PARSED_MAX)
def _address(text: str) -> Address | None:
    """Return the address; an IPv4 one in IPv6 clothes as IPv4; None if it is none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
