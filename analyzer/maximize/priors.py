"""Statistics of natural images, without any network: how their colours correlate, and their spectrum.

Of pictures u in [0, 1], RGB order where there are three bands. Knows numpy; knows nothing of networks or of ascents.

Sources: Olah, Mordvintsev & Schubert 2017, "Feature Visualization", doi:10.23915/distill.00007, section Preconditioning
(the colour matrix of ImageNet); Field 1987, "Relations between the statistics of natural images and the response
properties of cortical cells" (amplitudes fall as 1/f); Fel et al. 2023, arXiv:2306.06805 (magnitudes of one's own
images).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from filterscope.converters.errors import SettingsError

# Square root of the colour correlation of ImageNet: rows R, G, B; divided by its largest column norm.
COLOUR = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
COLOUR /= np.linalg.norm(COLOUR, axis=0).max()
FEWEST = 5  # images that a prior may be measured from
WEAKEST = 0.01  # least variance of a colour axis, as a part of the largest: a band that never varies can still be moved
ADDED = 1.0  # the 1/f spectrum counts as so many images: a frequency that none of a few images has is not forbidden


@dataclass(frozen=True, slots=True, eq=False)
class Prior:
    """Statistics of natural images, for pictures of one size."""

    colour: np.ndarray  # (C, C) float: decorrelated planes to bands; its largest column norm is 1
    spectrum: np.ndarray  # (C, H, W // 2 + 1) float ≥ 0: magnitudes of the decorrelated planes, up to a common factor
    width: int  # W, which the spectrum tells only up to one

    def __post_init__(self) -> None:
        bands, columns = len(self.colour), self.width // 2 + 1
        right = self.colour.shape == (bands, bands) and self.spectrum.ndim == 3
        if not right or self.spectrum.shape[::2] != (bands, columns):
            shapes = f"{self.colour.shape} and {self.spectrum.shape}"
            raise SettingsError(f"prior: colour (C, C), spectrum (C, H, {columns}) for pictures W wide; got {shapes}")
        if not (np.isfinite(self.colour).all() and np.isfinite(self.spectrum).all() and (self.spectrum >= 0).all()):
            raise SettingsError("prior: colours are finite, magnitudes finite and not negative; measure it anew")

    def fitted(self, size: tuple[int, int]) -> Prior:
        """The same prior for pictures of another size.

        Magnitudes are read at the new frequencies, linearly in cycles per pixel: orthonormal transforms of textures
        have the same magnitude there at any size.

        Args:
            size: (H, W) of the new pictures.
        """
        old = (self.spectrum.shape[1], self.width)
        if old == size:
            return self
        rows, columns = _frequencies(old)
        down, across = _frequencies(size)
        order = np.argsort(rows)
        turned = np.apply_along_axis(lambda m: np.interp(down, rows[order], m[order]), 1, self.spectrum)
        spectrum = np.apply_along_axis(lambda m: np.interp(across, columns, m), 2, turned)
        return Prior(self.colour, spectrum, size[1])


def default_prior(shape: tuple[int, int, int]) -> Prior:
    """ImageNet's colours for three bands, uncorrelated bands for other numbers; a spectrum of 1/f.

    Args:
        shape: (C, H, W).
    """
    bands, height, width = shape
    spectrum = np.broadcast_to(one_over_f((height, width)), (bands, height, width // 2 + 1))
    return Prior(COLOUR if bands == 3 else np.eye(bands), spectrum, width)


def measured_prior(pictures: Sequence[np.ndarray], shape: tuple[int, int, int]) -> Prior:
    """Colours and spectrum of the user's images.

    Images larger than the canvas are cropped, as a receptive field sees a part of an image; smaller ones are enlarged
    until they cover it. Give them at the size at which the network sees them. The colours are the square root of the
    bands' covariance, no axis weaker than WEAKEST of the largest; the spectrum is the mean of the magnitudes, the 1/f
    spectrum counted in as one more image.

    Args:
        pictures: uint8 (h, w, C), of any sizes; read twice.
        shape: (C, H, W) of the canvas.

    Raises:
        SettingsError: fewer than FEWEST images, or one of other bands.

    Source: Fel et al. 2023, arXiv:2306.06805, section 3 (mean magnitudes of a set of images).
    """
    bands, height, width = shape
    if len(pictures) < FEWEST:
        raise SettingsError(f"prior: {len(pictures)} images to measure; give at least {FEWEST}")
    for number, picture in enumerate(pictures):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != bands or not picture.size:
            actual = f"{picture.dtype} {picture.shape}"
            raise SettingsError(f"prior: image {number} is {actual}; give uint8 pictures (h, w, {bands})")
    colour = _colours(pictures, (height, width))
    inverse = np.linalg.inv(colour)
    total = np.zeros((bands, height, width // 2 + 1))
    for picture in pictures:
        crops = list(_crops(picture, (height, width)))
        planes = (np.einsum("kc,hwc->khw", inverse, crop) for crop in crops)
        total += sum(np.abs(np.fft.rfft2(plane, norm="ortho")) for plane in planes) / len(crops)
    total[:, 0, 0] = 0.0  # the mean colour says nothing of texture, and is set last
    smooth = np.broadcast_to(one_over_f((height, width)), total.shape)
    rest = smooth.sum() - bands * smooth[0, 0, 0]
    level = total.sum() / (len(pictures) * rest) if total.any() else 1.0
    spectrum = (total + ADDED * level * smooth) / (len(pictures) + ADDED)
    spectrum[:, 0, 0] = spectrum.max()
    return Prior(colour, spectrum, width)


def one_over_f(size: tuple[int, int], exponent: float = 1.0, longest: int | None = None) -> np.ndarray:
    """Magnitudes (H, W // 2 + 1) that fall as f to the power of -exponent from that of 1/f at the lowest frequency.

    f is in cycles per pixel; the mean counts as the lowest frequency.

    Args:
        longest: wave in pixels; longer ones count as this one. None: the longer side.
    """
    rows, columns = _frequencies(size)
    lowest = 1 / min(longest or max(size), max(size))
    frequency = np.maximum(np.hypot(rows[:, None], columns[None]), lowest)
    return np.asarray((lowest / frequency) ** exponent / lowest)


def _frequencies(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    return np.fft.fftfreq(size[0]), np.fft.rfftfreq(size[1])


def _colours(pictures: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    bands = pictures[0].shape[2]
    count, first, second = 0, np.zeros(bands), np.zeros((bands, bands))
    for picture in pictures:
        for crop in _crops(picture, size):
            pixels = crop.reshape(-1, bands)
            count += len(pixels)
            first += pixels.sum(axis=0)
            second += pixels.T @ pixels
    mean = first / count
    variances, axes = np.linalg.eigh(second / count - np.outer(mean, mean))
    variances, axes = variances[::-1], axes[:, ::-1]  # largest first
    if variances[0] <= 1e-9:  # images of one flat colour
        return np.eye(bands)
    axes = axes * np.where(axes.sum(axis=0) < 0, -1.0, 1.0)
    return np.asarray(axes * np.sqrt(np.maximum(variances / variances[0], WEAKEST)))


def _crops(picture: np.ndarray, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """One to four parts of an image, apart from each other: (H, W, C) float in [-0.5, 0.5]."""
    short = max(size[0] / picture.shape[0], size[1] / picture.shape[1])
    if short > 1:
        wide = tuple(max(need, round(have * short)) for need, have in zip(size, picture.shape[:2], strict=True))
        planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(picture, 2, 0)]
        picture = np.stack(
            [np.asarray(plane.resize((wide[1], wide[0]), Image.Resampling.BICUBIC)) for plane in planes], 2
        )
    rows, columns = (_places(have, need) for have, need in zip(picture.shape[:2], size, strict=True))
    for top in rows:
        for left in columns:
            yield picture[top : top + size[0], left : left + size[1]] / 255.0 - 0.5


def _places(have: int, need: int) -> tuple[int, ...]:
    spare = have - need
    return (spare // 4, spare - spare // 4) if have >= 2 * need else (spare // 2,)
