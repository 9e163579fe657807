"""Options for reading a model that is not ONNX."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


FACTORY = re.compile(r"(?P<module>.+\.py|[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):(?P<name>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)")


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """The user's settings for a model that is not ONNX yet; None where the model decides."""

    trust: bool = False  # may a file that is a program be run?
    weights: Path | None = None  # for a PyTorch factory
    channels: int | None = None  # of the example image that an export needs
    size: tuple[int, int] | None = None  # height and width of that image
    example: Any = None  # input tensors of a live module, where an image alone does not do
