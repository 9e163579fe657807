"""The ONNX project's own node tests, as `make coverage` counts them: torch passes each that ONNX Runtime passes."""

import sys

import onnx

from support.paths import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import operators


def test_every_node_test_that_onnx_runtime_passes_is_passed() -> None:
    tallies = operators.tallies(with_plain=False)
    assert len(tallies) >= 100  # 150 with onnx 1.23
    assert sum(tally.all for tally in tallies.values()) >= 700  # 940 there
    assert {name: why for tally in tallies.values() for name, why in tally.failures.items()} == {}


def test_what_is_left_out_are_operators() -> None:
    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history()}
    assert {op for ops in operators.LEFT_OUT.values() for op in ops} <= known
