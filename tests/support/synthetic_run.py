"""A run on disk without any network: made-up layers, Gabor patches for pictures, blobs for maps.

For tests of whatever reads runs. Everything is a function of the numbers given: the same call writes the same run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from filterscope.analyzer.run import atlas
from filterscope.analyzer.run.layout import TaskKey, slugs
from filterscope.analyzer.run.tables import MAP_SCHEMA
from filterscope.analyzer.run.writer import RunWriter
from support.synthetic_studies import write_studies

HOSTILE_NAMES = (
    "../../x<script>alert(1)</script>",
    "</script><b>",
    "conv 🦊/été",
    "شبكة\u202eevil",
    "n" * 300,
    "{{ 7*7 }}",
    "C:\\con\x00\x1b[31m",
    '" onmouseover="alert(1)',
)
STATUSES = {1: "unraised", 2: "dead", 3: "diverged"}  # channel modulo 12 → status; others are ok
TASK = 64  # channels a task


def synthetic_run(
    folder: Path,
    *,
    layers: int = 3,
    channels: int = 6,
    images: int = 3,
    names: Sequence[str] | None = None,
    size: tuple[int, int] = (48, 64),
    bands: int = 3,
    picture: int = 20,
    status: str = "complete",
    statuses: dict[int, str] = STATUSES,
    unfinished: Sequence[str] = (),
    not_analysed: int = 1,
    certain: bool = True,
    studies: bool = False,
    branches: bool = False,
    diverse: int = 0,
    first: Sequence[str] = (),
    outline: bool = True,
) -> Path:
    """Write a run.

    Args:
        folder: to write into.
        layers: analysed ones; the first sees the image.
        channels: of each analysed layer, all of them analysed.
        images: given by the user; the first 12 have pictures of their maps.
        names: of the layers, of the images and of the model, repeated as needed.
        size: (height, width) of the network's input.
        bands: of the input.
        picture: the longer side of the maximised pictures of the second layer; each layer's is larger by half.
        status: of run.json.
        statuses: of units, by channel modulo 12.
        unfinished: layers (as `conv0`) whose neuron pictures and maps are not there yet.
        not_analysed: layers at the end that the run lists only.
        certain: whether the preprocessing is known.
        studies: whether every study was done.
        branches: whether the layers branch and join: layer 3n + 3 follows both layers before it, which follow 3n.
        diverse: so many channels of the second layer have diverse pictures, of the odd ones four times the same.
        first: layers (as `conv0`) whose channel pictures are first ones.
        outline: whether graph.json is there, which older versions did not write.

    Returns:
        The folder.
    """
    rng = np.random.default_rng(0)
    total = layers + not_analysed
    named = [f"{names[i % len(names)]}{i // len(names) or ''}" if names else f"features.{i}.conv" for i in range(total)]
    of = slugs(named)
    facts = [_layer(i, named, of, channels, size, analysed=i < layers, picture=picture) for i in range(total)]
    if branches:
        for index, fact in enumerate(facts):
            feeding = [index - 1, index - 2] if index % 3 == 0 else [index // 3 * 3]
            fact["predecessors"] = [named[i] for i in feeding if 0 <= i < index]
            fact["depth"] = max((facts[i]["depth"] + 1 for i in feeding if 0 <= i < index), default=0)
    with RunWriter(folder, "plan") as writer:
        writer.write_json("layers.json", {"schema": 1, "layers": facts})
        if outline:
            writer.write_json("graph.json", {"schema": 1} | _outline(facts))
        for index in range(images):
            label = names[index % len(names)] if names else f"photo-{index}.jpg"
            _write_image(writer, index, label, size, bands)
        for fact in facts[:layers]:
            done = f"conv{fact['index']}" not in unfinished
            is_first = f"conv{fact['index']}" in first
            _write_pictures(writer, fact, bands, statuses, neuron=done, is_first=is_first)
            if fact["index"] == 1 and diverse:
                _write_diverse(writer, fact, bands, diverse)
            if images and done:
                _write_maps(writer, fact, images, rng)
        if studies:
            write_studies(writer, facts, images, size, bands)
        writer.write_info(
            _info(facts, names[0] if names else "synthetic.onnx", size, bands, status, certain, unfinished)
        )
        if status == "complete":
            writer.write_units()
    return folder


def _layer(
    index: int,
    names: Sequence[str],
    slug_of: dict[str, str],
    channels: int,
    size: tuple[int, int],
    *,
    analysed: bool,
    picture: int,
) -> dict[str, Any]:
    side = max(1, round(picture * 1.5 ** (index - 1)))
    canvas = [min(size[0], side), min(size[1], side)]
    maps = [max(1, size[0] >> (index + 1)), max(1, size[1] >> (index + 1))]
    field = [min(size[0], 2 ** (index + 2) - 1)] * 2
    return {
        "index": index,
        "name": names[index],
        "slug": slug_of[names[index]],
        "node": f"/node/{names[index]}",
        "value": f"value_{index}",
        "op": "ConvTranspose" if index == 2 else "Conv",
        "rank": 2 if analysed else 1,
        "kernel": [3, 3] if analysed else [5],
        "stride": [2, 2] if analysed else [1],
        "dilation": [1, 1] if analysed else [1],
        "pads": [1, 1, 1, 1] if analysed else [2, 2],
        "auto_pad": "NOTSET",
        "groups": channels if index == 1 else 1,
        "in_channels": 3 if index == 0 else channels,
        "out_channels": channels,
        "output_shape": [channels, *maps] if analysed else [channels, 17],
        "parameters": 27 * channels,
        "macs": 27 * channels * maps[0] * maps[1],
        "bias": index % 2 == 0,
        "batchnorm": index % 2 == 1,
        "nonlinearity": ("relu6", "relu", "silu", "none")[index % 4],
        "field": {
            "size": field if analysed else None,
            "jump": [2.0, 2.0] if analysed else None,
            "start": [-1.0, -1.0] if analysed else None,
            "global": index == 2,
            "local": analysed,
        },
        "depth": index,
        "predecessors": [names[index - 1]] if index else [],
        "sees_image": index == 0,
        "analysed": analysed,
        "channels": list(range(channels)) if analysed else [],
        "canvas": {"channel": canvas, "neuron": canvas},
    }


def _outline(layers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The layers with an activation and a pool behind each, a sum where several feed one, a dense layer at the end."""
    entries: list[dict[str, Any]] = []

    def add(kind: str, steps: Sequence[str], sources: Sequence[int], **facts: Any) -> int:
        blank = {"name": f"/{kind}", "layer": None, "shape": [8, 4, 4], "nodes": len(steps)}
        entries.append(blank | {"kind": kind, "steps": list(steps), "sources": list(sources)} | facts)
        return len(entries) - 1

    image = add("input", [], [], name="input")
    end: dict[str, int] = {}
    for layer in layers:
        feeding = [end[name] for name in layer["predecessors"]] or [image]
        source = add("join", ["Add"], feeding) if len(feeding) > 1 else feeding[0]
        own = {"name": layer["node"], "layer": layer["index"], "shape": layer["output_shape"]}
        end[layer["name"]] = add("chain", ["relu6", "MaxPool"], [add("layer", [layer["op"]], [source], **own)])
    ends = [end[layer["name"]] for layer in layers if not any(layer["name"] in la["predecessors"] for la in layers)]
    joined = add("join", ["Concat"], ends) if len(ends) > 1 else ends[0]
    add("output", [], [add("dense", ["Gemm"], [joined], shape=[1000])], name="logits", shape=[1000])
    return {"nodes": sum(entry["nodes"] for entry in entries), "left_out": "", "entries": entries}


def _write_pictures(
    writer: RunWriter, layer: dict[str, Any], bands: int, statuses: dict[int, str], *, neuron: bool, is_first: bool
) -> None:
    for first in range(0, len(layer["channels"]), TASK):
        part = layer["channels"][first : first + TASK]
        for objective in ("channel", "neuron") if neuron else ("channel",):
            tiles = np.stack([gabor(layer["index"], c, layer["canvas"][objective], bands) for c in part])
            rows = [_row(layer, channel, objective, "ascent", statuses) for channel in part]
            early = is_first and objective == "channel"
            writer.write_task(TaskKey(layer["slug"], f"{objective}-ascent", part[0], part[-1], early), rows, tiles)
        rows = [_row(layer, channel, "neuron", "analytic", statuses) for channel in part]
        height, width, planes = (3, 3, bands) if layer["sees_image"] else (9, 9, 1)
        tiles = np.stack([gabor(layer["index"] + 9, channel, [height, width], planes) for channel in part])
        writer.write_task(TaskKey(layer["slug"], "neuron-analytic", part[0], part[-1]), rows, tiles)


def _write_diverse(writer: RunWriter, layer: dict[str, Any], bands: int, channels: int) -> None:
    rows, tiles = [], []
    for channel in range(channels):
        for number in range(4):
            row = _row(layer, channel, f"diversity-{number + 1}", "ascent", {})
            rows.append(row | {"activation": row["activation"] * (1 - 0.1 * ((number + channel) % 4))})
            picture = gabor(90 if channel % 2 else 90 + number, channel, layer["canvas"]["channel"], bands)
            tiles.append(picture ^ np.uint8(number % 2))  # so that no two are equal
    writer.write_task(TaskKey(layer["slug"], "diversity-ascent", 0, channels - 1), rows, np.stack(tiles))


def _row(layer: dict[str, Any], channel: int, objective: str, method: str, statuses: dict[int, str]) -> dict[str, Any]:
    activation = 3.0 + (channel * 37 % 101) / 7 + layer["index"]
    random = 0.31 * activation
    status = statuses.get(channel % 12, "ok") if method == "ascent" else "ok"
    if status == "unraised":
        random = activation * 1.25
    if status == "dead":
        activation, random = -activation, -2 * activation
    exact = method == "analytic" and layer["sees_image"]
    bound = activation if exact else 2.5 * abs(activation) + 1
    return {
        "layer": layer["name"],
        "channel": channel,
        "objective": objective,
        "method": method,
        "space": "input" if method == "analytic" and not layer["sees_image"] else "image",
        "activation": None if status == "diverged" else activation,
        "robust": 0.83 * activation if method == "ascent" and status == "ok" else None,
        "random": random if method == "ascent" else None,
        "bound": bound,
        "bound_kind": "exact" if exact else "interval",
        "gap": None if status == "diverged" else bound - activation,
        "status": status,
        "steps": 32 if method == "ascent" else 0,
        "seconds": 0.01,
        "highest": None if objective == "neuron" or status == "diverged" else 1.5 * activation,
        "row": 1 if objective == "neuron" else None,
        "column": 1 if objective == "neuron" else None,
    }


def _write_maps(writer: RunWriter, layer: dict[str, Any], images: int, rng: np.random.Generator) -> None:
    height, width = layer["output_shape"][1:]
    channels = layer["channels"]
    rows: list[dict[str, Any]] = []
    for image in range(images):
        maps = np.stack([_blob(rng, height, width) for _ in channels])
        kept = image < 12
        if kept:
            name = f"maps/{layer['slug']}-{image}.png"
            writer.write_bytes(name, atlas.to_png(atlas.pack((maps * 255).astype(np.uint8)[..., None])))
        for tile, channel in enumerate(channels):
            low, high = -1.0 - tile / 8, 2.0 + (tile * 7 + image * 3) % 11
            place = np.unravel_index(int(maps[tile].argmax()), (height, width))
            rows.append(
                {
                    "image": image,
                    "channel": channel,
                    "minimum": low,
                    "mean": (low + high) / 2,
                    "maximum": high,
                    "row": int(place[0]),
                    "column": int(place[1]),
                    "atlas": name if kept else None,
                    "tile": tile if kept else None,
                    "height": height,
                    "width": width,
                }
            )
    writer.write_table(f"maps/{layer['slug']}.parquet", pa.Table.from_pylist(rows, MAP_SCHEMA))


def _write_image(writer: RunWriter, index: int, name: str, size: tuple[int, int], bands: int) -> None:
    height, width = size
    picture = gabor(50 + index, index, [height, width], bands)
    writer.write_bytes(f"images/{index}.png", atlas.to_png(atlas.pack(picture[None])))
    top = [{"index": 3 * i + index, "label": f"{name} label" if i else None, "score": 0.6 / (i + 1)} for i in range(5)]
    writer.write_json(
        f"images/{index}.json",
        {
            "schema": 1,
            "index": index,
            "source": f"photos/{name}",
            "name": name,
            "original": [2 * height, 2 * width],
            "height": height,
            "width": width,
            "bands": bands,
            "label": 7 if index == 1 else None,
            "prediction": None if index == 2 else {"kind": "probability" if index % 2 == 0 else "score", "top": top},
        },
    )


def _info(
    layers: Sequence[dict[str, Any]],
    model: str,
    size: tuple[int, int],
    bands: int,
    status: str,
    certain: bool,
    unfinished: Sequence[str],
) -> dict[str, Any]:
    planned = 3 * len(layers)
    done = status == "complete"
    return {
        "status": status,
        "filterscope": "0.1.0",
        "command": ["/usr/bin/filterscope", "analyze", "my model.onnx", "--images", "photos"],
        "seed": 0,
        "settings": {"quality": "draft", "objectives": ["channel", "neuron"], "steps": 32, "channels": "all"}
        | {"images_of_prior": 0},
        "versions": {"filterscope": "0.1.0", "torch": "2.13.0", "python": "3.11.2"},
        "device": {"kind": "cpu", "name": "made-up CPU", "threads": 2},
        "model": {
            "name": model,
            "sha256": "0123456789abcdef" * 4,
            "producer": "nobody",
            "opset": 12,
            "notes": ["2 constants were folded", "BatchNorm /bn1 was folded into /conv1"],
            "parameters": 3_487_816,
            "macs": 300_774_272,
            "conv_layers": len(layers),
            "conv_channels": sum(layer["out_channels"] for layer in layers),
            "outputs": [{"name": "logits", "shape": [1, 1000]}],
            "parity": {
                "limit": 1e-4,
                "refuse": 1e-3,
                "original": {"worst": 3.1e-7, "value": "logits"},
                "nodes": {"worst": 2.2e-7, "node": "/conv3", "op": "Conv"},
                "end_to_end": {"worst": 1.4e-6, "layer": layers[-1]["name"]},
                "batches": [1, 3],
                "warnings": [],
            },
        },
        "input": {
            "name": "input",
            "layout": "NCHW",
            "channels": bands,
            "height": size[0],
            "width": size[1],
            "bands": {1: "grey", 3: "rgb"}.get(bands, "multi"),
            "preprocessing": {
                "name": "imagenet",
                "high": 1.0,
                "mean": [0.485, 0.456, 0.406],
                "std": [0.229, 0.224, 0.225],
                "order": "RGB",
            },
            "why": "The first layer's weights fit it; the file itself says nothing.",
            "certain": certain,
        },
        "timings": {"open": 1.5, "activations": 3.0, "maximize": 128.2, "render": 2.0, "total": 134.7} if done else {},
        "started": "2025-01-02T03:04:05+00:00",
        "finished": "2025-01-02T03:06:20+00:00" if done else None,
        "peak_memory_mib": 812.4 if done else None,
        "tasks": {"planned": planned, "done": planned - len(unfinished)},
    }


def gabor(seed: int, index: int, size: Sequence[int], bands: int) -> np.ndarray:
    """A striped, coloured patch that is unlike its neighbours, (H, W, bands) uint8."""
    rng = np.random.default_rng((seed, index))
    height, width = size
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    angle, phase = rng.uniform(0, np.pi, 2)
    wave = np.cos(rng.uniform(4, 14) * (x * np.cos(angle) + y * np.sin(angle)) + 2 * phase)
    envelope = np.exp(-(x**2 + y**2) / rng.uniform(0.3, 1.2))
    colour = rng.uniform(-1, 1, bands)
    noise = rng.normal(0, 0.02, (height, width, bands))
    picture = 0.5 + 0.5 * (wave * envelope)[..., None] * colour + noise
    return (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)


def _blob(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A bright spot somewhere, from 0 to 1, (H, W)."""
    y, x = (
        np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j] if height > 1 and width > 1 else np.zeros((2, height, width))
    )
    blob = np.exp(-((x - rng.uniform()) ** 2 + (y - rng.uniform()) ** 2) / 0.08)
    return blob / max(float(blob.max()), 1e-9)
