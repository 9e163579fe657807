"""What passes for the same network as its source, and what does not."""

import numpy as np
import pytest

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
