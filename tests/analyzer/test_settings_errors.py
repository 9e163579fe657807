"""Errors about settings: each says which setting it is about, and names it in its text as the Python API does."""

import numpy as np
import pytest

from filterscope.analyzer.boundary.limits import Limits, parse_memory
from filterscope.analyzer.data.images import Photo, fit
from filterscope.analyzer.data.white import check_white
from filterscope.analyzer.network.inputs import DeclaredInput, InputSpec, size_of
from filterscope.analyzer.network.layers import select, select_two_dimensional
from filterscope.analyzer.network.preprocessing import PRESETS, custom, preset
from filterscope.analyzer.network.scores import class_index
from filterscope.analyzer.units.canvas import Canvas
from filterscope.analyzer.units.objectives import between, objective_for
from filterscope.converters.errors import SettingsError

SPEC = InputSpec("x", "NCHW", 3, 8, 8, PRESETS["unit"], "", True, True)
PHOTO = Photo("a.png", np.zeros((4, 4, 3), np.uint8), (4, 4), None)
DECLARED = DeclaredInput("x", (1, 3, 240, 320), "NCHW", 3)

CASES = {  # field → what fails, the value, a part of the text
    "preprocess": (lambda: preset("imagnet"), "imagnet", "`preprocess=imagnet`"),
    "std": (lambda: custom(1, [0], [1, 0, 1]), (1.0, 0.0, 1.0), "`std=1, 0, 1`: has a zero"),
    "high": (lambda: custom(0, [0], [1]), 0, "must be above 0"),
    "input_size": (lambda: size_of(DECLARED, (9, 9)), (9, 9), "`input_size=9x9`: the file fixes"),
    "class": (lambda: class_index("9", [], 4), "9", "`class=9`: the network has classes 0 to 3"),
    "classes": (lambda: class_index("9", [], 4, field="classes"), "9", "`classes=9`: the network has"),
    "labels": (lambda: class_index("cat", ["dog"], 4), ["dog"], "`labels`: 1 names"),
    "groups": (lambda: select_two_dimensional([], (), "groups"), (), "no two-dimensional convolution"),
    "inversion": (lambda: select([], ["a"], "inversion"), "a", "no layer matches 'a'"),
    "white": (lambda: check_white(-1), -1, "`white=-1`"),
    "resize": (lambda: fit(PHOTO, SPEC, "none"), "none", "give another `resize`"),
    "limit_memory": (lambda: parse_memory("much"), "much", "`limit_memory=much`"),
    "limit_seconds": (lambda: Limits(seconds=-1), -1, "`limit_seconds=-1`"),
    "pair": (lambda: between(0, 9, 3, 4), "0,9", "`pair=0,9`: the layer has channels 0 to 3"),
    "objective": (lambda: objective_for("best", Canvas(8, 8, None, None)), "best", "`objective=best`: give one of"),
}


@pytest.mark.parametrize("field", CASES)
def test_an_error_about_a_setting_carries_its_field_and_value(field):
    fails, value, text = CASES[field]
    with pytest.raises(SettingsError) as caught:
        fails()
    assert (caught.value.field, caught.value.value) == (field, value)
    assert text in str(caught.value)
    assert "--" not in str(caught.value)
