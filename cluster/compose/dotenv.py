r"""``.env`` and ``env_file``: lines of ``NAME=value``.

    NAME=value          to the end of the line; `` #`` begins a comment; variables are replaced
    NAME="value"        \n, \r, \t, \", \\ and \$ are escapes; variables are replaced
    NAME='value'        as it stands
    NAME                the value that the variable has where the file is read, if any
    export NAME=value   the same as without export

Quoted values may span lines. Unlike most readers of such files this one refuses a line that it
does not understand, with its number.
"""

import re
from collections.abc import Mapping

from cluster.compose.interpolation import TemplateError, substitute
from cluster.compose.problems import Position, Problem, Report

_BLANK = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_NAME = re.compile(r"[ \t]*(?:export[ \t]+)?([^\s=#\"'$]+)[ \t]*")
_SINGLE = re.compile(r"'([^']*)'")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$$"}
_COMMENT = re.compile(r"(?:^|[ \t]+)#.*")


def read(
    text: str, *, file: str, environment: Mapping[str, str]
) -> tuple[dict[str, str], tuple[Problem, ...]]:
    """Return the variables of a ``.env`` file, and what is worth a warning.

    A variable that *environment* has is not among them: the environment wins.

    Raises:
        ComposeError: every line that cannot be understood.
    """
    report = Report()
    found = parse(text, file, environment, report)
    report.stop_if_unusable()
    variables = {
        name: value
        for name, value in found.items()
        if value is not None and name not in environment
    }
    return variables, report.warnings


def parse(
    text: str, file: str, environment: Mapping[str, str], report: Report
) -> dict[str, str | None]:
    """Return the variables that *text* sets, in order.

    A value may use variables of *environment* and, where that has none, of the lines before. A
    bare name has the environment's value, None if there is none.
    """
    return _Reader(text, file, environment, report).read()


def parse_raw(text: str, file: str, report: Report) -> dict[str, str | None]:
    """Return the variables of a file whose values are taken as they stand, quotes and all."""
    variables: dict[str, str | None] = {}
    for number, line in enumerate(_unified(text).split("\n"), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name or name != name.strip():
            report.problem(Position(file, number, 1), "", "expected NAME=value")
        else:
            variables[name] = value
    return variables


class _Reader:
    def __init__(
        self, text: str, file: str, environment: Mapping[str, str], report: Report
    ) -> None:
        self._text = _unified(text)
        self._file = file
        self._environment = environment
        self._report = report
        self._found: dict[str, str | None] = {}
        self._line = 1

    def read(self) -> dict[str, str | None]:
        at = 0
        while at < len(self._text):
            blank = _BLANK.match(self._text, at)
            end = blank.end() if blank else self._assignment(at)
            self._line += self._text.count("\n", at, end)
            at = end
        return self._found

    def _assignment(self, start: int) -> int:
        """Read one assignment; return where the next line begins."""
        line_end = self._text.find("\n", start)
        line_end = len(self._text) if line_end < 0 else line_end
        match = _NAME.match(self._text, start)
        if match is None:
            self._problem("expected NAME=value")
            return line_end + 1
        name, at = match[1], match.end()
        if _BLANK.match(self._text, at):
            self._found[name] = self._environment.get(name)
            return line_end + 1
        if not self._text.startswith("=", at):
            self._problem(f"expected NAME=value; there is no = after {name}")
            return line_end + 1
        at += 1
        while self._text[at : at + 1] in (" ", "\t"):
            at += 1
        quote = self._text[at : at + 1]
        if quote not in ("'", '"'):
            value = _COMMENT.sub("", self._text[at:line_end]).rstrip()
            self._found[name] = self._substituted(value)
            return line_end + 1
        quoted = (_SINGLE if quote == "'" else _DOUBLE).match(self._text, at)
        if quoted is None:
            self._problem(f"the value of {name} has no closing {quote}")
            return line_end + 1
        rest = _BLANK.match(self._text, quoted.end())
        if rest is None:
            self._problem(f"something follows the closing {quote} of {name}")
            return self._text.find("\n", quoted.end()) + 1 or len(self._text)
        if quote == "'":
            self._found[name] = quoted[1]
        else:
            value = _ESCAPE.sub(lambda match: _ESCAPES.get(match[1], match[0]), quoted[1])
            self._found[name] = self._substituted(value)
        return rest.end()

    def _substituted(self, value: str) -> str:
        def unset(name: str) -> None:
            message = f"variable {name} is not set; it is empty here"
            self._report.warning(Position(self._file, self._line, 1), "", message)

        try:
            return substitute(value, self._lookup, unset)
        except TemplateError as error:
            self._problem(str(error))
            return ""

    def _lookup(self, name: str) -> str | None:
        value = self._environment.get(name)
        return self._found.get(name) if value is None else value

    def _problem(self, message: str) -> None:
        self._report.problem(Position(self._file, self._line, 1), "", message)


def _unified(text: str) -> str:
    """Return *text* without the marks of other systems' editors."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n")
