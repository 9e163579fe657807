"""Presets: the published numbers, and that each recipe runs on any canvas."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from filterscope.analyzer.maximize.parameterisations import Fourier, Maco, Pixels
from filterscope.analyzer.maximize.presets import PRESETS, QUALITIES, Recipe, Start, preset_named, quality_named
from filterscope.analyzer.maximize.regularisers import L2
from filterscope.analyzer.maximize.transforms import Jitter, Pad, fitted
from filterscope.converters.errors import SettingsError
from support.paths import ROOT

KINDS = {"fourier": Fourier, "pixels": Pixels, "maco": Maco}


def climb(preset, size, bands, steps):
    """The loop of a preset as its docstring orders it, for a unit that answers to stripes near the middle.

    Pictures, and the unit's answers before and after.
    """
    held = KINDS[preset.parameters]([[0], [1]], (bands, *size), torch.device("cpu"), start=preset.start)
    rate = preset.rate or QUALITIES["draft"].rate
    move = fitted(preset.transforms, steps)
    optimiser = {"adam": torch.optim.Adam, "nadam": torch.optim.NAdam}.get(preset.optimiser)
    optimiser = optimiser([held.values], lr=rate, maximize=optimiser is torch.optim.Adam) if optimiser else None
    stripes = torch.cos(torch.arange(8) * torch.pi / 4).repeat(8, 1)[None, None]

    def objective(pictures):
        maps = F.conv2d(pictures.mean(dim=1, keepdim=True), stripes, padding=4)
        tall, wide = (side // 3 for side in maps.shape[2:])
        maps = maps[:, :, tall : maps.shape[2] - tall, wide : maps.shape[3] - wide]
        return 1000 * maps.relu().square().mean(dim=(1, 2, 3))  # large gradients, as Yosinski's rate takes them

    before = objective(held.pictures().detach())
    for step in range(steps):
        pictures = held.pictures()
        moved = move(pictures, 0, step)
        values = objective(moved).reshape(move.copies, 2).mean(dim=0)
        values = values - sum(penalty.penalty(pictures) for penalty in preset.penalties)
        (gradient,) = torch.autograd.grad(values.sum(), held.values)
        assert torch.isfinite(gradient).all()
        with torch.no_grad():
            if optimiser is not None:
                held.values.grad = gradient if preset.optimiser == "adam" else -gradient
                optimiser.step()
            elif preset.optimiser == "normalised":
                held.values += rate * gradient / (gradient.square().mean(dim=(1, 2, 3), keepdim=True).sqrt() + 1e-5)
            else:
                held.values += rate * gradient
            for operation in preset.operations:
                held.values.copy_(operation.apply(held.values, gradient, step))
        if preset.boxed:
            held.constrain()
    return held.pictures().detach(), before, objective(held.pictures().detach())


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("bands", [1, 3, 5])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 8), (28, 28)])
def test_every_preset_runs_on_every_canvas(name, bands, size):
    preset = preset_named(name)
    pictures, _, _ = climb(preset, size, bands, 3)

    assert pictures.shape == (2, bands, *size)
    assert torch.isfinite(pictures).all()
    if preset.boxed:
        assert float(pictures.min()) >= 0.0
        assert float(pictures.max()) <= 1.0


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_climbs(name):
    """Among them MACO, which can bring its stripes to the middle and not make them stronger."""
    _, before, after = climb(preset_named(name), (32, 32), 3, 40)

    assert (after > 4 * before).all()


def test_the_published_numbers_are_the_published_ones():
    distill, maco, yosinski = (preset_named(name) for name in ("distill", "maco", "yosinski"))
    sizes = []
    x = torch.zeros(1, 3, 128, 128)
    rng = np.random.default_rng(0)
    for one in distill.transforms:
        if isinstance(one, (Pad, Jitter)):
            x = one(x, rng)
            sizes.append(x.shape[2])

    assert sizes == [152, 144, 140]  # Lucid: 12 padded on each side, 8 and then 4 jittered
    assert distill.transforms[2].choices == pytest.approx([0.90 + 0.02 * k for k in range(11)])
    assert sorted(distill.transforms[3].choices) == sorted([*range(-10, 11), 0, 0, 0, 0, 0])
    assert (distill.rate, distill.steps) == (0.05, 512)
    assert (maco.rate, maco.steps, maco.transforms[0].noise * 2) == (1.0, 256, 0.08)
    assert [yosinski.operations[0].part, yosinski.operations[1].sigma, yosinski.operations[1].every] == [0.0001, 1.0, 4]
    levels = preset_named("notebook-2018").start.draw(rng, (1000,)) * 255
    assert 128 <= levels.min() < 129
    assert 147 < levels.max() <= 148


def test_a_fitted_preset_steps_as_on_a_picture_of_its_field():
    """Whatever the canvas is; the field of a whole image leaves the canvas's own spectrum."""
    recipe = Recipe.named("strong", "standard")

    assert recipe.longest_wave((224, 224), (11, 11)) == 64
    assert recipe.longest_wave((224, 192), (171, 171)) == 171
    assert recipe.longest_wave((224, 192), (491, 491)) == 192
    assert recipe.longest_wave((224, 224), None) is None
    assert recipe.on("channel", 96).rate == recipe.rate
    assert recipe.on("channel", 64).rate > recipe.rate > recipe.on("channel", 224).rate
    assert Recipe.named("filterscope", "standard").longest_wave((224, 224), (11, 11)) is None
    assert recipe.on("channel", 64, 8).preset.exponent == recipe.preset.exponent
    steep = recipe.on("channel", 64, 7)
    assert steep.preset.exponent > recipe.preset.exponent
    assert steep.rate > recipe.on("channel", 64, 8).rate


def test_presets_are_named_once_and_say_where_they_come_from():
    for name, preset in PRESETS.items():
        assert preset.name == name
        assert preset.about
        assert any(word in preset.source for word in ("doi:", "arXiv:", "blog"))
        assert hash(preset) == hash(replace(preset))
    assert str(Start("normal", 0.5, 0.01)) == "normal, 0.5 ± 0.01"


def test_what_is_not_a_preset_is_said_in_a_line():
    with pytest.raises(SettingsError, match="`preset=lucid`: give one of filterscope, strong, notebook-2018, paper"):
        preset_named("lucid")
    with pytest.raises(SettingsError, match="`quality=best`: give one of draft, standard, fine"):
        quality_named("best")
    for changed, line in [
        ({"parameters": "wavelets"}, "preset maco: parameters wavelets; give one of fourier, pixels, maco"),
        ({"optimiser": "lbfgs"}, "preset maco: optimiser lbfgs; give one of adam"),
        ({"rate": 0.0}, "preset maco: rate 0.0; give more than 0"),
        ({"steps": -1}, "preset maco: steps -1; give more than 0"),
    ]:
        with pytest.raises(SettingsError, match=line):
            replace(preset_named("maco"), **changed)


def test_a_plan_that_names_presets_does_not_load_torch():
    script = "import sys, filterscope.analyzer.maximize.presets; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)

    assert run.stdout.strip() == "False"


def test_what_restrains_a_picture_restrains_a_neurons_too():
    """The default holds neurons and small pictures as pixels; the user's penalties go with them."""
    restrained = replace(preset_named("filterscope"), penalties=(L2(3.0),))
    recipe = Recipe(restrained, quality_named("draft"))

    for canvas, side in (("neuron", 40), ("channel", 6)):
        found = recipe.on(canvas, side).preset
        assert (found.parameters, found.penalties) == ("pixels", (L2(3.0),))
    assert recipe.on("channel", 6).preset.transforms == restrained.transforms
    assert recipe.on("neuron", 6).preset.transforms == ()


def test_steps_of_the_users_own_hold_for_pictures_that_begin_at_a_photo_too():
    """Also where they are as many as the quality's own."""
    standard = Recipe.named()
    assert standard.accentuation.steps == 24
    assert Recipe.named(steps=standard.steps).accentuation.steps == standard.steps
