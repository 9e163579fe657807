"""A classifier's scores before softmax, as if they were a layer: what class pictures raise.

Knows graphs; knows nothing of pictures.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from filterscope.analyzer.network.gradient_paths import FLOATS, has_gradient
from filterscope.analyzer.network.labels import ClassFinder, from_metadata, spelling
from filterscope.analyzer.network.layers import Layer
from filterscope.analyzer.network.network import Network
from filterscope.converters.errors import SettingsError, setting
from filterscope.converters.operator_facts import Numbers, operators

NAME = "class scores"
NAME_A_UNIT = f"name a unit of a layer instead, such as {setting('layer', repr('#0'))} {setting('channel', 0)}"
MOST_LISTED = 6  # outputs that a message names
KEEPS_NUMBERS = operators(lambda facts: facts.numbers in (Numbers.SAME, Numbers.CONVERTED))
ROUNDING = operators(lambda facts: facts.numbers in (Numbers.ROUNDED, Numbers.RESTORED))  # to 8 bits and back
SQUASHING = operators(lambda facts: facts.gives_probabilities)


def scores(
    network: Network,
    field: str = "class",
    instead: str = NAME_A_UNIT,
) -> Layer:
    """A classifier's scores as a layer of one position: those of the first output that gives one number a class.

    What stands before a softmax or sigmoid at the end is taken: after it, a class also rises by the fall of the others.

    Args:
        network: the opened network.
        field: the setting that asks for classes, for the message.
        instead: what else may be done, for the message.

    Raises:
        SettingsError: no output is a list of scores.
    """
    graph = network.model.graph
    for output in graph.outputs:
        value = _before_squashing(network, output)
        shape = network.shapes.get(value, ())
        if _is_a_number_a_class(shape) and has_gradient(graph, value, network.input.name):
            return _as_layer(network, value, shape[1])
    listed = ", ".join(
        f"{name} {list(network.shapes.get(name, ()))}{_kind(graph.dtypes.get(name, 'float32'))}"
        for name in graph.outputs[:MOST_LISTED]
    )
    more = ", …" if len(graph.outputs) > MOST_LISTED else ""
    message = f"{setting(field)}: the network is no classifier, its outputs are {listed}{more}; {instead}"
    raise SettingsError(message, field=field)


def classifier_output(network: Network) -> tuple[str, int] | None:
    """Name of the first output that gives one number a class, and how many classes; None: there is none."""
    for output in network.model.graph.outputs:
        shape = network.shapes.get(output, ())
        if _is_a_number_a_class(shape):
            return output, shape[1]
    return None


@dataclass(frozen=True, slots=True)
class ClassOutput:
    """An output that gives one number a class."""

    output: str  # name of the value
    scores: str  # of the value before the softmax or sigmoid at its end; the same where there is none
    count: int  # of classes


def class_output(network: Network) -> ClassOutput | None:
    """The first output that gives one number a class; None: there is none."""
    output = classifier_output(network)
    return None if output is None else ClassOutput(output[0], _before_squashing(network, output[0]), output[1])


def class_probabilities(output: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Probabilities of classes, image by image: the output where it is a distribution, else a softmax of the scores.

    Args:
        output: (N, classes) of `ClassOutput.output`.
        scores: (N, classes) of `ClassOutput.scores`.

    Returns:
        (N, classes) float64; NaN where the scores are not finite.
    """
    raw = output.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        raised = np.exp(scores - scores.max(axis=1, keepdims=True), dtype=np.float64)
        shares = raised / raised.sum(axis=1, keepdims=True)
        is_distribution = (raw.min(axis=1) >= 0) & (np.abs(raw.sum(axis=1) - 1) < 1e-3)
    return np.where(is_distribution[:, None], raw, shares)


def _is_a_number_a_class(shape: Sequence[int]) -> bool:
    return len(shape) >= 2 and shape[1] > 1 and math.prod(shape) == shape[1]


def _kind(dtype: str) -> str:
    return "" if dtype in FLOATS else f" of {dtype}"


def own_labels(network: Network) -> list[str]:
    """Class names from the model's metadata, in order; empty where there are none, or the network is no classifier."""
    try:
        return from_metadata(network.model.metadata, scores(network).out_channels)
    except SettingsError:
        return []


def class_index(name: str, labels: Sequence[str], count: int, field: str = "class") -> int:
    """Number of a class.

    Args:
        name: its number or its label.
        labels: in order, or none.
        count: of classes.
        field: the setting that names it, for the message.

    Raises:
        SettingsError: there is none, where near labels are named; or labels of another network.
    """
    if len(labels) not in (0, count):
        fault = f"{len(labels)} names for a network of {count} classes; give one a class"
        raise SettingsError(f"{setting('labels')}: {fault}", field="labels", value=labels)
    if name.isascii() and name.isdigit():
        if int(name) < count:
            return int(name)
        fault = f"the network has classes 0 to {count - 1}"
        raise SettingsError(f"{setting(field, name)}: {fault}", field=field, value=name)
    index = ClassFinder(labels, count).index(name)
    if index is not None:
        return index
    if not labels:
        names = f"{setting('labels', 'FILE')} or {setting('labels', 'imagenet')}"
        fault = f"give a number from 0 to {count - 1}, or names with {names}"
        raise SettingsError(f"{setting(field, name)}: {fault}", field=field, value=name)
    if sum(spelling(label) == spelling(name) for label in labels) > 1:
        fault = "several classes are called that; give the number of one"
        raise SettingsError(f"{setting(field, name)}: {fault}", field=field, value=name)
    lowered = [label.lower() for label in labels]
    near = difflib.get_close_matches(name.lower(), lowered, 3, 0.5)
    meant = f"; did you mean {', '.join(labels[lowered.index(label)] for label in near)}?" if near else ""
    raise SettingsError(f"{setting(field, name)}: no label is called that{meant}", field=field, value=name)


def _before_squashing(network: Network, output: str) -> str:
    """The value that holds the scores before the softmax or sigmoid in front of an output.

    An 8-bit file may round behind it. The walk back ends at the first value whose axis 1 does not count the classes,
    though the classes may lie along other axes on the way.
    """
    graph = network.model.graph
    before = value = output
    is_rounded = False  # between `value` and `before`
    node = graph.producer(output)
    while node is not None and node.op in (*SQUASHING, *KEEPS_NUMBERS, *ROUNDING):
        value = node.inputs[0]
        shape = network.shapes.get(value, (0,))
        if math.prod(shape) != math.prod(network.shapes.get(output, (1,))):
            break
        if node.op == "Transpose" and max(shape, default=0) != math.prod(shape):  # another order of the numbers
            break
        is_rounded = (is_rounded or node.op in ROUNDING) and node.op not in SQUASHING
        if not is_rounded and _is_a_number_a_class(shape):
            before = value
        node = graph.producer(value)
    return before


def _as_layer(network: Network, value: str, count: int) -> Layer:
    return Layer(
        index=len(network.convolutions),
        name=NAME,
        node=NAME,
        value=value,
        source="",
        op="Scores",
        rank=2,
        kernel=(1, 1),
        stride=(1, 1),
        dilation=(1, 1),
        pads=(0, 0, 0, 0),
        auto_pad="NOTSET",
        groups=1,
        in_channels=count,
        out_channels=count,
        output_shape=(count, 1, 1),
        parameters=0,
        macs=0,
        bias=False,
        batchnorm=False,
        nonlinearity="none",
        field=None,
        is_global=True,
        depth=len(network.convolutions),
        predecessors=(),
        sees_image=False,
        weight=None,
        bias_vector=None,
    )
