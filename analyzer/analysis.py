"""The main job: from an opened network and some images to a run on disk.

open → plan → execute: images are read and stored, the network's answers to them are measured layer by layer, every
unit of the plan is maximised. What is finished is never done again. Knows the other rooms of the analyzer and their
order; knows nothing of HTML or of the terminal.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analyzer import atlas, executors, images
from analyzer.activations import layer_groups, write_maps
from analyzer.images import Source
from analyzer.maximize.priors import FEWEST, Prior, measured_prior
from analyzer.network import Network
from analyzer.plan import Plan, Settings, Task, make_plan, selection, settings_json
from analyzer.run import SCHEMA, Run, RunWriter, refuse_foreign, slugs
from analyzer.scores import answer_of, own_labels
from analyzer.studies import Context, Progress, Study, perform
from analyzer.tables import MAP_SCHEMA
from analyzer.tasks import Workshop
from analyzer.weights import Weights
from analyzer.white import Levels
from analyzer.wholeness import is_picture
from converters import cache
from converters.errors import FilterscopeError, SettingsError
from converters.finiteness import silence

if TYPE_CHECKING:
    from converters.parity import Parity

TOP = 5  # predictions kept of each image
MOST_NAMED = 20  # images that could not be read


class Silent:
    """Progress for nobody."""

    def stage(self, name: str, total: int) -> None:
        """Nothing."""

    def advance(self, count: int = 1) -> None:
        """Nothing."""


@dataclass(eq=False)
class Analysis:
    """One analysis on its way; its info is what run.json says.

    Args:
        network: the opened network.
        settings: what is asked for.
        sources: the user's images.
        out: folder of the run.
        device: where ascent computes: auto and cuda share tasks out over all GPUs; cpu, cuda:1, … name one device.
        labels: class names in order, or none.
        command: what was typed, for the record.
        progress: who is told how far the work is.
        studies: what else is asked of the network, in order.
    """

    network: Network
    settings: Settings
    sources: Sequence[Source]
    out: Path
    device: str = "auto"
    labels: Sequence[str] = ()
    command: Sequence[str] = ()
    progress: Progress = field(default_factory=Silent)
    studies: Sequence[Study] = ()
    timings: dict[str, float] = field(default_factory=dict)
    shared_out: dict[str, int] | None = None  # layer → steps, under a time budget

    def run(self) -> Run:
        """Do what is not done yet.

        Raises:
            FilterscopeError: the user's input, before anything is written, or the folder.
            KeyboardInterrupt: run.json then says that the run is partial; the same command goes on with it.
        """
        self._started = time.perf_counter()
        selection(self.network.layers, self.settings)  # what is wrong is said before the long work
        refuse_foreign(self.out)
        if self.labels:
            self._check_labels()
        else:
            self.labels = own_labels(self.network)
        with self._timed("images"):
            pictures = self._read_images()
        from analyzer.devices import choose_devices, on
        from analyzer.maximize.engine import batch_size

        devices = choose_devices(self.device)
        shop = Workshop(self.network, self.settings.recipe, self.settings.seed, devices, self._prior(pictures))
        with self._timed("prove"):
            parity = self.network.prove(pictures[0] if pictures else None)
        batches = {
            layer.name: batch_size(self.network, layer, shop.canvas(layer, "channel"))
            for layer in self.network.layers
            if layer.has_maps
        }
        hashes = [hashlib.sha256(picture.tobytes()).hexdigest() for picture in pictures]
        with self._timed("budget"):
            steps = self._steps(shop)
        plan = make_plan(self.network, self.settings, hashes, batches, steps)
        self._info = self._first_info(parity, plan, shop)
        known = RunWriter(self.out, plan.identity, self._info)
        with silence(parity.not_finite), on(shop.device), known as writer:
            try:
                self._execute(writer, shop, plan, pictures)
            except BaseException:  # an interrupt too: what is done stays, and run.json says how far it came
                self._close(writer, "partial")
                raise
            self._close(writer, "complete")
        return Run(self.out)

    def _read_images(self) -> list[np.ndarray]:
        if self.sources:
            self.progress.stage("reading images", len(self.sources))
        self._photos = []
        self._skipped: list[str] = []
        levels = Levels()
        pictures = []
        spec, resize = self.network.input, self.settings.resize
        for info, pixels in images.load(
            self.sources, spec, resize, skip_broken=True, broken=self._skipped, levels=levels
        ):
            self._photos.append(info)
            pictures.append(pixels)
            self.progress.advance()
        if self._skipped:
            logging.getLogger("filterscope").warning(
                "%d of %d images could not be read and are left out; the first: %s",
                *(len(self._skipped), len(self.sources), self._skipped[0]),
            )
        self._image_notes = levels.warnings()
        for note in self._image_notes:
            logging.getLogger("filterscope").warning("%s", note)
        return pictures

    def _steps(self, shop: Workshop) -> dict[str, int] | None:
        """Steps of each layer under a time budget: those of the run in the folder, where it had the same budget."""
        if self.settings.time_budget is None:
            return None
        chosen = selection(self.network.layers, self.settings)
        layers = [layer for layer in self.network.layers if layer.name in chosen]
        with contextlib.suppress(FilterscopeError):
            before = Run(self.out).info.get("settings") or {}
            if before.get("time_budget") == self.settings.time_budget and before.get("steps_of_layers"):
                self.shared_out = {str(name): int(n) for name, n in before["steps_of_layers"].items()}
                if set(self.shared_out) == set(chosen):
                    return self.shared_out
        from analyzer.budget import steps_for

        shop.prepare()
        self.progress.stage("timing a few steps", 1)
        units = {name: len(channels) for name, channels in chosen.items()}
        budget, workers = self.settings.time_budget, shop.devices.workers

        def shared() -> dict[str, int]:  # in a thread like those that tasks run in
            return steps_for(shop.for_a_thread(), layers, self.settings.objectives, units, budget, workers)

        with ThreadPoolExecutor(1) as pool:
            self.shared_out = pool.submit(shared).result()
        self.progress.advance()
        return self.shared_out

    def _prior(self, pictures: list[np.ndarray]) -> Prior | None:
        """Colours and spectrum of the user's images, where there are enough of them to tell."""
        if len(pictures) < FEWEST:
            return None
        shape = (self.network.input.channels, self.network.input.height, self.network.input.width)
        return measured_prior(pictures, shape)

    def _check_labels(self) -> None:
        answer = answer_of(self.network)
        outputs = self.network.model.graph.outputs
        if answer is None:
            listed = ", ".join(f"{name} {list(self.network.shapes.get(name, ()))}" for name in outputs[:TOP])
            raise SettingsError(f"--labels: no output of the network is a list of scores: {listed}; leave it out")
        if len(self.labels) != answer[1]:
            raise SettingsError(f"--labels: {len(self.labels)} names for {answer[1]} outputs; give one name a line")

    def _execute(self, writer: RunWriter, shop: Workshop, plan: Plan, pictures: list[np.ndarray]) -> None:
        names = slugs([layer.name for layer in self.network.layers])
        writer.write_info(self._info)
        model = self.network.model
        if model.converted:
            content = model.exported()
            if not writer.holds_bytes("model.onnx", content):
                writer.write_bytes("model.onnx", content)
        writer.write_json("layers.json", self._layers_json(shop, plan, names))
        with self._timed("activations"):
            self._write_images(writer, pictures)
            self._write_maps(writer, plan, names, pictures)
        with self._timed("maximize"):
            self.progress.stage("maximising units", sum(len(task.channels) for task in plan.tasks))
            executors.local(shop, plan.tasks, names, writer, self._task_done)
        writer.write_units()
        self._perform_studies(writer, shop, plan, names, pictures)

    def _perform_studies(
        self, writer: RunWriter, shop: Workshop, plan: Plan, names: dict[str, str], pictures: list[np.ndarray]
    ) -> None:
        context = Context(
            network=self.network,
            shop=shop,
            writer=writer,
            settings=self.settings,
            channels=plan.channels,
            slugs=names,
            pictures=pictures,
            photos=self._photos,
            labels=self.labels,
            progress=self.progress,
        )
        for study in (Weights(), *self.studies):
            with self._timed(study.name):
                perform(study, context)

    def _task_done(self, task: Task, known: bool) -> None:
        self._info["tasks"]["done"] += 1
        self._info["tasks"]["found_done"] += int(known)
        self.progress.advance(len(task.channels))

    def _write_images(self, writer: RunWriter, pictures: list[np.ndarray]) -> None:
        # Names of the classes may come with a later session, and are no part of the plan.
        numbers = range(len(pictures))
        missing = [i for i in numbers if self.labels or not _has_image(writer, i, pictures[i].shape)]
        if not missing:
            return
        answer_name = (answer_of(self.network) or (None,))[0]
        session = self.network.session([])
        for index in missing:
            pixels = pictures[index]
            answer = session.run(self.network.input.to_model(pixels[None]))
            photo = self._photos[index]
            writer.write_bytes(f"images/{index}.png", atlas.to_png(atlas.pack(pixels[None])))
            writer.write_json(
                f"images/{index}.json",
                {
                    "schema": SCHEMA,
                    "index": index,
                    "source": str(photo.path),
                    "name": photo.name,
                    "original": list(photo.size),
                    "height": pixels.shape[0],
                    "width": pixels.shape[1],
                    "bands": pixels.shape[2],
                    "label": photo.label,
                    "prediction": None if answer_name is None else prediction(answer[answer_name], self.labels),
                },
            )

    def _write_maps(self, writer: RunWriter, plan: Plan, names: dict[str, str], pictures: list[np.ndarray]) -> None:
        if not pictures:
            return
        wanted = [layer for layer in self.network.layers if layer.name in plan.channels]
        missing = [layer for layer in wanted if not writer.has_whole(f"maps/{names[layer.name]}.parquet", MAP_SCHEMA)]
        self.progress.stage("activation maps", len(missing))
        for group in layer_groups(self.network, missing, len(pictures)):
            write_maps(self.network, group, names, pictures, writer, self.settings.map_pictures)
            self.progress.advance(len(group))

    def _layers_json(self, shop: Workshop, plan: Plan, names: dict[str, str]) -> dict[str, Any]:
        listed = []
        for layer in self.network.layers:
            chosen = plan.channels.get(layer.name, ())
            canvases = {kind: list(shop.canvas(layer, kind).size) for kind in ("channel", "neuron")} if chosen else {}
            listed.append(
                layer.to_json()
                | {
                    "slug": names[layer.name],
                    "analysed": bool(chosen),
                    "channels": list(chosen),
                    "canvas": canvases,
                }
            )
        return {"schema": SCHEMA, "layers": listed}

    def _first_info(self, parity: Parity, plan: Plan, shop: Workshop) -> dict[str, Any]:
        spec = self.network.input
        recipe = shop.recipe
        return {
            "status": "running",
            "filterscope": cache.versions().get("filterscope", "unknown"),
            "command": list(self.command),
            "seed": self.settings.seed,
            "settings": settings_json(self.settings)
            | {
                "steps": recipe.steps,
                "canvas_cap": recipe.quality.cap,
                "patience": recipe.patience,
                "rate": recipe.rate,
                "source": recipe.preset.source,
                "stretched": recipe.preset.stretched,
                "steps_of_layers": self.shared_out,
            },
            "versions": cache.versions() | {"python": platform.python_version()},
            "device": shop.devices.to_json(),
            "model": self.network.to_json() | {"parity": parity.summary()},
            "input": {
                "name": spec.name,
                "layout": spec.layout,
                "channels": spec.channels,
                "height": spec.height,
                "width": spec.width,
                "bands": spec.bands,
                "preprocessing": {
                    "name": spec.preprocessing.name,
                    "high": spec.preprocessing.high,
                    "mean": list(spec.preprocessing.mean),
                    "std": list(spec.preprocessing.std),
                    "order": spec.preprocessing.order,
                },
                "why": spec.why,
                "certain": spec.certain,
                "size_why": spec.size_why,
                "size_certain": spec.size_certain,
            },
            "labels": list(self.labels),
            "image_notes": self._image_notes,
            "skipped_images": {"count": len(self._skipped), "errors": self._skipped[:MOST_NAMED]},
            "timings": self.timings,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "finished": None,
            "peak_memory_mib": None,
            "tasks": {"planned": len(plan.tasks), "done": 0, "found_done": 0},
        }

    def _close(self, writer: RunWriter, status: str) -> None:
        self.timings["total"] = time.perf_counter() - self._started
        self._info |= {
            "status": status,
            "finished": datetime.now(UTC).isoformat(timespec="seconds") if status == "complete" else None,
            "peak_memory_mib": peak_memory_mib(),
            "timings": {name: round(seconds, 3) for name, seconds in self.timings.items()},
        }
        with contextlib.suppress(FilterscopeError) if status == "partial" else contextlib.nullcontext():
            writer.write_info(self._info)

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.timings[name] = time.perf_counter() - started


def _has_image(writer: RunWriter, index: int, shape: tuple[int, ...]) -> bool:
    """Whether an image's facts and its picture are in the run, of this shape: (H, W, C)."""
    facts = writer.read_json_if_whole(f"images/{index}.json") or {}
    same = all(facts.get(name) == extent for name, extent in zip(("height", "width", "bands"), shape, strict=True))
    return same and is_picture(writer.folder / f"images/{index}.png", *shape)


def prediction(output: np.ndarray, labels: Sequence[str]) -> dict[str, Any] | None:
    """The highest outputs of a classifier; None where an output is no list of finite scores.

    Args:
        output: one of the network's outputs for one image: of any rank and type.
        labels: class names in order, or none.

    Returns:
        kind "probability" where the scores are a distribution, else "score" (as the network gave them), and the
        highest of them, best first.
    """
    if not isinstance(output, np.ndarray) or output.ndim < 2 or output.dtype.kind not in "biuf":
        return None  # a number, a sequence, a map, names
    scores = output.reshape(-1).astype(np.float64)
    if len(output) != 1 or scores.size < 2 or scores.size != output.shape[1] or not np.isfinite(scores).all():
        return None
    is_distribution = scores.min() >= 0 and abs(scores.sum() - 1) < 1e-3
    named = len(labels) == scores.size  # names of another output are none of this one
    best = np.argsort(-scores, kind="stable")[:TOP]
    return {
        "kind": "probability" if is_distribution else "score",
        "top": [{"index": int(i), "label": labels[i] if named else None, "score": float(scores[i])} for i in best],
    }


def peak_memory_mib() -> float | None:
    """The most memory this process has held, MiB; None where the system does not tell."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
