"""Docker's log stream, taken apart into lines.

Without a terminal each piece has a header of 8 bytes: the stream's number, three zeros, the
length. Each piece begins with a moment and a space, as asked for. A long line comes in
several pieces, of which only the last ends in a line feed.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Protocol

from agent.runtime.interface import LogLine, LogStream
from agent.runtime.translate import seconds

LINE_BYTES_MAX = 256 * 1024  # a longer line is cut there, so that memory stays bounded
_HEADER = struct.Struct(">BxxxL")
_STREAMS = {1: LogStream.STDOUT, 2: LogStream.STDERR}


class Source(Protocol):
    """What bytes come from."""

    def read(self, amt: int) -> bytes:
        """Return *amt* bytes, fewer only at the end."""


def read(source: Source) -> Iterator[LogLine]:
    """Yield the lines of a stream with headers."""
    unfinished: dict[LogStream, LogLine] = {}
    while len(header := source.read(_HEADER.size)) == _HEADER.size:
        number, length = _HEADER.unpack(header)
        piece = source.read(length)
        if len(piece) < length:
            break
        stream = _STREAMS.get(number, LogStream.STDOUT)
        line = _joined(unfinished.pop(stream, None), _line(stream, piece))
        if piece.endswith(b"\n") or len(line.line) >= LINE_BYTES_MAX:
            yield line
        else:
            unfinished[stream] = line
    yield from unfinished.values()


def read_terminal(pieces: Iterable[bytes]) -> Iterator[LogLine]:
    """Yield the lines of a container with a terminal: one stream, no headers, cut anywhere."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield _line(LogStream.STDOUT, line.removesuffix(b"\r"))
        if len(rest) >= LINE_BYTES_MAX:
            yield _line(LogStream.STDOUT, rest)
            rest = b""
    if rest:
        yield _line(LogStream.STDOUT, rest)


def _line(stream: LogStream, piece: bytes) -> LogLine:
    whole = piece.removesuffix(b"\n")
    moment, _, text = whole.partition(b" ")
    at = seconds(moment.decode("ascii", "replace"))
    return LogLine(stream=stream, at=at, line=text if at else whole)


def _joined(first: LogLine | None, later: LogLine) -> LogLine:
    if first is None:
        return later
    return LogLine(stream=first.stream, at=first.at, line=first.line + later.line)
