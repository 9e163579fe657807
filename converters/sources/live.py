"""Models that live in the caller's process: an nn.Module, a Keras model, an onnx.ModelProto or its bytes.

Keras models and ONNX are written to a folder of their own and read as any file of that kind. Whoever holds a live
model has run its code already, so nothing of it needs trust. Knows how each is recognised.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from filterscope.converters.errors import ModelError
from filterscope.converters.onnx_file import model_file
from filterscope.converters.onnx_file.model_file import ModelFile

if TYPE_CHECKING:
    from filterscope.converters.sources.options import SourceOptions

KERAS = ("keras", "tf_keras")
LARGEST = 2**31 - 1  # bytes that protobuf writes


def read(source: Any, options: SourceOptions) -> ModelFile:
    """A live model as ONNX; it is left as it is.

    Raises:
        ModelError: it is no model of these kinds, is not built, or cannot be exported.
        SettingsError: an option does not fit it.
    """
    unread = onnx_bytes(source)
    if unread is not None:
        return _read_onnx(*unread)
    if _is_keras(source):  # before nn.Module, which it is too on Keras' PyTorch
        return _read_keras(source, options)
    from filterscope.converters.sources import pytorch

    return pytorch.read_module(source, options)


def onnx_bytes(source: Any) -> tuple[bytes, str] | None:
    """The bytes of a model that is ONNX already, still unchecked, and its name; None for another kind of model.

    Raises:
        ModelError: it is too large for one file.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source), "model.onnx"
    if not isinstance(source, onnx.ModelProto):
        return None
    shown = f"{source.graph.name or 'model'}.onnx"
    if source.ByteSize() > LARGEST:
        raise ModelError(f"{shown}: is larger than 2 GiB; save it with onnx.save_model(…, save_as_external_data=True)")
    return source.SerializeToString(deterministic=True), shown


def _read_onnx(content: bytes, shown: str) -> ModelFile:
    with tempfile.TemporaryDirectory(prefix="filterscope-") as place:
        path = Path(place) / "model.onnx"
        path.write_bytes(content)
        return read_as(path, shown)


def read_as(path: Path, shown: str) -> ModelFile:
    """The model in a file of ours into which such bytes were put.

    Raises:
        ModelError: as of `converters.onnx_file.model_file.read`, under the name that is shown.
    """
    try:
        file = model_file.read(path)
    except ModelError as error:
        raise type(error)(str(error).replace(str(path), shown)) from error
    return replace(file, path=Path(shown), converted=True)  # no file holds it: a run keeps it


def _is_keras(source: Any) -> bool:
    return any(kind.__name__ == "Model" and kind.__module__.partition(".")[0] in KERAS for kind in type(source).__mro__)


def _read_keras(model: Any, options: SourceOptions) -> ModelFile:
    from filterscope.converters.sources import keras

    shown = str(model.name)
    with tempfile.TemporaryDirectory(prefix="filterscope-") as place:
        path = Path(place) / "model.keras"
        try:
            model.save(path)
        except Exception as error:  # Keras' own, and those of the user's layers
            text = " ".join(str(error).split())
            raise ModelError(
                f"{shown}: cannot be saved ({text[:200]}); build it, and see that it can be saved"
            ) from error
        try:
            file = keras.read(path, replace(options, trust=True))
        except ModelError as error:
            raise ModelError(str(error).replace(str(path), shown)) from error
    digest = hashlib.sha256(file.proto.SerializeToString(deterministic=True)).hexdigest()  # a saved file holds a date
    return replace(file, path=Path(shown), sha256=digest)
