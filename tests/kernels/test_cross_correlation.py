"""Spectra of tiles in single precision against the same in double, and their fine correlation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

import bigcorr as bc
from bigcorr.kernels.cross_correlation import (
    blurred,
    cross_spectrum,
    fine_correlation,
    fine_peak,
    fine_steps,
    power,
    product,
    tile_spectrum,
)

SHAPE, SIZE = (40, 50), (40, 54)


def tiles(sigma: float = 1.5) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    a = ndimage.gaussian_filter(rng.normal(size=SHAPE), sigma)
    return [a, ndimage.shift(a, (0.3, -0.6), mode="mirror") + 0.01 * rng.normal(size=SHAPE)]


@pytest.mark.parametrize("factor", [1.0, 1e-60, 1e-120, 1e60, 1e120])
@pytest.mark.parametrize("level", [0.0, 1e5])
def test_a_spectrum_in_single_precision_is_that_in_double(factor: float, level: float) -> None:
    a, b = (factor * (each + level) for each in tiles())
    first, second = (tile_spectrum(each, SIZE) for each in (a, b))
    expected = cross_spectrum(a, b, SIZE)
    # A level of 1e5 costs doubles five digits.
    most = np.abs(expected).max()
    np.testing.assert_allclose(product(first, second), expected, rtol=0, atol=2e-6 * most)
    np.testing.assert_allclose(
        power(first), cross_spectrum(a, a, SIZE).real, rtol=0, atol=2e-6 * power(first).max()
    )
    fine = fine_correlation(product(first, second), SIZE, SHAPE, 10)
    exact = fine_peak(fine_correlation(expected, SIZE, SHAPE, 10), 10)
    assert fine_peak(fine, 10) == pytest.approx(exact, abs=1e-6)


def test_a_constant_tile_has_no_spectrum() -> None:
    found = tile_spectrum(np.full(SHAPE, 0.1), SIZE)
    assert np.abs(found.values * found.scale).max() < 1e-12


@pytest.mark.parametrize("size", [(40, 54), (45, 51)])
@pytest.mark.parametrize("upsample", [1, 10])
def test_the_fine_correlation_is_the_sum_of_its_waves(size: tuple[int, int], upsample: int) -> None:
    a, b = tiles()
    spectrum = blurred(cross_spectrum(a, b, size), size, 1.0)
    whole = np.fft.fft2(np.fft.irfft2(spectrum, size))
    steps = fine_steps(upsample)
    y, x = (np.exp(2j * np.pi * np.outer(steps, np.fft.fftfreq(n))) for n in size)
    own = []
    for n, length in zip(size, SHAPE, strict=True):
        window = np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2
        taper = np.abs(np.fft.fft(window, n)) ** 2
        own.append(np.cos(2 * np.pi * np.outer(steps, np.fft.fftfreq(n))) @ taper / taper.sum())
    expected = (y @ whole @ x.T).real / np.outer(*own)
    found = fine_correlation(spectrum, size, SHAPE, upsample)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("sigma", [1.0, 12.0])
def test_two_images_that_change_places_turn_the_shift_round(sigma: float) -> None:
    """No part of a shift comes from the estimator alone, however smooth the images."""
    rng = np.random.default_rng(1)
    a = ndimage.gaussian_filter(rng.normal(size=(600, 640)), sigma)
    b = ndimage.gaussian_filter(rng.normal(size=a.shape), sigma)
    b = ndimage.shift(a, (2.4, -5.2), mode="mirror") + 0.3 * b
    there, back = bc.register(a, b, sigma=None), bc.register(b, a, sigma=None)
    assert there.shift == pytest.approx([-each for each in back.shift], abs=2e-3)
    assert there.shift == pytest.approx((-2.4, 5.2), abs=0.1 * sigma)
