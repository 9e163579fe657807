"""The demo network that ships with filterscope: its layers, and the accuracy that its description claims.

Knows the two files and ONNX Runtime; knows nothing of how they were trained.
"""

import io
import json
from itertools import pairwise

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from support.paths import ROOT

MODEL = ROOT / "filterscope/data/cifar10_cnn.onnx"
DESCRIPTION = json.loads(MODEL.with_suffix(".json").read_text(encoding="utf-8"))
TEST_IMAGES = ROOT.parent / "shared/data/cifar10/cifar10_test_2000_lossless_webp.npz"

CONVOLUTIONS = [  # node, weight, output channels
    ("/conv1/Conv", "conv1.weight", 32),
    ("/conv2/Conv", "conv2.weight", 32),
    ("/conv3/Conv", "conv3.weight", 64),
    ("/conv4/Conv", "conv4.weight", 64),
]


def logits_of(images: np.ndarray) -> np.ndarray:
    """(N, 10) float32 answers of the shipped file to (N, 3, 32, 32) float32 images in 0..1."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
    logits: np.ndarray = session.run(["logits"], {"image": images})[0]
    return logits


def test_network_is_the_four_convolutions_that_its_description_names():
    graph = onnx.load(MODEL).graph
    channels = {weight.name: weight.dims[0] for weight in graph.initializer}
    found = [(node.name, node.input[1], channels[node.input[1]]) for node in graph.node if node.op_type == "Conv"]
    assert found == CONVOLUTIONS
    assert not [node.name for node in graph.node if node.op_type in ("BatchNormalization", "Softmax")]


@pytest.mark.parametrize("batch", [1, 3])
def test_batch_is_free_and_every_class_gets_a_logit(batch):
    logits = logits_of(np.full((batch, 3, 32, 32), 0.5, np.float32))
    assert logits.shape == (batch, len(DESCRIPTION["classes"]))
    assert np.isfinite(logits).all()


@pytest.mark.skipif(not TEST_IMAGES.is_file(), reason="the CIFAR-10 test images of ../shared/data are not here")
def test_accuracy_is_the_figure_in_the_description():
    with np.load(TEST_IMAGES) as archive:
        data, offsets, labels = archive["data"].tobytes(), archive["offsets"], archive["labels"]
        classes = archive["classes"].tolist()
    files = (data[begin:end] for begin, end in pairwise(offsets))
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files])
    logits = logits_of(pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255)

    assert classes == DESCRIPTION["classes"]
    assert len(labels) == DESCRIPTION["test_images"]
    right = int((logits.argmax(1) == labels).sum())
    # One image either way: another machine may round a tie differently.
    assert abs(right - DESCRIPTION["test_accuracy"] * len(labels)) <= 1.01
