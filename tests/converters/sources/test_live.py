"""Models that live in the caller's process open as their files do, and are left as they are."""

import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import onnx
import pytest

import filterscope as fs
from filterscope.converters.errors import ModelError
from filterscope.converters.sources.read import read
from support.networks import answers, build, normal
from support.paths import ROOT

needs_keras = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("keras", "tensorflow", "tf2onnx")), reason="Keras is not installed"
)


@pytest.fixture
def proto():
    nodes = [("Conv", "x w", "a", {"name": "conv1"}), ("Relu", "a", "y")]
    return build(nodes, {"w": normal(4, 3, 3, 3)}, shape=("N", 3, 12, 12))


def as_proto(proto):
    return proto


def as_bytes(proto):
    return proto.SerializeToString()


def as_view(proto):
    return memoryview(bytearray(proto.SerializeToString()))


@pytest.mark.parametrize("given", [as_proto, as_bytes, as_view])
def test_onnx_in_memory_is_the_network_of_its_file(proto, given, tmp_path):
    before = proto.SerializeToString(deterministic=True)
    onnx.save(proto, tmp_path / "net.onnx")
    expected, network = fs.open(tmp_path / "net.onnx"), fs.open(given(proto))
    assert [layer.name for layer in network.layers] == [layer.name for layer in expected.layers] == ["conv1"]
    x = np.random.default_rng(0).normal(size=(2, 3, 12, 12)).astype(np.float32)
    np.testing.assert_array_equal(
        answers(onnx.load_model_from_string(network.model.exported()), x)["y"], answers(proto, x)["y"]
    )
    assert proto.SerializeToString(deterministic=True) == before
    assert fs.open(given(proto)).model.sha256 == network.model.sha256, "a run goes on in another session"
    network.prove()
    run = fs.analyze(network, out=tmp_path / "run")
    assert (tmp_path / "run" / "model.onnx").is_file(), "no other file holds it"
    assert run.info["status"] == "complete"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (b"no model", r"^model\.onnx: not an ONNX model"),
        (b"", r"^model\.onnx: is empty"),
        (onnx.ModelProto(), r"^model\.onnx: "),
        (3, r"^a int is no model; give a path"),
        (np.zeros(3), r"^a ndarray is no model"),
    ],
)
def test_what_is_no_model_is_refused_by_what_it_is(source, words):
    with pytest.raises(ModelError, match=words):
        read(source)


@pytest.mark.parametrize("given", [as_proto, as_bytes, as_view])
def test_what_is_read_from_memory_lies_in_no_file(proto, given):
    file = read(given(proto))
    assert file.converted
    assert not file.path.exists()
    assert file.proto == proto


class Model:
    """What a Keras model is known by: this name, in a module of this name."""

    __module__ = "keras.models"
    name = "net"

    def save(self, path):
        raise ValueError("the layer 'mine'\ncannot be saved")


def test_a_keras_model_that_cannot_be_saved_is_refused_in_one_line():
    words = r"^net: cannot be saved \(the layer 'mine' cannot be saved\); build it, and see that it can be saved$"
    with pytest.raises(ModelError, match=words):
        read(Model())


def test_a_keras_model_that_cannot_be_converted_is_named_as_its_user_names_it():
    model = Model()
    model.save = lambda path: path.write_bytes(b"")
    with pytest.raises(ModelError, match=r"^net: is empty; save it again"):
        read(model)


# In a process of its own: TensorFlow stays there. Prints what the framework and ONNX Runtime answer.
LIVE_KERAS = """
import json, sys
import numpy as np
import {keras} as keras
import onnxruntime
from filterscope import open as open_model

model = keras.Sequential([
    keras.Input((12, 12, 3)), keras.layers.Conv2D(4, 3, activation="relu", name="first"),
    keras.layers.Lambda(lambda x: x * 2.0, output_shape=(10, 10, 4)) if {with_lambda} else keras.layers.ReLU(),
    keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(5),
])
before = [w.copy() for w in model.get_weights()]
network = open_model(model)
again = open_model(model)
assert network.model.sha256 == again.model.sha256
x = np.random.default_rng(0).random((2, 12, 12, 3), np.float32)
session = onnxruntime.InferenceSession(network.model.exported())
answer = session.run(None, {{session.get_inputs()[0].name: x}})[0]
np.testing.assert_allclose(answer, np.asarray(model(x, training=False)), rtol=1e-4, atol=1e-5)
assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))
print(json.dumps([layer.name for layer in network.layers]))
"""


@needs_keras
@pytest.mark.parametrize(("keras", "with_lambda"), [("keras", False), ("keras", True), ("tf_keras", False)])
def test_a_live_keras_model_opens(tmp_path, keras, with_lambda):
    if find_spec(keras) is None:
        pytest.skip(f"{keras} is not installed")
    (tmp_path / "live.py").write_text(LIVE_KERAS.format(keras=keras, with_lambda=with_lambda))
    own = {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "XDG_CACHE_HOME": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "live.py"], cwd=tmp_path, env=os.environ | own, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert ended.stdout.splitlines()[-1] == '["first"]'
