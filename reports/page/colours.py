"""Numbers as colours: signed pictures, score tables, light that falls on a part of an image.

Knows pixels; knows nothing of runs, files or pages.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

POSITIVE = (196, 57, 24)  # strong ends of the signed scale; both differ from grey in lightness and in hue
NEGATIVE = (27, 92, 168)
ZERO = (244, 243, 239)
SCALE = np.array(  # from 0 to 1, evenly spaced: dark blue, violet, orange, pale yellow; lightness rises throughout
    [(13, 8, 60), (76, 24, 120), (150, 44, 110), (214, 86, 68), (248, 155, 48), (250, 240, 170)], np.float32
)


def signed(picture: np.ndarray) -> np.ndarray:
    """A signed picture in colours: red above zero, blue below, paper at zero.

    Args:
        picture: (H, W, 1) uint8, 128 is 0.

    Returns:
        (H, W, 3) uint8.
    """
    value = (picture.astype(np.float32) - 128) / 127
    zero = np.asarray(ZERO, np.float32)
    end = np.where(value > 0, np.asarray(POSITIVE, np.float32), np.asarray(NEGATIVE, np.float32))
    coloured: np.ndarray = (zero + (end - zero) * np.abs(value).clip(0, 1)).round().astype(np.uint8)
    return coloured


def overlay(picture: np.ndarray) -> np.ndarray:
    """A signed picture to lay over an image; stronger values hide more of it.

    Args:
        picture: (H, W, 1) uint8, 128 is 0.

    Returns:
        (H, W, 4) uint8.
    """
    value = (picture[:, :, 0].astype(np.float32) - 128) / 127
    coloured = np.empty((*value.shape, 4), np.uint8)
    coloured[..., :3] = np.where(value[..., None] > 0, POSITIVE, NEGATIVE)
    coloured[..., 3] = (np.abs(value).clip(0, 1) ** 0.6 * 255).round()
    return coloured


def luma(picture: np.ndarray) -> np.ndarray:
    """A picture in grey, (H, W, 1 or 3) uint8 → (H, W, 1) uint8, by the weights of Rec. 709."""
    if picture.shape[2] == 1:
        return picture
    grey: np.ndarray = (picture @ np.array([0.2126, 0.7152, 0.0722], np.float32)).round().astype(np.uint8)
    return grey[:, :, None]


def scale(values: np.ndarray) -> np.ndarray:
    """Numbers from 0 (dark) to 1 (light) as colours, (H, W) → (H, W, 3) uint8."""
    place = np.nan_to_num(values).clip(0, 1) * (len(SCALE) - 1)
    low = np.minimum(place.astype(int), len(SCALE) - 2)
    part = (place - low)[..., None]
    coloured: np.ndarray = (SCALE[low] * (1 - part) + SCALE[low + 1] * part).round().astype(np.uint8)
    return coloured


def spotlight(image: np.ndarray, mask: np.ndarray, floor: float = 0.18) -> np.ndarray:
    """An image lit where a mask is bright.

    Args:
        image: (H, W, 1 or 3) uint8.
        mask: (h, w, 1) uint8, stretched over the image.
        floor: light where the mask is black.
    """
    height, width = image.shape[:2]
    grey = np.asarray(Image.fromarray(mask[:, :, 0]).resize((width, height), Image.Resampling.BILINEAR), np.float32)
    light = floor + (1 - floor) * grey / 255
    return (image * light[..., None]).round().astype(np.uint8)


def contact_sheet(kernels: np.ndarray, number: int, columns: int = 3) -> np.ndarray:
    """Kernels that stand side by side, as rows of `columns` in signed colours, with a clear line between.

    Args:
        kernels: (h, number·w, 1) uint8, signed.
        number: how many.
        columns: kernels per row.

    Returns:
        (H, W, 4) uint8; kernels below six pixels are enlarged, so that the lines between them are thin.
    """
    height, width = kernels.shape[0], kernels.shape[1] // number
    factor = max(1, -(-6 // max(height, width)))
    high, wide = factor * height, factor * width
    rows = -(-number // columns)
    sheet = np.zeros((rows * (high + 1) - 1, min(columns, number) * (wide + 1) - 1, 4), np.uint8)
    for index in range(number):
        row, column = divmod(index, columns)
        part = np.kron(signed(kernels[:, index * width : (index + 1) * width]), np.ones((factor, factor, 1), np.uint8))
        top, left = row * (high + 1), column * (wide + 1)
        sheet[top : top + high, left : left + wide, :3] = part
        sheet[top : top + high, left : left + wide, 3] = 255
    return sheet
