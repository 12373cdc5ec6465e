"""Constraint expressions: what is read, what is refused, and what holds where."""

import pytest

from cluster.constraints import (
    Constraint,
    NodeFacts,
    Operator,
    Term,
    canonical_architecture,
    matches,
    parse,
    topology,
)
from cluster.errors import InvalidError
from cluster.model import Node, NodeDescription, NodeId, NodeSpec, Platform

NODE = NodeFacts.of(
    Node(
        id=NodeId("n1"),
        spec=NodeSpec(labels={"disk": "SSD", "zone": "a b", "Case": "x", "gb": "16", "empty": ""}),
        description=NodeDescription(
            hostname="Alpha",
            address="198.18.3.7",
            platform=Platform(os="linux", architecture="amd64"),
            engine_labels={"storage": "overlay2"},
        ),
    )
)


def term(key: str, operator: Operator, *values: str) -> Constraint:
    return Constraint((Term(key, operator, values),))


@pytest.mark.parametrize(
    ("expression", "constraint"),
    [
        ("node.id==n1", term("node.id", Operator.EQUAL, "n1")),
        ("  node.hostname   !=  beta ", term("node.hostname", Operator.NOT_EQUAL, "beta")),
        ("NODE.Labels.Case == y", term("node.labels.Case", Operator.EQUAL, "y")),
        ("node.labels.a.b/c-d == 1", term("node.labels.a.b/c-d", Operator.EQUAL, "1")),
        ("node.labels.zone == a b", term("node.labels.zone", Operator.EQUAL, "a b")),
        ("node.role==Manager", term("node.role", Operator.EQUAL, "Manager")),
        ("node.labels.q == ==", term("node.labels.q", Operator.EQUAL, "==")),
        ("node.labels.q == a; b", term("node.labels.q", Operator.EQUAL, "a; b")),
        ("node.labels.zone in (a,b c , d)", term("node.labels.zone", Operator.IN, "a", "b c", "d")),
        ("node.labels.zone in(a)", term("node.labels.zone", Operator.IN, "a")),
        ("node.labels.zone NOT  In (a)", term("node.labels.zone", Operator.NOT_IN, "a")),
        ("node.hostname =~ db-[0-9]+", term("node.hostname", Operator.MATCHES, "db-[0-9]+")),
        ("node.labels.gpu exists", term("node.labels.gpu", Operator.EXISTS)),
        ("node.labels.gpu not exists", term("node.labels.gpu", Operator.NOT_EXISTS)),
        ("node.labels.gb<16", term("node.labels.gb", Operator.LESS, "16")),
        ("node.labels.gb > -2.5", term("node.labels.gb", Operator.GREATER, "-2.5")),
        ("node.labels.any == x", term("node.labels.any", Operator.EQUAL, "x")),
        ("any(node.id == n1)", term("node.id", Operator.EQUAL, "n1")),
        (
            "ANY ( node.id == n1;node.hostname =~ a(b|c) ; node.labels.z in (x, y))",
            Constraint(
                (
                    Term("node.id", Operator.EQUAL, ("n1",)),
                    Term("node.hostname", Operator.MATCHES, ("a(b|c)",)),
                    Term("node.labels.z", Operator.IN, ("x", "y")),
                )
            ),
        ),
    ],
)
def test_an_expression_is_read(expression: str, constraint: Constraint) -> None:
    assert parse(expression) == constraint
    assert hash(parse(expression)) == hash(constraint)
    assert parse(str(constraint)) == constraint


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", ["does not begin with a key", "node.labels.NAME"]),
        ("== x", ["does not begin with a key"]),
        ("node.hostname", ["no operator", "==, !=, in, not in, =~, exists, not exists, < and >"]),
        ("node.hostname ==", ["nothing follows =="]),
        ("node.hostname = x", ["unknown operator '='", "!=, in", "did you mean '=='?"]),
        ("node.hostname <> x", ["unknown operator '<>'", "did you mean '!='?"]),
        ("node.hostname ~= x", ["unknown operator '~='", "did you mean '=~'?"]),
        ("node.labels.gb >= 3", ["unknown operator '>='", "did you mean '>'?"]),
        ("node.hostname like x", ["unknown operator 'like'", "did you mean '=~'?"]),
        ("node.labels.a notin (x)", ["unknown operator 'notin'", "did you mean 'not in'?"]),
        ("node.labels.a exist", ["unknown operator 'exist'", "did you mean 'exists'?"]),
        ("node.labels.a not exist", ["unknown operator 'not exist'", "mean 'not exists'?"]),
        ("node.labels.a not", ["unknown operator 'not'", "did you mean 'not in'?"]),
        ("node.hostname in x", ["in takes a list in parentheses: in (x)"]),
        ("node.hostname not in x", ["not in takes a list in parentheses: not in (x)"]),
        ("node.hostname in (x, y", ["in takes a list in parentheses: in (x, y)"]),
        ("node.hostname in ()", ["a value in () is empty"]),
        ("node.labels.a in (x,,y)", ["is empty", "'not exists'"]),
        ("node.labels.a exists x", ["'x' follows exists", "no value"]),
        ("node.hostname > 3", ["compares labels as numbers", "node.hostname is none"]),
        ("node.labels.gb > 3GiB", ["needs a number such as 8", "'3GiB'"]),
        ("node.labels.gb > nan", ["needs a number", "'nan'"]),
        ("node.hostname =~ a(b", ["regular expression", "missing )"]),
        ("node.hostname =~ " + "a" * 251, ["regular expression", "251 characters", "250"]),
        ("any(node.id == a", ["'any(' is not closed"]),
        ("any()", ["a term of 'any' is empty"]),
        ("any(node.id == a;)", ["a term of 'any' is empty"]),
        ("any(any(node.id == a))", ["cannot stand in 'any'"]),
        ("any(node.id == a; nod.id == b)", ["unknown key 'nod.id'", "mean 'node.id'?"]),
        ("any == a", ["unknown key 'any'", "did you mean 'node.labels.any'?"]),
        ("node.ip in (10.0.0.1, 10.0.0.0/33)", ["'10.0.0.0/33' is neither an address"]),
        ("node.role not in (worker, boss)", ["unknown role 'boss'"]),
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
        ("node.labels.a == x node.labels.b!=y", ["second constraint", "by itself"]),
        ("node.labels.a != x && engine.labels.b exists", ["second constraint"]),
        ("node.labels.a in (x, y node.role == worker)", ["second constraint"]),
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
        ("node.ip in (10.0.0.0/8, 198.18.0.0/15)", True),
        ("node.ip not in (10.0.0.0/8, 198.18.0.0/15)", False),
        ("node.ip in (10.0.0.0/8, 198.18.3.8)", False),
        ("node.platform.arch in (arm64, X86_64)", True),
        ("node.platform.arch not in (arm64, x86_64)", False),
        ("node.labels.disk in (hdd, ssd)", True),
        ("node.labels.disk in (hdd)", False),
        ("node.labels.disk not in (hdd, nvme)", True),
        ("node.labels.missing in (a, b)", False),
        ("node.labels.missing not in (a, b)", True),
        ("node.hostname =~ al.*", True),
        ("node.hostname =~ alp", False),
        ("node.hostname =~ (alpha|beta)", True),
        ("node.labels.missing =~ .+", False),
        ("node.labels.missing =~ .*", True),
        ("node.labels.disk exists", True),
        ("node.labels.empty exists", True),
        ("node.labels.empty not exists", False),
        ("node.labels.missing exists", False),
        ("node.labels.missing not exists", True),
        ("node.hostname exists", True),
        ("node.labels.gb > 9", True),
        ("node.labels.gb > 16", False),
        ("node.labels.gb < 16.5", True),
        ("node.labels.gb < 16", False),
        ("node.labels.disk > 0", False),
        ("node.labels.disk < 0", False),
        ("node.labels.empty < 1", False),
        ("node.labels.missing < 1", False),
        ("any(node.id == n2; node.labels.disk == ssd)", True),
        ("any(node.id == n2; node.labels.disk == hdd)", False),
        ("any(node.id != n1; node.labels.missing not exists)", True),
    ],
)
def test_a_constraint_holds_where_it_should(expression: str, holds: bool) -> None:
    assert matches(parse(expression), NODE) is holds


@pytest.mark.parametrize(
    "value", ["x node.js", "a node.labels", "node.labels.b", "x in a", "b != c"]
)
def test_a_value_may_be_of_several_words(value: str) -> None:
    assert matches(parse(f"node.labels.a == {value}"), NodeFacts(NodeId("n"), labels={"a": value}))


def test_what_is_not_known_of_a_node_equals_nothing() -> None:
    unknown = NodeFacts(NodeId("n2"))
    assert not matches(parse("node.ip == 0.0.0.0/0"), unknown)
    assert matches(parse("node.ip != 0.0.0.0/0"), unknown)
    assert not matches(parse("node.hostname == alpha"), unknown)
    assert not matches(parse("node.ip exists"), unknown)
    assert matches(parse("node.platform.arch not exists"), unknown)
    assert matches(parse("node.id exists"), unknown)


def test_an_address_may_be_of_the_sixth_version() -> None:
    node = NodeFacts(NodeId("n3"), address="fd00::7")
    assert matches(parse("node.ip == fd00:0::7"), node)
    assert matches(parse("node.ip == fd00::/8"), node)
    assert not matches(parse("node.ip == 198.18.0.0/15"), node)


def test_an_architecture_has_one_name() -> None:
    assert canonical_architecture("AArch64") == "arm64"
    assert canonical_architecture("riscv64") == "riscv64"


def test_a_constraint_is_bounded() -> None:
    names = ", ".join(f"host{number}" for number in range(1_000))
    with pytest.raises(InvalidError, match="at most 4000") as refusal:
        parse(f"node.hostname in ({names})")
    assert len(str(refusal.value)) < 200


def test_a_topology_is_a_key_that_nodes_can_share() -> None:
    assert topology(" NODE.labels.Zone ") == "node.labels.Zone"
    assert topology("node.id") == "node.id"
    with pytest.raises(InvalidError, match=r"did you mean 'node\.labels\.zone'"):
        topology("node.label.zone")
    with pytest.raises(InvalidError, match=r"node\.ip groups nothing; write node\.id"):
        topology("node.ip")
