"""Find weights and values that are not finite: two forms of a network may agree on them, which proves nothing.

Knows graphs and arrays.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from filterscope.converters.graph import Graph
from filterscope.converters.operator_facts import CONVOLUTIONS

WEIGHTED = (*CONVOLUTIONS, "Gemm", "MatMul")  # elsewhere an infinite constant may be meant, as in a mask


def not_finite(array: np.ndarray) -> str:
    """What an array holds that is not finite: NaN, infinite, NaN or infinite; empty where all is finite."""
    if array.dtype.kind != "f":
        return ""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(array.sum()):
            return ""
    kinds = {"NaN": np.isnan(array).any(), "infinite": np.isinf(array).any()}
    return " or ".join(kind for kind, is_there in kinds.items() if is_there)


def silence(sentences: Sequence[str]) -> contextlib.AbstractContextManager[object]:
    """Silence numpy's warnings where a network is known to compute infinities."""
    return np.errstate(invalid="ignore", over="ignore") if sentences else contextlib.nullcontext()


def weight_sentence(graph: Graph, layer_names: Mapping[str, str]) -> str:
    """Which layer is the first to have a weight that is no finite number, and how many more have; empty: none has."""
    first, *others = [*_layers(graph, layer_names)] or [""]
    return f"{first}{_others(len(others))}; what depends on it is no number either." if first else ""


def sentences(graph: Graph, layer_names: Mapping[str, str], values: Mapping[str, str]) -> Iterator[str]:
    """Warnings about a network's weights, and about its values where the weights do not explain them.

    Args:
        graph: of the network.
        layer_names: node name → the name its user knows.
        values: the user's name of a layer → what of its values on random images is no finite number, in graph order.
    """
    weights = weight_sentence(graph, layer_names)
    if weights:
        yield weights
    names = list(values)
    if names and not weights.startswith(f"{names[0]}: "):
        others = _others(len(names) - 1)
        yield f"{names[0]}: some of its values on random images are {values[names[0]]}{others}."


def _layers(graph: Graph, layer_names: Mapping[str, str]) -> Iterator[str]:
    for node in graph.nodes:
        for place, name in enumerate(node.inputs):
            array = graph.initializers.get(name)
            kind = "" if array is None else not_finite(array)
            if kind and (node.op in WEIGHTED or "NaN" in kind):
                assert array is not None
                count = int(np.count_nonzero(~np.isfinite(array)))
                what = "biases" if place == 2 and node.op in WEIGHTED else "weights"
                number = f"one of its {what} is" if count == 1 else f"{count:,} of its {what} are"
                yield f"{layer_names.get(node.name, node.name)}: {number} {kind}"
                break


def _others(count: int) -> str:
    return f" (and of {count} more {'layer' if count == 1 else 'layers'})" if count else ""
