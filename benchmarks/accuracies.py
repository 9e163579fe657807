"""Do trained networks still know what they learnt? Writes docs/accuracies.md.

    python benchmarks/accuracies.py --only 'resnet*'

Each is opened by `open_here`, gets its pictures through `analyzer.data.images` and `InputSpec.to_model`, as `analyze`
gives them, and answers twice: the file as it came, and the canonical form that is analysed. The figures to compare
with come from the README beside the data, where others measured them.
"""

from __future__ import annotations

import argparse
import fnmatch
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from filterscope.analyzer.data import images
from filterscope.analyzer.network.network import InputOptions, Network, open_here
from filterscope.analyzer.network.preprocessing import PRESETS, Preprocessing, custom
from filterscope.converters.runtime import Session
from filterscope.converters.sources import read as sources

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[1] / "shared" / "data"
MODELS = DATA / "models"
PHOTOS = DATA / "images" / "imagenet_mini_100"  # named CLASS_WNID_NAME.jpg
CIFAR10 = DATA / "cifar10" / "cifar10_test_2000_lossless_webp.npz"
MNIST = DATA / "mnist" / "mnist_12000_2000.npz"
ANIMALS = 398  # ImageNet's classes below this number are animals
BATCH = 100

HEAD = """# What trained networks still know

Made by `python benchmarks/accuracies.py`. Networks that others trained are opened, and shown pictures, as
`filterscope analyze` does both. *Expected* is what the README of these data says, measured without this program;
*file* is the file as it came (of Keras and PyTorch, its export) in ONNX Runtime, *canonical form* what is analysed.

| network | pictures | preprocessing | what is counted | expected | file | canonical form |
|---|---|---|---|---|---|---|
"""

Ask = Callable[[np.ndarray], dict[str, np.ndarray]]  # (N, C, H, W) or (N, H, W, C) float32 → outputs by name
Check = Callable[[Network, Ask], str]


@dataclass(frozen=True)
class Job:
    """One network and what it is to know."""

    source: str  # a path below MODELS; where `factory` is given, of its weights
    preprocessing: Preprocessing
    pictures: str
    counted: str
    expected: str
    check: Check
    size: tuple[int, int] | None = None
    factory: str = ""

    def open(self) -> Network:
        """The network, its input as this job says."""
        options = InputOptions(preprocessing=self.preprocessing, size=self.size)
        path = MODELS / self.source
        source = f"{HERE / 'real_pytorch.py'}:{self.factory}" if self.factory else path
        weights = path if self.factory else None
        return open_here(sources.read(source, sources.SourceOptions(weights=weights, size=self.size)), options)


def answers(network: Network, ask: Ask, paths: list[str | Path], resize: str = "auto") -> tuple[list[str], np.ndarray]:
    """Names of some pictures and the first output's answer to each, flat."""
    names, rows, batch = [], [], []
    found = images.find(paths)
    declared = next(value for value in network.model.original.graph.input if value.name == network.input.name)
    single = declared.type.tensor_type.shape.dim[0].dim_value == 1  # what the file as it came takes at a time
    for index, (photo, pixels) in enumerate(images.load(found, network.input, resize), start=1):
        names.append(photo.name if photo.label is None else str(photo.label))
        batch.append(pixels)
        if single or len(batch) == BATCH or index == len(found):
            first = next(iter(ask(network.input.to_model(np.stack(batch))).values()))
            rows.extend(first.reshape(len(batch), -1))
            batch = []
    return names, np.stack(rows)


def percent(pictures: Path) -> Check:
    """Share of an array file's images whose highest answer is their label."""

    def check(network: Network, ask: Ask) -> str:
        labels, scores = answers(network, ask, [pictures])
        return f"{(scores.argmax(1) == np.array(labels, int)).mean():.2%}".replace("%", " %")

    return check


def top(network: Network, ask: Ask) -> str:
    """Of the hundred photos, for how many their class is the first answer, and among the first five."""
    names, scores = answers(network, ask, [PHOTOS])
    classes = np.array([int(name.split("_")[0]) for name in names])
    order = np.argsort(-scores, axis=1, kind="stable")
    return f"{(order[:, 0] == classes).sum()}, {(order[:, :5] == classes[:, None]).any(1).sum()}"


def digits(network: Network, ask: Ask) -> str:
    """SVHN's four pictures, named svhn_digit_N.png, and the least probability of a right one."""
    names, scores = answers(network, ask, [DATA / "svhn"])
    labels = np.array([int(Path(name).stem[-1]) for name in names])
    odds = np.exp(scores - scores.max(1, keepdims=True))
    odds /= odds.sum(1, keepdims=True)
    right = odds.argmax(1) == labels
    return f"{right.sum()} of {len(names)}, each ≥ {odds.max(1)[right].min():.2f}"


def kinds(network: Network, ask: Ask) -> str:
    """Photos whose nearest other photo, by the cosine of what is asked, is an animal too, or no animal either."""
    names, features = answers(network, ask, [PHOTOS])
    animal = np.array([int(name.split("_")[0]) < ANIMALS for name in names])
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    likeness = features @ features.T
    np.fill_diagonal(likeness, -1)
    return f"{(animal[likeness.argmax(1)] == animal).sum()} of {len(names)}"


def faces(network: Network, ask: Ask) -> str:
    """Best score of an anchor, how many are above 0.7, and where the best one is, if the graph says."""
    outputs = ask(fed(network, astronaut(), "squash"))
    scores = outputs["scores"][0, :, 1]
    box = outputs["boxes"][0, scores.argmax()]
    where = (
        f", box ({box[0]:.2f},{box[1]:.2f})-({box[2]:.2f},{box[3]:.2f})"
        if network.model.path.stem.endswith("320")
        else ""
    )
    return f"{scores.max():.3f}, {(scores > 0.7).sum()}{where}"


def smile(network: Network, ask: Ask) -> str:
    """Probability of the fourth emotion, happy, of the astronaut's face."""
    face = np.array(Image.fromarray(astronaut()).crop((160, 50, 290, 180)))
    scores = next(iter(ask(fed(network, face, "squash")).values()))[0]
    return f"{scores[3]:.2f}"


def text(network: Network, ask: Ask) -> str:
    """Share of the map above 0.3: on a page of text, on a cat, on a portrait."""
    from skimage import data

    pictures = (data.page()[..., None], data.chelsea(), data.astronaut())
    maps = [next(iter(ask(fed(network, picture, "squash")).values())) for picture in pictures]
    return ", ".join(f"{(found > 0.3).mean():.1%}".replace("%", " %") for found in maps)


def upright(network: Network, ask: Ask) -> str:
    """Probability that a text line stands upright, and that the same line, turned round, stands on its head."""
    from skimage import data

    line = data.page()[10:30, :, None]
    both = [next(iter(ask(fed(network, picture, "squash")).values())).ravel() for picture in (line, line[::-1, ::-1])]
    return f"{both[0][0]:.2f}, {both[1][1]:.2f}"


def astronaut() -> np.ndarray:
    """(512, 512, 3) uint8, scikit-image's portrait."""
    from skimage import data

    return np.asarray(data.astronaut())


def fed(network: Network, pixels: np.ndarray, resize: str) -> np.ndarray:
    """What the network gets for a picture file of these pixels."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        Image.fromarray(pixels.squeeze()).save(path)
        (_, read), *_ = images.load(images.find([path]), network.input, resize)
    return network.input.to_model(read[None])


IMAGENET, UNIT, RAW = PRESETS["imagenet"], PRESETS["unit"], PRESETS["raw255"]
P_127 = custom(255, [127], [128])
P_SVHN = custom(1, [0.4377, 0.4438, 0.4728], [0.198, 0.201, 0.197])
TOP = "top-1, top-5 of 100"
FIRST = "top-1 of 2,000"
JOBS = (
    Job("onnx/mobilenetv2_fp32_dequant.onnx", IMAGENET, "ImageNet photos", TOP, "83, 95", top),
    Job("onnx/mobilenetv2_int8_qlinear.onnx", IMAGENET, "ImageNet photos", TOP, "67, 91", top),
    Job("onnx/squeezenet1.0_fp16.onnx", PRESETS["caffe-bgr"], "ImageNet photos", TOP, "63, 86", top),
    Job(
        "onnx/ultraface_rfb_320.onnx",
        P_127,
        "astronaut",
        "best score, anchors above 0.7",
        "1.000, 8, box (0.35,0.12)-(0.52,0.34)",
        faces,
    ),
    Job(
        "onnx/ultraface_slim_320_simplified.onnx",
        P_127,
        "astronaut",
        "best score, anchors above 0.7",
        "1.000, 8",
        faces,
    ),
    Job(
        "onnx/ppocr_v4_det.onnx",
        IMAGENET,
        "page, chelsea, astronaut",
        "share of the map above 0.3",
        "17.8 %, 0.0 %, 0.0 %",
        text,
        (192, 384),
    ),
    Job(
        "onnx/ppocr_v2_cls.onnx",
        PRESETS["symmetric"],
        "page, rows 10 to 29, and turned round",
        "probability of the right side",
        "0.88, 0.99 (rows not said)",
        upright,
        (48, 192),
    ),
    Job("onnx/svhn_cnn6.onnx", P_SVHN, "SVHN digits", "right, probability", "4 of 4, each 1.00", digits),
    Job("onnx/cifar10_cnn4.onnx", PRESETS["symmetric"], "CIFAR-10", FIRST, "68.4 %", percent(CIFAR10)),
    Job("onnx/mnist_cntk.onnx", RAW, "MNIST", FIRST, "98.4 %", percent(MNIST)),
    Job("keras/resnet8_cifar10_keras2.4.h5", RAW, "CIFAR-10", FIRST, "88.1 %", percent(CIFAR10)),
    Job(
        "keras/emotion_minixception_keras2.0.hdf5",
        PRESETS["symmetric"],
        "astronaut's face",
        "probability of happy",
        "1.00",
        smile,
    ),
    Job("keras/cifar10_cnn_keras3.5.keras", UNIT, "CIFAR-10", FIRST, "71.6 %", percent(CIFAR10)),
    Job(
        "pytorch/resnet20_cifar10-12fca82f.th",
        IMAGENET,
        "CIFAR-10",
        FIRST,
        "93.1 %",
        percent(CIFAR10),
        (32, 32),
        "resnet20",
    ),
    Job(
        "pytorch/mobilenetv2_features_imagenet.pt",
        IMAGENET,
        "ImageNet photos",
        "nearest other photo of the same kind",
        "90 of 100",
        kinds,
        (224, 224),
        "mobilenet_v2",
    ),
)


def askers(network: Network, job: Job) -> tuple[Ask, Ask]:
    """Whoever answers: the file as it came, and the canonical form."""
    model = network.model
    if job.check is kinds:  # not the classes, but what they are told from: the input of the last matrix product
        found = [
            [node for node in proto.graph.node if node.op_type == "Gemm"] for proto in (model.original, model.proto)
        ]
        original, canonical = (
            Session(p, [n[-1].input[0]]) for p, n in zip((model.original, model.proto), found, strict=True)
        )
    else:
        original, canonical = Session(model.original), Session(model.proto)
    return original.run, canonical.run


def line(job: Job) -> str:
    """A row of the table."""
    network = job.open()
    found = [job.check(network, ask) for ask in askers(network, job)]
    name = Path(job.source).name
    how = job.preprocessing.name if job.preprocessing.name != "custom" else described(job.preprocessing)
    return f"| {name} | {job.pictures} | {how} | {job.counted} | {job.expected} | {found[0]} | {found[1]} |"


def described(preprocessing: Preprocessing) -> str:
    """Options of the command that say it."""
    mean, std = (",".join(f"{value:g}" for value in values) for values in (preprocessing.mean, preprocessing.std))
    high = f"--high {preprocessing.high:g} " if preprocessing.high != 1 else ""
    return f"`{high}--mean {mean} --std {std}`"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", help="print the rows of networks whose names match; write nothing")
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "accuracies.md")
    options = parser.parse_args()
    if not MODELS.is_dir():
        raise SystemExit(f"{MODELS}: no such folder; the networks and pictures are not part of the repository")
    rows = []
    for job in JOBS:
        if fnmatch.fnmatch(Path(job.source).name, options.only):
            rows.append(line(job))
            print(rows[-1], flush=True)
    if options.only == "*":
        options.out.write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
