"""Whole maps as probabilities: known values, dtypes, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bigcorr import subpix
from bigcorr.errors import InputError


def test_a_softmax_sums_to_one_and_follows_its_temperature() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 7))
    for temperature in (0.01, 1, 1000):
        p = subpix.spatial_softmax2d(x, temperature)
        np.testing.assert_allclose(p.sum((2, 3)), 1, rtol=1e-12)
        expected = np.exp((x - x.max((2, 3), keepdims=True)) / temperature)
        np.testing.assert_allclose(p, expected / expected.sum((2, 3), keepdims=True), rtol=1e-9)
    each = np.array([0.1, 1, 10])[:, None]
    p = subpix.spatial_softmax2d(x, each)
    for k, temperature in enumerate(each.ravel()):
        assert np.array_equal(p[:, k], subpix.spatial_softmax2d(x, temperature)[:, k])


def test_values_far_from_zero_neither_overflow_nor_vanish() -> None:
    x = np.array([[[[1e5, 1e5 - 1]]]], np.float32)
    np.testing.assert_allclose(subpix.spatial_softmax2d(x), subpix.spatial_softmax2d(x - 1e5))


def test_an_expectation_is_not_renormalised() -> None:
    p = np.zeros((1, 1, 3, 5))
    p[0, 0, 1, 4] = 0.5
    assert subpix.spatial_expectation2d(p, False).tolist() == [[[2.0, 0.5]]]
    assert subpix.spatial_expectation2d(p).tolist() == [[[0.5, 0.0]]]


def test_a_rendered_gaussian_has_the_known_centre_and_sums_to_one() -> None:
    map_ = subpix.render_gaussian2d([2.0, 1.0], [1.0, 0.5], (3, 5), False)
    assert map_[1, 2] == pytest.approx(0.3169, abs=5e-5)
    far = subpix.render_gaussian2d(np.array([[50.0, -50.0]], "f4"), np.ones((1, 2), "f4"), (4, 6))
    assert far.dtype == np.float32
    assert far.shape == (1, 4, 6)
    assert far.sum() == pytest.approx(1)
    mean = subpix.spatial_expectation2d(
        subpix.render_gaussian2d([0.2, -0.1], [0.05, 0.05], (99, 99))[None, None]
    )
    np.testing.assert_allclose(mean, [[[0.2, -0.1]]], atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int64", "float16"])
def test_only_float32_stays_and_all_else_is_float64(dtype: str) -> None:
    x = np.arange(24).reshape(1, 2, 3, 4).astype(dtype)
    wanted = np.float32 if dtype == "float32" else np.float64
    assert subpix.spatial_soft_argmax2d(x).dtype == wanted
    assert subpix.conv_soft_argmax2d(x).dtype == wanted
    assert subpix.nms2d(x, 3).dtype == x.dtype


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("temperature", lambda x: subpix.spatial_softmax2d(x, 0)),
        ("temperature", lambda x: subpix.spatial_softmax2d(x, np.nan)),
        ("temperature", lambda x: subpix.spatial_softmax2d(x, np.ones((5, 1, 1)))),
        ("input", lambda x: subpix.spatial_softmax2d(x[0])),
        ("input", lambda x: subpix.spatial_expectation2d(x + 1j)),
        ("mean", lambda x: subpix.render_gaussian2d([1, 2, 3], [1, 1], (3, 3))),
        ("std", lambda x: subpix.render_gaussian2d([1, 2], [1, 0], (3, 3))),
        ("std", lambda x: subpix.render_gaussian2d(np.ones((3, 2)), np.ones((4, 2)), (3, 3))),
        ("size", lambda x: subpix.render_gaussian2d([1, 2], [1, 1], (3, 0))),
        ("size", lambda x: subpix.render_gaussian2d([1, 2], [1, 1], (3, 3, 3))),  # type: ignore[arg-type]
    ],
)
def test_bad_input_is_one_clear_error(name: str, call: Any) -> None:
    with pytest.raises(InputError, match=f"^{name}: got .*takes"):
        call(np.ones((1, 1, 4, 4)))


def test_the_class_is_the_function() -> None:
    x = np.random.default_rng(1).normal(size=(1, 2, 5, 6))
    ours = subpix.SpatialSoftArgmax2d(0.1, False)
    assert np.array_equal(ours(x), subpix.spatial_soft_argmax2d(x, 0.1, False))
    assert np.array_equal(subpix.SpatialSoftArgmax2d()(x), subpix.spatial_soft_argmax2d(x))
