"""onnx2torch, imported on machines where its own import of torchvision would fail.

onnx2torch 1.5.15 imports torchvision for two detection operators alone. torchvision's compiled part often does not fit
the torch beside it (a CUDA build next to a CPU build), or torchvision is not there at all. Neither may stop a network
without detection operators. Knows nothing of graphs.
"""

import importlib
import importlib.util
import sys
import warnings
from types import ModuleType
from typing import Any, NoReturn

from converters.errors import ModelError, UnsupportedOperatorError

# What torchvision's Python half asks torch about while it is imported; its compiled half would have defined them.
_SCHEMAS = {
    "torchvision::nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "torchvision::qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def load() -> ModuleType:
    """The onnx2torch package, with whatever torchvision there is.

    A torchvision that imports is used as it is. One whose binary does not load is imported with its two schemas
    defined by hand. Where that fails too, a stand-in takes its place for the length of the import.

    Raises:
        ModelError: onnx2torch itself is not installed.
    """
    if "onnx2torch" in sys.modules:
        return sys.modules["onnx2torch"]
    if importlib.util.find_spec("onnx2torch") is None:
        raise ModelError("onnx2torch is not installed; `pip install onnx2torch==1.5.15` brings it")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision warns of binaries that nothing here calls
        if _torchvision_imports():
            return importlib.import_module("onnx2torch")
        sys.modules |= _stand_ins()
        try:
            return importlib.import_module("onnx2torch")
        finally:
            _forget_torchvision()


def _torchvision_imports() -> bool:
    if _try_torchvision():
        return True
    if importlib.util.find_spec("torchvision") is None:
        return False
    import torch

    for name, schema in _SCHEMAS.items():
        try:
            torch.library.define(name, schema)
        except RuntimeError:  # defined already, by the part of the binary that did load
            continue
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
    """Modules that let `import torchvision` and `from torchvision.ops import …` pass, and refuse every call."""
    package, ops = ModuleType("torchvision"), ModuleType("torchvision.ops")
    package.__path__ = []
    for name in ("box_convert", "nms", "roi_align"):
        setattr(ops, name, _refuse)
    package.ops = ops  # type: ignore[attr-defined]
    return {"torchvision": package, "torchvision.ops": ops}


def _refuse(*args: Any, **kwargs: Any) -> NoReturn:
    raise UnsupportedOperatorError("NonMaxSuppression and RoiAlign need torchvision; `pip install torchvision`")
