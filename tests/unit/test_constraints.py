"""Constraint expressions: what is read, what is refused, and what holds where."""

import pytest

from cluster.constraints import (
    Constraint,
    NodeFacts,
    Operator,
    canonical_architecture,
    matches,
    parse,
)
from cluster.errors import InvalidError
from cluster.model import Node, NodeDescription, NodeId, NodeSpec, Platform

NODE = NodeFacts.of(
    Node(
        id=NodeId("n1"),
        spec=NodeSpec(labels={"disk": "SSD", "zone": "a b", "Case": "x"}),
        description=NodeDescription(
            hostname="Alpha",
            address="198.18.3.7",
            platform=Platform(os="linux", architecture="amd64"),
            engine_labels={"storage": "overlay2"},
        ),
    )
)


@pytest.mark.parametrize(
    ("expression", "constraint"),
    [
        ("node.id==n1", Constraint("node.id", Operator.EQUAL, "n1")),
        ("  node.hostname   !=  beta ", Constraint("node.hostname", Operator.NOT_EQUAL, "beta")),
        ("NODE.Labels.Case == y", Constraint("node.labels.Case", Operator.EQUAL, "y")),
        ("node.labels.a.b/c-d == 1", Constraint("node.labels.a.b/c-d", Operator.EQUAL, "1")),
        ("node.labels.zone == a b", Constraint("node.labels.zone", Operator.EQUAL, "a b")),
        ("node.role==Manager", Constraint("node.role", Operator.EQUAL, "Manager")),
        ("node.labels.q == ==", Constraint("node.labels.q", Operator.EQUAL, "==")),
    ],
)
def test_an_expression_is_read(expression: str, constraint: Constraint) -> None:
    assert parse(expression) == constraint
    assert parse(str(constraint)) == constraint


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", ["does not begin with a key", "node.labels.NAME"]),
        ("== x", ["does not begin with a key"]),
        ("node.hostname", ["no operator", "== and !="]),
        ("node.hostname ==", ["nothing follows =="]),
        ("node.hostname = x", ["unknown operator '='", "== and !=", "did you mean '=='?"]),
        ("node.hostname <> x", ["unknown operator '<>'", "did you mean '!='?"]),
        ("node.hostname in x", ["unknown operator 'in'", "== and !="]),
        ("node.hostname =~ x", ["unknown operator '=~'"]),
        ("nod.hostname == x", ["unknown key 'nod.hostname'", "did you mean 'node.hostname'?"]),
        ("node.label.disk == x", ["engine.labels.NAME", "did you mean 'node.labels.disk'?"]),
        ("node.labels == x", ["did you mean 'node.labels.NAME'?"]),
        ("hostname == x", ["did you mean 'node.hostname'?"]),
        ("disk == ssd", ["did you mean 'node.labels.disk'?"]),
        ("node.labels. == x", ["no label name", "node.labels.NAME"]),
        ("node.labels.a:b == x", ["'a:b' is no label name"]),
        ("node.role == workr", ["unknown role 'workr'", "did you mean 'worker'?"]),
        ("node.ip == 10.0.0.0/33", ["neither an address", "nor a network"]),
        ("node.labels.disk == 'ssd'", ["without quotes: ssd"]),
    ],
)
def test_a_refusal_names_the_expression_and_what_would_be_right(
    expression: str, said: list[str]
) -> None:
    with pytest.raises(InvalidError) as refusal:
        parse(expression)
    message = str(refusal.value)
    assert repr(expression) in message
    assert "\n" not in message
    for part in said:
        assert part in message


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("node.id == n1", True),
        ("node.id == n2", False),
        ("node.id == n", False),
        ("node.hostname == alpha", True),
        ("node.hostname != ALPHA", False),
        ("node.role == worker", True),
        ("node.role == manager", False),
        ("node.role != manager", True),
        ("node.platform.os == Linux", True),
        ("node.platform.arch == x86_64", True),
        ("node.platform.arch == amd64", True),
        ("node.platform.arch != arm64", True),
        ("node.labels.disk == ssd", True),
        ("node.labels.Disk == ssd", False),
        ("node.labels.disk != ssd", False),
        ("node.labels.missing == x", False),
        ("node.labels.missing != x", True),
        ("engine.labels.storage == overlay2", True),
        ("node.labels.storage == overlay2", False),
        ("engine.labels.disk == ssd", False),
        ("node.ip == 198.18.3.7", True),
        ("node.ip == 198.18.3.8", False),
        ("node.ip == 198.18.0.0/15", True),
        ("node.ip == 198.18.3.7/16", True),
        ("node.ip == ::ffff:198.18.3.7", True),
        ("node.ip == 10.0.0.0/8", False),
        ("node.ip != 10.0.0.0/8", True),
        ("node.ip != 198.18.3.7", False),
        ("node.ip == fd00::/8", False),
    ],
)
def test_a_constraint_holds_where_it_should(expression: str, holds: bool) -> None:
    assert matches(parse(expression), NODE) is holds


def test_what_is_not_known_of_a_node_equals_nothing() -> None:
    unknown = NodeFacts(NodeId("n2"))
    assert not matches(parse("node.ip == 0.0.0.0/0"), unknown)
    assert matches(parse("node.ip != 0.0.0.0/0"), unknown)
    assert not matches(parse("node.hostname == alpha"), unknown)


def test_an_address_may_be_of_the_sixth_version() -> None:
    node = NodeFacts(NodeId("n3"), address="fd00::7")
    assert matches(parse("node.ip == fd00:0::7"), node)
    assert matches(parse("node.ip == fd00::/8"), node)
    assert not matches(parse("node.ip == 198.18.0.0/15"), node)


def test_an_architecture_has_one_name() -> None:
    assert canonical_architecture("AArch64") == "arm64"
    assert canonical_architecture("riscv64") == "riscv64"
