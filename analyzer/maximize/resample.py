"""Pictures read at other places: one affine map for a whole batch, its edges repeated.

On a processor the map is a sparse matrix, four entries a pixel: the result of torch's grid_sample without its slow
gradient, which spreads every pixel's four parts one by one. Knows torch; knows nothing of what is drawn or why.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

Matrix = tuple[tuple[float, float], tuple[float, float]]


def resampled(
    pictures: torch.Tensor, size: tuple[int, int], matrix: Matrix, shift: tuple[float, float] = (0.0, 0.0)
) -> torch.Tensor:
    """Read pictures along an affine map, linearly between pixels, the edges repeated.

    Args:
        pictures: (B, C, H, W).
        size: (H', W') of the result.
        matrix: rows y and x: from places in the result to places in the picture, both in pixels from the centre.
        shift: (down, right) in pixels of the picture, added.

    Returns:
        (B, C, H', W').
    """
    if pictures.device.type == "cpu" and torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        forth, back = _sparse((pictures.shape[2], pictures.shape[3]), size, matrix, shift, dtype=pictures.dtype)
        moved: torch.Tensor = _Sparse.apply(pictures, forth, back, size)  # type: ignore[no-untyped-call]
        return moved
    (height, width), (tall, wide) = pictures.shape[2:], size
    (yy, yx), (xy, xx) = matrix
    # affine_grid's frames are 2 high and 2 wide, whatever their pixels.
    theta = [
        [xx * wide / width, xy * tall / width, 2 * shift[1] / width],
        [yx * wide / height, yy * tall / height, 2 * shift[0] / height],
    ]
    grid = F.affine_grid(
        torch.tensor([theta], dtype=pictures.dtype, device=pictures.device), [1, 1, tall, wide], align_corners=False
    )
    return F.grid_sample(pictures, grid.expand(len(pictures), -1, -1, -1), padding_mode="border", align_corners=False)


def framed(pictures: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The centre of larger pictures; smaller ones with their edges repeated: (B, C, H, W) → (B, C, *size)."""
    for axis, side in zip((2, 3), size, strict=True):
        spare = pictures.shape[axis] - side
        if spare > 0:
            pictures = pictures.narrow(axis, spare // 2, side)
    down, right = (side - have for side, have in zip(size, pictures.shape[2:], strict=True))
    if not (down or right):
        return pictures
    return F.pad(pictures, (right // 2, right - right // 2, down // 2, down - down // 2), mode="replicate")


class _Sparse(torch.autograd.Function):
    """A sparse matrix over the pixels of each plane; the gradient is the transposed matrix."""

    @staticmethod
    def forward(
        context: Any, pictures: torch.Tensor, forth: torch.Tensor, back: torch.Tensor, size: tuple[int, int]
    ) -> torch.Tensor:
        context.back, context.size = back, pictures.shape[2:]
        return _product(forth, pictures, size)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        # In the order of the pictures' own memory, in which what follows is several times as fast.
        return _product(context.back, gradient, context.size).contiguous(), None, None, None


def _product(matrix: torch.Tensor, pictures: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    batch, bands = pictures.shape[:2]
    planes = pictures.reshape(batch * bands, -1).t()
    return (matrix @ planes).t().reshape(batch, bands, *size)


def _sparse(
    old: tuple[int, int], new: tuple[int, int], matrix: Matrix, shift: tuple[float, float], *, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """The map from pixels of an old picture to a new one's, (H' W', H W), and its transpose."""
    _quieten()
    (height, width), (tall, wide) = old, new
    down = (np.arange(tall) - (tall - 1) / 2)[:, None]
    right = (np.arange(wide) - (wide - 1) / 2)[None]
    (yy, yx), (xy, xx) = matrix
    y = np.clip(yy * down + yx * right + (shift[0] + (height - 1) / 2), 0, height - 1)
    x = np.clip(xy * down + xx * right + (shift[1] + (width - 1) / 2), 0, width - 1)
    top, left = y.astype(np.int32), x.astype(np.int32)
    below, after = (y - top).astype(np.float32), (x - left).astype(np.float32)
    first, second = top * width, np.minimum(top + 1, height - 1) * width
    beside = np.minimum(left + 1, width - 1)
    columns = np.stack([first + left, first + beside, second + left, second + beside], axis=-1).ravel()
    above, before = 1 - below, 1 - after
    weights = np.stack([above * before, above * after, below * before, below * after], axis=-1).ravel()
    starts = np.arange(0, 4 * tall * wide + 1, 4, dtype=np.int32)
    # Numpy sorts 16-bit numbers by radix, several times as fast.
    order = np.argsort(columns.astype(np.uint16) if height * width <= 1 << 16 else columns, kind="stable")
    counts = np.bincount(columns, minlength=height * width)
    ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    shape = (tall * wide, height * width)
    return (
        _csr(starts, columns, weights, shape=shape, dtype=dtype),
        _csr(ends, (order >> 2).astype(np.int32), weights[order], shape=shape[::-1], dtype=dtype),
    )


def _csr(
    starts: np.ndarray, columns: np.ndarray, weights: np.ndarray, *, shape: tuple[int, ...], dtype: torch.dtype
) -> torch.Tensor:
    parts = (torch.from_numpy(starts), torch.from_numpy(columns), torch.from_numpy(weights).to(dtype))
    return torch.sparse_csr_tensor(*parts, shape, check_invariants=False)


@cache
def _quieten() -> None:
    """Torch says once a process that sparse matrices are in beta; what is used of them here is tested."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor(torch.tensor([0, 1]), torch.tensor([0]), torch.tensor([1.0]), (1, 1))
