"""The last convolution of an ascent against torch's own with autograd, in double precision, for all kernels."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from filterscope.analyzer.compute.last_convolution import Directions

CPU = torch.device("cpu")
KERNELS = [  # channels, kernel, stride, dilation, pads, groups, height and width
    (3, (16, 16), (16, 16), (1, 1), (0, 0, 0, 0), 1, (48, 64)),  # a patch embedding
    (3, (16, 16), (16, 16), (1, 1), (0, 0, 0, 0), 1, (57, 44)),  # rows and columns that no window reaches
    (3, (16, 16), (8, 8), (1, 1), (4, 3, 4, 5), 1, (40, 41)),
    (3, (16, 16), (10, 7), (1, 1), (0, 0, 0, 0), 1, (47, 50)),
    (3, (32, 32), (32, 32), (1, 1), (0, 0, 0, 0), 1, (64, 96)),
    (3, (4, 4), (4, 4), (1, 1), (0, 0, 0, 0), 1, (20, 23)),  # ConvNeXt's stem
    (3, (7, 7), (4, 4), (1, 1), (3, 3, 3, 3), 1, (30, 33)),
    (3, (7, 7), (2, 2), (1, 1), (3, 3, 3, 3), 1, (30, 33)),
    (4, (7, 5), (2, 3), (1, 1), (2, 0, 1, 3), 2, (21, 26)),
    (6, (8, 8), (8, 8), (1, 1), (0, 0, 0, 0), 6, (32, 25)),  # depthwise
    (1, (16, 16), (16, 16), (1, 1), (0, 0, 0, 0), 1, (32, 48)),
    (4, (5, 5), (6, 6), (1, 1), (1, 1, 1, 1), 1, (29, 31)),  # a stride beyond the kernel
    (4, (7, 7), (3, 3), (2, 2), (2, 2, 2, 2), 1, (29, 31)),
    (4, (5, 4), (4, 2), (1, 3), (1, 2, 2, 1), 2, (29, 31)),
    (6, (3, 3), (2, 2), (1, 1), (1, 1, 1, 1), 1, (15, 14)),
    (6, (1, 1), (2, 2), (1, 1), (0, 0, 0, 0), 1, (9, 8)),
    (6, (1, 1), (1, 1), (1, 1), (0, 0, 0, 0), 1, (7, 6)),
    (6, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1), 3, (9, 8)),
    (2, (15, 15), (1, 1), (1, 1), (7, 7, 7, 7), 1, (20, 18)),  # far wider than deep
    (6, (3, 3), (1, 2), (1, 1), (0, 1, 2, 0), 6, (9, 8)),
]


def layer_of(channels, kernel, stride, dilation, pads, groups):
    rng = np.random.default_rng([channels, *kernel, *stride, groups])
    weight = rng.standard_normal((2 * groups, channels // groups, *kernel)).astype(np.float32)
    bias = rng.standard_normal(len(weight)).astype(np.float32)
    return SimpleNamespace(weight=weight, bias_vector=bias, stride=stride, dilation=dilation, pads=pads, groups=groups)


def torchs_own(layer, directions, source):
    """All channels by torch, and of each picture the direction asked for."""
    top, left, bottom, right = layer.pads
    weight, bias, directions = (
        torch.tensor(each, dtype=source.dtype) for each in (layer.weight, layer.bias_vector, directions)
    )
    padded = F.pad(source, (left, right, top, bottom))
    maps = F.conv2d(padded, weight, bias, layer.stride, 0, layer.dilation, layer.groups)
    return torch.einsum("bchw,bc->bhw", maps, directions)


def with_gradient(compute, source):
    source = source.clone().requires_grad_(True)
    maps = compute(source)
    above = torch.linspace(-1, 1, maps.numel(), dtype=maps.dtype).reshape(maps.shape)
    (gradient,) = torch.autograd.grad(maps, source, above)
    return maps.detach(), gradient


@pytest.mark.parametrize("mixed", [False, True], ids=["channels", "mixed"])
@pytest.mark.parametrize("case", KERNELS, ids=str)
def test_directions_are_torchs_own_convolution_with_its_gradient(case, mixed):
    channels, *rest, size = case
    layer = layer_of(channels, *rest)
    rng = np.random.default_rng(1)
    count = len(layer.weight)
    wanted = rng.standard_normal((3, count)) if mixed else -np.eye(count)[[1, 0, count - 1]]
    directions = Directions.of(layer, wanted.astype(np.float32), CPU, torch.float64)
    source = torch.tensor(rng.standard_normal((3, channels, *size))).contiguous(memory_format=torch.channels_last)
    found, gradient = with_gradient(lambda x: directions.maps(x).double(), source)
    expected, its_gradient = with_gradient(lambda x: torchs_own(layer, wanted.astype(np.float32), x), source)
    assert found.shape == expected.shape
    largest = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * largest)
    torch.testing.assert_close(gradient, its_gradient, rtol=0, atol=1e-6 * float(its_gradient.abs().max()))


def seconds(compute, source):
    """The least of five."""
    taken = []
    for _ in range(5):
        started = time.perf_counter()
        with_gradient(compute, source)
        taken.append(time.perf_counter() - started)
    return min(taken)


@pytest.mark.parametrize(("kernel", "stride"), [(16, 16), (32, 32), (16, 8), (4, 4), (7, 2)])
def test_a_wide_kernel_with_a_stride_costs_what_torchs_own_convolution_costs(kernel, stride):
    """An order of magnitude: a map a tap at every place cost several hundred times as much."""
    layer = layer_of(3, (kernel, kernel), (stride, stride), (1, 1), (0, 0, 0, 0), 1)
    wanted = np.eye(2, dtype=np.float32)[[0, 1, 0, 1]]
    directions = Directions.of(layer, wanted, CPU, torch.float32)
    source = torch.rand(4, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    ours = seconds(directions.maps, source)
    assert ours < 8 * seconds(lambda x: torchs_own(layer, wanted, x), source) + 0.01
