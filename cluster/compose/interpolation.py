"""Variables in values: ``$NAME``, ``${NAME}`` and the forms with a default.

    $$                  a plain $
    ${NAME:-word}       word if NAME is unset or empty;    ${NAME-word}   if it is unset
    ${NAME:?word}       refused, saying word, if NAME is unset or empty;    ${NAME?word}
    ${NAME:+word}       word if NAME is set and not empty, else nothing;    ${NAME+word}

A word may hold variables in turn; those of a word that is not used are not looked up. Values
are replaced before they get a type, keys never are.
"""

import re
from collections.abc import Callable, Mapping

from cluster.compose import nodes
from cluster.compose.nodes import Items, Kind, Node, Scalar
from cluster.compose.problems import Report

# Deeper than anyone can read; each level costs a frame.
NESTING_MAX = 20

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR = re.compile(r":?[-?+]")
_HOW = "write ${NAME} for a variable, or $$ for a plain $"

Lookup = Callable[[str], str | None]


class TemplateError(Exception):
    """The text cannot be completed; says why."""


def substitute(text: str, lookup: Lookup, unset: Callable[[str], None]) -> str:
    """Return *text* with its variables replaced.

    Args:
        text: what was written.
        lookup: returns a variable's value, None if it is unset.
        unset: told of each variable that is unset and has no default: it counts as empty.

    Raises:
        TemplateError: the text is malformed, or a required variable is missing.
    """
    if "$" not in text:
        return text
    value, _ = _Template(text, lookup, unset).read(0, live=True, depth=0)
    return value


def interpolate(root: Node, environment: Mapping[str, str], report: Report) -> Node:
    """Return the tree with the variables in all its values replaced; keys are left alone.

    A value that had a variable is text from then on, whatever it looks like; a value that could
    not be completed becomes ``BROKEN``.
    """
    return _Interpolation(environment, report).node(root, "")


class _Interpolation:
    def __init__(self, environment: Mapping[str, str], report: Report) -> None:
        self._environment = environment
        self._report = report
        self._done: dict[int, Node] = {}  # what is shared through an alias stays shared

    def node(self, node: Node, path: str) -> Node:
        if isinstance(node, Scalar):
            return self._scalar(node, path) if "$" in node.text else node
        known = self._done.get(id(node))
        if known is not None:
            return known
        new: Node
        if isinstance(node, Items):
            items = tuple(self.node(item, f"{path}[{i}]") for i, item in enumerate(node.items))
            new = Items(items, node.at, node.tag)
        else:
            prefix = f"{path}." if path else ""
            entries = {key: self.node(part, prefix + key) for key, part in node.entries.items()}
            new = nodes.Mapping(entries, node.keys_at, node.at, node.tag)
        self._done[id(node)] = new
        return new

    def _scalar(self, node: Scalar, path: str) -> Scalar:
        def unset(name: str) -> None:
            self._report.warning(node.at, path, f"variable {name} is not set; it is empty here")

        try:
            text = substitute(node.text, self._environment.get, unset)
        except TemplateError as error:
            self._report.problem(node.at, path, str(error))
            return Scalar("", Kind.BROKEN, node.at, node.tag)
        return Scalar(text, Kind.STRING, node.at, node.tag)


class _Template:
    """Reads one text; *live* is off in words that are not used."""

    def __init__(self, text: str, lookup: Lookup, unset: Callable[[str], None]) -> None:
        self._text = text
        self._lookup = lookup
        self._unset = unset

    def read(self, start: int, *, live: bool, depth: int) -> tuple[str, int]:
        """Return the value of what begins at *start*, and where it ends.

        It ends with the text or, inside of braces, at the closing one.
        """
        if depth > NESTING_MAX:
            raise TemplateError(f"variables nest deeper than {NESTING_MAX} levels")
        parts: list[str] = []
        at = start
        while at < len(self._text):
            sign = self._text[at]
            if sign == "}" and depth:
                break
            if sign != "$":
                end = self._plain_end(at, in_braces=bool(depth))
                parts.append(self._text[at:end])
            elif self._text.startswith("$$", at):
                parts.append("$")
                end = at + 2
            elif self._text.startswith("${", at):
                value, end = self._braced(at + 2, live=live, depth=depth)
                parts.append(value)
            else:
                match = _NAME.match(self._text, at + 1)
                if match is None:
                    raise TemplateError(f"a lone $ means nothing: {_HOW}")
                end = match.end()
                parts.append(self._plain_value(match[0]) if live else "")
            at = end
        return "".join(parts), at

    def _plain_end(self, start: int, *, in_braces: bool) -> int:
        ends = [self._text.find("$", start)]
        if in_braces:
            ends.append(self._text.find("}", start))
        return min((end for end in ends if end >= 0), default=len(self._text))

    def _braced(self, start: int, *, live: bool, depth: int) -> tuple[str, int]:
        match = _NAME.match(self._text, start)
        if match is None:
            raise TemplateError(f"${{ is not followed by a name: {_HOW}")
        name, at = match[0], match.end()
        operator = _OPERATOR.match(self._text, at)
        if operator is None:
            if not self._text.startswith("}", at):
                raise TemplateError(self._malformed(name, at))
            return (self._plain_value(name) if live else ""), at + 1
        value = self._lookup(name) if live else None
        missing = value is None or (operator[0][0] == ":" and not value)
        wants_word = not missing if operator[0][-1] == "+" else missing
        word, at = self.read(operator.end(), live=live and wants_word, depth=depth + 1)
        if at >= len(self._text):
            raise TemplateError(f"${{{name} is not closed: a }} is missing")
        if not live:
            return "", at + 1
        if wants_word and operator[0][-1] == "?":
            state = "is not set" if value is None else "is empty"
            raise TemplateError(f"variable {name} {state}{word and ': ' + word}")
        if operator[0][-1] == "+" or wants_word:
            return (word if wants_word else ""), at + 1
        return value or "", at + 1

    def _plain_value(self, name: str) -> str:
        value = self._lookup(name)
        if value is None:
            self._unset(name)
        return value or ""

    def _malformed(self, name: str, at: int) -> str:
        if at >= len(self._text):
            return f"${{{name} is not closed: a }} is missing"
        return f"${{{name} is followed by {self._text[at]!r}; there are }}, :-, -, :?, ?, :+ and +"
