"""How long a whole analysis takes: `make bench` writes docs/speed.md.

Runs the command as a user does, in a process of its own, and reads time and memory from the system's accounting of it.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

DATA = Path("../shared/data")
MODELS = DATA / "models" / "onnx"
PHOTOS = DATA / "images" / "imagenet_mini_100"

HEAD = """# How long an analysis takes

Made by `make bench`: `filterscope analyze … --quality draft`, pages included, each run in a process of its own.

| network | images | channels | ascents | wall, s | ascents a second | peak memory, MiB | run and site, MB |
|---|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Job:
    """One analysis."""

    model: str
    images: Path
    options: tuple[str, ...]


JOBS = (
    Job("mnist_cntk.onnx", DATA / "mnist" / "mnist_12000_2000.npz:0-11", ()),
    Job("svhn_cnn6.onnx", DATA / "svhn", ("--mean", "0.4377,0.4438,0.4728", "--std", "0.198,0.201,0.197")),
    Job("ultraface_rfb_320.onnx", PHOTOS, ("--high", "255", "--mean", "127", "--std", "128", "--resize", "squash")),
    Job("ppocr_v4_det.onnx", PHOTOS, ("--preprocess", "imagenet")),
    Job("mobilenetv2_fp32_dequant.onnx", PHOTOS, ("--preprocess", "imagenet")),
)


def measure(job: Job, extra: list[str], folder: Path) -> str:
    """One line of the table."""
    out = folder / job.model
    command = [sys.executable, "-m", "filterscope", "analyze", str(MODELS / job.model), "--images", str(job.images)]
    started = time.perf_counter()
    command += ["--out", str(out), "--quiet", *job.options, *extra]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    if status:
        raise SystemExit(f"{job.model}: exit status {os.waitstatus_to_exitcode(status)}")
    info = json.loads((out / "run.json").read_text(encoding="utf-8"))
    layers = json.loads((out / "layers.json").read_text(encoding="utf-8"))["layers"]
    channels = sum(len(layer["channels"]) for layer in layers)
    ascents = channels * len(info["settings"]["objectives"])
    images = len(list((out / "images").glob("*.json")))
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 1e6
    shutil.rmtree(out)
    return (
        f"| {job.model} | {images} | {channels:,} of {info['model']['conv_channels']:,} | {ascents:,} | {wall:.0f} "
        f"| {ascents / info['timings']['maximize']:.1f} | {usage.ru_maxrss / 1024:.0f} | {size:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/speed.md"))
    parser.add_argument("--only", help="a part of a file name")
    parser.add_argument("extra", nargs="*", help="further options of analyze, after --")
    options = parser.parse_args()
    if not MODELS.is_dir():
        raise SystemExit(
            f"{MODELS}: no such folder; the benchmark's networks and photos are not part of the repository"
        )
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for job in JOBS:
            if options.only is None or options.only in job.model:
                lines.append(measure(job, options.extra, Path(folder)))
                print(lines[-1], flush=True)
    machine = f"\n{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}.\n"
    options.out.write_text(HEAD + "\n".join(lines) + "\n" + machine, encoding="utf-8")


if __name__ == "__main__":
    main()
