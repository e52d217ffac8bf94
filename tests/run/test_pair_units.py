"""The pair pass: tiles in cells or in planes, and what is taken of channels on the way."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bigcorr as bc
from bigcorr.kernels.cells import (
    CELL,
    cell_rows,
    cell_totals,
    mark_cells,
    standardise,
    standardise_cells,
)
from bigcorr.kernels.rows import rows_of
from bigcorr.run import workspace
from bigcorr.run.cluster import ThreadPool
from bigcorr.run.pairs_job import ask, compute, plan_for
from bigcorr.run.progress import SILENT

WIDE = 3080, 4100
"""More than 12 blocks of 1024: spectra are taken in the pair pass."""


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(5)
    stack = rng.poisson(0.4, (3, *WIDE)).astype(np.uint8)
    stack[1] += rng.poisson(2.0, WIDE).astype(np.uint8)  # its mean is far from zero
    stack[2, :2048] = 0  # empty blocks
    return stack


def run(stack, change=None, **question):
    """All matrices of a run whose plan was changed."""
    asked = ask(stack, **{"measures": ["pearson"], **question})
    pool = ThreadPool(2)
    plan = plan_for(asked, pool)
    if change is not None:
        plan = dataclasses.replace(plan, **change)
    return plan, compute(asked, plan, pool, None, SILENT).dataset()


@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from(["uint8", "uint16", "float32", "float64"]),
    st.sampled_from(["float32", "float64"]),
    st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_cells_have_the_bits_of_planes(height, width, dtype, item, masked):
    rng = np.random.default_rng(height * 71 + width)
    x = rng.poisson(0.05, (height, width)).astype(dtype)
    valid = rng.integers(0, 2, x.shape).astype(np.uint8) if masked else np.zeros((0, 0), np.uint8)
    shape = -(-height // CELL), -(-width // CELL)
    cells = np.full((*shape, 2, CELL * CELL), 7, item)
    sums, squares = np.zeros((2, 2, *shape))
    marks = np.zeros((2, *shape), np.uint8)
    standardise_cells(
        *rows_of(x), height, width, valid, masked, 0.0, 0.5, 1, cells, sums, squares, marks
    )
    z = np.zeros((1, height, width), item)
    planes = np.zeros((1, *shape), np.uint8)
    standardise(*rows_of(x), valid, masked, 0.0, 0.5, z[0])
    mark_cells(z[0], planes[0])
    assert np.array_equal(marks[1], planes[0])
    totals = np.zeros((1, *shape))
    cell_totals(z, 0, height, 0, width, totals)
    assert np.array_equal(totals[0], sums[1])
    for i, j in np.ndindex(shape):
        rows, own = np.empty((1, CELL * CELL), item), np.zeros((2, 1))
        box = i * CELL, min((i + 1) * CELL, height), j * CELL, min((j + 1) * CELL, width)
        cell_rows(z, np.arange(1), *box, rows, *own)
        assert np.array_equal(rows[0], cells[i, j, 1])
        assert own[:, 0].tolist() == [sums[1, i, j], squares[1, i, j]]
    assert (cells[:, :, 0] == 7).all()
    assert not marks[0].any()


@pytest.mark.parametrize("missing", ["none", "shared", "own"])
def test_strips_and_planes_change_no_bit(counts, missing):
    stack, question = counts, {}
    if missing == "shared":
        mask = np.ones(WIDE, bool)
        mask[:, 1500:2500] = False
        question = {"mask": mask}
    elif missing == "own":
        stack = counts.astype(np.float32)
        stack[0, 100:700, 900:2000] = np.nan
    plan, whole = run(stack, {"strip": 1024}, **question)
    assert plan.field_on_the_way
    assert plan.side == 1024
    # Strips of 512 hold the parts that spectra are taken of, those of 96 rows do not.
    for rows in (512, 96):
        _, strips = run(stack, {"strip": rows}, **question)
        for name in whole.data_vars:
            assert np.array_equal(strips[name], whole[name], equal_nan=True), name
    if missing == "none":
        # Windows want planes: pearson beside them is the same, whatever its error is made of.
        _, beside = run(stack, measures=["pearson", "ncc"], **question)
        assert np.array_equal(beside["pearson"], whole["pearson"])
        np.testing.assert_allclose(beside["pearson_sd"], whole["pearson_sd"], rtol=2e-3)


def test_spectra_on_the_way_are_those_of_a_stage_of_their_own(counts):
    _, way = run(counts)
    _, stage = run(counts, {"field_on_the_way": False})
    for name in way.data_vars:
        assert np.array_equal(way[name], stage[name], equal_nan=True), name
    truth = np.corrcoef(counts.reshape(3, -1))
    np.testing.assert_allclose(way["pearson"], truth, atol=1e-6)
    # Independent pixels: the error of n of them.
    expected = 1 / np.sqrt(WIDE[0] * WIDE[1])
    assert way["pearson_sd"].values[0, 1] == pytest.approx(expected, rel=0.02)


def test_missing_pixels_in_floats_are_missing_to_spectra_of_any_stage():
    # Blocks of 512: spectra come from a stage of their own, which looks for nothing beforehand.
    rng = np.random.default_rng(8)
    stack = rng.normal(size=(3, 2048, 1100)).astype(np.float32)
    stack[0, 300:420, 100:800] = np.nan
    plan, sim = run(stack)
    assert not plan.field_on_the_way
    sd = sim["pearson_sd"].values
    missing = 120 * 700
    assert sd[1, 2] == pytest.approx(1 / np.sqrt(stack[0].size), rel=0.02)
    assert sd[0, 1] == pytest.approx(1 / np.sqrt(stack[0].size - missing), rel=0.03)


def test_a_raster_of_nothing_has_no_error(tmp_path):
    stack = np.zeros((2, *WIDE), np.uint8)
    _, sim = run(stack)
    assert np.isnan(sim["pearson"]).all()
    assert np.isnan(sim["pearson_sd"]).all()


def test_tiles_are_kept_between_units_and_dropped_after_a_stage():
    first = workspace.tile_memory((4, 8), np.float32, "tile")
    first[:] = 3
    again = workspace.tile_memory((2, 8), np.float32, "tile")
    assert np.shares_memory(first, again)
    assert not np.shares_memory(first, workspace.tile_memory((2, 8), np.float32, "faces"))
    larger = workspace.tile_memory((40, 8), np.float64, "tile")
    assert larger.shape == (40, 8)
    list(ThreadPool(1).imap(int, [(1,)]))
    assert not workspace._kept


def test_a_masked_run_is_right_by_brute_force(counts):
    stack = counts.astype(np.float32)
    stack[0, 100:700, 900:2000] = np.nan
    stack[1, 300:800] = np.nan
    sim = bc.pairwise(stack, ["pearson"], progress=False)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        both = np.isfinite(stack[i]) & np.isfinite(stack[j])
        truth = np.corrcoef(stack[i][both].astype(float), stack[j][both].astype(float))[0, 1]
        assert float(sim["pearson"][i, j]) == pytest.approx(truth, abs=1e-6)
