"""Frozen convolutions against torch's own, and the choice of precision where a network does not take the lower one."""

import copy
import itertools

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from filterscope.analyzer.compute import precision as precisions
from filterscope.analyzer.compute.frozen_convolutions import FrozenConv, with_frozen_convolutions
from filterscope.analyzer.compute.precision import cut_for_gradients, precision

CPU = torch.device("cpu")
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2}  # of the largest number
CASES = [  # kernel, stride, pads, dilation, height and width
    ((1, 1), (1, 1), (0, 0), (1, 1), (5, 7)),
    ((3, 3), (1, 1), (1, 1), (1, 1), (7, 6)),
    ((3, 3), (2, 2), (1, 1), (1, 1), (9, 8)),
    ((3, 3), (2, 2), (0, 0), (1, 1), (8, 11)),  # a last row that no window reaches
    ((1, 1), (2, 3), (0, 0), (1, 1), (7, 7)),
    ((1, 1), (1, 1), (2, 1), (1, 1), (5, 5)),  # pads beyond the kernel's reach
    ((3, 2), (1, 1), (4, 0), (1, 1), (6, 7)),
    ((3, 3), (2, 1), (3, 4), (1, 1), (7, 5)),
    ((3, 3), (1, 1), (2, 2), (2, 2), (9, 7)),
    ((3, 3), (3, 2), (2, 1), (2, 3), (13, 11)),
    ((5, 3), (2, 4), (1, 2), (1, 2), (11, 13)),
    ((7, 7), (2, 2), (3, 3), (1, 1), (15, 14)),
    ((4, 4), (4, 4), (0, 0), (1, 1), (17, 20)),
    ((16, 16), (16, 16), (0, 0), (1, 1), (33, 32)),
    ((16, 16), (8, 8), (4, 4), (1, 1), (25, 24)),
]
CHANNELS = [(4, 6, 1), (4, 6, 2), (6, 6, 6), (3, 6, 3), (1, 1, 1)]  # in, out, groups


def compared(conv, size, dtype):
    """Output and input gradient: of torch in float32, and frozen; inputs that both precisions hold."""
    x = torch.randn(2, conv.in_channels, *size).bfloat16().float()
    conv.weight.data = conv.weight.data.bfloat16().float()
    conv.bias.data = conv.bias.data.bfloat16().float()
    results = []
    for layer, kind in ((conv, torch.float32), (FrozenConv(conv, dtype), dtype)):
        given = x.to(kind).contiguous(memory_format=torch.channels_last).requires_grad_(True)
        answer = layer(given)
        above = torch.linspace(-1, 1, answer.numel()).reshape(answer.shape).bfloat16().to(kind)
        (gradient,) = torch.autograd.grad(answer, given, above)
        results.append((answer.detach(), gradient))
    return results


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(("channels", "case"), list(itertools.product(CHANNELS, CASES)), ids=str)
def test_a_frozen_convolution_is_torchs_own_with_its_input_gradient(channels, case, dtype):
    torch.manual_seed(1)
    kernel, stride, pads, dilation, size = case
    before, after, groups = channels
    conv = nn.Conv2d(before, after, kernel, stride, pads, dilation, groups)
    for expected, found in zip(*compared(conv, size, dtype), strict=True):
        assert found.dtype == dtype
        assert found.shape == expected.shape
        largest = float(expected.abs().max())
        torch.testing.assert_close(found.float(), expected, rtol=0, atol=TOLERANCE[dtype] * largest)


def test_a_frozen_convolution_without_bias_keeps_no_input():
    conv = nn.Conv2d(3, 4, 3, bias=False)
    x = torch.randn(1, 3, 8, 8, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        answer = FrozenConv(conv, torch.float32)(x)
    torch.testing.assert_close(answer, conv(x))
    assert not kept


class Small(nn.Module):
    """Convolutions of every kind that the copy must know, a constant, and a layer of another sort."""

    def __init__(self):
        super().__init__()
        self.plain = nn.Conv2d(3, 4, 3, padding=1)
        self.padded = nn.Sequential(nn.ZeroPad2d((0, 1, 2, 0)), nn.Conv2d(4, 4, 3, groups=2))
        self.named = nn.Conv2d(4, 4, 3, padding="same")
        self.round = nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")
        self.norm = nn.BatchNorm2d(4).eval()
        self.norm.running_mean = torch.randn(4)
        self.register_buffer("shift", torch.randn(1, 4, 1, 1))
        self.register_buffer("whole", torch.tensor([2]))

    def forward(self, x):
        maps = self.round(self.named(self.padded(F.relu(self.plain(x)))))
        return (self.norm(maps) * self.whole + self.shift,)


def state(module):
    return {name: (value.clone(), value.dtype, value.device) for name, value in module.state_dict().items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_a_copy_with_frozen_convolutions_answers_alike_and_the_module_stays(dtype):
    torch.manual_seed(2)
    module = fx.symbolic_trace(Small())
    kinds = {name: type(part) for name, part in module.named_modules()}
    before = state(module)
    frozen = with_frozen_convolutions(module, dtype)
    x = torch.randn(2, 3, 9, 8)
    expected, found = module(x)[0], frozen(x.to(dtype))[0]
    frozen.to("meta")  # as a move to another device would: in place, wherever parts are shared

    torch.testing.assert_close(
        found.float(), expected, rtol=0, atol=TOLERANCE[dtype] * float(expected.detach().abs().max())
    )
    assert sum(isinstance(part, FrozenConv) for part in frozen.modules()) == 2
    assert {name: type(part) for name, part in module.named_modules()} == kinds
    assert state(module).keys() == before.keys()
    for name, (value, kind, device) in state(module).items():
        assert (kind, device) == before[name][1:], name
        torch.testing.assert_close(value, before[name][0], rtol=0, atol=0)
    assert not any(part.training for part in (frozen.norm, module.norm))


class Low:
    """precision() of a machine with bfloat16, whatever this one has."""

    def __init__(self, monkeypatch):
        monkeypatch.setattr(precisions, "precision", lambda _device: torch.bfloat16)


def traced(forward, conv=None):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = conv or nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return (forward(self.conv(x)),)

    return fx.symbolic_trace(Net())


def chosen(module, exact=False):
    torch.manual_seed(3)
    return cut_for_gradients(module, torch.randn(1, 3, 8, 8), CPU, exact)


def test_a_network_that_takes_bfloat16_gets_it(monkeypatch):
    Low(monkeypatch)
    module, dtype = chosen(traced(torch.relu))

    assert dtype == torch.bfloat16
    assert module(torch.randn(1, 3, 8, 8).to(dtype))[0].dtype == torch.bfloat16


def test_a_network_of_dense_layers_alone_gets_it_too(monkeypatch):
    Low(monkeypatch)
    _, dtype = chosen(traced(torch.relu, nn.Linear(8, 5)))

    assert dtype == torch.bfloat16


def test_exact_is_float32_on_any_machine(monkeypatch):
    Low(monkeypatch)
    _, dtype = chosen(traced(torch.relu), exact=True)

    assert dtype == torch.float32


@fx.wrap
def float_only(x):
    """An operator that refuses bfloat16."""
    if x.dtype != torch.float32:
        raise NotImplementedError("not for bfloat16")
    return x * 2


@fx.wrap
def mixing(x):
    """A matrix product of two types, which torch refuses."""
    return torch.matmul(x, torch.ones(6, 6))


def coarse(x):
    """Steep where float32 tells two numbers apart and bfloat16 does not: a gradient of rounding errors alone."""
    return torch.sin((x + 1000.0) * 3000.0)


@pytest.mark.parametrize(
    "forward", [lambda x: float_only(x), lambda x: mixing(x), coarse], ids=["float only", "mixing", "coarse"]
)
def test_a_network_that_does_not_take_bfloat16_is_computed_in_float32(forward, monkeypatch):
    Low(monkeypatch)
    module, dtype = chosen(traced(forward))
    x = torch.randn(1, 3, 8, 8, requires_grad=True)
    (answer,) = module(x)
    (gradient,) = torch.autograd.grad(answer.sum(), x)

    assert dtype == torch.float32
    assert answer.dtype == torch.float32
    assert gradient.isfinite().all()


def test_a_network_whose_gradient_is_nothing_stays_in_float32(monkeypatch):
    Low(monkeypatch)
    _, dtype = chosen(traced(lambda x: torch.relu(x - 1e6)))

    assert dtype == torch.float32


def test_the_precision_is_that_of_the_processor(monkeypatch):
    for native in (False, True):
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
            monkeypatch.setattr(torch.cpu, name, lambda native=native: native, raising=False)
        assert precision(CPU) == (torch.bfloat16 if native else torch.float32)
    assert precision(torch.device("meta")) == torch.float32


def test_the_module_given_is_no_part_of_what_is_returned():
    module = traced(torch.relu, nn.Linear(8, 5))
    before = copy.deepcopy(module.state_dict())
    cut, _ = chosen(module, exact=True)
    with torch.no_grad():
        cut.to(torch.float64)

    assert all(value.dtype == torch.float32 for value in module.state_dict().values())
    assert before.keys() == module.state_dict().keys()
