"""What simple stimuli tell of real networks, layer by layer, and of the same networks with random weights.

Writes the measured part of docs/tuning.md: how many units get words, which, and how near a simple stimulus comes to
the strongest response known. Random twins have every convolution's weights drawn anew, normal, with the deviation that
they had; biases stay. MODELS is a folder with the files of NETWORKS; processor's seconds of one thread.

    python benchmarks/tuning.py MODELS
    python benchmarks/tuning.py --filters      # of known and random linear filters, printed
"""

import argparse
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from filterscope.analyzer.analysis import Analysis
from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.execution.plan import Settings
from filterscope.analyzer.network.network import InputOptions, Network
from filterscope.analyzer.network.preprocessing import custom, preset
from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.studies.tuning.selectivity import tuning
from filterscope.analyzer.studies.tuning.stimuli import Stimuli
from filterscope.analyzer.studies.tuning.tuning import TuningStudy

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "tuning.md"
MARK = "<!-- measured -->"
SVHN = custom(1, (0.4377, 0.4438, 0.4728), (0.198, 0.201, 0.197))
NETWORKS = {  # file → name, preprocessing, layers
    "mobilenetv2_fp32_dequant.onnx": ("MobileNetV2, ImageNet", preset("imagenet"), 11),
    "squeezenet1.0_fp16.onnx": ("SqueezeNet 1.0, ImageNet", preset("caffe-bgr"), 7),
    "svhn_cnn6.onnx": ("SVHN, six layers", SVHN, 6),
    "cifar10_cnn4.onnx": ("CIFAR-10, four layers", preset("symmetric"), 4),
}
UNITS = 24  # a layer
GABORS, NORMAL = 300, 600  # filters a size
KINDS = {  # how words begin → column
    "oriented": "oriented",
    "uniform": "colour",
    "spot": "spot",
    "curve": "curve, corner",
    "corner": "curve, corner",
}
COLUMNS = tuple(dict.fromkeys(KINDS.values()))


def random_twin(path: Path, folder: Path) -> Path:
    """The network's canonical form with the convolutions' weights drawn anew."""
    model = onnx.ModelProto()
    model.CopyFrom(open_network(path).model.proto)
    kernels = {node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    rng = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        if tensor.name in kernels:
            old = numpy_helper.to_array(tensor)
            new = rng.normal(0, old.std(), old.shape).astype(old.dtype)
            tensor.CopyFrom(numpy_helper.from_array(new, tensor.name))
    onnx.save(model, folder / "random.onnx")
    return folder / "random.onnx"


def rows_of(network: Network, layers: int, folder: Path) -> tuple[list[dict[str, Any]], float]:
    """tuning/units.parquet of the first layers, and the seconds that the study took."""
    names = tuple(layer.name for layer in network.layers[:layers])
    settings = Settings(layers=names, channels=f"{UNITS}/layer", objectives=("neuron",))
    Analysis(network, settings, [], folder).run()
    began = time.process_time()
    Analysis(network, settings, [], folder, studies=[TuningStudy(everything=True)]).run()
    return Run(folder).table("tuning/units.parquet").to_pylist(), time.process_time() - began


def table(path: Path, layers: int, preprocessing: Any) -> tuple[list[str], float]:
    """Lines of a Markdown table, and the seconds."""
    options = InputOptions(preprocessing=preprocessing)
    network = open_network(path, options)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        real, seconds = rows_of(network, layers, folder / "real")
        twin = open_network(random_twin(path, folder), options)
        random, _ = rows_of(twin, layers, folder / "random")
    lines = []
    for layer in network.layers[:layers]:
        own = [row for row in real if row["layer"] == layer.name]
        drawn = _of_index(random, twin, layer.index)
        words = [row["words"] for row in own if row["words"]]
        begun = [KINDS[re.split(r"[ ,]", word)[0]] for word in words]
        answered = [row for row in own if row["best"]]
        share = [row["response"] / row["strongest"] for row in answered]
        selective = [row["orientation_selectivity"] for row in answered if row["orientation_selectivity"] is not None]
        coloured = [row["colour_selectivity"] for row in answered if row["colour_selectivity"] is not None]
        phase = [row["phase_modulation"] for row in answered if row["phase_modulation"] is not None]
        side = "all" if layer.field is None or layer.is_global else f"{layer.field.size[0]}"
        cells = [f"`{layer.name}`", str(layer.depth), side, str(len(own)), percent(len(words), len(own))]
        cells += [percent(begun.count(kind), len(own)) for kind in COLUMNS]
        cells += [percent(sum(row["words"] is not None for row in drawn), len(drawn))]
        cells += [median(share), median(selective), percent(sum(c >= 0.2 for c in coloured), len(own)), median(phase)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines, seconds


def _of_index(rows: list[dict[str, Any]], network: Network, index: int) -> list[dict[str, Any]]:
    return [row for row in rows if row["layer"] == network.layers[index].name]


def percent(part: int, whole: int) -> str:
    """A share in whole percents."""
    return f"{100 * part / whole:.0f}%" if whole else "–"


def median(values: list[float]) -> str:
    """The median, or a dash."""
    return f"{np.median(values):.2f}" if values else "–"


def gabor(side: int, angle: float, period: float, phase: float, width: float) -> np.ndarray:
    """(side, side): stripes of this angle under a Gaussian."""
    y, x = np.meshgrid((side - 1) / 2 - np.arange(side), np.arange(side) - (side - 1) / 2, indexing="ij")
    across = y * np.cos(np.radians(angle)) - x * np.sin(np.radians(angle))
    return np.asarray(np.cos(2 * np.pi * across / period + phase) * np.exp(-(x**2 + y**2) / 2 / width**2))


def filters(side: int) -> str:
    """How Gabor filters and normal filters of a size on RGB are named."""
    rng = np.random.default_rng(0)
    stimuli = Stimuli((side, side), (0, 0, side, side), 3)
    shown = np.concatenate([pixels for _, pixels in stimuli.batches(1024)]).reshape(len(stimuli.all), -1) / 127.5 - 1

    def named(kernel: np.ndarray) -> str | None:
        flat = kernel.reshape(-1) / np.abs(kernel).sum()
        found = tuning(stimuli, shown @ flat, 1.0)
        return None if found is None else found.words

    right, off, given = 0, [], 0
    for _ in range(GABORS):
        angle, axis = rng.uniform(0, 180), stimuli.axes[rng.integers(len(stimuli.axes))]
        shape = (
            rng.uniform(max(2.5, side / 2.5), 1.3 * side),
            rng.uniform(0, 2 * np.pi),
            rng.uniform(side / 4, side / 3),
        )
        words = named(gabor(side, angle, *shape)[..., None] * np.array(axis.direction))
        given += words is not None
        right += words is not None and axis.name in words and axis.complement in words
        if words is not None and "°" in words:
            apart = abs(float(words.split("°")[0].split()[-1]) - angle) % 180
            off.append(min(apart, 180 - apart))
    random = sum(named(rng.standard_normal((side, side, 3))) is not None for _ in range(NORMAL))
    gabors = f"{percent(given, GABORS)} of {GABORS} Gabor filters get words, {percent(right, given)} of these the right"
    angles = f"colours, angle within {np.percentile(off, 95):.1f}° in 95%"
    return f"{side}×{side}: {gabors} {angles}; {100 * random / NORMAL:.1f}% of {NORMAL} normal filters"


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs="?")
    parser.add_argument("--filters", action="store_true")
    asked = parser.parse_args()
    if asked.filters or asked.models is None:
        print(*(filters(side) for side in (3, 5, 7, 11)), sep="\n")
        return
    models = asked.models
    text = []
    for file, (name, preprocessing, layers) in NETWORKS.items():
        lines, seconds = table(models / file, layers, preprocessing)
        text.append(f"### {name}: {len(lines)} layers, {seconds:.0f} s\n")
        head = ["layer", "depth", "field", "units", "words", *COLUMNS, "random", "share", "orientation", "coloured"]
        head.append("F1/F0")
        text.append(f"| {' | '.join(head)} |\n|---{'|--:' * (len(head) - 1)}|\n" + "\n".join(lines) + "\n")
        print(text[-2], text[-1], sep="\n", flush=True)
    before = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    PAGE.write_text(f"{before}{MARK}\n\n" + "\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
