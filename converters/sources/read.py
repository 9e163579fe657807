"""Read any supported model as ONNX.

Which reader is asked: `files` for ONNX, `keras` for .keras, .h5, .hdf5 and SavedModel folders, `pytorch` for .pt2,
TorchScript and factories, `live` for models in this process. Knows how each is recognised; knows nothing of what is
inside.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from filterscope.converters.errors import SettingsError, setting
from filterscope.converters.onnx_file import model_file
from filterscope.converters.onnx_file.model_file import ModelFile
from filterscope.converters.sources.options import FACTORY, SourceOptions

if TYPE_CHECKING:
    from torch import nn

KERAS = (".keras", ".h5", ".hdf5")
PYTORCH = (".pt", ".pth", ".pt2", ".th", ".ckpt", ".bin", ".tar", ".pkl", ".pickle", ".safetensors")


def read(source: str | Path | nn.Module, options: SourceOptions | None = None) -> ModelFile:
    """Read a model of any supported kind as ONNX.

    Args:
        source: a file, a SavedModel folder, `package.module:factory`, `path/to/file.py:factory`, or what
            `converters.sources.live` reads.
        options: see SourceOptions.

    Raises:
        ModelError: the source cannot be read, is a program and not trusted, or does not convert.
        SettingsError: weights where no factory is named.
    """
    options = options or SourceOptions()
    if not isinstance(source, (str, Path)):
        from filterscope.converters.sources import live

        return live.read(source, options)
    path = Path(source)
    if is_factory(source):
        from filterscope.converters.sources import pytorch

        return pytorch.read_factory(str(source), options)
    if options.weights is not None:
        raise SettingsError(
            f"{setting('weights', options.weights)}: goes with a factory that makes the network, such as "
            f"package.module:factory or file.py:factory, not with {source}",
            field="weights",
            value=options.weights,
        )
    if path.suffix.lower() in KERAS or (path / "saved_model.pb").is_file():
        from filterscope.converters.sources import keras

        return keras.read(path, options)
    if path.suffix.lower() in PYTORCH:
        from filterscope.converters.sources import pytorch

        return pytorch.read_file(path, options)
    return model_file.read(path)


def is_factory(source: str | Path | nn.Module) -> bool:
    """Whether this names Python code that makes a network."""
    return isinstance(source, (str, Path)) and not Path(source).exists() and FACTORY.fullmatch(str(source)) is not None


def is_program(source: str | Path | nn.Module, trust: bool) -> bool:
    """Whether reading this source runs code of its own: the user's factory, or another framework's file he trusts."""
    return is_factory(source) or (trust and is_converted(source))


def is_converted(source: str | Path | nn.Module) -> bool:
    """Whether reading this source means converting it, which takes a while."""
    if not isinstance(source, (str, Path)):
        return True
    path = Path(source)
    return path.suffix.lower() in (*KERAS, *PYTORCH) or (path / "saved_model.pb").is_file() or is_factory(source)
