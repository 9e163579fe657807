"""Keras models of every kind for test_keras.py, made in a process of its own, so that no test's process holds Keras.

    python keras_models.py FOLDER

Writes FOLDER/NAME.keras and the like, and FOLDER/NAME.npz: an `x` for each input and a `y` for each output, as Keras
itself answers. Weights are drawn at random, since two convolutions that are equal by accident tell nothing.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers

RNG = np.random.default_rng(5)


def model(inputs, outputs):
    """A functional model whose every weight is random, variances positive."""
    made = keras.Model(inputs, outputs)
    for weight in made.weights:
        value = RNG.normal(0, 0.3, weight.shape)
        positive = weight.path.endswith(("gamma", "variance"))
        weight.assign(np.abs(value) + 0.5 if positive else value)
    return made


def save(made, path, inputs, **told):
    """Save the model and what it answers."""
    made.save(path, **told)
    answers = made(inputs, training=False)
    answers = answers if isinstance(answers, list) else [answers]
    inputs = inputs if isinstance(inputs, list) else [inputs]
    arrays = {f"x{index}": value for index, value in enumerate(inputs)}
    np.savez(path.with_suffix(".npz"), **arrays, **{f"y{i}": np.asarray(y) for i, y in enumerate(answers)})


def images(*shape):
    """Random images, 0..1."""
    return RNG.random(shape).astype(np.float32)


def kinds():
    """Every kind of convolution, BatchNorm behind some, a nested model, and a layer that is used twice."""
    x = entry = keras.Input((24, 24, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="down")(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", name="dw")(x)
    x = layers.SeparableConv2D(6, 3, name="sep")(layers.BatchNormalization()(x))
    x = layers.LeakyReLU()(layers.BatchNormalization()(x))
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same", name="up")(x)
    x = keras.Sequential([keras.Input((20, 20, 4)), layers.Conv2D(8, 3, dilation_rate=2, name="dil")], name="inner")(x)
    twice = layers.Conv2D(8, 3, padding="same", activation="relu", name="twice")
    x = twice(twice(x))
    x = layers.Conv2D(8, 3, name="last")(x)
    return model(entry, layers.Dense(3)(layers.Flatten()(x)))


def prepared():
    """Preprocessing, groups, the exact gelu, two inputs, two outputs, half precision, open height and width."""
    keras.mixed_precision.set_global_policy("mixed_float16")
    image, extra = keras.Input((None, None, 3), name="image"), keras.Input((4,), name="extra")
    x = layers.Rescaling(1 / 127.5, -1)(image)
    x = layers.RandomFlip()(layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[0.5, 0.6, 0.7])(x))
    x = layers.Dropout(0.3)(layers.Conv2D(8, 3, name="stem")(x))
    x = layers.Conv2D(8, 3, groups=2, activation="gelu", name="grouped")(x)
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), extra])
    made = model([image, extra], [layers.Dense(2, name="a")(x), layers.Dense(3, name="b")(x)])
    keras.mixed_precision.set_global_policy("float32")
    return made


def first():
    """Channels first, which TensorFlow cannot run on a processor."""
    entry = keras.Input((3, 16, 16))
    return model(entry, layers.Conv2D(8, 3, data_format="channels_first", name="stem")(entry))


def lambdas():
    """A Lambda layer inside a model that is inside a model."""
    inside = keras.Input((14, 14, 8))
    inner = keras.Model(inside, layers.Lambda(lambda x: x * 2, name="double")(inside))
    entry = keras.Input((16, 16, 3))
    return model(entry, inner(layers.Conv2D(8, 3, name="stem")(entry)))


def operations():
    """Operations between layers, as MobileNetV3 has them; some bear the name of a layer that merges."""
    entry = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, name="stem")(entry)
    x = 1.5 - layers.ReLU(6.0)(x + 3.0) * (1 / 6)
    x = x - 0.25
    side = layers.Conv2D(4, 1, name="side")(layers.BatchNormalization()(x))
    return model(entry, layers.Conv2D(2, 3, name="head")((side + x) * side))


def divided():
    """An operation that HDF5 cannot name."""
    entry = keras.Input((16, 16, 3))
    return model(entry, layers.Conv2D(4, 3, name="stem")(entry) / 2.0)


class Unnamed(keras.Model):
    """A model whose class nobody else has."""

    def __init__(self, **told):
        super().__init__(**told)
        self.stem = layers.Conv2D(4, 3)

    def call(self, x):
        return self.stem(x)


def keras_2(folder):
    """What Keras 2 saves and Keras 3 does not know: TensorFlow's functions as layers."""
    import tensorflow as tf
    import tf_keras

    entry = tf_keras.Input((16, 16, 3))
    x = tf_keras.layers.DepthwiseConv2D(3, name="dw")(tf_keras.layers.Conv2D(8, 3, name="stem")(entry))
    made = tf_keras.Model(entry, tf.nn.relu6(x + 1.0))
    made.save(folder / "keras_2.h5")
    x = images(3, 16, 16, 3)
    np.savez(folder / "keras_2.npz", x0=x, y0=made(x, training=False).numpy())


def main(folder: Path) -> None:
    photos = images(3, 24, 24, 3)
    everything = kinds()
    save(everything, folder / "kinds.keras", photos)
    everything.save_weights(folder / "alone.weights.h5")
    everything.export(folder / "saved", verbose=False)
    np.savez(folder / "saved.npz", x0=photos, y0=np.asarray(everything(photos, training=False)))
    save(lambdas(), folder / "lambdas.h5", images(3, 16, 16, 3))
    save(operations(), folder / "operations.h5", images(3, 16, 16, 3))
    divided().save(folder / "divided.h5")
    first().save(folder / "first.keras")
    own = Unnamed(name="own")
    own(images(1, 16, 16, 3))
    own.save(folder / "own.keras")
    keras_2(folder)
    half = prepared()
    half.save(folder / "prepared.keras")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
