"""Registration of images with missing pixels: known shifts, and Padfield's masked correlation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy import fft, ndimage
from skimage.registration._masked_phase_cross_correlation import cross_correlate_masked

import bigcorr as bc
from bigcorr.errors import InputError
from bigcorr.kernels.masked_correlation import LAGS, lag_sums, masked_sums


def pair(shape: tuple[int, int], shift: tuple[float, float], seed: int = 0) -> Any:
    """Two cuts of one texture, the second moved by the Fourier transform."""
    size = (shape[0] + 128, shape[1] + 128)
    noise = np.random.default_rng(seed).normal(size=size)
    whole = ndimage.gaussian_filter(noise, 1.5, mode="wrap")
    y, x = fft.fftfreq(size[0])[:, None], fft.rfftfreq(size[1])[None]
    turned = fft.rfft2(whole) * np.exp(-2j * np.pi * (y * shift[0] + x * shift[1]))
    inside = (slice(64, -64), slice(64, -64))
    return whole[inside].copy(), fft.irfft2(turned, size)[inside].copy()


def holes(shape: tuple[int, int], side: int, seed: int) -> NDArray[np.bool_]:
    """Random blocks that cover 30 % of an image."""
    rng = np.random.default_rng(seed)
    few = rng.random([-(-n // side) for n in shape]) < 0.3
    return np.kron(few, np.ones((side, side), bool)).astype(bool)[: shape[0], : shape[1]]


def test_the_sums_are_padfields_masked_correlation() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 30, 34)) + 100
    known = rng.random((2, 30, 34)) > 0.3
    expected = cross_correlate_masked(a, b, *known, mode="full", overlap_ratio=0)
    sums = masked_sums(a, b, (known[0], known[1]), (60, 68))
    found = np.roll(sums.correlation(20), (29, 33), (0, 1))[:59, :67]
    enough = np.roll(sums.number, (29, 33), (0, 1))[:59, :67] >= 20
    np.testing.assert_allclose(found[enough], expected[enough], atol=1e-9)


def test_lags_are_the_middle_of_all() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 90, 80))
    known = (rng.random((90, 80)) > 0.3, np.ones((90, 80), bool))
    few, every = lag_sums(a, b, known), masked_sums(a, b, known, (180, 160))
    assert few is not None
    for part, whole in zip(few, every, strict=True):
        middle = np.roll(whole, (LAGS, LAGS), (0, 1))[: 2 * LAGS + 1, : 2 * LAGS + 1]
        np.testing.assert_allclose(part, middle, atol=1e-8)


@pytest.mark.parametrize("side", [1, 6, 30])
@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("moved", [(3.3, -5.6), (-40.25, 31.5)])
def test_a_known_shift_is_found_through_holes(
    moved: tuple[float, float], same: bool, side: int
) -> None:
    a, b = pair((500, 600), moved)
    a[holes(a.shape, side, 1)] = np.nan
    b[holes(b.shape, side, 1 if same else 2)] = np.nan
    reg = bc.register(a, b)
    np.testing.assert_allclose(reg.shift, [-moved[0], -moved[1]], atol=0.03)
    assert reg.sigma == 0
    assert reg.score > 0.99


def test_noise_on_both_and_holes_want_a_blur() -> None:
    a, b = pair((700, 700), (3.3, -5.6))
    rng = np.random.default_rng(3)
    for seed, image in enumerate((a, b)):
        image += image.std() * rng.normal(size=image.shape)
        image[holes(image.shape, 20, seed)] = np.nan
    reg = bc.register(a, b, tile=256)
    np.testing.assert_allclose(reg.shift, [-3.3, 5.6], atol=0.1)


def test_nodata_and_masks_and_nan_are_one() -> None:
    a, b = (np.round(1000 + 9000 * image) for image in pair((200, 220), (4.5, -2.25)))
    lost = [holes(a.shape, 12, 1), holes(a.shape, 12, 2)]
    gaps, ints, labelled, masked = [], [], [], []
    for image, hole in zip((a, b), lost, strict=True):
        whole = image.astype("int32")
        gaps.append(np.where(hole, np.nan, image))
        ints.append(np.where(hole, -9999, whole))
        labelled.append(xr.DataArray(ints[-1], dims=("y", "x"), attrs={"nodata": -9999}))
        junk = np.where(hole, 10**8, whole)
        masked.append(xr.DataArray(junk, {"mask": (("y", "x"), ~hole)}, ("y", "x")))
    first = bc.register(*gaps)
    np.testing.assert_allclose(first.shift, [-4.5, 2.25], atol=0.02)
    for again in (
        bc.register(*ints, nodata=-9999),
        bc.register(*labelled),
        bc.register(*masked),
    ):
        assert again.shift == first.shift
        assert again.score_before == first.score_before
        assert again.score == pytest.approx(first.score, abs=1e-6)  # moved in float32


def test_an_image_that_lies_in_a_sea_of_nothing_is_found() -> None:
    """As where two slides of different size are put on one grid."""
    a, b = pair((300, 320), (2.5, 3.25))
    big, other = np.full((2, 700, 800), np.nan)
    big[50:350, 60:380], other[310:610, 400:720] = a, b
    reg = bc.register(big, other)
    assert reg.shift == pytest.approx((50 - 310 - 2.5, 60 - 400 - 3.25), abs=0.03)
    assert np.isnan(reg.score_before) or abs(reg.score_before) < 0.3


def test_images_that_share_no_known_pixel_are_refused() -> None:
    a, b = pair((100, 120), (0, 0))
    a[:, 5:], b[:, :-5] = np.nan, np.nan
    a[20:], b[20:] = np.nan, np.nan
    a[:-20], b[:-20] = np.nan, np.nan
    a[3, 3], a[4, 4], b[60, 60], b[61, 61] = 1, 2, 3, 4
    with pytest.raises(InputError, match=r"moving: got an image that has .*known pixels"):
        bc.register(a, b)
