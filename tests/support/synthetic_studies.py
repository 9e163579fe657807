# ruff: noqa: PERF401  (rows of tables read better one by one)
"""The studies of a synthetic run: every table of analyzer.run.tables, small, made up, the same at each call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from filterscope.analyzer.run import atlas
from filterscope.analyzer.run.tables import EXAMPLE_SCHEMA, TABLES, WEIGHT_SCHEMA
from filterscope.analyzer.run.writer import RunWriter

EXAMPLES = 12  # pictures of the made-up data set
RANKS = 4  # strongest places of each channel
HEATS = 3  # of them with a map
METHODS = ("saliency", "input-x-gradient", "integrated-gradients", "guided", "grad-cam")
CLASSES = 10


def write_studies(writer: RunWriter, layers: list[dict[str, Any]], images: int, size: tuple[int, int], bands: int):
    """Write every study of a run.

    Args:
        writer: of the run.
        layers: of layers.json; those analysed have studies.
        images: that the user gave.
        size: (height, width) of the network's input.
        bands: of the input.
    """
    analysed = [layer for layer in layers if layer["analysed"]]
    makers = {
        "weights": lambda: _weights(writer, analysed),
        "examples": lambda: _examples(writer, analysed, size, bands),
        "attribution": lambda: _attribution(writer, images, size),
        "classes": lambda: _classes(writer, size, bands),
        "inversion": lambda: _inversion(writer, analysed, images, size, bands),
        "groups": lambda: _groups(writer, analysed, images, size, bands),
        "tuning": lambda: _tuning(writer, analysed, bands),
        "truth": lambda: _truth(writer, analysed),
        "values": lambda: _values(writer, analysed, images),
    }
    for name, make in makers.items():
        make()
        told = {"schema": 1, "name": name, "identity": name, "settings": {"option": 1}, "notes": [], "seconds": 1.5}
        writer.write_json(f"{name}/study.json", told | {"notes": [f"a note of {name}"]})


def _put(writer: RunWriter, name: str, tiles: np.ndarray) -> list[dict[str, Any]]:
    """Write an atlas; the five fields of a picture for each tile."""
    writer.write_bytes(name, atlas.to_png(atlas.pack(tiles)))
    _, height, width, bands = tiles.shape
    return [{"atlas": name, "tile": i, "height": height, "width": width, "bands": bands} for i in range(len(tiles))]


def _tile(place: dict[str, Any]) -> dict[str, Any]:
    return {name: place[name] for name in ("atlas", "tile", "height", "width")}


def _table(writer: RunWriter, name: str, rows: list[dict[str, Any]], schema: pa.Schema | None = None) -> None:
    writer.write_table(name, pa.Table.from_pylist(rows, schema or TABLES[name]))


def _pictures(seed: int, count: int, size: tuple[int, int], bands: int) -> np.ndarray:
    from support.synthetic_run import gabor

    return np.stack([gabor(seed, index, list(size), bands) for index in range(count)])


def _weights(writer: RunWriter, layers: list[dict[str, Any]]) -> None:
    for layer in layers:
        rng = np.random.default_rng((1, layer["index"]))
        channels = layer["channels"]
        depth = 3 if layer["index"] == 0 else 9
        shape = (len(channels), 3, 3, 3) if depth == 3 else (len(channels), 3, 27, 1)
        places = _put(writer, f"weights/{layer['slug']}.png", rng.integers(1, 256, shape).astype(np.uint8))
        before = layer["predecessors"][0] if layer["predecessors"] else None
        after = next((one["name"] for one in layers if layer["name"] in one["predecessors"]), None)
        rows = []
        for place, channel in zip(places, channels, strict=True):
            inputs = [(channel + i) % len(channels) for i in range(min(depth, len(channels)))]
            others = [other for other in channels if other != channel][:5]
            rows.append(
                {
                    "channel": channel,
                    "norm": 1.0 + channel / 10,
                    "bias": 0.25 if layer["bias"] else None,
                    "inputs": inputs,
                    "norms": [1 / (i + 1) for i in range(len(inputs))],
                    "shares": [(-1) ** i / (i + 2) for i in range(len(inputs))],
                    "sources": [before] * len(inputs),
                    "source_channels": [i if before else None for i in inputs],
                    "alike": others,
                    "cosines": [0.9 - i / 10 for i in range(len(others))],
                    "feeds": [after] * 2 if after else [],
                    "feeds_channels": [0, channel] if after else [],
                    "feeds_shares": [0.5, -0.25] if after else [],
                }
                | place
            )
        _table(writer, f"weights/{layer['slug']}.parquet", rows, WEIGHT_SCHEMA)


def _examples(writer: RunWriter, layers: list[dict[str, Any]], size: tuple[int, int], bands: int) -> None:
    places = _put(writer, "examples/pictures-0.png", _pictures(70, EXAMPLES, size, bands))
    kept = [place if i < EXAMPLES - 1 else dict.fromkeys(place) for i, place in enumerate(places)]  # one has none
    _table(
        writer,
        "examples/pictures.parquet",
        [
            {"example": i, "image": 10 * i, "source": f"data.npz {10 * i}", "name": f"example {i}", "label": "cat"}
            | place
            for i, place in enumerate(kept)
        ],
    )
    statistics, depths, firing = [], [], []
    for layer in layers:
        channels, index = layer["channels"], layer["index"]
        height, width = layer["output_shape"][1:]
        heats = _pictures(130 + index, len(channels) * HEATS, (height, width), 1)
        tiles = [_tile(place) for place in _put(writer, f"examples/{layer['slug']}.png", heats)]
        rows = []
        field = layer["field"]["size"]
        for position, channel in enumerate(channels):
            for rank in range(RANKS):
                rows.append(
                    {
                        "channel": channel,
                        "rank": rank,
                        "example": (channel * 5 + rank) % EXAMPLES,
                        "activation": 20.0 - rank + channel / 7,
                        "row": 0,
                        "column": 0,
                        "top": -1,
                        "left": 2 * rank,
                        "field_height": field[0],
                        "field_width": field[1],
                    }
                    | (tiles[position * HEATS + rank] if rank < HEATS else dict.fromkeys(tiles[0]))
                )
            histogram = [int(v) for v in 1000 * np.exp(-(np.linspace(-2, 3, 40) ** 2)) * (1 + channel % 3)]
            statistics.append(
                {
                    "layer": layer["name"],
                    "channel": channel,
                    "minimum": -4.0,
                    "mean": 0.5,
                    "maximum": 21.0,
                    "active": 0.6 / (1 + channel % 5),
                    "active_images": 0.9,
                    "dead": channel % 12 == 2,
                    "histogram": histogram,
                    "histogram_low": -4.0,
                    "histogram_high": 21.0,
                    "firsts": channel % 4,
                    "nearest": channels[(position + 1) % len(channels)],
                    "correlation": 0.5 + 0.4 * (channel % 2),
                    "selectivity": channel % 10 / 10,
                }
            )
        _table(writer, f"examples/{layer['slug']}.parquet", rows, EXAMPLE_SCHEMA)
        depths.append(
            {
                "layer": layer["name"],
                "depth": index,
                "active": 0.5 / (index + 1),
                "sparsity": min(0.95, 0.3 + 0.1 * index),
                "dead": index,
                "duplicates": 1,
            }
        )
        firing.append({"layer": layer["name"], "image": 0, "images": 1, "channel": channels[0], "mean": 1.5})
    _table(writer, "examples/units.parquet", statistics)
    _table(writer, "examples/layers.parquet", depths)
    _table(writer, "examples/firing.parquet", firing)
    write_classes_of_data(writer, layers)
    explained = np.full((2, *size, 1), 255, np.uint8)
    explained[:, :, size[1] // 2 :] = 1
    mistakes = [_tile(place) for place in _put(writer, "examples/mistakes.png", explained)]
    target = {"method": "grad-cam", "target": 2}
    _table(writer, "examples/mistakes.parquet", [target | {"image": 20 + 20 * i} | mistakes[i] for i in (0, 1)])


def write_classes_of_data(
    writer: RunWriter, layers: list[dict[str, Any]], classes: int = CLASSES, name: str = "class <{}>"
) -> None:
    """The tables of a data set with classes: 20 images of each, but for the last, of which there is none.

    Of class c, c % 5 images are taken for class c + 1; the network is sure of 0.9 each time.

    Args:
        writer: of the run.
        layers: of layers.json, analysed.
        classes: of the network's output.
        name: of a class, with braces for its number.
    """
    names = [name.format(index) for index in range(classes)]
    last = classes - 1
    wrong = [index % 5 if index < last - 1 else 0 for index in range(classes)]
    rows = [
        {
            "index": index,
            "name": names[index],
            "images": 0 if index == last else 20,
            "right": 0 if index == last else 20 - wrong[index],
            "right_of_five": (0 if index == last else 20) if classes > 5 else None,
            "predicted": (0 if index == last else 20 - wrong[index]) + (wrong[index - 1] if index else 0),
            "probability": None if index == last else 0.9 - wrong[index] / 40,
        }
        for index in range(classes)
    ]
    confusion = [{"label": i, "predicted": i, "images": 20 - wrong[i]} for i in range(last)]
    confusion += [{"label": i, "predicted": i + 1, "images": wrong[i]} for i in range(last) if wrong[i]]
    images = 20 * last
    right = sum(row["right"] for row in rows)
    bins: list[dict[str, Any]] = [
        {"low": i / 15, "high": (i + 1) / 15, "images": 0, "confidence": None, "accuracy": None} for i in range(15)
    ]
    bins[13] |= {"images": images, "confidence": 0.9, "accuracy": right / images if images else None}
    answers = []
    for number in range(images):
        label, place = divmod(number, 20)
        best = label + 1 if place < wrong[label] else label
        order = [best, label, *(i for i in range(classes) if i not in (best, label))]
        shares = [0.9, 0.1 - number / 1e5, 0.0, 0.0, 0.0]
        answers.append(
            {
                "image": number,
                "name": f"example {number // 10 if number % 10 == 0 else f'{number} of the data'}",
                "label": None if place == 19 else label,
                "best": list(dict.fromkeys(order))[:5],
                "probability": shares[: min(5, classes)],
            }
        )
    units = [
        {
            "layer": layer["name"],
            "channel": channel,
            "rank": rank,
            "index": (channel + rank) % max(1, last),
            "name": names[(channel + rank) % max(1, last)],
            "auc": 0.99 - rank / 10 - layer["index"] / 100 - channel / 1000,
            "mean": 5.0 - rank,
            "images": 20,
        }
        for layer in layers
        for channel in layer["channels"]
        for rank in range(min(4, last))
    ]
    _table(writer, "examples/classes.parquet", rows)
    _table(writer, "examples/confusion.parquet", confusion)
    _table(writer, "examples/reliability.parquet", bins)
    _table(writer, "examples/answers.parquet", answers)
    _table(writer, "examples/unit_classes.parquet", units)


def _attribution(writer: RunWriter, images: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    rows: list[dict[str, Any]] = []
    for image in range(images):
        tiles = rng.integers(1, 256, (len(METHODS), *size, 1)).astype(np.uint8)
        contrast = tiles[-1:, ::-1]  # of the last method, the answer rather than the next class
        targets = [*((method, None) for method in METHODS), (METHODS[-1], 4)]
        places = _put(writer, f"attribution/{image}.png", np.concatenate([tiles, contrast]))
        for (method, minus), place in zip(targets, places, strict=True):
            rows.append(
                {
                    "image": image,
                    "method": method,
                    "layer": None,
                    "target": 3,
                    "label": "the class",
                    "minus": minus,
                    "minus_label": None if minus is None else "the next <class>",
                    "row": None,
                    "column": None,
                    "at": "features.2.conv" if method == "grad-cam" else None,
                    "score": 7.5,
                    "minimum": -0.5,
                    "maximum": 1.0,
                    "total": 7.0,
                }
                | _tile(place)
            )
    _table(writer, "attribution/attributions.parquet", rows)
    sanity = [
        {"method": m, "layer": "features.1.conv", "depth": 1, "images": 3, "similarity": 0.2 + i / 10, "ssim": 0.4}
        for i, m in enumerate(METHODS)
    ]
    _table(writer, "attribution/sanity.parquet", sanity)


def _classes(writer: RunWriter, size: tuple[int, int], bands: int) -> None:
    places = _put(writer, "classes/classes.png", _pictures(80, CLASSES, size, bands))
    rows = []
    for klass, place in enumerate(places):
        scores = np.full(CLASSES, 0.2 / (CLASSES - 1))
        scores[klass] = 0.8
        rows.append(
            {
                "klass": klass,
                "label": None if klass == 3 else f"class <{klass}>",
                "score": 12.0 + klass,
                "robust": 11.0 + klass,
                "random": 2.0,
                "probability": 0.8,
                "rank": 0 if klass != 4 else 2,
                "entropy": 1.36,
                "distribution": scores.tolist(),
                "status": "ok" if klass != 5 else "unraised",
            }
            | place
        )
    _table(writer, "classes/classes.parquet", rows)


def _inversion(writer: RunWriter, layers: list[dict[str, Any]], images: int, size: tuple[int, int], bands: int) -> None:
    rows = []
    for image in range(images):
        tiles = _pictures(90 + image, 2 * len(layers), size, bands)
        places = iter(_put(writer, f"inversion/{image}.png", tiles))
        for layer in layers:
            for kind in ("inversion", "caricature"):
                rows.append(
                    {
                        "image": image,
                        "layer": layer["name"],
                        "kind": kind,
                        "distance": 0.1 * (layer["index"] + 1) if kind == "inversion" else None,
                        "cosine": 0.95,
                        "steps": 64,
                        "seconds": 0.5,
                    }
                    | next(places)
                )
    _table(writer, "inversion/inversions.parquet", rows)


def _groups(writer: RunWriter, layers: list[dict[str, Any]], images: int, size: tuple[int, int], bands: int) -> None:
    rows, cells = [], []
    layer = layers[-1]
    height, width = layer["output_shape"][1:]
    several = 3
    for image in range(images):
        rng = np.random.default_rng((4, image))
        places = _put(writer, f"groups/{image}.png", _pictures(100 + image, several, (20, 20), bands))
        masks = rng.integers(0, 256, (several, height, width, 1)).astype(np.uint8)
        where = _put(writer, f"groups/{image}-masks.png", masks)
        for group in range(several):
            rows.append(
                {
                    "image": image,
                    "layer": layer["name"],
                    "group": group,
                    "share": 0.5 / (group + 1),
                    "error": 0.2,
                    "channels": layer["channels"][:3],
                    "weights": [0.8, 0.5, 0.1][: len(layer["channels"])],
                    "activation": 5.0,
                }
                | places[group]
                | {f"mask_{name}": value for name, value in _tile(where[group]).items()}
            )
        tiles = _put(writer, f"groups/{image}-grid.png", _pictures(110 + image, height * width, (12, 12), bands))
        for index, place in enumerate(tiles):
            cells.append(
                {
                    "image": image,
                    "layer": layer["name"],
                    "row": index // width,
                    "column": index % width,
                    "magnitude": 1.0 + index,
                    "channels": layer["channels"][:2],
                    "activations": [3.0, 2.0][: len(layer["channels"])],
                }
                | place
            )
    _table(writer, "groups/groups.parquet", rows)
    _table(writer, "groups/grid.parquet", cells)


def _tuning(writer: RunWriter, layers: list[dict[str, Any]], bands: int) -> None:
    rows = []
    for layer in layers:
        channels = layer["channels"]
        places = _put(writer, f"tuning/{layer['slug']}.png", _pictures(120, len(channels), (15, 15), bands))
        for place, channel in zip(places, channels, strict=True):
            rows.append(
                {
                    "layer": layer["name"],
                    "channel": channel,
                    "words": "edges at 45°, of any colour" if channel % 2 == 0 else None,
                    "best": "grating",
                    "response": 4.0,
                    "orientation": 45.0,
                    "orientation_selectivity": 0.7,
                    "period": 6.0,
                    "phase_modulation": 1.2,
                    "hue": 120.0,
                    "colour_selectivity": 0.3,
                    "orientation_curve": [float(np.cos(i / 2) + 1) for i in range(12)],
                    "period_curve": [1.0, 3.0, 2.0],
                    "periods": [2.0, 4.0, 8.0],
                    "hue_curve": [float(np.sin(i / 2) + 1) for i in range(12)],
                }
                | place
            )
    _table(writer, "tuning/units.parquet", rows)


def _truth(writer: RunWriter, layers: list[dict[str, Any]]) -> None:
    units = [(layer, channel) for layer in layers for channel in layer["channels"]]
    _table(
        writer,
        "truth/units.parquet",
        [
            {
                "layer": layer["name"],
                "channel": channel,
                "objective": "channel",
                "maximised": 12.0,
                "natural": 4.0,
                "ratio": 3.0,
            }
            for layer, channel in units
        ],
    )
    paths = [
        {
            "layer": layer["name"],
            "channel": channel,
            "through": layers[0]["name"],
            "maximised_natural": 0.3,
            "natural_natural": 0.7,
            "random_natural": 0.4,
        }
        for layer, channel in units
        if layer["index"]
    ]
    _table(writer, "truth/paths.parquet", paths)


def _values(writer: RunWriter, layers: list[dict[str, Any]], images: int) -> None:
    rows: list[dict[str, Any]] = []
    layer = layers[0]
    height, width = layer["output_shape"][1:]
    for image in range(images):
        tiles = np.random.default_rng((5, image)).integers(0, 256, (2, height, width, 1)).astype(np.uint8)
        places = _put(writer, f"values/{image}.png", tiles)
        for order, (op, with_places) in enumerate((("MaxPool", True), ("Gemm", False))):
            for channel in range(2):
                picture = _tile(places[channel]) if with_places else dict.fromkeys(_tile(places[0]))
                rows.append(
                    {
                        "image": image,
                        "value": f"value-{op}",
                        "op": op,
                        "layer": layer["name"] if with_places else None,
                        "order": order,
                        "channel": channel,
                        "minimum": 0.0,
                        "mean": 0.5,
                        "maximum": 3.0 + channel,
                        "blank": channel == 1 and not with_places,
                    }
                    | picture
                )
    _table(writer, "values/values.parquet", rows)
