"""What a report costs: its size, the time to render it, how fast its pages open and scroll.

    python benchmarks/report.py RUN OUT

RUN is a real run of MobileNetV2 (some channels of every layer are enough). Two large runs are made of its pictures and
maps: MobileNetV2 with all its 17,056 channels, and a network of ResNet-50's shape with 26,560; channels beyond those of
RUN get the picture of another, mirrored or turned, so that files are as hard to compress as real ones. Channels of the
later half of the layers have four diverse pictures each, as the default plan makes them. Both are
rendered in processes of their own and visited with Chromium. Figures go to docs/performance-report.md.
"""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from filterscope.analyzer.run import atlas
from filterscope.analyzer.run.layout import TaskKey
from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.tables import MAP_SCHEMA, UNIT_SCHEMA
from filterscope.analyzer.run.writer import RunWriter

TASK = 256
SCROLL = """async () => {
  const frames = [];
  const tasks = [0];
  new PerformanceObserver(list => tasks.push(...list.getEntries().map(e => e.duration))).observe({type: 'longtask'});
  let last = performance.now();
  const step = Math.max(40, document.documentElement.scrollHeight / 240);
  for (let y = 0; y < document.documentElement.scrollHeight - innerHeight; y += step) {
    scrollTo(0, y);
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    frames.push(now - last);
    last = now;
  }
  frames.sort((a, b) => a - b);
  await new Promise(done => setTimeout(done, 100));
  return [frames.length, frames[Math.floor(frames.length / 2)], frames.at(-1), Math.max(...tasks)];
}"""
READY = """async () => {
  await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
  const entry = performance.getEntriesByType('navigation')[0];
  return [entry.domContentLoadedEventEnd, entry.loadEventEnd, performance.now()];
}"""


def altered(tile: np.ndarray, index: int) -> np.ndarray:
    """The index-th of 8 mirrored and turned versions of a picture, its colours turned too, (H, W, C)."""
    square = tile.shape[0] == tile.shape[1]
    found = np.rot90(tile, index % 4 if square else 2 * (index % 2))
    found = found[:, ::-1] if index // 4 % 2 else found
    return np.ascontiguousarray(np.roll(found, index // 8, axis=2) if tile.shape[2] == 3 else found)


def inflate(source: Run, layers: list[dict[str, Any]], of: dict[str, str], out: Path) -> None:
    """Write a run of these layers, all channels of them, from the pictures and maps of another.

    Args:
        source: the real run.
        layers: of layers.json, `analysed` and `channels` set.
        of: layer → the layer of `source` whose pictures and maps it gets.
        out: folder.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in source.units.to_pylist():
        rows.setdefault(row["layer"], []).append(row)
    slugs = {layer["name"]: layer["slug"] for layer in source.layers}
    with RunWriter(out, "plan") as writer:
        writer.write_json("layers.json", {"schema": 1, "layers": layers})
        for index in range(len(source.images)):
            for suffix in ("png", "json"):
                writer.write_bytes(
                    f"images/{index}.{suffix}", (source.folder / f"images/{index}.{suffix}").read_bytes()
                )
        for layer in layers:
            of_kind: dict[tuple[str, str], list[dict[str, Any]]] = {}
            for row in rows[of[layer["name"]]]:
                if not row["objective"].startswith("diversity"):
                    of_kind.setdefault((row["objective"], row["method"]), []).append(row)
            for (objective, method), known in of_kind.items():
                tiles = [source.tile(row) for row in known]
                for first in range(0, len(layer["channels"]), TASK):
                    part = layer["channels"][first : first + TASK]
                    made = np.stack([altered(tiles[c % len(tiles)], c // len(tiles)) for c in part])
                    told = [known[c % len(known)] | {"layer": layer["name"], "channel": c} for c in part]
                    writer.write_task(TaskKey(layer["slug"], f"{objective}-{method}", part[0], part[-1]), told, made)
            if layer["index"] >= len(layers) / 2:
                write_diverse(writer, layer)
            write_maps(writer, source, slugs[of[layer["name"]]], layer)
        writer.write_info({**source.info.json} | {"status": "complete"})
        writer.write_units()


def write_diverse(writer: RunWriter, layer: dict[str, Any]) -> None:
    """Give each channel of a layer four diverse pictures, as a run of the default plan has in its later half.

    They are the pictures of four other channels of its task, so that no file grows by them but those of the report.
    """
    folder = writer.folder / "tasks" / layer["slug"]
    for path in sorted(folder.glob("channel-ascent-*.parquet")):
        rows = pq.read_table(path).to_pylist()
        diverse = [
            row
            | {"objective": f"diversity-{number}"}
            | {name: rows[(index + 7 * number) % len(rows)][name] for name in ("atlas", "tile")}
            for index, row in enumerate(rows)
            for number in range(1, 5)
        ]
        name = path.name.replace("channel-ascent", "diversity-ascent")
        writer.write_table(f"tasks/{layer['slug']}/{name}", pa.Table.from_pylist(diverse, UNIT_SCHEMA))


def write_maps(writer: RunWriter, source: Run, slug: str, layer: dict[str, Any]) -> None:
    """All maps of a layer from those of another."""
    told = []
    of_image: dict[int, list[dict[str, Any]]] = {}
    for row in source.maps(slug).to_pylist():
        of_image.setdefault(row["image"], []).append(row)
    for image, known in of_image.items():
        tiles = [source.tile(row) for row in known]
        made = np.stack([altered(tiles[c % len(tiles)], c // len(tiles)) for c in layer["channels"]])
        name = f"maps/{layer['slug']}-{image}.png"
        writer.write_bytes(name, atlas.to_png(atlas.pack(made)))
        told += [
            known[c % len(known)] | {"channel": c, "atlas": name, "tile": tile}
            for tile, c in enumerate(layer["channels"])
        ]
    writer.write_table(f"maps/{layer['slug']}.parquet", pa.Table.from_pylist(told, MAP_SCHEMA))


def whole(source: Run) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The source's own layers with all their channels."""
    layers = [{**layer.json} | {"channels": list(range(layer["out_channels"]))} for layer in source.layers]
    return layers, {layer["name"]: layer["name"] for layer in layers}


def resnet50(source: Run) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """ResNet-50's 53 convolutions, 26,560 channels, each with the pictures of the source's layer of the same depth."""
    layers: list[dict[str, Any]] = []
    of: dict[str, str] = {}

    def add(name: str, channels: int, side: int, predecessors: list[str]) -> str:
        share = len(layers) / 53
        like = min(
            (la for la in source.layers if la["output_shape"][1] <= side),
            key=lambda la: (abs(la["output_shape"][1] - side), abs(la["index"] / len(source.layers) - share)),
        )
        layers.append(
            {
                **like.json,
                "index": len(layers),
                "name": name,
                "slug": name.replace(".", "-"),
                "out_channels": channels,
                "output_shape": [channels, *like["output_shape"][1:]],
                "channels": list(range(channels)),
                "predecessors": predecessors,
                "depth": len(layers),
                "sees_image": not predecessors,
            }
        )
        of[name] = like["name"]
        return name

    feeding = [add("conv1", 64, 112, [])]
    for stage, (blocks, width, side) in enumerate(((3, 64, 56), (4, 128, 28), (6, 256, 14), (3, 512, 7)), 1):
        for block in range(blocks):
            stem = f"layer{stage}.{block}"
            first = add(f"{stem}.conv1", width, side, feeding)
            second = add(f"{stem}.conv2", width, side, [first])
            third = add(f"{stem}.conv3", 4 * width, side, [second])
            skip = [add(f"{stem}.downsample", 4 * width, side, feeding)] if block == 0 else feeding[:1]
            feeding = [third, *skip]
    return layers, of


def render_apart(folder: Path) -> dict[str, Any]:
    """Render a run in a process of its own."""
    code = (
        "import sys, time, json, resource; from pathlib import Path; from filterscope.analyzer.run.reader import Run;"
        "from filterscope.reports.site.site import render, render_single;"
        "run = Run(sys.argv[1]); started = time.process_time();"
        "render(run); seconds = time.process_time() - started;"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "file = render_single(run); single = time.process_time() - started - seconds;"
        "print(json.dumps([seconds, peak / 1024, single, file.stat().st_size]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], check=True, capture_output=True, text=True)
    seconds, peak, single, size = json.loads(done.stdout)
    files = [path for path in (folder / "site").rglob("*") if path.is_file()]
    return {
        "cpu": seconds,
        "peak": peak,
        "single_cpu": single,
        "single": size / 1e6,
        "site": sum(path.stat().st_size for path in files) / 1e6,
        "run": sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and "site" not in p.parts) / 1e6,
        "files": len(files),
    }


def visit(folder: Path) -> list[tuple[str, float, float, str]]:
    """Open each kind of page, scroll the widest layer; (page, seconds to load, CPU seconds of the script, frames)."""
    from playwright.sync_api import sync_playwright

    site = folder / "site"
    widest = max(Run(folder).layers, key=lambda layer: layer["out_channels"])
    name = f"layer-{widest['slug']}.html"
    told = []
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for path in ("index.html", name, f"{name}#5", "image-0.html", "method.html", "../report.html"):
            page = browser.new_context(viewport={"width": 1300, "height": 900}, offline=True).new_page()
            session = page.context.new_cdp_session(page)
            session.send("Performance.enable")
            page.goto(f"{site.resolve().as_uri()}/{path}")
            ready = page.evaluate(READY)
            metrics = {m["name"]: m["value"] for m in session.send("Performance.getMetrics")["metrics"]}
            frames = ""
            if path == name:
                count, middle, worst, task = page.evaluate(SCROLL)
                longest = f"longest task {task:.0f} ms" if task else "no task above 50 ms"
                frames = f"{count} frames, median {middle:.0f} ms, worst {worst:.0f} ms; {longest}"
            told.append((path, ready[0] / 1000, metrics["TaskDuration"], frames))
            page.context.close()
        browser.close()
    return told


def main() -> None:
    """Make, render, visit and write down."""
    source, out = Run(sys.argv[1]), Path(sys.argv[2])
    lines = []
    for title, shape in (("MobileNetV2, all channels", whole), ("ResNet-50's shape", resnet50)):
        folder = out / re.sub(r"\W+", "-", title.lower())
        layers, of = shape(source)
        if not (folder / "units.parquet").is_file():
            inflate(source, layers, of, folder)
        units = sum(len(layer["channels"]) for layer in layers)
        cost = render_apart(folder)
        rate = units / cost["cpu"] * 60
        lines += [
            f"## {title}: {units:,} channels, {len(source.images)} images",
            "",
            "| | |",
            "|---|---|",
            f"| run on disk | {cost['run']:.0f} MB |",
            f"| site | {cost['site']:.0f} MB in {cost['files']:,} files |",
            f"| one file | {cost['single']:.1f} MB, {cost['single_cpu']:.0f} CPU seconds |",
            f"| rendered | {cost['cpu']:.0f} CPU seconds: {rate:,.0f} channels a minute |",
            f"| memory, at most | {cost['peak']:.0f} MiB |",
            "",
            "| page | ready (s, wall) | main thread (CPU s) | scrolled from top to bottom |",
            "|---|---|---|---|",
            *(f"| {name} | {ready:.2f} | {busy:.2f} | {frames} |" for name, ready, busy, frames in visit(folder)),
            "",
        ]
        sys.stdout.write(f"{title} done\n")
    text = Path(__file__).parents[1] / "docs" / "performance-report.md"
    head = text.read_text(encoding="utf-8").split("\n## ")[0].rstrip() if text.is_file() else "# What a report costs"
    text.write_text(f"{head}\n\n" + "\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    started = time.perf_counter()
    main()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(f"{time.perf_counter() - started:.0f} s in all, {peak:.0f} MiB to make the runs\n")
