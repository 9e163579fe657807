"""Networks whose pictures depend on each other in a batch, or whose kernels depend on the picture."""

import numpy as np

from support.networks import build, normal

SAME = {"pads": [1, 1, 1, 1]}
SHAPE = ("N", 3, 24, 24)


def first_and_second(*between, shape=SHAPE, last="y", **constants):
    """Conv → Relu → what is given, from "r" to "z" → Conv → mean of each channel."""
    nodes = [
        ("Conv", "x w1", "a", SAME | {"name": "first"}),
        ("Relu", "a", "r"),
        *between,
        ("Conv", "z w2", "b", SAME | {"name": "second"}),
        ("GlobalAveragePool", "b", "g"),
        ("Flatten", "g", "y"),
    ]
    weights = {"w1": normal(8, 3, 3, 3, seed=1) / 5, "w2": normal(6, 8, 3, 3, seed=2) / 8}
    return build(nodes, weights | constants, shape=shape)


def whole_maximum():
    """Divided by the largest number of the whole batch."""
    return first_and_second(("ReduceMax", "r", "m", {"keepdims": 1}), ("Div", "r m", "z"))


def batch_statistics():
    """Normalised by the mean and the variance of the whole batch, channel by channel."""
    return first_and_second(
        ("ReduceMean", "r axes", "mean"),
        ("Sub", "r mean", "d"),
        ("Mul", "d d", "square"),
        ("ReduceMean", "square axes", "variance"),
        ("Add", "variance epsilon", "v"),
        ("Sqrt", "v", "s"),
        ("Div", "d s", "z"),
        axes=np.array([0, 2, 3]),
        epsilon=np.float32(1e-5),
    )


def softmax_over_batch():
    """Weighed by a softmax over the axis of pictures."""
    return first_and_second(("GlobalAveragePool", "r", "p"), ("Softmax", "p", "q", {"axis": 0}), ("Mul", "r q", "z"))


def sorted_over_batch():
    """The strongest pictures first: values of other pictures in a picture's place."""
    return first_and_second(
        ("Shape", "r", "n", {"start": 0, "end": 1}), ("TopK", "r n", "z places", {"axis": 0, "largest": 1, "sorted": 1})
    )


def running_sum():
    """Each picture with all before it."""
    return first_and_second(("CumSum", "r axis", "z"), axis=np.array(0))


def against_the_first():
    """Less the first picture of the batch."""
    return first_and_second(
        ("Slice", "r zero one zero", "f"), ("Sub", "r f", "z"), zero=np.array([0]), one=np.array([1])
    )


def number_of_pictures():
    """Times the size of the batch."""
    return first_and_second(
        ("Shape", "r", "n", {"start": 0, "end": 1}), ("Cast", "n", "f", {"to": 1}), ("Mul", "r f", "z")
    )


def rolled():
    """Each picture's first channels are those of the one before it: a temporal shift."""
    return first_and_second(
        ("Split", "r sizes", "moved still", {"axis": 1}),
        ("Slice", "moved minus end zero", "tail"),
        ("Slice", "moved zero minus zero", "head"),
        ("Concat", "tail head", "turned", {"axis": 0}),
        ("Concat", "turned still", "z", {"axis": 1}),
        sizes=np.array([2, 6]),
        minus=np.array([-1]),
        end=np.array([2**31]),
        zero=np.array([0]),
    )


def behind_the_layers():
    """Only the answer is normalised over the batch."""
    nodes = [
        ("Conv", "x w1", "a", SAME | {"name": "first"}),
        ("GlobalAveragePool", "a", "g"),
        ("Flatten", "g", "f"),
        ("ReduceMean", "f axes", "m"),
        ("Sub", "f m", "y"),
    ]
    return build(nodes, {"w1": normal(8, 3, 3, 3, seed=1), "axes": np.array([0])}, shape=SHAPE)


def hidden_from_the_answer():
    """A layer depends on the batch, and the answer does not: it counts a constant."""
    nodes = [
        ("ReduceMax", "x", "m", {"keepdims": 1}),
        ("Div", "x m", "z"),
        ("Conv", "z w1", "a", SAME | {"name": "first"}),
        ("InstanceNormalization", "a scale bias", "i"),
        ("GlobalMaxPool", "i", "g"),
        ("Mul", "g none", "nothing"),
        ("Flatten", "nothing", "y"),
    ]
    weights = {
        "w1": normal(8, 3, 3, 3, seed=1),
        "scale": np.ones(8, np.float32),
        "bias": np.zeros(8, np.float32),
        "none": np.float32(0),
    }
    return build(nodes, weights, shape=SHAPE)


DEPENDENT = {
    function.__name__: function
    for function in (
        whole_maximum,
        batch_statistics,
        softmax_over_batch,
        sorted_over_batch,
        running_sum,
        against_the_first,
        number_of_pictures,
        rolled,
        behind_the_layers,
        hidden_from_the_answer,
    )
}


def modulated(batch=1, declared=None):
    """StyleGAN2's modulated convolution as it is exported: kernels of all pictures in one, a group for each."""
    nodes = [
        ("Conv", "x w1", "a", SAME | {"name": "stem"}),
        ("Relu", "a", "r"),
        ("GlobalAveragePool", "r", "p"),
        ("Reshape", "p flat", "v"),
        ("MatMul", "v dense", "style"),
        ("Reshape", "style places", "s"),
        ("Mul", "w2 s", "scaled"),
        ("Mul", "scaled scaled", "square"),
        ("ReduceSum", "square axes", "energy"),
        ("Add", "energy epsilon", "e"),
        ("Sqrt", "e", "norm"),
        ("Div", "scaled norm", "kernel"),
        ("Reshape", "kernel kernels", "k"),
        ("Reshape", "r together", "t"),
        ("Conv", "t k", "c", SAME | {"group": batch, "name": "modulated"}),
        ("Reshape", "c apart", "b"),
        ("GlobalAveragePool", "b", "g"),
        ("Flatten", "g", "y"),
    ]
    constants = {
        "w1": normal(8, 3, 3, 3, seed=1) / 5,
        "w2": normal(1, 6, 8, 3, 3, seed=2) / 8,
        "dense": normal(8, 8, seed=3),
        "flat": np.array([batch, 8]),
        "places": np.array([batch, 1, 8, 1, 1]),
        "axes": np.array([2, 3, 4]),
        "epsilon": np.float32(1e-8),
        "kernels": np.array([batch * 6, 8, 3, 3]),
        "together": np.array([1, batch * 8, 24, 24]),
        "apart": np.array([batch, 6, 24, 24]),
    }
    return build(nodes, constants, shape=(declared or batch, 3, 24, 24))


def mixed_kernels(batch=1):
    """CondConv: each picture's kernel and bias are a mixture of three, weighed by what it shows."""
    nodes = [
        ("Conv", "x w1", "a", SAME | {"name": "stem"}),
        ("Relu", "a", "r"),
        ("GlobalAveragePool", "r", "p"),
        ("Reshape", "p flat", "v"),
        ("MatMul", "v dense", "route"),
        ("Sigmoid", "route", "weights"),
        ("MatMul", "weights experts", "mixed"),
        ("Reshape", "mixed kernels", "k"),
        ("MatMul", "weights biases", "bias"),
        ("Reshape", "bias places", "o"),
        ("Reshape", "r together", "t"),
        ("Conv", "t k o", "c", SAME | {"group": batch, "name": "conditional"}),
        ("Reshape", "c apart", "b"),
        ("GlobalAveragePool", "b", "g"),
        ("Flatten", "g", "y"),
    ]
    constants = {
        "w1": normal(8, 3, 3, 3, seed=1) / 5,
        "dense": normal(8, 3, seed=3),
        "experts": normal(3, 6 * 8 * 9, seed=4) / 8,
        "biases": normal(3, 6, seed=5),
        "flat": np.array([batch, 8]),
        "kernels": np.array([batch * 6, 8, 3, 3]),
        "places": np.array([batch * 6]),
        "together": np.array([1, batch * 8, 24, 24]),
        "apart": np.array([batch, 6, 24, 24]),
    }
    return build(nodes, constants, shape=(batch, 3, 24, 24))


def channels_for_pictures():
    """Exported at batch 1, with a Reshape that no other batch size can be put into."""
    nodes = [
        ("Conv", "x w", "c", SAME | {"name": "first"}),
        ("Transpose", "c", "turned", {"perm": [2, 0, 1, 3]}),
        ("Reshape", "turned rows", "r"),
        ("Transpose", "r", "back", {"perm": [1, 2, 0, 3]}),
        ("Reshape", "back shape", "s"),
        ("Conv", "s k", "y", SAME | {"name": "second"}),
    ]
    constants = {
        "w": normal(4, 3, 3, 3),
        "rows": np.array([24, 4, 1, 24]),
        "shape": np.array([1, 4, 24, 24]),
        "k": normal(2, 4, 3, 3),
    }
    return build(nodes, constants, shape=(1, 3, 24, 24))


ONLY_ALONE = {
    "modulated": modulated,
    "modulated, its batch declared free": lambda: modulated(declared="N"),
    "mixed kernels": mixed_kernels,
    "a Reshape that mixes pictures": channels_for_pictures,
}
