"""Synthetic stimuli: gratings, edges, bars, curves, corners, spots and plain colours, sized to a receptive field.

A stimulus is a pattern, numbers from −1 to 1 over the canvas, in a colour: 1 is the colour, −1 its complement, 0 mid
grey. Angles are in degrees, counter-clockwise from horizontal as one sees the picture. Knows geometry and colours;
knows nothing of networks.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

ORIENTATIONS = tuple(180 * i / 12 for i in range(12))
DIRECTIONS = tuple(360 * i / 24 for i in range(24))  # of what has two sides
PHASES = tuple(360 * i / 8 for i in range(8))
HUES = tuple(360 * i / 12 for i in range(12))
NAMES = (  # of the hues
    *("red", "orange", "yellow", "yellow-green", "green", "blue-green"),
    *("cyan", "sky blue", "blue", "violet", "magenta", "pink"),
)
MOST_PERIODS = 8
SMALLEST_CORNER, SMALLEST_CURVE = 5, 7  # pixels of the field: below, a corner or a curve is no shape of its own
GREY = 128


@dataclass(frozen=True, slots=True)
class Colour:
    """A direction from mid grey, and what it is called; its complement is the opposite direction."""

    name: str
    complement: str
    direction: tuple[float, ...]  # a number a band, −1 to 1
    hue: float | None = None  # degrees, of RGB colours that have one

    @property
    def is_achromatic(self) -> bool:
        """Whether all bands move together."""
        return len(set(self.direction)) == 1


@dataclass(frozen=True, slots=True)
class Pattern:
    """A shape; sizes in pixels."""

    kind: str  # grating, edge, bar, curve, corner, colour, opponent
    angle: float = 0.0  # of stripes and lines; of curves and corners the direction they are turned to, [0, 360)
    size: float = 0.0  # period, width of a bar, radius of a curve, diameter of a spot, or of what an edge is shown in
    shift: float = 0.0  # phase in degrees of a grating; pixels across the line of a bar or an edge

    def draw(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The pattern, −1 to 1.

        Args:
            x, y: pixels right of and above the middle of the field.
        """
        turn = math.radians(self.angle)
        across = -x * math.sin(turn) + y * math.cos(turn)
        along = x * math.cos(turn) + y * math.sin(turn)
        if self.kind == "grating":
            return np.asarray(np.cos(2 * math.pi * across / self.size + math.radians(self.shift)))
        if self.kind == "edge":
            return np.asarray(_soft(across - self.shift) * np.clip(self.size / 2 - np.hypot(x, y) + 0.5, 0, 1))
        if self.kind == "bar":
            return _soft(self.size / 2 - np.abs(across - self.shift))
        if self.kind == "curve":
            return _soft(self.size - np.hypot(along, across + self.size))
        if self.kind == "corner":
            return _soft(np.minimum(along - across, along + across) / math.sqrt(2))
        if self.kind == "opponent":
            return _soft(self.size / 2 - np.hypot(x, y))
        return np.ones_like(x)


def _soft(distance: np.ndarray) -> np.ndarray:
    """From −1 to 1 within half a pixel to each side of 0: what a pixel's area holds of either side, nearly."""
    return np.asarray(np.clip(2 * distance, -1, 1))


@dataclass(frozen=True, slots=True)
class Stimulus:
    """A pattern in a colour."""

    pattern: Pattern
    colour: Colour


@dataclass(frozen=True, eq=False)
class Stimuli:
    """All stimuli of one canvas; gratings come first, in the order orientation, period, phase, colour.

    Args:
        size: height and width of the canvas.
        field: top, left, height and width of what the neuron sees of it.
        bands: of the picture: 1, 3 or any other number.
    """

    size: tuple[int, int]
    field: tuple[int, int, int, int]
    bands: int

    @property
    def side(self) -> int:
        """Shorter side of the field."""
        return min(self.field[2:])

    @cached_property
    def periods(self) -> tuple[float, ...]:
        """Of gratings, pixels: from the finest that pixels can show to twice the field."""
        return tuple(_geometric(2.0, 2.0 * max(self.side, 2), MOST_PERIODS))

    @cached_property
    def axes(self) -> tuple[Colour, ...]:
        """Colours for patterns whose turned or moved copy is their complement."""
        return tuple(colour for colour in self.colours if colour.name != "black" and not (colour.hue or 0) >= 180)

    @cached_property
    def colours(self) -> tuple[Colour, ...]:
        """All colours: white, black, and of RGB pictures twelve hues, of multi-band pictures each band up and down."""
        white = Colour("white", "black", (1.0,) * self.bands)
        black = Colour("black", "white", (-1.0,) * self.bands)
        if self.bands == 1:
            return white, black
        if self.bands == 3:
            return white, black, *(of_hue(hue) for hue in HUES)
        colours = [white, black]
        for band in range(self.bands):
            for sign, names in ((1.0, ("high", "low")), (-1.0, ("low", "high"))):
                direction = tuple(sign if other == band else 0.0 for other in range(self.bands))
                colours.append(Colour(f"{names[0]} band {band}", f"{names[1]} band {band}", direction))
        return tuple(colours)

    @cached_property
    def all(self) -> tuple[Stimulus, ...]:
        """Every stimulus."""
        families = [(pattern, self.axes) for pattern in self._gratings()]
        families += [(pattern, self.axes) for pattern in self._edges()]
        families += [(pattern, self.colours) for pattern in (*self._shapes(), Pattern("colour"))]
        return tuple(Stimulus(pattern, colour) for pattern, colours in families for colour in colours)

    @cached_property
    def kinds(self) -> np.ndarray:
        """Kind of each stimulus: (len(all),) str."""
        return np.array([stimulus.pattern.kind for stimulus in self.all])

    @cached_property
    def achromatic(self) -> np.ndarray:
        """Whether each stimulus has no colour: (len(all),) bool."""
        return np.array([stimulus.colour.is_achromatic for stimulus in self.all])

    @property
    def gratings(self) -> tuple[int, int, int, int]:
        """How many orientations, periods, phases and colours the gratings have."""
        return len(ORIENTATIONS), len(self.periods), len(PHASES), len(self.axes)

    def _gratings(self) -> list[Pattern]:
        return [
            Pattern("grating", angle, period, phase)
            for angle in ORIENTATIONS
            for period in self.periods
            for phase in PHASES
        ]

    def _edges(self) -> list[Pattern]:
        """In a round window of the field, half and a quarter of it; or over the whole canvas."""
        edges = []
        for window in (4.0 * max(self.size), *(self.side / part for part in (2, 4) if self.side / part >= 3)):
            step = min(window, self.side) / 4
            edges += [Pattern("edge", angle, window, shift) for angle in DIRECTIONS for shift in (0.0, step, -step)]
        return edges

    def _shapes(self) -> list[Pattern]:
        side = self.side
        shapes = [
            Pattern("bar", angle, width, shift)
            for width in _geometric(1.0, max(1.0, side / 2), 4)
            for angle in ORIENTATIONS
            for shift in (0.0, side / 4, -side / 4)
        ]
        if side >= SMALLEST_CURVE:
            shapes += [Pattern("curve", angle, side / part) for part in (2, 4) for angle in DIRECTIONS]
        if side >= SMALLEST_CORNER:
            shapes += [Pattern("corner", angle) for angle in DIRECTIONS]
        if side >= 3:
            shapes += [Pattern("opponent", 0.0, diameter) for diameter in _geometric(1.0, 0.75 * side, 4)]
        return shapes

    def pixels(self, stimuli: Sequence[Stimulus]) -> np.ndarray:
        """The pictures: (len(stimuli), H, W, bands) uint8."""
        top, left, height, width = self.field
        y, x = np.meshgrid(
            top + (height - 1) / 2 - np.arange(self.size[0]),
            np.arange(self.size[1]) - left - (width - 1) / 2,
            indexing="ij",
        )
        out = np.empty((len(stimuli), *self.size, self.bands), np.uint8)
        drawn: tuple[Pattern, np.ndarray] | None = None  # neighbours share their pattern
        for index, stimulus in enumerate(stimuli):
            if drawn is None or drawn[0] is not stimulus.pattern:
                drawn = (stimulus.pattern, stimulus.pattern.draw(x, y))
            shown = 127.5 + 127.5 * drawn[1][..., None] * np.array(stimulus.colour.direction)
            out[index] = np.clip(np.rint(shown), 0, 255)
        return out

    def batches(self, largest: int) -> Iterator[tuple[slice, np.ndarray]]:
        """All pictures, some at a time."""
        for first in range(0, len(self.all), largest):
            part = slice(first, first + largest)
            yield part, self.pixels(self.all[part])


def of_hue(angle: float) -> Colour:
    """The named colour whose hue is nearest."""
    index = round(angle * len(HUES) / 360) % len(HUES)
    hue = HUES[index]
    red, green, blue = colorsys.hsv_to_rgb(hue / 360, 1, 1)
    opposite = NAMES[(index + len(NAMES) // 2) % len(NAMES)]
    direction = tuple(round(2 * part - 1, 6) for part in (red, green, blue))
    return Colour(NAMES[index], opposite, direction, hue)


def _geometric(low: float, high: float, most: int) -> list[float]:
    """Sizes in even ratios of at least √2, rounded to half pixels; no two the same."""
    count = min(most, 1 + math.floor(2 * math.log2(max(high / low, 1)) + 1e-9))
    return sorted({round(2 * float(size)) / 2 for size in np.geomspace(low, high, max(count, 1))})
