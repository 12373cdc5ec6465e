"""Placement constraints: where a task may run, as the user writes it.

    constraint := term | "any(" term (";" term)* ")"
    term       := key ("==" | "!=" | "=~" | "<" | ">") value
                | key ("in" | "not in") "(" value ("," value)* ")"
                | key ("exists" | "not exists")

    node.id               the node's id
    node.hostname         its name
    node.ip               its address; the value is an address or a network (10.0.0.0/8)
    node.role             "worker" or "manager"
    node.platform.os      as Go names it (linux)
    node.platform.arch    as Go names it (amd64); the kernel's names (x86_64) mean the same
    node.labels.NAME      a label that an operator gave the node
    engine.labels.NAME    a label of the node's Docker daemon

Values are compared whole and without regard to case, label names with regard to it. A label
that is missing compares as the empty string, so ``!=`` and ``not in`` hold on a node without
it; ``exists`` tells the two apart. ``=~`` holds a regular expression (see ``patterns``) against
the whole value. ``<`` and ``>`` compare labels as numbers; a label that is none is neither.
Several constraints are joined by AND, the terms of ``any`` by OR.

What could never hold because it was misspelt (a key, an operator, a role, an address) is
refused when it is parsed: better at the submit than as a task that waits for ever.

``facts`` has the keys, ``terms`` what holds, ``reading`` the grammar.
"""

from cluster.constraints.facts import (
    ENGINE_LABELS,
    KEYS,
    MANAGER,
    NODE_LABELS,
    ROLES,
    WORKER,
    NodeFacts,
    canonical_architecture,
    topology,
)
from cluster.constraints.reading import parse
from cluster.constraints.terms import Constraint, Operator, Term, matches

__all__ = [
    "ENGINE_LABELS",
    "KEYS",
    "MANAGER",
    "NODE_LABELS",
    "ROLES",
    "WORKER",
    "Constraint",
    "NodeFacts",
    "Operator",
    "Term",
    "canonical_architecture",
    "matches",
    "parse",
    "topology",
]
