"""A scene as PNG (W3C, "Portable Network Graphics", 3rd edition): eight bits a colour, no layers.

Boxes are rows of bytes and the letters a font of three by five dots, so that no library is
needed for a picture that is looked at once.
"""

import struct
import zlib

from clusterctl.simulation.scene import PAPER, Box, Colour, Label, Scene

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EIGHT_BITS, _TRUE_COLOUR = 8, 2
_DEFLATE = _ADAPTIVE = _NOT_INTERLACED = 0
_NO_FILTER = b"\0"

_BYTES_PER_DOT = 3
_COLUMNS, _ROWS = 3, 5

# Each letter from above, a row of three dots as one octal digit; small letters are large ones.
_FONT = {
    " ": "00000", "!": "22202", '"': "55000", "#": "57575", "%": "51245", "&": "25253",
    "'": "22000", "(": "12221", ")": "42224", "*": "05250", "+": "02720", ",": "00024",
    "-": "00700", ".": "00002", "/": "11244", ":": "02020", ";": "02024", "<": "12421",
    "=": "07070", ">": "42124", "?": "61202", "@": "75743", "[": "32223", "\\": "44211",
    "]": "62226", "^": "25000", "_": "00007", "`": "42000", "{": "32623", "|": "22222",
    "}": "62326", "~": "03600", "…": "00005",
    "0": "75557", "1": "26227", "2": "71747", "3": "71717", "4": "55711",
    "5": "74717", "6": "74757", "7": "71122", "8": "75757", "9": "75717",
    "A": "25755", "B": "65656", "C": "34443", "D": "65556", "E": "74647", "F": "74644",
    "G": "34553", "H": "55755", "I": "72227", "J": "11152", "K": "55655", "L": "44447",
    "M": "57755", "N": "65555", "O": "25552", "P": "65644", "Q": "25563", "R": "65655",
    "S": "34216", "T": "72222", "U": "55557", "V": "55522", "W": "55775", "X": "55255",
    "Y": "55222", "Z": "71247",
}  # fmt: skip
_UNKNOWN = "75557"


def png(scene: Scene) -> bytes:
    """Return the picture as a file."""
    rows = [bytearray(bytes(PAPER) * scene.width) for _ in range(scene.height)]
    for box in scene.boxes:
        _fill(rows, box)
    for label in scene.labels:
        _write(rows, label)
    header = struct.pack(
        ">IIBBBBB",
        *(scene.width, scene.height, _EIGHT_BITS, _TRUE_COLOUR),
        *(_DEFLATE, _ADAPTIVE, _NOT_INTERLACED),
    )
    dots = b"".join(_NO_FILTER + row for row in rows)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(dots)), (b"IEND", b""))
    return _SIGNATURE + b"".join(_chunk(kind, content) for kind, content in parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def _fill(rows: list[bytearray], box: Box) -> None:
    left, right = round(box.x), round(box.x + box.width)
    for y in range(round(box.y), round(box.y + box.height)):
        _dots(rows, y, left, right, box.fill)


def _dots(rows: list[bytearray], y: int, left: int, right: int, colour: Colour) -> None:
    """Colour a row's dots, as far as they are in the picture."""
    if not 0 <= y < len(rows):
        return
    left, right = max(0, left), min(len(rows[y]) // _BYTES_PER_DOT, right)
    if left < right:
        start, end = left * _BYTES_PER_DOT, right * _BYTES_PER_DOT
        rows[y][start:end] = bytes(colour) * (right - left)


def _write(rows: list[bytearray], label: Label) -> None:
    scale = max(1, label.size // _ROWS)
    top = round(label.y) - _ROWS * scale
    for index, sign in enumerate(label.text.upper()):
        left = round(label.x) + index * (_COLUMNS + 1) * scale
        for row, octal in enumerate(_FONT.get(sign, _UNKNOWN)):
            for column in range(_COLUMNS):
                if int(octal) >> (_COLUMNS - 1 - column) & 1:
                    for y in range(top + row * scale, top + (row + 1) * scale):
                        start = left + column * scale
                        _dots(rows, y, start, start + scale, label.colour)
