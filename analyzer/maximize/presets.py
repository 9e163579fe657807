"""How much work goes into a picture: draft, standard, fine.

Knows numbers only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analyzer.maximize.transforms import STILL, Strength
from converters.errors import SettingsError

MOVING = Strength(jitter=0.06, rotation=6.0, scaling=0.06)


@dataclass(frozen=True, slots=True)
class Start:
    """How the numbers of a picture are drawn before the first step."""

    law: str  # normal or uniform
    centre: float  # mean
    spread: float  # standard deviation of the normal law, half the width of the uniform one

    def __post_init__(self) -> None:
        if self.law not in ("normal", "uniform"):
            raise SettingsError(f"start {self.law}: give normal or uniform")
        if self.spread < 0:
            raise SettingsError(f"start spread {self.spread}: give 0 or more")

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Numbers of this law, float64."""
        if self.law == "normal":
            return rng.normal(self.centre, self.spread, shape)
        return rng.uniform(self.centre - self.spread, self.centre + self.spread, shape)


@dataclass(frozen=True, slots=True)
class Quality:
    """What a quality stands for."""

    name: str
    steps: int  # of the ascent, at most
    rate: float  # Adam's step size for Fourier coefficients at the start; it falls to a tenth along a half cosine
    cap: int | None  # side in pixels beyond which a channel's canvas does not grow to cover its field
    patience: int  # steps without a gain of 0.5 % after which a unit is finished
    strength: Strength  # of the random movements, for channels; a neuron's field leaves no room to move

    def strength_for(self, objective: str) -> Strength:
        """Movements for an objective."""
        return self.strength if objective == "channel" else STILL


QUALITIES = {
    quality.name: quality
    for quality in (
        Quality("draft", 32, 0.15, 96, 12, MOVING),
        Quality("standard", 128, 0.1, None, 32, MOVING),
        Quality("fine", 512, 0.06, None, 96, MOVING),
    )
}


def quality(name: str) -> Quality:
    """The quality of this name.

    Raises:
        SettingsError: there is none.
    """
    if name not in QUALITIES:
        raise SettingsError(f"--quality {name}: give one of {', '.join(QUALITIES)}")
    return QUALITIES[name]
