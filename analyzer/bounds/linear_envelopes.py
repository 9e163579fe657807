"""Linear functions above and below a kink or a maximum, on a box: what a relaxation puts in its place.

Whatever float64 rounds is added to the offsets, so that what lies above lies above. Knows the functions alone; knows
nothing of networks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from filterscope.analyzer.bounds.piecewise import Kink, Maximum

Tensor = torch.Tensor
MOST_TRIED = 64  # inputs of a maximum beyond which only two of the functions above it are tried


@dataclass(frozen=True, slots=True, eq=False)
class LinearBounds:
    """Two linear functions above, or below, a kink on its interval: slopes and offsets of the broader and the closer.

    What lies between two such functions is one too.
    """

    slope: tuple[Tensor, Tensor]
    offset: tuple[Tensor, Tensor]
    start: Tensor  # 0 or 1: which of them is closer at the middle of the interval, hence on average

    def between(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Slope and offset of the function at t in [0, 1] from the first to the second."""
        slope, offset = self.slope, self.offset
        return slope[0] + t * (slope[1] - slope[0]), offset[0] + t * (offset[1] - offset[0])


def kink_linear_bounds(piece: Kink, low: Tensor, high: Tensor) -> tuple[LinearBounds, LinearBounds]:
    """Linear bounds above and below a kink on intervals."""
    at_low, at_high = piece.at(low), piece.at(high)
    middle = (low + high) / 2
    zero, one = torch.zeros_like(low), torch.ones_like(low)
    spare = 2.0**-45 * (1 + (0 if piece.slope is None else piece.slope.abs())) * torch.maximum(low.abs(), high.abs())
    spare = spare + 2.0**-45 * (at_low.abs() + at_high.abs())  # what float64 rounds in slopes and offsets
    if piece.slope is not None:
        slope = piece.slope.expand_as(low)
        chord = torch.where(high > low, (at_high - at_low) / (high - low), 1.0)
        over = at_low - chord * low
        tangents = LinearBounds((slope, one), (zero, zero), (middle > 0).double())
        valley = slope <= 1
        above = LinearBounds(
            (torch.where(valley, chord, slope), torch.where(valley, chord, one)),
            (torch.where(valley, over + spare, zero),) * 2,
            tangents.start,
        )
        below = LinearBounds(
            (torch.where(valley, slope, chord), torch.where(valley, one, chord)),
            (torch.where(valley, zero, over - spare),) * 2,
            tangents.start,
        )
        straight = [(low >= 0, one), (high <= 0, slope)]
    else:
        end, start = torch.minimum(high, piece.ceiling), torch.maximum(low, piece.floor)
        rising = torch.where(end > low, (piece.at(end) - at_low) / (end - low), 0.0)
        falling = torch.where(high > start, (at_high - piece.at(start)) / (high - start), 0.0)
        steep = (at_low + rising * (middle - low) < at_high).double()
        above = LinearBounds((zero, rising), (at_high + spare, at_low - rising * low + spare), steep)
        steep = (at_high + falling * (middle - high) > at_low).double()
        below = LinearBounds((zero, falling), (at_low - spare, at_high - falling * high - spare), steep)
        straight = [((low >= piece.floor) & (high <= piece.ceiling), one)]
    for where, exact in straight:
        above, below = (
            LinearBounds(
                (torch.where(where, exact, f.slope[0]), torch.where(where, exact, f.slope[1])),
                (torch.where(where, 0.0, f.offset[0]), torch.where(where, 0.0, f.offset[1])),
                f.start,
            )
            for f in (above, below)
        )
    return above, below


@dataclass(frozen=True, slots=True, eq=False)
class Envelope:
    """Linear functions above the maximum of each window, and one below.

    For any m, max x ≤ m + Σ max(x − m, 0) ≤ m + Σ (u − m)⁺ / (u − l) · (x − l), over the x with intervals [l, u], m at
    least the largest l. The least of these over m is the maximum's concave envelope on the box (Lai & Robbins 1976,
    doi:10.1073/pnas.73.2.287: the largest mean that a maximum of variables with given distributions can have). Where
    one input is never below any other, m = its l gives that input itself.
    """

    low: Tensor  # (1, C, P, K) of the inputs; 0 outside, as the next
    high: Tensor
    inside: Tensor  # (P, K) bool
    least: Tensor  # (1, C, P), the largest low: m at least
    most: Tensor  # the largest high: m at most
    chosen: Tensor  # (1, C, P, K) one-hot: the input with the highest middle, than which no maximum is less

    @classmethod
    def of(cls, piece: Maximum, low: Tensor, high: Tensor) -> Envelope:
        """From the intervals of a map, (1, C, H, W) each."""
        lows, highs = piece.gather(low, -math.inf), piece.gather(high, -math.inf)
        inside = piece.index < math.prod(low.shape[2:])
        chosen = torch.zeros_like(lows)
        chosen.scatter_(3, (lows + highs).argmax(dim=3, keepdim=True), 1.0)
        low, high = (torch.where(inside, end, 0.0) for end in (lows, highs))
        return cls(low=low, high=high, inside=inside, least=lows.amax(dim=3), most=highs.amax(dim=3), chosen=chosen)

    def above(self, m: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (N, C, P, K) and offset (N, C, P) of the function that belongs to m, (N, C, P)."""
        m = torch.maximum(m, self.least)
        over = torch.where(self.inside, (self.high - m[..., None]).clamp(min=0), 0.0)
        weights = (over / (self.high - self.low).clamp(min=1e-300)).clamp(max=1.0)
        offset = m - (weights * self.low).sum(dim=3)
        reach = torch.maximum(self.low.abs(), self.high.abs()).sum(dim=3)
        return weights, torch.where(offset == 0, 0.0, offset + 2.0**-40 * reach)  # 0: one input alone, exactly

    def start(self) -> Tensor:
        """The m, (1, C, P), whose function is lowest at the middle of the box, hence on average.

        Functions of m in between are never lower: m is the largest low, or one of the highs.
        """
        middle = (self.low + self.high) / 2
        highs = torch.where(self.inside, self.high, -torch.inf)
        count = highs.shape[3]
        places = (
            [self.least, *(highs[..., k] for k in range(count))] if count <= MOST_TRIED else [self.least, self.most]
        )
        best, start = torch.full_like(self.least, torch.inf), self.least
        for place in places:
            m = torch.maximum(place, self.least)
            weights, offset = self.above(m)
            there = offset + (weights * middle).sum(dim=3)
            start = torch.where(there < best, m, start)
            best = torch.minimum(there, best)
        return start
