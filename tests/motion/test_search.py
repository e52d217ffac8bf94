"""Every way of searching gives what the formula gives, whatever is missing, wherever it is cut."""

from __future__ import annotations

import numpy as np
import pytest
import zncc_oracle as oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bigcorr.motion import search as module
from bigcorr.motion.plan import Pass, Search
from bigcorr.motion.search import Way, choose, search_bytes, search_tile

WAYS: list[Way] = ["blocks", "chips", "fft", "sliding", "strips"]


def images(shape: tuple[int, int], missing: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """An image and the same moved by (2.3, -1.4) with some noise; NaN in places of each."""
    rng = np.random.default_rng(seed)
    a = ndimage.gaussian_filter(rng.normal(size=shape), 1.2) * 40 + 500
    b = ndimage.shift(a, (2.3, -1.4), order=3, mode="nearest") + rng.normal(size=shape) * 0.5
    for image in (a, b):
        image[rng.random(shape) < missing] = np.nan
    return a, b


def searched(
    way: Way,
    a: np.ndarray,
    b: np.ndarray,
    spec: Pass,
    search: Search,
    monkeypatch: pytest.MonkeyPatch,
) -> np.ndarray:
    """(4, n, m) of a whole raster by one of the ways."""
    monkeypatch.setattr(module, "choose", lambda *_: way)
    nodes = spec.nodes(a.shape)
    far = np.pad(b, spec.search, constant_values=np.nan)
    out = search_tile(a, far, spec, search, nodes, (500.0, 500.0))
    return np.moveaxis(out, -1, 0)[:4]


@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("spec", [Pass(10, 4, 4), Pass(9, 3, 2), Pass(5, 4, 7)])
@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_the_formula(
    way: Way, spec: Pass, missing: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = images((26, 31), missing)
    for weights in ("uniform", "gaussian"):
        search = Search((spec,), weights=weights)
        if way in ("blocks", "strips") and weights == "gaussian":
            continue
        found = searched(way, a, b, spec, search, monkeypatch)
        expected = oracle.displacement(
            a, b, spec.window, spec.search, spec.step, search.taps(spec.window)
        )
        assert np.array_equal(np.isnan(found), np.isnan(expected))
        assert np.isfinite(found[0]).any()
        finite = np.isfinite(found)
        np.testing.assert_allclose(found[finite], expected[finite], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("subpixel", ["quadratic", "gaussian", "none"])
def test_peaks_are_refined_as_the_oracle_refines_them(
    subpixel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = images((40, 40), 0.0, 3)
    spec = Pass(12, 4, 6)
    found = searched("chips", a, b, spec, Search((spec,), subpixel=subpixel), monkeypatch)
    expected = oracle.displacement(a, b, 12, 4, 6, subpixel=subpixel)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("level", [0.1, 1e6, 2.0**40])
def test_constant_windows_have_no_displacement(
    way: Way, level: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = images((40, 40), 0.0)
    a[:, 20:] = level
    spec = Pass(8, 3, 4)
    found = searched(way, a, b, spec, Search((spec,)), monkeypatch)
    assert np.isnan(found[:, :, 5:]).all()
    b[:] = level
    assert np.isnan(searched(way, a, b, spec, Search((spec,)), monkeypatch)).all()


@settings(max_examples=15)
@given(data=st.data())
def test_where_a_tile_is_cut_changes_no_bit(data: st.DataObject) -> None:
    way = data.draw(st.sampled_from(WAYS))
    spec = data.draw(st.sampled_from([Pass(8, 3, 4), Pass(7, 2, 1), Pass(10, 3, 4)]))
    missing = data.draw(st.sampled_from([0.0, 0.01, 0.1]))
    a, b = images((34, 38), missing, data.draw(st.integers(0, 3)))
    uniform = way in ("blocks", "strips") or data.draw(st.booleans())
    search = Search((spec,), weights="uniform" if uniform else "gaussian")
    rows, columns = spec.nodes(a.shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "choose", lambda *_: way)
        far = np.pad(b, spec.search, constant_values=np.nan)
        whole = search_tile(a, far, spec, search, (rows, columns), (500.0, 500.0))
        i0 = data.draw(st.integers(0, rows - 1))
        i1 = data.draw(st.integers(i0 + 1, rows))
        j0 = data.draw(st.integers(0, columns - 1))
        j1 = data.draw(st.integers(j0 + 1, columns))
        y, x = i0 * spec.step, j0 * spec.step
        h, w = ((k - 1) * spec.step + spec.window for k in (i1 - i0, j1 - j0))
        part = search_tile(
            np.ascontiguousarray(a[y : y + h, x : x + w]),
            np.ascontiguousarray(far[y : y + h + 2 * spec.search, x : x + w + 2 * spec.search]),
            spec,
            search,
            (i1 - i0, j1 - j0),
            (500.0, 500.0),
            i0,
        )
    assert np.array_equal(part, whole[i0:i1, j0:j1], equal_nan=True)


@pytest.mark.parametrize("spec", [Pass(20, 3, 1), Pass(7, 2, 2), Pass(1, 2, 1), Pass(2, 2, 3)])
def test_strips_take_holes_apart_from_what_is_whole(
    spec: Pass, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wider than a panel: clean columns, holes and clean ones again."""
    a, b = images((50, 420), 0.0, 5)
    a[20:24, 180:185] = b[30, 3] = b[:, 300:302] = a[44:, 400:] = np.nan
    expected = searched("sliding", a, b, spec, Search((spec,)), monkeypatch)
    found = searched("strips", a, b, spec, Search((spec,)), monkeypatch)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    i, j, n, m = 9, found.shape[2] // 3, 5, found.shape[2] // 4
    y, x = i * spec.step, j * spec.step
    h, w = ((k - 1) * spec.step + spec.window for k in (n, m))
    far = np.pad(b, spec.search, constant_values=np.nan)
    grown = far[y : y + h + 2 * spec.search, x : x + w + 2 * spec.search]
    part = search_tile(
        a[y : y + h, x : x + w], grown, spec, Search((spec,)), (n, m), (500.0, 500.0), i
    )
    whole = found[:, i : i + n, j : j + m]
    assert np.array_equal(np.moveaxis(part, -1, 0)[:4], whole, equal_nan=True)


def test_surfaces_that_do_not_fit_are_searched_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = images((60, 60), 0.05)
    spec = Pass(16, 6, 8)
    whole = searched("blocks", a, b, spec, Search((spec,)), monkeypatch)
    monkeypatch.setattr(module, "MEMORY", 10_000)
    assert np.array_equal(
        searched("blocks", a, b, spec, Search((spec,)), monkeypatch), whole, equal_nan=True
    )


def test_the_way_is_chosen_by_its_cost_and_the_memory_is_told() -> None:
    assert choose(Pass(32, 16, 16), True) == "blocks"
    assert choose(Pass(32, 16, 16), False) == "chips"
    assert choose(Pass(7, 4, 1), True) == "strips"
    assert choose(Pass(7, 4, 1), False) == "sliding"
    assert choose(Pass(200, 100, 100), False) == "fft"
    for uniform in (True, False):
        weights = "uniform" if uniform else "gaussian"
        for spec in (Pass(32, 16, 16), Pass(7, 4, 1), Pass(200, 100, 100)):
            assert search_bytes(spec, Search((spec,), weights=weights), (10, 10)) > 0
