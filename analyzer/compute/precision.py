"""In which precision gradients are computed: bfloat16 where the device has arithmetic for it, else float32.

The pictures, the optimiser and every number that is printed stay in float32; bfloat16 computes which way is up, twice
to four times as fast. Where a network does not take it, float32 does it. Knows torch; knows nothing of pictures.
"""

from __future__ import annotations

import torch
from torch import fx
from torch.nn import functional as F

from filterscope.analyzer.compute.frozen_convolutions import with_frozen_convolutions

ALIKE = 0.5  # least cosine between the gradients in both precisions, at a random picture, for bfloat16 to be used


def precision(device: torch.device) -> torch.dtype:
    """bfloat16 on processors with AVX-512 BF16 or AMX and on GPUs that multiply it, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    native = any(getattr(torch.cpu, name, bool)() for name in checks)
    return torch.bfloat16 if device.type == "cpu" and native else torch.float32


def cut_for_gradients(
    module: fx.GraphModule, sample: torch.Tensor, device: torch.device, exact: bool = False
) -> tuple[fx.GraphModule, torch.dtype]:
    """The part of a network that an ascent goes through, frozen, in the best precision that it takes.

    Args:
        module: returns a tuple of one value.
        sample: (1, …), an input of the model.
        exact: float32 whatever the device has.

    Returns:
        The module, and the type that its input must have.
    """
    plain = with_frozen_convolutions(module, torch.float32).to(device)
    dtype = torch.float32 if exact else precision(device)
    if dtype == torch.float32:
        return plain, dtype
    try:
        low = with_frozen_convolutions(module, dtype, bfloat16_relus=device.type == "cpu").to(device)
        agreement = F.cosine_similarity(_gradient(plain, sample, torch.float32), _gradient(low, sample, dtype), dim=0)
    except RuntimeError:  # an operator without bfloat16, or one that mixes types
        return plain, torch.float32
    return (low, dtype) if agreement >= ALIKE else (plain, torch.float32)


def _gradient(module: fx.GraphModule, sample: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    x = sample.detach().requires_grad_(True)
    (value,) = module(x.to(dtype))
    (gradient,) = torch.autograd.grad(value.float().square().mean(), x)
    return gradient.flatten()
