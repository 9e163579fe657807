"""How pictures are held: their range, their starts, gradients, and what a prior measures."""

import numpy as np
import pytest
import torch

from filterscope.analyzer.maximize.parameterisations import Fourier, Maco, Pixels
from filterscope.analyzer.maximize.presets import Start
from filterscope.analyzer.maximize.priors import COLOUR, FEWEST, Prior, default_prior, measured_prior, one_over_f
from filterscope.converters.errors import SettingsError

CPU = torch.device("cpu")
KINDS = [Pixels, Fourier, Maco]
SIZES = [(13, 20), (12, 9), (1, 1), (1, 4), (2, 2), (3, 5), (8, 8)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bands", [1, 3, 5])
def test_pictures_have_their_shape_and_never_leave_the_domain(kind, bands, size):
    held = kind([[0, 1], [0, 2]], (bands, *size), CPU)
    before = held.pictures()
    with torch.no_grad():
        held.values.mul_(1e4)
    held.constrain()

    for pictures in (before, held.pictures()):
        assert pictures.shape == (2, bands, *size)
        assert pictures.dtype == torch.float32
        assert torch.isfinite(pictures).all()
        assert float(pictures.detach().min()) >= 0.0
        assert float(pictures.detach().max()) <= 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_start_depends_on_its_own_seed_alone(kind):
    together = kind([[7, 0], [7, 1], [7, 2]], (3, 10, 11), CPU).pictures()
    alone = kind([[7, 1]], (3, 10, 11), CPU).pictures()
    again = kind([[7, 1]], (3, 10, 11), CPU).pictures()

    torch.testing.assert_close(together[1:2], alone, rtol=1e-6, atol=1e-6)
    assert torch.equal(alone, again)
    assert (together[0] != together[1]).any()


@pytest.mark.parametrize("kind", KINDS)
def test_some_rows_of_the_values_decode_to_the_same_pictures(kind):
    held = kind([[0], [1], [2]], (3, 9, 8), CPU)
    kept = torch.tensor([True, False, True])

    torch.testing.assert_close(held.decode(held.values[kept]), held.pictures()[kept], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(6, 8), (5, 7), (4, 5), (7, 4)])
def test_gradients_are_the_slopes_of_finite_differences(kind, size):
    """Fourier has a gradient written by hand: the oracle is a difference of values, taken in float64."""
    held = kind([[3], [4]], (3, *size), CPU)
    for name, value in list(vars(held).items()):
        if torch.is_tensor(value):
            setattr(held, name, value.detach().double())
    values = held.values.requires_grad_(True)

    assert torch.autograd.gradcheck(held.decode, (values,), atol=1e-6)


@pytest.mark.parametrize("size", [(16, 24), (15, 23), (1, 9), (8, 1)])
@pytest.mark.parametrize("bands", [1, 3, 5])
@pytest.mark.parametrize("kind", [Pixels, Fourier])
def test_a_picture_begun_from_comes_back(kind, bands, size):
    """Grey levels exactly; black and white, which a sigmoid never reaches, to within a level."""
    levels = np.random.default_rng(0).integers(1, 255, (3, bands, *size))
    pictures = torch.tensor(levels / 255.0, dtype=torch.float32)
    back = (kind.start_from(pictures).pictures().detach() * 255).round()

    np.testing.assert_array_equal(back.numpy(), levels)

    vertices = torch.tensor(np.random.default_rng(1).integers(0, 2, (3, bands, *size)), dtype=torch.float32)
    held = kind.start_from(vertices)
    assert held.values.requires_grad
    assert float((held.pictures().detach() - vertices).abs().max()) <= 1 / 255


def test_pixels_start_from_the_law_they_are_given():
    held = Pixels([[0]], (3, 40, 40), CPU, start=Start("uniform", 138 / 255, 10 / 255))
    levels = held.pictures().detach() * 255

    assert 128 <= float(levels.min()) < 129
    assert 147 < float(levels.max()) <= 148


@pytest.mark.parametrize("size", [(16, 16), (15, 16), (16, 17), (9, 7)])
def test_the_magnitudes_of_maco_stay_fixed(size):
    """Undo sigmoid and colours; the magnitudes are the prior's, up to one factor a picture, whatever the phases."""
    spectrum = np.random.default_rng(0).uniform(0.5, 2.0, (3, size[0], size[1] // 2 + 1))
    # A real picture has one magnitude for a frequency and its negative: make the whole columns so.
    for column in [0] if size[1] % 2 else [0, size[1] // 2]:
        spectrum[:, :, column] = np.maximum(
            spectrum[:, :, column], spectrum[:, (-np.arange(size[0])) % size[0], column]
        )
    held = Maco([[0], [1]], (3, *size), CPU, Prior(COLOUR, spectrum, size[1]))
    with torch.no_grad():
        held.values += 3 * torch.randn(held.values.shape, generator=torch.Generator().manual_seed(0))
    pictures = held.pictures().detach().double().numpy()
    planes = np.einsum("ck,bkhw->bchw", np.linalg.inv(COLOUR), np.log(pictures / (1 - pictures)))
    found = np.abs(np.fft.rfft2(planes))
    ratio = found / spectrum
    phased = np.ones(spectrum.shape, bool)
    rows = [0] if size[0] % 2 else [0, size[0] // 2]
    for column in [0] if size[1] % 2 else [0, size[1] // 2]:
        phased[:, rows, column] = False

    for picture in ratio:
        np.testing.assert_allclose(picture[phased], np.median(picture[phased]), rtol=2e-3)
        assert picture[~phased].max() < 1e-3 * np.median(picture[phased])
    assert np.median(ratio) > 0.1
    np.testing.assert_allclose(planes.std(axis=(1, 2, 3)), 1.0, rtol=1e-3)


def test_the_waves_of_maco_do_not_meet_in_the_corner():
    """Phases that lean to 0 would; 200 starts have a corner as grey as the rest, on average."""
    corners = Maco([[k] for k in range(200)], (1, 24, 24), CPU).pictures().detach()[:, 0, 0, 0]

    assert float(corners.mean()) == pytest.approx(0.5, abs=0.06)


def test_maco_can_climb_while_its_magnitudes_hold():
    held = Maco([[0]], (3, 16, 16), CPU)
    wanted = torch.rand((1, 3, 16, 16), generator=torch.Generator().manual_seed(1)) - 0.5
    values = []
    for _ in range(40):
        value = (held.pictures() * wanted).sum()
        (gradient,) = torch.autograd.grad(value, held.values)
        values.append(value.item())
        with torch.no_grad():
            held.values += 0.1 * gradient / gradient.abs().mean()

    assert values[-1] > values[0] + 1


def natural(rng, count, size, slope, mix):
    """Images whose planes fall as f^-slope, mixed by a matrix of colours, as 8-bit pixels."""
    frequencies = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None])
    scale = np.maximum(frequencies, 1 / max(size)) ** -slope
    scale[0, 0] = 0
    for _ in range(count):
        noise = np.fft.rfft2(rng.normal(size=(len(mix), *size)))
        planes = np.fft.irfft2(noise * scale, s=size)
        planes /= planes.std(axis=(1, 2), keepdims=True)
        picture = np.einsum("kc,chw->hwk", mix, planes)
        yield np.clip(128 + 25 * picture, 0, 255).astype(np.uint8)


def test_a_measured_prior_finds_planted_colours_and_a_planted_slope():
    rng = np.random.default_rng(0)
    size = (48, 64)
    mix = np.array([[1.0, 0.4, 0.1], [1.0, 0.0, -0.3], [0.9, -0.5, 0.2]])
    prior = measured_prior(list(natural(rng, 60, size, 1.5, mix)), (3, *size))
    planted, found = mix @ mix.T, prior.colour @ prior.colour.T

    np.testing.assert_allclose(found / np.trace(found), planted / np.trace(planted), atol=0.02)
    assert np.linalg.norm(prior.colour, axis=0).max() == pytest.approx(1.0)

    frequencies = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None])
    middle = (frequencies > 0.05) & (frequencies < 0.25)  # faster than the frame, slower than the rounding to 8 bits
    for magnitudes in prior.spectrum:
        slope = np.polyfit(np.log(frequencies[middle]), np.log(magnitudes[middle]), 1)[0]
        assert slope == pytest.approx(-1.5, abs=0.1)


def test_a_measured_prior_tells_directions_apart():
    """Stripes along the rows have their magnitudes at row frequencies, which a circular spectrum would lose."""
    rng = np.random.default_rng(0)
    images = [
        np.repeat(rng.integers(0, 256, (32, 1, 1), dtype=np.uint8), 32, axis=1).repeat(3, axis=2) for _ in range(9)
    ]
    prior = measured_prior(images, (3, 32, 32))

    assert prior.spectrum[0, 1:, 0].mean() > 5 * prior.spectrum[0, 0, 1:].mean()


@pytest.mark.parametrize("bands", [1, 2, 3, 5])
def test_images_of_any_size_make_a_prior_that_works(bands):
    rng = np.random.default_rng(0)
    sizes = [(40, 50), (9, 12), (24, 24), (100, 30), (1, 1), (24, 500)]
    images = [rng.integers(0, 256, (*size, bands), dtype=np.uint8) for size in sizes]
    prior = measured_prior(images, (bands, 24, 25))

    for kind in (Fourier, Maco):
        pictures = kind([[0]], (bands, 24, 25), CPU, prior).pictures()
        assert torch.isfinite(pictures).all()
        assert float(pictures.detach().std()) > 0


@pytest.mark.parametrize("images", ["flat", "one band flat", "grey", "all the same"])
def test_a_prior_of_poor_images_still_moves_every_band(images):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (FEWEST, 20, 20, 3), dtype=np.uint8)
    if images == "flat":
        pixels[:] = 77
    elif images == "one band flat":
        pixels[..., 1] = 77
    elif images == "grey":
        pixels[:] = pixels[..., :1]
    else:
        pixels[:] = pixels[:1]
    prior = measured_prior(list(pixels), (3, 16, 16))
    held = Fourier([[0]], (3, 16, 16), CPU, prior)
    (gradient,) = torch.autograd.grad(held.pictures()[:, 1].square().sum(), held.values)

    assert float(gradient.abs().max()) > 0
    assert np.linalg.cond(prior.colour) < 11
    assert (prior.spectrum > 0).all()
    pictures = Maco([[0]], (3, 16, 16), CPU, prior).pictures().detach()
    assert float(pictures.std(dim=(0, 2, 3)).min()) > 1e-3


def test_a_prior_fits_another_canvas_by_cycles_per_pixel():
    """What 1/f means at one size it means at another."""
    fitted = default_prior((3, 64, 64)).fitted((32, 31))
    wanted = one_over_f((32, 31))

    assert fitted.spectrum.shape == (3, 32, 16)
    np.testing.assert_allclose(fitted.spectrum[1, 2:15, 2:], wanted[2:15, 2:], rtol=0.03)
    assert default_prior((3, 64, 64)).fitted((64, 64)).spectrum.shape == (3, 64, 33)


def test_what_a_prior_cannot_be_made_of_is_said_in_a_line():
    images = [np.zeros((8, 8, 3), np.uint8)] * 4
    with pytest.raises(SettingsError, match="prior: 4 images to measure; give at least 5"):
        measured_prior(images, (3, 8, 8))
    with pytest.raises(SettingsError, match=r"prior: image 4 is uint8 \(8, 8, 1\); give uint8 pictures \(h, w, 3\)"):
        measured_prior([*images, np.zeros((8, 8, 1), np.uint8)], (3, 8, 8))
    with pytest.raises(SettingsError, match="image 4 is float64"):
        measured_prior([*images, np.zeros((8, 8, 3))], (3, 8, 8))
    with pytest.raises(SettingsError, match="spectrum"):
        Prior(np.eye(3), np.ones((3, 8, 4)), 8)
    with pytest.raises(SettingsError, match="not negative"):
        Prior(np.eye(3), -np.ones((3, 8, 5)), 8)
    with pytest.raises(SettingsError, match="start log: give normal or uniform"):
        Start("log", 0.0, 1.0)
    with pytest.raises(SettingsError, match="start spread -1"):
        Start("normal", 0.0, -1.0)


@pytest.mark.parametrize("kind", [Fourier, Maco])
def test_a_prior_of_other_pictures_is_refused(kind):
    with pytest.raises(ValueError, match=r"prior: .* pictures of (shape \(3, 8, 8\)|3)$"):
        kind([[0]], (3, 8, 8), torch.device("cpu"), prior=default_prior((1, 16, 16)))


def test_a_longest_wave_makes_a_larger_picture_of_the_same_numbers():
    """The small picture's magnitude at each of its frequencies; that of its mean at all lower ones."""
    small, large = one_over_f((32, 32), 1.25), one_over_f((128, 128), 1.25, longest=32)

    np.testing.assert_allclose(large[::4, ::4][:16], small[:16], rtol=1e-12)
    assert (large[:4, :4][np.hypot(*np.mgrid[:4, :4]) <= 4] == small[0, 0]).all()
    assert np.array_equal(one_over_f((32, 31), 1.25, longest=64), one_over_f((32, 31), 1.25))
