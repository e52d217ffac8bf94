"""Peak regions: the pixels that numpy.quantile names, numbered alike whatever the chunks."""

from __future__ import annotations

from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import bigcorr as bc
from bigcorr.errors import InputError
from bigcorr.regions import peak_regions


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    with dask.config.set(scheduler="synchronous"):
        yield


def test_regions_are_the_connected_pixels_above_the_quantile() -> None:
    a = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(60, 70)), 2)
    labels = peak_regions(a, 0.9)
    assert labels.dtype == np.int32
    assert np.array_equal(labels > 0, a >= np.quantile(a, 0.9))
    assert labels.max() == ndimage.label(labels > 0)[1]
    firsts = [np.flatnonzero(labels.ravel() == k)[0] for k in range(1, labels.max() + 1)]
    assert firsts == sorted(firsts)
    histograms = bc.lbp_histogram(a, labels=labels)
    assert histograms.shape == (labels.max(), 10)


@settings(max_examples=8)
@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.sampled_from(["bool", "uint8", "int16", "int64", "uint64", "float32", "float64", ">f4"]),
    st.floats(0, 1),
    st.booleans(),
    st.sampled_from([1, 2]),
    st.integers(6, 20),
    st.integers(0, 2**32 - 1),
)
def test_chunks_change_nothing(
    h: int, w: int, dtype: str, q: float, nonzero: bool, connectivity: int, chunk: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    a = (rng.normal(size=(h, w)) * 9).round(1)
    a = (np.abs(a) if np.dtype(dtype).kind in "bu" else a).astype(dtype)
    if a.dtype.kind == "f":
        a[rng.random(a.shape) < 0.1] = np.nan
    expected = peak_regions(a, q, nonzero=nonzero, connectivity=connectivity)
    usable = np.isfinite(a) & (a != 0 if nonzero else True)
    if usable.any():
        level = np.quantile(a[usable], q, method="higher") if dtype != "bool" else None
        if level is not None:
            assert np.array_equal(expected > 0, usable & (a >= level))
    lazy = peak_regions(
        da.from_array(a, chunks=chunk), q, nonzero=nonzero, connectivity=connectivity
    )
    assert isinstance(lazy, da.Array)
    assert lazy.dtype == np.int32
    assert np.array_equal(lazy.compute(), expected)


def test_masked_pixels_are_in_no_region() -> None:
    a = np.arange(100).reshape(10, 10)
    mask = a < 90
    raster = xr.DataArray(a, dims=("y", "x"), coords={"mask": (("y", "x"), mask)})
    for given_ in (raster, raster.chunk(4)):
        labels = peak_regions(given_, 0.9)
        assert labels.dims == ("y", "x")
        assert np.array_equal(labels > 0, (a >= 81) & mask)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"a": np.zeros((2, 5, 5))}, r"a: got shape \(2, 5, 5\), takes one image"),
        ({"q": 1.5}, r"q: got 1\.5, takes a quantile from 0 to 1"),
        ({"q": np.nan}, "q: got nan"),
        ({"connectivity": 8}, "connectivity: got 8, takes 1 or 2"),
    ],
)
def test_bad_input_is_refused(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        peak_regions(**{"a": np.zeros((5, 5)), **arguments})
