import pytest

from cluster.compose.nodes import Items, Kind, Mapping, Node, Scalar, Tag
from cluster.compose.problems import ComposeError, Position, Report
from cluster.compose.yaml12 import NODES_MAX, parse


def document(text: str) -> Node:
    report = Report()
    (node,) = parse(text, "f", report)
    report.stop_if_unusable()
    return node


def plain(node: Node) -> object:
    match node:
        case Mapping():
            return {key: plain(part) for key, part in node.entries.items()}
        case Items():
            return [plain(item) for item in node.items]
        case Scalar():
            return node.text


def problems(text: str) -> list[str]:
    report = Report()
    parse(text, "f", report)
    with pytest.raises(ComposeError) as caught:
        report.stop_if_unusable()
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("22:22", Kind.STRING),
        ("on", Kind.STRING),
        ("yes", Kind.STRING),
        ("2026-01-01", Kind.STRING),
        ("1_000", Kind.STRING),
        ("0b11", Kind.STRING),
        ("-x", Kind.STRING),
        ("=", Kind.STRING),
        ("010", Kind.INT),
        ("0o17", Kind.INT),
        ("0xff", Kind.INT),
        ("-3", Kind.INT),
        ("1.5", Kind.FLOAT),
        (".5", Kind.FLOAT),
        ("1e3", Kind.FLOAT),
        ("-.inf", Kind.FLOAT),
        (".nan", Kind.FLOAT),
        ("true", Kind.BOOL),
        ("FALSE", Kind.BOOL),
        ("~", Kind.NULL),
        ("null", Kind.NULL),
        ("", Kind.NULL),
        ("'1'", Kind.STRING),
        ('"true"', Kind.STRING),
        ("! 1", Kind.STRING),
        ("!!str 1", Kind.STRING),
        ("!!int '1'", Kind.INT),
        ("!override 5", Kind.INT),
        ("!override '5'", Kind.STRING),
    ],
)
def test_unquoted_words_have_the_types_of_yaml_1_2(text: str, kind: Kind) -> None:
    node = document(f"a: {text}\n")
    assert isinstance(node, Mapping)
    value = node.entries["a"]
    assert isinstance(value, Scalar)
    assert value.kind is kind


def test_every_value_and_key_knows_its_place() -> None:
    node = document("a:\n  b: [x, y]\n  c: &here 1\nd: *here\n")
    assert isinstance(node, Mapping)
    a = node.entries["a"]
    assert isinstance(a, Mapping)
    b = a.entries["b"]
    assert isinstance(b, Items)
    assert a.keys_at["b"] == Position("f", 2, 3)
    assert b.items[1].at == Position("f", 2, 10)
    assert node.entries["d"].at == Position("f", 3, 6)  # where the anchor is
    assert node.keys_at["d"] == Position("f", 4, 1)


def test_merge_keys_give_way_to_the_map_itself_and_to_earlier_maps() -> None:
    text = """
        one: &one {a: 1, b: 1}
        two: &two {b: 2, c: 2}
        x: {<<: [*one, *two], a: 0}
        y: {b: 0, <<: *two}
        z: {<<: }
    """
    node = document(text)
    assert plain(node) == {
        "one": {"a": "1", "b": "1"},
        "two": {"b": "2", "c": "2"},
        "x": {"b": "1", "c": "2", "a": "0"},
        "y": {"b": "0", "c": "2"},
        "z": {},
    }
    assert isinstance(node, Mapping)
    x = node.entries["x"]
    assert isinstance(x, Mapping)
    assert x.keys_at["c"].line == 3
    assert "<<" not in x.keys_at


def test_a_quoted_merge_key_is_an_ordinary_one() -> None:
    assert plain(document("{'<<': {a: 1}}")) == {"<<": {"a": "1"}}


def test_merge_tags_are_kept() -> None:
    node = document("a: !reset null\nb: !override [1]\n")
    assert isinstance(node, Mapping)
    assert [part.tag for part in node.entries.values()] == [Tag.RESET, Tag.OVERRIDE]


def test_each_document_is_read_with_anchors_of_its_own() -> None:
    report = Report()
    first, second = parse("---\na: &x 1\n---\na: *x\n", "f", report)
    assert plain(first) == {"a": "1"}
    assert plain(second) == {"a": ""}
    with pytest.raises(ComposeError, match=r"^f:4:4: a: no anchor &x"):
        report.stop_if_unusable()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", ["f:4:3: b.c: this key stands here twice, first at f:3:3"]),
        ("{<<: {a: 1}, <<: {b: 2}}", ["f:1:14: <<: this key stands here twice, first at f:1:2"]),
        ("a:\n\tb: 1", ["f:2:1: this is no YAML: lines are indented with spaces, not with tabs"]),
        ("a: b: c", ["f:1:5: this is no YAML: mapping values are not allowed in this context"]),
        ("a: [1", [("f:2:1: this is no YAML: while parsing a flow sequence, "
                    "did not find expected ',' or ']'")]),
        ("x\n# \x01", ["f:2:3: this is no YAML: control characters are not allowed"]),
        ("x\n \ud800", ["f:2:2: this is no text: a file has to be written in UTF-8"]),
        ("a: &x [*x]", ["f:1:8: a[0]: no anchor &x is complete before this alias"]),
        ("a: {[b]: c}", ["f:1:5: a.?: a key must be a single word, not a list or a map"]),
        ("a: !foo 1", ["f:1:4: a: unknown tag !foo; there are !reset and !override"]),
        ("a: !!set {b}", ["f:1:4: a: the type !!set has no use in a Compose file"]),
        ("a: {<<: 3}", ["f:1:9: a.<<: a merge key takes a map or a list of maps"]),
        ("[" * 100, ["f:1:66: values nest deeper than 64 levels here"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(text: str, expected: list[str]) -> None:
    assert problems(text) == expected


def test_aliases_cannot_multiply_without_bound() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    (problem,) = problems("\n".join(lines))
    assert problem.endswith(f"the file has more than {NODES_MAX} values up to here")
