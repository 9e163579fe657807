"""How a kernel walks over the spatial axes: the arithmetic that convolutions and poolings share.

Pads and output sizes follow from the input's size, which is known only at run time: auto_pad resolves to other numbers
at another size. Knows integers; of torch only F.pad.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from filterscope.converters.normal_form.output_sizes import windows_along

Pads = tuple[tuple[int, int], ...]  # begin and end per spatial axis


@dataclass(frozen=True, slots=True)
class Windows:
    """A kernel's extent and steps, one number per spatial axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: Pads  # as the node states them; without meaning where auto_pad is not NOTSET
    auto_pad: str  # NOTSET, VALID, SAME_UPPER, SAME_LOWER
    ceil: bool  # the last window may hang over the end

    @classmethod
    def of(cls, kernel: Sequence[int], attributes: Mapping[str, Any]) -> "Windows":
        """From a node's attributes; what is absent there has ONNX's defaults."""
        rank = len(kernel)
        pads = attributes.get("pads") or [0] * (2 * rank)
        return cls(
            kernel=tuple(kernel),
            stride=tuple(attributes.get("strides") or [1] * rank),
            dilation=tuple(attributes.get("dilations") or [1] * rank),
            pads=tuple(zip(pads[:rank], pads[rank:], strict=True)),
            auto_pad=attributes.get("auto_pad", "NOTSET"),
            ceil=bool(attributes.get("ceil_mode", 0)),
        )

    @property
    def extents(self) -> tuple[int, ...]:
        """Input positions from a window's first to its last, both counted."""
        return tuple((kernel - 1) * dilation + 1 for kernel, dilation in zip(self.kernel, self.dilation, strict=True))

    @property
    def rank(self) -> int:
        return len(self.kernel)

    @property
    def symmetric(self) -> tuple[int, ...] | None:
        """The pads, where they are the same at both ends whatever the input's size; otherwise None."""
        if self.auto_pad == "VALID":
            return (0,) * self.rank
        if self.auto_pad != "NOTSET" or any(begin != end for begin, end in self.pads):
            return None
        return tuple(begin for begin, _ in self.pads)

    def padding(self, sizes: Sequence[int]) -> Pads:
        """Pads for an input of these spatial sizes."""
        if self.auto_pad == "VALID":
            return ((0, 0),) * self.rank
        if self.auto_pad == "NOTSET":
            return self.pads
        pads = []
        for size, stride, extent in zip(sizes, self.stride, self.extents, strict=True):
            total = max((math.ceil(size / stride) - 1) * stride + extent - size, 0)
            less, more = total // 2, total - total // 2
            pads.append((less, more) if self.auto_pad == "SAME_UPPER" else (more, less))
        return tuple(pads)

    def outputs(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Number of windows per axis for an input of these spatial sizes."""
        axes = zip(sizes, self.extents, self.stride, self.padding(sizes), strict=True)
        return tuple(
            windows_along(size, extent, stride, begin=begin, end=end, ceil=self.ceil)
            for size, extent, stride, (begin, end) in axes
        )

    def reach(self, sizes: Sequence[int]) -> Pads:
        """Pads after which the windows fit exactly: the end may be more than `padding` (ceil) or less (rest cut)."""
        last = [(count - 1) * stride for count, stride in zip(self.outputs(sizes), self.stride, strict=True)]
        covered = [begin + extent for begin, extent in zip(last, self.extents, strict=True)]
        return tuple(
            (begin, length - size - begin)
            for size, length, (begin, _) in zip(sizes, covered, self.padding(sizes), strict=True)
        )


def spatial_pad(x: torch.Tensor, pads: Pads, value: float = 0.0) -> torch.Tensor:
    """`x` (N, C, …) with `pads` of `value` around its spatial axes; negative pads cut."""
    if not any(begin or end for begin, end in pads):
        return x
    return F.pad(x, [number for pair in reversed(pads) for number in pair], value=value)
