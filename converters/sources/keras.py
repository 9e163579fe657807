"""Keras models and SavedModels as ONNX.

What would run as a program (a Lambda layer, a SavedModel) is found in the file's own configuration before anything is
loaded, and refused unless trusted. Then one way after the other is tried, each in a process of its own
(scripts/keras_export.py), until one gives an export that answers as the model does. Knows which frameworks are
installed; imports none of them.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filterscope.converters.errors import ModelError, setting
from filterscope.converters.onnx_file.model_file import ModelFile
from filterscope.converters.sources import child_process, keras_files
from filterscope.converters.sources.keras_files import INSTALL, KerasFile

if TYPE_CHECKING:
    from filterscope.converters.sources.options import SourceOptions

SCRIPT = "keras_export.py"
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "TF_ENABLE_ONEDNN_OPTS": "0"}
BACKENDS = {"keras": "tensorflow", "tf_keras": "tensorflow", "saved_model": "tensorflow", "torch": "torch"}
TRUST = f"if you trust its author, {setting('trust')} runs it"
HASHED_AT_ONCE = 1 << 20  # bytes


def read(path: Path, options: SourceOptions) -> ModelFile:
    """A .keras or HDF5 file with a whole model, or a SavedModel folder, as ONNX.

    Raises:
        ModelError: no such file, damaged, weights alone, a program that is not trusted, layers of the user's own that
            are not at hand, no framework installed that reads it, or no way of exporting it.
    """
    if (path / "saved_model.pb").is_file():
        if not options.trust:
            raise ModelError(f"{path}: a SavedModel is a program that TensorFlow runs; {TRUST}")
        return _convert(path, {"way": "saved_model"}, ["saved_model"], options)
    if not path.is_file():
        raise ModelError(f"{path}: {'is a folder without saved_model.pb' if path.is_dir() else 'no such file'}")
    file = keras_files.read(path)
    _check_trust(path, file, options.trust)
    request = {"kind": file.kind, "config": file.config}
    return _convert(path, request, list(_ways(file)), options)


def _check_trust(path: Path, file: KerasFile, trusted: bool) -> None:
    if trusted:
        return
    if file.dangers:
        raise ModelError(f"{path}: {file.dangers[0]}; {TRUST}")
    if file.foreign:
        raise ModelError(
            f"{path}: it has {file.foreign[0]}, which is not Keras' own; export it where that package is installed, "
            "model.export('model.onnx', format='onnx'), and give the .onnx file"
        )


def _ways(file: KerasFile) -> Iterator[str]:
    """Ways of loading and exporting, the best first."""
    if "channels_first" not in file.formats:  # TensorFlow has no such convolution on a processor
        yield "keras"
        if file.is_keras_2:
            yield "tf_keras"
    yield "torch"


def _missing(way: str) -> str:
    """The command that installs what a way of loading lacks; empty where nothing is missing."""
    if way in ("keras", "torch") and not _has_keras_3():
        return INSTALL
    if way in ("keras", "saved_model", "tf_keras") and not (_has("tensorflow") and _has("tf2onnx")):
        return f"{INSTALL} tf_keras" if way == "tf_keras" else INSTALL
    if way == "tf_keras" and not _has("tf_keras"):
        return _install_keras_2()
    return ""


def _install_keras_2() -> str:
    """The command that installs the tf_keras of the TensorFlow at hand; another would bring another TensorFlow."""
    try:
        major, minor = importlib.metadata.version("tensorflow").split(".")[:2]
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return "pip install tf_keras"
    return f"pip install 'tf_keras=={major}.{minor}.*'"


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _has_keras_3() -> bool:
    try:
        return _has("keras") and int(importlib.metadata.version("keras").partition(".")[0]) >= 3
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return False


def _convert(path: Path, request: Mapping[str, Any], ways: list[str], options: SourceOptions) -> ModelFile:
    """The first export that computes what the model does."""
    settings = {"size": options.size, "channels": options.channels, "trust": options.trust}
    whole = dict(request) | settings | {"path": str(path.absolute())}
    lacking = {way: _missing(way) for way in ways}
    failures: list[str] = []
    for way in ways:
        if lacking[way]:
            continue
        environment = QUIET | {"KERAS_BACKEND": BACKENDS[way]}
        search = [Path.cwd()] if options.trust else []
        try:
            conversion = child_process.convert(
                SCRIPT, whole | {"way": way}, str(path), search=search, environment=environment
            )
        except child_process.ExportError as error:
            failures.append(str(error).removeprefix(f"{path}: "))
            continue
        tried = tuple(f"Tried before, without success: {failure}" for failure in failures)
        return ModelFile(path, _digest(path), conversion.proto, (*conversion.notes, *tried), converted=True)
    commands = [command for command in lacking.values() if command]
    if not failures:
        raise ModelError(f"{path}: to open it, {commands[0]}")
    # The last command installs the most.
    advice = f"; {commands[-1]} installs another way to open it" if commands else ""
    raise ModelError(f"{path}: {failures[0]}{advice}")


def _digest(path: Path) -> str:
    """sha256 of a file, or of a folder's files and their places."""
    digest = hashlib.sha256()
    for file in sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]:
        if path.is_dir():
            digest.update(f"{file.relative_to(path).as_posix()}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while block := stream.read(HASHED_AT_ONCE):
                digest.update(block)
    return digest.hexdigest()
