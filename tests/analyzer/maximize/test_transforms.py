"""Random movements: what each does to sizes and values, and that one draw serves every batch."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from filterscope.analyzer.maximize.resample import framed, resampled
from filterscope.analyzer.maximize.transforms import Crop, Jitter, Move, Pad, Rotate, Scale, Window, fitted
from filterscope.converters.errors import SettingsError

EACH = [
    Pad(0.1),
    Pad(0.1, None),
    Jitter(0.2),
    Jitter(pixels=2),
    Scale(0.8, 1.2),
    Scale(choices=(0.9, 1.1)),
    Rotate(-10, 10),
    Rotate(choices=(-5, 5)),
    Crop(0.4, 0.9),
    Crop(0.4, 0.9, count=3),
    Crop(0.4, 0.9, even=True),
    Move(0.06, 6.0, 0.06),
    Window(0.1),
]
SIZES = [(24, 32), (8, 8), (5, 3), (2, 2), (1, 4), (1, 1)]


def rng():
    return np.random.default_rng(4)


def ramp(height, width):
    """Columns 0, 1, 2, … as levels."""
    return torch.arange(width, dtype=torch.float32).expand(1, 1, height, width)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bands", [1, 3, 5])
@pytest.mark.parametrize("one", EACH, ids=str)
def test_moved_pictures_stay_in_the_domain_and_gradients_flow(one, bands, size):
    x = torch.rand(2, bands, *size).requires_grad_()
    moved = one(x, rng())
    (gradient,) = torch.autograd.grad(moved.sum(), x)
    back = fitted([one], 10)(x, 0, 3)

    assert moved.shape[1] == bands
    assert min(moved.shape) >= 1
    assert float(moved.detach().min()) >= 0.0
    assert float(moved.detach().max()) <= 1.0 + 1e-6
    assert torch.isfinite(gradient).all()
    assert float(gradient.abs().max()) > 0
    assert back.shape == (len(x) * fitted([one]).copies, bands, *size)


@pytest.mark.parametrize("one", EACH, ids=str)
def test_a_draw_depends_on_seed_and_step_and_never_on_the_batch(one):
    x = torch.rand(4, 3, 20, 28)
    move = fitted([one, Jitter(0.1)], 10)
    together = move(x, 3, 5).reshape(move.copies, 4, 3, 20, 28)
    alone = move(x[2:3], 3, 5).reshape(move.copies, 1, 3, 20, 28)
    later = [move(x, seed, step) for seed, step in [(3, 6), (3, 7), (4, 5), (4, 8), (3, 9), (5, 1)]]

    torch.testing.assert_close(together[:, 2:3], alone, rtol=1e-6, atol=1e-6)
    assert torch.equal(move(x, 3, 5), move(x, 3, 5))
    assert any((other != together.reshape(other.shape)).any() for other in later)


@pytest.mark.parametrize("old", [(9, 12), (16, 16), (1, 7), (7, 1), (1, 1), (2, 3)])
@pytest.mark.parametrize("new", [(9, 12), (5, 20), (1, 1)])
@pytest.mark.parametrize("last", [False, True])
def test_resampling_is_what_grid_sample_does_and_so_is_its_gradient(old, new, last):
    matrix, shift = ((0.95, 0.2), (-0.15, 1.1)), (0.7, -1.3)
    x = torch.rand(2, 3, *old)
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    down = torch.arange(new[0]) - (new[0] - 1) / 2
    right = torch.arange(new[1]) - (new[1] - 1) / 2
    y, z = torch.meshgrid(down, right, indexing="ij")
    at_y = 0.95 * y + 0.2 * z + 0.7
    at_x = -0.15 * y + 1.1 * z - 1.3
    grid = torch.stack([2 * at_x / old[1], 2 * at_y / old[0]], dim=-1).expand(2, *new, 2)
    expected = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    found = resampled(x, new, matrix, shift)
    weights = torch.rand(expected.shape)

    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        torch.autograd.grad((found * weights).sum(), x), torch.autograd.grad((expected * weights).sum(), x),
        rtol=1e-4, atol=1e-5,
    )  # fmt: skip


def test_without_sparse_matrices_the_same_is_found(monkeypatch):
    """The road that a GPU takes, and a processor without MKL."""
    x = torch.rand(2, 3, 10, 15)
    matrix = ((0.9, 0.3), (-0.2, 1.2))
    sparse = resampled(x, (8, 17), matrix, (1.5, -0.4))
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)

    torch.testing.assert_close(resampled(x, (8, 17), matrix, (1.5, -0.4)), sparse, rtol=1e-4, atol=1e-5)


def test_a_scaled_picture_is_torchs_own_resized_one():
    x = torch.rand(2, 3, 12, 18)
    expected = F.interpolate(x, (15, 22), mode="bilinear", align_corners=False)

    torch.testing.assert_close(Scale(1.25, 1.25)(x, rng())[..., :22], expected[..., :22], rtol=1e-4, atol=1e-5)


def test_a_quarter_turn_of_a_square_is_a_quarter_turn():
    x = torch.rand(1, 2, 9, 9)
    turned = Rotate(90, 90)(x, rng())
    either = [torch.rot90(x, k, (2, 3)) for k in (1, 3)]

    assert min(float((turned - other).abs().max()) for other in either) < 1e-5


def test_a_move_shifts_by_at_most_its_part():
    x = ramp(20, 50)
    shifts = [float((Move(0.1, 0.0, 0.0)(x, np.random.default_rng(k)) - x)[0, 0, 10, 25]) for k in range(200)]

    assert -5 <= min(shifts) < -4.5
    assert 4.5 < max(shifts) <= 5


def test_a_jitter_is_a_window_at_any_of_its_places():
    x = ramp(3, 10)
    windows = [Jitter(pixels=2)(x, np.random.default_rng(k)) for k in range(40)]

    assert {tuple(w.shape[2:]) for w in windows} == {(1, 8)}
    assert {float(w[0, 0, 0, 0]) for w in windows} == {0.0, 1.0, 2.0}


def test_padding_has_its_level_or_repeats_the_edge():
    x = torch.ones(1, 1, 10, 20)

    assert Pad(0.1, 0.5)(x, rng()).shape == (1, 1, 12, 24)
    assert float(Pad(0.1, 0.5)(x, rng())[0, 0, 0, 0]) == 0.5
    assert float(Pad(0.1, None)(x, rng()).min()) == 1.0
    assert Pad(0.01)(x, rng()) is x


def test_crops_shrink_as_the_ascent_goes_on_and_are_brought_back():
    x = ramp(64, 64)
    widths = [
        float(np.mean([float(c.max() - c.min()) for c in Crop(0.3, 0.9, count=20)(x, rng(), progress)]))
        for progress in (0.0, 0.5, 1.0)
    ]

    assert widths == pytest.approx([0.9 * 64, 0.6 * 64, 0.3 * 64], abs=3)
    assert Crop(0.3, 0.9, count=5)(x, rng()).shape == (5, 1, 64, 64)


def test_even_crops_touch_each_border_as_often_as_neither():
    crops = Crop(0.5, 0.5, count=600, even=True)(ramp(64, 64), rng())
    first, last = crops[:, 0, 0, 0], crops[:, 0, 0, -1]
    at_left, at_right = float((first < 0.5).float().mean()), float((last > 62.5).float().mean())
    assert (at_left, at_right) == pytest.approx((1 / 3, 1 / 3), abs=0.06)
    about_the_middle = Crop(0.5, 0.5, count=600)(ramp(64, 64), rng())
    assert float((about_the_middle[:, 0, 0, 0] < 0.5).float().mean()) < 0.1


def test_noise_of_crops_has_its_spread_and_is_the_same_for_the_whole_batch():
    x = torch.full((2, 3, 64, 64), 0.5)
    crops = Crop(1.0, 1.0, count=2, noise=0.1)(x, rng())

    assert float(crops.std()) == pytest.approx(0.1 * math.sqrt(1 + 1 / 12), rel=0.05)
    assert torch.equal(crops[0], crops[1])
    assert (crops[0] != crops[2]).any()


def test_a_frame_takes_the_centre_or_repeats_the_edge():
    x = ramp(4, 6)

    assert framed(x, (4, 6)) is x
    assert framed(x, (2, 2))[0, 0, 0].tolist() == [2.0, 3.0]
    assert framed(x, (6, 9))[0, 0, 0].tolist() == [0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 5.0, 5.0]
    assert framed(x, (8, 4)).shape == (1, 1, 8, 4)


def test_no_transforms_and_no_strength_are_the_identity():
    x = torch.rand(2, 3, 10, 14)

    assert fitted([])(x, 0, 5) is x
    assert fitted([Move(0.0, 0.0, 0.0)])(x, 0, 5) is x
    torch.testing.assert_close(fitted([Move(0.0, 0.0, 1e-9)])(x, 0, 5), x, rtol=1e-4, atol=1e-4)


WRONG = [
    (lambda: Pad(-0.1), "pad -0.1: give 0 or more"),
    (lambda: Jitter(-0.1), "jitter -0.1: give 0 or more"),
    (lambda: Jitter(pixels=-1), "jitter -1: give 0 or more"),
    (lambda: Scale(0.0, 1.0), "scale 0.0: give factors above 0"),
    (lambda: Scale(1.2, 0.8), "scale 1.2 to 0.8: give the lower bound first"),
    (lambda: Scale(choices=(1.0, -1.0)), "scale -1.0: give factors above 0"),
    (lambda: Rotate(5, -5), "rotate 5 to -5: give the lower bound first"),
    (lambda: Rotate(choices=(math.nan,)), "rotate: give finite degrees"),
    (lambda: Crop(0.0, 0.5), "crop 0.0 to 0.5: give parts of the side"),
    (lambda: Crop(0.5, 1.5), "crop 0.5 to 1.5: give parts of the side"),
    (lambda: Crop(0.5, 1.0, count=0), "crop count 0: give 1 or more"),
    (lambda: Crop(0.5, 1.0, noise=-1.0), "crop noise -1.0: give 0 or more"),
    (lambda: Move(-0.1, 0.0, 0.0), "jitter -0.1: give 0 or more"),
    (lambda: Move(0.0, math.inf, 0.0), "rotation inf: give 0 or more"),
    (lambda: Move(0.0, 0.0, 1.0), "scaling 1.0: give 0 or more, below 1"),
]


@pytest.mark.parametrize(("make", "line"), WRONG)
def test_a_wrong_argument_is_named_in_a_line(make, line):
    with pytest.raises(SettingsError, match=line):
        make()


def test_a_window_is_seen_at_its_own_size_and_in_all_places():
    x = ramp(160, 256).requires_grad_()
    sequence = fitted([Window(0.1)])
    windows = [sequence(x, 0, step) for step in range(60)]
    steps = [float((one[0, 0, 0, -1] - one[0, 0, 0, 0]).detach()) / 223 for one in windows]
    lefts = [round(float(one[0, 0, 0, 0].detach())) for one in windows]
    gradient = sum(torch.autograd.grad(one.sum(), x)[0] for one in windows)

    assert {one.shape for one in windows} == {(1, 1, 128, 224)}
    assert sequence.seen((160, 256)) == (128, 224)
    assert 0.89 < min(steps) < 0.95 < 1.05 < max(steps) < 1.12
    assert min(lefts) == 0
    assert max(lefts) > 20
    assert float(gradient.min()) > 0


def test_a_small_picture_is_seen_whole_and_a_window_can_be_brought_back():
    small, large = torch.rand(1, 3, 127, 300), torch.rand(1, 3, 160, 160)
    whole = replace(fitted([Window(0.0)]), whole=True)
    moved = whole(large, 0, 1)

    assert torch.equal(fitted([Window(0.0)])(small, 0, 1), small)
    assert moved.shape == large.shape
    assert torch.equal(moved[:, :, 0], moved[:, :, 15])  # edges repeated


def test_a_window_is_checked():
    for changed in ({"zoom": 1.0}, {"zoom": -0.1}, {"zoom": 0.1, "noise": -1.0}):
        with pytest.raises(SettingsError, match="window"):
            Window(**changed)
