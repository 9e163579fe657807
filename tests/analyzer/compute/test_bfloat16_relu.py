"""Gates on bits against torch's own, and against the plain form of an open gate's gradient."""

import math

import pytest
import torch
from torch import fx, nn

from filterscope.analyzer.compute.bfloat16_relu import BFloat16ReLU
from filterscope.analyzer.compute.frozen_convolutions import FrozenConv, with_frozen_convolutions
from filterscope.analyzer.compute.redirected_relu import redirected_relu, with_redirected_relus

GATES = [(nn.ReLU(), math.inf), (nn.ReLU6(), 6.0)]
SPECIAL = [0.0, -0.0, 6.0, 5.96875, 6.03125, 1e-38, -1e-38, 1e-40, -math.inf, math.inf]  # about the ends, denormal


def numbers(seed):
    """(2, 4, 5, 6) bfloat16 channels last, below, inside and above the gates, ends included."""
    torch.manual_seed(seed)
    drawn = 6 * torch.randn(2, 4, 5, 6)
    drawn.flatten()[: len(SPECIAL)] = torch.tensor(SPECIAL)
    return drawn.bfloat16().contiguous(memory_format=torch.channels_last)


def through(gate, x, above):
    """Output and input gradient."""
    given = x.clone().requires_grad_(True)
    answer = gate(given)
    (gradient,) = torch.autograd.grad(answer, given, above)
    return answer.detach(), gradient


@pytest.mark.parametrize(("gate", "ceiling"), GATES, ids=["relu", "relu6"])
def test_a_gate_on_bits_is_torchs_to_the_last_bit(gate, ceiling):
    x, above = numbers(1), numbers(2).nan_to_num(posinf=3.0, neginf=-3.0)

    for expected, found in zip(through(gate, x, above), through(BFloat16ReLU(gate), x, above), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize(("gate", "ceiling"), GATES, ids=["relu", "relu6"])
def test_an_open_gate_on_bits_passes_what_the_plain_one_does(gate, ceiling):
    x, above = (numbers(seed).nan_to_num(posinf=3.0, neginf=-3.0) for seed in (3, 4))
    expected = through(lambda given: redirected_relu(given, ceiling), x, above)
    bit_gate = BFloat16ReLU(gate)

    found = through(lambda given: bit_gate(given, redirected=True), x, above)

    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1], rtol=1 / 128, atol=0)
    assert not torch.equal(found[1], through(gate, x, above)[1])


def test_a_gate_leaves_its_input_alone():
    x = numbers(5)
    before = x.clone()

    BFloat16ReLU(nn.ReLU())(x)

    assert torch.equal(x, before)


class Net(nn.Module):
    """A gate behind a convolution of its own, one behind a convolution that others read too, and one behind a sum."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.low, self.high, self.last = nn.ReLU(), nn.ReLU6(), nn.ReLU()

    def forward(self, x):
        read_twice = self.second(self.low(self.first(x)))
        return (self.third(self.last(self.high(read_twice) + read_twice)),)


def test_a_gate_joins_the_convolution_that_it_alone_reads():
    torch.manual_seed(6)
    net = Net()
    frozen = with_frozen_convolutions(fx.symbolic_trace(net), torch.bfloat16, bfloat16_relus=True)
    x, above = 3 * torch.rand(2, 3, 8, 8), torch.randn(2, 3, 8, 8)

    expected = through(lambda given: net(given)[0], x, above)
    found = through(lambda given: frozen(given)[0], x.bfloat16(), above.bfloat16())

    assert [type(part) for part in frozen.children()] == [
        FrozenConv,
        FrozenConv,
        BFloat16ReLU,
        BFloat16ReLU,
        FrozenConv,
    ]
    assert isinstance(frozen.first.relu, BFloat16ReLU)
    assert frozen.second.relu is None
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other.float(), one, rtol=0, atol=0.05 * float(one.abs().max()))


def test_open_gates_open_those_that_joined_too():
    torch.manual_seed(7)
    net = Net()
    nn.init.constant_(net.first.bias, -100.0)  # every gate behind it is closed
    net.second.bias.data.fill_(1.0)
    module = fx.symbolic_trace(net)
    frozen = with_frozen_convolutions(module, torch.bfloat16, bfloat16_relus=True)
    x, above = torch.rand(1, 3, 8, 8), torch.randn(1, 3, 8, 8)

    shut = through(lambda given: frozen(given)[0], x.bfloat16(), above.bfloat16())[1]
    opened = through(lambda given: with_redirected_relus(frozen)(given)[0], x.bfloat16(), above.bfloat16())[1]
    expected = through(lambda given: with_redirected_relus(module)(given)[0], x, above)[1]

    assert not shut.any()
    torch.testing.assert_close(opened.float(), expected, rtol=0, atol=0.05 * float(expected.abs().max()))
