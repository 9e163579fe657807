"""Export a Keras model or a SavedModel as ONNX, with its outputs for random images. Run by sources/child_process.py.

Whether it may be loaded at all was decided before (sources/keras_files.py). Four ways: Keras 3 on TensorFlow, Keras
2 (tf_keras), Keras 3 on PyTorch, and TensorFlow alone for a SavedModel. Imports nothing of ours but its neighbours.
"""

# mypy: disable-error-code="import-untyped,import-not-found"

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

OPSET = 18  # the newest that tf2onnx 1.16 and 1.17 write
LEGACY_OPSET = 17
SIDES = (224, 128, 64, 299, 32, 96, 256, 331, 512)  # tried where a model is open in height and width
LENGTH = 16  # of an open axis that is not an image's
BATCHES = (1, 3)
PREPROCESSING = ("Rescaling", "Normalization")  # a model that has such a layer takes pixels as they are
# What tf2onnx has no rule for, and Keras' gelu and celu need: operator → (ONNX's, which of it and 1 comes first).
UNKNOWN = {"Erfc": ("Erf", "one"), "Expm1": ("Exp", "value")}


class RefusedError(Exception):
    """Something the user can mend, in one line."""


class ExportError(RefusedError):
    """One way cannot do it; another may."""


@dataclass(frozen=True)
class Source:
    """A loaded model as a function of tensors."""

    call: Callable[..., Mapping[str, Any]]  # its inputs, one by one → outputs by name
    names: tuple[str, ...]  # of the inputs
    shapes: tuple[tuple[int | None, ...], ...]  # of the inputs, batch first; None is open
    dtypes: tuple[str, ...]
    kernels: list[Any]  # keras_layer_names.Kernel
    made_by: str  # for the note
    module: Any = None  # the model itself, where PyTorch is to find its weights
    brightest: float = 1.0  # value of an image's brightest pixel


def main(folder: Path) -> None:
    """Do what request.json says and write the result beside it."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    os.environ["KERAS_HOME"] = str(folder)  # the user's keras.json may turn channels or precision round
    sys.path.append(str(Path(__file__).parent))  # last, for our neighbours alone
    notes: list[str] = []
    try:
        with _silence():
            source = LOADERS[request["way"]](request, folder, notes)
            examples = _examples(source, request, notes)
            export = _by_torch if request["way"] == "torch" else _by_tf2onnx
            export(source, examples, folder, notes)
        result: dict[str, Any] = {"notes": notes}
    except RefusedError as error:
        result = {"error": str(error), "export": isinstance(error, ExportError)}
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


def _keras(request: Mapping[str, Any], folder: Path, notes: list[str]) -> Source:
    """A whole-model file, in Keras 3 or in tf_keras."""
    legacy = request["way"] == "tf_keras"
    keras = importlib.import_module("tf_keras" if legacy else "keras")
    framework = importlib.import_module("torch" if request["way"] == "torch" else "tensorflow")
    name = "PyTorch" if request["way"] == "torch" else "TensorFlow"
    made_by = f"{'tf_keras' if legacy else 'Keras'} {keras.__version__} on {name} {framework.__version__}"
    copying = importlib.import_module("keras_copy")
    try:
        path, changes = copying.write(Path(request["path"]), request["kind"], request["config"], folder)
    except copying.file_limits.LimitError as error:
        raise RefusedError(str(error)) from error
    except Exception as error:  # each layer of a damaged archive fails in its own way
        raise RefusedError(f"is damaged ({_short(error)}); save or copy it again") from error
    notes.extend(changes)
    try:
        custom = _custom_objects(request["config"]) if request["trust"] else {}
        model = keras.models.load_model(str(path), custom_objects=custom, compile=False, safe_mode=not request["trust"])
    except Exception as error:  # whatever a layer's constructor raises
        raise ExportError(f"{made_by} cannot load it: {_load_failure(error, request['kind'])}") from error
    names, shapes, dtypes = _inputs(model)

    def call(*tensors: Any) -> dict[str, Any]:
        results = list(_flat(model(_packed(model, tensors, legacy), training=False)))
        output_names = getattr(model, "output_names", None) or []
        outputs = (
            output_names if len(output_names) == len(results) else [f"output_{index}" for index in range(len(results))]
        )
        return dict(zip(_unique(outputs), results, strict=True))

    kernels = importlib.import_module("keras_layer_names").kernels(model)
    if request["way"] == "torch":
        model.eval()
    scales = any(type(layer).__name__ in PREPROCESSING for layer in model._flatten_layers())
    return Source(
        call,
        names=names,
        shapes=shapes,
        dtypes=dtypes,
        kernels=kernels,
        made_by=made_by,
        module=model,
        brightest=255.0 if scales else 1.0,
    )


def _saved_model(request: Mapping[str, Any], folder: Path, notes: list[str]) -> Source:
    """A SavedModel's serving signature; its kernels are those of its variables that still bear their layer's name."""
    import tensorflow as tf

    named = importlib.import_module("keras_layer_names")
    try:
        loaded = tf.saved_model.load(request["path"])
    except Exception as error:
        raise RefusedError(f"TensorFlow cannot load it: {_short(error)}") from error
    if not loaded.signatures:
        raise RefusedError(
            "has no serving signature, which would describe its inputs; save it with model.export(folder)"
        )
    serving = loaded.signatures.get("serving_default") or next(iter(loaded.signatures.values()))
    specs = dict(serving.structured_input_signature[1])

    def call(*tensors: Any, keep: Any = loaded) -> dict[str, Any]:  # a signature dies with what it was loaded in
        return dict(serving(**dict(zip(specs, tensors, strict=True))))

    return Source(
        call,
        names=_unique(list(specs)),
        shapes=tuple(tuple(spec.shape.as_list()) for spec in specs.values()),
        dtypes=tuple(spec.dtype.name for spec in specs.values()),
        kernels=named.kernels_of_variables(serving.variables),
        made_by=f"a SavedModel on TensorFlow {tf.__version__}",
    )


LOADERS = {"keras": _keras, "tf_keras": _keras, "torch": _keras, "saved_model": _saved_model}


def _custom_objects(value: Any) -> dict[str, Any]:
    """The classes and functions of the user's own modules that a configuration names, by the name it has for them."""
    objects: dict[str, Any] = {}
    if isinstance(value, list):
        for inner in value:
            objects |= _custom_objects(inner)
    elif isinstance(value, dict):
        module, name = value.get("module"), value.get("class_name")
        if isinstance(module, str) and module.partition(".")[0] not in ("keras", "tf_keras", "builtins", "__main__"):
            name = value["config"] if name == "function" else name
            objects[str(value.get("registered_name") or name)] = getattr(importlib.import_module(module), str(name))
        for inner in value.values():
            objects |= _custom_objects(inner)
    return objects


def _load_failure(error: BaseException, kind: str) -> str:
    unknown = re.search(r"(?:locate|Unknown) (class|layer|object|(?:activation )?function)[:\s]+'(\w+)'", str(error))
    if unknown and unknown[2] in ("TFOpLambda", "SlicingOpLambda"):
        return f"its layer {unknown[2]} is known to Keras 2 alone"
    operation = unknown[2] if unknown and _is_operation(unknown[2]) else ""
    if kind == "h5" and (operation or "may be passed as positional arguments" in str(error)):
        called = f" ({operation})" if operation else ""
        return (
            f"HDF5 cannot hold the operations between its layers{called}; save it again where it was made, "
            "model.save('model.keras'), or export it there: model.export('model.onnx', format='onnx')"
        )
    if unknown:
        return (
            f"its {unknown[1]} {unknown[2]} is no part of Keras; export it where that is defined: "
            "model.export('model.onnx', format='onnx')"
        )
    return _short(error)


def _is_operation(name: str) -> bool:
    """Whether Keras 3 has a function that makes operations of this name: true_divide makes a TrueDivide."""
    functions = getattr(sys.modules.get("keras"), "ops", None)
    return hasattr(functions, re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower())


def _inputs(model: Any) -> tuple[tuple[str, ...], tuple[tuple[int | None, ...], ...], tuple[str, ...]]:
    """Names, shapes and types of a model's inputs."""
    try:
        inputs = list(model.inputs or ())
    except (AttributeError, ValueError):  # a model that was never called
        inputs = []
    if inputs:
        names = [str(tensor.name).split(":")[0] for tensor in inputs]
        kinds = [getattr(tensor.dtype, "name", str(tensor.dtype)) for tensor in inputs]
        return _unique(names), tuple(tuple(tensor.shape) for tensor in inputs), tuple(kinds)
    build = model.get_build_config() if hasattr(model, "get_build_config") else None
    shape = (build or {}).get("input_shape")
    if isinstance(shape, (list, tuple)) and all(extent is None or isinstance(extent, int) for extent in shape):
        return ("input",), ((None, *shape[1:]),), ("float32",)
    raise RefusedError(
        "does not say what its input is; a subclassed model does so only once it was called. Build it from "
        "keras.Input, or export it where it is defined: model.export('model.onnx', format='onnx')"
    )


def _packed(model: Any, tensors: Sequence[Any], legacy: bool) -> Any:
    """Tensors in the structure that the model is called with."""
    if len(tensors) == 1:
        return tensors[0]
    if legacy:
        import tensorflow as tf

        return tf.nest.pack_sequence_as(model._nested_inputs, list(tensors))
    import keras

    return keras.tree.pack_sequence_as(model._inputs_struct, list(tensors))


def _flat(value: Any) -> Iterator[Any]:
    """The tensors of nested lists and dictionaries."""
    if isinstance(value, Mapping):
        for key in sorted(value):
            yield from _flat(value[key])
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _flat(inner)
    else:
        yield value


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name if names.index(name) == index else f"{name}_{index}" for index, name in enumerate(names))


def _examples(source: Source, request: Mapping[str, Any], notes: list[str]) -> list[tuple[int, ...]]:
    """A shape without its batch for each input, on which the model runs."""
    open_sides = any(len(shape) == 4 and None in shape[1:] for shape in source.shapes)
    fixed = tuple(request["size"]) if request["size"] else None
    failure: Exception | None = None
    for size in [fixed] if fixed else [(side, side) for side in SIDES if open_sides or side == SIDES[0]]:
        shapes = [_closed(shape, size, request.get("channels") or 3) for shape in source.shapes]
        try:
            source.call(*(_tensors(source, shapes, 1, request["way"])))
        except Exception as error:
            failure = failure or error
            continue
        if open_sides and not fixed:
            notes.append(f"It was tried on images of {size[0]}×{size[1]}, the first size that runs.")
        return shapes
    assert failure is not None
    tried = f" at {fixed[0]}×{fixed[1]}" if open_sides and fixed else " at any usual size" if open_sides else ""
    raise ExportError(f"{source.made_by} does not run it{tried}: {_short(failure)}")


def _closed(shape: Sequence[int | None], size: tuple[int, int], channels: int) -> tuple[int, ...]:
    """A shape without its batch and with nothing open."""
    inner = list(shape[1:])
    if len(inner) != 3:
        return tuple(extent or LENGTH for extent in inner)
    if inner[0] is not None and inner[1] is None and inner[2] is None:  # channels first
        return (inner[0], *size)
    return (inner[0] or size[0], inner[1] or size[1], inner[2] or channels)


def _arrays(source: Source, shapes: Sequence[tuple[int, ...]], batch: int) -> list[np.ndarray]:
    rng = np.random.default_rng(batch)
    return [
        (source.brightest * rng.random((batch, *shape))).astype(dtype)
        if "float" in dtype
        else rng.integers(0, 256 if dtype == "uint8" else 2, (batch, *shape)).astype(dtype)
        for shape, dtype in zip(shapes, source.dtypes, strict=True)
    ]


def _tensors(source: Source, shapes: Sequence[tuple[int, ...]], batch: int, way: str) -> list[Any]:
    arrays = _arrays(source, shapes, batch)
    if way == "torch":
        import torch

        return [torch.from_numpy(array) for array in arrays]
    import tensorflow as tf

    return [tf.constant(array) for array in arrays]


def _by_tf2onnx(source: Source, shapes: Sequence[tuple[int, ...]], folder: Path, notes: list[str]) -> None:
    import tensorflow as tf
    import tf2onnx

    function = tf.function(source.call, autograph=False)
    open_shapes = [(None, *shape[1:]) for shape in source.shapes]
    closed_shapes = [(None, *shape) for shape in shapes]
    failure: Exception | None = None
    signatures = [open_shapes] if open_shapes == closed_shapes else [open_shapes, closed_shapes]
    ways: tuple[Callable[[], contextlib.AbstractContextManager[None]], ...] = (_without_copies, contextlib.nullcontext)
    for tried, lean in itertools.product(signatures, ways):
        signature = [
            tf.TensorSpec(shape, dtype, name=name)
            for shape, dtype, name in zip(tried, source.dtypes, source.names, strict=True)
        ]
        try:
            with _without_xla(), lean():
                captures = function.get_concrete_function(*signature).graph.captures
                proto, _ = tf2onnx.convert.from_function(
                    function, signature, opset=OPSET, custom_op_handlers={name: (_unknown, []) for name in UNKNOWN}
                )
            break
        except Exception as error:
            failure = failure or error
    else:
        assert failure is not None
        raise ExportError(f"tf2onnx cannot export it: {_short(failure)}") from failure
    _settle(proto, {inside.name: value for value, inside in captures if value.dtype != tf.resource})
    notes.append(f"Exported from {source.made_by} by tf2onnx {tf2onnx.__version__}.")
    _finish(proto, source, shapes, folder, notes=notes, way="tensorflow")


@contextlib.contextmanager
def _without_copies() -> Iterator[None]:
    """Keep tf2onnx from copying the graph before each optimiser, and from writing it anew after each.

    Protobuf gives nothing back that a message once held: the 553 MB of VGG16 grew to more than 24 GB. The graph is
    written when all is done anyway. Where an optimiser fails, which tf2onnx survives by its copy, the attempt fails.
    """
    optimizer: Any = importlib.import_module("tf2onnx.optimizer")
    base = importlib.import_module("tf2onnx.optimizer.optimizer_base").GraphOptimizerBase
    optimize, optimize_graph = base.optimize, optimizer.optimize_graph

    def in_place(self: Any, graph: Any, iteration: int) -> Any:
        self.opt_iteration = iteration
        graph = self._optimize(graph)
        graph.delete_unused_nodes(graph.outputs)
        return graph

    base.optimize = in_place
    optimizer.optimize_graph = lambda graph, *_, **__: optimize_graph(graph, catch_errors=False)
    try:
        yield
    finally:
        base.optimize, optimizer.optimize_graph = optimize, optimize_graph


@contextlib.contextmanager
def _without_xla() -> Iterator[None]:
    """Keras compiles grouped convolutions, which TensorFlow cannot run on a processor, into calls without an inside."""
    import tensorflow as tf

    compiled = tf.function
    tf.function = lambda *arguments, jit_compile=None, **options: compiled(*arguments, **options)
    try:
        yield
    finally:
        tf.function = compiled


def _unknown(graph: Any, node: Any, name: str, _: Any) -> None:
    """Write one of UNKNOWN as ONNX has it."""
    inner, minuend = UNKNOWN[node.type]
    output = node.output[0]
    shape, dtype = graph.get_shape(output), graph.get_dtype(output)
    graph.remove_node(name)
    one = graph.make_const(f"{name}/one", np.ones((), np.float32)).output[0]
    value = graph.make_node(inner, [node.input[0]], shapes=[shape], dtypes=[dtype]).output[0]
    terms = [one, value] if minuend == "one" else [value, one]
    graph.make_node("Sub", terms, outputs=[output], name=name, shapes=[shape], dtypes=[dtype])


def _settle(proto: Any, captured: Mapping[str, Any]) -> None:
    """Make initializers of constants that a layer holds as tensors (Normalization), which tf2onnx takes for inputs."""
    from onnx import numpy_helper

    inputs = [value for value in proto.graph.input if value.name not in captured]
    read = {name for node in proto.graph.node for name in node.input}
    for value in proto.graph.input:
        if value.name in captured and value.name in read:
            proto.graph.initializer.append(numpy_helper.from_array(captured[value.name].numpy(), value.name))
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)


def _by_torch(source: Source, shapes: Sequence[tuple[int, ...]], folder: Path, notes: list[str]) -> None:
    import onnx
    import torch

    outputs = list(source.call(*_tensors(source, shapes, 1, "torch")))

    class Flat(torch.nn.Module):
        """The model with its outputs in a row; the exporters ask for a module."""

        def __init__(self) -> None:
            super().__init__()
            self.model = source.module

        def forward(self, *tensors: Any) -> tuple[Any, ...]:
            return tuple(source.call(*tensors).values())

    path, example = str(folder / "model.onnx"), tuple(_tensors(source, shapes, 2, "torch"))
    names: dict[str, Any] = {"input_names": list(source.names), "output_names": outputs}
    failure: Exception | None = None
    for exporter in ("default", "older"):
        try:
            if exporter == "default":
                free = ({0: torch.export.Dim.DYNAMIC},) * len(example)
                torch.onnx.export(Flat(), example, path, dynamo=True, dynamic_shapes=(free,), verbose=False, **names)
            else:
                axes = {name: {0: "N"} for name in source.names}
                torch.onnx.export(
                    Flat(), example, path, dynamo=False, opset_version=LEGACY_OPSET, dynamic_axes=axes, **names
                )
            break
        except Exception as error:
            failure = failure or error
    else:
        assert failure is not None
        raise ExportError(f"PyTorch's exporters cannot export it: {_short(failure)}") from failure
    notes.append(f"Exported from {source.made_by} by its {exporter} exporter.")
    if any(None in shape[1:] for shape in source.shapes):
        notes.append("Its height and width, which are open in Keras, are fixed in this export.")
    _finish(onnx.load(path), source, shapes, folder, notes=notes, way="torch")


def _finish(
    proto: Any, source: Source, shapes: Sequence[tuple[int, ...]], folder: Path, notes: list[str], way: str
) -> None:
    """Name the layers, write model.onnx and samples.npz."""
    import onnx

    scaled = importlib.import_module("keras_layer_names").rename(proto, source.kernels)
    if scaled:
        notes.append(f"{scaled} convolutions hold the BatchNorm that follows them: their values are those after it.")
    onnx.save(proto, folder / "model.onnx")
    samples: dict[str, np.ndarray] = {}
    for batch in BATCHES:
        arrays = dict(zip(source.names, _arrays(source, shapes, batch), strict=True))
        answers = source.call(*_tensors(source, shapes, batch, way))
        samples |= {f"x{batch}.{i}": arrays[value.name] for i, value in enumerate(proto.graph.input)}
        samples |= {f"y{batch}.{i}": _numpy(answers[value.name]) for i, value in enumerate(proto.graph.output)}
    np.savez(folder / "samples.npz", **samples)  # type: ignore[arg-type]


def _numpy(tensor: Any) -> np.ndarray:
    return np.asarray(tensor.detach() if hasattr(tensor, "detach") else tensor)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Silence what the frameworks print, log and warn; what ends the process is still shown."""
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings(), Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        warnings.simplefilter("ignore")
        yield


def _short(error: BaseException, limit: int = 240) -> str:
    text = re.sub(r"\x1b\[[\d;]*m|Full object config: .*|config=\{.*", "", str(error), flags=re.S)  # Keras writes bold
    text = " ".join(text.split())
    text = text or type(error).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
