"""Networks whose outputs are no list of scores: of every rank and type that ONNX has."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from support.networks import normal

SIDE = 16
BODY = [
    helper.make_node("Conv", ["x", "k"], ["a"], name="first"),
    helper.make_node("Relu", ["a"], ["r"]),
    helper.make_node("GlobalAveragePool", ["r"], ["p"]),
    helper.make_node("Flatten", ["p"], ["f"]),
]
REAL, WHOLE, TRUTH, TEXT = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs.split(), output.split(), **attributes)


def value(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


CONSTANTS = {
    "k": normal(4, 3, 3, 3),
    "zero": np.float32(0),
    "minus": np.float32(-1),
    "huge": np.float32(1e9),
    "one": np.int64([1]),
    "top": np.int64([2]),
}
SEQUENCE = onnx.helper.make_tensor_sequence_value_info("y", REAL, None)
KINDS = {  # what the output is → nodes behind the body, outputs
    "scalar": ([node("ReduceMean", "f", "y", keepdims=0)], [value("y", REAL, [])]),
    "number an image": ([node("ReduceMean", "f one", "y", keepdims=0)], [value("y", REAL, ["N"])]),
    "one score": ([node("ReduceMean", "f one", "y", keepdims=1)], [value("y", REAL, ["N", 1])]),
    "class number": ([node("ArgMax", "f", "y", axis=1, keepdims=0)], [value("y", WHOLE, ["N"])]),
    "bool": ([node("Greater", "f zero", "y")], [value("y", TRUTH, ["N", 4])]),
    "whole numbers": ([node("Cast", "f", "y", to=WHOLE)], [value("y", WHOLE, ["N", 4])]),
    "half": ([node("Cast", "f", "y", to=TensorProto.FLOAT16)], [value("y", TensorProto.FLOAT16, ["N", 4])]),
    "NaN": (
        [node("Mul", "f minus", "m"), node("Abs", "f", "b"), node("Sub", "minus b", "n"), node("Sqrt", "n", "y")],
        [value("y", REAL, ["N", 4])],
    ),
    "infinite": (
        [node("Abs", "f", "b"), node("Mul", "b zero", "n"), node("Div", "f n", "y")],
        [value("y", REAL, ["N", 4])],
    ),
    "none at all": ([node("Greater", "f huge", "g"), node("NonZero", "g", "y")], [value("y", WHOLE, [2, None])]),
    "maps": ([node("Identity", "r", "y")], [value("y", REAL, ["N", 4, SIDE - 2, SIDE - 2])]),
    "boxes": ([node("Flatten", "r", "q", axis=2), node("Identity", "q", "y")], [value("y", REAL, None)]),
    "sequence": ([node("SplitToSequence", "f", "y", axis=1, keepdims=1)], [SEQUENCE]),
    "strings": (
        [
            node("ArgMax", "f", "i", axis=1, keepdims=0),
            node(
                "LabelEncoder",
                "i",
                "y",
                domain="ai.onnx.ml",
                keys_int64s=[0, 1, 2, 3],
                values_strings=["a", "b", "c", "d"],
                default_string="?",
            ),
        ],
        [value("y", TEXT, ["N"])],
    ),
    "map": (
        [node("Softmax", "f", "s"), node("ZipMap", "s", "y", domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2, 3])],
        [
            onnx.ValueInfoProto(
                name="y",
                type=helper.make_sequence_type_proto(
                    helper.make_map_type_proto(WHOLE, helper.make_tensor_type_proto(REAL, []))
                ),
            )
        ],
    ),
    "scalar, then scores": (
        [node("ReduceMean", "f", "y", keepdims=0), node("Softmax", "f", "z", axis=1)],
        [value("y", REAL, []), value("z", REAL, ["N", 4])],
    ),
}


def network(kind):
    """The ONNX model of one kind."""
    nodes, outputs = KINDS[kind]
    graph = helper.make_graph(
        [*BODY, *nodes],
        "g",
        [value("x", REAL, ["N", 3, SIDE, SIDE])],
        outputs,
        [numpy_helper.from_array(np.asarray(array), name) for name, array in CONSTANTS.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 2)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)
