"""The ascent beside Lucent and the loop of 2018: writes a part of docs/performance.md, docs/engines.svg and
docs/lucent-24.png.

The same networks, layers and channels for each tool, each in a process of its own, one after the other in turns.

    python benchmarks/engines.py                                   all of it: over an hour on two idle cores
    python benchmarks/engines.py --rounds 1 --channels 8 --keep results
    python benchmarks/engines.py --whole-input                     the preset `strong` at Lucent's own canvas
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import engine_pages
import numpy as np

from filterscope.analyzer.execution.plan import evenly_spaced

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT.parent / "shared" / "data" / "models" / "onnx"
LAYERS = 10
PLATE = 12  # units a network whose pictures stand side by side
WHOLE = "## At Lucent's own canvas"
MARK = "## Channel images beside Lucent and the loop of 2018"


@dataclass(frozen=True, slots=True)
class Subject:
    """A network of the comparison."""

    title: str
    model: str
    preprocessing: str

    @property
    def key(self) -> str:
        return self.model.partition("_")[0]


SUBJECTS = (
    Subject("MobileNetV2", "mobilenetv2_fp32_dequant.onnx", "imagenet"),
    Subject("SqueezeNet 1.0", "squeezenet1.0_fp16.onnx", "caffe-bgr"),
)


def chosen(subject: Subject, channels: int, pictures: int) -> list[tuple[str, list[int], list[int]]]:
    """Ten layers spread from the first to the last: name, channels, and the channels whose pictures are compared.

    Unit k of n pictures is of layer k · 10 / n, and there the channel of number 5 k modulo the count: no eye chose it.
    """
    from engine_tools import opened

    layers = opened(str(MODELS / subject.model), subject.preprocessing).layers
    picked = [layers[index * (len(layers) - 1) // (LAYERS - 1)] for index in range(LAYERS)]
    wanted = [list(evenly_spaced(layer.out_channels, channels)) for layer in picked]
    shown: list[list[int]] = [[] for _ in picked]
    for unit in range(pictures):
        place = unit * LAYERS // pictures
        channel = wanted[place][5 * unit % len(wanted[place])]
        if channel not in shown[place]:
            shown[place].append(channel)
    return [(layer.name, among, here) for layer, among, here in zip(picked, wanted, shown, strict=True)]


def run(tool: str, subject: Subject, plan: list, seed: int, steps: list[int], out: Path) -> None:
    """One tool on one network, in a process of its own; its results and its peak memory come to lie at `out`."""
    if out.is_file():
        return
    job = out.with_suffix(".json")
    made = out.with_suffix(".part.npz")
    model = str(MODELS / subject.model)
    content = {"tool": tool, "model": model, "preprocessing": subject.preprocessing, "seed": seed, "steps": steps}
    job.write_text(json.dumps(content | {"layers": plan, "out": str(made)}), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(ROOT / "benchmarks" / "engine_tools.py"), str(job)]
    process = subprocess.Popen(command, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{tool} on {subject.model}: exit status {os.waitstatus_to_exitcode(status)}")
    with np.load(made) as found:
        np.savez(out, **found, memory=np.array([usage.ru_maxrss / 1024]), load=np.array(os.getloadavg()))
    made.unlink()


def measured(subject: Subject, options: argparse.Namespace, folder: Path) -> list:
    """Everything of one network, into `folder`; what lies there already is kept."""
    plan = chosen(subject, options.channels, options.pictures)
    bare = [(name, among, []) for name, among, _ in plan]
    for part in options.parts:
        if part == "pictures":
            run("lucent", subject, plan, 0, [0, 0], folder / f"{subject.key}-lucent-pictures.npz")
            run("loop", subject, plan, 0, [0, 0], folder / f"{subject.key}-loop-pictures.npz")
            continue
        for turn in range(options.rounds):
            run("ours", subject, plan, turn, [0, 0], folder / f"{subject.key}-ours-{turn}.npz")
            run(
                "lucent",
                subject,
                bare,
                turn,
                [0 if options.busy else options.steps, options.steps],
                folder / f"{subject.key}-lucent-{turn}.npz",
            )
    return plan


def compare_on_whole_inputs(options: argparse.Namespace, folder: Path) -> str:
    """Ten layers of MobileNetV2 on 224 px, ours by `strong`: the text of their own section."""
    subject = SUBJECTS[0]
    plan = chosen(subject, options.channels, options.pictures)
    bare = [(name, among, []) for name, among, _ in plan]
    run("lucent", subject, plan, 0, [0, 0], folder / f"{subject.key}-lucent-pictures.npz")
    for turn in range(options.rounds):
        run("strong", subject, plan, turn, [0, 0], folder / f"{subject.key}-strong-{turn}.npz")
        steps = [0 if options.busy else options.steps, options.steps]
        run("lucent", subject, bare, turn, steps, folder / f"{subject.key}-lucent-{turn}.npz")
    return engine_pages.whole_input_section(WHOLE, subject, MODELS, plan, folder)


def with_section(page: str, mark: str, text: str) -> str:
    """A page with a section in place of the one of the same heading; a new one stands before MARK."""
    before, found, rest = page.partition(mark)
    if found:
        _, heading, after = rest.partition("\n## ")
        return before + text + heading + after
    before, found, rest = page.partition(MARK)
    return before + text + "\n" + found + rest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=16, help="a layer")
    parser.add_argument("--pictures", type=int, default=20, help="units a network whose activations are compared")
    parser.add_argument("--steps", type=int, default=24, help="of Lucent that are timed")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions of the timings, the tools in turns")
    parser.add_argument("--busy", action="store_true", help="the machine is busy: no wall times, only the processor's")
    parser.add_argument("--parts", nargs="*", default=["times", "pictures"], choices=["times", "pictures"])
    parser.add_argument("--only", default="", help="a part of a file name")
    parser.add_argument("--keep", type=Path, help="folder for results; what lies there already is not made again")
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    parser.add_argument("--no-page", action="store_true", help="measure only")
    parser.add_argument("--whole-input", action="store_true", help="the preset `strong` at Lucent's own canvas instead")
    options = parser.parse_args()
    if not MODELS.is_dir():
        raise SystemExit(f"{MODELS}: no such folder; the benchmark's networks are not part of the repository")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        page = options.out / "performance.md"
        if options.whole_input:
            text = compare_on_whole_inputs(options, folder)
            print(text)
            if not options.no_page:
                page.write_text(with_section(page.read_text(encoding="utf-8"), WHOLE, text), encoding="utf-8")
            return
        subjects = [subject for subject in SUBJECTS if options.only in subject.model]
        plans = {subject: measured(subject, options, folder) for subject in subjects}
        if options.no_page:
            return
        tables = [engine_pages.table(subject, MODELS, plan, folder) for subject, plan in plans.items()]
        engine_pages.plot(tables, options.out / "engines.svg")
        shown = engine_pages.plate(tables, PLATE, options.out / "lucent-24.png")
        machine = f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}"
        text = engine_pages.page(MARK, tables, options, machine, shown)
    before = page.read_text(encoding="utf-8") if page.is_file() else "# Performance\n\n"
    page.write_text(before.partition(MARK)[0] + text, encoding="utf-8")


if __name__ == "__main__":
    main()
