"""What a Keras file says of itself, read before anything of it is loaded.

The configuration is JSON, inside a zip archive or as an attribute of an HDF5 file: its layers, and whether building
them would run code that the file brings. Knows Keras' two file formats; does not import Keras.
"""

from __future__ import annotations

import importlib
import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from converters.errors import ModelError

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
ZIP_SIGNATURE = b"PK\x03\x04"
INSTALL = "pip install 'filterscope[keras]'"
CONFIG_BYTES = 1 << 28  # a configuration is text of some megabytes at most

OWN_PACKAGES = ("keras", "tf_keras", "builtins")  # whose classes a file may name
FUNCTION_MODULES = ("activations", "ops", "initializers", "regularizers", "constraints", "layers", "dtype_policies")
# Layers that hold a program: Python byte code, a pickled module, a SavedModel, a serialised TensorFlow graph.
PROGRAMS = {
    "Lambda": "a Lambda layer is Python code",
    "TorchModuleWrapper": "it holds a pickled PyTorch module, which is a program",
    "TFSMLayer": "it runs a SavedModel, which is a program",
    "JaxLayer": "it runs a JAX function, which is a program",
    "FlaxLayer": "it runs a Flax module, which is a program",
    "TensorFlowOpLayer": "it holds a part of a TensorFlow graph, which is a program",
}
# TensorFlow's functions that tf_keras calls by name; any other (io.write_file) is as good as a program.
TF_FUNCTIONS = re.compile(
    r"((math|nn|linalg|image|__operators__)\.|reduce_)[\w.]+|compat\.v1\.(shape|transpose)|cast|clip_by_value|concat|"
    r"convert_to_tensor|expand_dims|gather|identity|one_hot|ones_like|pad|range|repeat|reshape|reverse|shape|slice|split|"
    r"squeeze|stack|strided_slice|tile|transpose|unstack|where|zeros_like"
)


@dataclass(frozen=True, slots=True)
class KerasFile:
    """A whole model's configuration, and what loading it would mean."""

    kind: str  # "keras" (zip archive) or "h5"
    version: str  # of the Keras that saved it; empty where the file does not say
    config: Mapping[str, Any]  # the model's, without how it was compiled
    dangers: tuple[str, ...]  # why building it would run what the file brings, a clause each
    foreign: tuple[str, ...]  # layers and functions of other packages, as "class Scale of mine.layers (layer 'scale')"
    formats: tuple[str, ...]  # values of data_format that its layers have

    @property
    def is_keras_2(self) -> bool:
        """Whether Keras 1 or 2 saved it."""
        return self.version.startswith(("1.", "2.")) or (self.kind == "h5" and not self.version)


def read(path: Path) -> KerasFile:
    """Read the configuration of a .keras or HDF5 file, whichever its first bytes say it is.

    Raises:
        ModelError: neither of the two, only a part of one, weights alone, or h5py is needed and missing.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(HDF5_SIGNATURE))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    if start.startswith(ZIP_SIGNATURE):
        kind, version, config = "keras", *_from_archive(path)
    elif start == HDF5_SIGNATURE:
        kind, version, config = "h5", *_from_hdf5(path)
    else:
        raise ModelError(f"{path}: {'is no Keras file' if start else 'is empty'}; save it again with model.save(file)")
    config = _without_compilation(config)
    found = list(_objects(config))
    return KerasFile(
        kind,
        version,
        config,
        tuple(dict.fromkeys(danger for each in found if (danger := _danger(each)))),
        tuple(dict.fromkeys(name for each in found if (name := _foreign(each)))),
        tuple({str(inner["data_format"]) for each in found if (inner := _inner(each)).get("data_format")}),
    )


def _from_archive(path: Path) -> tuple[str, Mapping[str, Any]]:
    """Version and configuration in a zip archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            if "config.json" not in names:
                raise ModelError(f"{path}: a zip archive without a Keras model's config.json; {_whole_model()}")
            if archive.getinfo("config.json").file_size > CONFIG_BYTES:
                raise ModelError(f"{path}: its config.json is of an unlikely size; it is not read")
            _check_members(path, archive.namelist())
            config = json.loads(archive.read("config.json"))
            metadata = json.loads(archive.read("metadata.json")) if "metadata.json" in names else {}
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, RuntimeError) as error:
        raise ModelError(
            f"{path}: is only a part of a Keras file, or damaged ({error}); save or copy it again"
        ) from error
    if not isinstance(config, dict) or not isinstance(metadata, dict):
        raise ModelError(f"{path}: its config.json describes no model; {_whole_model()}")
    return str(metadata.get("keras_version", "")), config


def _check_members(path: Path, names: Sequence[str]) -> None:
    """No member lies outside the archive's folder, and none is there twice: two readers could see two contents."""
    seen: set[str] = set()
    for name in names:
        place = PurePosixPath(name.replace("\\", "/"))
        if place.is_absolute() or ".." in place.parts or ":" in name or name in seen:
            raise ModelError(
                f"{path}: its member {name[:60]!r} lies outside the archive or is in it twice; it is refused"
            )
        seen.add(name)


def _from_hdf5(path: Path) -> tuple[str, Mapping[str, Any]]:
    """Version and configuration in an HDF5 file."""
    try:
        h5py = importlib.import_module("h5py")
    except ImportError as error:
        raise ModelError(f"{path}: a Keras file; to open it, {INSTALL}") from error
    try:
        with h5py.File(path, "r") as file:
            said = {name: _text(file.attrs[name]) for name in ("model_config", "keras_version") if name in file.attrs}
            config = json.loads(said["model_config"]) if "model_config" in said else None
    except (OSError, RuntimeError, KeyError, ValueError) as error:  # h5py raises each of them for a damaged file
        raise ModelError(
            f"{path}: is only a part of an HDF5 file, or damaged ({str(error)[:120]}); save or copy it again"
        ) from error
    if not isinstance(config, dict):
        raise ModelError(f"{path}: holds weights and no network; {_whole_model()}")
    return said.get("keras_version", ""), config


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _whole_model() -> str:
    return "save the whole model, model.save('model.keras'), and give that file"


def _without_compilation(value: Any) -> Any:
    """The configuration without losses, metrics and optimizers, which answer nothing and may be anybody's code."""
    if isinstance(value, dict):
        return {key: _without_compilation(inner) for key, inner in value.items() if key != "compile_config"}
    return [_without_compilation(inner) for inner in value] if isinstance(value, list) else value


def _objects(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every dictionary of a configuration, nested models' included."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            yield each
            waiting.extend(reversed(each.values()))
        elif isinstance(each, list):
            waiting.extend(reversed(each))


def _inner(described: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = described.get("config")
    return inner if isinstance(inner, dict) else {}


def _called(described: Mapping[str, Any]) -> str:
    """A layer as a message names it."""
    name = _inner(described).get("name") or described.get("name")
    return f" {str(name)[:60]!r}" if name else ""


def _danger(described: Mapping[str, Any]) -> str:
    """Why building this object would run what the file brings; empty where it would not."""
    kind = str(described.get("class_name", ""))
    registered = str(described.get("registered_name") or "").rpartition(">")[2]
    program = PROGRAMS.get(kind) or PROGRAMS.get(registered)
    if program:
        shown = kind if kind in PROGRAMS else registered
        return f"the layer{_called(described)} is a {shown}: {program}"
    marked = {str(described.get(key)) for key in ("function_type", "output_shape_type", "mask_type", "class_name")}
    if marked & {"lambda", "__lambda__"}:
        return "a function in it is Python byte code"
    if kind in ("TFOpLambda", "SlicingOpLambda"):
        function = str(_inner(described).get("function", ""))
        if not TF_FUNCTIONS.fullmatch(function):
            return f"the layer{_called(described)} calls tf.{function[:60]}, which may do anything"
    return ""


def _foreign(described: Mapping[str, Any]) -> str:
    """What this object is where it is not Keras' own; empty where it is."""
    kind, module = described.get("class_name"), described.get("module")
    if not isinstance(kind, str) or "config" not in described:
        return ""
    registered = str(described.get("registered_name") or "")
    package = registered.partition(">")[0] if ">" in registered else ""
    top, _, rest = str(module or "").partition(".")
    if kind == "function":
        own = top == "builtins" or (top in OWN_PACKAGES and rest.removeprefix("src.").startswith(FUNCTION_MODULES))
        custom = package or (top == "builtins" and registered not in ("", "function", str(described["config"])))
        if own and not custom:
            return ""
        return f"the function {str(described['config'])[:60]}{_place(module, package)}"
    unplaced = "module" in described and not module and registered  # Keras 3 for a class of the program itself
    if not unplaced and (not module or top in OWN_PACKAGES) and package in ("", "keras", "Keras"):
        return ""
    called = _called(described)
    return f"class {kind[:60]}{_place(module, package)}{f' (layer{called})' if called else ''}"


def _place(module: Any, package: str) -> str:
    return f" of {str(module or package)[:60]}" if module or package else ""
