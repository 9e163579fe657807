"""What the pass over a data set costs, and whether its patches are what the units saw: writes docs/examples-pass.md.

Each measurement runs in a process of its own. Time is CPU time of the process, all threads; memory is its peak.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq

from filterscope import demo
from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.data.dataset import batches, open_dataset
from filterscope.analyzer.data.images import fit
from filterscope.analyzer.execution.plan import Settings
from filterscope.analyzer.network.network import InputOptions
from filterscope.analyzer.network.preprocessing import preset
from filterscope.analyzer.progress import Silent
from filterscope.analyzer.run.layout import slugs
from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.writer import RunWriter
from filterscope.analyzer.studies.examples import pass_over_data
from filterscope.analyzer.studies.examples.examples import Examples
from filterscope.analyzer.studies.examples.pass_over_data import BATCH, BATCH_BYTES, MOST_AT_ONCE, Survey, at_once
from filterscope.analyzer.studies.study import perform

DATA = Path("../shared/data")
CIFAR = DATA / "cifar10" / "cifar10_train_40000_webp_q80.npz"
MOBILENET = DATA / "models" / "onnx" / "mobilenetv2_fp32_dequant.onnx"
PHOTOS = DATA / "images" / "imagenet_mini_100"
CHECKED = 200  # random top examples whose patch is put back
TIMED = 10_000  # images
WARM = 10  # batches before the clock starts: libraries are loaded, memory is there
COUNTS = (1_000, 10_000, 40_000)  # images

TEXT = """# The pass over a data set: what it costs, and whether it is right

Made by `python benchmarks/examples.py` on {machine}. CPU seconds of all threads,
each measurement in a process of its own; the machine was shared with other work, so wall time is not told.

## Time

Statistics and the nine strongest places of every channel of every conv layer, and what the network and its channels
answer to each class: {time_images:,} CIFAR-10 images (WebP
inside an .npz), the bundled network. *Fetched*: the same images through ONNX Runtime in batches of the same size, all
conv outputs fetched and thrown away. The least of {rounds} rounds, taken in turns. Target: a ratio of at most 2.

| | fetched, CPU s | measured, CPU s | ratio |
|---|--:|--:|--:|
| images read on the way, as the study does | {fetched[read]:.2f} | {measured[read]:.2f} | **{read:.2f}** |
| images in memory before the clock starts | {fetched[alone]:.2f} | {measured[alone]:.2f} | **{alone:.2f}** |

Pictures, heat maps and tables ({measured[second]:,} images read again, {measured[maps]:,} maps kept) come once, after
the pass: {measured[tables]:.2f} s.

## Memory

The whole study on the bundled network, in one process with Python and its libraries. Target: under 1,536 MiB, and flat,
but for the sample of the units' maxima on labelled images, which grows up to 256 MiB.

| images | peak, MiB | CPU s |
|--:|--:|--:|
{memory}

## Patches

Of {checked} random top examples of layers before which no global operation stands, the patch is cut by the recorded
field and put alone, at its own place, on a grey and on a random picture; ONNX Runtime then says what the unit answers.
At its own place, since what a field sees beyond the image is padding, which is there and nowhere else. The error is
relative to the unit's largest absolute pre-activation on the data set. Target: 1e-4.

| network | images | examples | fields that reach beyond the image | fields that are the whole image | largest error |
|---|--:|--:|--:|--:|--:|
{patches}

## A larger network

MobileNetV2 (52 layers, 17,056 channels, of which 16 a layer with pictures), {photos[images]} photos, the whole study:
{photos[cpu]:.1f} CPU s, peak {photos[peak]:,.0f} MiB, {photos[size]:.1f} MiB of files. The same photos read and sent
through with all conv outputs fetched: {photos[fetching]:.1f} CPU s. A pass costs more beside a network whose
convolutions are cheap (depthwise) and whose maps are many; and of so few images nearly all are among the strongest of
some channel, so that they are read and run twice, and 64 places of each map are sampled instead of 4.
"""


def context(network, writer, most=None):
    """What the study needs of a run, without its other parts."""
    channels = {layer.name: tuple(range(layer.out_channels))[:most] for layer in network.layers}
    names = slugs([layer.name for layer in network.layers])
    return SimpleNamespace(
        network=network, shop=SimpleNamespace(device=None), writer=writer, settings=Settings(), channels=channels,
        slugs=names, labels=demo.labels() if len(network.layers) == 4 else (), progress=Silent(), notes=[],
        unfinished=None,
    )  # fmt: skip


def strongest(run, slug):
    """The strongest places of a layer's channels; the run has no list of layers."""
    return pq.read_table(run.folder / "examples" / f"{slug}.parquet").to_pylist()


def some(count):
    return [f"{CIFAR}:0-{count - 1}"]


def ready(data, network):
    """The batches that the pass would make, in memory."""
    size = at_once(network, BATCH_BYTES, MOST_AT_ONCE)
    return list(batches(data, network.input, "auto", size, boundary=BATCH))


def through(network, data, session, given=None):
    """CPU seconds of a data set's way through a session, whose answers are thrown away."""
    size = at_once(network, BATCH_BYTES, MOST_AT_ONCE)
    started = time.process_time()
    for batch in given or batches(data, network.input, "auto", size, boundary=BATCH):
        session.run(network.input.to_model(batch.pixels))
    return time.process_time() - started


def fetching(network):
    """A session that answers with every conv output."""
    return network.session([layer.value for layer in network.layers], (network.input.height, network.input.width))


def fetched(count):
    network, data = demo.network(), open_dataset(some(count))
    session = fetching(network)
    kept = ready(data, network)
    through(network, data, session, kept[:WARM])
    return {"alone": through(network, data, session, kept), "read": through(network, data, session)}


def passed(network, data):
    """A pass, and its CPU seconds."""
    started = time.process_time()
    found = Survey(network, network.layers, data, top=9, resize="auto", seed=0, labels=demo.labels())
    for _ in found.run():
        pass
    return found, time.process_time() - started


def measured(count):
    network, data = demo.network(), open_dataset(some(count))
    kept, reading = ready(data, network), pass_over_data.batches
    pass_over_data.batches = lambda *_, **__: kept[:WARM]
    passed(network, data)
    pass_over_data.batches = lambda *_, **__: kept
    _, alone = passed(network, data)
    pass_over_data.batches = reading
    found, read = passed(network, data)
    with tempfile.TemporaryDirectory() as folder, RunWriter(Path(folder), "plan") as writer:
        writer.write_info({})
        study, around = Examples(some(count)), context(network, writer)
        study._measure_data = lambda *_: found
        started = time.process_time()
        study.run(around)
        tables = time.process_time() - started
        run = Run(Path(folder))
        maps = sum(row["atlas"] is not None for slug in around.slugs.values() for row in strongest(run, slug))
        second = len(run.table("examples/pictures.parquet"))
    return {"alone": alone, "read": read, "tables": tables, "second": second, "maps": maps}


def peak():
    """The most memory that this process has held, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory(count):
    network = demo.network()
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder, RunWriter(Path(folder), "plan") as writer:
        writer.write_info({})
        perform(Examples(some(count)), context(network, writer))
    return {"cpu": time.process_time() - started, "peak": peak()}


def put_back(run, network, data, slug_of, rng):
    """Errors of random examples whose patch stands alone at its own place."""
    spec = network.input
    image_of = {row["example"]: row["image"] for row in run.table("examples/pictures.parquet").to_pylist()}
    units = run.table("examples/units.parquet").to_pylist()
    scale = {(unit["layer"], unit["channel"]): max(abs(unit["minimum"]), abs(unit["maximum"])) for unit in units}
    layers = [layer for layer in network.layers if layer.field is not None and not layer.is_global]
    rows = [(layer, row) for layer in layers for row in strongest(run, slug_of[layer.name])]
    sessions, errors, whole, beyond = {}, [], 0, 0
    for index in rng.choice(len(rows), min(CHECKED, len(rows)), replace=False):
        layer, row = rows[index]
        pixels = fit(data.read(image_of[row["example"]]), spec)
        ends = row["top"] + row["field_height"], row["left"] + row["field_width"]
        inside = (
            slice(max(0, row["top"]), min(spec.height, ends[0])),
            slice(max(0, row["left"]), min(spec.width, ends[1])),
        )
        whole += pixels[inside].shape == pixels.shape
        beyond += row["top"] < 0 or row["left"] < 0 or ends[0] > spec.height or ends[1] > spec.width
        if layer.name not in sessions:
            sessions[layer.name] = network.session([layer.value], (spec.height, spec.width))
        for neutral in (np.full_like(pixels, 128), rng.integers(0, 256, pixels.shape, dtype=np.uint8)):
            neutral[inside] = pixels[inside]
            found = sessions[layer.name].run(spec.to_model(neutral[None]))[layer.value]
            seen = float(found[0, row["channel"], row["row"], row["column"]])
            errors.append(abs(seen - row["activation"]) / max(1e-6, scale[layer.name, row["channel"]]))
    return {"examples": len(errors) // 2, "worst": max(errors), "whole": whole, "beyond": beyond}


def patches(which):
    if which == "demo":
        network, sources = demo.network(), some(2000)
    else:
        network, sources = open_network(MOBILENET, InputOptions(preprocessing=preset("imagenet"))), [PHOTOS]
    with tempfile.TemporaryDirectory() as folder, RunWriter(Path(folder), "plan") as writer:
        writer.write_info({})
        study, around = Examples(sources), context(network, writer, 16)
        alone = through(network, study.data, fetching(network))
        started = time.process_time()
        perform(study, around)
        told = {"cpu": time.process_time() - started, "peak": peak(), "images": len(study.data)}
        told |= put_back(Run(Path(folder)), network, study.data, around.slugs, np.random.default_rng(0))
        told["size"] = sum(path.stat().st_size for path in Path(folder, "examples").iterdir()) / 2**20
    return told | {"fetching": alone}


JOBS = {"fetched": fetched, "measured": measured, "memory": memory, "patches": patches}


def job(*arguments):
    command = [sys.executable, __file__, "--job", *map(str, arguments)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    print(*arguments, answer.strip(), flush=True)
    return json.loads(answer)


def least(found):
    return {name: min(one[name] for one in found) for name in found[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/examples-pass.md"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--job", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        name, argument = options.job
        print(json.dumps(JOBS[name](int(argument) if argument.isdecimal() else argument)))
        return
    if not CIFAR.is_file():
        raise SystemExit(f"{CIFAR}: no such file; the benchmark's data are not part of the repository")
    rounds = [(job("fetched", TIMED), job("measured", TIMED)) for _ in range(options.rounds)]
    fetched_least, measured_least = least([one for one, _ in rounds]), least([other for _, other in rounds])
    memories = [(count, job("memory", count)) for count in COUNTS]
    put = {"bundled": job("patches", "demo"), "MobileNetV2": job("patches", "mobilenet")}
    text = TEXT.format(
        machine=f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}",
        time_images=TIMED,
        rounds=options.rounds,
        fetched=fetched_least,
        measured=measured_least,
        read=measured_least["read"] / fetched_least["read"],
        alone=measured_least["alone"] / fetched_least["alone"],
        memory="\n".join(f"| {count:,} | {m['peak']:,.0f} | {m['cpu']:.1f} |" for count, m in memories),
        checked=CHECKED,
        patches="\n".join(
            f"| {name} | {p['images']:,} | {p['examples']} | {p['beyond']} | {p['whole']} | {p['worst']:.1e} |"
            for name, p in put.items()
        ),
        photos=put["MobileNetV2"],
    )
    options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
