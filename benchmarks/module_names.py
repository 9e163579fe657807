"""Whether the stages of timm's networks are found under their module names, whichever exporter wrote the file.

    python benchmarks/module_names.py [NAME …]

timm says which modules its stages are (`feature_info`). Each network is exported by both of PyTorch's exporters and
opened; each stage must be a value under its module's path, and one unit of the last stage is raised at `draft`. Without
names, all of benchmarks/timm_networks.py; the table goes to docs/module-names.md.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from timm_networks import EXPORTERS, NAMES, build, export

from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.maximize.presets import Recipe
from filterscope.analyzer.network.network import InputOptions
from filterscope.analyzer.network.preprocessing import preset
from filterscope.requests.maximize import MaximizeRequest

OUT = Path(__file__).resolve().parents[1] / "docs" / "module-names.md"


@dataclass(frozen=True, slots=True)
class Row:
    """One network by one exporter."""

    name: str
    exporter: str
    stages: tuple[str, ...]  # as timm calls them
    missing: tuple[str, ...]  # of them
    raised: str  # "yes", "no", or why not

    def line(self) -> str:
        """A row of the table."""
        missing = ", ".join(self.missing) or "–"
        found = f"{len(self.stages) - len(self.missing)} of {len(self.stages)}"
        return f"| {self.name} | {self.exporter} | {found} | {missing} | {self.raised} |"


def measure(name: str, exporter: str, folder: Path) -> Row:
    """Export, open, look for the stages, raise a unit of the last."""
    stages = tuple(dict.fromkeys(entry["module"] for entry in build(name).feature_info))
    network = open_network(export(name, exporter, folder), InputOptions(preprocessing=preset("unit")))
    known = {path for value in network.values for path in (value.name, *value.paths)}
    missing = tuple(stage for stage in stages if stage not in known)
    there = [stage for stage in stages if stage in known]
    raised = "no stage"
    if there:
        recipe = Recipe.named("filterscope", "draft")
        portrait = MaximizeRequest(layer=there[-1], channels=(1,), recipe=recipe, device="cpu").run(network)
        raised = "yes" if portrait.activation[0] > portrait.random[0] else "no"
    return Row(name, exporter, stages, missing, raised)


def main(names: list[str]) -> None:
    """Measure, print, and write the table where all networks are in it."""
    lines = ["| network | exporter | stages found | missing | a unit of the last raised |", "|---|---|---|---|---|"]
    print(*lines, sep="\n")
    for name in names or NAMES:
        for exporter in EXPORTERS:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    line = measure(name, exporter, Path(folder)).line()
                except Exception as error:
                    line = f"| {name} | {exporter} | – | {type(error).__name__}: {str(error)[:80]} | – |"
            print(line, flush=True)
            lines.append(line)
    if not names:
        text = "# Stages under their modules' names\n\nMade by `python benchmarks/module_names.py`.\n\n"
        OUT.write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
