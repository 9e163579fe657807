"""Match the layers and units of two runs.

Layers are matched by order where both networks have the same convolutions in the same order, else by name. Units are
matched by index, or by their responses: the correlation of their maps over the places of the images that both runs
hold, and the assignment that makes the sum of correlations largest (Li et al. 2016, "Convergent learning",
arXiv:1511.07543). Knows the run's reader; knows nothing of HTML.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.records import LayerInfo
from filterscope.analyzer.run.rows import MapRow, rows_of
from filterscope.converters.errors import RunError, setting

PLACES = 28  # maps larger than 28 × 28 are reduced to that: neighbouring places say nearly the same
FEWEST_IMAGES = 3  # where only numbers an image are there: fewer correlate with anything
SHIFTS = 2  # how often chance is tried


@dataclass(frozen=True, slots=True)
class LayerMatch:
    """The matched layers of two runs, and those left over."""

    how: str  # name or order
    pairs: tuple[tuple[LayerInfo, LayerInfo], ...]  # comparable
    differing: tuple[tuple[str, str, str], ...]  # name in A, name in B, why they are not comparable
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Responses:
    """The responses of a layer's channels to some images."""

    channels: np.ndarray  # (C,) int
    values: np.ndarray  # (C, images, places) float32; a place of a map, or its mean and its maximum
    of_places: bool  # else of the mean and the maximum alone


@dataclass(frozen=True, slots=True, eq=False)
class UnitMatch:
    """The matched units of two layers, and those left over."""

    pairs: tuple[tuple[int, int], ...]  # channels of A and B
    only_a: tuple[int, ...]
    only_b: tuple[int, ...]
    correlation: tuple[float | None, ...]  # of each pair; None where unknown, or where both respond with one number
    spread: tuple[float | None, ...]  # standard deviation of B's responses ÷ that of A's
    chance: float | None = None  # the median correlation expected by chance: see `match_units`
    images: int = 0  # over which they were compared
    of_places: bool = False  # over the places of the maps; else over one mean and one maximum an image


def match_layers(a: Run, b: Run, *, by_index: bool) -> LayerMatch:
    """Match the comparable layers of two runs.

    Args:
        a: one run.
        b: the other.
        by_index: whether the numbers of the channels are to mean the same: layers need equally many.

    Raises:
        RunError: no layer is comparable.
    """
    in_order = [_form(layer) for layer in a.layers] == [_form(layer) for layer in b.layers]
    if in_order:
        candidates = list(zip(a.layers, b.layers, strict=True))
        only_a: list[str] = []
        only_b: list[str] = []
    else:
        of_name = {layer.name: layer for layer in b.layers}
        candidates = [(layer, of_name[layer.name]) for layer in a.layers if layer.name in of_name]
        both = {one.name for one, _ in candidates}
        only_a, only_b = ([str(layer.name) for layer in run.layers if layer.name not in both] for run in (a, b))
    reasons = [_difference(one, other, by_index) for one, other in candidates]
    pairs = tuple(pair for pair, reason in zip(candidates, reasons, strict=True) if reason is None)
    differing = tuple(
        (str(one.name), str(other.name), reason)
        for (one, other), reason in zip(candidates, reasons, strict=True)
        if reason is not None
    )
    if not pairs:
        raise RunError(
            f"{a.folder} and {b.folder}: have no layer in common that could be compared "
            f"({_listing(a)} against {_listing(b)}{f'; {differing[0][2]}' if differing else ''}); "
            "give two runs on one architecture"
        )
    same_names = all(one.name == other.name for one, other in pairs)
    return LayerMatch(
        how="name" if same_names else "order",
        pairs=pairs,
        differing=differing,
        only_a=tuple(only_a),
        only_b=tuple(only_b),
    )


def common_images(a: Run, b: Run) -> list[tuple[int, int]]:
    """Numbers, in A and in B, of the images that both runs hold pixel by pixel."""
    of_pixels: dict[str, int] = {}
    for index in range(len(b.images)):
        of_pixels.setdefault(_digest(b.image(index)), index)
    pairs = []
    for index in range(len(a.images)):
        other = of_pixels.pop(_digest(a.image(index)), None)  # an image given twice counts once
        if other is not None:
            pairs.append((index, other))
    return pairs


def responses(run: Run, slug: str, images: Sequence[int]) -> Responses | None:
    """The responses of a layer's channels to some of the run's images; None where the run does not hold them.

    Over the places of the maps of those images whose maps were kept as pictures; where none was, over the mean and the
    maximum of each image.
    """
    table = run.maps(slug)
    if not len(table) or not images:
        return None
    all_rows = rows_of(table, MapRow)
    channels = np.unique(table["channel"].to_numpy())
    place = {int(channel): index for index, channel in enumerate(channels)}
    order = {image: index for index, image in enumerate(images)}
    rows = [row for row in all_rows if row.image in order]
    if all(row.has_picture for row in rows):
        height, width, _ = all_rows[0].size
        values = np.zeros((len(channels), len(images), min(PLACES, height) * min(PLACES, width)), np.float32)
        for row in rows:
            tile = run.tile(row)
            assert tile is not None
            values[place[row.channel], order[row.image]] = _places(row, tile)
        return Responses(channels, np.nan_to_num(values), True)
    values = np.zeros((len(channels), len(images), 2), np.float32)
    for row in rows:
        values[place[row.channel], order[row.image]] = row.mean or 0, row.maximum or 0
    return Responses(channels, np.nan_to_num(values), False)


def pictured(run: Run, slug: str) -> set[int]:
    """The images whose maps of a layer were kept as pictures."""
    table = run.maps(slug)
    return set(table.filter(table["atlas"].is_valid())["image"].to_pylist()) if len(table) else set()


def match_units(
    channels_a: Sequence[int], channels_b: Sequence[int], a: Responses | None, b: Responses | None, *, by_index: bool
) -> UnitMatch:
    """Match the units of two layers.

    `chance` is the correlation expected of units that have nothing to do with each other. By index it is the median
    correlation of a unit with all *other* units of the layer. By activation, where even noise finds a partner, each
    image of A is compared with a different image of B and units are matched again: it is the median correlation of
    these matches, and needs two images.

    Args:
        channels_a: of A, those with pictures.
        channels_b: of B.
        a: responses of A's channels; None where the run holds none.
        b: responses of B's channels, to the same images in the same order.
        by_index: same number, same unit; else by activation, which needs a and b.
    """
    if a is None or b is None or a.values.shape[1:] != b.values.shape[1:] or a.of_places != b.of_places:
        shared = sorted(set(channels_a) & set(channels_b)) if by_index else []
        return UnitMatch(
            pairs=tuple((channel, channel) for channel in shared),
            only_a=tuple(channel for channel in channels_a if channel not in shared),
            only_b=tuple(channel for channel in channels_b if channel not in shared),
            correlation=(None,) * len(shared),
            spread=(None,) * len(shared),
        )
    images = a.values.shape[1]
    if not a.of_places and images < FEWEST_IMAGES:
        return match_units(channels_a, channels_b, None, None, by_index=by_index)
    x, y = _standardised(a), _standardised(b)
    related = x.reshape(len(x), -1) @ y.reshape(len(y), -1).T
    chance = None
    if by_index:
        measured = set(a.channels.tolist()) & set(b.channels.tolist())
        pairs_at = [(channel, channel) for channel in sorted((set(channels_a) & set(channels_b)) | measured)]
        others = related[~np.equal.outer(a.channels, b.channels)]
        chance = float(np.median(others)) if others.size else None
    else:
        rows, columns = _assigned(related)
        pairs_at = [(int(a.channels[i]), int(b.channels[j])) for i, j in zip(rows, columns, strict=True)]
        chance = _chance(x, y)
    of_a, of_b = ({int(channel): i for i, channel in enumerate(side.channels)} for side in (a, b))
    spreads = a.values.std((1, 2), dtype=np.float64), b.values.std((1, 2), dtype=np.float64)
    correlation: list[float | None] = []
    spread: list[float | None] = []
    for one, other in pairs_at:
        i, j = of_a.get(one), of_b.get(other)
        if i is None or j is None or not (spreads[0][i] or spreads[1][j]):
            correlation.append(None)
            spread.append(None)
            continue
        r = float(np.clip(np.vdot(x[i].astype(np.float64), y[j].astype(np.float64)), -1, 1))
        correlation.append(round(r, 6))  # single precision holds no more
        spread.append(float(spreads[1][j] / spreads[0][i]) if spreads[0][i] else None)
    return UnitMatch(
        pairs=tuple(pairs_at),
        only_a=tuple(sorted({*channels_a, *of_a} - {one for one, _ in pairs_at})),
        only_b=tuple(sorted({*channels_b, *of_b} - {other for _, other in pairs_at})),
        correlation=tuple(correlation),
        spread=tuple(spread),
        chance=chance,
        images=images,
        of_places=a.of_places,
    )


def _standardised(responses: Responses) -> np.ndarray:
    """Each channel's responses with mean 0 and length 1, so that a product is a correlation; constant ones become 0.

    Means and maxima of images stand on different levels: each of the two gets a mean of 0 of its own.
    """
    values = responses.values.astype(np.float64)
    values -= values.mean((1, 2) if responses.of_places else 1, keepdims=True)
    norm = np.sqrt((values**2).sum((1, 2), keepdims=True))
    values /= np.where(norm > 1e-12, norm, np.inf)
    standardised: np.ndarray = values.astype(np.float32)
    return standardised


def _assigned(related: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(related, maximize=True)
    return rows, columns


def _chance(x: np.ndarray, y: np.ndarray) -> float | None:
    images = x.shape[1]
    correlations = []
    for shift in range(1, min(SHIFTS, images - 1) + 1):
        related = x.reshape(len(x), -1) @ np.roll(y, shift, 1).reshape(len(y), -1).T
        correlations.append(related[_assigned(related)])
    return float(np.median(np.concatenate(correlations))) if correlations else None


def _places(row: MapRow, tile: np.ndarray) -> np.ndarray:
    """A map's values, from its picture and its range, reduced to at most PLACES × PLACES."""
    low, high = (np.nan_to_num(value or 0.0) for value in (row.minimum, row.maximum))
    grey: np.ndarray = tile[:, :, 0].astype(np.float32)
    for axis in (0, 1):
        size = grey.shape[axis]
        if size > PLACES:
            edges = np.arange(PLACES) * size // PLACES
            counts = np.diff([*edges, size]).reshape((-1, 1) if axis == 0 else (1, -1))
            grey = np.add.reduceat(grey, edges, axis) / counts
    values: np.ndarray = low + (high - low) * grey.reshape(-1) / 255
    return values


def _form(layer: LayerInfo) -> tuple[object, ...]:
    """The properties that two layers must share to be the same operation."""
    depthwise = layer.groups == layer.in_channels > 1
    return layer.op, layer.kernel, layer.stride, layer.dilation, "depthwise" if depthwise else layer.groups


def _difference(a: LayerInfo, b: LayerInfo, by_index: bool) -> str | None:
    if _form(a) != _form(b):
        return f"{a.name} is another operation in each"
    if by_index and a.out_channels != b.out_channels:
        return (
            f"{a.name} has {a.out_channels} channels against {b.out_channels}, whose numbers need not mean "
            f"the same: use {setting('match', 'activation')}"
        )
    return None


def _listing(run: Run) -> str:
    names = [layer.name for layer in run.layers]
    return f"{len(names)} convolutions from {names[0]}" if names else "no convolution"


def _digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()
