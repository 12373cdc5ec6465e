"""CSV files whose every mistake is told with its line. Pure.

The first row names the columns, in any order. Each column has a reader; a cell that it refuses
is a problem, and reading goes on, so that all problems are told at once.
"""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.errors import InvalidError, did_you_mean

# More lines than anybody mends before trying again.
PROBLEMS_TOLD_MAX = 20

# Far above what any cell says; a quote that is not closed would else swallow the whole file.
CELL_CHARACTERS_MAX = 10_000

Reader = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Column:
    """How a column is read.

    Attributes:
        read: what a cell means; raises ``InvalidError``.
        default: of an empty cell and of a column that is not there.
        required: it has to be there, and no cell may be empty.
    """

    read: Reader
    default: Any = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A row that could be read.

    Attributes:
        line: where it begins, from 1.
        cells: by column; every known column is there.
    """

    line: int
    cells: Mapping[str, Any]


class Problems:
    """What is wrong with a file, line by line."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._lines: list[str] = []
        self.count = 0

    def add(self, line: int, message: str) -> None:
        self.count += 1
        if len(self._lines) < PROBLEMS_TOLD_MAX:
            self._lines.append(f"{self._file}:{line}: {message}")

    def stop_if_any(self) -> None:
        """End here if anything makes the file unusable.

        Raises:
            InvalidError: the problems, one a line.
        """
        if self.count > len(self._lines):
            self._lines.append(f"{self._file}: and {self.count - len(self._lines)} more")
        if self._lines:
            raise InvalidError("\n".join(self._lines))


def rows(
    text: str,
    problems: Problems,
    columns: Mapping[str, Column],
    families: Mapping[str, Column],
    aliases: Mapping[str, str],
) -> list[Row]:
    """Return the rows that could be read; what is wrong with the others is in *problems*.

    Args:
        text: of the file.
        problems: to be told of.
        columns: by name.
        families: columns whose names begin so ("gpu.", or "" for any other name).
        aliases: other names of columns.
    """
    lines = csv.reader(text.removeprefix("\ufeff").splitlines(keepends=True), strict=True)
    csv.field_size_limit(CELL_CHARACTERS_MAX)
    found: list[Row] = []
    try:
        header = next(lines, [])
        readers = _header(header, problems, columns, families, aliases)
        for line, cells in _numbered(lines):
            if len(cells) != len(header):
                problems.add(line, f"has {len(cells)} cells, the first row has {len(header)}")
            elif readers and (row := _row(line, cells, readers, columns, problems)) is not None:
                found.append(row)
    except csv.Error as error:
        problems.add(lines.line_num, f"is no CSV: {error}")
    return found


def _numbered(lines: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not empty with the line on which it begins."""
    before = lines.line_num
    for cells in lines:
        if any(cell.strip() for cell in cells):
            yield before + 1, cells
        before = lines.line_num


def _header(
    header: Sequence[str],
    problems: Problems,
    columns: Mapping[str, Column],
    families: Mapping[str, Column],
    aliases: Mapping[str, str],
) -> list[tuple[str, Column]]:
    """Return the name and reader of each column; nothing if they cannot be told."""
    names = [aliases.get(cell.strip(), cell.strip()) for cell in header]
    before = problems.count
    readers: list[tuple[str, Column]] = []
    for name in names:
        column = columns.get(name) or _of_family(name, families)
        if not name:
            problems.add(1, "has a column without a name")
        elif column is None:
            near = did_you_mean(name, columns) or f" there are {', '.join(columns)}"
            problems.add(1, f"unknown column {name!r};{near}")
        elif any(name == known for known, _ in readers):
            problems.add(1, f"has the column {name!r} twice")
        else:
            readers.append((name, column))
    for name, column in columns.items():
        if column.required and name not in names:
            problems.add(1, f"has no column {name!r}")
    return readers if problems.count == before else []


def _of_family(name: str, families: Mapping[str, Column]) -> Column | None:
    return next((column for begun, column in families.items() if name.startswith(begun)), None)


def _row(
    line: int,
    cells: Sequence[str],
    readers: Sequence[tuple[str, Column]],
    columns: Mapping[str, Column],
    problems: Problems,
) -> Row | None:
    values = {name: column.default for name, column in columns.items()}
    before = problems.count
    for (name, column), cell in zip(readers, cells, strict=True):
        text = cell.strip()
        if not text:
            if column.required:
                problems.add(line, f"{name} must not be empty")
            continue
        try:
            values[name] = column.read(text)
        except InvalidError as error:
            problems.add(line, f"{name}: {error}")
    return Row(line, values) if problems.count == before else None
