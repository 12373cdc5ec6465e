"""Tables and lists of facts, aligned by what a terminal shows of a text."""

import unicodedata
from collections.abc import Iterable, Sequence

GAP = 3


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return lines with a header; columns stand left, and the last one is not padded."""
    lines = [list(header), *([clean(cell) for cell in row] for row in rows)]
    widths = [max(map(width, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "".join(
            cell + " " * (size + GAP - width(cell)) for cell, size in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def facts(pairs: Iterable[tuple[str, str]], indent: int = 0) -> str:
    """Return ``Name:  value`` lines; a pair without a value is left out."""
    told = [(name, value) for name, value in pairs if value]
    size = max((width(name) for name, _ in told), default=0) + 3
    lines = []
    for name, value in told:
        first, *more = value.splitlines()
        lines.append(" " * indent + f"{name}:".ljust(size) + clean(first))
        lines += [" " * (indent + size) + clean(line) for line in more]
    return "\n".join(lines)


def clean(text: str) -> str:
    """Return the text on one line and without control characters, which could forge output."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        sign if unicodedata.category(sign)[0] != "C" else " " for sign in text.replace("\n", " ")
    )


def width(text: str) -> int:
    """Return how many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1
        for sign in text
    )
