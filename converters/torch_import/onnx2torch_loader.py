"""onnx2torch, imported without torchvision until that is needed.

onnx2torch 1.5.15 imports torchvision for two detection operators alone. That takes a second (it brings torch's
compiler with it); torchvision's compiled part often does not fit the torch beside it (a CUDA build next to a CPU
build), or torchvision is not there at all. None of this may stop or slow a network without detection operators: a
stand-in takes torchvision's place for the length of the import. Knows nothing of graphs.
"""

import contextlib
import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

from filterscope.converters.errors import ModelError, UnsupportedOperatorError

# What torchvision's Python half asks torch about while it is imported; its compiled half would have defined them.
_SCHEMAS = {
    "torchvision::nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "torchvision::qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def load() -> ModuleType:
    """The onnx2torch package, without torchvision being imported for it.

    Raises:
        ModelError: onnx2torch itself is not installed.
    """
    if "onnx2torch" in sys.modules:
        return sys.modules["onnx2torch"]
    if importlib.util.find_spec("onnx2torch") is None:
        raise ModelError("onnx2torch is not installed; `pip install onnx2torch==1.5.15` brings it")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of what our own table replaces
        if "torchvision" in sys.modules:
            return importlib.import_module("onnx2torch")
        sys.modules |= _stand_ins()
        try:
            return importlib.import_module("onnx2torch")
        finally:
            _forget_torchvision()


def load_torchvision() -> bool:
    """Import torchvision; False where that cannot be done.

    One whose binary does not load is imported with its two schemas defined by hand: all but its own operators works.
    """
    if _try_torchvision():
        return True
    if importlib.util.find_spec("torchvision") is None:
        return False
    import torch

    for name, schema in _SCHEMAS.items():
        with contextlib.suppress(RuntimeError):  # defined already, by the part of the binary that did load
            torch.library.define(name, schema)
    return _try_torchvision()


def _try_torchvision() -> bool:
    try:
        importlib.import_module("torchvision")
    except Exception:  # a binary that does not fit fails as ImportError, OSError, RuntimeError or AttributeError
        _forget_torchvision()
        return False
    return True


def _forget_torchvision() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]


def _stand_ins() -> dict[str, ModuleType]:
    """Modules that let `import torchvision` and `from torchvision.ops import …` pass."""
    package, ops = ModuleType("torchvision"), ModuleType("torchvision.ops")
    package.__path__ = []
    for name in ("box_convert", "nms", "roi_align"):
        setattr(ops, name, _later(name))
    package.ops = ops  # type: ignore[attr-defined]
    return {"torchvision": package, "torchvision.ops": ops}


def _later(name: str) -> Callable[..., Any]:
    """torchvision's function of this name, imported when it is called."""

    def call(*args: Any, **kwargs: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchvision warns of binaries that nothing here calls
            if not load_torchvision():
                raise UnsupportedOperatorError(
                    "NonMaxSuppression and RoiAlign need torchvision; `pip install torchvision`"
                )
        return getattr(importlib.import_module("torchvision.ops"), name)(*args, **kwargs)

    return call
