"""What the units of a network answer to images of each class: means over all images, AUC over a sample of them.

The sample is the images whose number has the smallest hash (bottom-k sampling, Cohen & Kaplan 2007,
doi:10.1145/1281100.1281133): every image has the same chance, the same data give the same sample in whatever parts they
are read, and where all images fit it is all of them. Knows numbers; knows nothing of networks, images or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from filterscope.analyzer.studies.examples.running_statistics import State

SAMPLE_BYTES = 1 << 28  # of the sampled images' maxima
CLASS_BYTES = 1 << 28  # of the sums of all classes
FEWEST_IMAGES = 3  # of a class, below which nothing is said of it
BEST_CLASSES = 5  # written of each unit
BLOCK = 1 << 21  # numbers that are ranked at once


def hashes(numbers: np.ndarray) -> np.ndarray:
    """A well mixed 64-bit number for each image's number, (N,) uint64.

    Source: splitmix64 (Steele, Lea & Flood 2014, doi:10.1145/2714064.2660195); it is a bijection, so no two are equal.
    """
    mixed = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


class Sample:
    """Rows of numbers of the images whose number has the smallest hash.

    Args:
        most: images.
        units: numbers of each.
    """

    def __init__(self, most: int, units: int) -> None:
        self.count = 0
        self.numbers = np.zeros(most, np.int64)
        self.labels = np.zeros(most, np.int32)
        self.values = np.empty((most, units), np.float32)

    def add(self, numbers: np.ndarray, labels: np.ndarray, values: np.ndarray) -> None:
        """Take images: (N,) numbers, (N,) classes, (N, units) values."""
        room = len(self.numbers) - self.count
        fresh = np.arange(len(numbers))
        places = np.arange(self.count, self.count + min(room, len(numbers)))
        if len(numbers) > room:
            before = hashes(self.numbers[: self.count])
            both = np.concatenate([before, hashes(numbers)])
            best = np.argpartition(both, len(self.numbers) - 1)[: len(self.numbers)]
            is_best = np.zeros(len(both), bool)
            is_best[best] = True
            fresh = np.flatnonzero(is_best[self.count :])
            freed = np.flatnonzero(~is_best[: self.count])
            places = np.concatenate([places, freed])[: len(fresh)]
        self.numbers[places], self.labels[places] = numbers[fresh], labels[fresh]
        self.values[places] = values[fresh]
        self.count += min(room, len(numbers))


@dataclass(frozen=True, slots=True, eq=False)
class Preferred:
    """The classes that the units of a layer tell best from all others, a row a unit and class."""

    units: np.ndarray  # (n,) of the layer, rising
    ranks: np.ndarray  # (n,) 0: the highest AUC
    classes: np.ndarray  # (n,)
    aucs: np.ndarray  # (n,) above ½
    means: np.ndarray  # (n,) of the maps' maxima over the class's images
    images: np.ndarray  # (n,) of the class


class UnitClasses:
    """Running sums of what units answer to each class, and the sample.

    Args:
        channels: units of each layer.
        images: in the data set.
    """

    def __init__(self, channels: Sequence[int], images: int) -> None:
        self._ends = np.cumsum([0, *channels])
        units = int(self._ends[-1])
        self._most_rows = max(1, CLASS_BYTES // (8 * max(1, units)))
        self._row_of: dict[int, int] = {}  # class → its row in the sums
        self.maxima = np.zeros((0, units), np.float32)  # sums over the images of a class, of the maps' maxima
        self.rectified = np.zeros((0, units), np.float32)  # and of the means of max(0, a)
        self.images = np.zeros((0, len(channels)), np.int64)  # with finite answers of a layer
        self.seen = 0  # labelled images
        self.sample = Sample(min(images, max(1, SAMPLE_BYTES // (4 * max(1, units)))), units)

    def add(self, numbers: np.ndarray, labels: np.ndarray, measures: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        """Take a batch of labelled images.

        Args:
            numbers: (N,) of the images in the data set.
            labels: (N,) class indices.
            measures: for each layer maxima and rectified means of its maps, (N, C) each; an image on which one of
                them is not finite is left out of the layer's numbers.
        """
        self.seen += len(numbers)
        finite = np.stack([np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1) for a, b in measures], axis=1)
        maxima = np.concatenate([own for own, _ in measures], axis=1)
        rectified = np.concatenate([own for _, own in measures], axis=1)
        if not finite.all():
            spread = np.repeat(finite, np.diff(self._ends), axis=1)
            maxima, rectified = (np.where(spread, values, np.nan) for values in (maxima, rectified))
        self.sample.add(numbers, labels, maxima)
        if not finite.all():
            maxima, rectified = np.nan_to_num(maxima), np.nan_to_num(rectified)
        self._sum_up(labels, finite, maxima=maxima, rectified=rectified)

    def _sum_up(self, labels: np.ndarray, finite: np.ndarray, maxima: np.ndarray, rectified: np.ndarray) -> None:
        classes, which = np.unique(labels, return_inverse=True)
        rows = np.array([self._row(int(one)) for one in classes])
        is_class = which[None, :] == np.arange(len(classes))[:, None]  # (classes, N)
        has_row = rows >= 0
        rows, is_class = rows[has_row], is_class[has_row].astype(np.float32)
        self.maxima[rows] += is_class @ maxima
        self.rectified[rows] += is_class @ rectified
        self.images[rows] += (is_class @ finite.astype(np.float32)).astype(np.int64)

    def _row(self, label: int) -> int:
        """The row of a class in the sums; −1 where there is no room for one."""
        if label not in self._row_of:
            if len(self._row_of) >= self._most_rows:
                return -1
            self._row_of[label] = len(self._row_of)
            if len(self._row_of) > len(self.images):
                more = min(self._most_rows, max(16, 2 * len(self.images))) - len(self.images)
                for name in ("maxima", "rectified", "images"):
                    sums = getattr(self, name)
                    setattr(self, name, np.concatenate([sums, np.zeros((more, sums.shape[1]), sums.dtype)]))
        return self._row_of[label]

    @property
    def summed(self) -> int:
        """Classes whose means are over all their images; those of others are of the sample."""
        return len(self._row_of)

    def join(self, other: UnitClasses) -> None:
        """Add what was summed over other images of the same data set."""
        self.seen += other.seen
        there = other.sample.count
        self.sample.add(*(getattr(other.sample, name)[:there] for name in SAMPLE))
        for label, row in other._row_of.items():
            own = self._row(label)
            if own >= 0:
                self.maxima[own] += other.maxima[row]
                self.rectified[own] += other.rectified[row]
                self.images[own] += other.images[row]

    def selectivity(self, layer: int) -> np.ndarray:
        """Class selectivity index of each unit of a layer, (C,) float64 in [0, 1]; NaN where it is undefined.

        (μ_max − μ_rest) ÷ (μ_max + μ_rest): μ_max is the highest mean activity of a class, μ_rest the mean of the
        other classes' means; activity is the rectified map's mean. Undefined where no class excites the unit, or fewer
        than two classes have enough images.

        Source: Morcos, Barrett, Rabinowitz & Botvinick 2018, arXiv:1803.06959.
        """
        units = slice(self._ends[layer], self._ends[layer + 1])
        images = self.images[: self.summed, layer]
        enough = np.flatnonzero(images >= FEWEST_IMAGES)
        width = units.stop - units.start
        if len(enough) < 2:
            return np.full(width, np.nan)
        means = self.rectified[enough, units] / images[enough, None].astype(np.float64)
        highest = means.max(axis=0)
        rest = (means.sum(axis=0) - highest) / (len(enough) - 1)
        total = highest + rest
        return np.asarray(np.divide(highest - rest, total, out=np.full(width, np.nan), where=total > 0))

    def preferred(self, layer: int) -> Preferred:
        """For each unit of a layer at most BEST_CLASSES classes with the highest AUC, where it is above ½.

        The AUC is that of the map's maximum, over the sample. Only classes of which the sample has FEWEST_IMAGES.
        """
        first, last = int(self._ends[layer]), int(self._ends[layer + 1])
        labels = self.sample.labels[: self.sample.count]
        finite = np.flatnonzero(np.isfinite(self.sample.values[: self.sample.count, first]))
        order = finite[np.argsort(labels[finite], kind="stable")]  # images of a class stand side by side
        classes, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
        enough = np.flatnonzero((counts >= FEWEST_IMAGES) & (counts < len(order)))
        parts = []
        step = max(1, BLOCK // max(1, len(order)))
        for begin in range(first, last if len(enough) else first, step):
            values = np.ascontiguousarray(self.sample.values[order, begin : min(begin + step, last)].T)
            aucs = class_aucs(values, starts, counts)[:, enough]
            best = np.argsort(-aucs, axis=1, kind="stable")[:, :BEST_CLASSES]
            unit, rank = np.nonzero(np.take_along_axis(aucs, best, 1) > 0.5)
            which = best[unit, rank]
            means = np.add.reduceat(values, starts, axis=1, dtype=np.float64)[unit, enough[which]]
            parts.append((unit + begin, rank, enough[which], aucs[unit, which], means / counts[enough[which]]))
        if not parts:
            return Preferred(*([np.zeros(0, np.int64)] * 3), **dict.fromkeys(("aucs", "means", "images"), np.zeros(0)))
        unit, rank, which, auc, mean = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        row = np.array([self._row_of.get(int(label), -1) for label in classes])[which]
        images = np.where(row >= 0, self.images[row, layer], counts[which])
        mean = np.where(row >= 0, self.maxima[row, unit] / np.maximum(images, 1), mean)
        return Preferred(unit - first, rank, classes[which], aucs=auc, means=mean, images=images)

    def state(self) -> State:
        """Everything, as arrays."""
        there = self.sample.count
        state = {f"sample_{name}": getattr(self.sample, name)[:there] for name in SAMPLE}
        state |= {name: getattr(self, name)[: self.summed] for name in SUMS}
        state["classes"] = np.array(list(self._row_of), np.int64)
        state["seen"] = np.array(self.seen)
        return state

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state.

        Raises:
            KeyError, ValueError: it is not one of such sums.
        """
        self.sample.count = len(state["sample_numbers"])
        for name in SAMPLE:
            getattr(self.sample, name)[: self.sample.count] = state[f"sample_{name}"]
        self.seen = int(state["seen"])
        self._row_of.clear()
        for label in state["classes"].tolist():
            self._row(label)
        for name in SUMS:
            getattr(self, name)[: self.summed] = state[name]


SAMPLE = ("numbers", "labels", "values")
SUMS = ("maxima", "rectified", "images")


def class_aucs(values: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """How well some numbers tell each class from all others: the area under the ROC curve.

    The probability that a number of the class is higher than one of another class, half of it where they are equal;
    exact, by ranks.

    Args:
        values: (units, images) finite; the images of a class stand side by side.
        starts: (classes,) the first image of each class, rising from 0.
        counts: (classes,) images of each.

    Returns:
        (units, classes) float64 from 0 to 1; ½ where there is one class only.

    Source: Mann & Whitney 1947, doi:10.1214/aoms/1177730491; Hanley & McNeil 1982,
    doi:10.1148/radiology.143.1.7063747.
    """
    units, images = values.shape
    order = np.argsort(values, axis=1)
    ordered = np.take_along_axis(values, order, 1)
    ranks = np.empty((units, images), np.float64)
    np.put_along_axis(ranks, order, _ranks(ordered), 1)
    sums = np.add.reduceat(ranks, starts, axis=1)
    others = images - counts
    least = counts * (counts - 1) / 2  # sum of the ranks, from 0, of a class below all others
    return np.asarray(np.divide(sums - least, counts * others, out=np.full(sums.shape, 0.5), where=others > 0))


def _ranks(ordered: np.ndarray) -> np.ndarray:
    """Ranks from 0 of rising numbers, (units, images); equal ones share the mean of theirs."""
    units, images = ordered.shape
    place = np.broadcast_to(np.arange(images, dtype=np.float64), (units, images))
    differs = ordered[:, 1:] != ordered[:, :-1]
    if differs.all():
        return place
    edge = np.ones((units, 1), bool)
    first = np.maximum.accumulate(np.where(np.hstack([edge, differs]), place, 0), axis=1)
    from_the_end = np.where(np.hstack([differs, edge]), place, images)[:, ::-1]
    last = np.minimum.accumulate(from_the_end, axis=1)[:, ::-1]
    return np.asarray((first + last) / 2)
