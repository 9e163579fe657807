"""How selective a unit is, in numbers, and the few words that they support.

Takes a unit's responses to stimuli and gives tuning curves, indices and words; every definition and threshold is in
docs/tuning.md. Knows arithmetic; runs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from analyzer.stimuli import HUES, ORIENTATIONS, Stimuli, Stimulus, of_hue

ENOUGH = 0.7  # share of the strongest response known that a simple stimulus must reach for words
RANDOM_SHARE = 99  # percentile of random linear filters that it must exceed too
RANDOM_FILTERS = 400
MOST_TAPS = 200  # numbers in a field up to which random filters come near ENOUGH
ORIENTED = 0.2  # orientation selectivity from which on an orientation is named
COLOURED = 0.2  # colour selectivity from which on colours are named
STEP = 5  # degrees to which an orientation is named
AGREE = 22.5  # degrees between the best line and the best grating, at most
TIE = 0.95  # a simpler stimulus that reaches this share of the best one is preferred
LINES = ("edge", "bar", "grating")


@dataclass(frozen=True, slots=True, eq=False)
class Tuning:
    """What stimuli tell of one unit; responses are pre-activations above that to mid grey. None: it never rose."""

    best: int  # the strongest stimulus
    response: float  # to it
    strongest: float  # response known of anything: stimuli, saved pictures, natural images
    words: str | None
    orientation: float | None = None  # degrees, of the best grating
    orientation_selectivity: float | None = None
    period: float | None = None
    phase_modulation: float | None = None
    hue: float | None = None
    colour_selectivity: float | None = None
    orientation_curve: np.ndarray | None = None
    period_curve: np.ndarray | None = None
    hue_curve: np.ndarray | None = None


def tuning(stimuli: Stimuli, responses: np.ndarray, strongest: float) -> Tuning | None:
    """One unit's tuning.

    Args:
        stimuli: what was shown.
        responses: (len(stimuli.all),) pre-activations, less that to mid grey.
        strongest: the strongest response known from elsewhere, less that to mid grey; −inf: none is known.

    Returns:
        None where no stimulus raised the unit above mid grey, or a response is no number.
    """
    best = int(np.argmax(responses))
    response = float(responses[best])
    if not np.isfinite(responses).all() or response <= 0:
        return None
    strongest = max(strongest, response)
    responses = responses.astype(np.float64)  # sums of large ones are beyond float32
    found = _gratings(stimuli, responses) | _colours(stimuli, responses)
    words = _words(stimuli, responses, strongest, found)
    return Tuning(best, response, strongest, words, **found)


def selectivity(curve: np.ndarray, angles: Sequence[float], turns: int) -> float:
    """Length of the mean response vector over the sum of responses, responses below 0 taken as 0: [0, 1].

    Args:
        turns: 2 for orientations, which repeat after 180°.

    Source: L = 1 − circular variance, Ringach, Shapley & Hawken 2002, J Neurosci 22:5639; the vector average of
        Swindale 1998, Biol Cybern 78:45.
    """
    raised = np.maximum(curve, 0)
    total = raised.sum()
    return float(abs(np.sum(raised * np.exp(1j * turns * np.radians(angles)))) / total) if total > 0 else 0.0


def mean_angle(curve: np.ndarray, angles: Sequence[float], turns: int) -> float:
    """Direction of the mean response vector, degrees from 0 to 360 / turns: finer than the steps between angles."""
    vector = np.sum(curve * np.exp(1j * turns * np.radians(angles)))
    angle = round(float(np.degrees(np.angle(vector))) / turns, 3)
    return angle % (360 / turns)


def phase_modulation(responses: np.ndarray) -> float:
    """F1 ÷ F0 of responses to equal steps of a grating's phase, responses below mid grey taken as 0.

    π/2 for a unit that follows the phase as a half-rectified sine does, 0 for one that ignores it.

    Source: Skottun et al. 1991, Vision Research 31:1079.
    """
    raised = np.maximum(responses, 0)
    spectrum = np.abs(np.fft.rfft(raised)) / len(raised)
    return float(2 * spectrum[1] / spectrum[0]) if spectrum[0] > 0 else 0.0


def _gratings(stimuli: Stimuli, responses: np.ndarray) -> dict[str, Any]:
    shape = stimuli.gratings
    seen = responses[: int(np.prod(shape))].reshape(shape)
    highest = seen.max(axis=2)  # over phases
    orientation, period, colour = np.unravel_index(int(np.argmax(highest)), highest.shape)
    if highest[orientation, period, colour] <= 0:
        return {}
    curve = highest[:, period, colour]
    return {
        "orientation": mean_angle(np.maximum(curve, 0), ORIENTATIONS, 2),
        "orientation_selectivity": selectivity(curve, ORIENTATIONS, 2),
        "period": stimuli.periods[period],
        "phase_modulation": phase_modulation(seen[orientation, period, :, colour]),
        "orientation_curve": curve,
        "period_curve": highest[orientation, :, colour],
    }


def _colours(stimuli: Stimuli, responses: np.ndarray) -> dict[str, Any]:
    """The curve over uniform hues, and how much more the best colours excite than black and white do.

    Source: sensitivity to equal luminance over that to luminance, Johnson, Hawken & Shapley 2001, Nature Neuroscience
        4:409, turned into an index from 0 to 1.
    """
    if stimuli.bands != 3:
        return {}
    achromatic = float(responses[stimuli.achromatic].max())
    best = float(responses.max())
    found: dict[str, Any] = {"colour_selectivity": float(np.clip(1 - max(achromatic, 0) / best, 0, 1))}
    uniform = np.flatnonzero(stimuli.kinds == "colour")
    hues = {stimuli.all[i].colour.hue: responses[i] for i in uniform}
    curve = np.array([hues[hue] for hue in HUES])
    found["hue_curve"] = curve
    if curve.max() > 0:
        found["hue"] = mean_angle(curve, HUES, 1)
    return found


@lru_cache(maxsize=64)
def least_share(height: int, width: int, bands: int) -> float:
    """Share of its maximum that a unit's best stimulus must reach for words to be given.

    Nearly every pattern of nine pixels is near some edge or bar: where the field is small, what 99 in 100 random
    linear filters stay below is asked for.
    """
    if height * width * bands > MOST_TAPS:
        return ENOUGH
    shown = Stimuli((height, width), (0, 0, height, width), bands)
    filters = np.random.default_rng(0).standard_normal((height * width * bands, RANDOM_FILTERS))
    best = np.full(RANDOM_FILTERS, -np.inf)
    for _, pixels in shown.batches(1024):
        best = np.maximum(best, (pixels.reshape(len(pixels), -1) / 127.5 - 1) @ filters).max(axis=0)
    return max(ENOUGH, float(np.percentile(best / np.abs(filters).sum(axis=0), RANDOM_SHARE)))


def _words(stimuli: Stimuli, responses: np.ndarray, strongest: float, found: dict[str, Any]) -> str | None:
    best = float(responses.max())
    if best < least_share(*stimuli.field[2:], stimuli.bands) * strongest:
        return None
    highest = {}
    for kind in ("colour", "opponent", *LINES, "curve", "corner"):
        own = np.flatnonzero(stimuli.kinds == kind)
        if len(own):
            highest[kind] = int(own[np.argmax(responses[own])])
    near = [kind for kind, index in highest.items() if responses[index] >= TIE * best]
    lines = [kind for kind in near if kind in LINES]
    if near[0] not in lines:  # the simplest that comes near the best
        index = highest[near[0]]
        return ", ".join(_shape(near[0], stimuli.all[index]) + _colour_words(stimuli, responses, index, found))
    index = max((highest[kind] for kind in lines), key=responses.__getitem__)
    shown = stimuli.all[index]
    if not _is_oriented(shown, found):
        return None
    angle = f"{STEP * round(found['orientation'] / STEP) % 180:g}°"
    colours = _colour_words(stimuli, responses, index, found)
    if len(lines) > 1:
        name = {2: " or ".join(lines).replace("grating", "stripes")}.get(len(lines), "pattern")
        return ", ".join([f"oriented {name}", angle, *colours])
    kind = lines[0]
    size = {"grating": f"period {shown.pattern.size:g} px", "bar": f"{shown.pattern.size:g} px"}.get(kind)
    if kind == "edge" and (window := _window(stimuli, responses)) is not None:
        size = f"{window:g} px"
    name = {"grating": "stripes"}.get(kind, kind)
    return ", ".join([f"oriented {name}", angle, *([size] if size else []), *colours])


def _is_oriented(shown: Stimulus, found: dict[str, Any]) -> bool:
    """Whether the unit prefers an orientation clearly, and lines and gratings agree on it."""
    index, grating = found.get("orientation_selectivity"), found.get("orientation")
    if not isinstance(index, float) or not isinstance(grating, float) or index < ORIENTED:
        return False
    apart = abs(shown.pattern.angle - grating) % 180
    return min(apart, 180 - apart) <= AGREE


def _window(stimuli: Stimuli, responses: np.ndarray) -> float | None:
    """Diameter of the smallest window through which the best edge excites nearly as much; None: only the whole."""
    edges = np.flatnonzero(stimuli.kinds == "edge")
    enough = TIE * responses[edges].max()
    near = [stimuli.all[index].pattern.size for index in edges if responses[index] >= enough]
    fits = [size for size in near if size <= stimuli.side]
    return min(fits, default=None)


def _shape(kind: str, shown: Stimulus) -> list[str]:
    if kind == "colour":
        return ["uniform colour"]
    if kind == "opponent":
        return ["spot", f"{shown.pattern.size:g} px"]
    return [kind]


def _colour_words(stimuli: Stimuli, responses: np.ndarray, index: int, found: dict[str, Any]) -> list[str]:
    """The two colours of a stimulus, the hue being that of the mean vector: an orange filter likes red as much."""
    shown = stimuli.all[index]
    colour, selective = shown.colour, found.get("colour_selectivity")
    if colour.hue is not None:
        if selective is None or selective < COLOURED:
            return []
        alike = [i for i, other in enumerate(stimuli.all) if other.pattern is shown.pattern]
        hues = {stimuli.all[i].colour.hue: responses[i] for i in alike if stimuli.all[i].colour.hue is not None}
        colour = of_hue(mean_angle(np.array(list(hues.values())), list(hues), 1))  # type: ignore[arg-type]
    if shown.pattern.kind == "colour":
        return [colour.name]
    joined = {"edge": "against", "grating": "and"}.get(shown.pattern.kind, "on")
    return [f"{colour.name} {joined} {colour.complement}"]
