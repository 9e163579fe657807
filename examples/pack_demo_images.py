"""The images that ship with Filterscope's demo: the first of an archive of CIFAR-10's test images, as they are.

The same images give the same bytes. Copies encoded pictures; decodes and encodes none. Knows nothing of Filterscope.
"""

import argparse
import json
from pathlib import Path

import numpy as np

COUNT = 500  # the classes take turns in the file, so that there are 50 of each
SOURCE = (
    "CIFAR-10 (Krizhevsky 2009, Learning multiple layers of features from tiny images, "
    "https://www.cs.toronto.edu/~kriz/cifar.html), test images."
)
LICENCE = (
    "Its authors state no licence and ask to cite the report; the photos were collected from the web and belong to "
    "their makers. Not under Filterscope's licence."
)


def pack(source: Path, out: Path, count: int) -> dict[str, object]:
    """Copy the first images of an archive with data, offsets, labels and classes.

    Args:
        source: an .npz file in which image i is the encoded picture data[offsets[i]:offsets[i + 1]].
        out: the .npz file to write; a .json of the same name goes beside it.
        count: how many images.

    Returns:
        What the .json says.
    """
    with np.load(source, allow_pickle=False) as archive:
        data, offsets, labels, classes = (archive[key] for key in ("data", "offsets", "labels", "classes"))
    offsets = offsets[: count + 1]
    labels = labels[:count]
    np.savez(out, data=data[: offsets[-1]], offsets=offsets, labels=labels, classes=classes)
    facts: dict[str, object] = {
        "name": out.stem,
        "source": SOURCE,
        "licence": LICENCE,
        "images": len(labels),
        "of_each_class": np.bincount(labels, minlength=len(classes)).tolist(),
        "height": 32,
        "width": 32,
        "coding": "WebP, lossless",
        "bytes": out.stat().st_size,
    }
    out.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description="Pack the images of the CIFAR-10 demo.")
    parser.add_argument("--data", type=Path, required=True, help="folder of cifar10_test*.npz, lossless")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--out", type=Path, default=Path("cifar10.npz"), help="a .json goes beside it")
    arguments = parser.parse_args()
    files = sorted(arguments.data.glob("cifar10_test*.npz"))
    if len(files) != 1:
        parser.error(f"{arguments.data}: has {len(files)} files cifar10_test*.npz; see examples/README.md")
    facts = pack(files[0], arguments.out, arguments.count)
    print(f"{arguments.out}: {facts['images']} images, {facts['bytes']:,} bytes")


if __name__ == "__main__":
    main()
