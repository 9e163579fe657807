"""A layer and a channel of a run, as a notebook shows them: pictures and the numbers beside them.

Reads a run through its reader; knows nothing of networks or of the report's pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from filterscope.analyzer.run.notebook import figure
from filterscope.analyzer.run.rows import UnitRow, rows_of
from filterscope.converters.errors import SettingsError

if TYPE_CHECKING:
    from filterscope.analyzer.run.reader import Run

SHOWN = 64  # channels of a layer that show themselves
LISTED = 16  # of them, in a message
SIDE = 160  # pixels of the longer side of a picture on the screen


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class UnitView:
    """One channel: `rows` as in units.parquet, a row a kind of picture."""

    run: Run
    layer: str
    channel: int
    rows: list[UnitRow]

    @property
    def activation(self) -> float | None:
        """Of its first picture, by ONNX Runtime; `rows` has every picture's numbers."""
        return self.rows[0].activation

    @property
    def robust(self) -> float | None:
        """The mean over small shifts of that picture."""
        return self.rows[0].robust

    @property
    def random(self) -> float | None:
        """The best of 16 random pictures of that size."""
        return self.rows[0].random

    @property
    def bound(self) -> float | None:
        """What no picture of that size can exceed."""
        return self.rows[0].bound

    @property
    def status(self) -> str | None:
        """ok, unraised, dead or diverged."""
        return self.rows[0].status

    def picture(self, objective: str = "channel", method: str = "ascent") -> np.ndarray | None:
        """The picture of one kind, (H, W, C) uint8; None where it has none.

        Raises:
            SettingsError: the run has no such kind for this channel.
        """
        for row in self.rows:
            if (row.objective, row.method) == (objective, method):
                return self.run.tile(row)
        kinds = ", ".join(f"{row.objective} {row.method}" for row in self.rows)
        raise SettingsError(f"{self.layer}, channel {self.channel}: has {kinds}; not {objective} {method}")

    def __repr__(self) -> str:
        numbers = ", ".join(_activation(row) for row in self.rows)
        return f"<channel {self.channel} of {self.layer}: {numbers}>"

    def _repr_html_(self) -> str:
        return "".join(_figure(self.run, row, f"{row.objective}, {row.method}") for row in self.rows)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class LayerView:
    """One layer of a run; `view[17]` is one of its channels."""

    run: Run
    layer: str
    rows: list[UnitRow]

    @property
    def channels(self) -> list[int]:
        """Those that the run has, in order."""
        return sorted({row.channel for row in self.rows})

    def __getitem__(self, channel: int) -> UnitView:
        own = [row for row in self.rows if row.channel == channel]
        if not own:
            there = self.channels
            more = f" and {len(there) - LISTED} more" if len(there) > LISTED else ""
            which = f"{', '.join(map(str, there[:LISTED]))}{more}" if there else "none"
            raise SettingsError(f"{self.layer}: channel {channel} is not in this run; it has {which}")
        return UnitView(self.run, self.layer, int(channel), own)

    def __len__(self) -> int:
        return len(self.channels)

    def __repr__(self) -> str:
        kinds = dict.fromkeys(f"{row.objective} by {row.method}" for row in self.rows)
        return f"<layer {self.layer}: {len(self)} channels; {', '.join(kinds) or 'no pictures'}>"

    def _repr_html_(self) -> str:
        leading = [next(row for row in self.rows if row.channel == channel) for channel in self.channels[:SHOWN]]
        more = len(self) - len(leading)
        left = f"<p>and {more} more channels</p>" if more > 0 else ""
        return "".join(_figure(self.run, row, f"channel {row.channel}") for row in leading) + left


def layer_view(run: Run, name: str) -> LayerView:
    """A layer by its name.

    Raises:
        SettingsError: the network has no layer of that name.
    """
    name = run.layer_called(name).name
    rows = [row for row in rows_of(run.units, UnitRow) if row.layer == name]
    pictured = sorted(rows, key=lambda row: (row.channel, row.space != "image", row.objective, row.method))
    return LayerView(run, name, pictured)


def _activation(row: UnitRow) -> str:
    number = "–" if row.activation is None else f"{row.activation:.4g}"
    return f"{row.objective} by {row.method} {number}"


def _figure(run: Run, row: UnitRow, title: str) -> str:
    caption = [title, row.status] if row.status not in (None, "ok") else [title]
    if row.activation is not None:
        quantity = "neuron" if row.objective == "neuron" else "mean of the map"
        caption.append(f"{quantity} {row.activation:.4g}")
    if row.activation is not None and row.bound is not None:
        size = f"{row.height} × {row.width} " if row.height and row.objective != "neuron" else ""
        caption.append(f"no {size}picture gives more than {row.bound:.4g}")
    return figure(run.tile(row), " · ".join(caption), SIDE)
