"""The main job: from an opened network and some images to a run on disk.

The stages of an analysis stand in two tuples, PREPARATION and EXECUTION, in the order in which they are done. What is
finished is never done again. Knows the other rooms of the analyzer and their order; knows nothing of HTML or of the
terminal.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from filterscope.analyzer.data import images
from filterscope.analyzer.data.images import ImageSource
from filterscope.analyzer.data.white import Levels
from filterscope.analyzer.execution import executors
from filterscope.analyzer.execution.activation_maps import layer_groups, write_maps
from filterscope.analyzer.execution.plan import Plan, Settings, Task, make_plan, selection, settings_json
from filterscope.analyzer.execution.strongest_patches import StrongestPatches
from filterscope.analyzer.execution.tasks import Workshop
from filterscope.analyzer.maximize.presets import Recipe
from filterscope.analyzer.maximize.priors import FEWEST, Prior, measured_prior
from filterscope.analyzer.network.labels import ClassFinder
from filterscope.analyzer.network.layers import Layer
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.network.outline import outline_json
from filterscope.analyzer.network.scores import classifier_output, own_labels
from filterscope.analyzer.progress import Progress, Silent
from filterscope.analyzer.run import atlas
from filterscope.analyzer.run.layout import SCHEMA, slugs
from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.tables import MAP_SCHEMA
from filterscope.analyzer.run.wholeness import is_picture
from filterscope.analyzer.run.writer import RunWriter, refuse_foreign
from filterscope.analyzer.studies.order import in_order
from filterscope.analyzer.studies.study import Context, Study, perform
from filterscope.analyzer.studies.weights import Weights
from filterscope.converters import cache
from filterscope.converters.errors import FilterscopeError, SettingsError, setting
from filterscope.converters.finiteness import silence

if TYPE_CHECKING:
    from filterscope.converters.parity import Parity

TOP = 5  # predictions kept of each image
REFRESH = 60.0  # seconds between two looks at a run that is being made
LOOK_SHARE = 10  # a look takes at most a part in so many of the time
MOST_NAMED = 20  # images that could not be read
CANVASES = ("channel", "neuron")  # kinds whose size layers.json tells


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of an analysis; `needs` and `leaves` are attributes of the analysis and paths in the run."""

    name: str  # where it is timed, also the key of its seconds in run.json
    run: Callable[[Analysis], None]
    needs: tuple[str, ...] = ()  # what earlier stages must have left
    leaves: tuple[str, ...] = ()  # what it sets or writes; a folder ends in /
    is_timed: bool = False


PREPARATION = (  # nothing is written yet: what is wrong with the input ends the analysis here
    Stage("check", lambda job: job.check_settings(), leaves=("labels",)),
    Stage("images", lambda job: job.read_images(), leaves=("pictures", "photos"), is_timed=True),
    Stage("workshop", lambda job: job.open_workshop(), needs=("pictures",), leaves=("shop",)),
    Stage("prove", lambda job: job.prove_import(), needs=("pictures",), leaves=("parity",), is_timed=True),
    Stage("plan", lambda job: job.plan_tasks(), needs=("pictures", "shop"), leaves=("plan",)),
)
EXECUTION = (  # in the folder of the run; an interrupted analysis goes on where it stopped
    Stage(
        "describe",
        lambda job: job.describe_network(),
        needs=("shop", "parity", "plan"),
        leaves=("run.json", "model.onnx", "layers.json", "graph.json"),
    ),
    Stage(
        "activations",
        lambda job: job.measure_activations(),
        needs=("pictures", "photos", "labels", "plan"),
        leaves=("images/", "maps/"),
        is_timed=True,
    ),
    Stage("maximize", lambda job: job.maximize_units(), needs=("shop", "plan"), leaves=("tasks/",), is_timed=True),
    Stage("units", lambda job: job.gather_units(), needs=("tasks/",), leaves=("units.parquet",)),
    Stage("studies", lambda job: job.perform_studies(), needs=("shop", "plan", "maps/", "units.parquet")),
)


@dataclass(eq=False)
class Analysis:
    """One analysis of a network: its input, and what its stages pass on to each other.

    Args:
        network: the opened network.
        settings: what is analysed, and how much work goes into it.
        sources: the user's images.
        out: folder of the run.
        device: where ascent computes: auto and cuda share tasks out over all GPUs; cpu, cuda:1, … name one device.
        labels: class names in order, or none.
        command: what was typed, for the record.
        progress: reports how far the work is.
        studies: what the run is to hold beside pictures and maps; performed in the order of `studies.order`.
        on_pictures: gets the run while it is made: once a first picture of everything is there, and again as better
            ones replace them, at most once in REFRESH seconds.
    """

    network: Network
    settings: Settings
    sources: Sequence[ImageSource]
    out: Path
    device: str = "auto"
    labels: Sequence[str] = ()
    command: Sequence[str] = ()
    progress: Progress = field(default_factory=Silent)
    studies: Sequence[Study] = ()
    on_pictures: Callable[[Run], None] = lambda _: None
    timings: dict[str, float] = field(default_factory=dict)
    pictures: list[np.ndarray] = field(init=False)  # the user's images, (H, W, C) uint8 each
    photos: list[images.PhotoInfo] = field(init=False)  # where they come from
    shop: Workshop = field(init=False)
    parity: Parity = field(init=False)
    plan: Plan = field(init=False)
    writer: RunWriter = field(init=False)

    def run(self) -> Run:
        """Do what is not done yet.

        Raises:
            FilterscopeError: the user's input, before anything is written, or the folder.
            KeyboardInterrupt: run.json then says that the run is partial; the same command goes on with it.
        """
        self._started = time.perf_counter()
        self._do(PREPARATION)
        from filterscope.analyzer.compute.devices import on

        self._info = self._first_info()
        run = RunWriter(self.out, self.plan.identity, self._info)
        with silence(self.parity.not_finite), on(self.shop.device), run as self.writer:
            try:
                self._do(EXECUTION)
            except BaseException:  # an interrupt too: what is done stays, and run.json says how far it came
                self._close("partial")
                raise
            self._close("complete" if self._is_done else "partial")
        return Run(self.out)

    def _do(self, stages: Sequence[Stage]) -> None:
        for stage in stages:
            with self._timed(stage.name) if stage.is_timed else contextlib.nullcontext():
                stage.run(self)

    def check_settings(self) -> None:
        """Say what is wrong with the settings before the long work; take the network's own labels if none are given."""
        self.network = self.network.with_values(self.settings.layers, self.settings.kinds)
        selection(self.network.layers, self.settings, [value.name for value in self.network.values])
        refuse_foreign(self.out)
        if self.labels:
            self._check_labels()
        else:
            self.labels = own_labels(self.network)

    def read_images(self) -> None:
        """Read the user's images at the network's input size; those that cannot be read are skipped and listed."""
        if self.sources:
            self.progress.stage("reading images", len(self.sources))
        self.photos = []
        self.pictures = []
        self._skipped: list[str] = []
        levels = Levels()
        spec, resize = self.network.input, self.settings.resize
        for info, pixels in images.load(
            self.sources, spec, resize, skip_broken=True, broken=self._skipped, levels=levels
        ):
            self.photos.append(self._labelled(info))
            self.pictures.append(pixels)
            self.progress.advance()
        if self._skipped:
            logging.getLogger("filterscope").warning(
                "%d of %d images could not be read and are left out; the first: %s",
                *(len(self._skipped), len(self.sources), self._skipped[0]),
            )
        self._image_notes = levels.warnings()
        for note in self._image_notes:
            logging.getLogger("filterscope").warning("%s", note)

    def _labelled(self, photo: images.PhotoInfo) -> images.PhotoInfo:
        """An image with the class that its own folder names, where it has no other; a number may mean anything."""
        folder = PurePosixPath(photo.name).parent.name
        if photo.label is not None or not self.labels or not folder or folder.isdigit():
            return photo
        return replace(photo, label=self._class_finder.index(folder))

    @cached_property
    def _class_finder(self) -> ClassFinder:
        return ClassFinder(self.labels, len(self.labels))

    def open_workshop(self) -> None:
        """Choose the devices, and gather what all tasks share."""
        from filterscope.analyzer.compute.devices import choose_devices

        self.shop = Workshop(
            network=self.network,
            recipe=self.settings.recipe,
            seed=self.settings.seed,
            devices=choose_devices(self.device),
            prior=self._prior(),
            patches=StrongestPatches(self.network, self.pictures) if self.pictures else None,
        )

    def prove_import(self) -> None:
        """Compare the network's torch form with ONNX Runtime, on the first image where there is one."""
        self.parity = self.network.prove(self.pictures[0] if self.pictures else None)

    def plan_tasks(self) -> None:
        """Turn the settings into tasks, and hash everything that decides their results."""
        from filterscope.analyzer.maximize.engine import batch_size

        def batch(layer: Layer, recipe: Recipe) -> int:
            return batch_size(self.network, layer, self.shop.canvas(layer, "channel", recipe))

        hashes = [hashlib.sha256(picture.tobytes()).hexdigest() for picture in self.pictures]
        self.plan = make_plan(self.network, self.settings, images=hashes, batch=batch)

    def _prior(self) -> Prior | None:
        """Colours and spectrum of the user's images, where there are enough of them to tell."""
        if len(self.pictures) < FEWEST:
            return None
        shape = (self.network.input.channels, self.network.input.height, self.network.input.width)
        return measured_prior(self.pictures, shape)

    def _check_labels(self) -> None:
        answer = classifier_output(self.network)
        outputs = self.network.model.graph.outputs
        if answer is None:
            listed = ", ".join(f"{name} {list(self.network.shapes.get(name, ()))}" for name in outputs[:TOP])
            raise SettingsError(
                f"{setting('labels')}: no output of the network is a list of scores: {listed}; leave it out",
                field="labels",
            )
        if len(self.labels) != answer[1]:
            raise SettingsError(
                f"{setting('labels')}: {len(self.labels)} names for {answer[1]} outputs; give one name a line",
                field="labels",
            )

    def describe_network(self) -> None:
        """Write run.json, the model if it was converted, layers.json and graph.json."""
        self._undone = [task for task in self.plan.tasks if not self._was_done(task)]
        counts = self._info["tasks"]
        counts["done"] = counts["found_done"] = len(self.plan.tasks) - len(self._undone)
        self.writer.write_info(self._info)
        model = self.network.model
        if model.converted:
            content = model.exported()
            if not self.writer.holds_bytes("model.onnx", content):
                self.writer.write_bytes("model.onnx", content)
        self.writer.write_json("layers.json", self._layers_json())
        outline = outline_json(model.graph, self.network.convolutions, self.network.shapes)
        self.writer.write_json("graph.json", {"schema": SCHEMA} | outline)

    def measure_activations(self) -> None:
        """Write each image with the network's prediction, and the activation maps of each analysed layer."""
        self._write_images()
        self._write_maps()

    def maximize_units(self) -> None:
        """Make a first picture of everything, then do the tasks of the plan, whose pictures replace the first ones.

        A time budget ends both; what is not done by then keeps its first picture, or has none.
        """
        budget = self.settings.time_budget
        self._until = None if budget is None else time.monotonic() + budget
        layers = {task.layer for task in self._undone}
        first = [task for task in self.plan.first if not self._was_done(task) and task.layer in layers]
        if self.plan.first and self._undone:
            self.progress.stage("first pictures", sum(len(task.channels) for task in first))
            if not self._perform(first, self._advanced, least=1):
                return
            self._show()
        self._next_look = time.monotonic() + REFRESH
        self.progress.stage("making pictures", sum(len(task.channels) for task in self._undone))
        if self._perform(self._undone, self._task_done, least=0 if first else 1):
            self.writer.remove_first()

    def _was_done(self, task: Task) -> bool:
        """Whether a task was done by an earlier session; what is damaged of it is removed."""
        key = task.key(self.slugs)
        if self.writer.done(key):
            return True
        self.writer.remove_file(f"{key.stem}.parquet")
        return False

    def _perform(self, tasks: Sequence[Task], report: Callable[[Task], None], *, least: int) -> bool:
        return executors.local(
            self.shop, tasks, self.slugs, writer=self.writer, report=report, until=self._until, least=least
        )

    def _show(self) -> None:
        started = time.monotonic()
        self.writer.write_info(self._info)  # how far it came
        self.writer.write_units()
        self.on_pictures(Run(self.out))
        ended = time.monotonic()
        self._next_look = ended + max(REFRESH, LOOK_SHARE * (ended - started))

    def gather_units(self) -> None:
        """Write one table of the rows of all tasks."""
        self.writer.write_units()

    def perform_studies(self) -> None:
        """Perform the study of the weights, which every run gets, and those asked for, each timed by its name."""
        context = Context(
            network=self.network,
            shop=self.shop,
            writer=self.writer,
            settings=self.settings,
            channels=self.plan.channels,
            slugs=self.slugs,
            pictures=self.pictures,
            photos=self.photos,
            labels=self.labels,
            progress=self.progress,
            unfinished=None if self._is_done else self._pictures_so_far(),
        )
        for study in in_order((Weights(), *self.studies)):
            with self._timed(study.name):
                perform(study, context)

    def _pictures_so_far(self) -> str:
        """A hash of which pictures the run has."""
        units = Run(self.out).units
        columns = [units[name].to_pylist() for name in ("layer", "channel", "objective", "is_first")]
        return hashlib.sha256(repr(columns).encode("utf-8", "surrogatepass")).hexdigest()

    @cached_property
    def slugs(self) -> dict[str, str]:
        """Layer → file name, of every layer."""
        return slugs([layer.name for layer in self.network.layers])

    def _advanced(self, task: Task) -> None:
        self.progress.advance(len(task.channels))

    def _task_done(self, task: Task) -> None:
        self._info["tasks"]["done"] += 1
        self.progress.advance(len(task.channels))
        if self.plan.first and not self._is_done and time.monotonic() >= self._next_look:
            self._show()

    @property
    def _is_done(self) -> bool:
        return bool(self._info["tasks"]["done"] == self._info["tasks"]["planned"])

    def _write_images(self) -> None:
        # Names of the classes may come with a later session, and are no part of the plan.
        writer, shapes = self.writer, [picture.shape for picture in self.pictures]
        missing = [i for i, shape in enumerate(shapes) if self.labels or not _has_image(writer, i, shape)]
        if not missing:
            return
        answer_name = (classifier_output(self.network) or (None,))[0]
        session = self.network.session([])
        for index in missing:
            pixels = self.pictures[index]
            answer = session.run(self.network.input.to_model(pixels[None]))
            photo = self.photos[index]
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

    def _write_maps(self) -> None:
        if not self.pictures:
            return
        tables = {layer.name: f"maps/{self.slugs[layer.name]}.parquet" for layer in self.network.layers}
        analysed = [layer for layer in self.network.layers if layer.name in self.plan.channels]
        missing = [layer for layer in analysed if not self.writer.has_whole(tables[layer.name], MAP_SCHEMA)]
        self.progress.stage("activation maps", len(missing))
        for group in layer_groups(self.network, missing, len(self.pictures)):
            write_maps(
                self.network,
                group,
                self.pictures,
                slugs=self.slugs,
                writer=self.writer,
                pictures=self.settings.map_pictures,
            )
            self.progress.advance(len(group))

    def _layers_json(self) -> dict[str, Any]:
        listed = []
        for place, layer in enumerate(self.network.layers):
            chosen = self.plan.channels.get(layer.name, ())
            canvases = {kind: list(self.shop.canvas(layer, kind).size) for kind in CANVASES} if chosen else {}
            listed.append(
                layer.to_json()
                | {
                    "place": place,
                    "slug": self.slugs[layer.name],
                    "analysed": bool(chosen),
                    "channels": list(chosen),
                    "canvas": canvases,
                }
            )
        return {"schema": SCHEMA, "layers": listed}

    def _first_info(self) -> dict[str, Any]:
        spec = self.network.input
        recipe = self.shop.recipe
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
                "recipe": self.plan.recipe,
                "images_of_prior": 0 if self.shop.prior is None else len(self.pictures),
            },
            "versions": cache.versions() | {"python": platform.python_version()},
            "device": self.shop.devices.to_json(),
            "model": self.network.to_json() | {"parity": self.parity.summary()},
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
            "images": len(self.pictures),
            "image_notes": self._image_notes,
            "skipped_images": {"count": len(self._skipped), "errors": self._skipped[:MOST_NAMED]},
            "timings": self.timings,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "finished": None,
            "peak_memory_mib": None,
            "tasks": {"planned": len(self.plan.tasks), "done": 0, "found_done": 0},
        }

    def _close(self, status: str) -> None:
        self.timings["total"] = time.perf_counter() - self._started
        if status == "partial":  # what was written last may not have been counted any more
            done = sum(self.writer.done(task.key(self.slugs)) for task in self.plan.tasks)
            self._info["tasks"]["done"] = max(done, self._info["tasks"]["done"])
        self._info |= {
            "status": status,
            "finished": datetime.now(UTC).isoformat(timespec="seconds") if status == "complete" else None,
            "peak_memory_mib": peak_memory_mib(),
            "timings": {name: round(seconds, 3) for name, seconds in self.timings.items()},
        }
        with contextlib.suppress(FilterscopeError) if status == "partial" else contextlib.nullcontext():
            self.writer.write_info(self._info)

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
    """Largest memory of this process so far, MiB; None if the system does not say."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
