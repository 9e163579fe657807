"""Whether MobileNetV2's pictures are true: strengths and ways of eight units in five layers, on many photos.

Prints the table of docs/truth.md, and the count that channel means were chosen by.

    python benchmarks/truth.py mobilenetv2.onnx PHOTOS
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from filterscope.analyzer.analysis import Analysis
from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.data.images import find
from filterscope.analyzer.execution.plan import Settings
from filterscope.analyzer.network.network import InputOptions
from filterscope.analyzer.network.preprocessing import preset
from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.studies import truth

LAYERS = ("conv6", "conv15", "conv27", "conv40", "conv50")
UNITS, THROUGH = 8, 4
SIMILARITIES = ("maximised_natural", "natural_natural", "random_natural")
WAYS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "all activations": lambda maps: maps.reshape(-1),
    "channel means": truth._channel_means,
}


def means(rows: list[dict[str, Any]]) -> dict[tuple[str, str], np.ndarray]:
    """The three similarities, averaged over units, by layer and earlier layer."""
    found: dict[tuple[str, str], list[list[float]]] = {}
    for row in rows:
        found.setdefault((row["layer"], row["through"]), []).append([row[name] for name in SIMILARITIES])
    return {key: np.mean(numbers, axis=0) for key, numbers in found.items()}


def strengths(rows: list[dict[str, Any]]) -> dict[tuple[str, str], float]:
    """Median ratio by layer and objective."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row["ratio"] is not None:
            found.setdefault((row["layer"], row["objective"]), []).append(row["ratio"])
    return {key: float(np.median(ratios)) for key, ratios in found.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path)
    asked = parser.parse_args()
    network = open_network(asked.model, InputOptions(preprocessing=preset("imagenet")))
    settings = Settings(layers=LAYERS, channels=f"{UNITS}/layer", map_pictures=1)
    truth.PATH_UNITS["draft"], truth.PATH_LAYERS["draft"] = UNITS, THROUGH
    with tempfile.TemporaryDirectory() as place:
        for name, way in WAYS.items():
            truth._channel_means = way
            (Path(place) / "run" / "truth" / "study.json").unlink(missing_ok=True)
            Analysis(network, settings, find([asked.photos]), Path(place) / "run", studies=[truth.TruthStudy()]).run()
            run = Run(Path(place) / "run")
            paths = means(run.table("truth/paths.parquet").to_pylist())
            telling = sum(own[1] > own[2] for own in paths.values())
            print(f"{name}: the strongest are more alike than random ones in {telling} of {len(paths)} rows")
        ratios = strengths(run.table("truth/units.parquet").to_pylist())
    before = None
    for (layer, through), own in paths.items():
        first = [f"{ratios[layer, kind]:.2f}" for kind in ("neuron", "channel")] if layer != before else ["", ""]
        cells = [f"`{layer}`" if layer != before else "", f"`{through}`", *(f"{n:.2f}" for n in own), *first]
        print(f"| {' | '.join(cells)} |")
        before = layer
    short = sum(own[0] < own[1] - 0.05 for own in paths.values())
    print(f"The picture falls short of the natural images by more than 0.05 in {short} rows.")


if __name__ == "__main__":
    main()
