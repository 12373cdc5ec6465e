"""What is wrong with a file, or worth knowing about it, and where.

A ``Report`` collects: reading goes on after a problem, so that a file's author sees all of them
at once. Nothing is printed here.
"""

from collections.abc import Iterable

import msgspec

from cluster.errors import InvalidError


class Position(msgspec.Struct, frozen=True):
    """A place in a file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Problem(msgspec.Struct, frozen=True):
    """Something about one value.

    Attributes:
        at: where the value (of an unknown key: the key) is written, which need not be where it
            is used: it may come from another file, from behind an anchor or from a base service.
        path: where it is used, such as ``services.web.ports[0].target``; empty if nowhere.
        message: what is expected, and what to do.
    """

    at: Position
    path: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (str(self.at), self.path, self.message) if part)


class ComposeError(InvalidError):
    """Files that cannot be used as they are; says all that is wrong with them, one a line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Report:
    """What was found so far. The same thing found twice (through an anchor) counts once.

    Args:
        files: the names of the first files, in the order in which they are to be told of.
    """

    def __init__(self, files: Iterable[str] = ()) -> None:
        self._files = tuple(files)
        self._problems: dict[Problem, None] = {}
        self._warnings: dict[Problem, None] = {}

    def problem(self, at: Position, path: str, message: str) -> None:
        """Add what makes the files unusable."""
        self._problems[Problem(at, _printable(path), _printable(message))] = None

    def warning(self, at: Position, path: str, message: str) -> None:
        """Add what works otherwise than its author may think."""
        self._warnings[Problem(at, _printable(path), _printable(message))] = None

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """All warnings, in the order of the files."""
        return self._in_order(self._warnings)

    def has_problem_at(self, path: str) -> bool:
        """Tell whether anything at, under or around *path* is a problem already."""
        return any(
            _is_within(path, problem.path) or _is_within(problem.path, path)
            for problem in self._problems
        )

    def stop_if_unusable(self) -> None:
        """End here if anything makes the files unusable.

        Raises:
            ComposeError: all the problems so far.
        """
        if self._problems:
            raise ComposeError(self._in_order(self._problems))

    def _in_order(self, problems: Iterable[Problem]) -> tuple[Problem, ...]:
        """Return them line by line, other files than the first as they were met."""
        problems = list(problems)
        files = dict.fromkeys((*self._files, *(problem.at.file for problem in problems)))
        places = {file: place for place, file in enumerate(files)}
        return tuple(sorted(problems, key=lambda p: (places[p.at.file], p.at.line, p.at.column)))


def _is_within(path: str, other: str) -> bool:
    return bool(other) and (path == other or path.startswith((f"{other}.", f"{other}[")))


def _printable(text: str) -> str:
    """Return *text* with whatever could upset a terminal or an encoder written as an escape."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)
