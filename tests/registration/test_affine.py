"""The affine model: known maps, robust fits, scipy's transform, the same bits for any tiles."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import bigcorr as bc
from bigcorr.errors import InputError
from bigcorr.operators import Layer
from bigcorr.operators_move import Affine
from bigcorr.registration.robust import robust_affine
from bigcorr.tiles import Box

MATRIX = [[1.02, 0.03, -4.0], [-0.025, 0.97, 3.5]]


@pytest.mark.parametrize("order", [1, 3])
def test_a_transformed_image_is_scipys(order: int) -> None:
    a = np.random.default_rng(0).normal(size=(70, 83)) * 9
    for matrix in (MATRIX, np.eye(3), [[0, 1, 0], [1, 0, 0]], [[-1, 0, 69], [0, 1, 0.5]]):
        whole = np.vstack([np.asarray(matrix, float)[:2], [0, 0, 1]])
        expected = ndimage.affine_transform(a, whole, order=order, mode="constant", cval=np.nan)
        np.testing.assert_allclose(bc.apply_affine(a, matrix, order), expected, atol=1e-9)


def test_a_shift_is_an_affine_map() -> None:
    a = np.random.default_rng(1).normal(size=(60, 50))
    moved = bc.apply_affine(a, [[1, 0, 2.3], [0, 1, -1.75]])
    np.testing.assert_allclose(moved, bc.apply_shift(a, (-2.3, 1.75)), atol=1e-9)


@settings(max_examples=15)
@given(
    st.integers(1, 80),
    st.integers(1, 80),
    st.sampled_from([1, 3]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_tiles_change_no_bit(h: int, w: int, order: int, missing: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(h, w)).astype("float32")
    if missing:
        a[rng.random(a.shape) < 0.02] = np.nan
    matrix = np.eye(2, 3) + np.column_stack([rng.uniform(-0.4, 0.4, (2, 2)), rng.uniform(-9, 9, 2)])
    op = Affine(matrix.tolist(), order)
    whole = bc.apply_affine(a, matrix, order)
    y, x = (sorted(int(k) for k in rng.integers(0, n + 1, 2)) for n in (h, w))
    box = Box(*y, *x)
    held = op.held(box, (h, w))
    if box.size and held.size:
        tile = op.moved(Layer(a[held.slices]), held, box, (h, w))
        assert tile.tobytes() == whole[box.slices].tobytes()
    lazy = bc.apply_affine(da.from_array(a, (37, 49)), matrix, order)
    assert lazy.compute(scheduler="synchronous").tobytes() == whole.tobytes()


def test_labels_stay_and_a_mask_becomes_what_is_missing() -> None:
    a = np.random.default_rng(2).normal(size=(2, 90, 80)).astype("float32")
    mask = np.ones((90, 80), bool)
    mask[30:40, 20:25] = False
    named = xr.DataArray(
        a, {"channel": ["p", "q"], "mask": (("y", "x"), mask)}, ("channel", "y", "x")
    )
    expected = bc.apply_affine(np.where(mask, a, np.nan), MATRIX)
    for given_ in (named, named.chunk({"y": 31, "x": 40})):
        moved = bc.apply_affine(given_, MATRIX)
        assert moved.channel.values.tolist() == ["p", "q"]
        assert "mask" not in moved.coords
        assert np.array_equal(moved.values, expected, equal_nan=True)


def warped(matrix: Any, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A texture at two sets of places: what is at p in the first is at matrix @ p in the other."""
    rng = np.random.default_rng(seed)
    waves = rng.normal(size=(2, 60)) / rng.uniform(2, 12, 60)
    phase = rng.uniform(0, 2 * np.pi, 60)

    def texture(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        out = np.zeros(np.broadcast(y, x).shape)
        for k in range(60):
            out += np.cos(waves[0, k] * y + waves[1, k] * x + phase[k])
        return out

    y, x = np.mgrid[:420.0, :500.0]
    back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    return texture(y, x), texture(
        back[0, 0] * y + back[0, 1] * x + back[0, 2], back[1, 0] * y + back[1, 1] * x + back[1, 2]
    )


def corner_error(found: np.ndarray, matrix: Any) -> float:
    corners = np.array([(y, x, 1.0) for y in (0, 420) for x in (0, 500)])
    return float(np.abs(corners @ (found[:2] - np.asarray(matrix)).T).max())


@pytest.mark.parametrize("gaps", [False, True])
def test_a_known_map_is_found(gaps: bool) -> None:
    a, b = warped(MATRIX)
    if gaps:
        b[np.random.default_rng(0).random(b.shape) < 0.1] = np.nan
        a[100:140, 200:300] = np.nan
    reg = bc.register(a, b, model="affine")
    assert corner_error(reg.matrix, MATRIX) < 0.05
    assert reg.model == "affine"
    assert reg.score > 0.98
    assert reg.score_before < 0.5
    assert max(reg.spread) < 0.1
    assert np.abs(reg.residuals[reg.used]).max() < 0.3
    moved = bc.apply_affine(b, reg.matrix)
    both = np.isfinite(moved) & np.isfinite(a)
    assert np.corrcoef(a[both], moved[both])[0, 1] == pytest.approx(reg.score, abs=1e-6)


def test_a_part_that_moved_otherwise_does_not_bend_the_map() -> None:
    a, b = warped(MATRIX)
    b[:150, :200] = warped(np.eye(2, 3), 5)[1][:150, :200]
    reg = bc.register(a, b, model="affine")
    assert corner_error(reg.matrix, MATRIX) < 0.1
    assert not reg.used[(reg.centres < (100, 150)).all(axis=1)].any()


def test_outliers_do_not_move_a_robust_fit() -> None:
    rng = np.random.default_rng(0)
    first = rng.uniform(0, 1000, (60, 2))
    second = np.column_stack([first, np.ones(60)]) @ np.array(MATRIX).T
    second += rng.normal(0, 0.05, second.shape)
    second[:25] += rng.uniform(20, 90, (25, 2))
    fit = robust_affine(first, second, np.ones(60), 3.0)
    assert fit is not None
    assert not fit.used[:25].any()
    assert fit.used[25:].mean() > 0.9
    places = np.column_stack([first, np.ones(60)]) @ (fit.matrix - np.array(MATRIX)).T
    assert np.abs(places).max() < 0.1


def test_too_few_points_or_a_line_of_them_give_no_fit() -> None:
    points = np.arange(20.0).reshape(10, 2)
    assert robust_affine(points[:3], points[:3], np.ones(3), 1.0) is None
    assert robust_affine(points, points, np.ones(10), 1.0) is None


def test_images_with_nothing_in_common_are_refused_as_affine() -> None:
    rng = np.random.default_rng(1)
    a = np.full((200, 220), np.nan)
    a[:40, :40] = ndimage.gaussian_filter(rng.normal(size=(40, 40)), 2)
    with pytest.raises(InputError, match="moving: got an image of which too few tiles match"):
        bc.register(a, ndimage.gaussian_filter(rng.normal(size=(200, 220)), 2), model="affine")


@pytest.mark.parametrize(
    "matrix",
    [
        np.eye(2),
        [[1, 0, np.nan], [0, 1, 0]],
        [[0, 0, 0], [0, 1, 0]],
        [[1, 0, 0], [0, 1, 0], [0, 1, 1]],
        [[99, 0, 0], [0, 1, 0]],
        [["a", 0, 0], [0, 1, 0]],
    ],
)
def test_a_bad_matrix_is_one_clear_error(matrix: Any) -> None:
    with pytest.raises(InputError, match=r"^matrix: got .*takes"):
        bc.apply_affine(np.ones((5, 5)), matrix)
    with pytest.raises(InputError, match=r"^order: got .*takes"):
        bc.apply_affine(np.ones((5, 5)), MATRIX, 2)
