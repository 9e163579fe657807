"""How a network answers images whose class is known: counts that are added up image by image.

Everything is a sum, so that parts of a data set can be counted apart and joined. Knows numbers; knows nothing of
networks, images or files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from filterscope.analyzer.studies.examples.class_labels import NO_CLASS
from filterscope.analyzer.studies.examples.running_statistics import State

BINS = 15  # of the highest probability, as in Guo et al. 2017
BEST = 5  # classes of an answer that are written
ANSWER_ROWS = 1 << 17  # images whose answers are written one by one: what a data set without end may fill
NOT_ANSWERED = -2  # in place of a label: no finite answer, or the image was not tried

SUMS = (
    *("images", "right", "right_of_five", "predicted", "probability"),
    *("bin_images", "bin_right", "bin_confidence", "unlabelled", "broken"),
)
ROWS = ("labels", "best", "best_probability")


class ClassAnswers:
    """Running counts of right and wrong answers.

    Args:
        classes: of the output.
        images: in the data set.
    """

    def __init__(self, classes: int, images: int) -> None:
        self.classes = classes
        self.best_of = min(BEST, classes)
        self.limit = min(images, ANSWER_ROWS)  # images with a number below it have a row
        self.images = np.zeros(classes, np.int64)  # with a label, a class
        self.right = np.zeros(classes, np.int64)
        self.right_of_five = np.zeros(classes, np.int64)
        self.predicted = np.zeros(classes, np.int64)  # how often each class was the answer to a labelled image
        self.probability = np.zeros(classes)  # sum of the right class's
        self.bin_images = np.zeros(BINS, np.int64)
        self.bin_right = np.zeros(BINS, np.int64)
        self.bin_confidence = np.zeros(BINS)  # sum of the highest probability
        self.unlabelled = np.zeros(1, np.int64)  # images that no class is known of
        self.broken = np.zeros(1, np.int64)  # images whose answer is not finite
        self.pairs: Counter[tuple[int, int]] = Counter()  # (label, answer) → images
        self.labels = np.full(self.limit, NOT_ANSWERED, np.int32)
        self.best = np.full((self.limit, self.best_of), -1, np.int32)  # class indices, highest first
        self.best_probability = np.full((self.limit, self.best_of), np.nan, np.float32)

    def add(self, numbers: np.ndarray, labels: np.ndarray, order: np.ndarray, probabilities: np.ndarray) -> None:
        """Take a batch.

        Args:
            numbers: (N,) of the images in the data set, rising.
            labels: (N,) class indices, or NO_CLASS.
            order: (N, classes) scores, by which answers are ordered: equal probabilities may hide their order.
            probabilities: (N, classes).
        """
        finite = np.isfinite(order).all(axis=1) & np.isfinite(probabilities).all(axis=1)
        self.broken += int((~finite).sum())
        numbers, labels, order, probabilities = (part[finite] for part in (numbers, labels, order, probabilities))
        if not len(numbers):
            return
        best = np.argsort(-order, axis=1, kind="stable")[:, : self.best_of]
        of_best = np.take_along_axis(probabilities, best, 1)
        rows = numbers[: int(np.searchsorted(numbers, self.limit))]
        self.labels[rows] = labels[: len(rows)]
        self.best[rows] = best[: len(rows)]
        self.best_probability[rows] = of_best[: len(rows)]
        has_class = labels != NO_CLASS
        self.unlabelled += int((~has_class).sum())
        self._count(labels[has_class], best[has_class], of_best[has_class, 0], probabilities[has_class])

    def _count(self, labels: np.ndarray, best: np.ndarray, highest: np.ndarray, probabilities: np.ndarray) -> None:
        right = best[:, 0] == labels
        np.add.at(self.images, labels, 1)
        np.add.at(self.right, labels, right)
        np.add.at(self.right_of_five, labels, (best == labels[:, None]).any(axis=1))
        np.add.at(self.predicted, best[:, 0], 1)
        np.add.at(self.probability, labels, probabilities[np.arange(len(labels)), labels])
        bins = np.clip(np.ceil(highest * BINS).astype(np.int64) - 1, 0, BINS - 1)  # (low, high], as in Guo et al.
        np.add.at(self.bin_images, bins, 1)
        np.add.at(self.bin_right, bins, right)
        np.add.at(self.bin_confidence, bins, highest)
        self.pairs.update(zip(labels.tolist(), best[:, 0].tolist(), strict=True))

    def join(self, other: ClassAnswers) -> None:
        """Add what was counted over other images of the same data set."""
        for name in SUMS:
            getattr(self, name)[...] += getattr(other, name)
        self.pairs.update(other.pairs)
        answered = other.labels != NOT_ANSWERED
        for name in ROWS:
            getattr(self, name)[answered] = getattr(other, name)[answered]

    def state(self) -> State:
        """Everything, as arrays."""
        pairs = [(label, answer, images) for (label, answer), images in self.pairs.items()]
        state = {name: getattr(self, name) for name in (*SUMS, *ROWS)}
        return state | {"pairs": np.array(pairs, np.int64).reshape(-1, 3)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state.

        Raises:
            KeyError, ValueError: it is not one of such counts.
        """
        for name in (*SUMS, *ROWS):
            getattr(self, name)[...] = state[name]
        self.pairs = Counter({(label, answer): images for label, answer, images in state["pairs"].tolist()})
