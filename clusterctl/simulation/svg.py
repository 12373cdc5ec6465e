"""A scene as SVG: text that any browser shows, with what each box is on pointing at it."""

from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

from clusterctl.simulation.scene import PAPER, Box, Colour, Label, Scene


def svg(scene: Scene) -> bytes:
    """Return the picture as a file."""
    return "".join(f"{line}\n" for line in _lines(scene)).encode()


def _lines(scene: Scene) -> Iterator[str]:
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{scene.width}" height="{scene.height}" '
        f'viewBox="0 0 {scene.width} {scene.height}" font-family="monospace">'
    )
    yield f'<rect width="100%" height="100%" fill="{_colour(PAPER)}"/>'
    yield from map(_box, scene.boxes)
    yield from map(_label, scene.labels)
    yield "</svg>"


def _box(box: Box) -> str:
    place = f'x="{box.x:.2f}" y="{box.y:.2f}" width="{box.width:.2f}" height="{box.height:.2f}"'
    start = f'<rect {place} fill="{_colour(box.fill)}"'
    return f"{start}><title>{_text(box.title)}</title></rect>" if box.title else f"{start}/>"


def _label(label: Label) -> str:
    return (
        f'<text x="{label.x:.2f}" y="{label.y:.2f}" font-size="{label.size}" '
        f"fill={quoteattr(_colour(label.colour))}>{_text(label.text)}</text>"
    )


def _text(text: str) -> str:
    """Return *text* as XML can carry it: no control characters, signs of markup written out."""
    return escape("".join(sign if sign.isprintable() else " " for sign in text))


def _colour(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
