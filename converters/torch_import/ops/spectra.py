"""The Fourier transform, which some CNNs put between convolutions to see the whole picture at once."""

from typing import TYPE_CHECKING

import torch

from filterscope.converters.torch_import.ops.common import attributes, bind

if TYPE_CHECKING:
    from onnx2torch.onnx_graph import OnnxGraph
    from onnx2torch.onnx_node import OnnxNode
    from onnx2torch.utils.common import OperationConverterResult


def discrete_fourier(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    attrs = attributes(node)
    inverse, half = bool(attrs.get("inverse", 0)), bool(attrs.get("onesided", 0))
    return bind(node, graph, _discrete_fourier, numbers=(1, 2), inverse=inverse, half=half)


def _discrete_fourier(
    x: torch.Tensor, length: int | None = None, axis: int | None = None, *, inverse: bool, half: bool
) -> torch.Tensor:
    """Along one axis. Numbers stand along the last axis: real parts alone, or real and imaginary ones.

    Half a spectrum is all of it where the signal is real; its inverse is that signal, real parts alone.
    """
    along = -2 if axis is None else axis
    along = along + x.ndim if along < 0 else along
    signal = torch.view_as_complex(x.contiguous()) if x.shape[-1] == 2 else x[..., 0]
    if half and inverse:
        real: torch.Tensor = torch.fft.irfft(signal, n=length, dim=along)
        return real[..., None]
    if half:
        return torch.view_as_real(torch.fft.rfft(signal, n=length, dim=along))
    return torch.view_as_real((torch.fft.ifft if inverse else torch.fft.fft)(signal, n=length, dim=along))
