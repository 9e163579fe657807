"""Networks for the tests: of a few nodes, built here, and the real ones where they are at hand."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from filterscope.analyzer.network.network import open_here
from filterscope.converters.normal_form.canonical import canonicalize
from filterscope.converters.onnx_file.model_file import ModelFile
from filterscope.converters.sources import read
from support.paths import DATA

MODELS = DATA / "models" / "onnx"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real models and images are not beside the project")


def build(
    nodes,
    constants=None,
    *,
    shape=("N", 3, 16, 16),
    outputs=None,
    opset=21,
    dtype=TensorProto.FLOAT,
    ir_version=10,
    listed=False,
):
    """An ONNX model whose input is "x".

    Args:
        nodes: (operator, inputs, outputs) and attributes where there are some; names in a string apart by spaces,
            "_" for one that is absent. A "name" among the attributes names the node.
        constants: name → array.
        shape: of the input; a string is a free dimension.
        outputs: names of the outputs; none: the last node's.
        listed: whether initializers stand among the inputs too, as they had to before IR version 4.
    """
    constants = {name: np.asarray(array) for name, array in (constants or {}).items()}
    built = []
    for op, inputs, written, *attributes in nodes:
        names = [["" if name == "_" else name for name in text.split()] for text in (inputs, written)]
        built.append(helper.make_node(op, *names, **dict(*attributes)))
    shown = outputs or [next(filter(None, built[-1].output))]
    inputs = [helper.make_tensor_value_info("x", dtype, shape)]
    if listed:
        inputs += [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in constants.items()
        ]
    graph = helper.make_graph(
        built,
        "g",
        inputs,
        [onnx.ValueInfoProto(name=name) for name in shown],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    domains = {node.domain for node in built if node.domain}
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)],
        ir_version=ir_version,
    )
    # An output's type has to be declared, though nobody but the checker reads it.
    inferred = {value.name: value for value in onnx.shape_inference.infer_shapes(model).graph.output}
    for value in model.graph.output:
        known = inferred[value.name]
        if known.type.tensor_type.elem_type:
            value.CopyFrom(known)
        else:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    return model


def canonical(model, path="model.onnx", batch=None):
    """The normal form of a model that stands in no file."""
    return canonicalize(ModelFile(Path(path), "0" * 64, model), batch=batch)


def answers(model, x, names=None):
    """What ONNX Runtime by itself, without any of our code, makes of an input."""
    if names:
        shown = onnx.ModelProto()
        shown.CopyFrom(model)
        present = {value.name for value in shown.graph.output}
        shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
        model = shown
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # What the file says: by default a float product with dequantised weights is computed in 8 bits.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = list(names) if names else [value.name for value in session.get_outputs()]
    return dict(zip(wanted, session.run(wanted, {session.get_inputs()[0].name: x}), strict=True))


def normal(*shape, seed=0):
    """Normal numbers of this shape, the same at each call."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def opened_here(path, options=None):
    """A network opened in this process, where a test looks at what it was made of."""
    size = None if options is None else options.size
    return open_here(read.read(path, read.SourceOptions(size=size)), options)
