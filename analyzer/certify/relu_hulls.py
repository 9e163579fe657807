"""The hull of a ReLU over the box of its inputs: the closest linear functions above max(w · v + b, 0) at a point.

With every input turned so that it raises w · v + b, the ReLU is a supermodular function of which end of its interval
each input is at; so its concave envelope is the Lovász extension: inputs sorted, the function's steps along the chain
of ends. Knows programs' ReLUs; knows nothing of solvers or networks.

Source: Anderson, Huchette, Ma, Tjandraatmadja & Vielma 2020, arXiv:1811.01988 (the hull and its separation);
Tjandraatmadja et al. 2020, arXiv:2006.14076 (without the binary).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from filterscope.analyzer.certify.program import Program, ReluVariable

SPARE = 1e-12  # of the absolute terms of a linear bound, what float64 may lose in making it
SMALL = 1e-8  # coefficients below it are replaced by the most that they can add: solvers drop them


@dataclass(frozen=True, slots=True, eq=False)
class Hulls:
    """The ReLUs of a program in arrays: G of them, at most V inputs each, the rest filled with factors of 0."""

    columns: np.ndarray  # (G, V) int64
    factors: np.ndarray  # (G, V)
    constant: np.ndarray  # (G,)
    low: np.ndarray  # (G, V) of the inputs
    high: np.ndarray

    @classmethod
    def of(cls, program: Program, relus: Sequence[ReluVariable]) -> Hulls:
        """Of some of a program's ReLUs."""
        width = max(len(relu.columns) for relu in relus)
        columns, factors = np.zeros((len(relus), width), np.int64), np.zeros((len(relus), width))
        for i, relu in enumerate(relus):
            columns[i, : len(relu.columns)], factors[i, : len(relu.columns)] = relu.columns, relu.factors
        low, high = (np.array(end)[columns] for end in (program.low, program.high))
        constant = np.array([relu.constant for relu in relus])
        return cls(columns=columns, factors=factors, constant=constant, low=low, high=high)

    def before(self, v: np.ndarray) -> np.ndarray:
        """w · v + b of each, (G,)."""
        return np.asarray((self.factors * v[self.columns]).sum(axis=1) + self.constant)

    def linear_bounds(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of each ReLU the linear function above it that is lowest at v: slopes (G, V) by input, and offsets (G,)."""
        rising, size = self.factors > 0, self.high - self.low
        share = np.clip((v[self.columns] - self.low) / np.where(size > 0, size, 1.0), 0.0, 1.0)
        order = np.argsort(np.where(rising, -share, share - 1.0), axis=1, kind="stable")
        steps = np.abs(self.factors) * size
        least = np.where(rising, self.low, self.high)
        bottom = self.constant + (self.factors * least).sum(axis=1)
        climbed = np.cumsum(np.take_along_axis(steps, order, axis=1), axis=1)
        values = np.maximum(np.concatenate([bottom[:, None], bottom[:, None] + climbed], axis=1), 0.0)
        gains = np.empty_like(steps)
        np.put_along_axis(gains, order, np.diff(values, axis=1), axis=1)
        slopes = np.where(size > 0, gains / np.where(size > 0, size, 1.0), 0.0) * np.sign(self.factors)
        offsets = values[:, 0] - (slopes * least).sum(axis=1)
        reach = np.maximum(np.abs(self.low), np.abs(self.high))
        terms = np.abs(self.constant) + ((np.abs(self.factors) + np.abs(slopes)) * reach).sum(axis=1)
        small = np.abs(slopes) < SMALL
        offsets += SPARE * terms + np.where(small, np.maximum(slopes * self.low, slopes * self.high), 0.0).sum(axis=1)
        return np.where(small, 0.0, slopes), offsets
