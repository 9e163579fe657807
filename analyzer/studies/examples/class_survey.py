"""Classes in the pass over a data set: what the network and its units answer to images whose label is known.

Takes what the pass measures anyway, and the network's output. Knows class outputs, labels and the sums of both; knows
nothing of tables or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from filterscope.analyzer.data.dataset import DataSet
from filterscope.analyzer.network.layers import Layer
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.network.scores import ClassOutput, class_output, class_probabilities
from filterscope.analyzer.studies.examples.class_answers import ClassAnswers
from filterscope.analyzer.studies.examples.class_labels import NO_CLASS, ClassLabels
from filterscope.analyzer.studies.examples.running_statistics import State
from filterscope.analyzer.studies.examples.unit_classes import UnitClasses
from filterscope.converters.reductions import MEASURES, Measured

MAXIMUM, RECTIFIED = MEASURES.index("maximum"), MEASURES.index("rectified")
PARTS = ("answers", "units")

NO_SCORES = "The data set has labels, but no output of the network is a list of class scores"
NO_LABEL_FITS = "No label of the data set is a class of the network's output"


class ClassSurvey:
    """What is said of classes, so far.

    Args:
        output: the network's.
        labels: of the data set, some of which fit the output.
        layers: that are measured.
        images: in the data set.
    """

    def __init__(self, output: ClassOutput, labels: ClassLabels, layers: Sequence[Layer], images: int) -> None:
        self.output, self.labels, self.layers, self.images = output, labels, layers, images
        self.values = tuple(dict.fromkeys([output.output, output.scores]))  # of the network, to be fetched
        self.answers = ClassAnswers(output.count, images)
        self.units = UnitClasses([layer.out_channels for layer in layers], images)

    def add(self, numbers: np.ndarray, measured: Mapping[str, Measured], answered: Mapping[str, np.ndarray]) -> None:
        """Take a batch.

        Args:
            numbers: (N,) of the images in the data set, rising.
            measured: the layers' values.
            answered: `values`.
        """
        labels = self.labels.indices(numbers)
        output, scores = (
            np.asarray(answered[name], np.float64).reshape(len(numbers), self.output.count)
            for name in (self.output.output, self.output.scores)
        )
        self.answers.add(numbers, labels, scores, class_probabilities(output, scores))
        has_class = labels != NO_CLASS
        if has_class.any():
            of_layers = [measured[layer.value].measures[has_class] for layer in self.layers]
            pairs = [(measures[..., MAXIMUM], measures[..., RECTIFIED]) for measures in of_layers]
            self.units.add(numbers[has_class], labels[has_class], pairs)

    def state(self) -> State:
        """Everything, as arrays."""
        return {f"{part}/{name}": array for part in PARTS for name, array in getattr(self, part).state().items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state.

        Raises:
            KeyError, ValueError: it is not one of such a survey.
        """
        for part in PARTS:
            prefix = f"{part}/"
            own = {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
            getattr(self, part).restore(own)


def class_survey(network: Network, layers: Sequence[Layer], data: DataSet, names: Sequence[str]) -> ClassSurvey | None:
    """The classes of a data set, where its labels fit the network's output; None elsewhere.

    Args:
        network: the opened network.
        layers: that are measured.
        data: the images.
        names: of the network's classes, in order, or none.
    """
    fitting = fitting_labels(network, data, names)
    return None if fitting is None else ClassSurvey(*fitting, layers, len(data))


def fitting_labels(network: Network, data: DataSet, names: Sequence[str]) -> tuple[ClassOutput, ClassLabels] | None:
    """The network's class output and the labels of a data set, where any of them fits it; None elsewhere."""
    output = class_output(network)
    if output is None:
        return None
    labels = ClassLabels(data, names, output.count)
    return (output, labels) if labels.fit() else None


def why_not(network: Network, data: DataSet, names: Sequence[str]) -> str:
    """Why nothing is said of the classes of a labelled data set, a sentence; "" where its images have no labels."""
    output = class_output(network)
    if not data.is_labelled():
        return ""
    if output is None:
        return f"{NO_SCORES}: none were compared."
    of = "the names given" if len(names) == output.count else f"{output.count:,} classes without names"
    return f"{NO_LABEL_FITS} ({of}): accuracy and all that is said of classes were not measured."
