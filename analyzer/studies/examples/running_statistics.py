"""Running statistics of a layer's units over images, in memory that does not grow with the number of images.

Each class takes the measurements of a batch and forgets the batch. Knows numbers; knows nothing of networks, images or
files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from filterscope.converters.reductions import MEASURES, Measured

BINS = 128  # of a histogram while it is counted; a quarter of them or more are in use
MOST_BINS = 64  # of a histogram that is given; there are at least 32
ROWS = 1024  # sampled places that are gathered before the covariance takes them
DUPLICATE = 0.99  # correlation above which a unit counts as another's duplicate
FEWEST = 30  # sampled places, other than 0, below which a correlation says nothing
FLAT = 1e-6  # of the mean: a deviation below it is rounding

State = dict[str, np.ndarray]


class Top:
    """The strongest places of each unit, at most one an image; of equals the one seen first.

    Args:
        channels: units.
        count: places kept of each.
    """

    def __init__(self, channels: int, count: int) -> None:
        self.values = np.full((channels, count), -np.inf, np.float32)  # falling
        self.images = np.full((channels, count), -1, np.int64)  # number in the data set; -1: no image yet
        self.places = np.zeros((channels, count), np.int32)  # row · width + column of the map

    def add(self, numbers: np.ndarray, maxima: np.ndarray, where: np.ndarray) -> None:
        """Take a batch.

        Args:
            numbers: (N,) of the images, each higher than all before.
            maxima: (N, C) finite.
            where: (N, C) places of the maxima.
        """
        count = self.values.shape[1]
        better = np.nonzero((maxima > self.values[:, -1]).any(axis=0))[0]  # soon they are few
        if not len(better):
            return
        values = np.concatenate([self.values[better], maxima.T[better]], axis=1)
        order = np.argsort(-values, axis=1, kind="stable")[:, :count]
        images = np.concatenate([self.images[better], np.tile(numbers, (len(better), 1))], axis=1)
        places = np.concatenate([self.places[better], where.T[better].astype(np.int32)], axis=1)
        self.values[better] = np.take_along_axis(values, order, 1)
        self.images[better] = np.take_along_axis(images, order, 1)
        self.places[better] = np.take_along_axis(places, order, 1)


class Histograms:
    """Equal bins for each unit, whose range is found on the way.

    A number outside the range doubles the width of the bins, two becoming one, until it has a place: counts stay
    exact, and at least a quarter of the bins are in use: half where the range grew at one end alone.

    Args:
        low: (C,) a first range.
        high: (C,) its upper end.
    """

    def __init__(self, low: np.ndarray, high: np.ndarray) -> None:
        self.low = low.astype(np.float64)
        smallest = np.maximum(np.abs(self.low), 1.0) * 1e-9  # where all numbers are the same so far
        self.width = np.maximum((high - self.low) / BINS, smallest)
        self.counts = np.zeros((len(low), BINS), np.int64)

    def widen(self, low: np.ndarray, high: np.ndarray) -> None:
        """Make room for numbers from low to high, (C,) each."""
        while (short := high > self.low + BINS * self.width).any():
            self.counts[short] = _merge_pairs(self.counts[short], 0)
            self.width[short] *= 2
        while (short := low < self.low).any():
            self.counts[short] = _merge_pairs(self.counts[short], BINS // 2)
            self.low[short] -= BINS * self.width[short]
            self.width[short] *= 2

    def add(self, samples: np.ndarray) -> None:
        """Count numbers, (C, n), for which there is room."""
        bins = ((samples - self.low[:, None]) / self.width[:, None]).astype(np.int64)
        np.clip(bins, 0, BINS - 1, out=bins)  # the upper end belongs to the last bin
        bins += BINS * np.arange(len(bins))[:, None]
        self.counts += np.bincount(bins.ravel(), minlength=self.counts.size).reshape(self.counts.shape)

    def within(self, low: np.ndarray, high: np.ndarray) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        """The bins that reach from low to high, (C,) each: counts a unit, and the ends of the first and last bin."""
        first = np.clip(np.floor((low - self.low) / self.width), 0, BINS - 1).astype(int)
        last = np.clip(np.ceil((high - self.low) / self.width), first + 1, BINS).astype(int)
        merged = np.where(last - first > MOST_BINS, 2, 1)
        first -= first % merged  # the pairs that the next doubling would make
        last += last % merged
        counts = [
            row[a:b].reshape(-1, pair).sum(axis=1)
            for row, a, b, pair in zip(self.counts, first, last, merged, strict=True)
        ]
        return counts, self.low + first * self.width, self.low + last * self.width


def _merge_pairs(counts: np.ndarray, start: int) -> np.ndarray:
    """Two neighbouring bins become one; those that are left stand from `start` on."""
    halved = np.zeros_like(counts)
    halved[:, start : start + BINS // 2] = counts[:, 0::2] + counts[:, 1::2]
    return halved


class Covariance:
    """How the units of a layer vary together, over sampled places: means and sums of products, merged block by block.

    Source: Chan, Golub & LeVeque 1983, doi:10.1080/00031305.1983.10483115, for the merging.

    Args:
        channels: C; memory is 4 · C² bytes and the places that wait.
    """

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.mean = np.zeros(channels)
        self.nonzero = np.zeros(channels, np.int64)  # places; a correlation of two that share one place says nothing
        self.products = np.zeros((channels, channels), np.float32)
        self._waiting: list[np.ndarray] = []

    def add(self, samples: np.ndarray) -> None:
        """Take sampled places, (N, C, S): each of N · S places is one observation of C units."""
        self._waiting.append(np.moveaxis(samples, 1, 2).reshape(-1, samples.shape[1]))
        if sum(map(len, self._waiting)) >= ROWS:
            self.settle()

    def settle(self) -> None:
        """Take in the places that wait."""
        if not self._waiting:
            return
        rows = np.concatenate(self._waiting)
        self._waiting.clear()
        self.nonzero += np.count_nonzero(rows, axis=0)
        mean = rows.mean(axis=0, dtype=np.float64)
        centred = (rows - mean).astype(np.float32)
        total = self.count + len(rows)
        apart = (mean - self.mean) * np.sqrt(self.count * len(rows) / total)
        self.products += centred.T @ centred
        self.products += np.outer(apart, apart).astype(np.float32)
        self.mean += (mean - self.mean) * (len(rows) / total)
        self.count = total

    def nearest(self) -> tuple[np.ndarray, np.ndarray]:
        """For each unit the other one that is most correlated with it, and their correlation.

        Returns:
            (C,) int64, −1 where the unit is constant, is 0 but for a few places, or the layer has no other; (C,)
            float64, NaN there.
        """
        self.settle()
        channels = len(self.mean)
        spread = np.sqrt(np.diag(self.products).astype(np.float64))
        varies = spread > FLAT * np.abs(self.mean) * np.sqrt(max(self.count, 1))
        varies &= self.nonzero >= FEWEST
        near, how = np.full(channels, -1, np.int64), np.full(channels, np.nan)
        if self.count < FEWEST or varies.sum() < 2:
            return near, how
        scale = np.where(varies, spread, np.inf)
        for first in range(0, channels, 256):  # not all of a second C × C matrix
            units = np.arange(first, min(first + 256, channels))
            correlations = self.products[units] / scale[units, None] / scale
            correlations[:, ~varies] = -np.inf
            correlations[units - first, units] = -np.inf
            near[units] = correlations.argmax(axis=1)
            how[units] = correlations.max(axis=1)
        near[~varies], how[~varies] = -1, np.nan
        return near, np.clip(how, -1, 1)


@dataclass(frozen=True, slots=True, eq=False)
class StrongestUnits:
    """Which unit of a layer had the highest mean on each image of a batch."""

    channels: np.ndarray  # (N,) int64; -1: the network's answer was not finite
    means: np.ndarray  # (N,) float32; NaN there


class LayerStatistics:
    """Running statistics of one layer.

    Args:
        channels: units.
        places: H · W of a map.
        top: strongest places kept of each unit.
        correlated: whether there is room for the covariance.
        passed: lowest and highest value that a ReLU behind the layer lets through. Units are alike where what they
            pass on is: outliers far below 0 would make units alike that answer to different things.
    """

    def __init__(
        self,
        channels: int,
        places: int,
        top: int,
        correlated: bool,
        *,
        passed: tuple[float, float] = (-math.inf, math.inf),
    ) -> None:
        self.places = places
        self.passed = passed
        self.images = 0  # with finite answers
        self.broken = 0  # images to which the layer's answer was not finite
        self.minimum = np.full(channels, np.inf, np.float32)
        self.maximum = np.full(channels, -np.inf, np.float32)
        self.total = np.zeros(channels)  # of the images' means
        self.active = np.zeros(channels, np.int64)  # places above 0
        self.active_images = np.zeros(channels, np.int64)
        self.firsts = np.zeros(channels, np.int64)
        self.sparsity = 0.0  # sum over the images
        self.batch_total = np.zeros(channels)  # of the images' means, since the last end of a batch
        self.batch_images = 0
        self.top = Top(channels, top)
        self.histograms: Histograms | None = None
        self.covariance = Covariance(channels) if correlated else None

    def add(self, numbers: np.ndarray, measured: Measured) -> StrongestUnits:
        """Take a batch.

        Args:
            numbers: (N,) of the images in the data set, each higher than all before.
        """
        strongest = StrongestUnits(np.full(len(numbers), -1, np.int64), np.full(len(numbers), np.nan, np.float32))
        measures = dict(zip(MEASURES, np.moveaxis(measured.measures, 2, 0), strict=True))
        good = np.isfinite(measured.measures).all(axis=(1, 2))
        where, samples = measured.where, measured.samples
        if not good.all():
            self.broken += int((~good).sum())
            measures = {name: values[good] for name, values in measures.items()}
            numbers, where, samples = numbers[good], where[good], samples[good]
            if not len(numbers):
                return strongest
        low, high = measures["minimum"].min(axis=0), measures["maximum"].max(axis=0)
        self.images += len(numbers)
        np.minimum(self.minimum, low, out=self.minimum)
        np.maximum(self.maximum, high, out=self.maximum)
        means = measures["mean"].astype(np.float64)
        self.total += means.sum(axis=0)
        self.active += np.rint(measures["active"].astype(np.float64) * self.places).astype(np.int64).sum(axis=0)
        self.active_images += (measures["maximum"] > 0).sum(axis=0)
        self.sparsity += float(treves_rolls(measures["rectified"], measures["squares"]).sum())
        first = means.argmax(axis=1)
        np.add.at(self.firsts, first, 1)
        strongest.channels[good] = first
        strongest.means[good] = means[np.arange(len(first)), first]
        self.batch_total += means.sum(axis=0)
        self.batch_images += len(numbers)
        self.top.add(numbers, measures["maximum"], where)
        if self.histograms is None:
            self.histograms = Histograms(low, high)
        self.histograms.widen(low, high)
        self.histograms.add(np.moveaxis(samples, 1, 0).reshape(len(low), -1))
        if self.covariance is not None:
            self.covariance.add(np.clip(samples, *self.passed))
        return strongest

    def end_batch(self) -> tuple[int, int, float] | None:
        """Images of the batch that ends, the unit with the highest mean over them, and that mean; None without any."""
        if not self.batch_images:
            return None
        means = self.batch_total / self.batch_images
        summary = self.batch_images, int(means.argmax()), float(means.max())
        self.batch_total[:] = 0
        self.batch_images = 0
        return summary

    def state(self) -> State:
        """Everything, as arrays."""
        state = {name: getattr(self, name) for name in ARRAYS}
        state["numbers"] = np.array([self.images, self.broken, self.sparsity, self.batch_images])
        state |= {f"top_{name}": getattr(self.top, name) for name in ("values", "images", "places")}
        if self.histograms is not None:
            state |= {f"histogram_{name}": getattr(self.histograms, name) for name in ("low", "width", "counts")}
        if self.covariance is not None:
            self.covariance.settle()
            state |= {f"covariance_{name}": getattr(self.covariance, name) for name in COVARIANCE}
            state["covariance_count"] = np.array(self.covariance.count)
        return state

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state.

        Raises:
            KeyError, ValueError: it is not one of such a layer.
        """
        for name in ARRAYS:
            getattr(self, name)[...] = state[name]
        images, broken, self.sparsity, batch = state["numbers"].tolist()
        self.images, self.broken, self.batch_images = int(images), int(broken), int(batch)
        for name in ("values", "images", "places"):
            getattr(self.top, name)[...] = state[f"top_{name}"]
        if "histogram_low" in state:
            self.histograms = Histograms(self.minimum, self.maximum)
            for name in ("low", "width", "counts"):
                getattr(self.histograms, name)[...] = state[f"histogram_{name}"]
        if self.covariance is not None:
            for name in COVARIANCE:
                getattr(self.covariance, name)[...] = state[f"covariance_{name}"]
            self.covariance.count = int(state["covariance_count"])


ARRAYS = ("minimum", "maximum", "total", "active", "active_images", "firsts", "batch_total")
COVARIANCE = ("mean", "nonzero", "products")


def treves_rolls(rectified: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Sparsity of a layer on each image: 1 − mean(a)² ÷ mean(a²), over all units and places.

    Args:
        rectified: (N, C) mean of max(0, a) of each map.
        squares: (N, C) mean of its square.

    Returns:
        (N,) in [0, 1]: 0 where all places are equally active, 1 − 1/n where one of n is, 1 where none is.

    Source: Treves & Rolls 1991, doi:10.1088/0954-898X_2_4_004; as 1 − a in Vinje & Gallant 2000 but for the factor
    1 ÷ (1 − 1/n).
    """
    mean = rectified.mean(axis=1, dtype=np.float64)
    square = squares.mean(axis=1, dtype=np.float64)
    share = np.divide(mean**2, square, out=np.zeros_like(mean), where=square > 0)
    return np.asarray(np.clip(1 - share, 0, 1))
