"""The passes of the normal form stand in one order, each behind those that ensure what it needs."""

import numpy as np
import pytest

from filterscope.converters.normal_form.passes import BEFORE, PASSES, Draft, Property
from support.networks import build, normal

W = normal(4, 3, 3, 3)
NORM = {"g": normal(4), "b": normal(4, seed=1), "m": normal(4, seed=2), "v": np.abs(normal(4, seed=3)) + 0.1}

ORDER = [
    "drop_declarations",
    "cut_unknown_operators",
    "raise_opset",
    "rewrite_in_float32",
    "read_into_ir",
    "inline_functions",
    "name_nodes",
    "make_fed_inputs_constant",
    "fix_batch",
    "fold_constants",
    "free_batch",
    "repeat_fed_inputs",
    "sort_nodes",
    "name_new_nodes",
    "name_layers",
    "fold_affine",
    "note_rounding",
    "check_layers",
    "write_protobuf",
    "cut_undecided_results",
    "declare_shapes",
    "check_sizes",
]


def modified_by(model, batch=None):
    """The passes that changed a model."""
    draft = Draft(proto=model, memory=0, repeated=(), batch=batch)
    return [step.name for step in PASSES if step.run(draft).modified]


def test_the_passes_run_in_this_order():
    assert [step.name for step in PASSES] == ORDER


def test_what_a_pass_requires_is_ensured_before_it_and_not_broken_since():
    holding = set(BEFORE)
    for step in PASSES:
        assert not set(step.requires) - holding, f"{step.name}: nothing before it ensures {step.requires}"
        holding = holding - set(step.breaks) | set(step.ensures)


def test_the_normal_form_has_every_property_but_the_notation_between():
    holding = set(BEFORE)
    for step in PASSES:
        holding = holding - set(step.breaks) | set(step.ensures)
    assert holding == set(Property) - {Property.IN_ONNX_IR}


@pytest.mark.parametrize(
    ("nodes", "constants", "settings", "expected"),
    [
        ([("Conv", "x w", "y", {"name": "c"})], {}, {}, ["declare_shapes"]),
        ([("Conv", "x w", "y")], {}, {}, ["name_nodes", "declare_shapes"]),
        ([("Conv", "x w", "y", {"name": "c"})], {}, {"listed": True}, ["drop_declarations", "declare_shapes"]),
        ([("Conv", "x w", "y", {"name": "c"})], {}, {"opset": 13}, ["raise_opset", "declare_shapes"]),
        (
            [("Conv", "x w", "y", {"name": "c"})],
            {},
            {"shape": (2, 3, 16, 16)},
            ["free_batch", "declare_shapes"],
        ),
        (
            [("Neg", "w", "n", {"name": "n"}), ("Conv", "x n", "y", {"name": "c"})],
            {},
            {},
            ["fold_constants", "declare_shapes"],
        ),
        (
            [("Conv", "x w", "c", {"name": "c"}), ("BatchNormalization", "c g b m v", "y", {"name": "n"})],
            NORM,
            {},
            ["fold_affine", "declare_shapes"],
        ),
    ],
)
def test_a_pass_says_whether_it_changed_the_network(nodes, constants, settings, expected):
    model = build(nodes, {"w": W} | constants, **settings)
    assert modified_by(model) == expected


def test_a_fixed_batch_is_declared_and_not_freed():
    model = build([("Conv", "x w", "y", {"name": "c"})], {"w": W}, shape=(2, 3, 16, 16))
    assert modified_by(model, batch=1) == ["fix_batch", "declare_shapes"]
