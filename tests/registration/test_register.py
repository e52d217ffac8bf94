"""Registration by a shift: known shifts, scikit-image's phase correlation, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import fft, ndimage
from skimage.registration import phase_cross_correlation

import bigcorr as bc
from bigcorr.errors import InputError

Images = tuple[NDArray[np.float64], NDArray[np.float64]]


def pair(
    shape: tuple[int, int],
    shift: tuple[float, float],
    seed: int = 0,
    smooth: float = 1.5,
    margin: int = 64,
) -> Images:
    """Two cuts of one texture, the second moved by the Fourier transform: what wraps is cut off."""
    size = (shape[0] + 2 * margin, shape[1] + 2 * margin)
    whole = ndimage.gaussian_filter(
        np.random.default_rng(seed).normal(size=size), smooth, mode="wrap"
    )
    y, x = fft.fftfreq(size[0])[:, None], fft.rfftfreq(size[1])[None]
    turned = fft.rfft2(whole) * np.exp(-2j * np.pi * (y * shift[0] + x * shift[1]))
    inside = (slice(margin, -margin), slice(margin, -margin))
    return whole[inside], fft.irfft2(turned, size)[inside]


@pytest.mark.parametrize(
    ("shape", "moved", "smooth"),
    [
        ((64, 64), (3.3, -5.6), 1.0),
        ((200, 170), (-0.25, 0.5), 1.5),
        ((300, 260), (40.3, -51.6), 2.0),
        ((700, 1300), (-12.34, 7.77), 1.5),
        ((1500, 90), (20.5, 0.0), 1.5),
        ((24, 5000), (-2.5, 31.2), 1.0),
        ((2300, 1100), (-33.3, 60.1), 1.5),
    ],
)
def test_a_known_shift_is_found_to_a_hundredth_of_a_pixel(
    shape: tuple[int, int], moved: tuple[float, float], smooth: float
) -> None:
    a, b = pair(shape, moved, smooth=smooth)
    reg = bc.register(a, b)
    np.testing.assert_allclose(reg.shift, [-moved[0], -moved[1]], atol=0.01)
    assert reg.score > 0.999
    assert reg.score_before < 0.98


def test_the_shift_is_what_to_apply_to_moving() -> None:
    a, b = pair((200, 220), (4.6, -3.2))
    reg = bc.register(a, b)
    moved = bc.apply_shift(b, reg.shift)
    both = np.isfinite(moved)
    assert np.corrcoef(a[both], moved[both])[0, 1] == pytest.approx(reg.score, abs=1e-9)
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] == pytest.approx(reg.score_before, abs=1e-9)
    again = bc.register(a[5:-5, 5:-5], moved[5:-5, 5:-5])
    assert max(abs(d) for d in again.shift) < 0.01


@pytest.mark.parametrize("seed", range(4))
def test_phase_normalization_is_scikit_images(seed: int) -> None:
    moved = tuple(np.random.default_rng(seed).uniform(-9, 9, 2))
    a, b = pair((90 + seed, 121), (moved[0], moved[1]), seed, 0.7)
    for upsample in (1, 10, 25):
        expected = phase_cross_correlation(a, b, upsample_factor=upsample)[0]
        found = bc.register(a, b, upsample, normalization="phase").shift
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_phase_normalization_leans_and_the_default_does_not() -> None:
    a, b = pair((256, 256), (3.34, -5.56), smooth=2)
    found = np.array(bc.register(a, b, 100).shift)
    lean = np.array(bc.register(a, b, 100, normalization="phase").shift)
    truth = np.array([-3.34, 5.56])
    assert np.abs(found - truth).max() < 0.005
    assert np.abs(lean - truth).max() > 5 * np.abs(found - truth).max()


def test_noise_on_both_images_wants_a_blur() -> None:
    a, b = pair((600, 600), (2.7, -1.3), smooth=3)
    rng = np.random.default_rng(5)
    a, b = (image + image.std() * rng.normal(size=image.shape) for image in (a, b))
    reg = bc.register(a, b, sigma=3)
    np.testing.assert_allclose(reg.shift, [-2.7, 1.3], atol=0.05)
    assert 0 < max(reg.spread) < 0.5
    assert reg.sigma == 3
    chosen = bc.register(a, b)
    assert chosen.sigma >= 1
    np.testing.assert_allclose(chosen.shift, [-2.7, 1.3], atol=0.05)
    assert bc.register(a, b, sigma=None).sigma == 0


def test_clean_images_and_noise_on_one_want_no_blur() -> None:
    a, b = pair((600, 600), (2.7, -1.3))
    assert bc.register(a, b).sigma == 0
    noisy = b + b.std() * np.random.default_rng(5).normal(size=b.shape)
    found = bc.register(a, noisy)
    np.testing.assert_allclose(found.shift, [-2.7, 1.3], atol=0.02)


def test_half_an_image_away_is_found() -> None:
    whole = pair((900, 900), (0, 0), smooth=2)[0]
    a, b = whole[:600, :500], whole[300:900, 250:750]
    reg = bc.register(a, b)
    assert reg.shift == pytest.approx((300, 250), abs=0.01)
    assert reg.score > 0.999
    assert abs(reg.score_before) < 0.3


def test_the_cells_tell_where_the_images_differ() -> None:
    a, b = pair((300, 400), (1.5, -2.5))
    b[100:200, 200:300] = pair((100, 100), (0, 0), seed=7)[0]
    reg = bc.register(a, b)
    assert reg.cell == 64
    assert reg.scores.shape == (5, 7)
    assert reg.scores[2, 4] < 0.5
    assert reg.scores[0, 0] > 0.99
    # The tiles that the change lies in are left out: a single tile is pulled by .034 pixels.
    assert 0 < (~reg.used).sum() < reg.used.size / 2
    np.testing.assert_allclose(reg.shift, (-1.5, 2.5), atol=0.01)
    assert np.abs(reg.residuals[reg.used]).max() < 0.1


def test_tiles_that_moved_otherwise_are_left_out() -> None:
    a, b = pair((768, 768), (1.25, -2.5))
    other = pair((768, 768), (2.05, -2.5))[1]
    b = b.copy()
    b[512:, 512:] = other[512:, 512:]
    reg = bc.register(a, b, tile=256)
    np.testing.assert_allclose(reg.shift, [-1.25, 2.5], atol=0.01)
    away = (reg.centres > 600).all(axis=1)
    assert away.any()
    assert not reg.used[away].any()
    assert reg.used[(reg.centres < 500).any(axis=1)].all()
    np.testing.assert_allclose(
        reg.shifts[away], np.broadcast_to([-2.05, 2.5], (away.sum(), 2)), atol=0.1
    )


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32", "bool"])
def test_every_dtype_is_taken(dtype: str) -> None:
    a, b = pair((200, 200), (5, -7))
    cast = [
        (image > 0 if dtype == "bool" else 120 + 100 * image / np.abs(image).max()).astype(dtype)
        for image in (a, b)
    ]
    np.testing.assert_allclose(bc.register(*cast).shift, [-5, 7], atol=0.02)


def test_images_that_are_the_same_or_have_nothing_in_common_are_told() -> None:
    a = pair((128, 128), (0, 0))[0]
    same = bc.register(a, a)
    assert same.shift == pytest.approx((0, 0), abs=1e-6)
    assert same.score == pytest.approx(1)
    assert np.isnan(same.spread).all()
    other = np.random.default_rng(9).normal(size=a.shape)
    assert bc.register(a, ndimage.gaussian_filter(other, 1.5)).score < 0.5


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("moving", lambda a: ((a, a[1:]), {})),
        ("reference", lambda a: ((a[0], a), {})),
        ("reference", lambda a: ((a[:9], a[:9]), {})),
        ("reference", lambda a: ((a[:1, :1], a[:1, :1]), {})),
        ("reference", lambda a: ((np.stack([a, a]), a), {})),
        ("moving", lambda a: ((a, np.full_like(a, np.nan)), {})),
        ("reference", lambda a: ((np.where(a > 0, 7.0, np.nan), a), {})),
        ("moving", lambda a: ((a, np.ones_like(a)), {})),
        ("reference", lambda a: ((a + 1j, a), {})),
        ("upsample", lambda a: ((a, a, 0), {})),
        ("upsample", lambda a: ((a, a, 2.5), {})),
        ("normalization", lambda a: ((a, a), {"normalization": "magic"})),
        ("upsample", lambda a: ((a, a, 5000), {})),
        ("normalization", lambda a: ((np.where(a > 2, np.nan, a), a), {"normalization": "phase"})),
        ("model", lambda a: ((a, a), {"model": "rigid"})),
        ("sigma", lambda a: ((a, a), {"sigma": -1})),
        ("sigma", lambda a: ((a, a), {"sigma": 40})),
        ("sigma", lambda a: ((a, a), {"sigma": "much"})),
        ("tile", lambda a: ((a, a), {"tile": 8})),
    ],
)
def test_bad_input_is_one_clear_error(name: str, change: Any) -> None:
    args, options = change(np.random.default_rng(0).normal(size=(40, 50)))
    with pytest.raises(InputError, match=f"^{name}: got .*takes"):
        bc.register(*args, **options)
