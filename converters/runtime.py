"""Run models in ONNX Runtime, whose results are the reference for every number.

Knows ONNX Runtime and how to cut a model down to the values wanted; knows nothing of layers or pictures.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
from google.protobuf.message import DecodeError, EncodeError

from filterscope.converters.errors import ModelError
from filterscope.converters.operator_facts import operators

DTYPES = {  # ONNX Runtime's names of types that an image may have → numpy's
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    **{f"tensor({name})": name for name in ("uint8", "int8", "uint16", "int16", "int32", "int64")},
}
SHAPE = "filterscope::shape"
AXIS = "filterscope::axis"  # what a free axis is called that has no name in the file
PERHAPS_NO_TENSORS = operators(lambda facts: facts.gives_no_tensor) | {
    *("If", "Loop", "ZipMap", "Identity"),  # whose results may be of any type
}
REFUSED = "ONNX Runtime refuses the model: "
FATAL = 4  # ONNX Runtime's severity: its errors come as exceptions too, which we tell in our own words

# Moves the zeros of a Pad into the MaxPool behind it, which pads with −∞: wrong where values are negative (a
# pre-activation ResNet's stem, 0.4 off). Found in ONNX Runtime 1.31.
UNSOUND = ["Pad_Fusion"]


class Session:
    """A model, or the part of it that leads to some values, ready to run.

    Args:
        proto: the model.
        outputs: values to compute; none: the model's own outputs.
        shape: declare the input to have this shape instead (a name for a free dimension), so that a network with a
            fixed input size can be run, up to an inner layer, on a smaller canvas.
        threads: inside one operation; 0: one a processor.
        as_written: compute node by node, each result rounded as the file says, for files in float16 or 8 bits:
            optimised, ONNX Runtime leaves rounding out where it joins nodes, and 8-bit sums may overflow.
        frugal: compute what reads a value soon after it, so that the value can go; otherwise what is read by an output
            alone may wait until the end, and with it all its inputs (four times the memory, on a MobileNetV2).
        one_at_a_time: run a batch picture by picture, where a picture's values would depend on the others in it.

    Raises:
        ModelError: ONNX Runtime refuses the model.
    """

    def __init__(
        self,
        proto: onnx.ModelProto,
        outputs: Sequence[str] = (),
        *,
        shape: Sequence[int | str] | None = None,
        threads: int = 0,
        as_written: bool = False,
        frugal: bool = False,
        one_at_a_time: bool = False,
    ) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = FATAL
        options.use_deterministic_compute = True
        options.intra_op_num_threads = threads
        # Else a MatMul by dequantised weights is computed on quantised activations, 1.3e-3 off on a MobileNetV2.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # torch takes turns on the same cores
        if frugal:
            options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
        if as_written:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.add_session_config_entry("session.x64quantprecision", "1")
        part = with_named_axes(extract(proto, outputs, shape=shape) if outputs or shape else proto)
        self.outputs: tuple[str, ...] = tuple(outputs) or tuple(value.name for value in proto.graph.output)
        chosen = providers()
        try:
            self._session = ort.InferenceSession(
                part.SerializeToString(),
                options,
                providers=chosen,
                disabled_optimizers=UNSOUND,
                enable_fallback=len(chosen) > 1,  # to the same processor it would only print
            )
        except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
            raise ModelError(f"{REFUSED}{shortened(error)}") from error
        image = self._session.get_inputs()[0]
        self.input = image.name
        self._dtype = DTYPES.get(image.type, "float32")
        self._one_at_a_time = one_at_a_time

    def run(self, x: np.ndarray, others: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """Values of `outputs` for a batch in the model's own layout.

        Args:
            x: the first input, float32; it is rounded to the type that the model takes.
            others: further inputs by name, where the model has them, the same for all pictures.

        Returns:
            The values by name; of pictures that were run one at a time, side by side along the first axis.

        Raises:
            ModelError: the model does not run on an input of this shape.
        """
        if self._one_at_a_time and len(x) > 1:
            answers = [self._run(picture[None], others) for picture in x]
            return {name: side_by_side([answer[name] for answer in answers]) for name in self.outputs}
        return self._run(x, others)

    def _run(self, x: np.ndarray, others: Mapping[str, np.ndarray] | None) -> dict[str, np.ndarray]:
        try:
            image = x.astype(self._dtype, copy=False)
            values = self._session.run(list(self.outputs), {self.input: image} | dict(others or {}))
        except Exception as error:
            raise ModelError(f"does not run on an input of shape {list(x.shape)}: {shortened(error)}") from error
        return dict(zip(self.outputs, values, strict=True))


def refusal(proto: onnx.ModelProto) -> str:
    """Why ONNX Runtime refuses a model; "" where it does not."""
    try:
        Session(proto)
    except ModelError as error:
        return str(error).removeprefix(REFUSED)
    except (ValueError, DecodeError, EncodeError):  # more than 2 GiB
        return "it is larger than 2 GiB"
    return ""


def measured_shapes(proto: onnx.ModelProto, shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of the main graph, in a run on a black image of this shape.

    Each node is followed by a Shape, so that what is fetched is small and no value outlives its readers. Nothing is
    optimised: ONNX Runtime would put the sizes that it infers in the place of those it computes.

    Raises:
        ModelError: ONNX Runtime refuses the model, or it does not run at this size.
    """
    measuring = onnx.ModelProto()
    measuring.CopyFrom(proto)
    graph = measuring.graph
    tensors = {value.name for value in (*graph.value_info, *graph.output) if value.type.HasField("tensor_type")}
    del graph.value_info[:], graph.output[:]
    image = graph.input[0]
    # Not even its rank: in this order of nodes, ONNX Runtime takes n² steps for n nodes that have free axes.
    image.type.tensor_type.ClearField("shape")
    names, fetched = [image.name], [f"{SHAPE}0"]
    whole = []  # fetched themselves, as they may be no tensors
    for node in graph.node:
        doubtful = node.op_type in PERHAPS_NO_TENSORS
        for name in filter(None, node.output):
            if doubtful and name not in tensors:
                whole.append(name)
            else:
                names.append(name)
                fetched.append(f"{SHAPE}{len(fetched)}")
    measures = zip(names, fetched, strict=True)
    graph.node.extend(onnx.helper.make_node("Shape", [name], [measure], name=measure) for name, measure in measures)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in (*fetched, *whole))
    answers = Session(measuring, as_written=True, frugal=True).run(np.zeros(shape, np.float32))
    shapes = {name: tuple(map(int, answers[measure])) for name, measure in zip(names, fetched, strict=True)}
    return shapes | {name: answers[name].shape for name in whole if isinstance(answers[name], np.ndarray)}


def with_named_axes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a name for each free axis of its inputs; itself where all have one.

    ONNX Runtime gives a free axis without a name a new name behind every node, and compares it with all that it gave
    before: 4 s for 4,000 nodes, 100 s for 20,000. Seen in ONNX Runtime 1.31.
    """
    if all(_is_known(axis) for value in proto.graph.input for axis in value.type.tensor_type.shape.dim):
        return proto
    named = onnx.ModelProto()
    named.CopyFrom(proto)
    for number, value in enumerate(named.graph.input):
        for index, axis in enumerate(value.type.tensor_type.shape.dim):
            if not _is_known(axis):
                axis.dim_param = f"{AXIS}{number}.{index}"
    return named


def _is_known(axis: onnx.TensorShapeProto.Dimension) -> bool:
    """Whether an axis has a length or a name; PaddlePaddle writes −1 for a free one."""
    return axis.dim_value >= 0 if axis.HasField("dim_value") else bool(axis.dim_param)


def side_by_side(alone: Sequence[np.ndarray], axis: int = 0) -> np.ndarray:
    """One value of several pictures, each run by itself, as a batch: along this axis, or a new one for numbers."""
    return np.concatenate(alone, axis) if alone[0].ndim else np.stack(alone)


def providers() -> list[str | tuple[str, dict[str, str]]]:
    """CUDA where its libraries load, on the calling thread's current GPU, then the CPU.

    Asked for only where it loads: elsewhere it prints errors.
    """
    import onnxruntime as ort

    if "CUDAExecutionProvider" in ort.get_available_providers():
        import torch

        if torch.cuda.is_available():
            with contextlib.suppress(AttributeError):  # ONNX Runtime before 1.21 has no preload_dlls
                ort.preload_dlls()
            # TF32 rounds to ten bits: coarser than the slack of our bounds.
            options = {"use_tf32": "0", "device_id": str(torch.cuda.current_device())}
            return [("CUDAExecutionProvider", options), "CPUExecutionProvider"]
    return ["CPUExecutionProvider"]


def extract(
    proto: onnx.ModelProto, outputs: Sequence[str], *, shape: Sequence[int | str] | None = None
) -> onnx.ModelProto:
    """The part of a model that leads to `outputs`.

    Args:
        proto: a model with its weights inside it.
        outputs: names of values; none: the model's own outputs.
        shape: the shape to declare for the model's input; None keeps its own.

    Raises:
        ModelError: a name that no node writes.
    """
    graph = proto.graph
    names = list(outputs) or [value.name for value in graph.output]
    producers = {name: node for node in graph.node for name in node.output if name}
    inputs = {value.name for value in (*graph.input, *graph.initializer)}
    for name in names:
        if name not in producers and name not in inputs:
            raise ModelError(f"{name}: no node of the model writes this value")
    needed = _ancestors(names, producers)
    part = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions)
    part.graph.name = graph.name
    part.graph.node.extend(node for node in graph.node if not needed.isdisjoint(node.output))
    read = {*names, *(name for node in part.graph.node for name in reads(node))}
    part.graph.initializer.extend(tensor for tensor in graph.initializer if tensor.name in read)
    part.graph.sparse_initializer.extend(sparse for sparse in graph.sparse_initializer if sparse.values.name in read)
    constants = {tensor.name for tensor in graph.initializer}
    constants |= {sparse.values.name for sparse in graph.sparse_initializer}
    part.graph.input.extend(value for value in graph.input if value.name not in constants)
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    if shape is not None:
        kind = part.graph.input[0].type.tensor_type.elem_type
        part.graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info(part.graph.input[0].name, kind, shape))
    return part


def _ancestors(names: Sequence[str], producers: Mapping[str, onnx.NodeProto]) -> set[str]:
    """Names of all values that lead to these, themselves among them."""
    stack, seen = list(names), set[str]()
    while stack:
        name = stack.pop()
        if name in seen or name not in producers:
            continue
        seen.add(name)
        stack.extend(reads(producers[name]))
    return seen


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """Names of all values that a node reads, those that its branches and loops take from outside among them."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from reads(inner)
            yield from (value.name for value in graph.output)


def shortened(error: BaseException, limit: int = 240) -> str:
    """The first words of a library's error message, on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"
