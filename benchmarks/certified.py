"""How good the ascent is, measured against proven maxima: writes docs/certified.md.

Every unit of the first two conv layers of svhn_cnn6: the ascent's picture, the vertex jump's, the bounds, and the
maximum that the mixed-integer program proves. One core; the network is not part of the repository.

    python benchmarks/certified.py --seconds 60
    python benchmarks/certified.py --seconds 300 --again 7 22
"""

import argparse
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import highspy
import numpy as np
import torch

from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.bounds.linear_relaxation import SharedBounds, upper_bounds
from filterscope.analyzer.certify.certifier import PROVEN, Certifier
from filterscope.analyzer.maximize.analytic import image_maximisers
from filterscope.analyzer.maximize.engine import ascend
from filterscope.analyzer.maximize.presets import Recipe, preset_named, quality_named
from filterscope.analyzer.maximize.problem import Problem
from filterscope.analyzer.maximize.vertex_jump import jump
from filterscope.analyzer.network.network import InputOptions
from filterscope.analyzer.network.preprocessing import custom
from filterscope.analyzer.units.canvas import canvas_for
from filterscope.analyzer.units.measure import Meter
from filterscope.analyzer.units.objectives import Neuron

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
processor seconds for the proof alone, which are also what it is limited by.

A proof is a tree: at each node some ReLUs are fixed, and a linear program bounds what is left. Each ReLU is held under
the hull over its inputs' box, by those of its faces that are violated (Anderson et al. 2020, arXiv:1811.01988); the
units that take long are those whose maximum is far below what the hulls allow at first. Branching is on the ReLU whose
two sides promise most, by what branching on it has brought so far; every linear program ends as soon as it falls to
what is known to be reachable; and now and then a solution is climbed from, to a picture that may be the best so far.
"""

TABLE = """## {layer}: every unit

| unit | ascent | jump | best | proven | gap | relaxation | interval | binaries | nodes | s |
|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"""


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


@dataclass(frozen=True, slots=True)
class Row:
    """What was found of one unit, as the page prints it."""

    unit: int
    ascent: float
    jump: float
    best: float
    proven: float
    gap: float  # (proven − best) ÷ |proven|
    relaxation: float
    interval: float
    binaries: int
    nodes: int
    seconds: float  # of the processor, for the proof

    def __str__(self) -> str:
        values = " | ".join(f"{v:.3f}" for v in (self.ascent, self.jump, self.best, self.proven))
        bounds = f"{self.relaxation:.3f} | {self.interval:.3f}"
        search = f"{self.binaries} | {self.nodes} | {self.seconds:.1f}"
        return f"| {self.unit} | {values} | {self.gap:.3%} | {bounds} | {search} |"

    @classmethod
    def read(cls, line: str) -> "Row | None":
        """A row of the page's table; None for any other line."""
        cells = [cell.strip() for cell in line.strip("| \n").split("|")]
        if len(cells) != 11 or not cells[0].isdigit():
            return None
        numbers = [*map(float, cells[1:5]), float(cells[5].rstrip("%")) / 100, *map(float, cells[6:8])]
        return cls(int(cells[0]), *numbers, int(cells[8]), int(cells[9]), float(cells[10]))


def prove(network, units: list[int], seconds: float) -> Iterator[Row]:
    """Proofs of some units of the second layer, each started from the better of two pictures."""
    layer = network.layers[1]
    shared = SharedBounds(network)
    certifier = Certifier(network, layer, shared=shared, clock=time.process_time)
    canvas, channels = certifier.canvas, np.array(units)
    recipe = Recipe(preset_named("filterscope"), quality_named("standard"))
    climbed = ascend(Problem(network, layer, canvas, Neuron.on(canvas)), units, recipe, seed=0, device=CPU)
    jumped = jump(Problem(network, layer, canvas, Neuron.on(canvas)), units, CPU)
    ascent, leap = (certifier.meter.activation(found.tiles, channels) for found in (climbed, jumped))
    relaxed = upper_bounds(network, layer, canvas, "neuron", units, shared)
    interval = shared.interval_bounds[layer.value].high[channels]
    for i, unit in enumerate(units):
        start = climbed.tiles[i] if ascent[i] >= leap[i] else jumped.tiles[i]
        began = time.process_time()
        found = certifier.certify(unit, start, seconds)
        spent = time.process_time() - began
        values = (ascent[i], leap[i], found.value, found.bound, found.gap, relaxed[i], interval[i])
        yield Row(unit, *map(float, values), found.binaries, found.nodes, spent)


def summary(rows: list[Row]) -> list[str]:
    """What the rows come to."""
    bound, ascent, leap, relaxed, interval = (
        np.array([getattr(row, name) for row in rows])
        for name in ("proven", "ascent", "jump", "relaxation", "interval")
    )
    times = np.array([row.seconds for row in rows])
    closed = np.array([row.gap <= PROVEN for row in rows])
    timely = closed & (times <= LIMIT)
    shares = [
        f"{name} {(value[closed] / bound[closed]).mean():.2%}" for name, value in (("ascent", ascent), ("jump", leap))
    ]
    worst = int(np.argmin(np.where(closed, ascent / bound, np.inf)))
    return [
        "",
        f"Proven to {PROVEN:.1%} within {LIMIT:.0f} processor seconds: **{timely.sum()} of {len(rows)}** units "
        f"({timely.mean():.0%}), with more time {closed.sum()}; median {np.median(times):.1f} s.",
        f"Of the proven maxima the pictures reach on average: {', '.join(shares)}; of the bounds of all units the "
        f"ascent's reach {(ascent / bound).mean():.2%}.",
        f"The ascent is furthest off at unit {rows[worst].unit}: {ascent[worst] / bound[worst]:.2%}.",
        f"The relaxation is {(relaxed[closed] / bound[closed]).mean():.2f} times the proven maximum and "
        f"{(relaxed / interval).mean():.2f} of the interval.",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the processor, for one unit")
    parser.add_argument("--again", type=int, nargs="+", help="prove these units again and keep the page's other rows")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "certified.md")
    options = parser.parse_args()
    if not MODEL.is_file():
        raise SystemExit(f"{MODEL}: no such file; the benchmark's networks are not part of the repository")
    torch.set_num_threads(1)
    network = open_network(MODEL, InputOptions(preprocessing=PREPROCESSING))
    layer = network.layers[1]
    kept: dict[int, Row] = {}
    if options.again:
        read = map(Row.read, options.out.read_text(encoding="utf-8").splitlines())
        kept = {row.unit: row for row in read if row is not None}
    for row in prove(network, options.again or list(range(layer.out_channels)), options.seconds):
        kept[row.unit] = row
        print(row, flush=True)
    rows = [kept[unit] for unit in sorted(kept)]
    machine = f"{platform.machine()}, one core, HiGHS {highspy.Highs().version()}, Python {platform.python_version()}."
    lines = [HEAD.format(proven=PROVEN), *first_layer(network), TABLE.format(layer=layer.name), *map(str, rows)]
    options.out.write_text("\n".join([*lines, *summary(rows), machine, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
