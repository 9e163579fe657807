"""The result of an opening as JSON and files, for the way across the boundary and for the user's cache.

Nothing here is a pickle. What comes back from a worker is read as data of known types; the normal form is the one
protobuf among it, written by our own code after it ran.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from filterscope.analyzer.network.inputs import InputSpec
from filterscope.analyzer.network.network import InputOptions, Network, assemble
from filterscope.analyzer.network.preprocessing import Preprocessing
from filterscope.converters import errors
from filterscope.converters.errors import (
    Convolution,
    FilterscopeError,
    ModelError,
    SettingsError,
    UnsupportedOperatorError,
)
from filterscope.converters.normal_form.canonical import CanonicalModel
from filterscope.converters.onnx_file import model_file
from filterscope.converters.onnx_file.model_file import ModelFile
from filterscope.converters.parity import Alone
from filterscope.converters.sources import live

if TYPE_CHECKING:
    from collections.abc import Iterable

NORMAL, EXPORT, FACTS = "normal.onnx", "export.onnx", "opened.json"


def write(network: Network, folder: Path) -> dict[str, Any]:
    """Write an opened network's files; returns all other facts of it, as JSON.

    Args:
        network: with its evidence, as `open_here` gives it.
        folder: gets normal.onnx, and export.onnx where another framework's model was converted.
    """
    model = network.model
    (folder / NORMAL).write_bytes(model.proto.SerializeToString())
    if model.converted:
        (folder / EXPORT).write_bytes(model.exported())
    return {
        "path": str(model.path),
        "sha256": model.sha256,
        "notes": list(model.notes),
        "converted": model.converted,
        "layer_names": dict(model.layer_names),
        "module_outputs": {path: list(values) for path, values in model.module_outputs.items()},
        "normalised": sorted(model.normalised),
        "opset": model.opset,
        "producer": model.producer,
        "metadata": dict(model.metadata),
        "batch": model.batch,
        "external": list(model.external),
        "alone": network.alone.to_json(),
        "input": dataclasses.asdict(network.input),
        "shapes": {name: list(shape) for name, shape in network.shapes.items()},
    }


def read(facts: Mapping[str, Any], folder: Path) -> Network:
    """The network that `write` wrote, without the evidence for its proof.

    Raises:
        KeyError, TypeError, ValueError: the facts are not such.
        OSError: a file is missing.
    """
    export = (folder / EXPORT).read_bytes() if facts["converted"] else None
    model = CanonicalModel(
        path=Path(facts["path"]),
        sha256=facts["sha256"],
        proto=model_file.parse((folder / NORMAL).read_bytes()),
        notes=tuple(facts["notes"]),
        converted=facts["converted"],
        layer_names=facts["layer_names"],
        module_outputs={path: tuple(values) for path, values in facts["module_outputs"].items()},
        normalised=frozenset(facts["normalised"]),
        opset=facts["opset"],
        producer=facts["producer"],
        metadata=facts["metadata"],
        batch=facts["batch"],
        external=tuple(facts["external"]),
        export=export,
    )
    fields = dict(facts["input"])
    preprocessing = Preprocessing(**_tuples(fields.pop("preprocessing")))
    spec = InputSpec(preprocessing=preprocessing, **_tuples(fields))
    shapes = {name: tuple(shape) for name, shape in facts["shapes"].items()}
    return assemble(model, spec, shapes, Alone.from_json(facts["alone"]))


def options_to_json(options: InputOptions) -> dict[str, Any]:
    """The user's settings of the input, without the other inputs' arrays."""
    content = dataclasses.asdict(dataclasses.replace(options, feeds={}))
    del content["feeds"]
    return content


def input_options(content: Mapping[str, Any], feeds: Mapping[str, np.ndarray]) -> InputOptions:
    """Inverse of `options_to_json`."""
    fields = _tuples(content)
    if fields["preprocessing"] is not None:
        fields["preprocessing"] = Preprocessing(**_tuples(fields["preprocessing"]))
    return InputOptions(**fields, feeds=feeds)


def live_facts(file: ModelFile) -> dict[str, Any]:
    """The facts about a model that the user held in memory, without the model."""
    return {
        "path": str(file.path),
        "sha256": file.sha256,
        "notes": list(file.notes),
        "assumed_size": file.assumed_size,
        "converted": file.converted,
        "is_read": True,
    }


def unread_facts(shown: str) -> dict[str, Any]:
    """The same of a model's bytes that have not been parsed yet."""
    return {"path": shown, "is_read": False}


def live_file(facts: Mapping[str, Any], path: Path) -> ModelFile:
    """A model that the user held in memory, from the file into which its bytes were written.

    Raises:
        ModelError: bytes that had not been parsed are no model.
    """
    if not facts["is_read"]:
        return live.read_as(path, facts["path"])
    return ModelFile(
        path=Path(facts["path"]),
        sha256=facts["sha256"],
        proto=model_file.parse(path.read_bytes()),
        notes=tuple(facts["notes"]),
        assumed_size=facts["assumed_size"],
        converted=facts["converted"],
    )


def error_to_json(error: FilterscopeError, convolutions: Iterable[Convolution]) -> dict[str, Any]:
    """An error for the user, by the name of its kind."""
    return {
        "kind": type(error).__name__,
        "text": str(error),
        "field": getattr(error, "field", ""),
        "value": _plain(getattr(error, "value", None)),
        "convolutions": [dataclasses.asdict(convolution) for convolution in convolutions],
    }


def error_from_json(content: Mapping[str, Any]) -> FilterscopeError:
    """Inverse of `error_to_json`; a kind that is not ours is a ModelError."""
    kind = getattr(errors, str(content["kind"]), ModelError)
    text = str(content["text"])
    if kind is UnsupportedOperatorError:
        listed = tuple(Convolution(**_tuples(each)) for each in content["convolutions"])
        return UnsupportedOperatorError(text, listed)
    if kind is SettingsError:
        (value,) = _tuples({"value": content["value"]}).values()
        return SettingsError(text, field=str(content["field"]), value=value)
    if not (isinstance(kind, type) and issubclass(kind, FilterscopeError)):
        kind = ModelError
    return kind(text)


def _plain(value: object) -> object:
    """What JSON can say of a setting's value."""
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def _tuples(content: Mapping[str, Any]) -> dict[str, Any]:
    """The same with tuples in place of lists, the only sequence that JSON has."""
    return {
        name: tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
        for name, value in content.items()
    }
