"""The ONNX project's own node tests, run through our import: one line an operator, for docs/coverage.md.

A test is one node with inputs and the answers that the ONNX project expects. It counts where ONNX Runtime, our judge,
passes it, on the file as it is or (of opset 27 on, which ONNX Runtime refuses as a whole) on its form at opset 21. It
is passed where torch, after the way that a network takes (opset 21, then import), gives those answers too. Beside it
stands what plain onnx2torch makes of the same file.
"""

import argparse
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from filterscope.converters.errors import FilterscopeError
from filterscope.converters.rewrites.opset_upgrade import to_opset
from filterscope.converters.torch_import.importer import import_graph
from filterscope.converters.torch_import.onnx2torch_loader import load

# No CNN has these before its last convolution; each is refused by its name where a file has it nevertheless.
LEFT_OUT = {
    "control flow: what depends on constants alone is folded before the import": ("If", "Loop", "Scan", "SequenceMap"),
    "sequences and optional values: no tensors": (
        *("OptionalGetElement", "OptionalHasElement", "SequenceInsert", "SplitToSequence"),
    ),
    "text": ("RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer"),
    "audio: spectra and their windows": (
        *("BlackmanWindow", "HammingWindow", "HannWindow", "MelWeightMatrix", "STFT"),
    ),
    "recurrent: reads a sequence, after the convolutions or without them": ("GRU", "LSTM", "RNN"),
    "language models: caches and states of a decoder": ("CausalConvWithState", "LinearAttention", "TensorScatter"),
    "training: losses and steps": (
        "NegativeLogLikelihoodLoss",
        "SoftmaxCrossEntropyLoss",
        "Adagrad",
        "Adam",
        "Momentum",
    ),
    "drawn at random": ("Bernoulli",),
    "image files": ("ImageDecoder",),
    "other domains: classical machine learning, previews": (
        *("ArrayFeatureExtractor", "Binarizer", "FlexAttention", "LabelEncoder", "TreeEnsemble"),
    ),
    "no form at opset 21": ("BitCast", "CumProd"),
    "8-bit products: the normal form dequantises them": (
        *("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"),
    ),
    "detection: boxes, past the convolutions that are analysed": ("NonMaxSuppression", "RoiAlign"),
}


@dataclass
class Tally:
    """Of one operator's tests that ONNX Runtime passes."""

    all: int = 0
    passed: int = 0
    plain: int = 0  # by onnx2torch as it is
    failures: dict[str, str] = field(default_factory=dict)  # name of a test → why it is not passed
    wrong: int = 0  # of the failures, those with another answer; the others are refused


class WrongAnswerError(Exception):
    """An answer that is not the expected one."""


def tallies(only: str | None = None, *, with_plain: bool = True) -> dict[str, Tally]:
    """Every operator that has a test which ONNX Runtime passes.

    Args:
        only: an operator's name; None: all but those left out.
        with_plain: whether onnx2torch by itself is tried too.
    """
    load()
    logging.getLogger("onnx2torch").setLevel(logging.CRITICAL)
    left_out = {op for ops in LEFT_OUT.values() for op in ops}
    found: dict[str, Tally] = {}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        for test in tests():
            op = test.model.graph.node[0].op_type
            if op in left_out if only is None else op != only:
                continue
            if _why_not(test, onnxruntime_answers) and _why_not(test, lowered_answers):
                continue
            tally = found.setdefault(op, Tally())
            tally.all += 1
            tally.plain += with_plain and not _why_not(test, plain_answers)
            why = _why_not(test, our_answers)
            tally.passed += not why
            if why:
                tally.failures[test.name] = why
                tally.wrong += why.startswith("WrongAnswerError")
    return dict(sorted(found.items()))


def rows() -> list[str]:
    """The lines of docs/coverage.md that tell of operators."""
    found = tallies()
    total = [sum(getattr(tally, name) for tally in found.values()) for name in ("passed", "all", "plain")]
    return [
        "## Operators",
        "",
        "The ONNX project's own tests of one node (`onnx.backend.test`), those that ONNX Runtime passes, run through",
        "our import at opset 21; beside it what onnx2torch 1.5.15 makes of them by itself.",
        "",
        "| operator | passed | of | onnx2torch alone |",
        "|---|---|---|---|",
        *(f"| {op} | {tally.passed} | {tally.all} | {tally.plain} |" for op, tally in found.items()),
        f"| all {len(found)} | {total[0]} | {total[1]} | {total[2]} |",
        "",
        "Not counted, since no network has them before its last convolution, or the normal form is rid of them:",
        "",
        *left_out_rows(),
    ]


def left_out_rows() -> list[str]:
    """The operators that are not counted, and why."""
    return [f"- {reason}: {', '.join(ops)}" for reason, ops in LEFT_OUT.items()]


def tests() -> Iterator[Any]:
    """The tests of one node, in the ONNX package's own order."""
    from onnx.backend.test.case.node import collect_testcases

    for test in collect_testcases(None):
        if len(test.model.graph.node) == 1 and all(_is_plain(value) for value in _values(test)):
            yield test


def _values(test: Any) -> Iterator[Any]:
    for given, expected in test.data_sets:
        yield from (*given, *expected)


def _is_plain(value: Any) -> bool:
    """Whether torch takes a value; 16-bit floats it would, but they are float32 in the normal form."""
    return isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf" and value.dtype != np.float16


def _why_not(test: Any, answers: Callable[[onnx.ModelProto, list[np.ndarray]], list[np.ndarray]]) -> str:
    """Empty where the answers are the expected ones."""
    try:
        for given, expected in test.data_sets:
            found = answers(test.model, [np.asarray(array) for array in given])
            for mine, theirs in zip(found, map(np.asarray, expected), strict=True):
                _compare(mine, theirs, test.rtol, test.atol)
    except Exception as error:  # whoever answers may fail in any way; the table tells how often
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return ""


def _compare(found: np.ndarray, expected: np.ndarray, rtol: float, atol: float) -> None:
    if found.dtype != expected.dtype or found.shape != expected.shape:
        raise WrongAnswerError(f"{found.dtype} {found.shape}, expected {expected.dtype} {expected.shape}")
    if not np.allclose(found, expected, rtol=rtol, atol=atol, equal_nan=expected.dtype.kind == "f"):
        raise WrongAnswerError(f"{found.ravel()[:5]}, expected {expected.ravel()[:5]}")


def onnxruntime_answers(model: onnx.ModelProto, given: list[np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    answers: list[np.ndarray] = session.run(None, dict(zip(names, given, strict=True)))
    return answers


def lowered_answers(model: onnx.ModelProto, given: list[np.ndarray]) -> list[np.ndarray]:
    return onnxruntime_answers(to_opset(model)[0], given)


def our_answers(model: onnx.ModelProto, given: list[np.ndarray]) -> list[np.ndarray]:
    raised, notes = to_opset(model)
    for index, node in enumerate(raised.graph.node):
        node.name = f"node{index}"
    try:
        module = import_graph(raised).module
    except FilterscopeError as error:
        raise FilterscopeError("; ".join([*notes, str(error)])) from error
    return _arrays(module(*[torch.from_numpy(array.copy()) for array in given]))


def plain_answers(model: onnx.ModelProto, given: list[np.ndarray]) -> list[np.ndarray]:
    from onnx2torch import convert

    return _arrays(convert(model).eval()(*[torch.from_numpy(array.copy()) for array in given]))


def _arrays(answer: Any) -> list[np.ndarray]:
    values = answer if isinstance(answer, list | tuple) else [answer]
    return [torch.as_tensor(value).numpy() for value in values]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("operator", nargs="?", help="one operator alone, with the reasons of its failures")
    options = parser.parse_args()
    started = time.perf_counter()
    found = tallies(options.operator)
    for op, tally in found.items():
        print(f"{op:28} {tally.passed:4} of {tally.all:4}   onnx2torch {tally.plain:4}")
        for name, why in tally.failures.items():
            print(f"    {name}: {why}")
    total = {
        name: sum(getattr(tally, name) for tally in found.values()) for name in ("passed", "all", "plain", "wrong")
    }
    print(
        f"{len(found)} operators: {total['passed']} of {total['all']} passed, {total['wrong']} wrong; "
        f"onnx2torch alone {total['plain']}; {time.perf_counter() - started:.0f} s"
    )
    print("\n".join(["Left out:", *left_out_rows()]))


if __name__ == "__main__":
    main()
