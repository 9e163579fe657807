"""Nodes that compute constants, replaced by what they compute, until nothing is left to fold.

Folding decides conditions and trip counts, so branches and loops are unrolled between its rounds; an unrolled body has
constants of its own. Knows onnx-ir and onnxscript's optimiser; knows nothing of layers.
"""

from __future__ import annotations

import logging

import onnx_ir as ir
import onnx_ir.passes.common as passes

from filterscope.converters.errors import LimitError, ModelError
from filterscope.converters.normal_form.aliases import declare_undisputed_sizes, hide_from_optimiser, remove_identities
from filterscope.converters.normal_form.fold_limits import FoldLimits, check_divisions, result_size, stored_bytes
from filterscope.converters.normal_form.fold_several_outputs import fold_several_outputs
from filterscope.converters.normal_form.fold_shapes import fold_shape_extents, infer_reshape_targets
from filterscope.converters.normal_form.sequences import rewrite_sequences
from filterscope.converters.normal_form.unroll_branches import unroll
from filterscope.converters.runtime import shortened

FOLD_LIMIT = 1 << 26  # elements of a constant that may be folded: a kernel behind a Transpose is large


def fold_constants(model: ir.Model, memory: int) -> list[str]:
    """Fold constants, and write out the branches and loops that they decide, until nothing is left of either.

    Args:
        model: changed in place.
        memory: bytes that the user lets the opening use; 0 where he does not say (`FoldLimits` has the limits).

    Returns:
        Notes, a sentence each.

    Raises:
        LimitError: a constant would be larger than that.
        ModelError: a node of constants cannot be evaluated.
    """
    sizes = FoldLimits(stored_bytes(model), memory)
    folded, branches, loops = _fold(model, sizes), 0, 0
    while True:
        rewritten = fold_shape_extents(model) + rewrite_sequences(model)
        new_branches, new_loops = unroll(model)
        if not any((infer_reshape_targets(model), rewritten, new_branches, new_loops)):
            break
        branches, loops = branches + new_branches, loops + new_loops
        folded += rewritten + _fold(model, sizes)
    check_divisions(model)
    notes = [f"{folded} nodes that compute constants were folded."] if folded else []
    if branches:
        notes.append(f"{branches} branches whose condition is constant were written out.")
    if loops:
        notes.append(f"{loops} loops whose trip count is constant were written out.")
    return notes


def _fold(model: ir.Model, sizes: FoldLimits) -> int:
    """Fold constants once; how many nodes that saves."""
    from onnxscript import optimizer

    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # it reports each node that it leaves alone
    lift = passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)
    before = model.graph.num_nodes()
    is_new = True
    while is_new:
        lift(model)
        try:
            with hide_from_optimiser(model):
                optimizer.fold_constants_ir(
                    model,
                    onnx_shape_inference=True,
                    input_size_limit=FOLD_LIMIT,
                    output_size_limit=FOLD_LIMIT,
                    should_fold=lambda node: _may_fold(node, sizes),
                )
            is_new = fold_several_outputs(model, sizes) + declare_undisputed_sizes(model) > 0
        except LimitError:
            raise
        except Exception as error:  # it evaluates whatever the file says, and raises whatever comes of that
            raise ModelError(f"its constants cannot be worked out ({shortened(error)})") from error
    lift(model)
    remove_identities(model)
    passes.RemoveUnusedNodesPass()(model)
    return max(0, before - model.graph.num_nodes())


def _may_fold(node: ir.Node, sizes: FoldLimits) -> bool | None:
    """Whether a node of constants is folded; None leaves it to the optimiser, which looks at a result's size too late.

    It would keep ConstantOfShape, which stands before many an Expand, and DequantizeLinear, which hides a kernel.

    Raises:
        ModelError: evaluating it, here or later in ONNX Runtime, would fill the memory or end the process.
    """
    sizes.check(node)
    elements = result_size(node)
    if elements is not None and elements > FOLD_LIMIT:
        return False
    return True if node.op_type in ("DequantizeLinear", "ConstantOfShape") else None
