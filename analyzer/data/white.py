"""Which number of a picture is white.

One rule for every picture of more than 8 bits, wherever it comes from: the largest value that its file itself states,
else the user's `white`, else the most that its number type holds. Never the highest value that one picture happens to
hold, which would show dark pictures as bright. Knows numbers; knows nothing of files.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from filterscope.converters.errors import InputError, SettingsError, setting

TYPES = {"bool": 1.0, "uint8": 255.0, "uint16": 65535.0}  # cameras and files write these up to their maximum
BYTES = 255.0  # white of all other whole numbers, which arithmetic on bytes leaves; beyond it `white` is needed
UNIT = 1.0  # white of floats; of a data set of float arrays that goes beyond it, BYTES
SLACK = 1e-3  # interpolation leaves floats a little outside their range
USED = 1 / 16  # share of the range below which a warning asks what white is


@dataclass(frozen=True, slots=True)
class White:
    """What is white in one picture."""

    value: float
    stated: bool = False  # by the file or the user: what is brighter is white too, and not refused

    def __post_init__(self) -> None:
        check_white(self.value)


def check_white(white: float | None) -> None:
    """Check the number that the user calls white.

    Raises:
        SettingsError: it is no number above 0.
    """
    if white is not None and not (math.isfinite(white) and white > 0):
        text = setting("white", f"{white:g}")
        fault = "the number that stands for white is above 0, such as 4095"
        raise SettingsError(f"{text}: {fault}", field="white", value=white)


def white_of(dtype: np.dtype, stated: float | None = None, white: float | None = None) -> White:
    """What is white in pixels of a type.

    Args:
        dtype: of the pixels as they are stored.
        stated: by the file itself; None: it does not say.
        white: the user's option, which counts where the type can hold it; or of float arrays the data set's own.
    """
    most = math.inf if dtype.kind == "f" else 1.0 if dtype.kind == "b" else float(np.iinfo(dtype).max)
    for value in (stated, white):
        if value is not None and 0 < value <= most and dtype.kind != "b":
            return White(value, True)
    return White(UNIT if dtype.kind == "f" else TYPES.get(dtype.name, BYTES))


def white_of_floats(highest: Iterable[float]) -> float:
    """White of a data set's float arrays, from the highest number of each: 1, or 255 where one goes beyond 1."""
    return BYTES if any(high > UNIT + SLACK for high in highest) else UNIT


def check_range(ends: tuple[float, float], white: White, name: str, *, floats: bool) -> None:
    """Check that pixels lie between black, which is 0, and white.

    Args:
        ends: the lowest and the highest pixel.
        name: of the picture or file, for the message.
        floats: whether the pixels are floats, which may lie a little outside.

    Raises:
        InputError: they do not; where white is stated, higher numbers are allowed.
    """
    low, high = ends
    slack = SLACK * white.value if floats else 0.0
    if low >= -slack and (high <= white.value + slack or (white.stated and math.isfinite(high))):
        return
    if low >= -slack and math.isfinite(high):
        raise InputError(
            f"{name}: pixels from {low:.6g} to {high:.6g} and white is {white.value:g}; say what white is "
            f"with {setting('white')}, or give images before preprocessing: uint8, or 0..1 or 0..255"
        )
    raise InputError(
        f"{name}: pixels from {low:.6g} to {high:.6g}; give images before preprocessing, where 0 is black: "
        "uint8, or 0..1 or 0..255"
    )


def to_8_bit(values: np.ndarray, white: White) -> np.ndarray:
    """Pixels as uint8 of the same shape: 0 stays 0, white and all above it become 255."""
    if values.dtype == np.uint8 and white.value == BYTES:
        return values
    scaled = values.astype(np.float64)
    scaled *= 255 / white.value
    return np.clip(np.rint(scaled, out=scaled), 0, 255, out=scaled).astype(np.uint8)


@dataclass(slots=True)
class Levels:
    """How much of the range the pictures of a data set use, in numbers that can be saved.

    rows: (white, whether another white could be named, images, the highest pixel of all, images with brighter pixels).
    """

    rows: dict[tuple[float, bool], tuple[int, float, int]] = field(default_factory=dict)

    def add(self, white: float, free: bool, highest: float, images: int = 1, brighter: int | None = None) -> None:
        """Count a picture, or several at once."""
        count, high, above = self.rows.get((white, free), (0, 0.0, 0))
        more = int(highest > white * (1 + SLACK)) if brighter is None else brighter
        self.rows[white, free] = (count + images, max(high, highest), above + more)

    def join(self, other: Levels) -> None:
        """Add the counts of another."""
        for (white, free), (images, highest, brighter) in other.rows.items():
            self.add(white, free, highest, images=images, brighter=brighter)

    def warnings(self) -> list[str]:
        """A sentence for each white of which less than a sixteenth is used, or which is exceeded."""
        sentences = []
        for (white, free), (images, highest, brighter) in sorted(self.rows.items()):
            count = f"{images:,} image{'s' if images != 1 else ''}"
            if highest < USED * white:
                hint = f": say what white is with {setting('white')}" if free else ""
                sentences.append(
                    f"No pixel of {count} is above {highest:.6g}, less than a sixteenth of the range up to "
                    f"{white:g}, which is taken for white{hint}."
                )
            if brighter:
                sentences.append(
                    f"{brighter:,} of {count} hold pixels up to {highest:.6g}, brighter than white ({white:g}); "
                    "they are shown and measured as white."
                )
        return sentences

    def state(self) -> np.ndarray:
        """All counts, (n, 5) float64."""
        rows = [[*key, *row] for key, row in self.rows.items()]
        return np.array(rows, np.float64).reshape(-1, 5)

    def restore(self, state: np.ndarray) -> None:
        """Set all counts from a state."""
        self.rows = {(float(w), bool(f)): (int(n), float(h), int(b)) for w, f, n, h, b in state.reshape(-1, 5)}


def highest_of(values: np.ndarray) -> float:
    """The highest number of some pixels; 0 where there are none."""
    return float(values.max()) if values.size else 0.0


def stated_white(tag: float | Sequence[float] | None) -> float | None:
    """The largest value that a file states, of one number or one a channel; None where it makes no sense."""
    numbers = [float(number) for number in (tag if isinstance(tag, (tuple, list)) else () if tag is None else (tag,))]
    usable = [number for number in numbers if math.isfinite(number) and number > 0]
    return max(usable) if usable and len(usable) == len(numbers) else None
