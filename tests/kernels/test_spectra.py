"""Binned power of transforms, from all columns and from a sample of them."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft

from bigcorr.kernels.spectra import SAMPLED, FrequencyBins

SHAPES = [
    (512, 512), (129, 48), (51, 200), (200, 51), (48, 47), (1, 50), (50, 2), (5, 1), (3, 4), (1, 1)
]  # fmt: skip


def truth(bins: FrequencyBins, x: np.ndarray) -> np.ndarray:
    """Squared moduli of the half plane, each as often as the plane has it, bin by bin."""
    power = np.abs(np.fft.fftshift(np.fft.rfft2(x.astype(np.float64)), axes=0)) ** 2
    alone = [0] if bins.columns % 2 else [0, bins.columns // 2]
    power[:, [c for c in range(power.shape[1]) if c not in alone]] *= 2
    rows = np.searchsorted(bins.row_starts, np.arange(bins.rows), side="right") - 1
    columns = np.searchsorted(bins.column_starts, np.arange(power.shape[1]), side="right") - 1
    out = np.zeros((len(bins.row_starts), len(bins.column_starts)))
    np.add.at(out, (rows[:, None], columns[None, :]), power)
    return out


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_power_is_that_of_the_whole_plane(shape, dtype):
    bins = FrequencyBins(*shape)
    rng = np.random.default_rng(shape[0])
    x = rng.integers(0, 200, shape).astype(dtype)
    z = (x.astype(np.float64) - 100) * 0.5
    expected = truth(bins, z)
    scale = expected.max()
    power = bins.power(scipy.fft.rfft2(z.astype(np.float32)))
    np.testing.assert_allclose(power, expected, atol=1e-5 * scale)
    sampled = bins.sampled_power(x, 100.0, 0.5)
    assert sampled.shape == expected.shape
    # Narrow bins are taken as they are.
    widths = np.diff([*bins.column_starts, bins.columns // 2 + 1])
    whole = widths <= SAMPLED
    np.testing.assert_allclose(sampled[:, whole], expected[:, whole], atol=1e-5 * scale)


def test_a_sample_of_columns_stands_for_all_of_a_bin():
    bins = FrequencyBins(512, 512)
    rng = np.random.default_rng(1)
    slope = 1 / (1 + np.arange(257) / 32.0)[None, :]
    total, sampled = np.zeros((2, len(bins.row_starts), len(bins.column_starts)))
    for _ in range(8):
        noise = scipy.fft.rfft2(rng.standard_normal((512, 512)))
        x = scipy.fft.irfft2(noise * slope).astype(np.float32)
        total += bins.power(scipy.fft.rfft2(x))
        sampled += bins.sampled_power(x, 0.0, 1.0)
    # What standard errors are made of: sums of squares over the bins.
    density, thin = total / bins.counts, sampled / bins.counts
    assert (bins.counts * thin**2).sum() == pytest.approx(
        (bins.counts * density**2).sum(), rel=0.02
    )
    assert sampled.sum() == pytest.approx(total.sum(), rel=0.01)
