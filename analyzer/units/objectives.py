"""What is raised: a neuron, a channel, its opposite, a direction between channels, all of a layer, different pictures.

An objective says which direction in the layer's channels a unit is, and what number it makes of the map in that
direction; the same two methods serve the ascent, which takes gradients of that number, and the meter, which prints it.
A new objective is a class with these two. Knows arrays; knows nothing of networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from filterscope.analyzer.units.canvas import Canvas
from filterscope.converters.errors import SettingsError, setting

if TYPE_CHECKING:
    import torch


class Objective:
    """The mean of one channel's map, and the base of the others."""

    name = "channel"
    canvas = "channel"  # which canvas fits: "neuron" or "channel"
    sense = 1  # -1 where the printed activation is to be low
    pictures = 1  # of one unit
    together = False  # whether a unit's pictures must climb in one batch

    def direction(self, unit: int, channels: int) -> np.ndarray | None:
        """Weights of the layer's channels for one unit: (channels,) float32; None: all its maps count.

        Args:
            unit: a channel, or what the objective counts.
            channels: of the layer.
        """
        weights = np.zeros(channels, np.float32)
        weights[unit] = 1.0
        return weights

    def value(self, maps: torch.Tensor) -> torch.Tensor:
        """The number that ascent raises, one a picture: (B,).

        Args:
            maps: (B, H, W) in each picture's direction; (B, C, H, W) where there is none.
        """
        return maps.mean(dim=(1, 2))

    def penalty(self, source: torch.Tensor) -> torch.Tensor | None:
        """What ascent subtracts, (B,), computed from the layer's input (B, C_in, H, W); None: nothing."""
        return None

    def units(self, channels: int) -> int:
        """How many units a layer of so many channels has."""
        return channels

    def label(self, picture: int) -> str:
        """The objective's name in tables; where a unit has several pictures, with the picture's number from 1."""
        return self.name if self.pictures == 1 else f"{self.name}-{picture + 1}"


class Channel(Objective):
    """The mean of one channel's map."""


@dataclass(frozen=True)
class Neuron(Objective):
    """One channel at one position of the map."""

    row: int
    column: int
    name = "neuron"
    canvas = "neuron"

    @classmethod
    def on(cls, canvas: Canvas) -> Neuron:
        """The neuron that a canvas is made for."""
        assert canvas.row is not None
        assert canvas.column is not None
        return cls(canvas.row, canvas.column)

    def value(self, maps: torch.Tensor) -> torch.Tensor:
        """The position's value."""
        return maps[:, self.row, self.column]


class Negative(Objective):
    """What turns a channel off: the mean of its map, as low as can be."""

    name = "negative"
    sense = -1

    def direction(self, unit: int, channels: int) -> np.ndarray | None:
        """The opposite of the channel."""
        weights = super().direction(unit, channels)
        return None if weights is None else -weights


class Layer(Objective):
    """All of a layer at once: the mean of squares over all its maps (DeepDream).

    Source: Mordvintsev, Olah & Tyka 2015, "Inceptionism".
    """

    name = "layer"

    def direction(self, unit: int, channels: int) -> np.ndarray | None:
        """None: every map counts."""
        return None

    def value(self, maps: torch.Tensor) -> torch.Tensor:
        """Mean of squares."""
        return maps.square().mean(dim=(1, 2, 3))

    def units(self, channels: int) -> int:
        """One."""
        return 1


class Direction(Objective):
    """Vectors in channel space; a unit is one of them.

    Args:
        vectors: (units, C) or (C,).

    Source: Olah et al. 2017, doi:10.23915/distill.00007, section Interaction between neurons.
    """

    name = "direction"

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = np.atleast_2d(np.asarray(vectors, np.float32))
        if (
            self.vectors.ndim != 2
            or not self.vectors.size
            or not np.isfinite(self.vectors).all()
            or not self.vectors.any(axis=1).all()
        ):
            fault = "give finite numbers, one per channel, not all of them 0"
            raise SettingsError(f"direction: {fault}", field="direction", value=vectors)

    def direction(self, unit: int, channels: int) -> np.ndarray | None:
        """The vector itself."""
        if self.vectors.shape[1] != channels:
            fault = f"{self.vectors.shape[1]} numbers for a layer of {channels} channels"
            raise SettingsError(f"direction: {fault}", field="direction", value=self.vectors)
        return np.asarray(self.vectors[unit])

    def units(self, channels: int) -> int:
        """As many as there are vectors."""
        return len(self.vectors)


def between(first: int, second: int, steps: int, channels: int) -> Direction:
    """Directions from one channel to another: (1 - t) of the first and t of the second, t from 0 to 1.

    Args:
        steps: how many, ends included; 1: half of both.

    Raises:
        SettingsError: no such channel, or no steps.
    """
    for unit in (first, second):
        if not 0 <= unit < channels:
            text, fault = f"{first},{second}", f"the layer has channels 0 to {channels - 1}"
            raise SettingsError(f"{setting('pair', text)}: {fault}", field="pair", value=text)
    if steps < 1:
        text = f"{first},{second}:{steps}"
        raise SettingsError(f"{setting('pair', text)}: give 1 step or more", field="pair", value=text)
    vectors = np.zeros((steps, channels), np.float32)
    parts = np.linspace(0, 1, steps) if steps > 1 else np.array([0.5])
    vectors[:, first] += 1 - parts
    vectors[:, second] += parts
    return Direction(vectors)


class Diversity(Objective):
    """Several pictures of one channel, each penalised for its likeness to the others.

    Likeness is the mean cosine between the pictures' Gram matrices of the layer's input. Picture i of a batch belongs
    to unit i // pictures.

    Args:
        pictures: of one unit, 2 or more.
        weight: of the likeness, as a part of the picture's own value.

    Source: Olah et al. 2017, doi:10.23915/distill.00007, section Diversity (there on the layer itself).
    """

    name = "diversity"
    together = True

    def __init__(self, pictures: int = 4, weight: float = 1.0) -> None:
        if pictures < 2:
            raise SettingsError(f"diversity {pictures}: give 2 pictures or more", field="diversity", value=pictures)
        if weight < 0:
            raise SettingsError(f"diversity weight {weight}: give 0 or more", field="weight", value=weight)
        self.pictures = pictures
        self.weight = weight

    def penalty(self, source: torch.Tensor) -> torch.Tensor | None:
        """(B,), 0 where the others look quite different, weight where they look the same."""
        import torch
        from torch.nn import functional as F

        flat = source.float().flatten(2)
        gram = torch.bmm(flat, flat.transpose(1, 2)).flatten(1)
        own = F.normalize(gram, dim=1).reshape(-1, self.pictures, gram.shape[1])
        alike = torch.bmm(own, own.transpose(1, 2))
        others = alike.sum(dim=2) - 1.0
        return self.weight * others.flatten() / (self.pictures - 1)


OBJECTIVES: dict[str, type[Objective]] = {
    objective.name: objective for objective in (Channel, Neuron, Negative, Diversity, Layer)
}


def objective_for(name: str, canvas: Canvas) -> Objective:
    """The objective of a task.

    Raises:
        SettingsError: there is none of this name.
    """
    if name not in OBJECTIVES:
        fault = f"give one of {', '.join(OBJECTIVES)}"
        raise SettingsError(f"{setting('objective', name)}: {fault}", field="objective", value=name)
    if name == "neuron":
        return Neuron.on(canvas)
    return OBJECTIVES[name]()
