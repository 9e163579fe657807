"""A small network with a value of every layout: a block, a concatenation, a pool, tokens, attention, a dense layer."""

import numpy as np

from support.networks import build, normal

SIDE = 12
NODES = [
    ("Conv", "x w", "a", {"name": "/stem/Conv"}),  # 8 channels, 12 × 12
    ("Conv", "a v", "b", {"name": "/layer1/layer1.0/conv/Conv"}),
    ("Add", "a b", "c", {"name": "/layer1/layer1.0/Add"}),
    ("Relu", "c", "d", {"name": "/layer1/layer1.0/act/Relu"}),
    ("Concat", "a d", "e", {"axis": 1, "name": "/join/Concat"}),
    ("MaxPool", "e", "f", {"kernel_shape": [2, 2], "strides": [2, 2], "name": "/pool/MaxPool"}),
    ("Conv", "f u", "g", {"name": "/patch/Conv"}),  # 10 channels, 6 × 6
    ("Reshape", "g flat", "h", {"name": "/Reshape"}),  # (1, 10, 36)
    ("Transpose", "h", "i", {"perm": [0, 2, 1], "name": "/Transpose"}),  # tokens (1, 36, 10)
    ("Concat", "token i", "j", {"axis": 1, "name": "/cat/Concat"}),  # one token before them
    ("Transpose", "j", "k", {"perm": [0, 2, 1], "name": "/Transpose_1"}),
    ("MatMul", "j k", "l", {"name": "/attention/MatMul"}),  # (1, 37, 37)
    ("Unsqueeze", "l one", "m", {"name": "/Unsqueeze"}),
    ("Softmax", "m", "n", {"axis": -1, "name": "/attention/Softmax"}),  # one head
    ("Transpose", "g", "o", {"perm": [0, 2, 3, 1], "name": "/Transpose_2"}),  # (1, 6, 6, 10)
    ("ReduceMean", "i one", "p", {"keepdims": 0, "name": "/Mean"}),  # (1, 10)
    ("Gemm", "p dense", "q", {"name": "/head/Gemm"}),  # (1, 5)
]
CONSTANTS = {
    "w": normal(8, 3, 1, 1),
    "v": normal(8, 8, 1, 1, seed=1),
    "u": normal(10, 16, 1, 1, seed=2),
    "flat": np.array([0, 10, 36]),
    "token": normal(1, 1, 10, seed=3),
    "one": np.array([1]),
    "dense": normal(10, 5, seed=4),
}
LAID_OUT = {  # value → its maps, by NumPy
    "d": lambda a: a,
    "i": lambda a: a.transpose(0, 2, 1).reshape(1, 10, 6, 6),
    "j": lambda a: a[:, 1:].transpose(0, 2, 1).reshape(1, 10, 6, 6),
    "k": None,  # 37 tokens in a row of no grid
    "h": lambda a: a.reshape(1, 10, 6, 6),
    "n": lambda a: a,
    "o": lambda a: a.transpose(0, 3, 1, 2),
    "q": lambda a: a[:, :, None, None],
}


def value_network():
    """The network; its input is 3 × 12 × 12."""
    return build(NODES, CONSTANTS, shape=(1, 3, SIDE, SIDE), outputs=["q", "n", "o"])
