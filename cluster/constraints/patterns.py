"""Regular expressions that anyone may send: matching takes time in proportion to the text.

RE2 follows an automaton and never backtracks. Python's ``re``, whose time can grow exponentially
with the text, would let one label or one constraint stop a manager (docs/decisions/0007).
A pattern is held against a whole text and without regard to case, as ``==`` compares.
"""

from functools import lru_cache
from typing import TYPE_CHECKING

from cluster.errors import InvalidError

if TYPE_CHECKING:
    import re2

# Long enough for a list of some dozen names; no host has more to be told apart by.
CHARACTERS_MAX = 250

# What the automaton of one pattern may take: RE2 starts it anew when it grows beyond that.
MEMORY_BYTES_MAX = 1 << 20

# Patterns in use at a time in a cluster with very many services; more are only read again.
_PATTERNS_KEPT_MAX = 1_024

_ORNAMENTS = "^$"


class Pattern:
    """A regular expression that was read."""

    def __init__(self, text: str) -> None:
        """Read *text*.

        Raises:
            InvalidError: it is none; says why.
        """
        if len(text) > CHARACTERS_MAX:
            raise InvalidError(f"it has {len(text)} characters; at most {CHARACTERS_MAX}")
        for sign in (text[:1], text[-1:]):
            if sign and sign in _ORNAMENTS and not text.endswith(f"\\{sign}"):
                raise InvalidError(
                    f"a pattern is held against the whole value anyway: leave out {sign!r}"
                )
        self._compiled = _compiled(text)

    def matches(self, text: str) -> bool:
        """Tell whether the whole of *text* is as the pattern says."""
        return self._compiled.fullmatch(text) is not None


@lru_cache(maxsize=_PATTERNS_KEPT_MAX)
def pattern(text: str) -> Pattern:
    """Return the pattern that *text* is; the same text is read once.

    Raises:
        InvalidError: it is none.
    """
    return Pattern(text)


def _compiled(text: str) -> "re2._Regexp":
    import re2  # noqa: PLC0415 - hardly a command of the client needs it

    options = re2.Options()
    options.case_sensitive = False
    options.dot_nl = True
    options.max_mem = MEMORY_BYTES_MAX
    options.log_errors = False
    try:
        return re2.compile(text, options)
    except re2.error as error:
        (why,) = error.args
        raise InvalidError(why.decode(errors="replace")) from None
