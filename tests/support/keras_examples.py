"""The Keras half of test_examples.py, run as a process of its own, so that no test's process holds Keras.

    python keras_examples.py FOLDER

FOLDER/twins/NETWORK.npz holds `images` (N, C, H, W) and the weights of the twin in PyTorch under their names there;
FOLDER itself holds the digits to train on. FOLDER/told.json receives what the networks are, answer and learn.
"""

import contextlib
import io
import json
import sys
from pathlib import Path

import keras
import networks_keras
import numpy as np
from data_files import load
from keras.layers import BatchNormalization, Conv2D, Dense, Dropout, Flatten, MaxPooling2D
from train import Lessons, train_keras


def words(layer: keras.Layer) -> list[str]:
    """The layer, and its activation where it has one, as the table in test_examples.py writes them."""
    match layer:
        case Conv2D():
            height, width = layer.kernel_size
            told = f"{layer.name} {layer.filters} {height}x{width} {layer.padding}"
        case Dense():
            told = f"{layer.name} {layer.units}"
        case MaxPooling2D():
            told = f"pool {layer.pool_size[0]}"
        case Dropout():
            told = f"dropout {layer.rate}"
        case BatchNormalization():
            told = "norm"
        case _:
            told = type(layer).__name__.lower()
    activation = getattr(layer, "activation", keras.activations.linear)
    return [told] if activation is keras.activations.linear else [told, activation.__name__]


def give_weights(model: keras.Sequential, weights: dict[str, np.ndarray]) -> None:
    """Put the twin's weights in: OIHW → HWIO, and the inputs of dense1 from the order (C, H, W) to (H, W, C)."""
    flattened = next(layer for layer in model.layers if isinstance(layer, Flatten)).input.shape[1:]
    for layer in model.layers:
        own = {name.split(".")[1]: values for name, values in weights.items() if name.split(".")[0] == layer.name}
        if isinstance(layer, Conv2D):
            layer.set_weights([own["weight"].transpose(2, 3, 1, 0), own["bias"]])
        elif isinstance(layer, Dense):
            kernel = own["weight"]
            if layer.name == "dense1":
                height, width, channels = flattened
                kernel = kernel.reshape(-1, channels, height, width).transpose(0, 2, 3, 1).reshape(kernel.shape)
            layer.set_weights([kernel.T, own["bias"]])
        elif isinstance(layer, BatchNormalization):
            layer.set_weights([own[name] for name in ("weight", "bias", "running_mean", "running_var")])


def main(folder: Path) -> None:
    networks = {}
    for file in sorted((folder / "twins").glob("*.npz")):
        model = getattr(networks_keras, file.stem)()
        with np.load(file) as arrays:
            weights = dict(arrays)
        images = weights.pop("images").transpose(0, 2, 3, 1)
        give_weights(model, weights)
        networks[file.stem] = {
            "layers": [word for layer in model.layers for word in words(layer)],
            "parameters": sum(int(np.prod(weight.shape)) for weight in model.trainable_weights),
            "answers": model.predict(images, verbose=0).tolist(),
        }
    data = load("mnist", folder)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        file, accuracy = train_keras("mnist", Lessons(data.train, 6, 32, 0, 0), data.test, folder)
    saved = [layer.name for layer in keras.models.load_model(file).layers]
    told = {"networks": networks, "training": {"printed": printed.getvalue(), "accuracy": accuracy, "saved": saved}}
    (folder / "told.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
