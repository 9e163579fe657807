"""What passes for the same network as its source, and what does not."""

import subprocess
import sys

import numpy as np
import pytest

from filterscope.converters.errors import ModelError
from filterscope.converters.sources import child_process
from support.networks import build, normal

SHAPE = ("N", 3, 4, 4)
WAVES = 1e5  # radians in an input of 1, of which float32 keeps two digits after the point


def passed_on():
    """A network that gives its input back."""
    return build([("Identity", "x", "y")], shape=SHAPE)


def waves():
    """A network that magnifies roundings."""
    return build([("Mul", "x waves", "angle"), ("Sin", "angle", "y")], {"waves": np.float32(WAVES)}, shape=SHAPE)


CASES = [  # network, what its source answers, whether it is the same
    (passed_on, lambda x: x, True),
    (passed_on, lambda x: x + 5e-4 * np.abs(x).max(), True),
    (passed_on, lambda x: x + 5e-3 * np.abs(x).max(), False),
    (passed_on, lambda x: np.where(x > 1, np.nan, x), False),
    (passed_on, lambda x: x[:, :, :3], False),
    (waves, lambda x: np.sin(WAVES * x.astype(np.float64)), True),
    (waves, lambda x: np.sin(WAVES * x.astype(np.float64)) + 0.1, False),
    (waves, lambda x: np.full(x.shape, np.inf), False),
]


@pytest.mark.parametrize(("network", "source", "same"), CASES)
def test_an_export_is_used_where_it_answers_as_its_source_or_as_far_as_its_roundings_carry(network, source, same):
    samples = {}
    for batch in (1, 3):
        x = normal(batch, 3, 4, 4)
        samples |= {f"x{batch}.0": x, f"y{batch}.0": source(x).astype(np.float32)}
    if same:
        child_process.prove(network(), samples, "it")
    else:
        with pytest.raises(
            child_process.ExportError, match="it: the exported ONNX differs from the source at output 'y'"
        ):
            child_process.prove(network(), samples, "it")


def test_an_export_with_another_number_of_outputs_is_not_used():
    x = normal(1, 3, 4, 4)
    with pytest.raises(child_process.ExportError, match="other inputs or outputs"):
        child_process.prove(passed_on(), {"x1.0": x, "y1.0": x, "y1.1": x}, "it")


ENDINGS = [  # a script, the words for how it ended
    ("import sys; sys.exit('one\\ntwo\\n\\nthree\\nfour')", "ended with code 1: .*three | four$"),
    ("raise SystemExit(7)", "ended with code 7 and no message$"),
    ("import os; os.abort()", "ended with code -6 and no message$"),
    (
        "import pathlib, sys; pathlib.Path(sys.argv[1], 'result.json').write_text('{')",
        "ended with code 0 and no message$",
    ),
]


@pytest.mark.parametrize(("script", "words"), ENDINGS)
def test_a_conversion_that_ends_without_a_result_says_how(script, words, tmp_path, monkeypatch):
    (tmp_path / "it.py").write_text(script)
    monkeypatch.setattr(child_process, "SCRIPTS", tmp_path)
    with pytest.raises(ModelError, match=f"^net: the conversion to ONNX {words}") as raised:
        child_process._run("it.py", tmp_path, "net", search=(), environment={})
    assert "\n" not in str(raised.value)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prlimit is Linux's")
def test_a_script_may_use_more_than_the_process_that_starts_it():
    import resource

    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        resource.prlimit(process.pid, resource.RLIMIT_CPU, (100, resource.RLIM_INFINITY))
        resource.prlimit(process.pid, resource.RLIMIT_AS, (1 << 32, (1 << 32) + 5))
        child_process._raise_limits(process.pid)
        seconds = child_process.SCRIPT_SECONDS * 100 + child_process.SCRIPT_SECONDS_MORE
        assert resource.prlimit(process.pid, resource.RLIMIT_CPU) == (seconds, resource.RLIM_INFINITY)
        assert resource.prlimit(process.pid, resource.RLIMIT_AS) == ((1 << 32) + 5, (1 << 32) + 5)
        process.communicate(b"\n")
