"""Regular expressions of users: what they match, and that none of them takes long."""

import pytest

from cluster.constraints.patterns import Pattern
from cluster.errors import InvalidError


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [
        ("ssd|nvme", "nvme", True),
        ("ssd", "my-ssd", False),
        ("ssd", "ssd-1", False),
        ("SSD-[0-9]+", "ssd-12", True),
        (r"rack\d{2}", "rack07", True),
        ("a.b", "a\nb", True),
        ("", "", True),
        (r"\$", "$", True),
    ],
)
def test_a_pattern_is_held_against_the_whole_value_whatever_its_case(
    text: str, value: str, *, holds: bool
) -> None:
    assert Pattern(text).matches(value) is holds


@pytest.mark.parametrize("text", ["(a+)+b", "(a|a)*b", "(a|aa)+b", ".*.*.*.*.*b", "(a?){90}a{90}b"])
def test_no_pattern_takes_more_steps_than_states_times_signs(text: str) -> None:
    """With backtracking these would not end in the lifetime of whoever waits."""
    assert not Pattern(text).matches("a" * 1_000)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a)", "unexpected )"),
        ("(a", "missing )"),
        ("b[a", "missing ]"),
        ("*a", "no argument for repetition operator"),
        ("a{3,2}", "invalid repetition size"),
        ("[b-a]", "invalid character class range"),
        ("^a", "leave out '^'"),
        ("a$", "leave out '$'"),
        ("(?=a)", "invalid perl operator"),
        (r"a\1", "invalid escape sequence"),
        ("a" * 251, "251 characters; at most 250"),
        ("((a{99}){99}){99}", "invalid repetition size"),
    ],
)
def test_a_refusal_says_why(text: str, said: str) -> None:
    with pytest.raises(InvalidError) as refusal:
        Pattern(text)
    assert said in str(refusal.value)
