"""Steps against plain references: torch's own Adam and NAdam, and the formulas of the others in numpy."""

import numpy as np
import pytest
import torch

from filterscope.analyzer.maximize.optimisers import BETA1, BETA2, Adam, NormalisedGradient, PlainGradient, optimiser
from filterscope.analyzer.maximize.presets import OPTIMISERS
from support.networks import normal

SHAPE = (3, 2, 5, 4)
RATES = (0.1, 0.08, 0.05, 0.05, 0.01)
SCALES = 10.0 ** torch.arange(-1, 2).reshape(3, 1, 1, 1)


def gradient(seed):
    """Of three pictures, a hundredfold apart; no number so near 0 that the spread's relative floor would show."""
    numbers = torch.tensor(normal(*SHAPE, seed=seed))
    return (numbers + 0.1 * numbers.sign()) * SCALES


GRADIENTS = [gradient(seed) for seed in range(5)]


def walked(name, gradients, rates=RATES):
    """Where values that begin at 0 stand after some steps."""
    values = torch.zeros_like(gradients[0])
    made = optimiser(name, values)
    for gradient, rate in zip(gradients, rates, strict=True):
        values = values + made.step(gradient.clone(), rate)
    return values


def test_adam_is_torchs():
    values = torch.zeros(SHAPE, requires_grad=True)
    reference = torch.optim.Adam([values], betas=(BETA1, BETA2), eps=1e-12, maximize=True)
    for gradient, rate in zip(GRADIENTS, RATES, strict=True):
        reference.param_groups[0]["lr"] = rate
        values.grad = gradient.clone()
        reference.step()

    torch.testing.assert_close(walked("adam", GRADIENTS), values.detach(), rtol=1e-4, atol=1e-5)


def test_nadam_is_torchs_with_a_momentum_that_is_there_from_the_start():
    values = torch.zeros(SHAPE, requires_grad=True)
    # momentum_decay: of torch's warming up, over before the first step
    reference = torch.optim.NAdam([values], betas=(BETA1, BETA2), eps=1e-12, momentum_decay=1e6, maximize=True)
    for gradient, rate in zip(GRADIENTS, RATES, strict=True):
        reference.param_groups[0]["lr"] = rate
        values.grad = gradient.clone()
        reference.step()

    torch.testing.assert_close(walked("nadam", GRADIENTS), values.detach(), rtol=1e-4, atol=1e-5)


def test_a_normalised_step_has_the_rate_for_root_mean_square():
    expected = np.zeros(SHAPE)
    for gradient, rate in zip(GRADIENTS, RATES, strict=True):
        array = gradient.numpy().astype(np.float64)
        expected += rate * array / np.sqrt((array**2).mean(axis=(1, 2, 3), keepdims=True))

    np.testing.assert_allclose(walked("normalised", GRADIENTS).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_a_plain_step_is_the_gradient_times_the_rate():
    expected = sum(rate * gradient.numpy() for gradient, rate in zip(GRADIENTS, RATES, strict=True))

    np.testing.assert_allclose(walked("sgd", GRADIENTS).numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_pictures_do_not_see_each_other(name):
    together = walked(name, GRADIENTS)
    for place in range(SHAPE[0]):
        alone = walked(name, [gradient[place : place + 1] for gradient in GRADIENTS])
        torch.testing.assert_close(together[place : place + 1], alone, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_pictures_that_stay_go_on_as_if_none_had_left(name):
    kept = torch.tensor([True, False, True])
    made = optimiser(name, GRADIENTS[0])
    moves = []
    for step, (gradient, rate) in enumerate(zip(GRADIENTS, RATES, strict=True)):
        if step == 2:
            made.keep(kept)
        moves.append(made.step((gradient if step < 2 else gradient[kept]).clone(), rate))
    whole = walked(name, GRADIENTS)

    torch.testing.assert_close(sum(move[kept] if len(move) == 3 else move for move in moves), whole[kept])


@pytest.mark.parametrize("name", ["adam", "pooled", "nadam", "normalised"])
def test_a_faint_gradient_moves_as_far_as_a_strong_one(name):
    strong = walked(name, GRADIENTS)
    faint = walked(name, [gradient * 1e-3 for gradient in GRADIENTS])

    torch.testing.assert_close(faint, strong, rtol=0.02, atol=2e-3)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_no_gradient_is_no_step(name):
    assert not walked(name, [torch.zeros(SHAPE)] * 5).any()


def test_a_pooled_first_step_is_long_where_the_gradient_is_large():
    gradient = GRADIENTS[0]
    array = gradient.numpy().astype(np.float64)
    size = np.sqrt((array**2).mean(axis=(1, 2, 3), keepdims=True))
    expected = np.sign(array) * (np.abs(array) / size) ** 0.25

    moved = optimiser("pooled", gradient).step(gradient.clone(), 1.0)

    np.testing.assert_allclose(moved.numpy(), expected, rtol=1e-3, atol=1e-3)


def test_names_are_those_of_the_presets():
    kinds = {name: type(optimiser(name, GRADIENTS[0])) for name in OPTIMISERS}

    assert kinds == {
        "adam": Adam,
        "pooled": Adam,
        "nadam": Adam,
        "normalised": NormalisedGradient,
        "sgd": PlainGradient,
    }
