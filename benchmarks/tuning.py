"""What simple stimuli tell of real networks, layer by layer, and of the same networks with random weights.

Writes the measured part of docs/tuning.md: how many units get words, which, and how near a simple stimulus comes to
the strongest response known. Random twins have every convolution's weights drawn anew, normal, with the deviation that
they had; biases stay. MODELS is a folder with the files of NETWORKS; processor's seconds of one thread.

    python benchmarks/tuning.py MODELS
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

from analyzer.analysis import Analysis
from analyzer.inputs import custom, preset
from analyzer.network import InputOptions, Network, open_network
from analyzer.plan import Settings
from analyzer.run import Run
from analyzer.tuning import TuningStudy

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


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path)
    models = parser.parse_args().models
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
