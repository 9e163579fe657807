"""What the pictures and times of several tools come to: measured activations, tables, a plot, pictures side by side.

Knows results on disk; runs no tool.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from filterscope.analyzer.execution.plan import evenly_spaced

TOOLS = ("ours", "lucent", "loop")
SIZES = ("own", "small", "large")
MEAN, FLOOR = 100, 30  # times Lucent's throughput: the targets, over layers and for each
FLOP_A_MAC = 4  # a multiplication and an addition, forwards and for the gradient of the input


@dataclass(frozen=True, slots=True)
class Pictured:
    """One unit whose pictures are compared."""

    layer: str
    channel: int
    tiles: dict[str, np.ndarray]  # tool → (H, W, C) uint8, as the tool saves it
    robust: dict[tuple[str, str], float]  # tool, size → robust activation


@dataclass(frozen=True, slots=True)
class Line:
    """One layer."""

    layer: str
    field: int
    canvas: int
    times: dict[str, np.ndarray]  # "ours/cpu", "lucent/wall", …: seconds a channel, a value a round
    steps: float
    flop: float  # of one step of one channel of ours
    units: list[Pictured]

    def ratio(self, kind: str) -> float:
        return float(np.median(self.times[f"lucent/{kind}"]) / np.median(self.times[f"ours/{kind}"]))

    @property
    def rate(self) -> float:
        """FLOP a second of one thread of ours."""
        return self.flop * self.steps / float(np.median(self.times["ours/cpu"]))

    def mean(self, tool: str, size: str) -> float:
        return float(np.mean([unit.robust[tool, size] for unit in self.units])) if self.units else np.nan


@dataclass(frozen=True, slots=True)
class Table:
    """One network."""

    title: str
    lines: list[Line]
    rates: dict[str, float]
    memory: dict[str, float]  # tool → MiB
    load: list[float] = field(default_factory=list)  # one-minute load averages at the end of each timing

    @property
    def units(self) -> list[Pictured]:
        return [unit for line in self.lines for unit in line.units]


def table(subject: Any, models: Path, plan: list, folder: Path) -> Table:
    """Read the results of a network and measure its pictures."""
    from engine_tools import opened

    from filterscope.analyzer.maximize.presets import quality_named
    from filterscope.analyzer.units.canvas import canvas_for

    network = opened(str(models / subject.model), subject.preprocessing)
    rounds = {tool: [_load(path) for path in sorted(folder.glob(f"{subject.key}-{tool}-[0-9].npz"))] for tool in TOOLS}
    loops = _load(folder / f"{subject.key}-loop-pictures.npz")
    pictures = {
        "ours": rounds["ours"][0],
        "loop": loops,
        "lucent": _load(folder / f"{subject.key}-lucent-pictures.npz"),
    }
    lines = []
    for name, _, rendered in plan:
        layer = network.layer(name)
        canvas = canvas_for(network, layer, "channel", quality_named("standard").cap)
        times = {
            f"{tool}/{kind}": np.concatenate([found[f"{name}/{kind}"] for found in rounds[tool]])
            for tool, kind in (
                ("ours", "wall"), ("ours", "cpu"), ("lucent", "wall"), ("lucent", "cpu"), ("lucent", "cpu_two")
            )
            if f"{name}/{kind}" in rounds[tool][0]
        }  # fmt: skip
        if rendered:
            times["loop/cpu"] = loops[f"{name}/cpu"]
        part = canvas.height * canvas.width / (network.input.height * network.input.width)
        macs = sum(other.macs for other in _before(network, layer)) + layer.macs / layer.out_channels
        tiles = [{tool: found[f"{name}/tiles"][i] for tool, found in pictures.items()} for i in range(len(rendered))]
        units = _compared(network, layer, canvas, rendered, tiles)
        steps = float(np.mean([found[f"{name}/steps"].mean() for found in rounds["ours"]]))
        side = max(layer.field.size) if layer.field else network.input.height
        lines.append(Line(name, side, canvas.height, times, steps, FLOP_A_MAC * macs * part, units))
        print(subject.title, name, f"CPU ratio {lines[-1].ratio('cpu'):.0f}", flush=True)
    rates = {
        name: float(np.median([found[f"rate/{name}"] for found in rounds["ours"]])) for name in ("float32", "bfloat16")
    }
    memory = {tool: max(float(found["memory"][0]) for found in rounds[tool] or [pictures[tool]]) for tool in TOOLS}
    load = [float(found["load"][0]) for tool in ("ours", "lucent") for found in rounds[tool]]
    return Table(subject.title, lines, rates, memory, load)


WHOLE_HEAD = """{mark}

Made by `python benchmarks/engines.py --whole-input`: layers and channels of MobileNetV2 as below, ours by the preset
`strong` ([maximisation.md](maximisation.md)) on the whole input of 224 px, where Lucent shows its pictures; Lucent as
below. Two tasks of ours side by side, one thread each; CPU seconds of Lucent on one thread. Robust activation of single
units at 224 px. One-minute load averages at the ends of the timings: {load}.

| layer | ours, CPU s | Lucent, CPU s | CPU ratio | ours, wall s | Lucent, wall s | wall ratio | robust, ours ÷ Lucent |
|---|--:|--:|--:|--:|--:|--:|---|"""


def whole_input_section(mark: str, subject: Any, models: Path, plan: list, folder: Path) -> str:
    """The section on the preset `strong` beside Lucent at 224 px: a line a layer, and the targets."""
    from engine_tools import opened

    from filterscope.analyzer.units.canvas import Canvas
    from filterscope.analyzer.units.measure import Meter

    network = opened(str(models / subject.model), subject.preprocessing)
    size = (network.input.height, network.input.width)
    rounds = {
        tool: [_load(path) for path in sorted(folder.glob(f"{subject.key}-{tool}-[0-9].npz"))]
        for tool in ("strong", "lucent")
    }
    pictures = _load(folder / f"{subject.key}-lucent-pictures.npz")
    load = ", ".join(f"{one['load'][0]:.1f}" for tool in ("strong", "lucent") for one in rounds[tool])
    lines, least, won, units = [WHOLE_HEAD.format(mark=mark, load=load)], np.inf, 0, 0
    for name, _, rendered in plan:
        times = {
            (tool, kind): np.concatenate([one[f"{name}/{kind}"] for one in rounds[tool]])
            for tool in rounds
            for kind in ("cpu", "wall")
            if f"{name}/{kind}" in rounds[tool][0]
        }
        ratios = {
            kind: float(np.median(times["lucent", kind]) / np.median(times["strong", kind]))
            for kind in ("cpu", "wall")
            if ("lucent", kind) in times
        }
        meter = Meter(network, network.layer(name), Canvas(*size, None, None))
        channels = np.array(rendered)
        ours = meter.robust(rounds["strong"][0][f"{name}/tiles"], channels)
        theirs = meter.robust(np.stack([_enlarged(one, size) for one in pictures[f"{name}/tiles"]]), channels)
        least, won, units = min(least, ratios["cpu"]), won + int((ours >= theirs).sum()), units + len(channels)
        cells = [
            name, _spread(times["strong", "cpu"]), _spread(times["lucent", "cpu"]), f"**{ratios['cpu']:.0f}**",
            _spread(times["strong", "wall"]), _spread(times["lucent", "wall"]) if "wall" in ratios else "–",
            f"{ratios['wall']:.0f}" if "wall" in ratios else "–",
            ", ".join(f"{one:.3g} ÷ {other:.3g}" for one, other in zip(ours, theirs, strict=True)),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    lines.append(
        f"\nTargets: 20 times Lucent's throughput on every layer: {'reached' if least >= 20 else '**missed**'} (least "
        f"{least:.1f}); activation at least Lucent's in {won} of {units} units, of 19 in 20 asked for: "
        f"{'reached' if won >= 0.95 * units else '**missed**'}.\n"
    )
    return "\n".join(lines)


def _load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as found:
        return dict(found)


def _before(network: Any, layer: Any) -> list:
    """The convolutions on the ways to a layer, itself left out."""
    by_name = {other.name: other for other in network.layers}
    found, stack = set[str](), list(layer.predecessors)
    while stack:
        name = stack.pop()
        if name not in found:
            found.add(name)
            stack.extend(by_name[name].predecessors)
    return [by_name[name] for name in sorted(found)]


def _compared(network: Any, layer: Any, canvas: Any, channels: list[int], tiles: list) -> list[Pictured]:
    """Robust activations of the pictures of some units, at three sizes."""
    from filterscope.analyzer.units.canvas import Canvas
    from filterscope.analyzer.units.jitter import jitters
    from filterscope.analyzer.units.measure import Meter

    if not channels:
        return []
    full = (network.input.height, network.input.width)
    units = np.array(channels)
    meters = {size: Meter(network, layer, Canvas(*size, None, None)) for size in {canvas.size, full}}

    def robust(pictures: list[np.ndarray]) -> np.ndarray:
        meter, seen = meters[pictures[0].shape[:2]], np.stack(pictures)
        is_shifted = jitters(meter.canvas.size).any()  # a canvas of few pixels is too small to shift
        return meter.robust(seen, units) if is_shifted else meter.activation(seen, units)

    answers: dict[tuple[str, str], np.ndarray] = {}
    for tool in TOOLS:
        seen = [_enlarged(one[tool], full) if tool == "lucent" else one[tool] for one in tiles]
        answers[tool, "own"] = robust(seen)
        answers[tool, "small"] = robust([_cropped(picture, canvas.size) for picture in seen])
        answers[tool, "large"] = robust([_tiled(picture, full) for picture in seen])
    return [
        Pictured(layer.name, channel, tiles[i], {key: float(values[i]) for key, values in answers.items()})
        for i, channel in enumerate(channels)
    ]


def _enlarged(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """As Lucent shows its picture to the network: bilinear, corners on corners."""
    import torch
    from torch.nn import functional as F

    x = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    larger = F.interpolate(x, size, mode="bilinear", align_corners=True)[0].permute(1, 2, 0)
    return larger.round().clamp(0, 255).to(torch.uint8).numpy()


def _cropped(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    top, left = ((have - want) // 2 for have, want in zip(picture.shape, size, strict=False))
    return picture[top : top + size[0], left : left + size[1]]


def _tiled(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows, columns = (-(-want // have) for have, want in zip(picture.shape, size, strict=False))
    return np.tile(picture, (rows, columns, 1))[: size[0], : size[1]]


def plot(tables: list[Table], path: Path) -> None:
    """How many times Lucent's throughput, over the layers."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "filterscope"
    figure, axes = pyplot.subplots(figsize=(7.2, 3.4), layout="constrained")
    for one, style in zip(tables, ("o-", "s--"), strict=False):
        axes.plot(range(1, len(one.lines) + 1), [line.ratio("cpu") for line in one.lines], style, label=one.title)
    axes.axhline(30, color="0.6", linewidth=0.8)
    axes.axhline(100, color="0.6", linewidth=0.8)
    axes.set(
        yscale="log", xlabel="layer, of ten from the first to the last", ylabel="Lucent ÷ ours, CPU seconds a channel"
    )
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def plate(tables: list[Table], each: int, path: Path) -> list[Pictured]:
    """Pictures of both tools side by side, pixel by pixel as they were saved; the units shown, in reading order.

    They are spread evenly over all that were compared, from the first layer to the last.
    """
    shown = [one.units[place] for one in tables for place in evenly_spaced(len(one.units), each)]
    across, gap, head, side = 4, 8, 26, 128
    rows = -(-len(shown) // across)
    width, height = 2 * side + 2 * gap, head + side + gap
    sheet = Image.new("RGB", (across * width + gap, rows * height + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for index, unit in enumerate(shown):
        left, top = gap + index % across * width, gap + index // across * height
        draw.text((left, top - 4), f"{unit.layer} · {unit.channel}", fill="black")
        draw.text((left, top + 8), "ours", fill="#444444")
        draw.text((left + side + 2, top + 8), "Lucent", fill="#444444")
        for offset, tool in ((0, "ours"), (side + 2, "lucent")):
            picture = Image.fromarray(unit.tiles[tool])
            sheet.paste(picture, (left + offset, top + head))
    for colours in (None, 256, 128, 64):
        smaller = sheet if colours is None else sheet.quantize(colours, dither=Image.Dither.NONE)
        smaller.save(path, optimize=True)
        if path.stat().st_size < 600_000:
            break
    return shown


def page(mark: str, tables: list[Table], options: Any, machine: str, shown: list[Pictured]) -> str:
    """The part of docs/performance.md."""
    parts = [
        HEAD.format(
            mark=mark,
            channels=options.channels,
            steps=options.steps,
            rounds=options.rounds,
            machine=machine,
            busy=BUSY if options.busy else "",
        )
    ]
    parts += [_section(one) for one in tables]
    parts.append(_plate_text(shown))
    if (options.out / "cost.svg").is_file():
        parts.append(COST)
    return "\n".join(parts)


BUSY = """
  **The machine was busy with other work: Lucent's wall times were not taken, and ours are of a shared one.**"""

HEAD = """{mark}

Made by `python benchmarks/engines.py --channels {channels} --steps {steps} --rounds {rounds}` on {machine}.

**How it was measured.** Ten layers of each network, spread from the first convolution to the last, {channels} evenly
spaced channels of each, repetitions: {rounds}, the tools in turns, each in a process of its own.

- *Ours*: `analyzer.maximize.engine.ascend`, preset `filterscope`, quality `standard`, its canvas; the channels
  in two tasks side by side on one thread each, the setting-up of both included. Wall seconds a channel are the time
  until both tasks are done over the number of channels.
- *Lucent* (torch-lucent 0.1.8): `render_vis` with its defaults (one channel, 512 steps, a picture of 128 pixels
  enlarged to 224, through the whole network, weights that take gradients as those of a loaded model do), on the same
  network in torch. {steps} steps were timed after a warm-up and multiplied, for one channel a layer and repetition.
  Wall seconds with two threads, as a user runs it; CPU seconds with one thread, since two threads on a busy machine
  burn time waiting for each other.{busy}
- *The loop of 2018*: one channel at a time, 224 × 224, 40 normalised steps through the whole network, on one thread.
- *CPU ratio* is Lucent's CPU seconds a channel on one thread over ours: as if Lucent used two processors perfectly.
- *Matrix rate* is the share of the product rate of 1024² matrices, measured in the same process on one thread, that
  the arithmetic of our steps (forward and input gradient of the canvas, only the wanted channel of the last layer)
  amounts to in the CPU seconds spent.
- *Robust activation*: each picture as its 8-bit file, 16 fixed shifts of ±4 %, in ONNX Runtime. *own*: at the size at
  which the tool shows it to the network (Lucent's and the loop's: 224, ours: the canvas). *small*: the centre of the
  larger picture cut to our canvas. *224*: ours repeated like tiles up to 224, seams and all.

**What to keep in mind.** Under 13 pixels ±4 % is less than half a pixel: *own* and *small* are then measured without
any shift, and a picture may fit one phase of the stride alone; *224* shows it, since there it is shifted. Where a
canvas holds only three by three neurons, most of them see the padding beside the picture, and a picture may use that;
Lucent's must please all places of a larger map. Lucent's compared pictures were made on one thread and with frozen
weights, which changes no picture. Peak memory includes Python and torch. The loop was run through the whole network;
its original stopped at the layer.
"""


def _section(one: Table) -> str:
    timed = [kind for kind in ("cpu", "wall") if f"lucent/{kind}" in one.lines[0].times]
    ratios = {kind: np.array([line.ratio(kind) for line in one.lines]) for kind in timed}
    ours, theirs = (
        sum(float(np.median(line.times[f"{tool}/cpu"])) for line in one.lines) for tool in ("ours", "lucent")
    )
    lines = [
        f"\n### {one.title}\n",
        f"One-minute load averages at the ends of the timings: {', '.join(f'{load:.1f}' for load in one.load)}.\n",
        "| layer | field | canvas | ours, CPU s | Lucent, CPU s | loop, CPU s | CPU ratio | ours, wall s "
        "| Lucent, wall s | wall ratio | steps | of bfloat16 rate | of float32 rate |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for line in one.lines:
        seconds = {key: _spread(values) for key, values in line.times.items()}
        shares = [f"{line.rate / one.rates[name]:.1%}" for name in ("bfloat16", "float32")]
        cells = [
            line.layer, line.field, line.canvas, seconds["ours/cpu"], seconds["lucent/cpu"],
            seconds.get("loop/cpu", "–"), f"**{line.ratio('cpu'):.0f}**", seconds["ours/wall"],
            seconds.get("lucent/wall", "–"), f"{line.ratio('wall'):.0f}" if "wall" in timed else "–",
            f"{line.steps:.0f}", *shares,
        ]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    for kind, found in ratios.items():
        name = {"cpu": "CPU", "wall": "Wall"}[kind]
        slow = int((found < 30).sum())
        lines.append(
            f"\n{name} ratio: mean **{found.mean():.0f}**, geometric mean {np.exp(np.log(found).mean()):.0f}, least "
            f"{found.min():.0f} ({one.lines[int(found.argmin())].layer}); below 30 on {slow} of {len(found)} layers."
        )
    lines.append(
        f"\nTen layers together: {theirs / ours:.0f} times less CPU time. Matrix products on one thread: "
        f"{one.rates['float32'] / 1e9:.0f} GFLOP/s in float32, {one.rates['bfloat16'] / 1e9:.0f} in bfloat16. "
        f"Peak memory, MiB: ours {one.memory['ours']:.0f} (two tasks), Lucent {one.memory['lucent']:.0f}, the loop "
        f"{one.memory['loop']:.0f}.\n"
    )
    return "\n".join([*lines, *_activations(one), _verdict(one, ratios["cpu"])])


def _activations(one: Table) -> list[str]:
    lines = [
        "| layer | units | own: ours | Lucent | loop | small: ours | Lucent | loop | 224: ours | Lucent | loop |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for line in one.lines:
        if line.units:
            means = [f"{line.mean(tool, size):.3g}" for size in SIZES for tool in TOOLS]
            lines.append(f"| {line.layer} | {len(line.units)} | " + " | ".join(means) + " |")
    said = []
    for size, name in zip(SIZES, ("own", "small", "224"), strict=True):
        pairs = np.array([[unit.robust["ours", size], unit.robust["lucent", size]] for unit in one.units])
        positive = pairs[pairs[:, 1] > 0]
        if len(pairs):
            won = int((pairs[:, 0] >= pairs[:, 1]).sum())
            said.append(
                f"{name}: ours at least Lucent's in {won} of {len(pairs)}, median ratio "
                f"{np.median(positive[:, 0] / positive[:, 1]):.2f}"
            )
    return [*lines, f"\nUnit by unit: {'; '.join(said)}.\n"]


def _verdict(one: Table, ratios: np.ndarray) -> str:
    """The targets, and which of them are missed."""
    slow = [f"{line.layer} ({ratio:.0f})" for line, ratio in zip(one.lines, ratios, strict=True) if ratio < FLOOR]
    below = [f"{line.layer} ({ratio:.0f})" for line, ratio in zip(one.lines, ratios, strict=True) if ratio < MEAN]
    claims = [
        f"a mean of {MEAN}: {'reached' if ratios.mean() >= MEAN else '**missed**'}, by the geometric mean "
        f"{'reached' if np.exp(np.log(ratios).mean()) >= MEAN else '**missed**'}",
        f"no layer below {FLOOR}: {'**missed** at ' + ', '.join(slow) if slow else 'reached'}",
    ]
    for size, name in zip(SIZES, ("own sizes", "the smaller size", "224"), strict=True):
        lost = sum(unit.robust["ours", size] < unit.robust["lucent", size] for unit in one.units)
        claims.append(
            f"robust activation at {name}: "
            + (f"**lower in {lost} of {len(one.units)}**" if lost else "reached by all")
        )
    rest = f"Single layers below {MEAN}: {', '.join(below) or 'none'}"
    return f"\nTargets, in CPU seconds: {'; '.join(claims)}. {rest}.\n"


def _spread(values: np.ndarray) -> str:
    """The median, and least and greatest where there are several."""
    middle = f"{np.median(values):.2f}"
    return middle if len(values) == 1 else f"{middle} ({values.min():.2f}–{values.max():.2f})"


COST = """### Cost over the layers

Made by `python benchmarks/cost.py`: CPU seconds a channel at quality `standard`, one thread, layers of ResNet-50 and
VGG-16 (random weights) with inputs of 224 and of 512 pixels. The canvas decides, not the input, but for a layer as
wide as its whole map (VGG's first fully connected one and those behind it), whose canvas is the input or close to it.

![CPU seconds a channel over the layers of ResNet-50 and VGG-16, inputs of 224 and 512 pixels](cost.svg)
"""


def _plate_text(shown: list[Pictured]) -> str:
    return f"""### Side by side

![CPU seconds a channel, Lucent over ours, layer by layer](engines.svg)

{len(shown)} units, taken by the rule in `benchmarks/engines.py` and by no eye, each picture pixel by pixel as its tool
saves it (ours: the canvas; Lucent: 128 pixels):

![pictures of both tools](lucent-24.png)
"""
