"""A mixed-integer linear program, as lists that grow, and which of its variables are ReLUs of others.

Knows nothing of networks or solvers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class ReluVariable:
    """A variable that is max(z, 0), z being an affine function of variables before it."""

    y: int  # its column
    columns: np.ndarray  # (V,) int64, of z
    factors: np.ndarray  # (V,)
    constant: float
    low: float  # z ≥ low, < 0
    high: float  # z ≤ high, > 0
    raising: bool  # it can raise the maximum by rising, so it has a binary


@dataclass(slots=True, eq=False)
class Program:
    """Maximise objective · v + constant, where low ≤ v ≤ high, row_low ≤ rows · v ≤ row_high, and some v are whole."""

    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    whole: list[bool] = field(default_factory=list)
    start: list[float] = field(default_factory=list)  # the variables at the picture that the search starts from
    rows: list[tuple[np.ndarray, np.ndarray, float, float]] = field(default_factory=list)  # columns, factors, low, high
    objective: tuple[np.ndarray, np.ndarray] = (np.empty(0, np.int64), np.empty(0))
    constant: float = 0.0
    pixels: np.ndarray = field(
        default_factory=lambda: np.empty(0, np.int64)
    )  # places in the flat image of the first columns
    relus: list[ReluVariable] = field(default_factory=list)  # its ReLUs, each after those it reads

    def add_variable(self, low: float, high: float, start: float, whole: bool = False) -> int:
        """Add a variable; returns its column."""
        self.low.append(low)
        self.high.append(high)
        self.whole.append(whole)
        self.start.append(min(max(start, low), high))
        return len(self.low) - 1

    def add_row(
        self, columns: Sequence[int] | np.ndarray, factors: Sequence[float] | np.ndarray, low: float, high: float
    ) -> None:
        """Add the constraint low ≤ Σ factor · variable ≤ high."""
        self.rows.append((np.asarray(columns, np.int64), np.asarray(factors, np.float64), low, high))

    @property
    def binaries(self) -> int:
        """How many variables are whole numbers."""
        return sum(self.whole)

    @property
    def has_relus_alone(self) -> bool:
        """Whether pixels and ReLUs are all there is: no maximum over a window."""
        return len(self.low) == len(self.pixels) + len(self.relus) + self.binaries and self.binaries == sum(
            relu.raising for relu in self.relus
        )
