"""What of a layer is the same twice: channels that are look-alikes of each other, and pictures that look alike.

Knows pixels, kernels' cosines and correlations; knows no HTML.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from filterscope.analyzer.run.records import LayerInfo
from filterscope.analyzer.run.rows import StatisticsRow, WeightRow
from filterscope.reports.page import sheets

TWIN = 0.95  # cosine of kernels or correlation on the data above which channels are look-alikes
SAME = 0.35  # median correlation of a layer's pictures above which they are said to look alike
SIDE = 16  # pixels, at which pictures are compared: colours and coarse forms are left
PLAIN = 8  # grey levels of standard deviation, in each colour, below which a picture is one plain colour
FEWEST = 4  # pictures that a median is taken of


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """A picture made small for comparison, (h, w, bands) uint8 with both sides at most 16.

    Args:
        picture: (H, W, bands) uint8.
    """
    step = max(1, min(picture.shape[:2]) // (4 * SIDE))  # of a large picture some pixels say enough
    return sheets.at_most(np.ascontiguousarray(picture[::step, ::step]), SIDE)


def is_plain(picture: np.ndarray) -> bool:
    """Whether a picture is hardly more than one colour all over.

    Args:
        picture: (H, W, bands) uint8.
    """
    step = max(1, min(picture.shape[:2]) // SIDE)
    sample = picture[::step, ::step].reshape(-1, picture.shape[2])
    return bool(sample.std(axis=0).max() < PLAIN)


def median_correlation(thumbnails: Sequence[np.ndarray]) -> float | None:
    """The median over all pairs of pictures of the correlation of their pixels, colours and all.

    Args:
        thumbnails: of one shape.

    Returns:
        −1 to 1; None where fewer than four pictures are there. Pictures of one value correlate with none.
    """
    if len(thumbnails) < FEWEST:
        return None
    rows = np.stack(thumbnails).reshape(len(thumbnails), -1).astype(np.float32)
    rows -= rows.mean(1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.where(lengths > 0, lengths, 1)
    correlations = rows @ rows.T
    return float(np.median(correlations[np.triu_indices(len(rows), 1)]))


def groups_of(
    channels: Sequence[int],
    layer: LayerInfo,
    weights: Mapping[int, WeightRow],
    statistics: Mapping[int, StatisticsRow],
) -> list[list[int]]:
    """The groups of look-alike channels of a layer: each channel of a group is like another one of it.

    Two channels are look-alikes where the cosine of their kernels or the correlation of their activations on the data
    set exceeds 0.95. Kernels count only where both read the same inputs: of a depthwise convolution none do.

    Args:
        channels: that the page shows, in order.
        layer: of the run.
        weights: channel → its row of the study of weights.
        statistics: channel → its row of the study of the data set.

    Returns:
        Lists of at least two channels, in the order of `channels`.
    """
    root = {channel: channel for channel in channels}

    def first(channel: int) -> int:
        while root[channel] != channel:
            root[channel] = root[root[channel]]
            channel = root[channel]
        return channel

    for one, other in (*_equal_kernels(layer, weights), *_equal_answers(statistics)):
        if one in root and other in root:
            root[first(one)] = first(other)
    groups = defaultdict(list)
    for channel in channels:
        groups[first(channel)].append(channel)
    return [group for group in groups.values() if len(group) > 1]


def _equal_kernels(layer: LayerInfo, weights: Mapping[int, WeightRow]) -> Iterator[tuple[int, int]]:
    in_group = max(1, layer.out_channels // max(1, layer.groups))
    for channel, row in weights.items():
        for other, cosine in zip(row.alike, row.cosines, strict=True):
            if cosine > TWIN and channel // in_group == other // in_group:
                yield channel, other


def _equal_answers(statistics: Mapping[int, StatisticsRow]) -> Iterator[tuple[int, int]]:
    for channel, row in statistics.items():
        if row.nearest is not None and row.correlation is not None and row.correlation > TWIN:
            yield channel, row.nearest
