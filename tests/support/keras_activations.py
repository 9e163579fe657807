"""Keras models whose convolutions are followed by every kind of non-linearity, and what Keras' own layers say of it.

    python keras_activations.py FOLDER [NAME …]

Writes FOLDER/NAME.keras (or .h5) and FOLDER/then.json: file → convolution's name → non-linearity, read from the layers
themselves: a layer's own activation, or that of the layer that follows behind BatchNormalization and the like. With
names of keras.applications, these are made; without, every activation and a few small architectures.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers

RNG = np.random.default_rng(11)
NAMES = {  # Keras' name → ours, where they differ
    "linear": "none",
    "softmax": "none",
    "hard_silu": "hardswish",
    "hard_tanh": "clip",
    "swish": "silu",
}
ACTIVATIONS = [
    *("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "hard_silu", "hard_sigmoid", "mish"),
    *("softplus", "softsign", "tanh", "sigmoid", "log_sigmoid", "hard_tanh", "exponential"),
]
BEHIND = ("BatchNormalization", "Dropout", "SpatialDropout2D", "Identity", "Permute", "Reshape", "Flatten", "Rescaling")


def activation_of(layer) -> str:
    """What a layer does to numbers one by one; empty where it does something else."""
    kind = type(layer).__name__
    if kind == "ReLU":
        if layer.threshold:
            return "thresholded_relu"
        if layer.max_value is not None:
            return "relu6" if layer.max_value == 6 else "clip"
        return "leaky_relu" if layer.negative_slope else "relu"
    if kind in ("LeakyReLU", "PReLU", "ELU"):
        return {"LeakyReLU": "leaky_relu", "PReLU": "prelu", "ELU": "elu"}[kind]
    return layer.activation.__name__ if kind == "Activation" else ""


def following(layer, consumers) -> str:
    """The non-linearity behind a convolution, by Keras' layers."""
    own = getattr(layer, "activation", None)
    if own is not None and own.__name__ != "linear":
        return NAMES.get(own.__name__, own.__name__)
    while True:
        readers = consumers.get(layer.name, [])
        if len({activation_of(reader) for reader in readers}) != 1 or (
            len(readers) > 1 and not activation_of(readers[0])
        ):
            return "none"
        layer = readers[0]
        if type(layer).__name__ in BEHIND:
            continue
        # keras.applications' hard sigmoid of MobileNetV3: ReLU(6)(x + 3) · 1/6.
        after = consumers.get(layer.name, [])
        if type(layer).__name__ == "Add" and after and activation_of(after[0]) == "relu6":
            return "hard_sigmoid"
        name = activation_of(layer) or "none"
        return NAMES.get(name, name)


def told_of(model) -> dict[str, str]:
    """Each convolution's non-linearity; of a separable one's halves the first has none."""
    consumers = {}
    for layer in model.operations:
        for node in layer._inbound_nodes:
            for tensor in node.input_tensors:
                consumers.setdefault(tensor._keras_history[0].name, []).append(layer)
    found = {}
    for layer in model.layers:
        kind = type(layer).__name__
        if kind == "SeparableConv2D":
            found |= {f"{layer.name}/depthwise": "none", f"{layer.name}/pointwise": following(layer, consumers)}
        elif kind in ("Conv2D", "DepthwiseConv2D", "Conv2DTranspose"):
            found[layer.name] = following(layer, consumers)
    return found


def randomised(model):
    """The model with random weights: gains of either sign, variances positive."""
    for weight in model.weights:
        value = RNG.normal(0, 0.3, weight.shape)
        path = getattr(weight, "path", weight.name)
        if "gamma" in path:
            value = np.where(value < 0, value - 0.5, value + 0.5)
        weight.assign(np.abs(value) + 0.5 if "variance" in path else value)
    return model


def activations():
    """Each activation, in the convolution itself and behind a BatchNormalization."""
    entry, ends = keras.Input((8, 8, 3)), []
    for name in ACTIVATIONS:
        inside = layers.Conv2D(4, 3, activation=name, name=f"{name}_inside")(entry)
        behind = layers.Conv2D(4, 3, name=f"{name}_behind", use_bias=name != "relu")(entry)
        behind = layers.Activation(name)(layers.BatchNormalization()(behind))
        ends += [layers.GlobalAveragePooling2D()(inside), layers.GlobalAveragePooling2D()(behind)]
    for layer in (layers.PReLU(shared_axes=[1, 2]), layers.LeakyReLU(negative_slope=0.2), layers.ReLU(max_value=4.0)):
        x = layers.BatchNormalization(scale=False)(layers.Conv2D(4, 3, name=f"{layer.name}_conv")(entry))
        ends.append(layers.GlobalAveragePooling2D()(layer(x)))
    return keras.Model(entry, layers.Concatenate()(ends))


def blocks():
    """Depthwise, grouped, dilated, transposed and separable convolutions, in blocks with a way around."""
    x = entry = keras.Input((24, 24, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(x)
    x = short = layers.Activation("silu")(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization(center=False)(x))
    x = layers.BatchNormalization()(layers.Conv2D(8, 1, name="project")(x))
    x = layers.Add()([x, short])
    x = layers.Conv2D(8, 3, groups=2, name="grouped")(layers.Activation("relu")(x))
    x = layers.ReLU()(layers.Dropout(0.2)(layers.BatchNormalization()(x)))
    x = layers.Conv2DTranspose(6, 3, strides=2, padding="same", name="up")(x)
    x = layers.Activation("hard_silu")(layers.BatchNormalization()(x))
    x = layers.SeparableConv2D(6, 3, name="separable")(x)
    x = layers.Activation("gelu")(layers.Rescaling(-2.0, 0.5)(layers.BatchNormalization()(x)))
    x = layers.Conv2D(6, 3, dilation_rate=2, name="dilated")(x)
    x = layers.Activation("relu")(layers.Permute((2, 1, 3))(layers.BatchNormalization()(x)))
    return keras.Model(entry, layers.Conv2D(2, 1, name="head")(x))


def keras_2(folder: Path) -> dict[str, str]:
    """A network of tf_keras, saved as HDF5."""
    import tf_keras

    entry = tf_keras.Input((16, 16, 3))
    x = tf_keras.layers.Conv2D(8, 3, name="stem")(entry)
    x = tf_keras.layers.ReLU()(tf_keras.layers.BatchNormalization()(x))
    x = tf_keras.layers.DepthwiseConv2D(3, name="dw")(x)
    x = tf_keras.layers.LeakyReLU(0.1)(tf_keras.layers.BatchNormalization()(x))
    x = tf_keras.layers.Conv2D(4, 1, activation="tanh", name="last")(x)
    randomised(tf_keras.Model(entry, x)).save(folder / "keras_2.h5")
    return {"stem": "relu", "dw": "leaky_relu", "last": "tanh"}


def main(folder: Path, wanted: list[str]) -> None:
    models = {} if wanted else {"activations.keras": activations(), "blocks.keras": blocks()}
    for name in wanted or ["MobileNetV3Small", "EfficientNetV2B0"]:
        build = getattr(keras.applications, name)
        side = 75 if name in ("Xception", "InceptionV3", "InceptionResNetV2") else 64
        models[f"{name}.keras"] = build(weights=None, input_shape=(side, side, 3), classes=10)
    told = {} if wanted else {"keras_2.h5": keras_2(folder)}
    for name, model in models.items():
        randomised(model).save(folder / name) if not wanted else model.save(folder / name)
        told[name] = told_of(model)
    (folder / "then.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
