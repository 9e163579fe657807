"""Receptive fields against light: ONNX Runtime is shown a black image with one row, or one column, lit at a time.

All weights are positive and nothing is added to them, so that a neuron answers to a row if and only if it sees it. A
gate (squeeze and excitation) multiplies what is black by something: on a black image the local field alone shows. On a
grey image everything that a neuron depends on shows.
"""

import numpy as np
import pytest

from filterscope.analyzer.network.receptive_fields import FieldWalk
from filterscope.converters.graph import Graph, Node
from support.networks import answers, build, canonical, needs_data, normal

SIDE = 48
GREY = 0.05  # dark enough that no sigmoid saturates


def weights(*shape):
    """Numbers of some size, all positive."""
    return np.abs(normal(*shape)) + np.float32(0.1)


def ints(*numbers):
    return np.array(numbers, np.int64)


def floats(*numbers):
    return np.array(numbers, np.float32)


def conv(source="x", output="y", kernel="w", **attributes):
    return ("Conv", f"{source} {kernel}", output, attributes)


def resize(mode="nearest", factor=2.0, source="x", output="y", **attributes):
    return ("Resize", f"{source} _ by{factor:g}".replace(".", "_"), output, {"mode": mode} | attributes)


CONSTANTS = {
    "w": weights(2, 2, 3, 3),
    "w1": weights(2, 2, 1, 1),
    "w2": weights(2, 2, 2, 2),
    "w4": weights(2, 2, 4, 4),
    "w5": weights(2, 2, 5, 5),
    "flat": weights(2, 2, 1, 7),
    "tall": weights(2, 2, 7, 1),
    "depthwise": weights(2, 1, 3, 3),
    "four": weights(4, 2, 3, 3),
    "from4": weights(2, 4, 1, 1),
    "from8": weights(2, 8, 3, 3),
    "grouped": weights(4, 2, 3, 3),
    "by2": floats(1, 1, 2, 2),
    "by3": floats(1, 1, 3, 3),
    "by1_5": floats(1, 1, 1.5, 1.5),
    "by0_5": floats(1, 1, 0.5, 0.5),
    "by0_25": floats(1, 1, 0.25, 0.25),
    "height": floats(4),
    "sizes": ints(72, 64),
    "matrix": weights(2, 2),
    "scale2": weights(2),
    "zeros2": np.zeros(2, np.float32),
    "hw": ints(2, 3),
    "last": ints(-1),
    "second": ints(1),
    "third": ints(2),
    "shuffled": ints(0, 2, 2, SIDE, SIDE),
    "joined": ints(0, 4, SIDE, SIDE),
    "squeezed": ints(0, 2, 1, 1),
    "pads": ints(0, 0, 2, 1, 0, 0, 3, 4),
    "begin": ints(3, 5),
    "end": ints(-1, 1000),
    "steps": ints(2, 2),
    "odd": ints(1, 1),
    "back": ints(-1, -1),
    "far": ints(-1000, -1000),
    "backwards": ints(-1, -1),
    "zero_one": ints(0, 1),
    "one_one": ints(1, 1),
    "tokens": ints(0, 2, -1),
    "twelve": ints(0, 2, 12, 12),
    "whole": ints(1, 2, SIDE, SIDE),
    "full": weights(32, 32),
    "small": ints(0, 2, 4, 4),
}
SAME = {"pads": [1, 1, 1, 1]}
POOL = {"kernel_shape": [3, 3], "strides": [2, 2]}
HALF = {"kernel_shape": [2, 2], "strides": [2, 2]}
ALL = {"kernel_shape": [SIDE, SIDE]}

LOCAL = {  # nodes from "x" (N, 2, 48, 48) to "y": what a neuron sees has an end
    "3×3": [conv()],
    "1×1": [conv(kernel="w1")],
    "padded": [conv(**SAME)],
    "padded on one side": [conv(pads=[2, 0, 0, 1])],
    "even kernel": [conv(kernel="w4", pads=[1, 1, 2, 2])],
    "strided": [conv(strides=[2, 3], **SAME)],
    "stride larger than the kernel": [conv(kernel="w1", strides=[3, 3])],
    "dilated": [conv(dilations=[2, 3])],
    "dilated and strided": [conv(dilations=[3, 2], strides=[2, 1], pads=[3, 0, 1, 2])],
    "1×7 then 7×1": [conv(output="c", kernel="flat"), conv("c", kernel="tall")],
    "three in a row": [conv(output="a", **SAME), conv("a", "b", strides=[2, 2]), conv("b", dilations=[2, 2])],
    "gridding of dilations": [conv(output="a", dilations=[4, 4]), conv("a", dilations=[4, 4])],
    "SAME_UPPER": [conv(kernel="w4", auto_pad="SAME_UPPER", strides=[2, 2])],
    "SAME_LOWER": [conv(kernel="w4", auto_pad="SAME_LOWER", strides=[2, 2])],
    "SAME_LOWER, odd rest": [conv(kernel="w2", auto_pad="SAME_LOWER")],
    "VALID": [conv(kernel="w5", auto_pad="VALID", strides=[2, 2])],
    "depthwise": [conv(kernel="depthwise", group=2, **SAME)],
    "grouped": [conv(output="a", kernel="four"), ("Conv", "a grouped", "y", {"group": 2, "strides": [2, 2]})],
    "max pooling": [conv(output="c", **SAME), ("MaxPool", "c", "y", POOL)],
    "max pooling, padded and dilated": [("MaxPool", "x", "y", POOL | SAME | {"dilations": [2, 1]})],
    "max pooling, SAME": [("MaxPool", "x", "y", POOL | {"auto_pad": "SAME_UPPER"})],
    "average pooling": [conv(output="c"), ("AveragePool", "c", "y", POOL | SAME)],
    "Lp pooling": [("LpPool", "x", "y", POOL)],
    "residual": [conv(output="a", **SAME), conv("a", "b", **SAME), ("Add", "a b", "s"), ("Relu", "s", "y")],
    "two branches, other strides": [
        conv(output="a", kernel="w5", strides=[2, 2], pads=[2, 2, 2, 2]),
        ("MaxPool", "x", "b", HALF),
        ("Concat", "a b", "c", {"axis": 1}),
        conv("c", kernel="from4"),
    ],
    "pyramid of dilations": [
        conv(output="a", dilations=[6, 6], pads=[6, 6, 6, 6]),
        conv(output="b", kernel="w1"),
        ("Add", "a b", "y"),
    ],
    "nearest ×2": [resize()],
    "nearest ×2, then 3×3": [resize(output="u"), conv("u", **SAME)],
    "nearest ×3, then 5×5": [resize(factor=3.0, output="u"), conv("u", kernel="w5")],
    "nearest ×1.5": [resize(factor=1.5)],
    "nearest, asymmetric and floor": [resize(coordinate_transformation_mode="asymmetric", nearest_mode="floor")],
    "nearest, ceil": [resize(factor=1.5, coordinate_transformation_mode="asymmetric", nearest_mode="ceil")],
    "nearest, prefer ceil": [resize(factor=3.0, nearest_mode="round_prefer_ceil")],
    "nearest ×0.5": [resize(factor=0.5)],
    "nearest of the rows": [("Resize", "x _ height", "y", {"axes": [2]})],
    "linear ×2": [resize("linear")],
    "linear ×2, then 3×3": [resize("linear", output="u"), conv("u")],
    "linear ×2, asymmetric": [resize("linear", coordinate_transformation_mode="asymmetric", output="u"), conv("u")],
    "linear ×2, on the grid": [resize("linear", coordinate_transformation_mode="asymmetric")],
    "cubic ×2, on the grid": [resize("cubic", coordinate_transformation_mode="asymmetric")],
    "linear ×3": [resize("linear", factor=3.0)],
    "linear, align corners": [resize("linear", coordinate_transformation_mode="align_corners")],
    "linear, PyTorch": [resize("linear", coordinate_transformation_mode="pytorch_half_pixel")],
    "linear, symmetric": [resize("linear", factor=1.5, coordinate_transformation_mode="half_pixel_symmetric")],
    "linear ×0.5": [resize("linear", factor=0.5)],
    "linear ×0.25, antialiased": [resize("linear", factor=0.25, antialias=1)],
    "linear ×2, antialias has no effect": [resize("linear", antialias=1)],
    "linear to a size": [("Resize", "x _ _ sizes", "y", {"mode": "linear", "axes": [2, 3]})],
    "cubic ×2": [resize("cubic")],
    "cubic ×0.25, antialiased": [resize("cubic", factor=0.25, antialias=1)],
    "transposed 2×2": [("ConvTranspose", "x w2", "y", {"strides": [2, 2]})],
    "transposed 4×4": [("ConvTranspose", "x w4", "y", {"strides": [2, 2], **SAME})],
    "transposed 3×3": [("ConvTranspose", "x w", "y", {"strides": [2, 2], "output_padding": [1, 1], **SAME})],
    "transposed, then 3×3": [("ConvTranspose", "x w2", "u", {"strides": [2, 2]}), conv("u")],
    "transposed by 3, dilated": [("ConvTranspose", "x w", "y", {"strides": [3, 3], "dilations": [2, 2]})],
    "transposed, other pads": [("ConvTranspose", "x w5", "y", {"strides": [2, 2], "pads": [2, 0, 1, 3]})],
    "transposed, holes": [("ConvTranspose", "x w1", "u", {"strides": [2, 2]}), conv("u", kernel="w5")],
    "transposed, SAME_UPPER": [("ConvTranspose", "x w4", "y", {"strides": [3, 3], "auto_pad": "SAME_UPPER"})],
    "transposed, SAME_LOWER": [("ConvTranspose", "x w4", "y", {"strides": [3, 3], "auto_pad": "SAME_LOWER"})],
    "transposed to a size, and one more": [
        ("ConvTranspose", "x w4", "y", {"strides": [3, 3], "output_shape": [143, 143], "output_padding": [1, 1]}),
    ],
    "transposed to a size": [("ConvTranspose", "x w4", "y", {"strides": [2, 2], "output_shape": [95, 97]})],
    "transposed, unit stride": [("ConvTranspose", "x w", "y", SAME)],
    "down and up, with a skip": [
        conv(output="a", **SAME),
        ("MaxPool", "a", "p", HALF),
        conv("p", "b", **SAME),
        ("ConvTranspose", "b w2", "u", {"strides": [2, 2]}),
        ("Concat", "a u", "j", {"axis": 1}),
        conv("j", kernel="from4"),
    ],
    "down and up by 4": [
        conv(output="a", strides=[4, 4]),
        resize("nearest", source="a", output="u"),
        resize("linear", source="u", output="v"),
        conv("v"),
    ],
    "depth to space": [conv(output="c", kernel="four"), ("DepthToSpace", "c", "y", {"blocksize": 2})],
    "space to depth": [("SpaceToDepth", "x", "d", {"blocksize": 2}), ("Conv", "d from8", "y")],
    "focus": [
        ("Slice", "x zero_one far2 hw steps", "a"),
        ("Slice", "x one_one far2 hw steps", "b"),
        ("Concat", "a b", "j", {"axis": 1}),
        conv("j", kernel="from4"),
    ],
    "crop": [("Slice", "x begin end hw", "c"), conv("c", strides=[2, 2])],
    "crop from the end": [("Slice", "x from_end end hw", "c"), conv("c")],
    "turned around": [("Slice", "x back far hw backwards", "c"), conv("c", kernel="w2")],
    "padding by itself": [("Pad", "x pads", "p"), conv("p")],
    "reflected": [("Pad", "x pads", "p", {"mode": "reflect"}), conv("p")],
    "channel shuffle": [
        conv(output="c", kernel="four", **SAME),
        ("Reshape", "c shuffled", "r"),
        ("Transpose", "r", "t", {"perm": [0, 2, 1, 3, 4]}),
        ("Reshape", "t joined", "j"),
        conv("j", kernel="from4", strides=[2, 2]),
    ],
    "parts of the channels": [
        ("Split", "x", "a b", {"axis": 1, "num_outputs": 2}),
        ("Concat", "b a", "j", {"axis": 1}),
        conv("j"),
    ],
    "one of the channels": [("Gather", "x second", "g", {"axis": 1}), ("Expand", "g whole", "e"), conv("e")],
    "channels last": [
        ("Transpose", "x", "l", {"perm": [0, 2, 3, 1]}),
        ("MatMul", "l matrix", "m"),
        ("LayerNormalization", "m scale2 zeros2", "n", {"epsilon": 1.0}),
        ("Transpose", "n", "f", {"perm": [0, 3, 1, 2]}),
        conv("f"),
    ],
    "softmax over channels": [conv(output="c"), ("Softmax", "c", "y", {"axis": 1})],
    "mean over channels": [("ReduceMean", "x second", "m"), ("Mul", "x m", "p"), ("Add", "p x", "a"), conv("a")],
    "an axis gone and back": [
        ("ReduceSum", "x second", "s", {"keepdims": 0}),
        ("Unsqueeze", "s second", "u"),
        ("Concat", "u u", "j", {"axis": 1}),
        conv("j"),
    ],
    "activations": [conv(output="c"), ("Sigmoid", "c", "s"), ("Gelu", "s", "g"), conv("g")],
    "a shape on the way": [conv(output="c", **SAME), ("Shape", "c", "s"), ("Reshape", "c s", "r"), conv("r")],
    "stacked in height": [conv(output="a", kernel="w1"), ("Concat", "a x", "j", {"axis": 2}), conv("j", **SAME)],
}
CONSTANTS |= {"far2": ints(1000, 1000), "from_end": ints(-30, -21)}

GATED = {  # what leads to "y" passes through something global, and beside it through something local
    "squeeze and excitation": [
        conv(output="c", **SAME),
        ("GlobalAveragePool", "c", "p"),
        conv("p", "e", kernel="w1"),
        ("Sigmoid", "e", "g"),
        ("Mul", "c g", "m"),
        conv("m"),
    ],
    "its gate first": [
        conv(output="c", **SAME),
        ("ReduceMean", "c hw", "p"),
        ("HardSigmoid", "p", "g"),
        ("Mul", "g c", "m"),
        conv("m"),
    ],
    "pooled by a window as large as the map": [
        conv(output="c", **SAME),
        ("AveragePool", "c", "p", ALL),
        ("Sigmoid", "p", "g"),
        ("Mul", "c g", "m"),
        conv("m"),
    ],
    "through a matrix": [
        conv(output="c", **SAME),
        ("GlobalAveragePool", "c", "p"),
        ("Flatten", "p", "f"),
        ("MatMul", "f matrix", "l"),
        ("Reshape", "l squeezed", "r"),
        ("Mul", "c r", "m"),
        conv("m", strides=[2, 2]),
    ],
    "along the rows and along the columns": [
        ("ReduceMean", "x third", "r"),
        ("ReduceMean", "x last", "c"),
        ("Mul", "x r", "a"),
        ("Mul", "a c", "b"),
        conv("b"),
    ],
}

GLOBAL = {  # nothing leads to "y" but what is global
    "after pooling": [conv(output="c"), ("GlobalAveragePool", "c", "p"), conv("p", kernel="w1")],
    "after a full layer": [
        ("MaxPool", "x", "p", {"kernel_shape": [12, 12], "strides": [12, 12]}),
        ("Flatten", "p", "f"),
        ("MatMul", "f full", "m"),
        ("Reshape", "m small", "r"),
        conv("r"),
    ],
    "attention": [
        ("MaxPool", "x", "p", {"kernel_shape": [4, 4], "strides": [4, 4]}),
        ("Reshape", "p tokens", "t"),
        ("Transpose", "t", "q", {"perm": [0, 2, 1]}),
        ("MatMul", "q t", "s"),
        ("Softmax", "s", "a", {"axis": -1}),
        ("MatMul", "t a", "v"),
        ("Reshape", "v twelve", "r"),
        conv("r"),
    ],
}


def network(nodes, shape=("N", 2, SIDE, SIDE)):
    outputs = ["y"]
    if shape[1] == 2:  # some have no convolution, and would be refused
        nodes = [*nodes, conv(output="beside", kernel="w1")]
        outputs.append("beside")
    used = {name for node in nodes for name in node[1].split()}
    constants = {name: array for name, array in CONSTANTS.items() if name in used}
    return canonical(build(nodes, constants, shape=shape, outputs=outputs))


def walked(form, axes=(2, 3)):
    extents = [2 if extent == "N" else extent for extent in form.input_shape]
    return FieldWalk(form.graph, "x", axes, form.shapes_at((1, *extents[1:])))


def lit(form, axis, base):
    """An image a row (or column) in which that one is lit, and one in which none is; the last of the answers."""
    shape = [2, *form.input_shape[1:]]
    images = np.full((shape[axis] + 1, *shape[1:]), base, np.float32)
    for place in range(shape[axis]):
        np.moveaxis(images[place], axis - 1, 0)[place] += 1
    return answers(form.proto, images, ["y"])["y"]


def seen(form, position, base=0.0, axes=(2, 3)):
    """Rows and columns of the image to which the neurons at a position answer."""
    found = []
    for axis in axes:
        maps = lit(form, axis, base)
        there = maps[:, :, position[0], position[1]]
        found.append(np.flatnonzero((there[:-1] != there[-1]).any(axis=1)))
    return found


def middle(walk):
    height, width = walk.shapes["y"][2:]
    return height // 2, width // 2


def expected(field, position):
    return [first + offsets for first, offsets in zip(field.at(*position), field.offsets, strict=True)]


@pytest.mark.parametrize("name", LOCAL)
def test_the_field_is_what_the_neuron_answers_to(name):
    form = network(LOCAL[name])
    walk = walked(form)
    field, is_global = walk.field("y")
    assert not is_global
    truth = seen(form, middle(walk))
    for axis, rows in enumerate(expected(field, middle(walk))):
        np.testing.assert_array_equal(truth[axis], rows)
        assert field.size[axis] == rows[-1] - rows[0] + 1
        assert field.at(*middle(walk))[axis] == rows[0]


@pytest.mark.parametrize("name", [name for name in LOCAL if "stacked" not in name and "corners" not in name])
def test_the_jump_is_how_far_the_neighbour_looks(name):
    """In a network that upsamples, the neuron that looks exactly some pixels further is not the next one."""
    form = network(LOCAL[name])
    walk = walked(form)
    field, _ = walk.field("y")
    row, column = middle(walk)
    steps = [1 if jump > 1 else 4 if jump == 1 else 12 for jump in field.jump]  # multiples of the factors here
    here, there = seen(form, (row, column)), seen(form, (row - steps[0], column + steps[1]))
    for axis, sign in ((0, -1), (1, 1)):
        moved = sign * steps[axis] * field.jump[axis]
        inside = [0 <= place < SIDE for place in here[axis] + moved]
        np.testing.assert_allclose((here[axis] + moved)[inside], there[axis])


@pytest.mark.parametrize("name", GATED)
def test_a_gate_makes_the_field_global_and_leaves_a_local_one(name):
    form = network(GATED[name])
    walk = walked(form)
    field, is_global = walk.field("y")
    assert is_global
    truth = seen(form, middle(walk))
    for axis, rows in enumerate(expected(field, middle(walk))):
        np.testing.assert_array_equal(truth[axis], rows)
    for rows in seen(form, middle(walk), base=GREY):
        assert len(rows) == SIDE


def test_statistics_of_the_whole_map_are_global_and_leave_the_local_field():
    normalised = ("InstanceNormalization", "c scale2 zeros2", "n", {"epsilon": 1.0})
    form = network([conv(output="c", **SAME), normalised, conv("n")])
    without = network([conv(output="c", **SAME), conv("c")])
    field, is_global = walked(form).field("y")
    assert is_global
    assert (field.size, field.jump, field.start) == ((5, 5), (1.0, 1.0), (-1.0, -1.0))
    assert len(seen(form, (20, 20))[0]) == SIDE
    assert len(seen(without, (20, 20))[0]) == 5


@pytest.mark.parametrize("name", GLOBAL)
def test_behind_a_global_operation_there_is_no_field(name):
    form = network(GLOBAL[name])
    walk = walked(form)
    assert walk.field("y") == (None, True)
    for rows in seen(form, middle(walk), base=GREY):
        assert len(rows) == SIDE


def test_a_kernel_that_is_made_from_the_image_sees_all_of_it():
    nodes = [
        conv(output="c"),
        ("GlobalAveragePool", "x", "p"),
        ("Conv", "p ones", "k"),
        ("Reshape", "k kernel", "r"),
        ("Conv", "c r", "y"),
    ]
    form = canonical(
        build(
            nodes,
            {"w": CONSTANTS["w"], "ones": weights(36, 2, 1, 1), "kernel": ints(2, 2, 3, 3)},
            shape=(1, 2, SIDE, SIDE),
        )
    )
    walk = FieldWalk(form.graph, "x", (2, 3), {**form.graph.shapes, "y": (1, 2, 44, 44), "c": (1, 2, 46, 46)})
    field, is_global = walk.field("y")
    assert is_global
    assert field.size == (5, 5)


def test_channels_last_networks_are_followed_too():
    nodes = [
        ("Transpose", "x", "f", {"perm": [0, 3, 1, 2]}),
        conv("f", "c", strides=[2, 1]),
        conv("c", dilations=[1, 3]),
    ]
    form = network(nodes, shape=("N", 40, 50, 2))
    walk = walked(form, axes=(1, 2))
    field, is_global = walk.field("y")
    assert (field.size, field.jump, is_global) == ((7, 9), (2.0, 1.0), False)
    truth = seen(form, middle(walk), axes=(1, 2))
    for axis, rows in enumerate(expected(field, middle(walk))):
        np.testing.assert_array_equal(truth[axis], rows)


def test_an_image_on_its_side_is_not_followed():
    form = network([("Transpose", "x", "t", {"perm": [0, 1, 3, 2]}), conv("t")])
    assert walked(form).field("y") == (None, True)


def test_the_input_sees_itself():
    form = network([conv()])
    field, is_global = walked(form).field("x")
    assert (field.size, field.jump, field.start, is_global) == ((1, 1), (1.0, 1.0), (0.0, 0.0), False)


@pytest.mark.parametrize("op", ["Transmogrify", "MaxUnpool"])
def test_an_operator_that_is_not_known_is_taken_for_global(op):
    nodes = (
        Node("a", "Conv", "", ("x", "w"), ("c",), {}),
        Node("b", op, "", ("c",), ("d",), {}),
        Node("c", "Conv", "", ("d", "w"), ("y",), {}),
    )
    graph = Graph(nodes, ("x",), ("y",), {"w": CONSTANTS["w"]}, {}, {})
    shapes = {"x": (1, 2, 9, 9), "c": (1, 2, 7, 7), "d": (1, 2, 7, 7), "y": (1, 2, 5, 5), "w": (2, 2, 3, 3)}
    assert FieldWalk(graph, "x", (2, 3), shapes).field("y") == (None, True)


def test_random_stacks_agree_with_the_formula_for_one_path():
    """Kernels add and strides multiply (Araujo, Norris & Sim 2019, doi:10.23915/distill.00021)."""
    rng = np.random.default_rng(5)
    for _ in range(40):
        size, jump, first = 1, 1, 0
        nodes, source = [], "x"
        for index in range(int(rng.integers(1, 9))):
            kernel, stride, dilation, pad = (int(number) for number in rng.integers((1, 1, 1, 0), (6, 4, 4, 4)))
            attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "dilations": [dilation] * 2}
            nodes.append(Node(f"n{index}", "MaxPool", "", (source,), (f"v{index}",), attributes | {"pads": [pad] * 4}))
            size, first = size + (kernel - 1) * dilation * jump, first - pad * jump
            source, jump = f"v{index}", jump * stride
        graph = Graph(tuple(nodes), ("x",), (source,), {}, {}, {})
        shapes = dict.fromkeys(["x", *(node.outputs[0] for node in nodes)], (1, 1, 20, 20))
        field, _ = FieldWalk(graph, "x", (2, 3), shapes).field(source)
        assert (field.size, field.jump, field.start) == ((size,) * 2, (jump,) * 2, (first,) * 2)


PUBLISHED = {  # the last convolution: size, jump. MobileNetV2's is in the table of Araujo, Norris & Sim.
    "mobilenetv2_fp32_dequant": (491, 32),
    "svhn_cnn6": (32, 4),
    "cifar10_cnn4": (26, 2),
    "mnist_cntk": (14, 2),
}


@needs_data
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_last_layer_of_a_real_network_sees_what_is_published(name):
    from filterscope.analyzer.boundary.opening import open_network
    from support.networks import MODELS

    layer = open_network(MODELS / f"{name}.onnx").layers[-1]
    size, jump = PUBLISHED[name]
    assert layer.field.size == (size, size)
    assert layer.field.jump == (jump, jump)
    assert not layer.is_global


def test_where_the_middle_neuron_sees_no_pixel_the_field_is_a_neighbours():
    """A transposed convolution of stride and dilation 2 leaves every second row and column without a pixel."""
    form = network([("ConvTranspose", "x w", "y", {"strides": [2, 2], "dilations": [2, 2]})])
    field, is_global = walked(form).field("y")

    assert not is_global
    assert field.size == (3, 3)
    assert field.jump == (0.5, 0.5)
    assert field.at(50, 50) == (23, 23)
