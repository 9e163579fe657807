"""Small random movements of the picture at each step, so that what is found survives them.

One draw a step serves the whole batch and depends on the seed and the step alone, never on the batch. Pictures move
under a frame of their own size, their edges repeated.

Source: Olah et al. 2017, doi:10.23915/distill.00007, section Transformation robustness.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional as F

from analyzer.maximize.presets import STILL, Strength


def transform(pictures: torch.Tensor, strength: Strength, seed: int, step: int) -> torch.Tensor:
    """Rotate, scale and shift a batch by one random draw.

    Args:
        pictures: (B, C, H, W).
        strength: how far at most.
        seed: of the run.
        step: of the ascent; the same seed and step give the same draw.

    Returns:
        (B, C, H, W).
    """
    if strength == STILL:
        return pictures
    rng = np.random.default_rng([seed, 7, step])
    angle = math.radians(rng.uniform(-strength.rotation, strength.rotation))
    size = 1.0 + rng.uniform(-strength.scaling, strength.scaling)
    down, right = rng.uniform(-2 * strength.jitter, 2 * strength.jitter, 2)  # grid_sample's frame is 2 wide
    height, width = pictures.shape[2:]
    aspect = height / width  # a rotation turns pixels, not the frame's own units
    cosine, sine = math.cos(angle) / size, math.sin(angle) / size
    matrix = [[cosine, -sine * aspect, right], [sine / aspect, cosine, down]]
    theta = torch.tensor([matrix], dtype=pictures.dtype, device=pictures.device)
    grid = F.affine_grid(theta, [1, 1, height, width], align_corners=False)
    grid = grid.expand(len(pictures), -1, -1, -1)
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
