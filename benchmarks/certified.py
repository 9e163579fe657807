"""How good the ascent is, measured against proven maxima: writes docs/certified.md.

Every unit of the first two conv layers of svhn_cnn6: the ascent's picture, the vertex jump's, the bounds, and the
maximum that the mixed-integer program proves. One core; the network is not part of the repository.

    python benchmarks/certified.py --seconds 60
"""

import argparse
import platform
import time
from pathlib import Path

import highspy
import numpy as np
import torch

from analyzer.analytic import image_maximisers
from analyzer.bounds import intervals
from analyzer.canvas import canvas_for
from analyzer.certified import PROVEN, Certifier
from analyzer.inputs import custom
from analyzer.maximize.engine import ascend
from analyzer.maximize.objectives import Neuron
from analyzer.maximize.presets import Recipe, preset_named, quality
from analyzer.maximize.vertex import jump
from analyzer.measure import Meter
from analyzer.network import InputOptions, open_network
from analyzer.relaxation import Inner, upper_bounds

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT.parent / "shared" / "data" / "models" / "onnx" / "svhn_cnn6.onnx"
PREPROCESSING = custom(1, (0.4377, 0.4438, 0.4728), (0.198, 0.201, 0.197))
CPU = torch.device("cpu")
LIMIT = 60.0  # processor seconds

HEAD = """# Proven maxima

Made by `python benchmarks/certified.py`, on one core. **Ascent** and **jump** are the values of the pictures that
gradient ascent (quality `standard`) and the vertex jump make, **best** that of the best picture known, all of them
8-bit pictures measured in ONNX Runtime. **Proven** is what no picture can exceed, by a mixed-integer program of the
neuron's whole receptive field, started from the better of the two pictures; **gap** is (proven − best) ÷ proven, and
counts as closed at {proven:.1%}. **Relaxation** and **interval** are the bounds that cost next to nothing. **s** are
processor seconds for the proof alone; the machine was shared, and the solver stopped by the clock on the wall.
"""


def first_layer(network) -> list[str]:
    """Activation ÷ bound of the closed-form picture of every unit."""
    layer = network.layers[0]
    channels = np.arange(layer.out_channels)
    units = image_maximisers(network, layer, channels.tolist())
    canvas = canvas_for(network, layer, "neuron")
    values = Meter(network, layer, canvas).activation(units.tiles, channels)
    bounds = upper_bounds(network, layer, canvas, "neuron", channels.tolist())
    exact, bound = values / units.values, values / bounds
    return [
        f"## {layer.name}: the layer that sees the image\n",
        f"{len(channels)} units, closed-form pictures. Activation ÷ exact maximum: {exact.min():.6f} to "
        f"{exact.max():.6f}. Activation ÷ relaxation bound: {bound.min():.6f} to {bound.max():.6f}.\n",
    ]


def second_layer(network, seconds: float, count: int | None) -> list[str]:
    """A row a unit, and what they come to."""
    layer = network.layers[1]
    channels = list(range(layer.out_channels))[:count]
    known = intervals(network)
    inner = Inner(network, known)
    certifier = Certifier(network, layer, inner=inner)
    canvas, units = certifier.canvas, np.array(channels)
    climbed = ascend(
        network,
        layer,
        canvas,
        Neuron.on(canvas),
        channels,
        Recipe(preset_named("filterscope"), quality("standard")),
        0,
        CPU,
    )
    jumped = jump(network, layer, canvas, Neuron.on(canvas), channels, CPU)
    ascent, leap = (certifier.meter.activation(found.tiles, units) for found in (climbed, jumped))
    began = time.process_time()
    relaxed = upper_bounds(network, layer, canvas, "neuron", channels, inner)
    cost = (time.process_time() - began) / len(channels)
    interval = known[layer.value].high[units]
    lines = [
        f"## {layer.name}: every unit\n",
        "| unit | ascent | jump | best | proven | gap | relaxation | interval | binaries | nodes | s |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    found, spent = [], []
    for i, channel in enumerate(channels):
        start = climbed.tiles[i] if ascent[i] >= leap[i] else jumped.tiles[i]
        began = time.process_time()
        result = certifier.certify(channel, start, seconds)
        spent.append(time.process_time() - began)
        found.append(result)
        lines.append(
            f"| {channel} | {ascent[i]:.3f} | {leap[i]:.3f} | {result.value:.3f} | {result.bound:.3f} | "
            f"{result.gap:.3%} | {relaxed[i]:.3f} | {interval[i]:.3f} | {result.binaries} | {result.nodes} | "
            f"{spent[-1]:.1f} |"
        )
        print(lines[-1], flush=True)
    bound = np.array([result.bound for result in found])
    best = np.array([result.value for result in found])
    times = np.array(spent)
    proven = np.array([result.proven for result in found]) & (times <= LIMIT)
    shares = [f"{name} {(value / bound).mean():.2%}" for name, value in (("ascent", ascent), ("jump", leap))]
    shares += [f"best {(best / bound).mean():.2%}"]
    worst = int(np.argmin(ascent / bound))
    return [
        *lines,
        "",
        f"Proven to {PROVEN:.1%} within {LIMIT:.0f} processor seconds: {proven.sum()} of {len(proven)} units "
        f"({proven.mean():.0%}); median {np.median(times):.1f} s, {times.max():.1f} s at most.",
        f"Of the proven bound the pictures reach on average: {', '.join(shares)}.",
        f"The ascent is furthest off at unit {channels[worst]}: {ascent[worst] / bound[worst]:.2%}.",
        f"The relaxation is {(relaxed / bound).mean():.2f} times the proven bound and "
        f"{(relaxed / interval).mean():.2f} of the interval, for {1000 * cost:.1f} ms a unit.",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of wall time for one unit; more on a busy machine")
    parser.add_argument("--units", type=int, help="only so many of the second layer")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "certified.md")
    options = parser.parse_args()
    if not MODEL.is_file():
        raise SystemExit(f"{MODEL}: no such file; the benchmark's networks are not part of the repository")
    torch.set_num_threads(1)
    network = open_network(MODEL, InputOptions(preprocessing=PREPROCESSING))
    lines = [HEAD.format(proven=PROVEN), *first_layer(network), *second_layer(network, options.seconds, options.units)]
    machine = f"{platform.machine()}, one core, HiGHS {highspy.Highs().version()}, Python {platform.python_version()}."
    options.out.write_text("\n".join([*lines, machine, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
