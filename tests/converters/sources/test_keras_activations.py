"""What follows each convolution of a Keras network, as Keras' own layers say and as the exported graph shows."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.network.nonlinearity import nonlinearity
from filterscope.converters.normal_form.canonical import canonicalize
from filterscope.converters.sources.keras import QUIET
from filterscope.converters.sources.options import SourceOptions
from filterscope.converters.sources.read import read
from support.networks import DATA, needs_data
from support.paths import SUPPORT

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("keras", "tensorflow", "tf2onnx", "tf_keras")),
    reason="Keras is not installed",
)
FILES = ("activations.keras", "blocks.keras", "keras_2.h5", "MobileNetV3Small.keras", "EfficientNetV2B0.keras")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("activations")
    environment = {**os.environ, **QUIET, "KERAS_BACKEND": "tensorflow"}
    script = SUPPORT / "keras_activations.py"
    subprocess.run([sys.executable, script, path], check=True, env=environment, capture_output=True)
    return path


@pytest.mark.parametrize("name", FILES)
def test_what_follows_a_layer_is_what_keras_has_there(folder, name):
    expected = json.loads((folder / "then.json").read_text(encoding="utf-8"))[name]
    form = canonicalize(read(folder / name, SourceOptions()))
    found = {
        form.layer_names[node.name]: nonlinearity(form.graph, node.outputs[0])
        for node in form.graph.nodes
        if node.op in ("Conv", "ConvTranspose")
    }
    assert found == expected
    assert len(expected) >= 3


@needs_data
def test_a_keras_2_network_with_batchnorm_has_its_nine_layers_followed_as_keras_has_them():
    network = open_network(DATA / "models" / "keras" / "resnet8_cifar10_keras2.4.h5")
    found = {layer.name: (layer.nonlinearity, layer.batchnorm) for layer in network.layers}
    # Three blocks: a convolution with BatchNorm and ReLU, one with BatchNorm alone before the sum; ways around.
    with_relu, before_the_sum = ("conv2d", "conv2d_1", "conv2d_3", "conv2d_6"), ("conv2d_2", "conv2d_4", "conv2d_7")
    expected = dict.fromkeys(with_relu, ("relu", True)) | dict.fromkeys(before_the_sum, ("none", True))
    assert found == expected | dict.fromkeys(("conv2d_5", "conv2d_8"), ("none", False))
    assert network.prove().original.error < 1e-5
