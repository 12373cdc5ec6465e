"""The picture of a packing: a tile for each node, in it a bar for each dimension. Pure.

A bar is as long as the node offers, whatever that is; its segments are what services reserve.
The scene is boxes and labels only, so that every format can show it (``svg``, ``png``).
"""

import colorsys
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from cluster.model import Node, NodeId
from clusterctl.simulation.report import Report

Colour = tuple[int, int, int]

# A picture with more tiles is looked at by nobody; the nodes in use come first.
TILES_MAX = 2_000

# Services that the legend names: those with the most tasks; the colours go round anyway.
LEGEND_MAX = 12

WIDTH = 1200
MARGIN = 20
TILE_WIDTH = 108
TILE_GAP = 8
BAR_HEIGHT = 9
BAR_GAP = 2
TEXT = 10
TEXT_WIDTH = 6.2  # of a letter of that size in a usual monospaced font
NAME_MAX = 24  # letters of a service's name in the legend
LEGEND_GAP = 16
LINE = 16
TITLE = 14

INK: Colour = (40, 44, 52)
FAINT: Colour = (120, 126, 136)
PAPER: Colour = (255, 255, 255)
EMPTY: Colour = (236, 238, 241)

# Turns around the circle of hues, so that neighbours differ most (the golden angle).
_HUE_STEP = 0.618033988749895


@dataclass(frozen=True, slots=True)
class Box:
    """A filled rectangle; sizes in pixels. *title* is what a viewer shows on pointing at it."""

    x: float
    y: float
    width: float
    height: float
    fill: Colour
    title: str = ""


@dataclass(frozen=True, slots=True)
class Label:
    """A line of text, whose lower left corner is at (x, y)."""

    x: float
    y: float
    text: str
    size: int = TEXT
    colour: Colour = INK


@dataclass(frozen=True, slots=True)
class Scene:
    width: int
    height: int
    boxes: tuple[Box, ...]
    labels: tuple[Label, ...]


def scene(report: Report, heading: str) -> Scene:
    """Draw the packing: nodes in use first, then empty ones, as far as there is room."""
    drawing = _Drawing(report)
    drawing.labels.append(Label(MARGIN, MARGIN + TITLE, heading, TITLE))
    bottom = drawing.nodes(drawing.legend(MARGIN + TITLE + LINE))
    return Scene(WIDTH, bottom + MARGIN, tuple(drawing.boxes), tuple(drawing.labels))


class _Drawing:
    """The parts of a scene while it is drawn from top to bottom."""

    def __init__(self, report: Report) -> None:
        self.boxes: list[Box] = []
        self.labels: list[Label] = []
        self._report = report
        rows: dict[NodeId, dict[str, Counter[int]]] = {}
        counts: Counter[str] = Counter()
        for placed in report.packing.placed:
            service = report.work[placed.work].spec.name
            counts[service] += 1
            here = rows.setdefault(placed.node_id, {})
            here.setdefault(service, Counter())[placed.work] += 1
        self._rows = rows
        self._services = [service for service, _ in counts.most_common()]
        self._colours = {name: _colour(index) for index, name in enumerate(self._services)}

    def legend(self, top: int) -> int:
        """Say what bars and colours mean; return where to go on."""
        bars = f"bars, from above: {', '.join(self._report.dimensions)}"
        self.labels.append(Label(MARGIN, top, bars, TEXT, FAINT))
        x, y = MARGIN, top + LINE
        named = self._services[:LEGEND_MAX]
        for service in named:
            text = _cut(service, NAME_MAX)
            wide = LEGEND_GAP + BAR_HEIGHT + math.ceil(len(text) * TEXT_WIDTH)
            if x + wide > WIDTH - MARGIN:
                x, y = MARGIN, y + LINE
            colour = self._colours[service]
            self.boxes.append(Box(x, y - BAR_HEIGHT, BAR_HEIGHT, BAR_HEIGHT, colour))
            self.labels.append(Label(x + BAR_HEIGHT + BAR_GAP, y, text))
            x += wide
        if len(named) < len(self._services):
            more = f"and {len(self._services) - len(named)} more"
            self.labels.append(Label(x, y, more, TEXT, FAINT))
        return y + LINE

    def nodes(self, top: int) -> int:
        """Draw a tile for each node; return where they end."""
        report = self._report
        nodes = sorted(report.nodes, key=lambda node: node.id not in report.reserved)
        columns = (WIDTH - 2 * MARGIN + TILE_GAP) // (TILE_WIDTH + TILE_GAP)
        height = LINE + len(report.dimensions) * (BAR_HEIGHT + BAR_GAP) + TILE_GAP
        shown = nodes[:TILES_MAX]
        for index, node in enumerate(shown):
            x = MARGIN + index % columns * (TILE_WIDTH + TILE_GAP)
            self._tile(node, x, top + index // columns * height)
        bottom = top + math.ceil(len(shown) / columns) * height
        if len(shown) < len(nodes):
            bottom += LINE
            left = f"and {len(nodes) - len(shown)} more nodes"
            self.labels.append(Label(MARGIN, bottom, left, TEXT, FAINT))
        return bottom

    def _tile(self, node: Node, x: int, y: int) -> None:
        services = self._rows.get(node.id, {})
        name = node.description.hostname
        ink = INK if services else FAINT
        shown = _cut(name, int(TILE_WIDTH / TEXT_WIDTH))
        self.labels.append(Label(x, y + LINE - TILE_GAP / 2, shown, TEXT, ink))
        for index, dimension in enumerate(self._report.dimensions):
            at = y + LINE + index * (BAR_HEIGHT + BAR_GAP)
            whole = self._report.capacity[node.id][dimension]
            self.boxes.append(Box(x, at, TILE_WIDTH, BAR_HEIGHT, EMPTY, f"{name} {dimension}"))
            left = float(x)
            for service, share in self._shares(services, dimension, whole):
                wide = TILE_WIDTH * share
                title = f"{name} {dimension}: {service}, {100 * share:.1f} %"
                self.boxes.append(Box(left, at, wide, BAR_HEIGHT, self._colours[service], title))
                left += wide

    def _shares(
        self, services: dict[str, Counter[int]], dimension: str, whole: float
    ) -> Iterator[tuple[str, float]]:
        """Yield what part of a node each service reserves; nothing of what has no end."""
        if not whole or math.isinf(whole):
            return
        needs = self._report.needs
        for service in sorted(services):
            part = sum(needs[row][dimension] * number for row, number in services[service].items())
            if part:
                yield service, part / whole


def _colour(index: int) -> Colour:
    hue = index * _HUE_STEP % 1.0
    lightness = (0.52, 0.64, 0.42)[index % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.55)
    return round(red * 255), round(green * 255), round(blue * 255)


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"
