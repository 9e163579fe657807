"""Networks of keras.applications with weights like trained ones, saved as .keras files.

    python benchmarks/keras_networks.py VGG16 ResNet50

opens and proves those named, all where none is, and prints a line each. Biases, scales and BatchNorm statistics are
drawn at random: a constant scale hides a channel order that is wrong.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

NAMES = [
    "VGG16",
    "ResNet50",
    "ResNet50V2",
    "InceptionV3",
    "InceptionResNetV2",
    "Xception",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Small",
    "DenseNet121",
    "NASNetMobile",
    "EfficientNetB0",
    "EfficientNetV2B0",
    "ConvNeXtTiny",
]
SIDE = 224  # of images for a network that takes any size
CONVOLUTIONS = {  # class → how many convolutions of ONNX it is
    "Conv2D": 1,
    "DepthwiseConv2D": 1,
    "SeparableConv2D": 2,
}


def build(name: str):
    """The Keras model; the same weights whenever it is built."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import numpy as np

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    model = getattr(keras.applications, name)(weights=None)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for weight in model.weights:
        value = np.asarray(weight)
        if value.size > 1 and (value == value.flat[0]).all():  # a bias, a scale, a gain
            weight.assign(value + 0.2 * rng.standard_normal(value.shape).astype(np.float32))
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # statistics that fit the weights: those of what follows
    sides = [extent or SIDE for extent in model.input_shape[1:]]
    model(rng.uniform(0, 255, (4, *sides)).astype(np.float32), training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        mean, variance = np.asarray(norm.moving_mean), np.asarray(norm.moving_variance)
        noise = rng.standard_normal(mean.shape).astype(np.float32)
        norm.moving_mean.assign(mean + 0.1 * np.sqrt(variance) * noise)
        norm.moving_variance.assign(variance * rng.uniform(0.7, 1.3, variance.shape).astype(np.float32))
    return model


def save(name: str, folder: Path) -> Path:
    """Write FOLDER/NAME.keras, and return it."""
    path = folder / f"{name}.keras"
    build(name).save(path)
    return path


def layer_names(path: Path) -> set[str]:
    """Names that the convolutions of a saved model have in Keras, as we write them."""
    import keras

    found = set()
    for layer in keras.models.load_model(path, compile=False)._flatten_layers():
        halves = CONVOLUTIONS.get(type(layer).__name__, 0)
        found |= {f"{layer.name}/{half}" for half in ("depthwise", "pointwise")} if halves == 2 else set()
        found |= {layer.name} if halves == 1 else set()
    return found


def main(names: list[str]) -> None:
    """Open and prove each; a line says the errors, and which names are not Keras' own."""
    from filterscope.analyzer.boundary.opening import open_network
    from filterscope.converters.errors import FilterscopeError

    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            path = save(name, Path(folder))
            started = time.perf_counter()
            try:
                network = open_network(path)
                opened = time.perf_counter()
                parity = network.prove()
            except FilterscopeError as error:
                print(f"{name:18s} refused: {error}", flush=True)
                continue
            errors = (parity.original.error, parity.nodes.error, parity.end_to_end.error)
            strange = {layer.name for layer in network.layers} ^ layer_names(path)
            print(
                f"{name:18s} {len(network.layers)} layers, errors {' '.join(f'{error:.1e}' for error in errors)}, "
                f"opened {opened - started:.1f} s, proven {time.perf_counter() - opened:.1f} s, "
                f"{f'names differ: {sorted(strange)}' if strange else 'names are those of Keras'}; "
                f"{' '.join(network.model.notes)}",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:] or NAMES)
