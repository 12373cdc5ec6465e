"""Regular expressions of users: what they match, and that none of them takes long."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.constraints import patterns
from cluster.constraints.patterns import STATES_MAX, Pattern
from cluster.errors import InvalidError

SIGNS = "abAB1_. -"
ATOMS = st.sampled_from(
    [
        *("a", "b", "B", "1", ".", r"\.", "-", r"\d", r"\D", r"\w", r"\W", r"\s", r"\S"),
        *("[ab]", "[^a]", "[a-b1]", "[^A-B]", r"[\d.]", "[]a]", "[a-]", r"[\]-a]"),
    ]
)
QUANTIFIERS = st.sampled_from(["*", "+", "?", "{2}", "{0}", "{1,}", "{0,2}", "{1,3}"])
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({'|'.join(parts)})"),
        st.tuples(inner, QUANTIFIERS).map(lambda parts: f"(?:{parts[0]}){parts[1]}"),
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(PATTERNS, st.lists(st.text(SIGNS, max_size=6), max_size=4), st.data())
def test_a_pattern_matches_what_pythons_own_would(
    text: str, values: list[str], data: st.DataObject
) -> None:
    ours, theirs = Pattern(text), re.compile(text, re.IGNORECASE | re.DOTALL)
    matching = st.from_regex(theirs, fullmatch=True, alphabet=SIGNS)
    for value in (*values, *data.draw(st.lists(matching, max_size=4))):
        assert ours.matches(value) is bool(theirs.fullmatch(value)), value


@pytest.mark.parametrize(
    ("text", "matches", "others"),
    [
        ("a*", ["", "a", "AAA"], ["b", "ab"]),
        ("(ab)+", ["ab", "abAB"], ["", "aba"]),
        ("(a|b*c){2}", ["aa", "abbc", "cc"], ["a", "aaa", "ab"]),
        ("(a*)*b", ["b", "aab"], ["", "ba"]),
        ("a{2,}", ["aa", "aaaa"], ["a"]),
    ],
)
def test_patterns_of_every_day(text: str, matches: list[str], others: list[str]) -> None:
    assert [value for value in (*matches, *others) if Pattern(text).matches(value)] == matches


@pytest.mark.parametrize("text", ["(a+)+b", "(a|a)*b", "(a|aa)+b", ".*.*.*.*.*b", "(a?){90}a{90}b"])
def test_no_pattern_takes_more_steps_than_states_times_signs(text: str) -> None:
    """With backtracking these would not end in the lifetime of whoever waits."""
    assert not Pattern(text).matches("a" * 1_000)


def test_what_a_pattern_remembers_does_not_change_what_it_says() -> None:
    pattern = Pattern("(a|b)*a(a|b){12}")  # thousands of sets of states: more than are kept
    told = [format(number, "b").replace("0", "a").replace("1", "b") for number in range(6_000)]
    wanted = [len(text) > 12 and text[-13] == "a" for text in told]
    for _ in range(2):
        assert [pattern.matches(text) for text in told] == wanted
        kept = sum(1 + len(states) for states in pattern._steps.values())
        assert 0 < kept <= patterns._MEMBERS_KEPT_MAX


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a)", "character 2: ')' without '('"),
        ("(a", "character 1: '(' is not closed"),
        ("b[a", "character 2: '[' is not closed"),
        ("[]", "'[' is not closed"),
        ("*a", "nothing to repeat before '*'"),
        ("a|+", "nothing to repeat"),
        ("a**", "two quantifiers in a row"),
        ("a+?", "two quantifiers in a row"),
        ("a{", "needs counts"),
        ("a{x}", "needs counts"),
        ("a{3,2}", "wrong order"),
        ("[b-a]", "wrong order"),
        ("^a", "leave out '^'"),
        ("a$", "leave out '$'"),
        ("(?=a)", "only '(?:' is known"),
        (r"\b", "is not known"),
        (r"a\1", "is not known"),
        ("a\\", "is not known"),
        ("a" * 251, "251 characters; at most 250"),
        ("(" * 21 + "a" + ")" * 21, "more than 20 parentheses"),
        ("((a{99}){99}){99}", f"at most {STATES_MAX}"),
        ("(){999999999}", f"at most {STATES_MAX}"),
    ],
)
def test_a_refusal_says_where_and_why(text: str, said: str) -> None:
    with pytest.raises(InvalidError) as refusal:
        Pattern(text)
    assert said in str(refusal.value)
