"""Options and settings: each has one name, its choices are the library's, and messages show it as an option."""

import pytest
import typer

from filterscope.analyzer.attribution.methods import METHODS as ATTRIBUTIONS
from filterscope.analyzer.data.images import RESIZES
from filterscope.analyzer.maximize.presets import PRESETS, QUALITIES
from filterscope.analyzer.maximize.single_unit import METHODS
from filterscope.analyzer.network.preprocessing import PRESETS as PREPROCESSINGS
from filterscope.analyzer.network.values import ALL_KINDS
from filterscope.analyzer.units.objectives import OBJECTIVES
from filterscope.cli import app
from filterscope.commands import options
from filterscope.commands.options import as_options

COMMANDS = typer.main.get_command(app)


def own_options():
    """Every option of every command, and of the command itself, but those of Typer."""
    parameters = [*COMMANDS.params, *(p for command in COMMANDS.commands.values() for p in command.params)]
    return [option for p in parameters for option in p.opts if option.startswith("--") and "-completion" not in option]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("`layout=X`: give `layout=NCHW` or `layout=NHWC`", "--layout X: give --layout NCHW or --layout NHWC"),
        ("`input_size` sets it", "--input-size sets it"),
        ("`input_size=64x64`: too small", "--input-size 64x64: too small"),
        ("add `trust=True`", "add --trust"),
        ("`feed=scale=a b.npy`: cannot be read", "--feed scale=a b.npy: cannot be read"),
        ("`filterscope inspect` still lists the layers", "`filterscope inspect` still lists the layers"),
        ("`nonsense=3` and `Relu`", "`nonsense=3` and `Relu`"),
        ("`seed=`: give a number", "--seed : give a number"),
        ("no settings, --seed 3", "no settings, --seed 3"),
        ("a lone ` and `seed", "a lone ` and `seed"),
    ],
)
def test_settings_are_shown_as_options(text, shown):
    assert as_options(text) == shown


def test_every_option_is_a_setting():
    names = {option.removeprefix("--").replace("-", "_") for option in own_options()}
    assert names == options.SETTINGS


def test_choices_are_the_librarys():
    assert tuple(QUALITIES) == options.QUALITIES
    assert set(options.PRESETS) == set(PRESETS)
    assert tuple(PREPROCESSINGS) == options.PREPROCESSINGS
    assert tuple(OBJECTIVES) == options.OBJECTIVES
    assert options.METHODS == METHODS
    assert options.KINDS == ALL_KINDS
    assert ("all", "default", *ATTRIBUTIONS) == options.ATTRIBUTIONS
    assert (*options.RESIZES, "none") == RESIZES


def test_tab_completes_a_choice():
    quality = next(p for p in COMMANDS.commands["analyze"].params if p.name == "quality")
    context = typer.Context(COMMANDS.commands["analyze"])
    assert [item.value for item in quality.shell_complete(context, "s")] == ["standard"]


@pytest.mark.parametrize("name", sorted(COMMANDS.commands))
def test_help_has_groups_defaults_and_no_type_beside_a_switch(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit):
        COMMANDS.main([name, "--help"], prog_name="filterscope")
    text = capsys.readouterr().out
    assert "<bool>" not in text
    heads = [line.split("─ ")[1].rstrip(" ─╮").strip() for line in text.splitlines() if line.startswith("╭─ ")]
    assert "Options" not in heads
    order = ["Arguments", *filter(None, options.GROUPS)]
    assert heads == [head for head in order if head in heads]


def test_analyze_help_ends_in_three_examples(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit):
        COMMANDS.main(["analyze", "--help"], prog_name="filterscope")
    text = capsys.readouterr().out
    heads = ["Arguments", "Model and input", "What is made", "Data and studies", "Output", "Machine", "Examples:"]
    assert [text.index(head) for head in heads] == sorted(text.index(head) for head in heads)
    assert text.split("Examples:")[1].count("filterscope analyze ") == 3


def test_every_option_of_a_value_shows_its_default():
    for command in COMMANDS.commands.values():
        for parameter in command.params:
            if parameter.param_type_name == "option" and not parameter.is_flag and not parameter.required:
                assert parameter.default is not None or isinstance(parameter.show_default, str), parameter.name
