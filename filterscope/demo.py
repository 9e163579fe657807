"""The bundled demonstration: a CIFAR-10 network of our own, on photos that scikit-image ships.

Knows where the files are and which settings suit them.
"""

from __future__ import annotations

import json
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.execution.plan import Settings
from filterscope.analyzer.network.network import InputOptions, Network
from filterscope.analyzer.network.preprocessing import preset
from filterscope.converters.errors import InputError

PHOTOS = ("chelsea.png", "rocket.jpg", "coffee.png", "astronaut.png", "motorcycle_left.png", "horse.png")


def network() -> Network:
    """The network: the Keras team's cifar10_cnn, trained by us (examples/train_demo.py)."""
    facts = _facts()
    options = InputOptions(preprocessing=preset(facts["preprocess"]))
    return open_network(_data("cifar10_cnn.onnx"), options)


def labels() -> list[str]:
    """CIFAR-10's classes."""
    return list(_facts()["classes"])


def settings(quality: str) -> Settings:
    """All 192 channels, both objectives."""
    return Settings(quality=quality, objectives=("channel", "neuron"), channels="all")


def photos() -> list[Path]:
    """Public-domain photos inside scikit-image.

    Raises:
        InputError: scikit-image is not installed.
    """
    spec = find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("the demo's photos come with scikit-image; install it with: pip install 'filterscope[demo]'")
    folder = Path(spec.submodule_search_locations[0]) / "data"
    files = [folder / name for name in PHOTOS if (folder / name).is_file()]
    if not files:
        raise InputError(f"{folder}: none of the demo's photos is there; update scikit-image")
    return files


def _facts() -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(_data("cifar10_cnn.json").read_text(encoding="utf-8"))
    return facts


def _data(name: str) -> Path:
    return Path(str(resources.files("filterscope") / "data" / name))
