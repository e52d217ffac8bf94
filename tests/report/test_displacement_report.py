"""The page about a displacement: what it says, and figures of the very numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy import ndimage

import bigcorr as bc
from bigcorr.errors import InputError, MissingFileError
from bigcorr.report import motion
from bigcorr.report.displacement import write_displacement_report
from bigcorr.report.motion import Nodes, common_motion, kept_nodes, median_of_known, numbers_of
from bigcorr.report.motion_figures import arrows, certainty_maps, motion_maps, residual_histogram
from bigcorr.run.displacement_job import run_displacement

SEARCH = {"window": 16, "search": 5, "step": 8}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images with coordinates, of which the second is moved and partly another."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    a = ndimage.gaussian_filter(rng.normal(size=(96, 128)), 1.5) * 50
    b = ndimage.shift(a, (3, -2), order=1, mode="nearest")
    b[:40, :40] = np.nan
    coords = {"y": 0.5 * np.arange(96), "x": 7 + 0.5 * np.arange(128)}
    raster = xr.Dataset({"raster": xr.DataArray(a, coords, ("y", "x"))})
    raster.to_zarr(folder / "a.zarr", consolidated=False)
    np.save(folder / "b.npy", b)
    return folder


@pytest.fixture(scope="module")
def found(images: Path) -> Path:
    run_displacement(images / "a.zarr", images / "b.npy", images / "o.zarr", **SEARCH)
    return images / "o.zarr"


def test_a_page_tells_the_numbers_and_shows_the_figures(found: Path, tmp_path: Path) -> None:
    text = write_displacement_report(found, tmp_path / "r.html").read_text(encoding="utf-8")
    with xr.open_zarr(found, chunks=None) as flow:
        valid = int(np.isfinite(flow.dy).sum())
        length = float(np.hypot(flow.dy, flow.dx).median())
    assert f"{valid:,} of {11 * 15} nodes have a vector" in text
    assert f"the median motion is {length:.3g} pixels, {length / 2:.3g} in the raster" in text
    assert "What moved from a.zarr to b.npy" in text
    assert text.count("<svg") == 5  # arrows as they are and less the common motion
    assert "0.5 × 0.5 of the raster" in text
    with pytest.raises(MissingFileError):
        write_displacement_report(found, tmp_path / "no" / "r.html")


def test_a_dataset_is_reported_and_one_without_a_vector_too(tmp_path: Path, images: Path) -> None:
    image = np.load(images / "b.npy")
    flow = bc.displacement(image, image, **SEARCH, max_inconsistency=1)
    text = write_displacement_report(flow, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "give it as the reference" in text
    assert "Way there and back" in text
    page = write_displacement_report(flow, tmp_path / "r.html", reference=image)
    assert "give it" not in page.read_text(encoding="utf-8")
    nothing = flow.copy(data={name: np.full_like(flow[name], np.nan) for name in flow})
    text = write_displacement_report(nothing, tmp_path / "n.html").read_text(encoding="utf-8")
    assert "0 of 165 nodes have a vector." in text
    assert "<svg" not in text
    for wrong, says in (
        ({"reference": image[:50]}, "reference: got .* of 50 x 128 pixels"),
        ({"reference": np.stack([image, image])}, "reference: got .* with 2 channels"),
    ):
        with pytest.raises(InputError, match=says):
            write_displacement_report(flow, tmp_path / "r.html", **wrong)
    with pytest.raises(InputError, match="is no displacement"):
        write_displacement_report(images / "a.zarr", tmp_path / "r.html")


def test_an_image_that_is_gone_is_told(found: Path, tmp_path: Path) -> None:
    with xr.open_zarr(found) as flow:
        gone = flow.load()
    facts = dict(gone.attrs["bigcorr"])
    gone.attrs["bigcorr"] = {**facts, "sources": [str(tmp_path / "gone.zarr"), "b"]}
    text = write_displacement_report(gone, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "The image could not be opened" in text
    assert text.count("<svg") == 5


@pytest.mark.parametrize("most", [7, 1024])
def test_nodes_are_the_same_however_they_are_read(
    found: Path, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with xr.open_zarr(found, chunks=None) as flow:
        whole = kept_nodes(flow)
        monkeypatch.setattr("bigcorr.motion.stored._NODES", 4)
        parts = kept_nodes(flow, most)
        every = parts.every
        assert every == (3 if most == 7 else 1)
        assert (parts.valid, parts.total) == (whole.valid, whole.total)
        for name in ("dy", "dx", "score", "peak_ratio", "residual"):
            expected = getattr(whole, name)[::every, ::every]
            assert np.array_equal(getattr(parts, name), expected, equal_nan=True), name
        assert np.array_equal(parts.x, flow.x.values[::every])
        i, j = np.argwhere(np.isfinite(whole.residual[:-1, :-1]))[-1]
        around = np.stack([flow[name].values for name in ("dy", "dx")])
        near = around[:, i - 1 : i + 2, j - 1 : j + 2].reshape(2, 9)
        middle = np.nanmedian(np.delete(near, 4, axis=1), axis=1)
        assert np.hypot(*(near[:, 4] - middle)) == pytest.approx(whole.residual[i, j], rel=1e-5)


def test_medians_leave_out_what_is_not_known() -> None:
    values = np.random.default_rng(0).normal(size=(9, 40)).astype("f4")
    values[np.random.default_rng(1).random(values.shape) < 0.5] = np.nan
    values[:8, 0], values[8, 0] = np.nan, 1.0
    np.testing.assert_array_equal(median_of_known(values), np.nanmedian(values, axis=0))
    assert np.isnan(median_of_known(np.full((2, 1), np.nan, "f4")))


def nodes(dy: np.ndarray, dx: np.ndarray) -> Nodes:
    y, x = (15.5 + 16 * np.arange(n) for n in dy.shape)
    known = np.isfinite(dy)
    score = np.where(known, 0.9, np.nan).astype("f4")
    off = np.where(known, 0.1, np.nan).astype("f4")
    count = int(known.sum())
    return Nodes(y, x, dy, dx, score, 2 * score, off, False, 1, count, dy.size)


def test_figures_show_the_numbers() -> None:
    rng = np.random.default_rng(0)
    dy, dx = (rng.normal(scale=0.1, size=(40, 50)).astype("f4") + at for at in (4, -3))
    dy[3, 7] = dx[3, 7] = np.nan
    some = nodes(dy, dx)
    common = common_motion(some)
    assert common == pytest.approx((4, -3), abs=0.02)
    shown = arrows(some, None, 1.0, common).axes[0].collections[0]
    plain = arrows(some, rng.random((80, 100)), 8.0).axes[0].collections[0]
    # Medians of 2 x 2 nodes: their feet lie between these.
    assert plain.N == 20 * 25
    assert plain.XY[0].tolist() == [23.5, 23.5]
    assert np.median(np.arctan2(plain.V, plain.U)) == pytest.approx(np.arctan2(4, -3), abs=0.02)
    assert abs(np.median(shown.U)) < 0.2 * np.abs(shown.U).max()
    panels = motion_maps(some, common).axes[:2]
    for axes, values, by in zip(panels, (dy, dx), common, strict=True):
        np.testing.assert_allclose(np.asarray(axes.images[0].get_array())[5:], values[5:] - by)
    assert len(certainty_maps(some).axes) == 4
    assert sum(each.get_height() for each in residual_histogram(some).axes[0].patches) == 1999
    told = dict(numbers_of(some, {**dict.fromkeys(FACTS), "nodes": [40, 50]}))
    assert told["With a vector"] == "1,999 (100.0%)"
    assert common_motion(nodes(dy - 4, dx + 3)) is None


FACTS = ("sources", "pixel_size", "windows", "search", "step", "initial", "version")


def test_a_still_pair_and_single_nodes_have_figures() -> None:
    for shape in ((1, 1), (1, 5), (3, 3)):
        still = nodes(np.zeros(shape, "f4"), np.zeros(shape, "f4"))
        for figure in (arrows(still, None, 1.0), motion_maps(still), certainty_maps(still)):
            figure.canvas.draw()
        assert motion.common_motion(still) is None
