"""Networks with several inputs: the image goes to one, arrays to the others, and every picture of a batch gets them."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from filterscope.analyzer.network.network import InputOptions
from filterscope.converters.errors import ModelError, SettingsError
from filterscope.converters.normal_form.canonical import canonicalize
from filterscope.converters.onnx_file.model_file import ModelFile
from filterscope.converters.runtime import Session
from support.networks import build, normal, opened_here

SAME = {"auto_pad": "SAME_UPPER"}
W = normal(4, 3, 3, 3)
KINDS = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "bool": TensorProto.BOOL, "uint8": TensorProto.UINT8}


def model(nodes, inputs, constants=None, **more):
    """A network with the image input "x" and others: name → (dtype, shape)."""
    made = build(nodes, {"w": W} | (constants or {}), **more)
    for name, (kind, shape) in inputs.items():
        made.graph.input.append(helper.make_tensor_value_info(name, KINDS[kind], shape))
    return typed(made)


def typed(made):
    """The model with its output's type declared, as the checker asks."""
    inferred = onnx.shape_inference.infer_shapes(made).graph.output[0]
    made.graph.output[0].CopyFrom(inferred)
    return made


def canonical(made, image=None, feeds=None):
    return canonicalize(ModelFile(Path("m.onnx"), "0" * 64, made), image, feeds)


CONV = ("Conv", "x w", "c", SAME)


def branches():
    """An If that a training flag decides: noise while it trains, else nothing."""
    made = model([CONV, ("Not", "training", "t"), ("Identity", "c", "y")], {"training": ("bool", [])})
    del made.graph.node[-1]
    parts = [
        helper.make_graph([helper.make_node(op, ["c"], [name])], name, [], [onnx.ValueInfoProto(name=name)])
        for op, name in (("Relu", "kept"), ("Neg", "turned"))
    ]
    for part in parts:
        part.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    made.graph.node.append(helper.make_node("If", ["t"], ["y"], then_branch=parts[0], else_branch=parts[1]))
    return typed(made)


NETWORKS = {  # model, what is fed, how many convolutions are left
    "a scale a picture": (
        model([CONV, ("Mul", "c s", "y")], {"s": ("float32", ["N", 4, 1, 1])}),
        {"s": normal(1, 4, 1, 1)},
        1,
    ),
    "a scale, without a batch axis": (
        model([CONV, ("Mul", "c s", "y")], {"s": ("float32", ["N", 4, 1, 1])}),
        {"s": normal(4, 1, 1)},
        1,
    ),
    "a scale for all pictures": (
        model([CONV, ("Mul", "c s", "y")], {"s": ("float32", [4, 1, 1])}),
        {"s": normal(4, 1, 1)},
        1,
    ),
    "a stereo pair, joined": (
        model(
            [("Concat", "x right", "both", {"axis": 1}), ("Conv", "both k", "c", SAME), ("Relu", "c", "y")],
            {"right": ("float32", ["N", 3, 16, 16])},
            {"k": normal(4, 6, 3, 3)},
        ),
        {"right": normal(1, 3, 16, 16)},
        1,
    ),
    "a stereo pair through one convolution": (
        model(
            [
                CONV,
                ("Conv", "right w", "d", SAME),
                ("Concat", "c d", "both", {"axis": 1}),
                ("Conv", "both k", "y", SAME),
            ],
            {"right": ("float32", ["M", 3, 16, 16])},
            {"k": normal(2, 8, 1, 1)},
        ),
        {"right": normal(1, 3, 16, 16)},
        2,
    ),
    "a stereo pair of a fixed batch": (
        model(
            [CONV, ("Conv", "right w", "d", SAME), ("Concat", "c d", "both", {"axis": 1}), ("Relu", "both", "y")],
            {"right": ("float32", [2, 3, 16, 16])},
            shape=(2, 3, 16, 16),
        ),
        {"right": normal(1, 3, 16, 16)},
        1,
    ),
    "a scale of a fixed batch": (
        model([CONV, ("Mul", "c s", "y")], {"s": ("float32", [2, 4, 1, 1])}, shape=(2, 3, 16, 16)),
        {"s": normal(1, 4, 1, 1)},
        1,
    ),
    "a mask": (
        model([CONV, ("Where", "m c zero", "y")], {"m": ("bool", ["N", 1, 16, 16])}, {"zero": np.float32(0)}),
        {"m": normal(1, 1, 16, 16) > 0},
        1,
    ),
    "the batch read from the fed input": (
        model(
            [
                CONV,
                ("Shape", "s", "n", {"start": 0, "end": 1}),
                ("Concat", "n rest", "t", {"axis": 0}),
                ("Reshape", "c t", "f"),
                ("Mul", "f s", "y"),
            ],
            {"s": ("float32", ["N", 1])},
            {"rest": np.array([-1])},
        ),
        {"s": normal(1, 1)},
        1,
    ),
    "a grid to sample at": (
        model([CONV, ("GridSample", "c g", "y")], {"g": ("float32", ["N", 5, 5, 2])}),
        {"g": np.tanh(normal(1, 5, 5, 2))},
        1,
    ),
    "classes to choose by": (
        model(
            [CONV, ("Gather", "table label", "e"), ("Unsqueeze", "e a", "s"), ("Mul", "c s", "y")],
            {"label": ("int64", ["N"])},
            {"table": normal(10, 4), "a": np.array([2, 3])},
        ),
        {"label": np.array([7])},
        1,
    ),
    "a training flag": (branches(), {"training": np.array(False)}, 1),
    "an old opset, where constants are listed as inputs": (
        model(
            [CONV, ("Concat", "c s", "y", {"axis": 1})],
            {"s": ("float32", ["N", 1, 16, 16])},
            opset=8,
            ir_version=3,
            listed=True,
        ),
        {"s": normal(1, 1, 16, 16)},
        1,
    ),
}


def answer(made, x, feeds):
    """What ONNX Runtime makes of a picture when it is given all inputs."""
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    given = {}
    for value in session.get_inputs():
        if value.name not in feeds:
            continue
        array = feeds[value.name]
        given[value.name] = array if array.ndim == len(value.shape) else array[None]
        if value.shape and value.shape[0] == len(x) > 1:  # a fixed batch
            given[value.name] = np.repeat(given[value.name], len(x), axis=0)
    return session.run(None, {"x": x} | given)[0]


@pytest.mark.parametrize(("made", "feeds", "convolutions"), NETWORKS.values(), ids=NETWORKS)
def test_each_picture_gets_what_was_fed(made, feeds, convolutions, tmp_path):
    onnx.save(made, tmp_path / "m.onnx")
    network = opened_here(tmp_path / "m.onnx", InputOptions(feeds=feeds, image="x"))
    assert len(network.layers) == convolutions
    x = normal(3, 3, 16, 16)
    size = made.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 1
    expected = [answer(made, np.repeat(image[None], size, axis=0), feeds)[0] for image in x]
    for form in (network.model.proto, network.model.original):
        if form is network.model.proto or size == 1:
            found = next(iter(Session(form).run(x).values()))
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert network.prove().original.error < 1e-5


TWO = [CONV, ("Mul", "c s", "y")]
SCALED = model(TWO, {"s": ("float32", ["N", 4, 1, 1])})
PAIR = model([CONV, ("Add", "x right", "y")], {"right": ("float32", ["N", 3, 16, 16])})
ONES = np.ones((1, 4, 1, 1), np.float32)
REFUSED = {  # model, image, feeds, the words
    "nothing fed": (
        SCALED,
        "x",
        {},
        r"m.onnx: input 's' \[N, 4, 1, 1\] float gets nothing; the image goes to 'x': give `feed=s=FILE.npy` with an "
        r"array of float32, shape \(1, 4, 1, 1\)",
    ),
    "two that could be the image": (
        PAIR,
        None,
        {},
        r"m.onnx: has several inputs \('x' \[N, 3, 16, 16\] float, 'right' \[N, 3, 16, 16\] float\) and 2 of them "
        "could take the image; name the image's with `input`",
    ),
    "none that could be the image": (
        model(TWO, {"s": ("float32", ["N", 4, 1, 1])}, shape=(3, 16, 16)),
        None,
        {},
        "give `feed=x=FILE.npy`",
    ),
    "an image input that is not there": (PAIR, "left", {}, "`input=left`: the model has no such input; inputs: 'x'"),
    "a name that no input has": (SCALED, "x", {"t": ONES}, "`feed=t`: 't' is no input of the model; inputs: 'x'"),
    "the image fed": (SCALED, "x", {"x": ONES}, "`feed=x`: 'x' takes the image"),
    "another shape": (
        SCALED,
        "x",
        {"s": ONES.reshape(1, 2, 2, 1)},
        r"`feed=s`: holds float32 of shape \(1, 2, 2, 1\); input 's' \[N, 4, 1, 1\] float needs an array of float32, ",
    ),
    "several pictures'": (SCALED, "x", {"s": np.ones((3, 4, 1, 1), np.float32)}, r"`feed=s`: holds float32 of shape"),
    "another kind": (SCALED, "x", {"s": ONES.astype(np.float64)}, r"holds float64 of .* needs an array of float32"),
    "an empty array": (SCALED, "x", {"s": ONES[:0]}, r"`feed=s`: holds float32 of shape \(0, 4, 1, 1\)"),
    "a feed where there is one input": (model([CONV], {}), None, {"s": ONES}, "'s' is no input of the model"),
}


@pytest.mark.parametrize(("made", "image", "feeds", "words"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(made, image, feeds, words):
    with pytest.raises(SettingsError, match=words) as refusal:
        canonical(made, image, feeds)
    assert "\n" not in str(refusal.value)


def test_an_axis_of_length_1_before_the_inputs_own_is_taken_away():
    made = model(TWO, {"s": ("float32", [4, 1, 1])})
    forms = [canonical(made, "x", {"s": array}) for array in (2 * ONES, 2 * ONES[0])]
    x = normal(2, 3, 16, 16)
    answers = [next(iter(Session(form.proto).run(x).values())) for form in forms]
    np.testing.assert_array_equal(*answers)
    assert forms[0].sha256 == forms[1].sha256


def test_a_network_without_convolutions_is_not_asked_for_its_inputs():
    with pytest.raises(ModelError, match="has no convolution layer; it holds 1 nodes: 1 Add"):
        canonical(model([("Add", "x s", "y")], {"s": ("float32", ["N", 3, 16, 16])}))


def test_what_was_fed_is_noted_and_part_of_the_hash():
    one, same, other = (canonical(SCALED, "x", {"s": ONES * scale}) for scale in (1, 1, 2))
    assert "Input s was fed an array of 1x4x1x1 float32 (from 2 to 2) for every image; the image goes to x." in (
        other.notes
    )
    assert one.sha256 == same.sha256 != other.sha256
    both, given = NETWORKS["a stereo pair, joined"][0], normal(1, 3, 16, 16)
    assert canonical(both, "x", {"right": given}).sha256 != canonical(both, "right", {"x": given}).sha256


def test_an_input_that_is_fed_is_not_taken_for_the_image():
    form = canonical(SCALED, None, {"s": ONES})
    assert form.input == "x"


def test_the_only_input_keeps_the_files_hash():
    assert canonical(model([CONV], {}), "x").sha256 == "0" * 64


def test_a_training_flag_is_fed_and_its_branch_is_gone():
    form = canonical(branches(), None, {"training": np.array(False)})
    assert [node.op for node in form.graph.nodes] == ["Conv", "Relu"]
    assert "Input training was fed False for every image; the image goes to x." in form.notes
