"""Read a Keras file's configuration, before anything of the file is loaded.

The configuration is JSON, inside a zip archive or as an attribute of an HDF5 file: its layers, and whether building
them could run code that the file brings, which is so unless every class and function in it is one of keras_classes.
Knows Keras' two file formats; does not import Keras.
"""

from __future__ import annotations

import importlib
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filterscope.converters.errors import ModelError
from filterscope.converters.sources import keras_classes
from filterscope.converters.sources.scripts import file_limits
from filterscope.converters.sources.scripts.file_limits import LimitError

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
ZIP_SIGNATURE = b"PK\x03\x04"
WEIGHTS = "model.weights.h5"  # of an archive
INSTALL = "pip install 'filterscope[keras]'"

# What is said of those layers, out of all that keras_classes does not list, that a user may want to trust.
PROGRAMS = {
    "Lambda": "a Lambda layer is Python code",
    "TorchModuleWrapper": "it holds a pickled PyTorch module, which is a program",
    "TFSMLayer": "it runs a SavedModel, which is a program",
    "JaxLayer": "it runs a JAX function, which is a program",
    "FlaxLayer": "it runs a Flax module, which is a program",
    "TensorFlowOpLayer": "it holds a part of a TensorFlow graph, which is a program",
    "ClassMethod": "it calls any function of TensorFlow, which is a program",
    "InstanceMethod": "it calls a method by its name, which is a program",
    "InstanceProperty": "it reads a property by its name, which may be a program",
}
BYTE_CODE = ("lambda", "__lambda__")  # values of what says of which kind a function is
FILE_NAMES = ("vocabulary", "idf_weights")  # of a lookup layer: a text there is a file's name


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
    objects = list(_objects(config))
    return KerasFile(
        kind=kind,
        version=version,
        config=config,
        dangers=tuple(dict.fromkeys(danger for each in objects if (danger := _danger(each)))),
        foreign=tuple(dict.fromkeys(name for each in objects if (name := _foreign(each)))),
        formats=tuple({str(inner["data_format"]) for each in objects if (inner := _inner(each)).get("data_format")}),
    )


def _from_archive(path: Path) -> tuple[str, Mapping[str, Any]]:
    """Version and configuration in a zip archive."""
    try:
        with file_limits.open_archive(path) as archive:
            names = set(archive.namelist())
            if "config.json" not in names:
                raise ModelError(f"{path}: a zip archive without a Keras model's config.json; {_whole_model()}")
            config = file_limits.parse_json(file_limits.read_member(archive, "config.json"), "config.json")
            metadata = {}
            if "metadata.json" in names:
                content = file_limits.read_member(archive, "metadata.json", file_limits.NOTE_BYTES)
                metadata = file_limits.parse_json(content, "metadata.json")
            if WEIGHTS in names and find_spec("h5py"):  # the conversion, which needs it, asks for it
                with tempfile.TemporaryDirectory(prefix="filterscope-") as place:
                    file_limits.check_weights(archive, WEIGHTS, importlib.import_module("h5py"), Path(place))
    except LimitError as error:
        raise ModelError(f"{path}: is not a Keras file as Keras writes it, or is damaged: {error}") from error
    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, KeyError, ValueError, TypeError, EOFError) as error:
        raise ModelError(
            f"{path}: is only a part of a Keras file, or damaged ({_line(error)}); save or copy it again"
        ) from error
    if not isinstance(config, dict) or not isinstance(metadata, dict):
        raise ModelError(f"{path}: its config.json describes no model; {_whole_model()}")
    return str(metadata.get("keras_version", "")), config


def _from_hdf5(path: Path) -> tuple[str, Mapping[str, Any]]:
    """Version and configuration in an HDF5 file, after a look at all of its groups and arrays."""
    try:
        h5py = importlib.import_module("h5py")
    except ImportError as error:
        raise ModelError(f"{path}: a Keras file; to open it, {INSTALL}") from error
    try:
        with h5py.File(path, "r") as file:
            limits = {"model_config": file_limits.TEXT_BYTES, "keras_version": file_limits.NOTE_BYTES}
            attributes = {name: _attribute(file, name, limit) for name, limit in limits.items() if name in file.attrs}
            config = (
                file_limits.parse_json(attributes["model_config"], "model_config")
                if "model_config" in attributes
                else None
            )
            file_limits.check_hdf5(file, h5py, path.stat().st_size)
    except LimitError as error:
        raise ModelError(f"{path}: is not a Keras file as Keras writes it, or is damaged: {error}") from error
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:  # h5py raises each for a damaged file
        raise ModelError(
            f"{path}: is only a part of an HDF5 file, or damaged ({_line(error)}); save or copy it again"
        ) from error
    if not isinstance(config, dict):
        raise ModelError(f"{path}: holds weights and no network; {_whole_model()}")
    return attributes.get("keras_version", ""), config


def _attribute(file: Any, name: str, limit: int) -> str:
    """A text beside the arrays of an HDF5 file."""
    held = file.attrs.get_id(name)
    if held.shape not in ((), (1,)) or held.get_storage_size() > limit:
        raise LimitError(f"its {name} is no text, or longer than {limit} bytes")
    value = file.attrs[name]
    return _text(value[0] if held.shape else value)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120]


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _whole_model() -> str:
    return "save the whole model, model.save('model.keras'), and give that file"


def _without_compilation(value: Any) -> Any:
    """The configuration without losses, metrics and optimizers, which compute no output and may be anybody's code."""
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
    """Why building this object might run what the file brings, or read another file; empty where it cannot."""
    if {str(described.get(key)) for key in ("function_type", "output_shape_type", "mask_type", "class_name")} & set(
        BYTE_CODE
    ):
        return "a function in it is Python byte code"
    if "class_name" not in described:
        return ""
    kind = described["class_name"]
    if not isinstance(kind, str):
        return "it names a class by something other than text, which may be a program"
    registered = str(described.get("registered_name") or "").rpartition(">")[2]
    program = PROGRAMS.get(kind) or PROGRAMS.get(registered)
    if program:
        shown = kind if kind in PROGRAMS else registered
        return f"the layer{_called(described)} is a {shown[:60]}: {program}"
    if kind in keras_classes.WRITTEN_BY_KERAS_2:
        function = str(_inner(described).get("function", ""))
        if function not in keras_classes.TENSORFLOW_FUNCTIONS:
            return f"the layer{_called(described)} calls tf.{function[:60]}, which may do anything"
    elif kind in keras_classes.LOOKUPS:
        if not all(_is_list(_inner(described).get(key)) for key in FILE_NAMES):
            return f"the layer{_called(described)} is a {kind} that reads another file of this machine"
    elif kind in keras_classes.LAYERS | keras_classes.MODELS and isinstance(described.get("config"), str):
        return f"the layer{_called(described)}, a {kind}, is described by text, which may hold anything"
    elif kind != "function" and kind not in keras_classes.CLASSES and not _foreign(described):
        return f"{kind[:60]}{_called(described)} is not one of Keras' layers that are known to run no foreign code"
    return ""


def _is_list(value: Any) -> bool:
    """Whether words or numbers stand here, and nothing that could become a file's name."""
    if not isinstance(value, list):
        return value is None
    return all(isinstance(each, (str, int, float)) for each in value)


def _foreign(described: Mapping[str, Any]) -> str:
    """A description of an object that is not Keras' own; empty for Keras' own."""
    kind, module = described.get("class_name"), described.get("module")
    if not isinstance(kind, str):
        return ""
    registered = str(described.get("registered_name") or "")
    package, _, name = registered.rpartition(">")
    if kind == "function":
        called = described.get("config")
        own = module is None or keras_classes.FUNCTION_MODULES.fullmatch(str(module))
        if own and package in keras_classes.PACKAGES and str(called) in keras_classes.FUNCTIONS:
            custom = module == "builtins" and name not in ("", "function", called)
            if isinstance(called, str) and not custom:
                return ""
        return f"the function {str(called)[:60]}{_place(module, package)}"
    unplaced = "module" in described and not module and registered  # Keras 3 for a class of the program itself
    own = not module or keras_classes.MODULES.fullmatch(str(module))
    named = package in keras_classes.PACKAGES or (
        package == keras_classes.UNNAMED_PACKAGE and kind in keras_classes.APPLICATIONS
    )
    if own and not unplaced and named and name in ("", kind):
        return ""
    called = _called(described)
    return f"class {kind[:60]}{_place(module, package)}{f' (layer{called})' if called else ''}"


def _place(module: Any, package: str) -> str:
    return f" of {str(module or package)[:60]}" if module or package else ""
