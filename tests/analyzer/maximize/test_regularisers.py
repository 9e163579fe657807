"""Penalties and operations: against numpy and scipy, and what each leaves alone."""

import math

import numpy as np
import pytest
import torch

from filterscope.analyzer.maximize.regularisers import (
    L2,
    Blur,
    ClipSmallContribution,
    ClipSmallNorm,
    Decay,
    Lp,
    TotalVariation,
    blurring,
)
from filterscope.converters.errors import SettingsError

PENALTIES = [L2(1.0), Lp(1.0), Lp(1.0, 1.0), TotalVariation(1.0)]
OPERATIONS = [Decay(0.1), Blur(1.0), ClipSmallNorm(30.0), ClipSmallContribution(30.0)]
SIZES = [(7, 9), (8, 8), (1, 4), (2, 2), (1, 1)]


def pictures(bands=3, size=(7, 9), batch=2):
    return torch.rand((batch, bands, *size), generator=torch.Generator().manual_seed(0))


def slopes(like):
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("one", PENALTIES, ids=str)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bands", [1, 3, 5])
def test_a_penalty_is_one_number_a_picture_and_its_gradient_finite(one, bands, size):
    x = pictures(bands, size).requires_grad_()
    values = one.penalty(x)
    (gradient,) = torch.autograd.grad(values.sum(), x)

    assert values.shape == (2,)
    assert (values.detach() >= 0).all()
    assert torch.isfinite(gradient).all()
    torch.testing.assert_close(one.penalty(x.detach()[1:]), values.detach()[1:])
    assert float(one.penalty(torch.full((1, bands, *size), 0.5))) == 0.0


def test_penalties_are_what_numpy_makes_of_their_formulas():
    x = pictures().double()
    u = x.numpy()

    np.testing.assert_allclose(L2(2.0).penalty(x), 2 * ((u - 0.5) ** 2).mean(axis=(1, 2, 3)))
    np.testing.assert_allclose(Lp(3.0, 4.0, 0.1).penalty(x), 3 * ((u - 0.1) ** 4).mean(axis=(1, 2, 3)))
    varied = sum(np.abs(np.diff(u, axis=axis)).sum(axis=(1, 2, 3)) for axis in (2, 3)) / u[0].size
    np.testing.assert_allclose(TotalVariation(1.0).penalty(x), varied)
    assert float(TotalVariation(1.0).penalty(torch.full((1, 3, 4, 4), 0.9))) == 0.0


@pytest.mark.parametrize("one", OPERATIONS, ids=str)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bands", [1, 3, 5])
def test_an_operation_keeps_shape_and_domain_and_knows_each_picture_alone(one, bands, size):
    x = pictures(bands, size, 3)
    g = slopes(x)
    changed = one.apply(x, g, 0)

    assert changed.shape == x.shape
    assert float(changed.min()) >= 0.0
    assert float(changed.max()) <= 1.0 + 1e-6
    torch.testing.assert_close(one.apply(x[1:2], g[1:2], 0), changed[1:2])
    assert torch.equal(x, pictures(bands, size, 3))  # what was given is left as it was


def test_decay_goes_a_part_of_the_way_to_the_centre():
    x = pictures()

    torch.testing.assert_close(Decay(0.25, 0.3).apply(x, x, 0), 0.75 * x + 0.25 * 0.3)
    torch.testing.assert_close(Decay(1.0).apply(x, x, 0), torch.full_like(x, 0.5))
    torch.testing.assert_close(Decay(0.0).apply(x, x, 0), x)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("size", [(7, 9), (20, 31), (2, 5), (1, 3)])
def test_a_blur_is_scipys(sigma, size):
    ndimage = pytest.importorskip("scipy.ndimage")
    x = pictures(size=size).double()
    expected = ndimage.gaussian_filter(x.numpy(), (0, 0, sigma, sigma))

    np.testing.assert_allclose(Blur(sigma).apply(x, x, 0), expected, atol=1e-12)


def test_a_blur_keeps_flat_pictures_and_comes_every_few_steps():
    x = pictures()
    blur = Blur(1.0, every=4)

    np.testing.assert_allclose(blurring(9, 1.3).sum(axis=1), 1.0)
    torch.testing.assert_close(blur.apply(torch.full_like(x, 0.7), x, 0), torch.full_like(x, 0.7))
    assert [blur.apply(x, x, step) is x for step in range(9)] == [False, True, True, True] * 2 + [False]
    assert Blur(0.0).apply(x, x, 0) is x


@pytest.mark.parametrize("percentile", [0, 12.5, 50, 90, 100])
def test_small_norms_are_clipped_at_numpys_percentile(percentile):
    x = pictures(batch=3)
    clipped = ClipSmallNorm(percentile).apply(x, x, 0).numpy()
    for before, after in zip(x.numpy(), clipped, strict=True):
        norms = np.linalg.norm(before - 0.5, axis=0)
        small = norms < np.percentile(norms, percentile)
        assert (after[:, small] == 0.5).all()
        np.testing.assert_array_equal(after[:, ~small], before[:, ~small])
        assert small.sum() == math.ceil(percentile / 100 * (norms.size - 1))


@pytest.mark.parametrize("absolute", [True, False])
def test_small_contributions_are_clipped_and_harmful_ones_first_if_signed(absolute):
    x = pictures(batch=3)
    g = slopes(x)
    clipped = ClipSmallContribution(40, absolute=absolute).apply(x, g, 0).numpy()
    for before, slope, after in zip(x.numpy(), g.numpy(), clipped, strict=True):
        gain = (slope * (before - np.float32(0.5))).sum(axis=0)
        gain = np.abs(gain) if absolute else gain
        small = gain < np.percentile(gain, 40)
        assert (after[:, small] == 0.5).all()
        np.testing.assert_array_equal(after[:, ~small], before[:, ~small])


def test_clipping_costs_little_of_a_linear_objective():
    """What the name promises: 50 % of the pixels gone, and far more than 50 % of the value left."""
    x, g = pictures(size=(20, 20)), slopes(pictures(size=(20, 20)))
    value = ((x - 0.5) * g).sum(dim=(1, 2, 3))
    clipped = ClipSmallContribution(50, absolute=False).apply(x, g, 0)

    assert (((clipped - 0.5) * g).sum(dim=(1, 2, 3)) > value).all()


WRONG = [
    (lambda: L2(-1.0), "l2 -1.0: give 0 or more"),
    (lambda: Lp(math.nan), "lp nan: give 0 or more"),
    (lambda: Lp(1.0, 0.5), "lp power 0.5: give 1 or more"),
    (lambda: TotalVariation(-0.1), "total variation -0.1: give 0 or more"),
    (lambda: Decay(1.5), "decay 1.5: give a part from 0 to 1"),
    (lambda: Blur(-1.0), "blur -1.0: give 0 or more"),
    (lambda: Blur(1.0, 0), "blur every 0 steps: give 1 or more"),
    (lambda: ClipSmallNorm(101), "small norm percentile 101: give 0 to 100"),
    (lambda: ClipSmallNorm(-1), "small norm percentile -1: give 0 to 100"),
    (lambda: ClipSmallContribution(math.nan), "small contribution percentile nan: give 0 to 100"),
]


@pytest.mark.parametrize(("make", "line"), WRONG)
def test_a_wrong_argument_is_named_in_a_line(make, line):
    with pytest.raises(SettingsError, match=line):
        make()
