"""Stacks in cells: their means, what is compared then, and the error that is told of it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import bigcorr as bc
from bigcorr.errors import InputError
from bigcorr.kernels.cell_means import cell_means
from bigcorr.raster.mask import ArrayMask
from bigcorr.raster.source import as_source
from bigcorr.run import coarse, coarse_error
from bigcorr.run.coarse import CellMask, CellMeans, Mosaic, MosaicMask
from bigcorr.run.coarse_error import pieces_of
from bigcorr.run.loader import TileLoader
from bigcorr.run.pairs_job import run_pairs
from bigcorr.run.progress import Silent
from bigcorr.tiles import Box


def brute_means(image, valid, cell):
    """Each cell by itself, in float64."""
    rows, columns = (-(-side // cell) for side in image.shape)
    out = np.empty((rows, columns))
    for i, j in np.ndindex(out.shape):
        part = np.s_[i * cell : (i + 1) * cell, j * cell : (j + 1) * cell]
        ok = valid[part]
        out[i, j] = image[part][ok].mean() if 2 * ok.sum() >= ok.size else np.nan
    return out


@pytest.mark.parametrize("cell", [1, 2, 3, 7, 50])
def test_means_are_those_of_brute_force(cell):
    rng = np.random.default_rng(cell)
    image, valid = rng.normal(size=(37, 29)), rng.random((37, 29)) < 0.6
    out = np.empty((-(-37 // cell), -(-29 // cell)))
    cell_means(image, valid.view(np.uint8), cell, out)
    np.testing.assert_allclose(out, brute_means(image, valid, cell), rtol=1e-13, atol=1e-15)
    cell_means(image, np.empty((0, 0), np.uint8), cell, out)
    np.testing.assert_allclose(
        out, brute_means(image, np.ones_like(valid), cell), rtol=1e-13, atol=1e-15
    )


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 5), st.integers(0, 2**32 - 1), st.sampled_from([5, 16, 2048]))
def test_any_part_has_the_bits_of_the_whole(cell, seed, piece):
    rng = np.random.default_rng(seed)
    stack = rng.normal(size=(3, 61, 47)).astype(np.float32)
    stack[rng.random(stack.shape) < 0.05] = np.nan
    mask = ArrayMask(rng.random((61, 47)) < 0.8)
    source = CellMeans(TileLoader(as_source(stack), (1.5, 1.0), None, mask), cell)
    coarse.PIECE, before = piece, coarse.PIECE
    try:
        parted = CellMeans(source.loader, cell)
    finally:
        coarse.PIECE = before
    _, height, width = source.shape
    whole = source.read(slice(None), Box(0, height, 0, width))
    y0, y1 = sorted(rng.integers(0, height + 1, 2))
    x0, x1 = sorted(rng.integers(0, width + 1, 2))
    part = Box(int(y0), int(y1) + (y0 == y1 < height), int(x0), int(x1) + (x0 == x1 < width))
    if part.size:
        assert np.array_equal(parted.read([2, 0], part), whole[[2, 0], *part.slices], True)


def test_missing_pixels_of_a_channel_and_of_all_are_told_apart():
    stack = np.ones((2, 8, 8))
    stack[0, :4, :3] = np.nan  # three quarters of the first cell
    stack[1, 4:, 4:6] = np.nan  # half of the last: enough is left
    valid = np.ones((8, 8), bool)
    valid[:4, 4:] = False
    loader = TileLoader(as_source(stack), None, None, ArrayMask(valid))
    cells = CellMeans(loader, 4).read(slice(None), Box(0, 2, 0, 2))
    assert np.array_equal(cells, [[[np.nan, 0], [1, 1]], [[1, 0], [1, 1]]], equal_nan=True)
    assert np.array_equal(
        CellMask(loader.mask, 4).read(Box(0, 2, 0, 2)), [[True, False], [True, True]]
    )


def test_a_mosaic_is_its_pieces_side_by_side():
    rng = np.random.default_rng(0)
    stack = rng.normal(size=(2, 40, 60))
    places = [[Box(y, y + 5, x, x + 7) for x in (0, 20, 50)] for y in (3, 30)]
    mosaic = Mosaic(CellMeans(TileLoader(as_source(stack)), 1), places)
    assert mosaic.shape == (2, 10, 21)
    whole = np.block([[stack[:, p.slices[0], p.slices[1]] for p in row] for row in places])
    for part in (Box(0, 10, 0, 21), Box(4, 6, 6, 15), Box(7, 9, 8, 9)):
        assert np.array_equal(mosaic.read([1], part), whole[1:][:, *part.slices].astype(np.float32))
        mask = MosaicMask(ArrayMask(stack[0] > 0), places)
        assert np.array_equal(mask.read(part), (whole[0] > 0)[part.slices])


def correlated(shape=(150, 170), channels=5, seed=0):
    rng = np.random.default_rng(seed)
    common = rng.normal(size=shape)
    noise = rng.normal(size=(channels, *shape))
    mixed = noise + np.linspace(0, 1.5, channels)[:, None, None] * common
    return rng.poisson(np.exp(mixed / 2)).astype(np.uint16)


def test_values_are_those_of_blurred_means_and_the_error_is_what_differs():
    stack = correlated()
    question = {
        "measures": ["pearson", "cosine", "ncc:window=16,stride=8"], "sigma": 2.0, "progress": False
    }  # fmt: skip
    fine = bc.pairwise(stack, **question)
    rough = bc.pairwise(stack, coarsen=2, **question)
    blurred = np.stack([bc.gaussian_blur(plane.astype(float), 2.0) for plane in stack])
    means = np.stack([brute_means(p, np.ones(p.shape, bool), 2) for p in blurred])
    flat = means.reshape(len(means), -1)
    np.testing.assert_allclose(rough["pearson"], np.corrcoef(flat), atol=1e-6)
    norm = np.linalg.norm(flat, axis=1)
    np.testing.assert_allclose(rough["cosine"], flat @ flat.T / np.outer(norm, norm), atol=1e-6)
    windows = bc.pairwise(means, "ncc:window=8,stride=4", progress=False)["ncc"]
    np.testing.assert_allclose(rough["ncc"], windows, atol=1e-6)
    # So small a raster is compared twice as a whole.
    upper = np.triu_indices(len(stack), 1)
    for name, error in rough.attrs["coarsen_error"].items():
        apart = np.abs(rough[name].values - fine[name].values)[upper]
        assert error["max"] == pytest.approx(apart.max(), rel=1e-6)
        assert error["rms"] == pytest.approx(np.sqrt((apart**2).mean()), rel=1e-6)
        assert 0 < error["max"] < 0.05
    assert rough.attrs["coarsen_error_from"] == {"share": 1.0, "channels": 5}
    assert rough["ncc"].attrs["parameters"]["window"] == 16
    assert rough.attrs["shape"] == [150, 170]
    assert list(rough["count"].values) == list(fine["count"].values)
    # A significance of its own, near the one of pixels.
    ratio = (rough["pearson_sd"] / fine["pearson_sd"]).values[upper]
    assert np.all(np.abs(ratio - 1) < 0.1)


def test_a_large_raster_is_sampled_and_the_sample_says_how_far_all_is_off(monkeypatch):
    monkeypatch.setattr(coarse_error, "SIDE", 24)
    stack = correlated((300, 260), seed=1)
    question = {"measures": ["pearson"], "sigma": [1.0, 3.0], "progress": False}
    fine, rough = bc.pairwise(stack, **question), bc.pairwise(stack, coarsen=3, **question)
    share = rough.attrs["coarsen_error_from"]["share"]
    assert share == pytest.approx((5 * 24) ** 2 / (300 * 260))
    upper = np.triu_indices(len(stack), 1)
    for number in range(2):
        apart = np.abs(rough["pearson"] - fine["pearson"]).values[number][upper]
        told = rough.attrs["coarsen_error"]["pearson"]
        # What is chance in it is larger on a part of the raster than on all.
        rms = np.sqrt((apart**2).mean())
        assert 0.5 * rms < told["rms"][number] < 1.5 * rms / np.sqrt(share)
    assert told["rms"][0] > told["rms"][1]
    assert "wider than the blur" in rough.attrs["warnings"][0]  # 3 pixels, of sigma 1


@pytest.mark.parametrize(("size", "cell"), [(10_000, 4), (1281, 3), (1600, 256), (5000, 300)])
def test_pieces_lie_on_the_raster_apart_and_at_whole_cells(size, cell):
    places = pieces_of((size, 100), cell)
    assert len(places) in (1, 5)
    assert len(places[0]) == 1
    rows = [row[0] for row in places]
    assert all(p.x0 == 0 and p.x1 == 100 and p.y1 <= size for p in rows)
    if len(rows) > 1:
        assert all(p.y0 % cell == 0 and p.shape[0] % cell == 0 for p in rows)
        assert all(a.y1 <= b.y0 for a, b in itertools.pairwise(rows))


@pytest.mark.parametrize("mask", [None, "left"])
def test_missing_pixels_and_masks_are_those_of_a_raster_of_means(mask):
    rng = np.random.default_rng(3)
    stack = correlated((90, 100), seed=3).astype(np.float32)
    stack[1, 20:50, 30:70] = np.nan
    valid = np.ones((90, 100), bool)
    if mask:
        valid[:, 60:] = False
        stack[:, :, 60:] = rng.normal(50, 9, (5, 90, 40))  # what lies there must not tell
    rough = bc.pairwise(stack, ["pearson"], coarsen=5, mask=valid if mask else None, progress=False)
    means = np.stack([brute_means(p.astype(float), valid & np.isfinite(p), 5) for p in stack])
    exact = bc.pairwise(means, ["pearson"], progress=False)
    np.testing.assert_allclose(rough["pearson"], exact["pearson"], atol=1e-6)


def test_a_run_keeps_the_error_and_goes_on_where_it_was(tmp_path):
    stack = correlated()
    question = {"measures": ["pearson"], "sigma": 2.0, "coarsen": 2}
    once = run_pairs(stack, tmp_path / "a.zarr", threads=1, **question)
    stored = xr.open_zarr(tmp_path / "a.zarr")
    assert stored.attrs["coarsen"] == 2
    assert stored.attrs["coarsen_error"] == once["coarsen_error"]
    in_memory = bc.pairwise(stack, progress=False, **question)
    assert np.array_equal(stored["pearson"], in_memory["pearson"])
    assert stored.attrs["coarsen_error"] == in_memory.attrs["coarsen_error"]
    with pytest.raises(InputError, match="coarsen"):
        run_pairs(stack, tmp_path / "a.zarr", **(question | {"coarsen": 4}))
    plan = dict(run_pairs(stack, tmp_path / "b.zarr", plan_only=True, **question)["plan"])
    assert plan["cells"] == "of 2 x 2 pixels"


def test_cells_that_were_made_are_not_made_again(tmp_path):
    stack = correlated()
    question = {"measures": ["pearson"], "sigma": [1.0, 2.0], "coarsen": 2}
    notes = []

    class Stops(Silent):
        def __call__(self, stage, done, total):
            if stage.startswith("blur-1") or stage == "pairs":
                raise KeyboardInterrupt

    class Listens(Silent):
        def note(self, text):
            notes.append(text)

    with pytest.raises(KeyboardInterrupt):
        run_pairs(stack, tmp_path / "a.zarr", threads=1, progress=Stops(), **question)
    assert sorted(p.name for p in (tmp_path / "a.zarr.partial").glob("cells*")) == [
        "cells-1.0-1.0", "cells-2.0-2.0"
    ]  # fmt: skip
    summary = run_pairs(stack, tmp_path / "a.zarr", threads=1, progress=Listens(), **question)
    assert notes.count("cells: 1 of 1 shards are done already") == 2
    assert summary["units_found_done"] >= 2
    assert "cells" not in summary["timings"]
    undisturbed = bc.pairwise(stack, progress=False, **question)
    assert np.array_equal(xr.open_zarr(tmp_path / "a.zarr")["pearson"], undisturbed["pearson"])
    assert not (tmp_path / "a.zarr.partial").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"coarsen": 0}, "coarsen: got 0"),
        ({"coarsen": 513}, "from 1 .none. to 512"),
        ({"coarsen": True}, "coarsen: got True"),
        ({"coarsen": 2.5}, "coarsen: got 2.5"),
        ({"measures": ["moran", "ssim"], "coarsen": 2}, "moran and ssim"),
        ({"measures": ["ncc:window=16,stride=6"], "coarsen": 4}, "common divisor"),
        ({"measures": ["ncc:window=8,stride=8"], "coarsen": 8}, "at most half"),
    ],
)
def test_what_cells_cannot_answer_is_refused(arguments, said):
    with pytest.raises(InputError, match=said):
        bc.pairwise(np.ones((2, 64, 64)), progress=False, **arguments)


def test_a_raster_smaller_than_a_cell_is_one_cell():
    rough = bc.pairwise(correlated((20, 20)), ["pearson"], coarsen=32, progress=False)
    off = rough["pearson"].values[np.triu_indices(5, 1)]
    assert np.isnan(off).all()
    assert rough.attrs["coarsen_error"]["pearson"] == {"rms": None, "max": None}


def test_none_leaves_no_trace():
    stack = correlated((40, 40))
    plain = bc.pairwise(stack, ["pearson"], progress=False)
    same = bc.pairwise(stack, ["pearson"], coarsen=1, progress=False)
    assert np.array_equal(plain["pearson"], same["pearson"])
    assert "coarsen_error" not in same.attrs
    assert "coarsen" not in same.attrs
