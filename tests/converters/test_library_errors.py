"""What a library raises while a file is read becomes one line that names the file and the step."""

import pytest

from filterscope.converters.errors import LimitError, ModelError
from filterscope.converters.library_errors import as_model_error

CASES = [  # what is raised, the line
    (MemoryError(), r"^net\.onnx: not enough memory when it is opened; try a smaller `input_size`$"),
    (ValueError("two\n  lines"), r"^net\.onnx: fails when it is opened \(ValueError: two lines\); if ONNX Runtime"),
    (KeyError(), r"^net\.onnx: fails when it is opened \(KeyError\); if ONNX Runtime"),
    (ValueError("x" * 900), r"^net\.onnx: fails when it is opened \(ValueError: x{200}\); if ONNX Runtime"),
]


@pytest.mark.parametrize(("error", "line"), CASES, ids=["memory", "lines", "no words", "many words"])
def test_a_librarys_exception_becomes_one_line(error, line):
    with pytest.raises(ModelError, match=line) as raised, as_model_error("net.onnx", "it is opened"):
        raise error
    assert raised.value.__cause__ is error
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("error", [LimitError("too many"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_our_own_errors_an_interrupt_and_an_exit_pass(error):
    with pytest.raises(type(error)) as raised, as_model_error("net.onnx", "it is opened"):
        raise error
    assert raised.value is error
