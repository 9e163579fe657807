"""What is maximised: one objective of one layer, over all pictures of one size.

Knows networks, layers and objectives; computes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from filterscope.analyzer.network.layers import Layer
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.units.canvas import Canvas
from filterscope.analyzer.units.objectives import Objective


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """A maximisation problem; every unit of the layer has a picture of its own to find."""

    network: Network
    layer: Layer  # whose pre-activations the objective reads
    canvas: Canvas  # size of the pictures, and the neuron that is looked at
    objective: Objective
