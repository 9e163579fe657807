"""Small networks written to a file and opened, and pictures for them."""

import numpy as np
import onnx

from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.network.network import InputOptions
from filterscope.analyzer.network.preprocessing import PRESETS, custom

SIZE = (9, 8)
INVERTED = custom(255, (10, -20, 100), (-60, 40, 90), "BGR")


def opened(folder, model, preprocessing=PRESETS["imagenet"], size=SIZE, layout=None):
    path = folder / "model.onnx"
    onnx.save(model, path)
    return open_network(path, InputOptions(size=size, preprocessing=preprocessing, layout=layout))


def pictures(network, count=24):
    """Random pictures, random vertices of the domain, and its two extreme corners."""
    size = (network.input.height, network.input.width)
    noise = network.random_pixels(2 * count, size, 5)
    corners = np.stack([np.zeros_like(noise[0]), np.full_like(noise[0], 255)])
    flat = np.where(noise[:count, :1, :1] > 127, 255, 0).astype(np.uint8) + np.zeros_like(noise[:count])
    return np.concatenate([noise[:count], np.where(noise[count:] > 127, 255, 0).astype(np.uint8), flat, corners])
