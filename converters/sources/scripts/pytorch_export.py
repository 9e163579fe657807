"""Export a PyTorch module as ONNX, with its outputs for random images.

Run by sources/child_process.py; imports nothing of ours. The module comes from a factory with its weights, from an
exported program (.pt2), from TorchScript or from a pickle. `export` is used in our own process too, for a live module.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import inspect
import io
import json
import logging
import re
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

SIZES = (224, 32, 28, 64, 96, 128, 256, 299, 384, 512)  # sides tried where nobody says one, the likeliest first
LEGACY_OPSET = 17
NEEDED = "a factory without arguments that makes an nn.Module is needed"
DEPTH = 3  # how deep in a checkpoint a state dict may lie
LONGEST_PREFIX = 8  # parts, of names
MOST_PLACES = 10_000  # in a checkpoint, looked at
# What wraps a network or a part of it, and is put into the names of its tensors: compiled, parallel, sharded, held.
WRAPPERS = frozenset(
    ("_orig_mod", "module", "model", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
)
IGNORED = ("num_batches_tracked", "n_averaged", "total_ops", "total_params")  # counters that decide nothing
# What torchvision's Python half asks torch about while it is imported; its compiled half, where it fits, defines them.
SCHEMAS = {
    "torchvision::nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "torchvision::qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


class RefusedError(Exception):
    """Something the user can mend, in one line."""


class ExportError(RefusedError):
    """One exporter cannot do it; another may."""


def main(folder: Path) -> None:
    """Do what request.json says and write the result beside it."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    torch.manual_seed(0)  # a network without weights is the same twice
    try:
        module, notes = _module(request)
        example, assumed = _example(module, request)
        notes.append(export(module, example, folder, request["exporter"]))
        result: dict[str, Any] = {"notes": notes, "assumed_size": assumed}
    except RefusedError as error:
        result = {"error": str(error), "export": isinstance(error, ExportError)}
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


def export(module: Any, example: Sequence[torch.Tensor], folder: Path, exporter: str) -> str:
    """Write model.onnx and samples.npz.

    Args:
        module: an nn.Module or ScriptModule in eval mode, or an ExportedProgram.
        example: its inputs, batch 2; of a program the batch it was exported for.
        folder: where to write.
        exporter: dynamo, legacy or fixed (legacy without a free batch).

    Returns:
        A sentence on how it was done.

    Raises:
        ExportError: PyTorch cannot export it so.
    """
    program = isinstance(module, torch.export.ExportedProgram)
    arguments = tuple(example)
    path = str(folder / "model.onnx")
    try:
        with _silence(), torch.no_grad():
            if exporter == "dynamo":
                free = None if program else tuple({0: torch.export.Dim.DYNAMIC} for _ in arguments)
                torch.onnx.export(module, arguments, path, dynamo=True, dynamic_shapes=free, verbose=False)
            else:
                names = [f"input_{index}" for index in range(len(arguments))] if len(arguments) > 1 else ["input"]
                torch.onnx.export(
                    module.module() if program else module,
                    arguments if exporter == "legacy" else tuple(x[:1] for x in arguments),
                    path,
                    dynamo=False,
                    opset_version=LEGACY_OPSET,
                    input_names=names,
                    dynamic_axes={name: {0: "N"} for name in names} if exporter == "legacy" else None,
                )
    except Exception as error:
        raise ExportError(f"PyTorch's {exporter} exporter cannot export it: {_short(error)}") from error
    _write_samples(module.module() if program else module, arguments, folder, exporter=exporter, program=program)
    kind = "default" if exporter == "dynamo" else "older"
    batch = ", for a batch of one" if exporter == "fixed" else ""
    return f"Exported from PyTorch {torch.__version__} by its {kind} exporter{batch}."


def _write_samples(module: Any, example: Sequence[torch.Tensor], folder: Path, exporter: str, program: bool) -> None:
    """Answers to values from 0 to 1, and from -1.5 to 0.5: one branch on a sum or a mean is not enough for both."""
    first = len(example[0]) if program else 1
    second = first if program or exporter == "fixed" else 3
    samples: dict[str, np.ndarray] = {}
    generator = torch.Generator().manual_seed(0)
    for label, batch, scale, offset in (
        (f"{first}", first, 1.0, 0.0),
        (f"{second} of darker input", second, 2.0, -1.5),
    ):
        inputs = [
            torch.rand((batch, *x.shape[1:]), generator=generator) * scale + offset
            if x.is_floating_point()
            else x[:1].expand(batch, *x.shape[1:])
            for x in example
        ]
        with _silence(), torch.no_grad():
            answer = module(*inputs)
        leaves = [leaf for leaf in torch.utils._pytree.tree_leaves(answer) if isinstance(leaf, torch.Tensor)]
        samples |= {f"x{label}.{index}": x.numpy() for index, x in enumerate(inputs)}
        samples |= {f"y{label}.{index}": leaf.numpy() for index, leaf in enumerate(leaves)}
    np.savez(folder / "samples.npz", **samples)  # type: ignore[arg-type]


def unwrapped(module: nn.Module) -> nn.Module:
    """The network without the wrappers of training, which the exporters do not see through."""
    while True:
        if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)):
            module = module.module
        elif isinstance(
            getattr(module, "_orig_mod", None), nn.Module
        ):  # torch.compile's, whose class is slow to import
            module = module._orig_mod  # type: ignore[assignment]
        else:
            return module


def prepared(module: nn.Module) -> tuple[nn.Module, list[str]]:
    """The module on the CPU, in eval mode and float32; and notes on what was changed."""
    halves = {str(p.dtype).removeprefix("torch.") for p in module.parameters() if p.is_floating_point()} - {"float32"}
    notes = [f"Weights in {', '.join(sorted(halves))} were made float32."] if halves else []
    return module.cpu().float().eval(), notes


def _module(request: Mapping[str, Any]) -> tuple[Any, list[str]]:
    path = request["path"]
    if request["kind"] == "program":
        return _loaded(path), []
    if request["kind"] == "torchscript":
        module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    elif request["kind"] == "pickle":
        module = _unpickled(path)
    else:
        module = _run_factory(path, request["name"])
    module, notes = prepared(unwrapped(module))
    if request.get("weights"):
        notes += _load_weights(module, request["weights"])
    return module, notes


def _loaded(path: str) -> Any:
    """An exported program. What goes wrong, torch writes to its log and raises another error."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(str((record.exc_info or (None, ""))[1]))  # type: ignore[method-assign]
    log = logging.getLogger("torch.export")
    log.addHandler(handler)
    try:
        return torch.export.load(path)
    except Exception as error:
        why = next((text for text in messages if text), str(error))
        operator = re.search(r"failed to resolve torch\.ops\.([\w.]+) ", why)
        if operator:
            raise RefusedError(
                f"operator {operator[1]} is not PyTorch's own; export it where that package is installed, "
                "torch.onnx.export(..., dynamo=True), and give the .onnx file"
            ) from error
        raise RefusedError(f"cannot be loaded as an exported program: {_short(RuntimeError(why))}") from error
    finally:
        log.removeHandler(handler)


def _unpickled(path: str) -> nn.Module:
    try:
        content = torch.load(path, map_location="cpu", weights_only=False)
    except RuntimeError as error:  # a pickle, and not of torch.save
        raise RefusedError(f"is not a file of torch.save ({_short(error)})") from error
    except (ImportError, AttributeError) as error:
        raise RefusedError(
            f"the class it was pickled from is missing ({error}); run where it can be imported"
        ) from error
    for value in (content, *(content.values() if isinstance(content, dict) else ())):
        if isinstance(value, nn.Module):
            return value
    raise RefusedError(f"the pickle holds a {type(content).__name__} and no nn.Module")


def _run_factory(source: str, name: str) -> nn.Module:
    """The network that the factory of a user's module or file makes."""
    try:
        try:
            value: Any = _imported(source)
        except RuntimeError as error:
            if "torchvision::" not in str(error):
                raise
            _let_torchvision_load()
            value = _imported(source)
        for part in name.split("."):
            if not hasattr(value, part):
                raise RefusedError(f"there is no {part} in it{_perhaps(part, value)}")
            value = getattr(value, part)
        module = _called(value)
    except RefusedError:
        raise
    except ModuleNotFoundError as error:
        raise RefusedError(f"{error}; install it, or run where it can be imported") from error
    except SyntaxError as error:
        raise RefusedError(f"is no Python: {_short(error)}") from error
    except Exception as error:  # the user's own code, and whatever it raises
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f" ({Path(place.filename).name}, line {place.lineno})"
        raise RefusedError(f"raised {type(error).__name__}: {_short(error)}{where}") from error
    except SystemExit as error:
        raise RefusedError(f"ended Python with code {error.code} instead of making a network") from error
    if not isinstance(module, nn.Module):
        raise RefusedError(f"makes {_named(module)}; {NEEDED}")
    return module


def _called(factory: Any) -> Any:
    """Call a factory; a module is returned as it is."""
    if isinstance(factory, nn.Module):
        return factory
    if not callable(factory):
        raise RefusedError(f"is {_named(factory)}; {NEEDED}")
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise RefusedError(f"cannot be called: {error}; {NEEDED}") from error
    except ValueError:  # some callables do not tell
        pass
    return factory()


def _named(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _perhaps(name: str, place: Any) -> str:
    near = difflib.get_close_matches(name, [other for other in dir(place) if other[0] != "_"], n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _imported(source: str) -> Any:
    if not source.endswith(".py"):
        return importlib.import_module(source)
    name = Path(source).stem
    spec = importlib.util.spec_from_file_location(name, source)
    if spec is None or spec.loader is None:
        raise RefusedError(f"{source} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # a dataclass in it looks itself up there
    spec.loader.exec_module(module)
    return module


def _let_torchvision_load() -> None:
    """Define what a torchvision built for another torch lacks, and forget its half of an import."""
    for name, schema in SCHEMAS.items():
        with contextlib.suppress(RuntimeError):  # defined already
            torch.library.define(name, schema)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]


def _example(module: Any, request: Mapping[str, Any]) -> tuple[list[torch.Tensor], str]:
    """An input of batch 2 that the module takes, and a sentence where its size is merely assumed."""
    if isinstance(module, torch.export.ExportedProgram):
        if module.example_inputs is not None:
            return [x for x in module.example_inputs[0] if isinstance(x, torch.Tensor)], ""
        raise RefusedError("the archive keeps no example input; save it again with torch.export.save")
    needed = _inputs(module)
    if len(needed) > 1:
        raise RefusedError(
            f"takes several inputs ({', '.join(needed)}): export it to ONNX or .pt2 with an example of each, then "
            "name the image's input with `input` and feed the others with `feed`"
        )
    channels = request["channels"] or _channels(module)
    own = getattr(module, "pretrained_cfg", None) or getattr(module, "default_cfg", None) or {}
    own_size = tuple(own["input_size"][1:]) if isinstance(own, Mapping) and own.get("input_size") else None
    fixed_size = tuple(request["size"]) if request["size"] else own_size
    failure: Exception | None = None
    for size in [fixed_size] if fixed_size else [(side, side) for side in SIZES]:
        x = torch.rand(2, channels, *size)
        try:
            with _silence(), torch.no_grad():
                module(x)
        except Exception as error:
            failure = failure or error
            continue
        if fixed_size:
            return [x], ""
        return [x], f"Assumed: an input of {size[0]}x{size[1]}, the first size that runs; `input_size` sets another."
    tried = f"{fixed_size[0]}×{fixed_size[1]}" if fixed_size else "any usual size"
    assert failure is not None
    raise RefusedError(
        f"does not run on {channels} channels at {tried} ({_short(failure)}); give `input_size` and `input_channels`"
    )


def _inputs(module: nn.Module) -> list[str]:
    """The required inputs of the module's forward; empty where its signature does not tell."""
    if isinstance(module, torch.jit.ScriptModule):
        schema: Any = module.forward.schema  # type: ignore[attr-defined]
        arguments = schema.arguments[1:]
        return [argument.name for argument in arguments if not argument.has_default_value()]
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        return []
    varying = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [each.name for each in parameters if each.default is inspect.Parameter.empty and each.kind not in varying]


def _channels(module: nn.Module) -> int:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            return int(layer.in_channels)
    kernels = [value for value in module.state_dict().values() if value.ndim == 4]
    return int(kernels[0].shape[1]) if kernels else 3


def _load_weights(module: nn.Module, path: str) -> list[str]:
    """Put a file's tensors into the module; returns notes."""
    expected = module.state_dict()
    tensors, notes = _fitting(_tensors(path), expected)
    counters = [key for key in tensors if key.endswith(IGNORED)]
    unexpected = [key for key in tensors if key not in expected and key not in counters]
    misshaped = [key for key in tensors if key in expected and tensors[key].shape != expected[key].shape]
    missing = [key for key in expected if key not in tensors and not key.endswith(IGNORED)]
    head = [key for key in missing if key in _after_last_convolution(module)]
    if unexpected or misshaped or len(missing) > len(head):
        raise RefusedError(_misfit(missing, unexpected, misshaped, tensors=tensors, expected=expected))
    module.load_state_dict({key: value for key, value in tensors.items() if key in expected}, strict=False)
    if head:
        notes.append(
            f"{len(head)} tensors after the last convolution are not among the weights ({head[0]}, …): the layers are "
            "right, but the network's outputs are meaningless."
        )
    return notes


def _misfit(missing: list[str], unexpected: list[str], misshaped: list[str], *, tensors: Any, expected: Any) -> str:
    parts = []
    if missing:
        parts.append(f"{len(missing)} of the network's {len(expected)} tensors are missing, the first is {missing[0]}")
    if unexpected:
        parts.append(f"{len(unexpected)} are unexpected, the first is {unexpected[0]}")
    if misshaped:
        key = misshaped[0]
        shapes = f"{list(tensors[key].shape)} where the network has {list(expected[key].shape)}"
        parts.append(f"{len(misshaped)} have another shape, the first is {key}: {shapes}")
    return f"the weights do not fit: {'; '.join(parts)}"


def _after_last_convolution(module: nn.Module) -> set[str]:
    """Keys of the linear layers that are registered after the last convolution."""
    names = [name for name, _ in module.named_modules()]
    layers = dict(module.named_modules())
    last = max(
        (i for i, name in enumerate(names) if isinstance(layers[name], nn.modules.conv._ConvNd)), default=len(names)
    )
    heads = [name for name in names[last:] if isinstance(layers[name], nn.Linear)]
    return {f"{name}.{key}" for name in heads for key in layers[name].state_dict()}


def _tensors(path: str) -> Any:
    if path.endswith(".safetensors"):
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except Exception as error:
            raise RefusedError(f"{path} is no safetensors file: {_short(error)}") from error
    try:
        with _silence():
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise RefusedError(f"{path}: no such file") from error
    except EOFError as error:
        raise RefusedError(f"{path} is empty, or only a part of a file; save or copy it again") from error
    except Exception:  # unpickling fails in many ways, most often on a class beside the tensors
        return _read_inert(path)


def _read_inert(path: str) -> Any:
    """A checkpoint of which torch refuses some class: its tensors, and nothing of it run."""
    reader = _neighbour("inert_checkpoint")
    try:
        return reader.read(path)
    except reader.CheckpointError as error:
        raise RefusedError(f"{path} cannot be read as weights: {error}") from error


def _neighbour(name: str) -> Any:
    """A module of this folder, which is on no path: the user's own may bear its name."""
    own = f"_filterscope_{name}"
    if own not in sys.modules:
        spec = importlib.util.spec_from_file_location(own, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[own] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[own])
    return sys.modules[own]


def _fitting(content: Any, expected: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The state dict inside a checkpoint that fits the network best, under the network's names.

    A prefix may stand before all names, and wrappers' names anywhere in them, as torch.compile and DataParallel write.
    """
    plain = _by_plain_name(expected)
    best: tuple[tuple[int, int], str, str, dict[str, torch.Tensor]] | None = None
    for place, tensors in _state_dicts(content):
        score, prefix = _best_prefix(tensors, expected, plain)
        if best is None or score > best[0]:
            best = (score, place, prefix, tensors)
    passed_over = _neighbour("inert_checkpoint").names_of_inert(content)
    if best is None:
        what = f"{', '.join(passed_over)}, which is not run," if passed_over else f"a {type(content).__name__}"
        raise RefusedError(f"the weights file holds {what} and no state dict")
    _, place, prefix, tensors = best
    stripped = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
    renamed, wrappers = _renamed(stripped, expected, plain)
    notes = [f"The weights are the checkpoint's {place!r}."] if place else []
    if passed_over:
        notes.append(f"Beside tensors the weights file holds {', '.join(passed_over)}; nothing of it was run.")
    if prefix:
        notes.append(f"The prefix {prefix!r} was taken off the weights' names.")
    if wrappers:
        notes.append(f"{', '.join(map(repr, wrappers))} was taken out of the weights' names.")
    return renamed, notes


def _best_prefix(
    tensors: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], plain: Mapping[str, str]
) -> tuple[tuple[int, int], str]:
    """The prefix without which most names fit the network; how many do, and how many of them as they stand."""
    fits: dict[str, tuple[int, int]] = {"": (0, 0)}
    for key, value in tensors.items():
        parts = key.split(".")
        for count in range(min(len(parts), LONGEST_PREFIX + 1)):
            prefix = "".join(f"{part}." for part in parts[:count])
            name = key[len(prefix) :]
            target = name if name in expected else plain.get(_plain(name))
            if target is not None and expected[target].shape == value.shape:
                fit, exact = fits.get(prefix, (0, 0))
                fits[prefix] = (fit + 1, exact + (target == name))
    prefix = max(fits, key=lambda prefix: (fits[prefix], -len(prefix)))
    return fits[prefix], prefix


def _renamed(
    tensors: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], plain: Mapping[str, str]
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Tensors under the network's names, and the wrappers that are not in these."""
    renamed = {key: value for key, value in tensors.items() if key in expected}
    wrappers: dict[str, None] = {}
    for key, value in tensors.items():
        target = plain.get(_plain(key), key)
        if key in expected:
            continue
        if target in renamed:  # two for one: neither is taken for the other
            target = key
        renamed[target] = value
        if target != key:
            wrappers |= {part: None for part in key.split(".") if part in WRAPPERS and part not in target.split(".")}
    return renamed, list(wrappers)


def _by_plain_name(expected: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """The network's names by what they are without wrappers, where that is one name's alone."""
    names: dict[str, list[str]] = {}
    for key in expected:
        names.setdefault(_plain(key), []).append(key)
    return {name: keys[0] for name, keys in names.items() if len(keys) == 1}


def _plain(key: str) -> str:
    return ".".join(part for part in key.split(".") if part not in WRAPPERS)


def _state_dicts(content: Any) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """Dictionaries of tensors in a checkpoint, the outer first, and where they stand."""
    reader = _neighbour("inert_checkpoint")
    left: list[tuple[str, Any]] = [("", content)]
    seen: set[int] = set()  # what is shared is looked at once
    for _ in range(DEPTH + 1):
        inner: list[tuple[str, Any]] = []
        for place, value in left[:MOST_PLACES]:
            if id(value) in seen:
                continue
            seen.add(id(value))
            tensors = reader.tensors_in(value)
            if tensors:
                yield place, tensors
            if not reader.is_module(value):
                parts = reader.parts_of(value).items()
                inner += [(f"{place}.{key}" if place else key, part) for key, part in parts]
        left = inner


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Silence what the exporters print, warn and log: our user does not need it."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _short(error: BaseException, limit: int = 240) -> str:
    while type(error).__module__.startswith("torch.onnx") and error.__cause__ is not None:
        error = error.__cause__  # its own text tells how to report it; the cause what happened
    text = str(error)
    if "TorchScript" in text:  # a traceback of its own code, what happened in its last line
        text = text.strip().splitlines()[-1]
    text = " ".join(text.split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
