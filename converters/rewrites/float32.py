"""The plain form: the file's nodes, one by one, said in float32 and in the standard operators.

Between the file and the normal form, for files in other number formats (float16, 8 bits) or with fused operators. Each
value keeps its name, so that comparison A can hold it against the file's own, allowing for the rounding of the file's
format and nothing else. Knows ONNX; knows nothing of what is folded later.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import onnx

from filterscope.converters.rewrites import half_precision, quantized, runtime_fused
from filterscope.converters.rewrites.rewriting import bodies

UNFIT = ("bfloat16", "float64")  # ONNX Runtime has no convolution in these on a processor

TOKEN = re.compile(r"_token_\d+$")  # ONNX Runtime's mark in the names of nodes that it made; it will not read its own


@dataclass(frozen=True, slots=True, eq=False)
class Plain:
    """A model in plain form."""

    exact: (
        onnx.ModelProto | None
    )  # rounds wherever the file rounds to 8 bits; None: the file need not be compared with it
    proto: onnx.ModelProto  # what the normal form is made of
    notes: tuple[str, ...]  # what was changed, a sentence each; none: the file is in plain form itself


def plain_form(model: onnx.ModelProto) -> Plain:
    """Bring a model of opset 21 into plain form; it is changed in place.

    Raises:
        ModelError: weights in an order that only one kind of processor reads.
    """
    _drop_tokens(model)
    unfit = next((kind for kind in half_precision.formats(model) if kind in UNFIT), None)
    notes = [*runtime_fused.write_out(model), *quantized.dequantise(model), *half_precision.widen(model)]
    if not notes:
        return Plain(None, model, ())
    exact = None if unfit else onnx.ModelProto.FromString(model.SerializeToString())
    if unfit:
        notes.append(
            f"ONNX Runtime does not compute in {unfit} on a processor: values are compared with the file's network in "
            "float32."
        )
    notes += quantized.leave_dynamic_activations(model)
    return Plain(exact, model, tuple(notes))


def _drop_tokens(model: onnx.ModelProto) -> None:
    for body in bodies(model):
        names = {node.name for node in body.node}
        for node in body.node:
            if TOKEN.search(node.name):
                name = TOKEN.sub("", node.name)
                node.name = "" if name in names else name
                names.add(name)
