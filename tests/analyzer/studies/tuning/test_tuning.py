"""Tuning: Gabor filters as convolutions are named as they were made, random filters are not named."""

import numpy as np
import onnx
import pytest

from filterscope.analyzer.analysis import Analysis
from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.execution.plan import Settings
from filterscope.analyzer.network.network import InputOptions
from filterscope.analyzer.network.preprocessing import custom, preset
from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.studies.tuning import tuning
from filterscope.analyzer.studies.tuning.selectivity import mean_angle, phase_modulation, selectivity
from filterscope.analyzer.studies.tuning.stimuli import ORIENTATIONS, Colour, Pattern, Stimuli, Stimulus
from filterscope.analyzer.studies.tuning.tuning import TuningStudy, cost, stimuli_for
from support.networks import build, needs_data, normal

SIDE = 9
WHITE, ORANGE = (1, 1, 1), (1, 0, -1)
GABORS = [(20, 5, 0.3, WHITE), (75, 6, 1.6, ORANGE), (130, 4, 2.5, WHITE), (160, 5, 0.0, ORANGE)]


def gabor(angle, period, phase, colour):
    """(bands, 9, 9): stripes of this angle, counter-clockwise from horizontal, under a Gaussian."""
    y, x = np.meshgrid(4 - np.arange(9), np.arange(9) - 4, indexing="ij")
    across = y * np.cos(np.radians(angle)) - x * np.sin(np.radians(angle))
    wave = np.cos(2 * np.pi * across / period + phase) * np.exp(-(x**2 + y**2) / 2 / 2.5**2)
    return (np.array(colour)[:, None, None] * wave).astype(np.float32)


def tuned(folder, nodes, weights, *, shape=("N", 3, 24, 24), preprocessing=None, channels="all", study=None):
    onnx.save(build(nodes, weights, shape=shape), folder / "model.onnx")
    network = open_network(folder / "model.onnx", InputOptions(preprocessing=preprocessing or preset("symmetric")))
    settings = Settings(channels=channels)
    Analysis(network, settings, [], folder / "run", studies=[study or TuningStudy()]).run()
    run = Run(folder / "run")
    return run, run.table("tuning/units.parquet").to_pylist()


CONV = [("Conv", "x w", "y", {"pads": [4, 4, 4, 4]})]


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_gabor_filters_get_the_words_they_were_made_from(tmp_path, order):
    made = np.stack([gabor(*one) for one in GABORS])
    weights = {"w": made if order == "RGB" else made[:, ::-1]}
    run, rows = tuned(tmp_path, CONV, weights, preprocessing=custom(1, (0.5,), (0.5,), order, 3))
    for row, (angle, period, _, colour), filters in zip(rows, GABORS, made, strict=True):
        apart = abs(row["orientation"] - angle)
        assert min(apart, 180 - apart) < 3
        named = float(row["words"].split("°")[0].split()[-1])
        assert abs(named - angle) <= 5
        assert abs(np.log2(row["period"] / period)) < 0.5
        assert ("orange" in row["words"] and "sky blue" in row["words"]) == (colour is ORANGE)
        assert (row["colour_selectivity"] > 0.2) == (colour is ORANGE)
        # The strongest stimulus, by hand: what the filter makes of its saved picture, above mid grey's.
        shown = (run.tile(row).astype(float) - 128) / 127.5
        assert row["response"] == pytest.approx(np.sum(shown.transpose(2, 0, 1) * filters), rel=1e-3)
        assert row["response"] <= row["strongest"] == pytest.approx(np.abs(filters).sum(), rel=0.01)


def test_random_filters_get_no_words(tmp_path):
    _, rows = tuned(tmp_path, CONV, {"w": normal(64, 3, 9, 9)})
    assert [row["words"] for row in rows] == [None] * 64
    small = tmp_path / "small"
    small.mkdir()
    _, rows = tuned(small, [("Conv", "x w", "y")], {"w": normal(200, 3, 3, 3)})
    assert sum(row["words"] is not None for row in rows) <= 8  # where the field is small, one in a hundred is expected


def test_plain_colours_spots_and_silence(tmp_path):
    y, x = np.meshgrid(np.arange(9) - 4, np.arange(9) - 4, indexing="ij")
    spot = np.where(np.hypot(x, y) < 2.5, 1.0, -0.25)
    weights = np.zeros((4, 3, 9, 9), np.float32)
    weights[0, 2] = 1  # blue light, and against red and green
    weights[0, :2] = -0.6
    weights[1] = spot
    weights[2] = -1
    _, rows = tuned(tmp_path, CONV, {"w": weights})
    assert rows[0]["words"] == "uniform colour, blue"
    assert rows[0]["hue"] == pytest.approx(240, abs=1)
    assert rows[1]["words"].startswith("spot, ")
    assert rows[1]["words"].endswith("white on black")
    assert rows[2]["words"] == "uniform colour, black"
    assert rows[3]["words"] is rows[3]["atlas"] is rows[3]["best"] is None  # nothing raises a unit without weights


def test_a_unit_that_adds_rectified_opposite_phases_ignores_the_phase(tmp_path):
    pair = np.stack([gabor(45, 5, phase, WHITE) for phase in np.arange(4) * np.pi / 2])
    nodes = [*CONV, ("Relu", "y", "r"), ("Conv", "r s", "z")]
    _, rows = tuned(tmp_path, nodes, {"w": pair, "s": np.ones((1, 4, 1, 1), np.float32)})
    assert rows[0]["phase_modulation"] == pytest.approx(np.pi / 2, abs=0.15)
    assert rows[4]["phase_modulation"] < 0.2
    assert abs(rows[4]["orientation"] - 45) < 3


@pytest.mark.parametrize(("bands", "hues"), [(1, None), (4, None), (3, 12)])
def test_any_number_of_bands_and_both_layouts(tmp_path, bands, hues):
    weights = {"w": normal(3, bands, 3, 3)}
    nodes = [("Transpose", "x", "t", {"perm": [0, 3, 1, 2]}), ("Conv", "t w", "y")]
    run, rows = tuned(tmp_path, nodes, weights, shape=("N", 12, 12, bands))
    for row in rows:
        assert (None if row["hue_curve"] is None else len(row["hue_curve"])) == hues
        assert run.tile(row).shape == (3, 3, bands)
    notes = run.study("tuning")["notes"]
    assert any("4 bands" in note for note in notes) == (bands == 4)


def test_layers_beyond_the_budget_are_left_out_and_said(tmp_path, monkeypatch):
    nodes = [("Conv", "x a", "y"), ("Conv", "y b", "z")]
    weights = {"a": normal(4, 3, 3, 3), "b": normal(4, 4, 5, 5)}
    monkeypatch.setitem(tuning.BUDGETS, "standard", 4e6)
    run, rows = tuned(tmp_path, nodes, weights)
    first = run.layers[0]["name"]
    assert {row["layer"] for row in rows} == {first}
    assert first in run.study("tuning")["notes"][0]
    _, rows = tuned(tmp_path, nodes, weights, study=TuningStudy(everything=True))
    assert len(rows) == 8


def test_what_a_picture_costs(tmp_path):
    onnx.save(build(CONV, {"w": normal(2, 3, 9, 9)}, shape=("N", 3, 24, 24)), tmp_path / "m.onnx")
    network = open_network(tmp_path / "m.onnx")
    assert cost(network, network.layers[0], (12, 24)) == 12 * 24 * 2 * 3 * 81


def test_stimuli_stand_where_the_neuron_looks(tmp_path):
    nodes = [("Conv", "x w", "y", {"pads": [1, 1, 1, 1], "strides": [2, 2]})]
    onnx.save(build(nodes, {"w": normal(2, 3, 3, 3)}, shape=("N", 3, 24, 24)), tmp_path / "m.onnx")
    network = open_network(tmp_path / "m.onnx")
    from filterscope.analyzer.units.canvas import canvas_for

    layer = network.layers[0]
    assert stimuli_for(network, layer, canvas_for(network, layer, "neuron")).field == (1, 1, 3, 3)


def test_angles_are_counter_clockwise_and_grey_is_grey():
    stimuli = Stimuli((9, 9), (0, 0, 9, 9), 3)
    white = stimuli.axes[0]
    edge = stimuli.pixels([Stimulus(Pattern("edge", 0, 40), white)])[0]
    assert (edge[0] == 255).all()
    assert (edge[-1] == 0).all()  # 0°: horizontal, bright above
    bar = stimuli.pixels([Stimulus(Pattern("bar", 45, 2), white)])[0, :, :, 0]
    assert bar[0, 8] == bar[8, 0] == 255  # rises to the right
    assert bar[0, 0] == bar[8, 8] == 0
    nothing = Colour("none", "none", (0.0, 0.0, 0.0))
    assert (stimuli.pixels([Stimulus(Pattern("colour"), nothing)]) == 128).all()
    assert len(set(stimuli.all)) == len(stimuli.all)


def test_indices_against_their_closed_forms():
    angles = np.radians(ORIENTATIONS)
    assert selectivity(np.ones(12), ORIENTATIONS, 2) == pytest.approx(0)
    assert selectivity(np.eye(12)[3], ORIENTATIONS, 2) == pytest.approx(1)
    assert selectivity(1 + np.cos(2 * angles), ORIENTATIONS, 2) == pytest.approx(0.5)  # ∫(1 + cos 2θ) cos 2θ ÷ ∫
    assert mean_angle(np.exp(np.cos(2 * (angles - np.radians(173)))), ORIENTATIONS, 2) == pytest.approx(173, abs=0.1)
    wave = np.cos(np.radians(45) * np.arange(8) + 0.7)
    assert phase_modulation(wave) == pytest.approx(np.pi / 2, rel=0.1)
    assert phase_modulation(np.full(8, 3.0)) == 0


@needs_data
def test_first_layer_of_a_real_network(tmp_path):
    """Orientation by stimuli against the weights' own spectrum, where the filter has a clear one."""
    from support.networks import MODELS

    network = open_network(MODELS / "squeezenet1.0_fp16.onnx", InputOptions(preprocessing=preset("caffe-bgr")))
    settings = Settings(layers=("conv1",), channels="all")
    Analysis(network, settings, [], tmp_path / "run", studies=[TuningStudy()]).run()
    rows = Run(tmp_path / "run").table("tuning/units.parquet").to_pylist()
    weight = network.layers[0].weight.sum(axis=1)
    frequency = np.fft.fftshift(np.fft.fftfreq(64))
    fy, fx = np.meshgrid(-frequency, frequency, indexing="ij")
    compared = 0
    for row in rows:
        if not row["words"] or "°" not in row["words"] or "white" not in row["words"]:
            continue
        power = np.abs(np.fft.fftshift(np.fft.fft2(weight[row["channel"]], (64, 64)))) ** 2
        vector = np.sum(power * np.exp(2j * np.arctan2(fy, fx)))
        normal_to_line = np.degrees(np.angle(vector)) / 2
        apart = abs(row["orientation"] - normal_to_line - 90) % 180
        assert min(apart, 180 - apart) < 25, row["channel"]
        compared += 1
    assert compared >= 10
