"""Small plots by depth, as the numbers that a template draws.

Knows numbers and where they go; knows nothing of SVG's markup, of runs or of files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from filterscope.reports.page import words

WIDTH, HEIGHT = 320, 150
LEFT, RIGHT, TOP, BOTTOM = 40, 10, 12, 22


@dataclass(frozen=True, slots=True)
class Point:
    """A layer in a plot."""

    x: float
    y: float
    layer: int  # index
    text: str  # layer and number, for a tooltip


@dataclass(frozen=True, slots=True)
class DepthPlot:
    """One quantity over the layers."""

    title: str
    anchor: str  # section of the method page
    meaning: str
    points: tuple[Point, ...]
    ticks: tuple[tuple[float, str], ...]  # y in the drawing, and its number
    bars: bool

    @property
    def line(self) -> str:
        """SVG path data through the points."""
        return "M" + "L".join(f"{point.x:g} {point.y:g}" for point in self.points)


def by_depth(
    title: str,
    anchor: str,
    meaning: str,
    values: Sequence[tuple[int, str, float | None]],
    *,
    logarithmic: bool = False,
    share: bool = False,
    bars: bool = False,
) -> DepthPlot | None:
    """A plot of one number a layer; None where fewer than two layers have it.

    Args:
        title: of the plot.
        anchor: of the method page.
        meaning: a phrase below the title.
        values: (index of the layer, its name, the number or None).
        logarithmic: vertical axis; then every number is above 0.
        share: numbers from 0 to 1, written as per cents.
        bars: as bars from 0 rather than as a line.
    """
    measured = [(index, name, value) for index, name, value in values if value is not None and math.isfinite(value)]
    if len(measured) < 2:
        return None
    highest = 1.0 if share else max(value for *_, value in measured)
    scaled = [math.log10(max(1.0, value)) if logarithmic else value for *_, value in measured]
    top = max(math.log10(max(highest, 1.0)) if logarithmic else highest, 1e-9)
    first, last = values[0][0], max(values[-1][0], values[0][0] + 1)

    def across(index: int) -> float:
        return LEFT + (index - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def up(value: float) -> float:
        return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)

    def written(value: float) -> str:
        return words.percent(value) if share else words.figure(value) if value % 1 else f"{value:,.0f}"

    points = tuple(
        Point(round(across(index), 1), round(up(height), 1), index, f"{words.shortened(name)}: {written(value)}")
        for (index, name, value), height in zip(measured, scaled, strict=True)
    )
    marks = _marks(highest, logarithmic, bars)
    ticks = tuple((round(up(math.log10(max(1, m)) if logarithmic else m), 1), written(m)) for m in marks)
    return DepthPlot(title=title, anchor=anchor, meaning=meaning, points=points, ticks=ticks, bars=bars)


def _marks(highest: float, logarithmic: bool, whole: bool) -> list[float]:
    if logarithmic:
        return [float(10**power) for power in range(int(math.log10(max(highest, 1))) + 1)]
    if highest <= 0:
        return [0.0]
    power = 10 ** math.floor(math.log10(highest))
    step = next(s for s in (power / 5, power / 2, power, 2 * power, 5 * power) if highest / s <= 4)
    step = max(1.0, step) if whole else step
    return [index * step for index in range(int(highest / step + 1e-9) + 1)]
