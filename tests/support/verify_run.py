"""Measure saved pictures again: `python tests/support/verify_run.py RUN MODEL.onnx [--units 20]`.

Shares no code with filterscope: it reads run.json, layers.json, units.parquet and the PNG files as anybody could, cuts
the user's own ONNX file (not the canonical one) at the layer's pre-activation, and runs ONNX Runtime on the saved
8-bit picture. Exit code 1 when a number is off by more than 1e-3 relative.
"""

import argparse
import json
import random
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pyarrow.parquet as pq
from PIL import Image

TOLERANCE = 1e-3


def cut(model: onnx.ModelProto, value: str, shape: list[int]) -> bytes:
    """The file up to one value, its image input declared with another shape."""
    producers = {name: node for node in model.graph.node for name in node.output}
    wanted, stack = set(), [value]
    while stack:
        name = stack.pop()
        if name in producers and name not in wanted:
            wanted.add(name)
            stack.extend(producers[name].input)
    part = onnx.ModelProto()
    part.CopyFrom(model)
    del part.graph.node[:], part.graph.output[:], part.graph.value_info[:], part.graph.input[:]
    part.graph.node.extend(node for node in model.graph.node if wanted.intersection(node.output))
    constants = {tensor.name for tensor in model.graph.initializer}
    (image,) = (entry for entry in model.graph.input if entry.name not in constants)
    part.graph.input.append(onnx.helper.make_tensor_value_info(image.name, onnx.TensorProto.FLOAT, shape))
    if model.ir_version < 4:
        part.graph.input.extend(entry for entry in model.graph.input if entry.name in constants)
    part.graph.output.append(onnx.ValueInfoProto(name=value))
    return part.SerializeToString()


def tile(run: Path, row: dict) -> np.ndarray:
    """(H, W, C) uint8 out of the atlas."""
    sheet = np.asarray(Image.open(run / row["atlas"]))
    height, width, bands = row["height"], row["width"], row["bands"]
    stacked = height if bands in (1, 3) else height * bands
    columns = sheet.shape[1] // width
    top, left = row["tile"] // columns * stacked, row["tile"] % columns * width
    found = sheet[top : top + stacked, left : left + width]
    return found if bands == 3 else found.reshape(-1, height, width).transpose(1, 2, 0)


def preprocess(pixels: np.ndarray, spec: dict) -> np.ndarray:
    """What the network is fed: (u · high − mean) / std, in its channel order and layout."""
    how = spec["preprocessing"]
    if how["order"] == "BGR" and pixels.shape[2] == 3:
        pixels = pixels[..., ::-1]
    x = (pixels / 255.0 * how["high"] - np.array(how["mean"])) / np.array(how["std"])
    return (x if spec["layout"] == "NHWC" else x.transpose(2, 0, 1))[None].astype(np.float32)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--units", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    info = json.loads((options.run / "run.json").read_text(encoding="utf-8"))
    layers = json.loads((options.run / "layers.json").read_text(encoding="utf-8"))["layers"]
    values = {layer["name"]: layer.get("origin", layer["value"]) for layer in layers}
    rows = pq.read_table(options.run / "units.parquet").to_pylist()
    rows = [row for row in rows if row["space"] == "image" and row["atlas"]]
    model = onnx.load(str(options.model))
    session_options = ort.SessionOptions()
    session_options.log_severity_level = 3
    worst = 0.0
    for row in random.Random(options.seed).sample(rows, min(options.units, len(rows))):
        x = preprocess(tile(options.run, row), info["input"])
        proto = cut(model, values[row["layer"]], list(x.shape))
        session = ort.InferenceSession(proto, session_options, providers=["CPUExecutionProvider"])
        (maps,) = session.run(None, {session.get_inputs()[0].name: x})
        plane = np.atleast_2d(maps[0, row["channel"]])  # a dense layer's unit is one number
        found = plane[row["row"], row["column"]] if row["objective"] == "neuron" else plane.mean(dtype=np.float64)
        scale = max(1e-6, abs(row["activation"]), float(np.abs(plane).max()))
        error = abs(found - row["activation"]) / scale
        if row.get("highest") is not None:
            error = max(error, abs(float(plane.max()) - row["highest"]) / scale)
        worst = max(worst, error)
        flag = "" if error <= TOLERANCE else "  DIFFERS"
        print(
            f"{row['layer']} {row['channel']} {row['objective']}-{row['method']}: "
            f"stated {row['activation']:.6g}, measured {found:.6g}, error {error:.1e}{flag}"
        )
    print(f"{min(options.units, len(rows))} units, worst error {worst:.1e}")
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
