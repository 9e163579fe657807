"""ONNX Runtime as we use it."""

import numpy as np
import pytest
from google.protobuf.message import EncodeError

from filterscope.converters import runtime
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


@pytest.mark.parametrize("error", [ValueError, EncodeError])
def test_a_network_that_protobuf_cannot_write_is_said_to_be_too_large(error, monkeypatch):
    model = build([("Relu", "x", "y")])
    assert runtime.refusal(model) == ""

    def failing(self, *_):
        raise error("too large")

    monkeypatch.setattr(runtime.Session, "__init__", failing)
    assert runtime.refusal(model) == "it is larger than 2 GiB"
