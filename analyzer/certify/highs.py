"""HiGHS: a mixed-integer program handed over and solved, and what its tolerances may hide.

Knows programs and the solver; knows nothing of networks.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from filterscope.analyzer.certify.program import Program

if TYPE_CHECKING:
    import highspy

FEASIBILITY = 1e-6  # HiGHS's tolerance of rows, bounds and whole numbers
OPTIMALITY = 1e-7  # of reduced costs
SEARCH = 1e-5  # relative gap at which HiGHS stops: what float32 and 8 bits cost is more

Row = tuple[np.ndarray, np.ndarray, float, float]  # columns, factors, low, high


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """What a search gives."""

    bound: float  # the program's maximum is no larger
    values: np.ndarray | None  # of the first columns, the pixels', at the best point found; None: none found
    nodes: int  # of the search tree


def branch_and_cut(program: Program, seconds: float) -> Solution:
    """The maximum of any program by HiGHS's own search, in so many seconds of wall-clock time."""
    import highspy

    solver = solver_of(program, program.rows)
    kinds = highspy.HighsVarType
    whole = np.flatnonzero(program.whole).astype(np.int32)
    if len(whole):
        solver.changeColsIntegrality(len(whole), whole, np.full(len(whole), kinds.kInteger))
    solver.setOptionValue("time_limit", max(0.1, seconds))
    solver.setOptionValue("mip_feasibility_tolerance", FEASIBILITY)
    solver.setOptionValue("mip_rel_gap", SEARCH)
    solver.setOptionValue("mip_abs_gap", 0.0)
    start = highspy.HighsSolution()
    start.col_value = program.start
    solver.setSolution(start)
    solver.run()
    info, status = solver.getInfo(), solver.getModelStatus()
    searched = len(whole) > 0
    bound = -(info.mip_dual_bound if searched else info.objective_function_value) + program.constant
    statuses = highspy.HighsModelStatus
    if status != statuses.kOptimal and not (searched and status == statuses.kTimeLimit):
        bound = math.inf  # what the solver could not make sense of proves nothing
    solution = solver.getSolution()
    pixels = np.array(solution.col_value)[: len(program.pixels)] if solution.value_valid else None
    nodes = int(max(0, info.mip_node_count)) if searched else 0
    return Solution(bound + margin(program, bound), pixels, nodes)


def margin(program: Program, bound: float) -> float:
    """By how much a program's maximum may exceed a bound that HiGHS gave.

    HiGHS computes in float64 with tolerances. A bound from duals that miss optimality by OPTIMALITY in each reduced
    cost is off by no more than that times the sum of the variables' ranges (Neumaier & Shcherbina 2004,
    doi:10.1007/s10107-003-0433-3), and nodes are cut off that promise less than FEASIBILITY above the best: both are
    added. Rows that are missed by a tolerance only raise the maximum.
    """
    ranges = sum(high - low for low, high in zip(program.low, program.high, strict=True))
    return OPTIMALITY * ranges + FEASIBILITY * (1 + abs(bound)) if math.isfinite(bound) else 0.0


def solver_of(program: Program, rows: Sequence[Row]) -> highspy.Highs:
    """A silent solver that minimises a program's negated objective, its constant left out, under some rows.

    Nothing is whole, one thread computes.
    """
    import highspy

    with _without_banner():
        solver = highspy.Highs()  # type: ignore[no-untyped-call]
        solver.silent()
    solver.setOptionValue("threads", 1)
    solver.setOptionValue("primal_feasibility_tolerance", FEASIBILITY)
    solver.setOptionValue("dual_feasibility_tolerance", OPTIMALITY)
    lp, infinite = highspy.HighsLp(), highspy.kHighsInf
    lp.num_col_, lp.num_row_ = len(program.low), len(rows)
    lp.col_lower_, lp.col_upper_ = np.array(program.low), np.array(program.high)
    costs = np.zeros(len(program.low))
    costs[program.objective[0]] = -program.objective[1]
    lp.col_cost_ = costs
    lp.row_lower_ = np.array([max(low, -infinite) for *_, low, _ in rows])
    lp.row_upper_ = np.array([min(high, infinite) for *_, high in rows])
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.concatenate([[0], np.cumsum([len(columns) for columns, *_ in rows])]).astype(np.int32)
    lp.a_matrix_.index_ = np.concatenate([np.empty(0), *(columns for columns, *_ in rows)]).astype(np.int32)
    lp.a_matrix_.value_ = np.concatenate([np.empty(0), *(factors for _, factors, *_ in rows)])
    solver.passModel(lp)
    return solver


@contextlib.contextmanager
def _without_banner() -> Iterator[None]:
    """HiGHS greets on standard output, past Python, when its first solver of a process is made."""
    sys.stdout.flush()
    output = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(output, 1)
        os.close(output)
        os.close(nowhere)
