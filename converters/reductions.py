"""Measure feature maps inside ONNX Runtime by operators appended to the network: the maps themselves are not fetched.

ONNX Runtime's global pools cost a tenth of its ReduceMax and ReduceMean over the same axes, since they read the blocked
layout that its convolutions write; so they are used wherever a question can be put as one. Knows ONNX; knows nothing
of layers, images or statistics.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from filterscope.converters.runtime import Session, extract

MEASURES = ("maximum", "minimum", "mean", "rectified", "squares", "active")  # in the order of Measured.measures
PREFIX = "filterscope/"  # of names that are ours: no exporter writes them


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Measurements of one value, feature maps of shape (N, C, H, W)."""

    measures: np.ndarray  # (N, C, 6) float32: of each map maximum, minimum, mean, mean of max(0, a), of its square,
    # and the fraction of places above 0
    where: np.ndarray  # (N, C) int64: the place of the maximum, row · W + column; the first of several
    samples: np.ndarray  # (N, C, S) float32: the map at the places asked for


class MeasuringSession:
    """A session that measures maps in ONNX Runtime, without fetching them.

    Args:
        proto: the network, float32.
        values: name → H and W, for values of shape (N, C, H, W) at the input shape declared.
        shape: of the input, with a name for the batch dimension, or 1.
        whole: names of further values, which are fetched as they are.
        one_at_a_time: as of `Session`.

    Raises:
        ModelError: ONNX Runtime refuses the model, or a value is not there.
    """

    def __init__(
        self,
        proto: onnx.ModelProto,
        values: Mapping[str, tuple[int, int]],
        shape: Sequence[int | str],
        *,
        whole: Sequence[str] = (),
        one_at_a_time: bool = False,
    ) -> None:
        self.values = dict(values)
        self.whole = tuple(dict.fromkeys(whole))
        part = extract(proto, [*values, *self.whole], shape=shape)
        graph = part.graph
        del graph.output[:]
        graph.initializer.extend(
            numpy_helper.from_array(array, PREFIX + name)
            for name, array in (("zero", np.array(0, np.float32)), ("flat", np.array([0, 0, -1])))
        )
        for places in sorted({height * width for height, width in values.values()}):
            graph.input.append(helper.make_tensor_value_info(_sample_input(places), TensorProto.INT64, ["S"]))
        for index, (value, size) in enumerate(values.items()):
            graph.node.extend(_measuring(value, f"{PREFIX}{index}/", size))
            graph.output.extend(onnx.ValueInfoProto(name=name) for name in _outputs(index))
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in self.whole)
        self._session = Session(part, frugal=True, one_at_a_time=one_at_a_time)

    def run(self, x: np.ndarray, samples: Mapping[int, np.ndarray]) -> dict[str, Measured]:
        """Measure the maps of a batch, as `measure` does; without the values that are fetched as they are."""
        return self.measure(x, samples)[0]

    def measure(
        self, x: np.ndarray, samples: Mapping[int, np.ndarray]
    ) -> tuple[dict[str, Measured], dict[str, np.ndarray]]:
        """Measure the maps of a batch.

        Args:
            x: the image input in the network's own layout, float32.
            samples: for each number of places that a value has: (S,) int64, which of them to sample.

        Returns:
            The measurements by name, and the values of `whole` by name.

        Raises:
            ModelError: the network does not run on this input.
        """
        sizes = {height * width for height, width in self.values.values()}
        outputs = self._session.run(x, {_sample_input(places): samples[places] for places in sizes})
        results = {}
        for index, (value, (_, width)) in enumerate(self.values.items()):
            measures, row, column, sampled = (outputs[name] for name in _outputs(index))
            results[value] = Measured(measures[..., 0], (row * width + column)[..., 0], sampled)
        return results, {name: outputs[name] for name in self.whole}


class PoolingSession:
    """A session that max-pools maps in ONNX Runtime before they are fetched.

    Args:
        proto: the network, float32.
        windows: name → height and width of the window, for values of shape (N, C, H, W); (1, 1) leaves a map as it is.
        shape: of the input, with a name for the batch dimension, or 1.
        one_at_a_time: as of `Session`.

    Raises:
        ModelError: ONNX Runtime refuses the model, or a value is not there.
    """

    def __init__(
        self,
        proto: onnx.ModelProto,
        windows: Mapping[str, tuple[int, int]],
        shape: Sequence[int | str],
        *,
        one_at_a_time: bool = False,
    ) -> None:
        self.values = list(windows)
        part = extract(proto, self.values, shape=shape)
        del part.graph.output[:]
        for index, (value, window) in enumerate(windows.items()):
            node = helper.make_node("Identity", [value], [f"{PREFIX}{index}"])
            if window != (1, 1):
                node = helper.make_node(
                    "MaxPool", [value], list(node.output), kernel_shape=window, strides=window, ceil_mode=1
                )
            part.graph.node.append(node)
            part.graph.output.append(onnx.ValueInfoProto(name=f"{PREFIX}{index}"))
        self._session = Session(part, one_at_a_time=one_at_a_time)

    def run(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """The smaller maps of a batch: (N, C, ⌈H / window⌉, ⌈W / window⌉) float32 each."""
        outputs = self._session.run(x)
        return {value: outputs[f"{PREFIX}{index}"] for index, value in enumerate(self.values)}


def _sample_input(places: int) -> str:
    return f"{PREFIX}places/{places}"


def _outputs(index: int) -> list[str]:
    return [f"{PREFIX}{index}/{name}" for name in ("measures", "row", "column", "samples")]


def _measuring(value: str, own: str, size: tuple[int, int]) -> Iterator[onnx.NodeProto]:
    """Nodes that measure one value of this height and width; `own` begins the names of what they write."""
    height, width = size
    steps: tuple[tuple[str, list[str], str, dict[str, Any]], ...] = (
        # ArgMax over a whole map takes as long as the convolution: so over the rows' maxima, then inside that row.
        ("MaxPool", [value], "rows", {"kernel_shape": [1, width]}),
        ("GlobalMaxPool", [own + "rows"], "maximum", {}),
        ("Reshape", [own + "rows", PREFIX + "flat"], "rows flattened", {}),
        ("ArgMax", [own + "rows flattened"], "row", {"axis": 2}),
        ("GatherND", [value, own + "row"], "that row", {"batch_dims": 2}),
        ("ArgMax", [own + "that row"], "column", {"axis": 2}),
        ("Neg", [value], "negative", {}),  # ReduceMin is slower than turning the map over twice
        ("GlobalMaxPool", [own + "negative"], "lowest", {}),
        ("Neg", [own + "lowest"], "minimum", {}),
        ("GlobalAveragePool", [value], "mean", {}),
        ("Relu", [value], "positive", {}),  # where the network has the same, ONNX Runtime computes it once
        ("GlobalAveragePool", [own + "positive"], "rectified", {}),
        ("Mul", [own + "positive", own + "positive"], "squared", {}),
        ("GlobalAveragePool", [own + "squared"], "squares", {}),
        ("Greater", [value, PREFIX + "zero"], "above", {}),
        ("Cast", [own + "above"], "ones", {"to": TensorProto.FLOAT}),
        ("GlobalAveragePool", [own + "ones"], "active", {}),
        ("Reshape", [value, PREFIX + "flat"], "flattened", {}),
    )
    for op, inputs, output, attributes in steps:
        yield helper.make_node(op, inputs, [own + output], **attributes)
    yield helper.make_node("Concat", [own + name for name in MEASURES], [own + "measures"], axis=2)
    samples = _sample_input(height * width)
    yield helper.make_node("Gather", [own + "flattened", samples], [own + "samples"], axis=2)
