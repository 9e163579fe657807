"""Which class of a network's output each image of a data set belongs to.

Knows names and numbers of classes; knows nothing of pixels or of what the network answers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from filterscope.analyzer.data.dataset import DataSet
from filterscope.analyzer.network.labels import ClassFinder

NO_CLASS = -1  # of an image whose label is unknown, or none of the network's


class ClassLabels:
    """The labels of a data set as classes of a network's output.

    A label is found by its name, however it is spelt, where both the network and the data set name their classes;
    otherwise by its number. A name that two classes share stands for neither. Numbers of a data set that names its
    classes count only where the network has as many.

    Args:
        data: the images.
        names: of the network's classes, in order; of another number than `count`, or none: they are unknown.
        count: of classes of the output.
    """

    def __init__(self, data: DataSet, names: Sequence[str], count: int) -> None:
        self._data, self.count = data, count
        self._own = own = list(names) if len(names) == count else []
        self._of_data = data.class_names()
        self._by_number = bool(own) or not self._of_data or len(self._of_data) == count
        self._names = own or (list(self._of_data) if self._by_number and self._of_data else [])
        self._by_name = bool(own)
        self._finder = ClassFinder(own, count)

    def name(self, index: int) -> str:
        """What a class is called; "class 3" where no one says."""
        return self._names[index] if self._names else f"class {index}"

    def own_name(self, number: int) -> str | None:
        """What the network calls the class of an image, however the data set spells it; None where no one says."""
        index = self.index(number)
        return self._own[index] if self._own and index != NO_CLASS else None

    def index(self, number: int) -> int:
        """The class of one image, or NO_CLASS."""
        label, name = self._data.class_of(number)
        if name is not None and (self._by_name or label is None):
            index = self._finder.index(name)
            return NO_CLASS if index is None else index
        fits = label is not None and self._by_number and 0 <= label < self.count
        return label if fits and label is not None else NO_CLASS

    def indices(self, numbers: np.ndarray) -> np.ndarray:
        """The classes of some images, (N,) int64; NO_CLASS where there is none."""
        return np.array([self.index(int(number)) for number in numbers], np.int64)

    def fit(self) -> bool:
        """Whether any image has a class of the output."""
        return any(self.index(number) != NO_CLASS for number in range(len(self._data)))
