"""Networks that ONNX Runtime runs, opened: the oracle is a plain ONNX Runtime session on the file itself."""

import numpy as np
import onnx
import onnxruntime
import pytest
from networks import build, normal

from analyzer.fields import FieldWalk
from analyzer.network import open_network

SAME = {"pads": [1, 1, 1, 1]}
WEIGHTS = {"w": normal(4, 3, 3, 3), "v": normal(6, 4, 3, 3)}


def in_onnxruntime(path, names, x):
    """What a plain session makes of a file, for values of these names."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    model = onnx.load(path)
    present = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: x}), strict=True))


def opened_as_onnxruntime_runs_it(path, names, **options):
    """Open and prove a file; its values of these names are ONNX Runtime's, in shape and in numbers."""
    network = open_network(path, **options)
    network.prove()
    x = normal(1, network.input.channels, network.input.height, network.input.width, seed=5)
    expected = in_onnxruntime(path, names, x)
    found = network.session(names).run(x)
    for name in names:
        assert network.shapes[name] == expected[name].shape
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5)
    return network


# --- sizes come from a run


def between(op, attributes=None, constants=None, side=9, inputs="c", **more):
    """Conv → `op` → Conv at a fixed size."""
    nodes = [
        ("Conv", "x w", "c", SAME | {"name": "first"}),
        (op, inputs, "m", attributes or {}),
        ("Conv", "m v", "d", SAME | {"name": "second"}),
        ("Relu", "d", "y"),
    ]
    return build(nodes, WEIGHTS | (constants or {}), shape=("N", 3, side, side), **{"opset": 18} | more)


def scales(factor):
    return {"s": np.array([1, 1, factor, factor], np.float32)}


NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
ROUNDED = {
    "a pooling whose last window would begin in the padding": between(
        "MaxPool", {"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1}, side=10
    ),
    "the same with padding": between(
        "MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}
    ),
    "a mean that counts the padding": between(
        "AveragePool",
        {"kernel_shape": [3, 3], "strides": [3, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1, "count_include_pad": 1},
        side=8,
        opset=19,
    ),
    "a window of one": between("MaxPool", {"kernel_shape": [1, 1], "strides": [2, 2], "ceil_mode": 1}, side=8),
    "a norm": between("LpPool", {"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1}, side=10),
    "a Resize by 0.7": between("Resize", NEAREST, scales(0.7), side=20, inputs="c _ s"),
    "a Resize by 0.6": between("Resize", NEAREST, scales(0.6), side=10, inputs="c _ s"),
    "a linear Resize by 1.3": between("Resize", {"mode": "linear"}, scales(1.3), side=10, inputs="c _ s"),
    "a Resize that keeps the aspect ratio": between(
        "Resize",
        {"mode": "nearest", "axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"},
        {"t": np.array([13, 5])},
        side=10,
        inputs="c _ _ t",
    ),
}


@pytest.mark.parametrize("name", ROUNDED)
def test_sizes_are_those_that_onnx_runtime_computes(name, tmp_path):
    onnx.save(ROUNDED[name], tmp_path / "model.onnx")
    network = opened_as_onnxruntime_runs_it(tmp_path / "model.onnx", ["m", "d"])
    expected = in_onnxruntime(tmp_path / "model.onnx", ["m"], normal(1, *network.shapes["x"][1:]))["m"].shape
    assert tuple(network.model.graph.shapes["m"][1:]) == expected[1:]
    assert network.layer("second").output_shape == (6, *expected[2:])


def test_a_constant_that_is_computed_from_such_a_size_is_right(tmp_path):
    """Exporters read a map's size with Shape, and resize another map to it."""
    nodes = [
        ("Conv", "x w", "c", SAME),
        ("MaxPool", "c", "p", SAME | {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
        ("Shape", "p", "size", {"start": 2}),
        ("Resize", "c _ _ size", "m", {"mode": "nearest", "axes": [2, 3]}),
        ("Concat", "p m", "j", {"axis": 1}),
        ("Conv", "j u", "d", SAME),
    ]
    model = build(nodes, {"w": WEIGHTS["w"], "u": normal(5, 8, 3, 3)}, shape=("N", 3, 9, 9), opset=18)
    onnx.save(model, tmp_path / "model.onnx")
    opened_as_onnxruntime_runs_it(tmp_path / "model.onnx", ["p", "m", "d"])


@pytest.mark.parametrize("name", ["the same with padding", "a Resize by 0.7", "a Resize by 0.6"])
def test_a_field_is_what_onnx_runtime_reads_there(name, tmp_path):
    model = ROUNDED[name]
    onnx.save(model, tmp_path / "model.onnx")
    network = open_network(tmp_path / "model.onnx")
    walk = FieldWalk(network.model.graph, "x", (2, 3), network.shapes)
    side = network.input.height
    x = normal(1, 3, side, side, seed=1)
    plain = in_onnxruntime(tmp_path / "model.onnx", ["m"], x)["m"]
    seen: dict[int, set[int]] = {place: set() for place in range(plain.shape[2])}
    for row in range(side):
        for change in (-100, 100):  # a maximum may hide one of them
            changed = x.copy()
            changed[:, :, row] += change
            differs = (in_onnxruntime(tmp_path / "model.onnx", ["m"], changed)["m"] != plain).any(axis=(0, 1, 3))
            for place in np.flatnonzero(differs):
                seen[int(place)].add(row)
    for place, rows in seen.items():
        first, count = walk.along("m", 0, place)
        assert rows == {row for row in range(first, first + count) if 0 <= row < side}
