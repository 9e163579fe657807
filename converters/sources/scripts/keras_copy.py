"""The copy of a Keras file that is loaded: with the configuration that was looked through, made loadable and float32.

Nothing else is copied: neither how it was trained nor members that Keras does not write. Knows the layouts of .keras
archives and HDF5 files; does not import Keras. Used by keras_export.py; imports nothing of ours but its neighbours.
"""

from __future__ import annotations

import importlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HALVES = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")
if __package__:  # one of our process's modules
    from filterscope.converters.sources.scripts import file_limits
else:  # a neighbour of the script that is run
    file_limits = importlib.import_module("file_limits")

WEIGHTS = "model.weights.h5"
ASSETS = "assets/"  # with WEIGHTS and two texts, all that Keras writes and that is copied
TRAINING = "training_config"  # how it was compiled, which nobody needs and which may name anything
# Operations whose names are layers' too → scale and offset, of a number and whether it stands behind the tensor.
OPERATIONS: dict[str, Callable[[float, bool], tuple[float, float]]] = {
    "Add": lambda number, _: (1.0, number),
    "Multiply": lambda number, _: (number, 0.0),
    "Subtract": lambda number, behind: (1.0, -number) if behind else (-1.0, number),
}


def write(path: Path, kind: str, config: Any, folder: Path) -> tuple[Path, list[str]]:
    """Copy a file, with another configuration inside.

    Args:
        path: the file.
        kind: "keras" for a zip archive, "h5" for HDF5; the copy's suffix, by which Keras goes.
        config: what `converters.sources.keras_files` read and approved; changed in place.
        folder: where to write.

    Returns:
        The copy, and what was changed, a sentence each.

    Raises:
        LimitError: the weights lie in another file, which would end up in a report, or declare more than they hold.
    """
    h5py = importlib.import_module("h5py")
    halves: set[str] = set()
    _mend(config, halves)
    copy = folder / f"model.{kind}"
    if kind == "keras":
        with file_limits.open_archive(path) as old, zipfile.ZipFile(copy, "w") as new:
            new.writestr("config.json", json.dumps(config))
            for name in old.namelist():
                if name == WEIGHTS:
                    file_limits.check_weights(old, name, h5py, folder)
                if name in (WEIGHTS, "metadata.json") or name.startswith(ASSETS):
                    with old.open(name) as source, new.open(name, "w", force_zip64=True) as target:
                        shutil.copyfileobj(source, target)
    else:
        shutil.copyfile(path, copy)
        with h5py.File(copy, "r+") as file:
            file_limits.check_hdf5(file, h5py, path.stat().st_size)
            for name in set(file.attrs) & {TRAINING}:
                del file.attrs[name]
            file.attrs["model_config"] = json.dumps(config)
    return copy, [f"Layers that compute in {', '.join(sorted(halves))} were made float32."] if halves else []


def _mend(value: Any, halves: set[str]) -> None:
    """Make a configuration float32, free its batch, and take out what Keras 2 wrote and Keras 3 refuses."""
    if isinstance(value, list):
        for inner in value:
            _mend(inner, halves)
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        policy = inner if isinstance(inner, str) else None
        if isinstance(inner, dict) and "Policy" in str(inner.get("class_name")):
            policy = (inner.get("config") or {}).get("name")
        if key == "dtype" and policy in HALVES:
            halves.add(policy.removeprefix("mixed_"))
            value[key] = "float32"
        elif key in ("batch_shape", "batch_input_shape") and isinstance(inner, list) and inner:
            inner[0] = None
        else:
            _mend(inner, halves)
    if value.get("class_name") in OPERATIONS and "module" not in value and isinstance(value.get("inbound_nodes"), list):
        _mend_operation(value)
    if value.get("class_name") == "DepthwiseConv2D" and (value.get("config") or {}).get("groups") == 1:
        del value["config"]["groups"]


def _mend_operation(layer: dict[str, Any]) -> None:
    """Make a layer of an operation, x + 3.0: Keras 3 writes it into HDF5 under the name of the layer that merges.

    The operation is called with its two operands, the layer with a list of tensors. A sum or product with a number
    becomes a Rescaling, which computes the same.
    """
    nodes = layer["inbound_nodes"]
    node = nodes[0] if len(nodes) == 1 and isinstance(nodes[0], dict) else {}
    operands = node.get("args")
    if not isinstance(operands, list) or len(operands) != 2 or node.get("kwargs"):
        return
    tensors = [operand for operand in operands if isinstance(operand, dict)]
    numbers = [operand for operand in operands if isinstance(operand, (int, float)) and not isinstance(operand, bool)]
    name = (layer.get("config") or {}).get("name", layer.get("name"))
    if len(tensors) == 2:
        node["args"] = [tensors]
    elif len(tensors) == len(numbers) == 1:
        scale, offset = OPERATIONS[layer["class_name"]](numbers[0], operands[0] is tensors[0])
        layer["class_name"] = "Rescaling"
        layer["config"] = {"name": name, "scale": scale, "offset": offset}
        node["args"] = tensors
