import pytest

from cluster.compose.dotenv import parse, parse_raw, read
from cluster.compose.problems import ComposeError, Report

ENVIRONMENT = {"HOME": "/root", "OUTER": "outer"}


def parsed(text: str) -> dict[str, str | None]:
    report = Report()
    found = parse(text, ".env", ENVIRONMENT, report)
    report.stop_if_unusable()
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("\n\n  # comment\n", {}),
        ("A=1", {"A": "1"}),
        ("A=1\nB=2\n", {"A": "1", "B": "2"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("\ufeffA=1", {"A": "1"}),
        ("  A = 1  ", {"A": "1"}),
        ("export A=1", {"A": "1"}),
        ("A=", {"A": ""}),
        ("A=\nB=1", {"A": "", "B": "1"}),
        ("A=#x", {"A": ""}),
        ("A=a#b", {"A": "a#b"}),
        ("A=a #b", {"A": "a"}),
        ("A=a=b", {"A": "a=b"}),
        ("A='a #b' # c", {"A": "a #b"}),
        ("A='$HOME'", {"A": "$HOME"}),
        ("A='x\ny'\nB=1", {"A": "x\ny", "B": "1"}),
        ('A="x\ny"\nB=1', {"A": "x\ny", "B": "1"}),
        ('A="a\\nb\\t\\"\\\\\\q"', {"A": 'a\nb\t"\\\\q'}),
        ('A="\\$HOME $HOME"', {"A": "$HOME /root"}),
        ("A=${HOME}/x", {"A": "/root/x"}),
        ("A=1\nB=$A", {"A": "1", "B": "1"}),
        ("OUTER=mine\nB=$OUTER", {"OUTER": "mine", "B": "outer"}),
        ("A=${NO:-d}", {"A": "d"}),
        ("OUTER", {"OUTER": "outer"}),
        ("NO", {"NO": None}),
        ("A=a b c", {"A": "a b c"}),
        ("a.b-c=1", {"a.b-c": "1"}),
    ],
)
def test_lines_become_variables(text: str, expected: dict[str, str | None]) -> None:
    assert parsed(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1\n=2\n", [".env:2:1: expected NAME=value"]),
        ("A B=1", [".env:1:1: expected NAME=value; there is no = after A"]),
        ("A: 1", [".env:1:1: expected NAME=value; there is no = after A:"]),
        ("A='x\nB=1", [".env:1:1: the value of A has no closing '"]),
        ("A='x' y\nB='z' y", [".env:1:1: something follows the closing ' of A",
                              ".env:2:1: something follows the closing ' of B"]),
        ("A='1\n2'\nB=$", [(".env:3:1: a lone $ means nothing: write ${NAME} for a variable, "
                            "or $$ for a plain $")]),
        ("A=${X:?needed}", [".env:1:1: variable X is not set: needed"]),
    ],
)  # fmt: skip
def test_a_line_that_is_not_understood_is_told_with_its_number(
    text: str, expected: list[str]
) -> None:
    with pytest.raises(ComposeError) as caught:
        parsed(text)
    assert [str(problem) for problem in caught.value.problems] == expected


def test_the_environment_wins_over_the_file() -> None:
    variables, warnings = read("OUTER=x\nA=$NO\nB", file=".env", environment=ENVIRONMENT)
    assert variables == {"A": ""}
    assert [str(w) for w in warnings] == [".env:2:1: variable NO is not set; it is empty here"]


def test_raw_values_are_taken_as_they_stand() -> None:
    report = Report()
    assert parse_raw("# c\nA='$x' #\r\n\nB=\n", "f", report) == {"A": "'$x' #", "B": ""}
    parse_raw("A=1\nB\n C=1\n", "f", report)
    with pytest.raises(ComposeError, match=r"^f:2:1: expected NAME=value\nf:3:1: expected"):
        report.stop_if_unusable()
