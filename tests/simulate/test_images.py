"""Image pairs: the shift is exact to a fraction of a pixel, and the change is where it is said."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import shift as spline_shift

from bigcorr.errors import InputError
from bigcorr.simulate import Scene, image_pair
from bigcorr.tiles import Box

SHAPE = (300, 550)


@cache
def whole_pair():
    return image_pair(SHAPE, seed=7, noise=0.2)


def test_an_integer_shift_moves_the_very_same_pixels():
    pair = image_pair((90, 120), shift=(3, -5), seed=1, changed_fraction=0)
    np.testing.assert_allclose(pair.moving[:-3, 5:], pair.reference[3:, :-5], atol=1e-6)
    assert not pair.truth["changed"].any()


def test_applying_the_true_shift_lays_moving_on_reference_except_where_it_changed():
    pair = image_pair((200, 260), seed=2, changed_fraction=0.1)
    laid = spline_shift(pair.moving.astype(float), pair.truth["shift"], order=5)
    inner = np.s_[12:-12, 12:-12]
    error = np.abs(laid - pair.reference)[inner]
    changed = pair.truth["changed"][inner]
    near = spline_shift(pair.truth["changed"].astype(float), (0, 0), order=0)[inner] > 0
    grown = np.zeros_like(near)
    for dy in range(-8, 9):  # a spline rings a little around the border of the changed region
        for dx in range(-8, 9):
            grown |= np.roll(near, (dy, dx), (0, 1))
    assert error[~grown].max() < 0.01
    assert error[changed].mean() > 0.05
    assert np.abs(pair.moving - pair.reference)[inner][~changed].mean() > 0.02


def test_the_changed_region_has_the_share_that_was_asked_for():
    for fraction in (0.02, 0.2):
        changed = image_pair(256, seed=3, changed_fraction=fraction).truth["changed"]
        assert changed.mean() == pytest.approx(fraction, rel=0.03)


@given(
    y0=st.integers(0, 290),
    x0=st.integers(0, 540),
    h=st.integers(1, 300),
    w=st.integers(1, 300),
)
@settings(max_examples=10, deadline=None)
def test_a_pixel_is_the_same_in_any_tile(y0, x0, h, w):
    scene, pair = Scene(SHAPE, seed=7, noise=0.2), whole_pair()
    box = Box(y0, y0 + h, x0, x0 + w).clipped(SHAPE)
    np.testing.assert_array_equal(scene.reference(box), pair.reference[box.slices])
    np.testing.assert_array_equal(scene.moving(box), pair.moving[box.slices])
    np.testing.assert_array_equal(scene.changed(box), pair.truth["changed"][box.slices])


def test_noise_is_independent_on_both_images():
    clean = image_pair(256, shift=(0, 0), changed_fraction=0)
    noisy = image_pair(256, shift=(0, 0), changed_fraction=0, noise=0.5)
    on_reference, on_moving = noisy.reference - clean.reference, noisy.moving - clean.moving
    assert on_reference.std() == pytest.approx(0.0625, rel=0.02)
    assert abs(np.corrcoef(on_reference.ravel(), on_moving.ravel())[0, 1]) < 0.02


def test_the_same_seed_gives_the_same_pair_and_another_another():
    np.testing.assert_array_equal(image_pair(64, seed=1).moving, image_pair(64, seed=1).moving)
    assert not np.array_equal(image_pair(64, seed=1).moving, image_pair(64, seed=2).moving)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": -3}, "size: got -3"),
        ({"changed_fraction": 0.9}, "changed_fraction: got 0.9"),
        ({"noise": -1}, "noise: got -1"),
    ],
)
def test_wrong_parameters_are_named(wrong, message):
    with pytest.raises(InputError, match=message):
        image_pair(**({"size": 16} | wrong))
