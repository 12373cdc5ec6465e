"""Reading constraints: from what a user wrote to terms, or to a refusal that says what is valid."""

import re
from functools import lru_cache

from cluster.constraints.facts import LABELS, ROLES, VALID_KEYS, hint, read_key
from cluster.constraints.patterns import pattern
from cluster.constraints.terms import Constraint, Operator, Term, network, number
from cluster.errors import InvalidError

# Enough for a list of a hundred host names, little enough to be written into a task's status.
EXPRESSION_CHARACTERS_MAX = 4_000

# Constraints that are kept read: those of some thousand services. More are only read again.
_CONSTRAINTS_KEPT_MAX = 16_384

_ANY = re.compile(r"any\s*\((.*?)(\)?)", re.DOTALL | re.IGNORECASE)
# A key, then a run of comparison signs or, to be named in the refusal, any word or two.
_TERM = re.compile(
    r"([^\s=!<>~(]*)\s*([=!<>~]+|not\s+[^\s(]+|[^\s(]*)\s*(.*)", re.DOTALL | re.IGNORECASE
)
_LIST = re.compile(r"\((.*)\)", re.DOTALL)
# What begins another term in what should be a value.
_SECOND = re.compile(
    r"\s(?:node|engine)\.\S+?\s*(?:[=!<>~]+|\s(?:not\s+)?(?:in|exists)\b)", re.IGNORECASE
)

_VALID_OPERATORS = (
    f"{', '.join(operator.value for operator in Operator if operator is not Operator.GREATER)}"
    f" and {Operator.GREATER.value}"
)

# What people write for an operator where other tools or languages taught them to.
_OPERATOR_WORDS = {
    "=": "==",
    "===": "==",
    "is": "==",
    "eq": "==",
    "equals": "==",
    "<>": "!=",
    "=!": "!=",
    "ne": "!=",
    "is not": "!=",
    "~": "=~",
    "~=": "=~",
    "=~~": "=~",
    "matches": "=~",
    "regexp": "=~",
    "like": "=~",
    "notin": "not in",
    "lt": "<",
    "<=": "<",
    "gt": ">",
    ">=": ">",
    "exist": "exists",
    "not exist": "not exists",
    "has": "exists",
}

_COMPARED_WHOLE = (Operator.EQUAL, Operator.NOT_EQUAL, Operator.IN, Operator.NOT_IN)
_LISTING = (Operator.IN, Operator.NOT_IN)
_BARE = (Operator.EXISTS, Operator.NOT_EXISTS)
_NUMERIC = (Operator.LESS, Operator.GREATER)


@lru_cache(maxsize=_CONSTRAINTS_KEPT_MAX)
def parse(expression: str) -> Constraint:
    """Read a constraint as a user wrote it; the same text is read once.

    Raises:
        InvalidError: it can never hold as it is written; says why, and what was meant perhaps.
    """
    if len(expression) > EXPRESSION_CHARACTERS_MAX:
        shown = expression[:100] + "..."
        why = f"it has {len(expression)} characters; at most {EXPRESSION_CHARACTERS_MAX}"
        raise InvalidError(f"constraint {shown!r}: {why}")
    try:
        return Constraint(_terms(expression.strip()))
    except InvalidError as error:
        raise InvalidError(f"constraint {expression!r}: {error}") from None


def _terms(text: str) -> tuple[Term, ...]:
    alternatives = _ANY.fullmatch(text)
    if alternatives is None:
        return (_term(text),)
    inside, closed = alternatives.groups()
    if not closed:
        raise InvalidError("'any(' is not closed; write any(TERM; TERM)")
    parts = [part.strip() for part in inside.split(";")]
    if not all(parts):
        raise InvalidError("a term of 'any' is empty; write any(TERM; TERM)")
    if any(_ANY.fullmatch(part) for part in parts):
        raise InvalidError("'any' cannot stand in 'any'; list all terms in one")
    return tuple(dict.fromkeys(_term(part) for part in parts))


def _term(text: str) -> Term:
    match = _TERM.fullmatch(text)
    assert match is not None, "the pattern matches any text"
    written_key, written_operator, rest = match.groups()
    if not written_key:
        raise InvalidError(f"it does not begin with a key; valid are {VALID_KEYS}")
    key = read_key(written_key)
    operator = _operator(written_operator)
    values = _values(operator, rest.strip())
    for value in values:
        _check_value(key, operator, value)
    return Term(key, operator, values)


def _operator(written: str) -> Operator:
    word = " ".join(written.lower().split())
    try:
        return Operator(word)
    except ValueError:
        pass
    if not written:
        raise InvalidError(f"it has no operator; valid are {_VALID_OPERATORS}")
    near = hint(_OPERATOR_WORDS.get(word, word), [operator.value for operator in Operator])
    raise InvalidError(f"unknown operator {written!r}; valid are {_VALID_OPERATORS}{near}")


def _values(operator: Operator, rest: str) -> tuple[str, ...]:
    if operator in _BARE:
        if rest:
            raise InvalidError(f"{rest!r} follows {operator.value}, which takes no value")
        return ()
    if not rest:
        raise InvalidError(f"nothing follows {operator.value}; give a value")
    if operator not in _LISTING:
        return (rest,)
    listed = _LIST.fullmatch(rest)
    if listed is None:
        example = f"{operator.value} ({rest.strip('()')})"
        raise InvalidError(f"{operator.value} takes a list in parentheses: {example}")
    values = tuple(value.strip() for value in listed[1].split(","))
    if not all(values):
        raise InvalidError(f"a value in {rest} is empty; 'not exists' asks for a missing label")
    return values


def _check_value(key: str, operator: Operator, value: str) -> None:
    """Refuse a value that nothing can ever compare with."""
    if len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]:
        raise InvalidError(f"write the value without quotes: {value[1:-1]}")
    if operator in _COMPARED_WHOLE and _SECOND.search(value):
        raise InvalidError(f"{value!r} has a second constraint in it; list each by itself")
    if operator is Operator.MATCHES:
        try:
            pattern(value)
        except InvalidError as error:
            raise InvalidError(f"{value!r} is no regular expression known here: {error}") from None
    if operator in _NUMERIC:
        if not key.startswith(LABELS):
            raise InvalidError(f"{operator.value} compares labels as numbers, {key} is none")
        if number(value) is None:
            raise InvalidError(f"{operator.value} needs a number such as 8 or 2.5, not {value!r}")
    if operator in _COMPARED_WHOLE:
        _check_compared(key, value)


def _check_compared(key: str, value: str) -> None:
    if key == "node.role" and value.lower() not in ROLES:
        valid = " and ".join(ROLES)
        near = hint(value.lower(), ROLES)
        raise InvalidError(f"unknown role {value!r}; valid are {valid}{near}")
    if key == "node.ip" and network(value) is None:
        raise InvalidError(
            f"{value!r} is neither an address (192.0.2.7) nor a network (192.0.2.0/24)"
        )
