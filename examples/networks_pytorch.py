"""The example networks in PyTorch, one factory each, without arguments.

Input: (N, C, H, W) float32, pixels in 0..1; output: (N, 10) logits. Every factory can be named on the command line,
`filterscope analyze examples/networks_pytorch.py:mnist --weights mnist.pth`. Knows torch; knows nothing of training.
"""

from collections import OrderedDict

from torch import nn


def mnist() -> nn.Sequential:
    """(N, 1, 28, 28): two convolutions of 5×5 without padding, and a dense layer."""
    return _started(
        conv1=nn.Conv2d(1, 64, 5),
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(64, 32, 5),
        relu2=nn.ReLU(),
        pool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        dense1=nn.Linear(32 * 4 * 4, 10),
    )


def svhn() -> nn.Sequential:
    """(N, 3, 32, 32): two blocks of two convolutions of 3×3, and two dense layers."""
    return _two_blocks(batchnorm=False)


def svhn_batchnorm() -> nn.Sequential:
    """The network `svhn` with a BatchNorm after each ReLU."""
    return _two_blocks(batchnorm=True)


def cifar10_keras() -> nn.Sequential:
    """(N, 3, 32, 32): cifar10_cnn of the Keras examples (keras-team, 2015-2019); its layers are those of `svhn`."""
    return _two_blocks(batchnorm=False)


def cifar10_tensorflow() -> nn.Sequential:
    """(N, 3, 32, 32): two convolutions of 5×5 and three dense layers, after the CIFAR-10 tutorial of TensorFlow."""
    return _started(
        conv1=nn.Conv2d(3, 32, 5, padding="same"),
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(32, 64, 5, padding="same"),
        relu2=nn.ReLU(),
        pool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        dense1=nn.Linear(64 * 8 * 8, 1024),
        relu3=nn.ReLU(),
        dense2=nn.Linear(1024, 512),
        relu4=nn.ReLU(),
        dropout=nn.Dropout(0.5),
        dense3=nn.Linear(512, 10),
    )


def _two_blocks(batchnorm: bool) -> nn.Sequential:
    layers: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(3, 32, 3, padding="same"),
        "relu1": nn.ReLU(),
        "norm1": nn.BatchNorm2d(32, eps=1e-3),  # eps as in Keras, so that the twins agree
        "conv2": nn.Conv2d(32, 32, 3),
        "relu2": nn.ReLU(),
        "norm2": nn.BatchNorm2d(32, eps=1e-3),
        "pool1": nn.MaxPool2d(2),
        "dropout1": nn.Dropout(0.25),
        "conv3": nn.Conv2d(32, 64, 3, padding="same"),
        "relu3": nn.ReLU(),
        "norm3": nn.BatchNorm2d(64, eps=1e-3),
        "conv4": nn.Conv2d(64, 64, 3),
        "relu4": nn.ReLU(),
        "norm4": nn.BatchNorm2d(64, eps=1e-3),
        "pool2": nn.MaxPool2d(2),
        "dropout2": nn.Dropout(0.25),
        "flatten": nn.Flatten(),
        "dense1": nn.Linear(64 * 6 * 6, 512),
        "relu5": nn.ReLU(),
        "norm5": nn.BatchNorm1d(512, eps=1e-3),
        "dropout3": nn.Dropout(0.5),
        "dense2": nn.Linear(512, 10),
    }
    return _started(**{name: layer for name, layer in layers.items() if batchnorm or not name.startswith("norm")})


def _started(**layers: nn.Module) -> nn.Sequential:
    """The layers one after the other, with the first weights that Keras would give them."""
    for layer in layers.values():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_uniform_(layer.get_parameter("weight"))
            nn.init.zeros_(layer.get_parameter("bias"))
    return nn.Sequential(OrderedDict(layers))
