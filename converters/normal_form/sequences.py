"""Sequences of tensors, brought to the forms that the optimiser takes apart.

What a loop collects, or what a tensor is split into, is taken out again by number or joined: with the loop written
out, each sequence is a list of known values. Works on onnx-ir graphs.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from filterscope.converters.normal_form.ir_values import constant, initializer, inserted
from filterscope.converters.operator_facts import operators

OPERATORS = operators(lambda facts: facts.gives_no_tensor)


def list_sequences(model: ir.Model) -> int:
    """Write each sequence whose members are known as a SequenceConstruct of them; how many."""
    listed = 0
    for node in list(model.graph):
        if node.domain:
            continue
        if node.op_type == "SequenceInsert":
            listed += _insert(model, node)
        elif node.op_type == "SplitToSequence" and len(node.inputs) == 1:  # in slices of one
            node.resize_inputs(2)
            node.replace_input_with(1, initializer(model, f"{node.name}_slice", np.array(1, np.int64)))
            listed += 1
    return listed


def _insert(model: ir.Model, node: ir.Node) -> bool:
    sequence = node.inputs[0]
    producer = None if sequence is None else sequence.producer()
    place = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if producer is None or producer.op_type not in ("SequenceEmpty", "SequenceConstruct"):
        return False
    if len(node.inputs) > 2 and node.inputs[2] is not None and place is None:  # only known at run time
        return False
    members = list(producer.inputs)
    index = len(members) if place is None else int(place.reshape(-1)[0])
    members.insert(index, node.inputs[1])
    written = inserted(model, node, "SequenceConstruct", members)
    output = node.outputs[0]
    name = output.name
    written.type = output.type
    output.replace_all_uses_with(written, replace_graph_outputs=True)
    model.graph.remove(node, safe=True)
    written.name = name
    return True
