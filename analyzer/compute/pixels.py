"""Pictures as tensors: from [0, 1] to the network's numbers, and to the 8-bit pixels that are saved."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from filterscope.analyzer.network.inputs import InputSpec


def input_map(spec: InputSpec, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """From pictures u in [0, 1], (B, C, H, W) in RGB order, to the model's input."""
    scale, offset = (
        torch.tensor(array, dtype=torch.float32, device=device)[None, :, None, None] for array in spec.affine()
    )
    reverse = spec.channels == 3 and spec.preprocessing.order == "BGR"

    def to_model(pictures: torch.Tensor) -> torch.Tensor:
        x = (pictures.flip(1) if reverse else pictures) * scale + offset
        if spec.layout == "NHWC":
            return x.permute(0, 2, 3, 1)
        return x.contiguous(memory_format=torch.channels_last)

    return to_model


def eight_bit(pictures: torch.Tensor) -> np.ndarray:
    """(B, C, H, W) in [0, 1] → (B, H, W, C) uint8, rounded."""
    scaled = torch.nan_to_num(pictures, nan=0.5) * 255
    return np.ascontiguousarray(scaled.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())
