"""Thousands of damaged and hostile files, opened as the command opens them, each in a process of its own.

A worker imports everything once and forks a child a file, with limits on address space and processor time. A file is
made from a small network by mutation; the number of the file alone decides which, so that any can be made again:

    python benchmarks/fuzz.py --files 10000 --workers 2
    python benchmarks/fuzz.py --make 1234 FOLDER

What must come of each: exit code 0 or 2. An exit of 1, a signal, over 10 s of processor time, over 2 GiB, or a canary
touched is a finding; its file is kept. Writes a table into docs/security.md, and fuzz.json beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import Message
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "security.md"
BEGIN, END = "<!-- fuzz: begin -->", "<!-- fuzz: end -->"
SECONDS, BYTES = 10.0, 2 << 30  # a file that takes more is a finding
ADDRESS_SPACE, CPU_SECONDS, WALL_SECONDS = 16 << 30, 20, 180  # where the child is ended
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
            archive.writestr(name, content)
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
    return zip_bytes({"config.json": config, "metadata.json": metadata, "model.weights.h5": hdf5_seed(rng)})


def hdf5_seed(rng: random.Random) -> bytes:
    """An HDF5 file of a Keras network."""
    import h5py

    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.attrs["model_config"] = json.dumps(mutate_json(keras_config(), rng))
        file.attrs["keras_version"] = rng.choice(["2.15.0", "3.13.1"])
        group = file.create_group("model_weights/c")
        group.create_dataset("kernel", data=np.ones((3, 3, 3, 4), np.float32))
        group.create_dataset("bias", data=np.zeros(4, np.float32))
    return stream.getvalue()


def safetensors_seed(rng: random.Random) -> bytes:
    """A safetensors file: length of the header, header as JSON, numbers."""
    header = {"w": {"dtype": "F32", "shape": [4, 3, 3, 3], "data_offsets": [0, 432]}}
    text = json.dumps(mutate_json(header, rng)).encode()
    return struct.pack("<Q", rng.choice([len(text)] * 4 + [1 << 62])) + text + bytes(432)


def pt2_seed(rng: random.Random) -> bytes:
    """An archive with the members of a .pt2."""
    program = {"graph_module": {"graph": {"nodes": [], "inputs": [], "outputs": []}}, "opset_version": {"aten": 10}}
    return zip_bytes(
        {
            "m/archive_format": b"pt2",
            "m/version": b"0",
            "m/models/model.json": json.dumps(mutate_json(program, rng)).encode(),
            "m/data/weights/weight_0": bytes(432),
        }
    )


def checkpoint_seed(rng: random.Random) -> bytes:
    """A PyTorch checkpoint of one kernel."""
    import torch

    stream = io.BytesIO()
    torch.save({"w": torch.zeros(4, 3, 3, 3)}, stream)
    return stream.getvalue()


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


KINDS: dict[str, tuple[float, str, Callable[[random.Random], bytes]]] = {  # name: share, suffix, maker
    "ONNX": (0.7, ".onnx", onnx_file),
    "Keras archive": (0.06, ".keras", mutated(keras_seed)),
    "Keras HDF5": (0.06, ".h5", mutated(hdf5_seed)),
    "PyTorch export": (0.06, ".pt2", mutated(pt2_seed)),
    "PyTorch checkpoint": (0.06, ".pt", mutated(checkpoint_seed)),
    "safetensors": (0.06, ".safetensors", mutated(safetensors_seed)),
}


def make_file(number: int, folder: Path) -> tuple[str, Path]:
    """Write the file of this number; its kind and path."""
    rng = random.Random(number)
    kind = rng.choices(list(KINDS), [share for share, _, _ in KINDS.values()])[0]
    _, suffix, make = KINDS[kind]
    path = folder / f"{number}{suffix}"
    path.write_bytes(make(rng))
    return kind, path


# --- one file, one child


def try_file(number: int, folder: Path, keep: Path) -> dict[str, object]:
    """Open one file in a child; what came of it."""
    home = folder / str(number)
    (home / "model").mkdir(parents=True)
    canary = home / "secret"
    canary.write_bytes(b"canary")
    kind, path = make_file(number, home / "model")
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        run_child(path, home / "model")
    hung = False
    while True:
        process, status, usage = os.wait4(child, os.WNOHANG)
        if process:
            break
        if time.monotonic() - began > WALL_SECONDS and not hung:
            hung = True
            os.kill(child, signal.SIGKILL)
        time.sleep(0.005)
    code, cpu, peak = os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
    faults = [
        *(["exit 1"] if code not in (0, 2) and code >= 0 else []),
        *([f"signal {-code}"] if code < 0 and not hung else []),
        *(["time"] if hung or cpu > SECONDS else []),
        *(["memory"] if peak > BYTES else []),
        *(
            ["canary"]
            if canary.read_bytes() != b"canary" or {p.name for p in home.iterdir()} != {"model", "secret"}
            else []
        ),
    ]
    if faults:
        keep.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, keep / path.name)
        with contextlib.suppress(OSError):
            shutil.copy(home / "model" / "stderr", keep / f"{path.name}.txt")
    shutil.rmtree(home, ignore_errors=True)
    return {"number": number, "kind": kind, "code": code, "cpu": round(cpu, 2), "peak": peak, "faults": faults}


def run_child(path: Path, scratch: Path) -> None:
    """The command itself, its words into a file. Never returns."""
    code = 1
    try:
        for name in ("TMPDIR", "XDG_CACHE_HOME", "HOME"):
            os.environ[name] = str(scratch)
        tempfile.tempdir = None
        written = os.open(scratch / "stderr", os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(written, 1)
        os.dup2(written, 2)
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        from filterscope import cli

        sys.argv = ["filterscope", "inspect", str(path)]
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
    finally:
        os._exit(code)


def work(numbers: range, folder: Path, keep: Path, results: Path) -> None:
    """Try these files one after another; a line of JSON each."""
    import_all()
    with results.open("w") as lines:
        for number in numbers:
            lines.write(json.dumps(try_file(number, folder, keep)) + "\n")
            lines.flush()


def import_all() -> None:
    """Import what opening takes, once, from this checkout. No threads may run here: a fork would lose them."""
    sys.path.insert(0, str(ROOT))  # whatever version is installed
    import onnxruntime  # noqa: F401
    import onnxscript.optimizer  # noqa: F401
    import torch

    import analyzer.network  # noqa: F401
    import converters.importer
    import converters.keras
    import converters.parity
    import converters.pytorch  # noqa: F401
    import filterscope.cli  # noqa: F401

    torch.set_num_threads(1)


# --- the whole


def summary(results: list[dict[str, object]], hours: float, first: int) -> dict[str, object]:
    """Counts a kind, and the worst of all."""
    rows = []
    for kind in KINDS:
        of_kind = [result for result in results if result["kind"] == kind]
        faults = Counter(fault.split(" ")[0] for result in of_kind for fault in result["faults"])  # type: ignore[attr-defined]
        rows.append(
            {
                "kind": kind,
                "files": len(of_kind),
                "opened": sum(result["code"] == 0 for result in of_kind),
                "refused": sum(result["code"] == 2 for result in of_kind),
                "exit 1": faults["exit"],
                "signals": faults["signal"],
                "over 10 s": faults["time"],
                "over 2 GiB": faults["memory"],
                "canaries": faults["canary"],
                "most seconds": max((result["cpu"] for result in of_kind), default=0),  # type: ignore[type-var]
                "most MiB": max((result["peak"] for result in of_kind), default=0) >> 20,  # type: ignore[operator, type-var]
            }
        )
    machine = f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    return {"first": first, "files": len(results), "hours": round(hours, 2), "machine": machine, "kinds": rows}


def markdown(found: dict[str, object]) -> str:
    """The table of docs/security.md."""
    rows = found["kinds"]
    columns = list(rows[0])  # type: ignore[index]
    lines = [
        f"{found['files']:,} files in {found['hours']} hours ({found['machine']}), numbers from {found['first']}.",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(str(row[column]) for column in columns) + " |" for row in rows),  # type: ignore[attr-defined]
    ]
    return "\n".join(lines)


def write_page(text: str) -> None:
    """Put the table between the page's marks, which are added where there are none."""
    page = PAGE.read_text() if PAGE.exists() else "# Security\n"
    if BEGIN not in page:
        words = "`make fuzz` makes and opens them ([benchmarks/fuzz.py](../benchmarks/fuzz.py))."
        page += f"\n## Fuzzing\n\n{words}\n\n{BEGIN}\n{END}\n"
    before, rest = page.split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


def main() -> None:
    """Options; then workers, each a part of the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000, help="how many; 500 for a nightly run")
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="folder for files with findings")
    parser.add_argument("--no-page", action="store_true", help="leave docs/security.md alone")
    parser.add_argument("--make", nargs=2, metavar=("NUMBER", "FOLDER"), help="write one file again and end")
    parser.add_argument("--part", nargs=3, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        print(make_file(int(options.make[0]), Path(options.make[1]))[1])
        return
    if options.part:
        first, end, step = options.part
        work(range(first, end, step), options.scratch, options.keep, options.scratch / f"{first}.jsonl")
        return
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        end = options.first + options.files
        common = [sys.executable, __file__, "--keep", str(options.keep.resolve()), "--scratch", folder]
        starts = range(options.first, options.first + options.workers)
        running = [
            subprocess.Popen([*common, "--part", str(start), str(end), str(options.workers)], cwd=ROOT)
            for start in starts
        ]
        failed = [process.wait() for process in running]
        lines = [line for start in starts for line in (Path(folder) / f"{start}.jsonl").read_text().splitlines()]
    results = [json.loads(line) for line in lines]
    found = summary(results, (time.monotonic() - began) / 3600, options.first)
    for result in results:
        if result["faults"]:
            print(result)
    print(markdown(found))
    if not options.no_page:
        write_page(markdown(found))
        PAGE.with_name("fuzz.json").write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(any(failed) or any(result["faults"] for result in results) or len(results) != options.files)


if __name__ == "__main__":
    main()
