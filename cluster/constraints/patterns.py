r"""Regular expressions that anyone may send: matching takes time in proportion to the text.

    pattern     := branch ("|" branch)*
    branch      := (atom quantifier?)*
    atom        := character | "." | "[" "^"? (character | a "-" z | \d \w \s)+ "]"
                 | "(" pattern ")" | "(?:" pattern ")" | \d \D \w \W \s \S | "\" sign
    quantifier  := "*" | "+" | "?" | "{n}" | "{n,}" | "{n,m}"

A pattern is held against a whole text and without regard to case. There is nothing to look
back or ahead with and nothing is captured, so no backtracking is needed: Python's ``re``, whose
time can grow exponentially with the text, would let one label or one constraint stop a manager.

The pattern becomes a nondeterministic automaton of at most ``STATES_MAX`` states, and the sets
of states that texts really lead to become the states of a deterministic one, made as they are
met (Thompson, "Regular Expression Search Algorithm", 1968; lazily as in Cox, "Regular
Expression Matching Can Be Simple And Fast", 2007). So a character of a known kind of text costs
one look-up, and one that is new at most a visit of every state.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache

from cluster.errors import InvalidError

# Long enough for a list of some dozen names; no host has more to be told apart by.
CHARACTERS_MAX = 250

# What repetition may blow a pattern up to: the most that one character of a text can cost.
STATES_MAX = 1_000

# No label needs deeper nesting, and reading a pattern calls itself once per level.
DEPTH_MAX = 20

# Members of the sets of states that a pattern keeps, some 50 bytes each; then it begins anew.
# A usual pattern has sets of less than ten, and so can keep a thousand transitions.
_MEMBERS_KEPT_MAX = 10_000

# Patterns in use at a time in a cluster with very many services; more are only read again.
_PATTERNS_KEPT_MAX = 1_024

_QUANTIFIERS = "*+?{"
_UNSUPPORTED = {
    "^": "a pattern is held against the whole value anyway: leave out '^'",
    "$": "a pattern is held against the whole value anyway: leave out '$'",
}

_Test = Callable[[str], bool]
_CLASSES: dict[str, _Test] = {
    "d": lambda sign: sign in "0123456789",
    "w": lambda sign: sign.isalnum() or sign == "_",
    "s": str.isspace,
}

# A fragment's states are numbered from 0; a state is a test and where to go if it holds, or no
# test and where to go regardless.
_State = tuple[_Test | None, tuple[int, ...]]


class Pattern:
    """A regular expression that was read."""

    __slots__ = ("_end", "_kept", "_start", "_states", "_steps", "text")

    def __init__(self, text: str) -> None:
        """Read *text*.

        Raises:
            InvalidError: it is no pattern; says where and why.
        """
        self.text = text
        builder = _Builder()
        tree = _Reader(text).pattern()
        start, end = builder.state(None), builder.state(None)
        tree(builder, start, end)
        self._states = builder.states
        self._end = end
        self._start = self._closure([start])
        self._steps: dict[tuple[frozenset[int], str], frozenset[int]] = {}
        self._kept = 0

    def matches(self, text: str) -> bool:
        """Tell whether the whole of *text* is what the pattern describes, in whatever case."""
        here = self._start
        for sign in text.lower():
            if not here:
                return False
            here = self._step(here, sign)
        return self._end in here

    def _step(self, here: frozenset[int], sign: str) -> frozenset[int]:
        known = self._steps.get((here, sign))
        if known is not None:
            return known
        reached: list[int] = []
        for number in here:
            test, then = self._states[number]
            if test is not None and test(sign):
                reached += then
        there = self._closure(reached)
        self._kept += 1 + len(there)
        if self._kept > _MEMBERS_KEPT_MAX:
            self._steps.clear()
            self._kept = 1 + len(there)
        self._steps[here, sign] = there
        return there

    def _closure(self, numbers: Iterable[int]) -> frozenset[int]:
        """Return the states that are reached from these without a character."""
        seen: set[int] = set()
        left = list(numbers)
        while left:
            number = left.pop()
            if number in seen:
                continue
            seen.add(number)
            test, then = self._states[number]
            if test is None:
                left += then
        return frozenset(seen)


@lru_cache(maxsize=_PATTERNS_KEPT_MAX)
def pattern(text: str) -> Pattern:
    """Return the pattern that *text* is, read once.

    Raises:
        InvalidError: it is no pattern; says where and why.
    """
    return Pattern(text)


class _Builder:
    """The automaton while it grows."""

    def __init__(self) -> None:
        self.states: list[_State] = []

    def state(self, test: _Test | None, *then: int) -> int:
        if len(self.states) >= STATES_MAX:
            raise InvalidError(f"it repeats too much; at most {STATES_MAX} states are allowed")
        self.states.append((test, then))
        return len(self.states) - 1

    def lead(self, number: int, then: int) -> None:
        test, others = self.states[number]
        self.states[number] = (test, (*others, then))


# Writes what it stands for between two states; may be called several times (repetition).
_Tree = Callable[[_Builder, int, int], None]


def _sign(test: _Test) -> _Tree:
    def write(builder: _Builder, start: int, end: int) -> None:
        builder.lead(start, builder.state(test, end))

    return write


def _sequence(parts: list[_Tree]) -> _Tree:
    def write(builder: _Builder, start: int, end: int) -> None:
        here = start
        for part in parts:
            there = builder.state(None)
            part(builder, here, there)
            here = there
        builder.lead(here, end)

    return write


def _either(branches: list[_Tree]) -> _Tree:
    def write(builder: _Builder, start: int, end: int) -> None:
        for branch in branches:
            branch(builder, start, end)

    return write


def _repeated(part: _Tree, least: int, most: int | None) -> _Tree:
    def write(builder: _Builder, start: int, end: int) -> None:
        here = start
        for _ in range(least):
            there = builder.state(None)
            part(builder, here, there)
            here = there
        if most is None:
            loop = builder.state(None)
            builder.lead(here, loop)
            part(builder, loop, loop)
            here = loop
        else:
            for _ in range(most - least):
                builder.lead(here, end)
                there = builder.state(None)
                part(builder, here, there)
                here = there
        builder.lead(here, end)

    return write


class _Reader:
    """Reads a pattern from left to right."""

    def __init__(self, text: str) -> None:
        if len(text) > CHARACTERS_MAX:
            raise InvalidError(f"it has {len(text)} characters; at most {CHARACTERS_MAX}")
        self._text = text
        self._at = 0
        self._depth = 0

    def pattern(self) -> _Tree:
        tree = self._alternatives()
        if self._at < len(self._text):
            raise self._flaw("')' without '(' before it")
        return tree

    def _alternatives(self) -> _Tree:
        branches = [self._branch()]
        while self._taken("|"):
            branches.append(self._branch())
        return branches[0] if len(branches) == 1 else _either(branches)

    def _branch(self) -> _Tree:
        parts: list[_Tree] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            part = self._atom()
            if self._at < len(self._text) and self._text[self._at] in _QUANTIFIERS:
                part = self._quantified(part)
            parts.append(part)
        return _sequence(parts)

    def _atom(self) -> _Tree:
        sign = self._text[self._at]
        if sign in _QUANTIFIERS:
            raise self._flaw(f"nothing to repeat before {sign!r}; write \\{sign} for the sign")
        if sign in _UNSUPPORTED:
            raise self._flaw(f"{_UNSUPPORTED[sign]}, or write \\{sign} for the sign")
        self._at += 1
        if sign == "(":
            return self._group()
        if sign == ".":
            return _sign(lambda _: True)
        if sign == "[":
            return _sign(self._set())
        if sign == "\\":
            return _sign(self._escaped())
        return _sign(_is(sign))

    def _group(self) -> _Tree:
        opened = self._at - 1
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise self._flaw(f"more than {DEPTH_MAX} parentheses in each other")
        if self._taken("?") and not self._taken(":"):
            raise self._flaw("of the groups that begin with '(?' only '(?:' is known")
        tree = self._alternatives()
        if not self._taken(")"):
            self._at = opened
            raise self._flaw("'(' is not closed")
        self._depth -= 1
        return tree

    def _quantified(self, part: _Tree) -> _Tree:
        sign = self._text[self._at]
        self._at += 1
        least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(sign) or self._counts()
        if self._at < len(self._text) and self._text[self._at] in _QUANTIFIERS:
            raise self._flaw("two quantifiers in a row; put the first into parentheses")
        return _repeated(part, least, most)

    def _counts(self) -> tuple[int, int | None]:
        """Read what follows "{"."""
        inside, closed, _ = self._text[self._at :].partition("}")
        least, comma, most = inside.partition(",")
        if not closed or not _is_count(least) or (most and not _is_count(most)):
            raise self._flaw("'{' needs counts such as {3}, {2,} or {2,5}")
        self._at += len(inside) + 1
        few = int(least)
        many = int(most) if most else (None if comma else few)
        if many is not None and many < few:
            raise self._flaw(f"{{{inside}}} has its counts in the wrong order")
        return few, many

    def _set(self) -> _Test:
        """Read what follows "["."""
        opened = self._at - 1
        is_negated = self._taken("^")
        tests: list[_Test] = []
        while not (tests and self._taken("]")):
            if self._at >= len(self._text):
                self._at = opened
                raise self._flaw("'[' is not closed")
            tests.append(self._set_part())
        return lambda sign: any(test(sign) for test in tests) is not is_negated

    def _set_part(self) -> _Test:
        first = self._text[self._at]
        self._at += 1
        if first == "\\":
            if self._text[self._at : self._at + 1] in _CLASSES:
                return self._escaped()
            first = self._literal()
        if self._text[self._at : self._at + 1] != "-" or self._text[
            self._at + 1 : self._at + 2
        ] in ("", "]"):
            return _is(first)
        self._at += 1
        last = self._text[self._at]
        self._at += 1
        if last == "\\":
            last = self._literal()
        if last < first:
            raise self._flaw(f"'{first}-{last}' has its ends in the wrong order")
        return lambda sign: any(
            first <= one <= last for one in (sign, sign.upper()) if len(one) == 1
        )

    def _escaped(self) -> _Test:
        """Read what follows a backslash."""
        name = self._text[self._at : self._at + 1]
        if name.lower() in _CLASSES:
            self._at += 1
            test = _CLASSES[name.lower()]
            return test if name.islower() else lambda sign: not test(sign)
        return _is(self._literal())

    def _literal(self) -> str:
        """Read the sign that a backslash makes an ordinary one."""
        sign = self._text[self._at : self._at + 1]
        if not sign or sign.isalnum():
            raise self._flaw(f"'\\{sign}' is not known; known are \\d \\w \\s and escaped signs")
        self._at += 1
        return sign

    def _taken(self, sign: str) -> bool:
        """Pass over *sign* if it comes next, and tell whether it did."""
        if not self._text.startswith(sign, self._at):
            return False
        self._at += 1
        return True

    def _flaw(self, why: str) -> InvalidError:
        return InvalidError(f"at its character {self._at + 1}: {why}")


def _is(literal: str) -> _Test:
    lowered = literal.lower()
    return lambda sign: sign == lowered


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit()
