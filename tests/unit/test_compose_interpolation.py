import pytest

from cluster.compose.interpolation import TemplateError, substitute

VARIABLES = {"SET": "value", "EMPTY": "", "OTHER": "other", "_x1": "under", "DOLLAR": "${SET}"}


def completed(text: str) -> tuple[str, list[str]]:
    unset: list[str] = []
    return substitute(text, VARIABLES.get, unset.append), unset


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        ("}{", "}{"),
        ("$SET", "value"),
        ("${SET}", "value"),
        ("a$SET.b", "avalue.b"),
        ("a${SET}b", "avalueb"),
        ("$_x1", "under"),
        ("$$", "$"),
        ("$$SET", "$SET"),
        ("$${SET}", "${SET}"),
        ("$$$SET", "$value"),
        ("${DOLLAR}", "${SET}"),
        ("${SET:-d}", "value"),
        ("${SET-d}", "value"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${UNSET:-d}", "d"),
        ("${UNSET-d}", "d"),
        ("${UNSET:-}", ""),
        ("${UNSET-}", ""),
        ("${SET:+d}", "d"),
        ("${SET+d}", "d"),
        ("${EMPTY:+d}", ""),
        ("${EMPTY+d}", "d"),
        ("${UNSET:+d}", ""),
        ("${UNSET+d}", ""),
        ("${SET:?no}", "value"),
        ("${SET?no}", "value"),
        ("${EMPTY?no}", ""),
        ("${UNSET:-${SET}}", "value"),
        ("${UNSET:-$SET-$OTHER}", "value-other"),
        ("${UNSET:-${EMPTY:-${OTHER}}}", "other"),
        ("${UNSET:-a$$b}", "a$b"),
        ("${UNSET:-a:-b}", "a:-b"),
        ("${UNSET:-http://h:1/?q}", "http://h:1/?q"),
        ("${UNSET:-{a}", "{a"),
        ("${SET:+${OTHER}}", "other"),
    ],
)
def test_variables_are_replaced(text: str, expected: str) -> None:
    assert completed(text) == (expected, [])


@pytest.mark.parametrize("text", ["$UNSET", "${UNSET}", "${SET:+$UNSET}", "${EMPTY:-${UNSET}}"])
def test_an_unset_variable_is_empty_and_told_of(text: str) -> None:
    assert completed(text) == ("", ["UNSET"])


@pytest.mark.parametrize("text", ["${SET:-$UNSET}", "${UNSET:+$UNSET}", "${SET:-${UNSET:?no}}"])
def test_what_is_not_used_is_not_looked_up(text: str) -> None:
    assert completed(text)[1] == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$", "a lone $ means nothing"),
        ("a$ b", "a lone $"),
        ("$1", "a lone $"),
        ("${", "not followed by a name"),
        ("${}", "not followed by a name"),
        ("${1}", "not followed by a name"),
        ("${SET", "is not closed"),
        ("${SET:-a", "is not closed"),
        ("${SET:-${OTHER}", "is not closed"),
        ("${SET!}", "followed by '!'"),
        ("${SET:}", "followed by ':'"),
        ("${SET }", "followed by ' '"),
        ("${SET:-$}", "a lone $"),
        ("${UNSET:?}", "variable UNSET is not set"),
        ("${UNSET?say $SET}", "variable UNSET is not set: say value"),
        ("${EMPTY:?why}", "variable EMPTY is empty: why"),
        ("${SET:+${UNSET?why}}", "UNSET is not set: why"),
        ("${A:-" * 50 + "}" * 50, "deeper than 20"),
    ],
)
def test_what_cannot_be_completed_is_refused(text: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        completed(text)
    assert message in str(caught.value)
