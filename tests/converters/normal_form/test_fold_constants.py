"""Kernels that a graph computes from constants by nodes of several outputs."""

import numpy as np

from support.networks import build, canonical

KERNEL = np.random.default_rng(0).normal(2, 3, (4, 3, 3, 3)).astype(np.float32)


def kernel_of(model):
    (conv,) = [node for node in model.graph.nodes if node.op == "Conv"]
    return model.graph.initializers[conv.inputs[1]]


def test_a_standardised_kernel_is_a_constant_with_mean_0_and_variance_1():
    """As timm's StdConv2d is exported: a BatchNormalization of the kernel in training mode."""
    flat = KERNEL.reshape(1, 4, 27)
    constants = {
        "flat": flat,
        "one": np.ones(4, np.float32),
        "zero": np.zeros(4, np.float32),
        "mean": flat.mean((0, 2)),
        "var": flat.var((0, 2)),
        "shape": np.array(KERNEL.shape),
    }
    nodes = [
        ("BatchNormalization", "flat one zero mean var", "n m v", {"training_mode": 1, "epsilon": 1e-6}),
        ("Reshape", "n shape", "k"),
        ("Conv", "x k", "y"),
    ]
    kernel = kernel_of(canonical(build(nodes, constants)))
    expected = (KERNEL - KERNEL.mean((1, 2, 3), keepdims=True)) / KERNEL.std((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(kernel, expected, rtol=1e-5, atol=1e-6)


def test_a_kernel_that_is_one_part_of_a_packed_one_is_a_constant():
    nodes = [
        ("Split", "packed", "a b", {"axis": 0, "num_outputs": 2}),
        ("Conv", "x b", "y"),
    ]
    packed = np.concatenate([KERNEL, KERNEL + 1])
    np.testing.assert_array_equal(kernel_of(canonical(build(nodes, {"packed": packed}))), KERNEL + 1)
