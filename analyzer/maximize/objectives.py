"""What is maximised: a neuron or a channel of one layer.

Each objective computes the layer's last convolution for its own units alone: image i needs unit i and no other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from analyzer.layers import ConvLayer


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """The convolution of one layer, restricted to a unit an image.

    weight: (B, C_in / groups, k, k); bias: (B,); first: (B,) first input channel of each unit's group.
    """

    layer: ConvLayer
    weight: torch.Tensor
    bias: torch.Tensor
    first: torch.Tensor

    @classmethod
    def of(cls, layer: ConvLayer, channels: torch.Tensor, device: torch.device) -> Units:
        """Units of a Conv layer whose kernel is known.

        Args:
            channels: (B,) int64, the unit that image i is for.
        """
        assert layer.weight is not None
        assert layer.bias_vector is not None
        weight = torch.tensor(layer.weight, device=device)[channels]
        bias = torch.tensor(layer.bias_vector, device=device)[channels]
        group = channels // (layer.out_channels // layer.groups)
        return cls(layer, weight, bias, group * (layer.in_channels // layer.groups))

    def maps(self, source: torch.Tensor) -> torch.Tensor:
        """Pre-activation maps of each image's unit.

        Args:
            source: (B, C_in, H, W), the layer's input.

        Returns:
            (B, H', W').
        """
        batch = len(source)
        depth = self.weight.shape[1]
        if depth < source.shape[1]:
            columns = self.first[:, None] + torch.arange(depth, device=source.device)
            source = source[torch.arange(batch, device=source.device)[:, None], columns]
        if self.layer.kernel == (1, 1) and self.layer.stride == (1, 1) and not any(self.layer.pads):
            return torch.einsum("bchw,bc->bhw", source, self.weight[:, :, 0, 0]) + self.bias[:, None, None]
        top, left, bottom, right = self.layer.pads
        padding: tuple[int, int] = (top, left)
        if (top, left) != (bottom, right):
            source = F.pad(source, (left, right, top, bottom))
            padding = (0, 0)
        joined = source.reshape(1, batch * depth, *source.shape[2:])  # an image a group
        maps = F.conv2d(joined, self.weight, self.bias, self.layer.stride, padding, self.layer.dilation, groups=batch)
        return maps[0]


def neuron(maps: torch.Tensor, row: int, column: int) -> torch.Tensor:
    """One position of each map: (B, H, W) → (B,)."""
    return maps[:, row, column]


def channel(maps: torch.Tensor) -> torch.Tensor:
    """Mean of each map: (B, H, W) → (B,)."""
    return maps.mean(dim=(1, 2))
