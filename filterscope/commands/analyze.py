"""`filterscope analyze` and `filterscope demo`: a network, and perhaps images, become a run and its report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from filterscope import interrupts
from filterscope.commands.browser import show_page
from filterscope.commands.opening import Opening, note_assumptions, opens_a_model
from filterscope.commands.options import (
    ATTRIBUTIONS,
    DATA,
    INPUT,
    KINDS,
    MACHINE,
    OBJECTIVES,
    OUTPUT,
    PRESETS,
    QUALITIES,
    RESULT,
    Device,
    JsonLog,
    Labels,
    NoResize,
    Open,
    Quiet,
    Resize,
    White,
    one_of,
)
from filterscope.exit_codes import INTERRUPTED, path_text, say, say_how_pictures_go

if TYPE_CHECKING:
    from filterscope.analyzer.network.network import Network
    from filterscope.analyzer.run.reader import Run
    from filterscope.analyzer.studies.study import Study
    from filterscope.commands.progress import Reporter
    from filterscope.requests.analyze import AnalyzeRequest

TUNINGS = ("auto", "all", "none")
UNCHOSEN = ("auto", "none")  # attributions: no methods are named
AUTO_ATTRIBUTION = ("grad-cam",)  # beside which the study explains why not the next class
Layers = Annotated[
    list[str] | None,
    typer.Option(
        help="Names or globs, separated by commas. May be repeated.", show_default="all", rich_help_panel=RESULT
    ),
]


@opens_a_model
def analyze(
    opening: Opening,
    images: Annotated[
        list[str] | None,
        typer.Option(
            help="Photos: a file, folder, glob, .npz or .npy (file.npz:0-99 for some); of five or more the pictures "
            "take colours and spectrum. May be repeated.",
            show_default="none",
            rich_help_panel=INPUT,
        ),
    ] = None,
    resize: Resize = "auto",
    no_resize: NoResize = False,
    white: White = None,
    labels: Labels = None,
    quality: Annotated[
        str,
        typer.Option(help="Steps of the ascent: 32, 128 or 512.", **one_of(*QUALITIES), rich_help_panel=RESULT),
    ] = "standard",
    preset: Annotated[
        str,
        typer.Option(
            help=f"Recipe of the ascent: {', '.join(PRESETS)}.",
            **one_of(*PRESETS, metavar="<preset>"),
            rich_help_panel=RESULT,
        ),
    ] = "filterscope",
    objective: Annotated[
        list[str] | None,
        typer.Option(
            help="What is maximised of a unit. May be repeated.",
            **one_of(*OBJECTIVES[:-1]),
            show_default="channel",
            rich_help_panel=RESULT,
        ),
    ] = None,
    layers: Layers = None,
    kinds: Annotated[
        str,
        typer.Option(
            help=f"Of which kinds a glob's layers are, separated by commas: {', '.join(KINDS)}. A block ends in a "
            "residual sum or a concatenation.",
            **one_of(*KINDS, metavar="<kinds>"),
            rich_help_panel=RESULT,
        ),
    ] = "conv,block",
    channels: Annotated[
        str,
        typer.Option(help="auto, all, 16/layer, or numbers and ranges: 0,4,8-11.", rich_help_panel=RESULT),
    ] = "auto",
    maps: Annotated[
        int, typer.Option(help="Images whose activation maps go into the pages.", rich_help_panel=RESULT)
    ] = 12,
    seed: Annotated[int, typer.Option(help="Same seed, same pictures.", rich_help_panel=RESULT)] = 0,
    examples: Annotated[
        list[str] | None,
        typer.Option(
            help="A data set to find each unit's strongest images in: a folder (with one a class inside), .npz, .npy, "
            "files of CIFAR, MNIST, SVHN. May be repeated.",
            show_default="none",
            rich_help_panel=DATA,
        ),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            help="Pictures of classes: auto (10 at draft, 24, 100 at fine; those of your images first), all, how many, "
            "or numbers and names. May be repeated.",
            show_default="none",
            rich_help_panel=DATA,
        ),
    ] = None,
    inversion: Annotated[
        list[str] | None,
        typer.Option(
            help="Images from activations alone: auto (3 layers of 1 image at draft, 6 of 3, 12 of 6 at fine), or "
            "names and globs of layers. May be repeated.",
            show_default="none",
            rich_help_panel=DATA,
        ),
    ] = None,
    groups: Annotated[
        list[str] | None,
        typer.Option(
            help="Channels that act together on your images: auto (1 layer of 1 image at draft, 2 of 3, 3 of 6 at "
            "fine), or names and globs of layers. May be repeated.",
            show_default="none",
            rich_help_panel=DATA,
        ),
    ] = None,
    attribution: Annotated[
        str,
        typer.Option(
            help="Which pixels of your images speak for a classifier's answer: auto (by Grad-CAM), none, or methods "
            f"separated by commas: {', '.join(ATTRIBUTIONS)}.",
            **one_of(*UNCHOSEN, *ATTRIBUTIONS, metavar="<methods>"),
            rich_help_panel=DATA,
        ),
    ] = "auto",
    sanity: Annotated[
        bool,
        typer.Option(
            "--sanity",
            help="With --attribution: again with randomised weights (Adebayo et al. 2018).",
            rich_help_panel=DATA,
        ),
    ] = False,
    tuning: Annotated[
        str,
        typer.Option(
            help="Responses to gratings, edges, bars, colours; auto: of the first layers.",
            **one_of(*TUNINGS),
            rich_help_panel=DATA,
        ),
    ] = "auto",
    truth: Annotated[
        bool, typer.Option("--truth", help="Compare maximised pictures with your images.", rich_help_panel=DATA)
    ] = False,
    values: Annotated[
        list[str] | None,
        typer.Option(
            help="Maps of other values: all, pool, activation, dense, an operator or a name. May be repeated.",
            show_default="none",
            rich_help_panel=DATA,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Folder of the run.", show_default="MODEL-filterscope", rich_help_panel=OUTPUT
        ),
    ] = None,
    open_page: Open = False,
    quiet: Quiet = False,
    json_log: JsonLog = False,
    device: Device = "auto",
    time_budget: Annotated[
        str | None,
        typer.Option(
            help="90s, 10m, 1h for the pictures; the same command then goes on with the rest.",
            show_default="no limit",
            rich_help_panel=MACHINE,
        ),
    ] = None,
) -> None:
    """Analyse a network and make its report. Run again in the same folder to go on where it stopped."""
    from dataclasses import replace

    from filterscope.commands.progress import choose
    from filterscope.requests.analyze import AnalyzeRequest, settings_with
    from filterscope.requests.labels import read_labels

    options = StudyOptions(
        examples=tuple(examples or ()),
        classes=tuple(classes or ()),
        inversion=tuple(inversion or ()),
        groups=tuple(groups or ()),
        attribution=attribution,
        sanity=sanity,
        tuning=tuning,
        truth=truth,
        values=tuple(values or ()),
        has_images=bool(images),
        white=white,
    )
    request = AnalyzeRequest(
        images=images or (),
        settings=settings_with(
            None,
            quality=quality,
            preset=preset,
            objective=objective or "channel",
            layers=layers,
            kinds=kinds,
            channels=channels,
            seed=seed,
            maps=maps,
            resize="none" if no_resize else resize,
            time_budget=time_budget,
        ),
        studies=options.of_data(),
        labels=read_labels(labels) if labels else (),
        device=device,
        white=white,
    )
    network = opening.open()
    request = replace(
        request,
        out=out or Path(f"{opening.stem}-filterscope"),
        studies=[*request.studies, *options.of_network(network, request.labels)],
    )
    note_assumptions(network)
    say_how_pictures_go(network)
    run_and_report(request, network, choose(quiet, json_log), speaks=not (quiet or json_log), opens=open_page)


def demo(
    quality: Annotated[
        str,
        typer.Option(help="Steps of the ascent: 32, 128 or 512.", **one_of(*QUALITIES), rich_help_panel=RESULT),
    ] = "standard",
    layers: Layers = None,
    channels: Annotated[
        str,
        typer.Option(help="auto, all, 16/layer, or numbers and ranges: 0,4,8-11.", rich_help_panel=RESULT),
    ] = "all",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.", rich_help_panel=OUTPUT)] = Path(
        "demo-filterscope"
    ),
    open_page: Annotated[
        bool, typer.Option("--open", help="Open the report in the browser, when it is done.", rich_help_panel=OUTPUT)
    ] = False,
    quiet: Quiet = False,
    json_log: JsonLog = False,
) -> None:
    """Analyse the bundled CIFAR-10 network on 500 of its test images, which are bundled too. Needs no connection."""
    from filterscope import demo as bundled
    from filterscope.commands.progress import choose
    from filterscope.requests.analyze import AnalyzeRequest

    network, labels = bundled.network(), bundled.labels()
    options = StudyOptions(
        examples=(str(bundled.data()),),
        classes=("all",),
        groups=("auto",),
        attribution="default",
        truth=True,
        values=("all",),
        has_images=True,
    )
    request = AnalyzeRequest(
        images=bundled.images(),
        out=out,
        settings=bundled.settings(quality, tuple(layers or ()), channels),
        studies=[*options.of_data(), *options.of_network(network, labels)],
        labels=labels,
    )
    speaks = not (quiet or json_log)
    page = run_and_report(request, network, choose(quiet, json_log), speaks=speaks)
    if speaks:
        say("your own network: filterscope analyze model.onnx --images photos/ --examples dataset/")
    if open_page:
        show_page(page)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyOptions:
    """The options that add studies to a run, checked before the network is opened.

    Raises:
        SettingsError: an option that makes no sense, or one about images where there are none.
    """

    examples: Sequence[str] = ()
    classes: Sequence[str] = ()
    inversion: Sequence[str] = ()
    groups: Sequence[str] = ()
    attribution: str = "auto"
    sanity: bool = False
    tuning: str = "auto"
    truth: bool = False
    values: Sequence[str] = ()
    has_images: bool = False
    white: float | None = None

    def __post_init__(self) -> None:
        from filterscope.analyzer.data.white import check_white
        from filterscope.converters.errors import SettingsError

        check_white(self.white)
        has_pictures = self.has_images or bool(self.examples)
        if self.white is not None and not has_pictures:
            raise SettingsError("--white: is of your pictures; give --images or --examples")
        if self.tuning not in TUNINGS:
            raise SettingsError(f"--tuning {self.tuning}: give one of {', '.join(TUNINGS)}")
        if self.truth and not has_pictures:
            raise SettingsError("--truth: compares pictures with natural images; give --images or --examples")
        if self.values and not self.has_images:
            raise SettingsError("--values: shows values on your images; give --images")
        if self.sanity and self.attribution in UNCHOSEN:
            raise SettingsError("--sanity: is of the attributions you choose; give --attribution default too")

    def of_data(self) -> list[Study]:
        """The studies that need no network to be checked.

        Raises:
            FilterscopeError: a data set that cannot be read, or no such method.
        """
        studies: list[Study] = []
        if self.attribution not in UNCHOSEN:
            from filterscope.analyzer.attribution.methods import methods_named
            from filterscope.analyzer.studies.attribution import Attribution
            from filterscope.converters.errors import SettingsError

            if self.attribution not in ATTRIBUTIONS and "," not in self.attribution:
                advice = f"give auto, none or some of {', '.join(ATTRIBUTIONS)}"
                raise SettingsError(f"--attribution {self.attribution}: {advice}")
            methods = methods_named(self.attribution, "attribution")
            studies.append(Attribution(methods, sanity=self.sanity))
        if self.examples:
            from filterscope.analyzer.studies.examples.examples import Examples

            studies.append(Examples(list(self.examples), white=self.white))
        return studies

    def of_network(self, network: Network, labels: Sequence[str]) -> list[Study]:
        """The studies of classes, layers and values, and those that fit the network by themselves.

        Args:
            labels: class names in order; none: the network's own.

        Raises:
            SettingsError: a class, layer or value that the network does not have, or no images where one needs them.
        """
        from filterscope.analyzer.network.scores import classifier_output
        from filterscope.analyzer.studies.attribution import Attribution
        from filterscope.analyzer.studies.truth import TruthStudy
        from filterscope.analyzer.studies.tuning.tuning import TuningStudy
        from filterscope.analyzer.studies.values import ValueStudy, chosen_values

        studies = self._of_classes_and_layers(network, labels)
        if self.attribution == "auto" and self.has_images and classifier_output(network):
            studies.append(Attribution(AUTO_ATTRIBUTION))
        if self.values:
            chosen_values(network, self.values)
            studies.append(ValueStudy(tuple(self.values)))
        if self.tuning != "none":
            studies.append(TuningStudy(self.tuning == "all"))
        if self.truth:
            studies.append(TruthStudy())
        return studies

    def _of_classes_and_layers(self, network: Network, labels: Sequence[str]) -> list[Study]:
        from filterscope.analyzer.network.scores import own_labels
        from filterscope.converters.errors import SettingsError

        studies: list[Study] = []
        if self.classes:
            from filterscope.analyzer.studies.classes import Classes

            classes = Classes(self.classes[0] if len(self.classes) == 1 else tuple(self.classes))
            classes.check(network, labels or own_labels(network))
            studies.append(classes)
        for option, names in (("--inversion", self.inversion), ("--groups", self.groups)):
            if names and not self.has_images:
                raise SettingsError(f"{option}: is of your images; give --images")
        if self.inversion:
            from filterscope.analyzer.studies.inversion import Inversion

            inversion = Inversion(_layers(self.inversion))
            inversion.chosen(network, (), 1)
            studies.append(inversion)
        if self.groups:
            from filterscope.analyzer.studies.groups import Groups

            groups = Groups(_layers(self.groups))
            if groups.layers:
                groups.chosen(network, (), 1)
            studies.append(groups)
        return studies


def run_and_report(
    request: AnalyzeRequest, network: Network, progress: Reporter, *, speaks: bool, opens: bool = False
) -> Path:
    """Run the analysis, make the pages, and print where they are; an interrupt says how to go on.

    Args:
        speaks: whether a line says where the pages of first pictures are.
        opens: whether the first page is opened in the browser, as soon as it is there.

    Returns:
        The report's first page.
    """
    from filterscope.requests.runs import ReportRequest

    out = request.out
    interrupts.set_line(f"interrupted; what is done is kept in {out}: run the same command again to go on")
    is_shown = False

    def make_pages(run: Run) -> Path:
        progress.stage("making pages", 1)
        page = ReportRequest().run(run)
        progress.advance()
        return page

    def show(run: Run) -> None:
        nonlocal is_shown
        if is_shown:  # while pictures are made: their progress stays where it is
            ReportRequest().run(run)
            return
        page, is_shown = make_pages(run), True
        if speaks:
            say(f"first pictures: {path_text(page)}; better ones replace them, reload the page to see them …")
        if opens:
            show_page(page)

    try:
        run = request.run(network, progress, _command_line(), show)
        page = make_pages(run)
    except KeyboardInterrupt as error:
        progress.close()
        if not (out / "run.json").is_file():
            interrupts.set_line("interrupted; nothing was written yet: run the same command again to go on")
        interrupts.say_line()
        raise typer.Exit(INTERRUPTED) from error
    finally:
        progress.close()
    tasks = run.info.tasks
    if speaks and tasks is not None and tasks.done < tasks.planned:
        first = sum(bool(row) for row in run.units["is_first"].to_pylist())
        state = f"{first} of {len(run.units)} pictures are first ones" if first else "not all pictures are made"
        say(f"the time is over: {state}; the same command goes on")
    typer.echo(path_text(page))
    if opens and not is_shown:
        show_page(page)
    return page


def _command_line() -> list[str]:
    """What was typed, for the run's record: whether a browser shows the report is no part of the run."""
    return ["filterscope", *(argument for argument in sys.argv[1:] if argument != "--open")]


def _layers(names: Sequence[str]) -> tuple[str, ...]:
    """Names and globs; none for auto."""
    return () if list(names) == ["auto"] else tuple(names)
