"""Rewrite a model's nodes, one by one, in float32 and in ONNX's standard operators.

This form stands between the file and the normal form, for files in other number formats (float16, 8 bits) or with fused
operators. Each value keeps its name, so that comparison A can hold it against the file's own, allowing for the rounding
of the file's format and nothing else. Knows ONNX; knows nothing of what is folded later.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import onnx

from filterscope.converters.rewrites import half_precision, quantized, runtime_fused
from filterscope.converters.rewrites.rewriting import bodies

UNFIT = ("bfloat16", "float64")  # ONNX Runtime has no convolution in these on a processor

REWRITES: tuple[Callable[[onnx.ModelProto], list[str]], ...] = (  # in this order; each returns its notes
    runtime_fused.write_out_fused,
    quantized.dequantise,
    half_precision.widen_to_float32,
)
TOKEN = re.compile(r"_token_\d+$")  # ONNX Runtime's mark in the names of nodes that it made; it will not read its own


@dataclass(frozen=True, slots=True, eq=False)
class Float32Form:
    """A model in float32 and in standard operators."""

    # Rounds wherever the file rounds to 8 bits; None where the file is not compared with it: it is in this form itself,
    # or ONNX Runtime has no convolution in its number format.
    rounding: onnx.ModelProto | None
    proto: onnx.ModelProto  # what the normal form is made of
    notes: tuple[str, ...]  # what was changed, a sentence each; none: the file is in this form itself


def to_float32_form(model: onnx.ModelProto) -> Float32Form:
    """Rewrite a model of opset 21 in float32 and standard operators; it is changed in place.

    Raises:
        ModelError: weights in an order that only one kind of processor reads.
    """
    _drop_tokens(model)
    unfit = next((kind for kind in half_precision.formats(model) if kind in UNFIT), None)
    notes = [note for rewrite in REWRITES for note in rewrite(model)]
    if not notes:
        return Float32Form(None, model, ())
    rounding = None if unfit else onnx.ModelProto.FromString(model.SerializeToString())
    if unfit:
        notes.append(
            f"ONNX Runtime does not compute in {unfit} on a processor: values are compared with the file's network in "
            "float32."
        )
    notes += quantized.leave_dynamic_activations(model)
    return Float32Form(rounding, model, tuple(notes))


def _drop_tokens(model: onnx.ModelProto) -> None:
    for body in bodies(model):
        names = {node.name for node in body.node}
        for node in body.node:
            if TOKEN.search(node.name):
                name = TOKEN.sub("", node.name)
                node.name = "" if name in names else name
                names.add(name)
