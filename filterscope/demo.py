"""The bundled demonstration: a CIFAR-10 network of our own, and CIFAR-10 test images with their classes.

Knows where the files are and which settings and images suit them.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.execution.plan import Settings
from filterscope.analyzer.network.network import InputOptions, Network
from filterscope.analyzer.network.preprocessing import preset

MODEL, DATA = "cifar10_cnn", "cifar10"
# One image a class, which the network gets right; then a cat that it takes for a dog, and a dog for a cat.
IMAGES = (20, 71, 22, 83, 44, 55, 86, 87, 108, 19, 43, 165)


def network() -> Network:
    """The network: the Keras team's cifar10_cnn, trained by us (examples/train_demo.py)."""
    options = InputOptions(preprocessing=preset(_facts()["preprocess"]))
    return open_network(_file(f"{MODEL}.onnx"), options)


def labels() -> list[str]:
    """CIFAR-10's classes."""
    return list(_facts()["classes"])


def data() -> Path:
    """500 of CIFAR-10's test images with their classes, 50 of each (examples/pack_demo_images.py)."""
    return _file(f"{DATA}.npz")


def images() -> list[str]:
    """The images of the data that have a page of their own."""
    return [f"{data()}:{number}" for number in IMAGES]


def settings(quality: str, layers: tuple[str, ...] = (), channels: str = "all") -> Settings:
    """Both objectives, of all 192 channels or of those chosen as `Settings` says."""
    return Settings(quality=quality, objectives=("channel", "neuron"), layers=layers, channels=channels)


def _facts() -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(_file(f"{MODEL}.json").read_text(encoding="utf-8"))
    return facts


def _file(name: str) -> Path:
    return Path(str(resources.files("filterscope") / "data" / name))
