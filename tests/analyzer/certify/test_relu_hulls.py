"""Faces of ReLU hulls against vertices of the box, and the search against the solver's own."""

import itertools
import math
import time

import numpy as np
import pytest

from filterscope.analyzer.certify.branch_and_bound import branch_and_bound
from filterscope.analyzer.certify.highs import branch_and_cut
from filterscope.analyzer.certify.program import Program, ReluVariable
from filterscope.analyzer.certify.relu_hulls import Hulls


def one_relu(rng, count):
    """A program of pixels in random intervals, one of them a point, and one ReLU of them all."""
    program = Program()
    low = rng.normal(size=count)
    width = rng.uniform(0, 2, count) * (np.arange(count) > 0)
    columns = [program.add_variable(a, a + w, a) for a, w in zip(low, width, strict=True)]
    factors = rng.normal(size=count)
    middle, radius = factors @ (low + width / 2), np.abs(factors) @ width / 2
    constant = rng.uniform(-radius, radius) - middle
    y = program.add_variable(0.0, middle + radius + constant, 0.0)
    relu = ReluVariable(
        y, np.array(columns), factors, constant, middle - radius + constant, middle + radius + constant, True
    )
    return program, relu


@pytest.mark.parametrize("seed", range(20))
def test_the_face_at_a_point_is_the_concave_envelope_and_lies_above_the_relu(seed):
    """There it is the largest mean of the ReLU over vertices whose mean is the point: a linear program says which."""
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(seed)
    program, relu = one_relu(rng, 6)
    vertices = np.array(list(itertools.product(*zip(program.low[:6], program.high[:6], strict=True))))
    values = np.maximum(vertices @ relu.factors + relu.constant, 0)
    x = np.array([rng.uniform(a, b) if b > a else a for a, b in zip(program.low[:6], program.high[:6], strict=True)])
    best = -optimize.linprog(-values, A_eq=np.vstack([vertices.T, np.ones(len(vertices))]), b_eq=[*x, 1]).fun
    slopes, offsets = Hulls.of(program, [relu]).linear_bounds(np.append(x, 0.0))
    assert slopes[0] @ x + offsets[0] == pytest.approx(best, abs=1e-7)
    assert np.all(vertices @ slopes[0] + offsets[0] >= values)


def random_program(rng, pixels, units, fan):
    """Two layers of ReLUs, each of a few inputs with weights of both signs, and a random objective on both."""
    program = Program()
    program.pixels = np.arange(pixels)
    before = [program.add_variable(-1.0, 1.0, 0.0) for _ in range(pixels)]
    outputs = []
    for _ in range(2):
        after = []
        for _ in range(units):
            columns = np.sort(rng.choice(before, fan, replace=False))
            factors, constant = rng.normal(size=fan), rng.normal() / 4
            ends = np.array([factors * np.array(end)[columns] for end in (program.low, program.high)])
            low, high = ends.min(axis=0).sum() + constant, ends.max(axis=0).sum() + constant
            if not low < 0 < high:
                continue
            at = float(factors @ np.array(program.start)[columns]) + constant
            y = program.add_variable(0.0, high, max(at, 0.0))
            a = program.add_variable(0.0, 1.0, float(at > 0), whole=True)
            program.add_row([*columns, y], [*-factors, 1.0], constant, math.inf)
            program.add_row([*columns, y, a], [*-factors, 1.0, -low], -math.inf, constant - low)
            program.add_row([y, a], [1.0, -high], -math.inf, 0.0)
            program.relus.append(ReluVariable(y, columns, factors, constant, low, high, raising=True))
            after.append(y)
        outputs += after
        before = after
    program.objective = np.array(outputs), rng.normal(size=len(outputs))
    program.constant = float(rng.normal())
    return program


def value(program, pixels):
    """The objective at a point, ReLU by ReLU."""
    values = np.zeros(len(program.low))
    values[program.pixels] = pixels
    for relu in program.relus:
        values[relu.y] = max(relu.factors @ values[relu.columns] + relu.constant, 0)
    return program.objective[1] @ values[program.objective[0]] + program.constant


@pytest.mark.parametrize("seed", range(8))
def test_the_search_ends_where_the_solvers_own_does(seed):
    program = random_program(np.random.default_rng(seed), 8, 10, 5)
    assert program.has_relus_alone
    own = branch_and_cut(program, 60)
    found = branch_and_bound(program, 60, time.perf_counter)
    reached = value(program, found.values)
    assert reached <= own.bound
    assert value(program, own.values) <= found.bound
    assert found.bound == pytest.approx(reached, rel=1e-4, abs=1e-4)
    assert found.bound == pytest.approx(own.bound, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("asks", [0, 1, 3, 20])
def test_a_search_cut_short_still_bounds_every_point(asks):
    """By a clock that counts how often it is asked."""
    rng = np.random.default_rng(1)
    program = random_program(rng, 8, 10, 6)
    whole = branch_and_cut(program, 60)
    asked = itertools.count()
    found = branch_and_bound(program, asks, lambda: float(next(asked)))
    assert found.nodes <= asks
    assert value(program, whole.values) <= found.bound
    assert value(program, found.values) <= whole.bound
