"""Damaged and hostile files for fuzz.py, each made from a small seed; its number alone decides which.

A maker gets a generator of random numbers and an empty folder, writes one file and what lies beside it, and returns the
path. Beside the folder lies a file called "secret", which nothing may open.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import random
import re
import struct
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import Message
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

NUMBERS = (0, 1, -1, 2, 3, 7, 255, 1 << 16, (1 << 31) - 1, -(1 << 31), 1 << 32, 1 << 62, (1 << 63) - 1, -(1 << 63))
OPERATORS = (
    *("Conv", "ConvTranspose", "Relu", "Add", "Mul", "Div", "Mod", "Resize", "Reshape", "Transpose", "Pad", "Slice"),
    *("Concat", "Split", "Gather", "Expand", "Tile", "ConstantOfShape", "MaxPool", "AveragePool", "GlobalAveragePool"),
    *("BatchNormalization", "Cast", "Shape", "Identity", "Softmax", "MatMul", "Gemm", "Flatten", "If", "Loop", "Scan"),
)


# --- seeds: small networks of our own, each a file's bytes


def onnx_seed(rng: random.Random) -> onnx.ModelProto:
    """A network of some nodes around a convolution."""
    array = np.random.default_rng(rng.randrange(1 << 30))
    weights = {"w": array.normal(size=(4, 3, 3, 3)), "v": array.normal(size=(4, 4, 1, 1)), "b": array.normal(size=4)}
    constants = {name: value.astype(np.float32) for name, value in weights.items()}
    constants |= {"shape": np.array([0, -1]), "scales": np.array([1, 1, 2, 2], np.float32), "two": np.array([2])}
    bodies = (
        [("Conv", "x w b", "c"), ("Relu", "c", "y")],
        [("Conv", "x w", "c"), ("BatchNormalization", "c b b b b", "n"), ("Relu", "n", "r"), ("Conv", "r v", "y")],
        [("Conv", "x w", "c"), ("Resize", "c  scales", "u"), ("Conv", "u v", "y")],
        [("Conv", "x w", "c"), ("MaxPool", "c", "p", {"kernel_shape": [2, 2]}), ("Reshape", "p shape", "y")],
        [("Div", "two two", "d"), ("Cast", "d", "f", {"to": 1}), ("Conv", "x w", "c"), ("Add", "c f", "y")],
        [("ConstantOfShape", "two", "k"), ("Conv", "x w", "c"), ("Tile", "k two", "t"), ("ConvTranspose", "c v", "y")],
    )
    nodes = [
        helper.make_node(op, inputs.split(" "), outputs.split(" "), **dict(*attributes))
        for op, inputs, outputs, *attributes in rng.choice(bodies)
    ]
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rng.choice(["N", 1]), 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items() if name in read],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", rng.choice([11, 13, 17, 21]))], ir_version=8)


def zip_bytes(members: dict[str, bytes]) -> bytes:
    """A zip archive of these members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)  # without the time
    return stream.getvalue()


def keras_config() -> dict[str, object]:
    """A Keras network of one convolution, as JSON."""
    layers = [
        {
            "class_name": "InputLayer",
            "config": {"name": "x", "batch_shape": [None, 16, 16, 3]},
            "module": "keras.layers",
        },
        {
            "class_name": "Conv2D",
            "config": {"name": "c", "filters": 4, "kernel_size": [3, 3], "activation": "relu"},
            "module": "keras.layers",
        },
    ]
    return {"class_name": "Sequential", "module": "keras", "config": {"name": "s", "layers": layers}}


def keras_seed(rng: random.Random) -> bytes:
    """A .keras archive."""
    config = json.dumps(mutate_json(keras_config(), rng)).encode()
    metadata = json.dumps({"keras_version": "3.13.1"}).encode()
    return zip_bytes({"config.json": config, "metadata.json": metadata, "model.weights.h5": weights_seed()})


def weights_seed() -> bytes:
    """The weights inside a .keras archive."""
    import h5py

    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        group = file.create_group("layers/conv2d/vars")
        group.create_dataset("0", data=np.ones((3, 3, 3, 4), np.float32))
        group.create_dataset("1", data=np.zeros(4, np.float32))
    return stream.getvalue()


def hdf5_seed(rng: random.Random) -> bytes:
    """An HDF5 file of a Keras network."""
    import h5py

    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.attrs["model_config"] = json.dumps(mutate_json(keras_config(), rng))
        file.attrs["keras_version"] = rng.choice(["2.15.0", "3.13.1"])
        file.create_group("model_weights").attrs["layer_names"] = [b"c"]
        group = file.create_group("model_weights/c")
        group.attrs["weight_names"] = [b"kernel", b"bias"]
        group.create_dataset("kernel", data=np.ones((3, 3, 3, 4), np.float32))
        group.create_dataset("bias", data=np.zeros(4, np.float32))
    return stream.getvalue()


def safetensors_seed(rng: random.Random) -> bytes:
    """A safetensors file: length of the header, header as JSON, numbers."""
    header = {"w": {"dtype": "F32", "shape": [4, 3, 3, 3], "data_offsets": [0, 432]}}
    text = json.dumps(mutate_json(header, rng)).encode()
    return struct.pack("<Q", rng.choice([len(text)] * 4 + [1 << 62])) + text + bytes(432)


@cache
def exported_program() -> dict[str, bytes]:
    """Members of what torch.export writes of one convolution."""
    import torch

    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()).eval()
    stream = io.BytesIO()
    torch.export.save(torch.export.export(network, (torch.zeros(1, 3, 16, 16),)), stream)
    with zipfile.ZipFile(stream) as archive:
        return {name: archive.read(name) for name in sorted(archive.namelist())}


def pt2_seed(rng: random.Random) -> bytes:
    """A .pt2 archive, one of its members now and then changed, lost, or there under another name."""
    members = dict(exported_program())
    name = rng.choice(list(members))
    way = rng.randrange(6)
    if way == 0:
        members[name] = mutate_bytes(members[name], rng)
    elif way == 1:
        del members[name]
    elif way == 2:
        members[rng.choice(["../x", "archive/models/other.json", name + "x"])] = members[name]
    elif way < 5:
        texts = [each for each in members if each.endswith(".json")]
        name = rng.choice(texts)
        members[name] = json.dumps(mutate_json(json.loads(members[name]), rng)).encode()
    return zip_bytes(members)


def checkpoint_seed(rng: random.Random) -> bytes:
    """A PyTorch checkpoint of one kernel, in either format; at times with a class that is no tensor beside it."""
    import torch

    content = {"w": torch.zeros(4, 3, 3, 3)} | ({"path": Path("x")} if rng.random() < 0.5 else {})
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=rng.random() < 0.5)
    return re.sub(rb"X.\0\0\0\d{6,}", b"X\x01\0\0\0" + b"7", stream.getvalue())  # an address of this process


# --- mutations


def mutate_json(value: object, rng: random.Random) -> object:
    """Change a value or two of a JSON tree; half the time nothing."""
    if rng.random() < 0.5:
        return value
    copy = json.loads(json.dumps(value))
    places: list[tuple[object, object]] = []
    waiting = [copy]
    while waiting:
        node = waiting.pop()
        pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, child in pairs:
            places.append((node, key))
            waiting.append(child)
    holder, key = rng.choice(places)
    holder[key] = rng.choice([None, True, *NUMBERS, 1e308, "\x00", "../x", "Lambda", [], {}, [[[]]], "A" * 5000])  # type: ignore[index]
    return copy


def mutate_message(proto: Message, rng: random.Random) -> None:
    """Change one field of one message somewhere in a protobuf, in place."""
    messages: list[Message] = []
    waiting: list[Message] = [proto]
    while waiting:
        message = waiting.pop()
        messages.append(message)
        for field, content in message.ListFields():
            if field.type == field.TYPE_MESSAGE:
                waiting.extend([content] if isinstance(content, Message) else content)
    message = rng.choice(messages)
    field = rng.choice(message.DESCRIPTOR.fields)
    content = getattr(message, field.name)
    if rng.random() < 0.15:
        message.ClearField(field.name)
    elif field.type == field.TYPE_MESSAGE:
        donors = [each for each in messages if each.DESCRIPTOR is field.message_type]
        if donors:
            donor = type(donors[0]).FromString(rng.choice(donors).SerializeToString())
            if isinstance(content, Message):
                content.CopyFrom(donor)
            else:
                content.extend([donor] * rng.choice([1, 1, 2, 50]))
    else:
        value = scalar(field, message, rng)
        if hasattr(content, "append"):
            if len(content) and rng.random() < 0.7:
                content[rng.randrange(len(content))] = value
            else:
                content.append(value)
        else:
            setattr(message, field.name, value)


def scalar(field: object, message: Message, rng: random.Random) -> object:
    """A value that the field can hold and its reader may not expect."""
    kind = field.type  # type: ignore[attr-defined]
    if kind == field.TYPE_STRING:  # type: ignore[attr-defined]
        names = ["", "x", "y", "w", "c", "../secret", "\u202e", "own", *OPERATORS]
        return rng.choice(OPERATORS if field.name == "op_type" else names)  # type: ignore[attr-defined]
    if kind == field.TYPE_BYTES:  # type: ignore[attr-defined]
        return rng.choice([b"", b"\xff\xfe", bytes(432), bytes(rng.randrange(600)), b"SAME_UPPER", b"cubic"])
    if kind in (field.TYPE_FLOAT, field.TYPE_DOUBLE):  # type: ignore[attr-defined]
        return rng.choice([0.0, -1.0, 1e30, float("nan"), float("inf")])
    if kind == field.TYPE_ENUM:  # type: ignore[attr-defined]
        return rng.choice([each.number for each in field.enum_type.values])  # type: ignore[attr-defined]
    small = kind in (field.TYPE_INT32, field.TYPE_UINT32)  # type: ignore[attr-defined]
    choices = [number for number in (*NUMBERS, *range(30)) if not small or -(1 << 31) <= number < 1 << 31]
    if kind in (field.TYPE_UINT64, field.TYPE_UINT32):  # type: ignore[attr-defined]
        choices = [number for number in choices if number >= 0]
    return rng.choice(choices)


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    """Flip, cut, repeat or overwrite some bytes; half the time nothing."""
    changed = bytearray(content)
    way = rng.randrange(8)
    if not changed or way > 3:
        return content
    if way == 0:
        for _ in range(rng.choice([1, 2, 8])):
            changed[rng.randrange(len(changed))] ^= rng.randrange(1, 256)
    elif way == 1:
        del changed[rng.randrange(len(changed)) :]
    elif way == 2:
        at = rng.randrange(len(changed))
        changed[at:at] = changed[at : at + rng.randrange(1, 200)]
    else:
        at = rng.randrange(len(changed))
        changed[at : at + 8] = struct.pack("<q", rng.choice(NUMBERS))
    return bytes(changed)


def onnx_file(rng: random.Random) -> bytes:
    """Fields mutated, and now and then bytes."""
    model = onnx_seed(rng)
    for _ in range(rng.choice([1, 1, 2, 4])):
        with contextlib.suppress(TypeError, ValueError, UnicodeError):
            mutate_message(model, rng)
    return mutate_bytes(model.SerializeToString(), rng) if rng.random() < 0.3 else model.SerializeToString()


def mutated(seed: Callable[[random.Random], bytes]) -> Callable[[random.Random], bytes]:
    """A seed whose bytes are mutated too."""
    return lambda rng: mutate_bytes(seed(rng), rng)


def external_file(rng: random.Random, folder: Path) -> Path:
    """An ONNX file whose kernels lie beside it; or elsewhere, by a place or a link."""
    model = onnx_seed(rng)
    beside, elsewhere = (
        ["w.bin"] * 8,
        ["../secret", "a/../../secret", "link", "linked/secret", "", "/etc/passwd", "\x00"],
    )
    names = [*beside, "./w.bin", *elsewhere]
    for tensor in model.graph.initializer:
        content = tensor.raw_data
        if tensor.data_type != TensorProto.FLOAT or not content:
            continue
        (folder / "w.bin").write_bytes(content[: rng.choice([len(content), len(content), len(content) // 2])])
        if rng.random() < 0.3:
            (folder / "link").symlink_to(rng.choice(["w.bin", "../secret", "link", "/dev/zero", "/proc/self/environ"]))
        if rng.random() < 0.3:
            (folder / "linked").symlink_to("..")
        if rng.random() < 0.1:
            (folder / "hard").hardlink_to(folder.parent / "secret")
            names.append("hard")
        fields = {"location": rng.choice(names), "offset": "0", "length": str(len(content))}
        if rng.random() < 0.4:
            fields[rng.choice(["offset", "length"])] = rng.choice([*map(str, NUMBERS), "", "x", "1e9", "9" * 5000])
        if rng.random() < 0.1:
            del fields[rng.choice(list(fields))]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in fields.items():
            tensor.external_data.add(key=key, value=value)
        break
    if rng.random() < 0.3:
        with contextlib.suppress(TypeError, ValueError, UnicodeError):
            mutate_message(model, rng)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    if rng.random() < 0.05:
        path.rename(folder / "target.onnx")
        path.symlink_to("target.onnx")
    return path


PICTURES = {"PNG": ".png", "JPEG": ".jpg", "TIFF": ".tif", "WEBP": ".webp", "BMP": ".bmp", "GIF": ".gif", "PPM": ".ppm"}


def picture_file(rng: random.Random, folder: Path) -> Path:
    """A picture with bytes of its header, or anywhere, changed."""
    kind = rng.choice(list(PICTURES))
    array = np.random.default_rng(rng.randrange(1 << 30)).integers(0, 256, (rng.choice([1, 16, 40]), 24, 3), np.uint8)
    picture = Image.fromarray(array)
    if kind in ("PNG", "TIFF", "GIF"):
        picture = picture.convert(rng.choice(["RGB", "L", "P", "RGBA"] if kind != "GIF" else ["P", "L"]))
    stream = io.BytesIO()
    if kind == "TIFF":
        picture.save(stream, kind, compression=rng.choice(["raw", "tiff_lzw", "tiff_deflate", "packbits"]))
    elif kind == "GIF":
        picture.save(stream, kind, save_all=True, append_images=[picture] * rng.choice([0, 3]))
    else:
        picture.save(stream, kind)
    content = bytearray(stream.getvalue())
    for _ in range(rng.choice([1, 1, 2, 6])):
        at = rng.randrange(min(len(content), rng.choice([64, len(content)])))
        if rng.random() < 0.5:
            content[at] ^= rng.randrange(1, 256)
        else:
            order = rng.choice("<>")
            content[at : at + 4] = struct.pack(f"{order}I", rng.choice(NUMBERS) & 0xFFFFFFFF)
    path = folder / f"picture{PICTURES[kind]}"
    path.write_bytes(mutate_bytes(bytes(content), rng))
    return path


def npy_bytes(rng: random.Random) -> bytes:
    """A .npy file, its header perhaps another's."""
    stream = io.BytesIO()
    np.save(stream, np.zeros((2, 8, 8, 3), rng.choice([np.uint8, np.float32, np.uint16])))
    content = stream.getvalue()
    if rng.random() < 0.5:
        old, new = rng.choice(
            [
                (b"(2, 8, 8, 3)", b"(2, 8, 8, -3)"),
                (b"(2, 8, 8, 3)", b"(99999999999, 8, 8, 3)"),
                (b"(2, 8, 8, 3)", b"(0, 4294967296, 4294967296, 3)"),
                (b"(2, 8, 8, 3)", b"()"),
                (b"|u1", b"|O8"),
                (b"|u1", b"<M8"),
                (b"<f4", b"<c8"),
                (b"False", b"True "),
                (b"False", b"(" * 60),
            ]
        )
        content = content.replace(old, new)
    return mutate_bytes(content, rng)


def mat_bytes(rng: random.Random) -> bytes:
    """SVHN's MATLAB file, of two pictures."""
    from scipy.io import savemat

    stream = io.BytesIO()
    arrays = {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([[1], [10]], np.uint8)}
    savemat(stream, arrays, do_compression=rng.random() < 0.5)
    return b"MATLAB 5.0 MAT-file".ljust(116) + stream.getvalue()[116:]  # its head holds the time of writing


def array_file(rng: random.Random, folder: Path) -> Path:
    """An array, an archive of arrays, or a published data set, damaged."""
    kind = rng.choice(["x.npy", "x.npz", "test_32x32.mat", "t10k-images-idx3-ubyte", "t10k-images-idx3-ubyte.gz"])
    if kind == "x.npy":
        content = npy_bytes(rng)
    elif kind == "x.npz":
        members = {f"{rng.choice(['x', 'images', 'x_test', '../x', 'data'])}.npy": npy_bytes(rng)}
        content = mutate_bytes(zip_bytes(members | {"y.npy": npy_bytes(rng)}), rng)
    elif kind.endswith(".mat"):
        content = bytearray(mat_bytes(rng))
        if rng.random() < 0.6:
            at = rng.randrange(100, len(content) - 4)
            content[at : at + 4] = struct.pack("<I", rng.choice(NUMBERS) & 0xFFFFFFFF)
        content = mutate_bytes(bytes(content), rng)
    else:
        sides = [2, 28, 28]
        if rng.random() < 0.5:
            sides[rng.randrange(3)] = rng.choice(NUMBERS) & 0xFFFFFFFF
        content = mutate_bytes(bytes((0, 0, 8, 3)) + struct.pack(">3I", *sides) + bytes(2 * 28 * 28), rng)
        if kind.endswith(".gz"):
            content = mutate_bytes(gzip.compress(content, mtime=0), rng)
    path = folder / kind
    path.write_bytes(content)
    return path


def alone(suffix: str, make: Callable[[random.Random], bytes]) -> Callable[[random.Random, Path], Path]:
    """A maker of one file from what makes its bytes."""

    def write(rng: random.Random, folder: Path) -> Path:
        path = folder / f"model{suffix}"
        path.write_bytes(make(rng))
        return path

    return write


KINDS: dict[str, tuple[float, Callable[[random.Random, Path], Path]]] = {  # name: share, maker
    "ONNX": (0.5, alone(".onnx", onnx_file)),
    "ONNX with external data": (0.1, external_file),
    "Keras archive": (0.05, alone(".keras", mutated(keras_seed))),
    "Keras HDF5": (0.05, alone(".h5", mutated(hdf5_seed))),
    "PyTorch export": (0.05, alone(".pt2", mutated(pt2_seed))),
    "PyTorch checkpoint": (0.03, alone(".pt", mutated(checkpoint_seed))),
    "weights (checkpoint)": (0.04, alone(".pt", mutated(checkpoint_seed))),
    "weights (safetensors)": (0.03, alone(".safetensors", mutated(safetensors_seed))),
    "picture": (0.09, picture_file),
    "array or data set": (0.06, array_file),
}
CONVERTED = ("Keras archive", "Keras HDF5", "PyTorch export")  # those that another framework converts
DECODED = ("weights (checkpoint)", "weights (safetensors)", "picture", "array or data set")  # no network of their own


def make_file(number: int, folder: Path) -> tuple[str, Path]:
    """Write the file of this number; its kind and path."""
    rng = random.Random(number)
    kind = rng.choices(list(KINDS), [share for share, _ in KINDS.values()])[0]
    return kind, KINDS[kind][1](rng, folder)
