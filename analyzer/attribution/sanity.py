"""Do the attributions depend on what the network has learnt? The randomisation test.

Layer by layer from the output down, trained weights are replaced by random ones, and the attributions of the network so
made are compared with the trained network's. A method whose maps stay alike shows the picture's edges, and not the
network. Knows torch; knows nothing of files.

Source: Adebayo, Gilmer, Muelly, Goodfellow, Hardt & Kim 2018, arXiv:1810.03292, section 3 (cascading). Two deviations:
the weights of a layer are shuffled instead of drawn anew, and so are its biases, so that layers into which a
BatchNormalization was folded keep their scale; and of many layers, some are compared.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from filterscope.analyzer.attribution.backpropagation import Backpropagation
from filterscope.analyzer.attribution.explain import Explainer, Explanation, NotFiniteError
from filterscope.analyzer.attribution.similarity import rank_correlation, structural_similarity
from filterscope.analyzer.attribution.targets import Target
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.progress import Progress
from filterscope.converters.graph import Node
from filterscope.converters.operator_facts import CONVOLUTIONS, MATRIX_PRODUCTS

WEIGHTED = CONVOLUTIONS | MATRIX_PRODUCTS
STAGES = 8  # depths at which attributions are compared
PICTURES = 4  # on which they are, at most


@dataclass(frozen=True, slots=True, eq=False)
class TrainedExplanation:
    """A picture, its target, and the trained network's answers."""

    pixels: np.ndarray  # (H, W, C) uint8
    target: Target
    strengths: dict[str, np.ndarray]  # method → (H, W), absolute attributions


def to_be_tested(explained: Sequence[tuple[np.ndarray, Sequence[Explanation]]]) -> list[TrainedExplanation]:
    """The first PICTURES of some explained pictures, those with the same methods as the first of them."""
    explanations = [
        TrainedExplanation(
            pixels=pixels, target=answers[0].target, strengths={answer.method: answer.strength for answer in answers}
        )
        for pixels, answers in explained
    ]
    return [one for one in explanations if set(one.strengths) == set(explanations[0].strengths)][:PICTURES]


def randomisation_test(
    explainer: Explainer,
    explanations: Sequence[TrainedExplanation],
    layer: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Randomise the network from the output down and compare.

    Args:
        explainer: of the trained network.
        explanations: at least one; all with the same methods.
        layer: whose maps Grad-CAM weighs.
        seed: of the shuffling.
        progress: reports how far the work is.

    Returns:
        Rows of SANITY_SCHEMA, from the output down. A map that is 0 everywhere has a rank correlation of 0; one that is
        not finite counts as 0 in both.
    """
    network = explainer.network
    nodes = weighted_nodes(network, [one.target.value for one in explanations], explainer.backpropagation)
    compared = stages(len(nodes))
    if progress is not None:
        progress.stage("randomising weights", len(compared))
    root: nn.Module = copy.deepcopy(network.twin.module)
    generator = torch.Generator().manual_seed(seed)
    touched: set[int] = set()
    names = network.model.layer_names
    rows = []
    for depth in reversed(range(len(nodes))):
        _shuffle(network, nodes[depth], root, generator=generator, touched=touched)
        if depth not in compared:
            continue
        backpropagation = Backpropagation(network, explainer.backpropagation.device, root)
        for method in explanations[0].strengths:
            alike = [
                _compare_maps(explainer, one, method, layer=layer, backpropagation=backpropagation)
                for one in explanations
            ]
            similarity, ssim = np.mean(alike, axis=0)
            rows.append(
                {
                    "method": method,
                    "layer": names.get(nodes[depth].name, nodes[depth].name),
                    "depth": depth,
                    "images": len(explanations),
                    "similarity": float(similarity),
                    "ssim": float(ssim),
                }
            )
        if progress is not None:
            progress.advance()
    return rows


def _compare_maps(
    explainer: Explainer, one: TrainedExplanation, method: str, layer: str | None, backpropagation: Backpropagation
) -> tuple[float, float]:
    before = one.strengths[method]
    try:
        randomised = explainer.explain(
            one.pixels, one.target, method, layer=layer, backpropagation=backpropagation
        ).strength
    except NotFiniteError:
        return 0.0, 0.0
    return rank_correlation(before, randomised), structural_similarity(before, randomised)


def stages(count: int) -> list[int]:
    """Depths at which so many layers are compared: the first, the last and some between, evenly spaced."""
    return sorted({round(depth) for depth in np.linspace(0, count - 1, min(count, STAGES))}) if count else []


def weighted_nodes(network: Network, values: Sequence[str], backpropagation: Backpropagation) -> list[Node]:
    """Nodes with trained weights that lead to some values, in graph order."""
    graph = network.model.graph
    before = set[str]().union(*(backpropagation.before(value) for value in values))
    return [
        node
        for node in graph.nodes
        if node.op in WEIGHTED
        and node.outputs[0] in before
        and any(graph.initializers[name].ndim > 1 for name in node.inputs if name in graph.initializers)
    ]


def _shuffle(network: Network, node: Node, root: nn.Module, generator: torch.Generator, touched: set[int]) -> None:
    """Shuffle a node's weights, and its biases, in place; what two nodes share is shuffled once."""
    call = network.twin.calls[node.name]
    module = root.get_submodule(str(call.target))
    tensors = [*module.parameters(), *module.buffers()]
    for source in call.all_input_nodes:
        if source.op == "get_attr":
            owner, _, name = str(source.target).rpartition(".")
            tensors.append(getattr(root.get_submodule(owner), name))
    for tensor in tensors:
        if tensor.is_floating_point() and tensor.numel() > 1 and tensor.data_ptr() not in touched:
            touched.add(tensor.data_ptr())
            order = torch.randperm(tensor.numel(), generator=generator)
            with torch.no_grad():
                tensor.copy_(tensor.flatten()[order].reshape(tensor.shape))
