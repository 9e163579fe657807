"""The example networks in Keras 3, on any of its backends, one factory each, without arguments.

Input: (N, H, W, C) float32, pixels in 0..1; output: (N, 10) logits. Convolutions and dense layers are named as in
networks_pytorch.py. Knows Keras; knows nothing of training.
"""

import keras
from keras.layers import BatchNormalization, Conv2D, Dense, Dropout, Flatten, MaxPooling2D


def mnist() -> keras.Sequential:
    """(N, 28, 28, 1): two convolutions of 5×5 without padding, and a dense layer."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            Conv2D(64, 5, activation="relu", name="conv1"),
            MaxPooling2D(2),
            Conv2D(32, 5, activation="relu", name="conv2"),
            MaxPooling2D(2),
            Flatten(),
            Dense(10, name="dense1"),
        ],
        name="mnist",
    )


def svhn() -> keras.Sequential:
    """(N, 32, 32, 3): two blocks of two convolutions of 3×3, and two dense layers."""
    return _two_blocks("svhn", batchnorm=False)


def svhn_batchnorm() -> keras.Sequential:
    """The network `svhn` with a BatchNorm after each ReLU."""
    return _two_blocks("svhn_batchnorm", batchnorm=True)


def cifar10_keras() -> keras.Sequential:
    """(N, 32, 32, 3): cifar10_cnn of the Keras examples (keras-team, 2015-2019); its layers are those of `svhn`."""
    return _two_blocks("cifar10_keras", batchnorm=False)


def cifar10_tensorflow() -> keras.Sequential:
    """(N, 32, 32, 3): two convolutions of 5×5 and three dense layers, after the CIFAR-10 tutorial of TensorFlow."""
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            Conv2D(32, 5, padding="same", activation="relu", name="conv1"),
            MaxPooling2D(2),
            Conv2D(64, 5, padding="same", activation="relu", name="conv2"),
            MaxPooling2D(2),
            Flatten(),
            Dense(1024, activation="relu", name="dense1"),
            Dense(512, activation="relu", name="dense2"),
            Dropout(0.5),
            Dense(10, name="dense3"),
        ],
        name="cifar10_tensorflow",
    )


def _two_blocks(name: str, batchnorm: bool) -> keras.Sequential:
    layers = [
        keras.Input((32, 32, 3)),
        Conv2D(32, 3, padding="same", activation="relu", name="conv1"),
        BatchNormalization(momentum=0.9, name="norm1"),  # momentum as in PyTorch, which calls it 0.1
        Conv2D(32, 3, activation="relu", name="conv2"),
        BatchNormalization(momentum=0.9, name="norm2"),
        MaxPooling2D(2),
        Dropout(0.25),
        Conv2D(64, 3, padding="same", activation="relu", name="conv3"),
        BatchNormalization(momentum=0.9, name="norm3"),
        Conv2D(64, 3, activation="relu", name="conv4"),
        BatchNormalization(momentum=0.9, name="norm4"),
        MaxPooling2D(2),
        Dropout(0.25),
        Flatten(),
        Dense(512, activation="relu", name="dense1"),
        BatchNormalization(momentum=0.9, name="norm5"),
        Dropout(0.5),
        Dense(10, name="dense2"),
    ]
    kept = [layer for layer in layers if batchnorm or not isinstance(layer, BatchNormalization)]
    return keras.Sequential(kept, name=name)
