"""The film of an ascent: its pictures as they stand at some of the steps, as an animated WebP that a browser plays.

The ascent gives its pictures to a recorder, at the steps that this names; the film is made of them.
Knows pixels and Pillow; knows nothing of torch or networks.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from filterscope.analyzer.run import atlas
from filterscope.analyzer.run.whole_file import check_place, write_whole
from filterscope.converters.errors import SettingsError, setting

MOST_FRAMES, FEWEST_FRAMES = 96, 12
MOST_PIXELS = 1 << 24  # of all frames together: about 18 MB, since noise takes a byte a pixel without loss
LONGEST_SIDE = 16_383  # of a WebP
SHORTEST, LONGEST = 40, 80  # milliseconds of a frame: 25 to 12.5 a second
MOVING = 4000  # milliseconds that the frames take together, where the limits of one allow it
START_HELD, END_HELD = 500, 1500  # milliseconds


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Film:
    """The pictures of an ascent, frame by frame.

    frames: each (N, H, W, C) uint8, all pictures at one time, in order; the last are those that the ascent ended with.
    """

    __module__ = "filterscope"  # its public name

    frames: tuple[np.ndarray, ...]

    @property
    def durations(self) -> list[int]:
        """Milliseconds that each frame stays: the first and the last are held, the others go by in four seconds."""
        usual = min(max(MOVING // len(self.frames), SHORTEST), LONGEST)
        return [START_HELD, *[usual] * (len(self.frames) - 2), END_HELD]

    @property
    def seconds(self) -> float:
        """How long one showing takes."""
        return sum(self.durations) / 1000

    def webp(self) -> bytes:
        """As an animated WebP without loss, which begins again when it ends; several pictures lie side by side."""
        first, *others = (atlas.pack(frame) for frame in self.frames)
        buffer = io.BytesIO()
        settings = {"lossless": True, "quality": 50, "method": 2, "loop": 0}  # more effort saves 3 %, and takes thrice
        first.save(buffer, "WEBP", save_all=True, append_images=others, duration=self.durations, **settings)
        return buffer.getvalue()

    def save(self, path: str | Path) -> Path:
        """Write the film as WebP.

        Raises:
            SettingsError: the file cannot be written.
        """
        check_file(path)
        write_whole("film", path, self.webp())
        return Path(path)

    def __repr__(self) -> str:
        height, width = self.frames[0].shape[1:3]
        return f"<Film of {len(self.frames)} frames, {height}×{width}, {self.seconds:.1f} s>"


class Recorder:
    """Takes the frames of an ascent.

    steps: how many steps of the ascent lie before each frame; the pictures that it ends with come on top.

    Args:
        steps: of the ascent, at most.
        shape: (N, H, W, C) of all its pictures.
        photos: (N, H, W, C) uint8 photos at which it begins, which are shown first; None: it begins at noise.

    Raises:
        SettingsError: a browser would not play frames so large.
    """

    def __init__(self, steps: int, shape: tuple[int, int, int, int], photos: np.ndarray | None = None) -> None:
        self.steps = frozenset(filmed_steps(steps, most_frames(shape) - 1 - (photos is not None)))
        self._photos = photos
        self._seen: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}

    def add(self, step: int, places: np.ndarray, tiles: np.ndarray) -> None:
        """Take pictures that still climb.

        Args:
            step: how many steps they took.
            places: (B,) among all pictures of the ascent; at the same place and step, the later picture counts.
            tiles: (B, H, W, C) uint8.
        """
        self._seen.setdefault(step, []).append((places, tiles))

    def film(self, tiles: np.ndarray) -> Film:
        """The film that ends with these pictures, (N, H, W, C) uint8; a picture that is done waits for the others."""
        frames = [] if self._photos is None else [self._photos]
        for step in sorted(self._seen):
            frame = tiles.copy()
            for places, seen in self._seen[step]:
                frame[places] = seen
            frames.append(frame)
        return Film((*frames, tiles))


def most_frames(shape: tuple[int, int, int, int]) -> int:
    """How many frames of such pictures, (N, H, W, C), a browser plays.

    Raises:
        SettingsError: too few for a film.
    """
    height, width = atlas.sheet_size(shape)
    most = min(MOST_FRAMES, MOST_PIXELS // (height * width))
    if most < FEWEST_FRAMES or max(height, width) > LONGEST_SIDE:
        raise SettingsError(
            f"{setting('film')}: frames of {height} × {width} pixels are more than a browser plays; "
            f"give a smaller {setting('canvas')}, or fewer pictures at once",
            field="film",
        )
    return most


def filmed_steps(steps: int, frames: int) -> tuple[int, ...]:
    """After how many of an ascent's steps a frame is taken: after each of the first, then ever more rarely.

    A picture changes most in the first steps. What the ascent ends with is not among them.

    Args:
        steps: of the ascent.
        frames: at most so many.
    """
    return tuple(sorted({int(steps * (number / frames) ** 2) for number in range(frames)}))


def check_file(path: str | Path) -> None:
    """Check, before any work, that a film can be written there.

    Raises:
        SettingsError: the name is not of a WebP, or its folder cannot be written.
    """
    check_place("film", path, ".webp")
