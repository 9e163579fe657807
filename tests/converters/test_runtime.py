"""ONNX Runtime as we use it."""

import numpy as np
import pytest

from filterscope.converters.runtime import Session
from support.networks import build

POOLS = ["MaxPool", "AveragePool"]


@pytest.mark.parametrize("pool", POOLS)
def test_padding_before_a_pool_is_zero_whatever_the_runtime_fuses(pool):
    """ONNX Runtime's own fusion pads a MaxPool with −∞ instead, so that −1 instead of 0 would win at the border."""
    nodes = [("Pad", "x pads", "p"), (pool, "p", "y", {"kernel_shape": [3, 3]})]
    model = build(nodes, {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])}, shape=("N", 1, 1, 1))
    found = Session(model).run(-np.ones((1, 1, 1, 1), np.float32))["y"]
    assert found.item() == pytest.approx({"MaxPool": 0, "AveragePool": -1 / 9}[pool])
