"""A classifier's scores before softmax, as if they were a layer: what class pictures raise.

Knows graphs; knows nothing of pictures.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence

from analyzer.gradients import FLOATS, has_gradient
from analyzer.labels import from_metadata
from analyzer.layers import ConvLayer
from analyzer.network import Network
from converters.errors import SettingsError

NAME = "class scores"
MOST_LISTED = 6  # outputs that a message names
HANDING_ON = ("Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Cast")
ROUNDING = ("QuantizeLinear", "DequantizeLinear")  # to 8 bits and back
SQUASHING = ("Softmax", "LogSoftmax", "Sigmoid", "HardSigmoid")


def scores(
    network: Network,
    option: str = "--class",
    instead: str = "name a unit of a layer instead, such as --layer '#0' --channel 0",
) -> ConvLayer:
    """The scores of the first output that gives one number a class, as a layer whose maps have one place.

    What stands before a softmax or sigmoid at the end is taken: after it, a class also rises by the fall of the others.

    Args:
        network: the opened network.
        option: that asks for classes, for the message.
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
    raise SettingsError(f"{option}: the network is no classifier, its outputs are {listed}{more}; {instead}")


def answer_of(network: Network) -> tuple[str, int] | None:
    """The first output that gives one number a class, as the network gives it, and how many; None: there is none."""
    for output in network.model.graph.outputs:
        shape = network.shapes.get(output, ())
        if _is_a_number_a_class(shape):
            return output, shape[1]
    return None


def _is_a_number_a_class(shape: Sequence[int]) -> bool:
    return len(shape) >= 2 and shape[1] > 1 and math.prod(shape) == shape[1]


def _kind(dtype: str) -> str:
    return "" if dtype in FLOATS else f" of {dtype}"


def own_labels(network: Network) -> list[str]:
    """Class names that the model's metadata hold, in order; none where it holds none, or is no classifier."""
    try:
        return from_metadata(network.model.metadata, scores(network).out_channels)
    except SettingsError:
        return []


def class_index(wanted: str, labels: Sequence[str], count: int) -> int:
    """Number of a class.

    Args:
        wanted: its number or its label.
        labels: in order, or none.
        count: of classes.

    Raises:
        SettingsError: there is none, where near labels are named; or labels of another network.
    """
    if wanted.isascii() and wanted.isdigit():
        if int(wanted) < count:
            return int(wanted)
        raise SettingsError(f"--class {wanted}: the network has classes 0 to {count - 1}")
    if len(labels) not in (0, count):
        raise SettingsError(f"--labels: {len(labels)} names for a network of {count} classes; give one a class")
    lowered = [label.lower() for label in labels]
    if wanted.lower() in lowered:
        return lowered.index(wanted.lower())
    if not labels:
        raise SettingsError(
            f"--class {wanted}: give a number from 0 to {count - 1}, or names with --labels FILE or --labels imagenet"
        )
    near = difflib.get_close_matches(wanted.lower(), lowered, 3, 0.5)
    meant = f"; did you mean {', '.join(labels[lowered.index(name)] for name in near)}?" if near else ""
    raise SettingsError(f"--class {wanted}: no label is called that{meant}")


def _before_squashing(network: Network, output: str) -> str:
    """What stands before a squashing that ends in an output, also where an 8-bit file rounds behind it; as far back as
    the classes lie along axis 1, which they need not on the way."""
    graph = network.model.graph
    before = value = output
    is_rounded = False  # between `value` and `before`
    node = graph.producer(output)
    while node is not None and node.op in (*SQUASHING, *HANDING_ON, *ROUNDING):
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


def _as_layer(network: Network, value: str, count: int) -> ConvLayer:
    return ConvLayer(
        index=len(network.layers),
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
        depth=len(network.layers),
        predecessors=(),
        sees_image=False,
        weight=None,
        bias_vector=None,
    )
