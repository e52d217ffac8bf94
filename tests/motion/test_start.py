"""What a displacement starts from: vectors, registrations, flows on other grids, files of these."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import ndimage

import bigcorr as bc
from bigcorr.errors import InputError, MissingFileError
from bigcorr.motion.grids import Flow
from bigcorr.motion.start import as_flow, in_words, span_of, turned
from bigcorr.registration import Registration
from bigcorr.run.displacement_job import run_displacement

TURN = 0.12
SEARCH = {"window": 16, "search": 3, "step": 7}


def turned_by(y: Any, x: Any, turn: float = TURN) -> tuple[np.ndarray, np.ndarray]:
    """The flow of a rotation about the middle of 160 x 160 pixels."""
    y, x = np.asarray(y) - 79.5, np.asarray(x) - 79.5
    cos, sin = np.cos(turn), np.sin(turn)
    return cos * y + sin * x - y, cos * x - sin * y - x


@pytest.fixture(scope="module")
def vortex() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    a = ndimage.gaussian_filter(rng.normal(size=(160, 160)), 1.5, mode="wrap") * 100 + 500
    y, x = np.mgrid[:160, :160].astype(float)
    dy, dx = turned_by(y, x, -TURN)
    return a, ndimage.map_coordinates(a, [y + dy, x + dx], order=5)


def field(y: Any, x: Any) -> xr.Dataset:
    """The very flow at some nodes."""
    y, x = (np.asarray(each, float) for each in (y, x))
    dy, dx = turned_by(*np.meshgrid(y, x, indexing="ij"))
    return xr.Dataset({"dy": (("y", "x"), dy), "dx": (("y", "x"), dx)}, {"y": y, "x": x})


def error(flow: xr.Dataset) -> float:
    dy, dx = turned_by(*np.meshgrid(flow.y, flow.x, indexing="ij"))
    return float(np.hypot(flow.dy - dy, flow.dx - dx)[2:-2, 2:-2].mean())


GRIDS = {
    "coarse": field(np.arange(7.5, 160, 16), np.arange(7.5, 160, 16)),
    "fine": field(np.arange(0, 160, 3), np.arange(0, 160, 3)),
    "other steps along each axis": field(np.arange(4, 160, 11.5), np.arange(9, 160, 20)),
    "unequal steps": field([2, 9, 40, 60, 61, 90, 130, 158], [0, 20, 50, 80, 100, 120, 159]),
    "descending": field(np.arange(155, 0, -16.0), np.arange(155, 0, -16.0)),
}


@pytest.mark.parametrize("name", list(GRIDS))
def test_a_flow_on_any_grid_leads_to_motion_beyond_the_search(
    vortex: tuple[np.ndarray, np.ndarray], name: str
) -> None:
    flow = bc.displacement(*vortex, **SEARCH, passes=[24, 16], initial=GRIDS[name])
    assert error(flow) < 0.05
    assert float(np.hypot(flow.dy, flow.dx).max()) > 7


def test_without_a_start_it_is_lost(vortex: tuple[np.ndarray, np.ndarray]) -> None:
    assert not error(bc.displacement(*vortex, **SEARCH, passes=[24, 16])) < 0.5


@pytest.mark.parametrize("name", list(GRIDS))
def test_between_its_nodes_a_start_is_interpolated(name: str) -> None:
    start = as_flow(GRIDS[name], (160, 160))
    assert start is not None
    ys, xs = np.arange(45.0, 110, 6.5), np.arange(45.0, 110, 4.5)
    expected = turned_by(*np.meshgrid(ys, xs, indexing="ij"))
    np.testing.assert_allclose(start.at(ys, xs), expected, atol=0.01)
    back = turned(start)
    assert back is not None
    np.testing.assert_array_equal(back.at(ys, xs), -start.at(ys, xs))


def test_nodes_without_a_vector_take_the_nearest_and_many_are_thinned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    holes = field(np.arange(0, 160, 4), np.arange(0, 160, 4))
    holes["dy"][10:14, 10:14] = np.nan
    monkeypatch.setattr("bigcorr.motion.start._MOST_NODES", 14)
    start = as_flow(holes, (160, 160))
    assert start is not None
    assert start.shape == (14, 14)
    assert start.spacing == 12
    expected = turned_by(*np.meshgrid([60.0, 90.0], [60.0, 90.0], indexing="ij"))
    np.testing.assert_allclose(start.at(*[np.array([60.0, 90.0])] * 2), expected, atol=1.5)
    nothing = as_flow(holes * np.nan, (160, 160))
    assert nothing is not None
    assert not nothing.at(np.array([3.0]), np.array([3.0])).any()


def registration(matrix: Any, shift: tuple[float, float]) -> Registration:
    none = np.empty((0, 2))
    return Registration(
        shift, 1.0, 0.0, (0.0, 0.0), none, none, np.empty(0, bool), "affine", np.array(matrix)
    )


def test_an_affine_registration_is_followed_by_its_matrix(
    vortex: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    cos, sin = np.cos(TURN), np.sin(TURN)
    linear = np.array([[cos, sin], [-sin, cos]])
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = linear, 79.5 - linear @ [79.5, 79.5]
    found = registration(matrix, (0.0, 0.0))
    start = as_flow(found, (160, 160))
    assert start is not None
    places = np.array([0.0, 33.3, 159.0])
    expected = turned_by(*np.meshgrid(places, places, indexing="ij"))
    np.testing.assert_allclose(start.at(places, places), expected, atol=1e-5)
    # To the last bit the same from what the command prints.
    (tmp_path / "r.json").write_text(json.dumps(found.summary()))
    read = as_flow(tmp_path / "r.json", (160, 160))
    assert in_words(read) == in_words(start)
    assert error(bc.displacement(*vortex, **SEARCH, passes=[24, 16], initial=found)) < 0.05


def test_a_vector_and_a_registration_are_of_opposite_signs(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps({"command": "register", "shift": [2.2, -7.7]}))
    starts: list[Flow | None] = [
        as_flow(each, (99, 99)) for each in ((-2, 8), np.array([-2.0, 8.0]), tmp_path / "r.json")
    ]
    assert [in_words(each) for each in starts] == ["(-2, 8)"] * 3
    assert span_of(starts[0]) == 0
    assert in_words(None) is None
    assert in_words(as_flow(GRIDS["fine"], (9, 9))) != in_words(as_flow(-GRIDS["fine"], (9, 9)))


def test_a_run_starts_from_the_store_of_another_and_has_the_bits_of_the_library(
    vortex: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    first, second = tmp_path / "1.zarr", tmp_path / "2.zarr"
    run_displacement(*vortex, first, window=32, search=12, step=16)
    options = {**SEARCH, "passes": [24, 16], "max_inconsistency": 1.0}
    run_displacement(*vortex, second, initial=first, **options)
    with xr.open_zarr(first) as start, xr.open_zarr(second) as found:
        assert error(found) < 0.05
        expected = bc.displacement(*vortex, initial=start, **options)
        for name in expected:
            assert np.array_equal(found[name], expected[name], equal_nan=True), name
    with pytest.raises(InputError, match=r"initial 9 x 9 nodes, sha256 \w+ there, \(1, 2\) here"):
        run_displacement(*vortex, second, initial=(1, 2), **options)


def test_what_is_no_start_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.json").write_text("[1, 2")
    (tmp_path / "folder").mkdir()
    for path, says in (
        (tmp_path / "a.json", "a.json, which is not what `bigcorr register --json` printed"),
        (tmp_path / "b.json", "b.json, which is not"),
        (tmp_path / "folder", "folder, which is no displacement"),
        (field([0, 5, 3], [1, 2]), "nodes along y that do not follow one another"),
        (field([0, 5], [1, 1]), "nodes along x that do not"),
        (1e9 * GRIDS["fine"], r"vectors of 2\*\*20 pixels"),
        (registration(np.full((3, 3), np.nan), (0.0, 0.0)), "whose matrix is none"),
    ):
        with pytest.raises(InputError, match=f"^initial: got .*{says}") as caught:
            as_flow(path, (99, 99))
        assert "\n" not in str(caught.value)
    with pytest.raises(MissingFileError, match=r"initial: no such file or folder: .*gone\.zarr"):
        as_flow(tmp_path / "gone.zarr", (99, 99))
