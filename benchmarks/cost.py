"""What a channel image costs over the layers of VGG-16 and ResNet-50, at inputs of 224 and 512 pixels: docs/cost.svg.

Weights are random: the time of a step does not depend on them. A few steps are timed after the setting-up and
multiplied by those of quality `standard`; the processor's seconds of one thread. FOLDER holds vgg16_bn-legacy.onnx and
resnet50-legacy.onnx, which benchmarks/timm_networks.py writes.

    python benchmarks/cost.py FOLDER
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import onnx
import torch

from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.compute.allocator import keep_freed_memory
from filterscope.analyzer.maximize.engine import ascend
from filterscope.analyzer.maximize.presets import Recipe, preset_named, quality_named
from filterscope.analyzer.maximize.problem import Problem
from filterscope.analyzer.network.layers import Layer
from filterscope.analyzer.network.network import InputOptions, Network
from filterscope.analyzer.network.preprocessing import preset
from filterscope.analyzer.units.canvas import canvas_for
from filterscope.analyzer.units.objectives import objective_for

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = {"ResNet-50": "resnet50-legacy.onnx", "VGG-16": "vgg16_bn-legacy.onnx"}
SIDES = (224, 512)
FEW, MORE = 2, 6  # steps: the difference of two runs is free of the setting-up
CHANNELS = 4


def resized(path: Path, side: int, folder: Path) -> Path:
    """A copy of a file whose input is `side` pixels high and wide."""
    model = onnx.load(path)
    for axis in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        axis.dim_value = side
    del model.graph.value_info[:]
    onnx.save(model, folder / path.name)
    return folder / path.name


def seconds(network: Network, layer: Layer) -> tuple[float, int]:
    """CPU seconds a channel at quality `standard`, and the canvas's side."""
    wanted = quality_named("standard")
    canvas = canvas_for(network, layer, "channel", wanted.cap)

    def spent(steps: int) -> float:
        recipe = Recipe(preset_named("filterscope"), replace(wanted, steps=steps))
        began = time.process_time()
        ascend(
            Problem(network, layer, canvas, objective_for("channel", canvas)),
            range(CHANNELS),
            recipe,
            seed=0,
            device=torch.device("cpu"),
        )
        return time.process_time() - began

    spent(1)
    return (spent(MORE) - spent(FEW)) / (MORE - FEW) / CHANNELS * wanted.steps, canvas.height


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with the exported networks")
    parser.add_argument("--layers", type=int, default=8, help="of each network, from the first to the last")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "cost.svg")
    options = parser.parse_args()
    keep_freed_memory()  # as the program does before its tasks
    torch.set_num_threads(1)
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "filterscope"
    figure, axes = pyplot.subplots(1, len(NETWORKS), figsize=(7.2, 3.0), layout="constrained", sharey=True)
    for panel, (title, file) in zip(axes, NETWORKS.items(), strict=True):
        for side, style in zip(SIDES, ("o-", "x--"), strict=True):
            with tempfile.TemporaryDirectory() as temporary:
                path = resized(options.folder / file, side, Path(temporary))
                network = open_network(path, InputOptions(preprocessing=preset("imagenet")))
                _ = network.twin
            last = len(network.layers) - 1
            picked = [index * last // (options.layers - 1) for index in range(options.layers)]
            found = [seconds(network, network.layers[index]) for index in picked]
            for index, (cost, canvas) in zip(picked, found, strict=True):
                print(f"{title} {side} {network.layers[index].name}: canvas {canvas}, {cost:.2f} s", flush=True)
            panel.plot([index + 1 for index in picked], [cost for cost, _ in found], style, label=f"{side} × {side}")
        panel.set(title=title, xlabel="convolution", yscale="log")
    axes[0].set_ylabel("CPU seconds a channel")
    axes[0].legend(frameon=False, title="input")
    figure.savefig(options.out, metadata={"Date": None})


if __name__ == "__main__":
    main()
