"""Values other than convolutions on the user's images: what pools, activations and dense layers hold.

The maps of `execution.activation_maps` for any value of the graph that is asked for. Knows ONNX Runtime's sessions and
the run; knows nothing of torch or HTML.
"""

from __future__ import annotations

import difflib
import fnmatch
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from filterscope.analyzer.execution.activation_maps import GROUP_BYTES, map_atlas
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.network.values import KINDS as KINDS_OF_VALUES
from filterscope.analyzer.run.layout import slugs
from filterscope.analyzer.run.tables import VALUE_SCHEMA
from filterscope.analyzer.studies.study import Context
from filterscope.converters import checks
from filterscope.converters.errors import SettingsError, setting
from filterscope.converters.grouping import groups_within
from filterscope.converters.operator_facts import CONVOLUTIONS, MATRIX_PRODUCTS

KINDS = {  # what may be asked for → operators
    "pool": KINDS_OF_VALUES["pool"],
    "activation": KINDS_OF_VALUES["activation"],
    "dense": MATRIX_PRODUCTS,
}
BLANK = 1e-6  # a map that spreads less, relative to its largest number, is rounding and no picture


@dataclass(frozen=True, slots=True)
class GraphValue:
    """A value of the graph that has channels."""

    name: str
    op: str  # that writes it
    layer: str | None  # the convolution that it follows; None: several, or none
    order: int  # of its node in the graph
    channel_axis: int
    shape: tuple[int, ...]  # for one image

    @property
    def channels(self) -> int:
        """How many maps or numbers it has."""
        return self.shape[self.channel_axis]


@dataclass(frozen=True, slots=True)
class ValueStudy:
    """Maps of some values.

    Args:
        patterns: all, pool, activation, dense, operators, names of values, or globs of names.
    """

    patterns: tuple[str, ...] = ("all",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "patterns", checks.names("values", self.patterns))

    name = "values"

    def settings(self, context: Context) -> dict[str, Any]:
        """Which values; the images are part of the run's plan."""
        return {"values": [value.name for value in chosen_values(context.network, self.patterns)]}

    def run(self, context: Context) -> None:
        """Write values/values.parquet, and an atlas a value and image where the value has places."""
        values = chosen_values(context.network, self.patterns)
        names = slugs([value.name for value in values])
        if not context.pictures:
            context.notes.append(f"There are no maps: values are shown on the user's images ({setting('images')}).")
        context.progress.stage("maps of values", len(values))
        tables = []
        for group in groups_within(values, lambda value: 4 * math.prod(value.shape), GROUP_BYTES):
            tables += _measure(context, group, names)
            context.progress.advance(len(group))
        table = pa.concat_tables(tables) if tables else VALUE_SCHEMA.empty_table()
        keys = [(key, "ascending") for key in ("order", "image", "channel")]
        context.writer.write_table("values/values.parquet", table.sort_by(keys))


def chosen_values(network: Network, patterns: Sequence[str]) -> list[GraphValue]:
    """The values asked for, in network order.

    Args:
        patterns: as of ValueStudy.

    Raises:
        SettingsError: nothing matches; the nearest names are suggested.
    """
    values = values_of(network)
    chosen: set[str] = set()
    for pattern in patterns:
        matches = {value.name for value in values if _matches(value, pattern)}
        if not matches:
            names = [value.name for value in values]
            near = difflib.get_close_matches(pattern, [*KINDS, *names], 3, 0.3) or names[:3]
            raise SettingsError(
                f"{setting('values', pattern)}: no value of the network matches; give all, pool, activation, dense, an "
                f"operator or a name, such as {', '.join(near)}",
                field="values",
                value=pattern,
            )
        chosen |= matches
    return [value for value in values if value.name in chosen]


def _matches(value: GraphValue, pattern: str) -> bool:
    if pattern == "all":
        return any(value.op in ops for ops in KINDS.values())
    if value.op in KINDS.get(pattern, ()) or pattern in (value.op, value.name):
        return True
    return fnmatch.fnmatchcase(value.name, pattern)


def values_of(network: Network) -> list[GraphValue]:
    """Every value that follows from the image and has channels, convolutions left out."""
    graph, shapes = network.model.graph, network.shapes
    walk = network.walk
    named = {layer.node: layer.name for layer in network.convolutions}
    after: dict[str, frozenset[str]] = {network.input.name: frozenset()}  # the convolutions directly before a value
    values = []
    for order, node in enumerate(graph.nodes):
        sources = [after[name] for name in node.inputs if name in after]
        if not sources:
            continue
        is_layer = node.op in CONVOLUTIONS
        before = frozenset({named[node.name]}) if node.name in named else frozenset().union(*sources)
        for output in node.outputs:
            after[output] = before
            shape = tuple(shapes.get(output, ()))
            if is_layer or len(shape) not in (2, 4) or shape[0] != 1 or not math.prod(shape):
                continue
            axes = walk.axes.get(output) if len(shape) == 4 else None
            last = axes == (1, 2) or (axes is None and shape[1:-1] == (1, 1) and shape[-1] > 1)
            axis = 3 if last else 1
            layer = next(iter(before)) if len(before) == 1 else None
            values.append(
                GraphValue(
                    name=output,
                    op=node.op,
                    layer=layer,
                    order=order,
                    channel_axis=axis,
                    shape=shape,
                )
            )
    return values


def _measure(context: Context, group: Sequence[GraphValue], names: dict[str, str]) -> list[pa.Table]:
    network, pictures = context.network, context.settings.map_pictures
    session = network.session([value.name for value in group], (network.input.height, network.input.width))
    tables = []
    for index, pixels in enumerate(context.pictures):
        answers = session.run(network.input.to_model(pixels[None]))
        for value in group:
            answer = np.moveaxis(answers[value.name][0], value.channel_axis - 1, 0).astype(np.float32)
            maps = answer.reshape(len(answer), *(answer.shape[1:] or (1, 1)))
            place = None
            if index < pictures and maps[0].size > 1:
                place = f"values/{names[value.name]}-{index}.png"
                context.writer.write_bytes(place, map_atlas(maps))
            tables.append(_table(value, index, maps, place))
    return tables


def _table(value: GraphValue, image: int, maps: np.ndarray, place: str | None) -> pa.Table:
    count = len(maps)
    flat = maps.reshape(count, -1)
    low, high = flat.min(axis=1), flat.max(axis=1)
    tiles = np.arange(count, dtype=np.int32)
    shown = [place is not None] * count
    constants = {"image": image, "value": value.name, "op": value.op, "layer": value.layer, "order": value.order}
    columns = {name: [held] * count for name, held in constants.items()} | {
        "channel": tiles,
        "minimum": low,
        "mean": flat.mean(axis=1, dtype=np.float64).astype(np.float32),
        "maximum": high,
        "blank": is_blank(low, high) & (flat.shape[1] > 1),
        "atlas": [place] * count,
        "tile": pa.array(tiles, mask=~np.array(shown)),
        "height": [maps.shape[1] if place else None] * count,
        "width": [maps.shape[2] if place else None] * count,
    }
    return pa.Table.from_pydict(columns, VALUE_SCHEMA)


def is_blank(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Whether maps with these minima and maxima are the same number everywhere, but for float32's rounding: bool."""
    return np.asarray(high - low <= BLANK * np.maximum(np.abs(low), np.abs(high)))
