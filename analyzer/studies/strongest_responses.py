"""The strongest responses that a run knows of: of its saved pictures, the user's images and the data set.

All are responses of single neurons: the largest pre-activation anywhere in a unit's map. Knows the run and ONNX
Runtime; knows nothing of what the numbers are for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from filterscope.analyzer.network.layers import Layer
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.run.reader import Run

RISING = ("channel", "neuron")  # objectives whose pictures are to excite one unit
BATCH = 1 << 20  # pixels run at a time


@dataclass(frozen=True, slots=True, eq=False)
class StrongestResponse:
    """A saved picture, and the neuron of its unit that it excites most."""

    channel: int
    objective: str  # channel or neuron
    method: str
    activation: float  # the objective's value, as saved
    value: float  # the largest pre-activation in the map; of a neuron's picture: that neuron's
    row: int  # where it is, in the map of the picture
    column: int
    pixels: np.ndarray  # (H, W, C) uint8


def responses_to_saved_pictures(
    run: Run, network: Network, layer: Layer, channels: Sequence[int]
) -> list[StrongestResponse]:
    """Every picture of pixels that the run has of these units, of the objectives channel and neuron."""
    responses = []
    for rows in _by_size(run, layer, set(channels)):
        tiles = [run.tile(row) for row in rows]
        pixels = np.stack([tile for tile in tiles if tile is not None])
        session = network.session([layer.value], (pixels.shape[1], pixels.shape[2]))
        for part in parts(len(pixels), pixels.shape[1] * pixels.shape[2]):
            maps = session.run(network.input.to_model(pixels[part]))[layer.value]
            for row, own, tile in zip(rows[part], maps, pixels[part], strict=True):
                seen = own[row["channel"]]
                place = (row["row"], row["column"])
                if row["objective"] == "channel":
                    place = divmod(int(np.argmax(seen)), seen.shape[1])
                responses.append(
                    StrongestResponse(
                        channel=row["channel"],
                        objective=row["objective"],
                        method=row["method"],
                        activation=row["activation"],
                        value=float(seen[place]),
                        row=place[0],
                        column=place[1],
                        pixels=tile,
                    )
                )
    return responses


def _by_size(run: Run, layer: Layer, channels: set[int]) -> Iterator[list[dict[str, Any]]]:
    sizes: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for row in run.units.filter(pc.equal(run.units["layer"], layer.name)).to_pylist():
        is_of_unit = row["channel"] in channels and row["objective"] in RISING
        if is_of_unit and row["space"] == "image" and row["atlas"] is not None:
            sizes.setdefault((row["height"], row["width"]), []).append(row)
    yield from sizes.values()


def parts(count: int, pixels: int) -> Iterator[slice]:
    """Slices of `count` pictures of so many pixels each, as many as are run at a time."""
    step = max(1, min(256, BATCH // pixels))
    for first in range(0, count, step):
        yield slice(first, first + step)


def strongest_natural_responses(run: Run, layer: Layer, slug: str) -> np.ndarray:
    """The largest pre-activation of each unit on the user's images and the data set: (C,), −inf where there is none."""
    highest = np.full(layer.out_channels, -np.inf)
    for table, column in ((run.maps(slug), "maximum"), (run.examples(slug), "activation")):
        np.fmax.at(highest, table["channel"].to_numpy(), table[column].to_numpy())
    return highest
