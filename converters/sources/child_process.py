"""Convert another framework's model to ONNX in a process of its own, and prove that the result computes the same.

A script of `scripts/` is given a request and a folder. It writes the model, and the source's outputs for random images
at batch 1 and 3; ONNX Runtime must compute the same. With the process go the framework's memory and its
logs. The scripts import nothing of ours: the user's own packages may bear our packages' names.

In the folder:
    request.json   given: what the script is to do
    model.onnx     the model; tensors of a large one beside it
    samples.npz    "x1.0" the first input at batch 1, "y3.1" the second output at batch 3; in the order of the graph
    result.json    {"notes": [sentence, …], …}, or {"error": one line} where the user can mend it; "export": true beside
                   it says that another way of exporting may do
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from filterscope.converters.errors import ModelError

if TYPE_CHECKING:
    from filterscope.converters.runtime import Session

SCRIPTS = Path(__file__).parent / "scripts"
LIMIT = 1e-3  # relative error above which source and export are two networks
MOVED = 1e-6  # by how much, relatively, inputs are moved to see how a network magnifies roundings
FAR = 0.05  # relative error that no roundings excuse
SLACK = 10  # roundings happen in every layer, that movement at the input alone
SCRIPT_SECONDS = 10  # times the processor seconds that this process may use, and SCRIPT_SECONDS_MORE
SCRIPT_SECONDS_MORE = 60
SCRIPT_MEMORY_MORE = 6 << 30  # bytes of address space
LAST_LINES = 3  # of what a process wrote when it died without a word of its own


class ExportError(ModelError):
    """This way of exporting failed, or its result is another network; another way may do."""


@dataclass(frozen=True, slots=True, eq=False)
class Conversion:
    """The result of a script: the model as ONNX, and notes."""

    proto: onnx.ModelProto  # its tensors read in
    sha256: str  # of the ONNX bytes
    result: Mapping[str, Any]  # what the script says of it

    @property
    def notes(self) -> tuple[str, ...]:
        """How it was done, a sentence each."""
        return tuple(self.result.get("notes", ()))

    @property
    def assumed_size(self) -> str:
        """As of `ModelFile`."""
        return str(self.result.get("assumed_size", ""))


def convert(
    script: str,
    request: Mapping[str, Any],
    shown: str,
    *,
    search: Sequence[Path] = (),
    environment: Mapping[str, str] | None = None,
) -> Conversion:
    """Run a script and prove what it made.

    Args:
        script: file name in `converters/sources/scripts/`.
        request: what it is to do; JSON.
        shown: the model as the user named it, for messages.
        search: folders that its imports look into first.
        environment: variables to set.

    Raises:
        ExportError: the framework could not export it so, or the export differs from the source.
        ModelError: the script refused, or died.
    """
    with tempfile.TemporaryDirectory(prefix="filterscope-") as place:
        folder = Path(place)
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        result = _run(script, folder, shown, search=search, environment=environment or {})
        proto = onnx.load(folder / "model.onnx")
        with np.load(folder / "samples.npz") as samples:
            prove(proto, dict(samples), shown)
    digest = hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()
    return Conversion(proto, digest, result)


def prove(proto: onnx.ModelProto, samples: Mapping[str, np.ndarray], shown: str) -> None:
    """Check that ONNX Runtime computes the same outputs as the source did.

    Args:
        proto: the export.
        samples: inputs and outputs of the source, named as in samples.npz.
        shown: the model as the user named it.

    Raises:
        ExportError: it does not run, or an output differs by more than 1e-3, relative to its largest value, and by more
            than a network that magnifies its roundings would explain.
    """
    from filterscope.converters.comparison import relative_error
    from filterscope.converters.runtime import Session

    outputs = [value.name for value in proto.graph.output]
    names = [value.name for value in proto.graph.input]
    for batch in sorted({name[1:].partition(".")[0] for name in samples}):
        arrays = [samples[f"x{batch}.{index}"] for index in range(sum(n.startswith(f"x{batch}.") for n in samples))]
        answered = [samples[f"y{batch}.{index}"] for index in range(sum(n.startswith(f"y{batch}.") for n in samples))]
        if len(arrays) != len(names) or len(answered) != len(outputs):
            raise ExportError(f"{shown}: the exported ONNX has other inputs or outputs than the source; it is not used")
        inputs = dict(zip(names, arrays, strict=True))
        try:
            session = Session(proto)
            answers = _run_session(session, inputs)
        except ModelError as error:
            raise ExportError(f"{shown}: the exported ONNX {error}") from error
        for name, expected_output in zip(outputs, answered, strict=True):
            distance, expected, actual = relative_error(answers[name], expected_output)
            magnified = SLACK * _magnified_rounding(session, inputs, answers, name) if distance > LIMIT else 0.0
            if distance > LIMIT and distance > min(FAR, magnified):
                raise ExportError(
                    f"{shown}: the exported ONNX differs from the source at output {name!r}, batch {batch}: "
                    f"{expected:.6g} against {actual:.6g}, relative error {distance:.2g}; it is not used"
                )


def _run_session(session: Session, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Outputs by name; the first input is the image's."""
    image, *others = inputs
    return session.run(inputs[image], {name: inputs[name] for name in others})


def _magnified_rounding(
    session: Session, inputs: Mapping[str, np.ndarray], answers: Mapping[str, np.ndarray], output: str
) -> float:
    """Relative error at an output when the inputs move by about ten roundings."""
    from filterscope.converters.comparison import relative_error

    rng = np.random.default_rng(0)
    moved = {
        name: (x * (1 + MOVED * rng.standard_normal(x.shape))).astype(x.dtype) if x.dtype.kind == "f" else x
        for name, x in inputs.items()
    }
    return relative_error(_run_session(session, moved)[output], answers[output])[0]


def _run(
    script: str, folder: Path, shown: str, *, search: Sequence[Path], environment: Mapping[str, str]
) -> dict[str, Any]:
    inherited = os.environ.get("PYTHONPATH")
    paths = [*map(str, search), *([inherited] if inherited else [])]
    variables = os.environ | environment | {"PYTHONPATH": os.pathsep.join(paths)}
    with subprocess.Popen(
        # -P: the script's own folder is not searched, where names such as "keras" are ours
        [sys.executable, "-P", str(SCRIPTS / script), str(folder)],
        env=variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
    ) as process:
        _raise_limits(process.pid)
        _, printed = process.communicate()
    try:
        result: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        lines = [line.strip() for line in printed.splitlines() if line.strip()][-LAST_LINES:]
        last = f": {' | '.join(lines)[:500]}" if lines else " and no message"
        raise ModelError(f"{shown}: the conversion to ONNX ended with code {process.returncode}{last}") from error
    if "error" in result:
        raise (ExportError if result.get("export") else ModelError)(f"{shown}: {result['error']}")
    return result


def _raise_limits(process: int) -> None:
    """Let a script use more than the process that started it may, where that is limited: a framework is large."""
    if not sys.platform.startswith("linux"):
        return
    import resource

    for which, times, more in (
        (resource.RLIMIT_CPU, SCRIPT_SECONDS, SCRIPT_SECONDS_MORE),
        (resource.RLIMIT_AS, 1, SCRIPT_MEMORY_MORE),
    ):
        soft, hard = resource.prlimit(process, which)
        if soft != resource.RLIM_INFINITY:
            larger = times * soft + more
            resource.prlimit(process, which, (larger if hard == resource.RLIM_INFINITY else min(larger, hard), hard))
