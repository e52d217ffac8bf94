"""Simulated tissue: its promises, and that the measures of the reference find its groups."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import gaussian_filter

from bigcorr.errors import InputError
from bigcorr.pairs.precision import average_precision
from bigcorr.simulate import Tissue, tissue, tissue_tile
from bigcorr.simulate.tissue import PATTERNS
from bigcorr.tiles import Box, grid

WHOLE = Box(0, 700, 0, 600)


@cache
def whole(channel: int) -> np.ndarray:
    return tissue_tile(Tissue(channels=16, seed=5), channel, WHOLE)


@given(
    channel=st.integers(0, 15),
    y0=st.integers(0, 650),
    x0=st.integers(0, 550),
    h=st.integers(1, 300),
    w=st.integers(1, 300),
    channels=st.sampled_from([16, 40]),
)
@settings(max_examples=50, deadline=None)
def test_a_pixel_is_the_same_in_any_tile_of_any_number_of_channels(channel, y0, x0, h, w, channels):
    box = Box(y0, y0 + h, x0, x0 + w).clipped((WHOLE.y1, WHOLE.x1))
    tile = tissue_tile(Tissue(channels=channels, seed=5), channel, box)
    np.testing.assert_array_equal(tile, whole(channel)[box.slices])


def test_a_stack_holds_the_same_pixels_whatever_its_size_and_threads(tmp_path):
    stacks = {}
    for name, size, threads in [("small", (70, 130), 1), ("large", (300, 200), 2)]:
        made = tissue(tmp_path / name, channels=18, size=size, seed=-3, threads=threads)
        group = zarr.open_group(tmp_path / name, mode="r")
        stacks[name] = group["raster"][...]
        assert made["shape"] == (18, *size) == stacks[name].shape
        assert made["dtype"] == str(stacks[name].dtype) == "uint8"
        assert made["counts"] == stacks[name].sum()
        np.testing.assert_array_equal(group["count"][...], stacks[name].sum(axis=(1, 2)))
        assert group.attrs["bigcorr"]["truth"] == made["truth"]
    np.testing.assert_array_equal(stacks["large"][:, :70, :130], stacks["small"])


def test_a_structure_reaches_over_the_borders_of_tiles():
    spec = Tissue(channels=16, seed=9, cell=4)
    for group in range(4):
        joined = np.zeros((256, 256), np.uint8)
        for box in grid((256, 256), 37):
            joined[box.slices] = spec.codes(group, box)
        np.testing.assert_array_equal(joined, spec.codes(group, Box(0, 256, 0, 256)))
        assert joined.any()


def test_truth_is_a_list_for_each_fact_and_every_sixteen_channels_hold_every_kind():
    spec = Tissue(channels=64, seed=1)
    truth = spec.truth()
    assert list(truth) == ["channel", "kind", "group", "mean"]
    assert len(set(truth["channel"])) == 64
    for start in range(0, 64, 16):
        kinds = truth["kind"][start : start + 16]
        assert [kinds.count(kind) for kind in PATTERNS] == [3, 3, 3, 3]
        assert kinds[12:] == ["unpatterned"] * 2 + ["empty"] * 2
    for group in range(16):
        members = [i for i, g in enumerate(truth["group"]) if g == group]
        assert len(members) == 3
        assert len({truth["kind"][i] for i in members}) == 1
    means = np.array(truth["mean"])[np.array(truth["kind"]) != "empty"]
    assert 0.006 <= means.min() < 0.009
    assert 0.04 < means.max() <= 0.06


def test_counts_are_poisson_of_the_mean_that_was_aimed_at():
    spec = Tissue(channels=16, seed=2, level=0.5)
    channel = 12
    counts = tissue_tile(spec, channel, Box(0, 1000, 0, 1000)).astype(float)
    mean = spec.plan[channel].mean
    assert counts.mean() == pytest.approx(mean, abs=5 * np.sqrt(mean / 1e6))
    assert counts.var() == pytest.approx(mean, rel=0.02)
    neighbours = np.corrcoef(counts[:, 1:].ravel(), counts[:, :-1].ravel())[0, 1]
    assert abs(neighbours) < 5e-3


def test_means_of_patterned_channels_are_near_what_was_aimed_at():
    spec = Tissue(channels=16, seed=3, cell=2)
    for channel in range(12):
        got = tissue_tile(spec, channel, Box(0, 1024, 0, 1024)).mean()
        assert got == pytest.approx(spec.plan[channel].mean, rel=0.15)


def test_the_background_is_at_most_three_percent_of_the_level():
    spec = Tissue(channels=1, seed=0, level=5.0, background=0.03)
    box = Box(0, 1500, 0, 1500)
    codes, counts = spec.codes(0, box), tissue_tile(spec, 0, box)
    inside, outside = counts[codes == 255].mean(), counts[codes == 0].mean()
    assert outside / inside == pytest.approx(0.03, rel=0.05)
    silent = Tissue(channels=1, seed=0, background=0)
    assert not tissue_tile(silent, 0, box)[codes == 0].any()


def test_the_type_is_the_smallest_that_holds_the_counts_and_may_be_wider(tmp_path):
    assert Tissue().dtype == np.uint8
    assert Tissue(level=100).dtype == np.uint16
    tissue(tmp_path / "wide", channels=2, size=40, dtype="uint16")
    tissue(tmp_path / "narrow", channels=2, size=40)
    wide, narrow = (zarr.open_group(tmp_path / n, mode="r")["raster"] for n in ("wide", "narrow"))
    assert wide.dtype == np.uint16
    np.testing.assert_array_equal(wide[...], narrow[...])
    with pytest.raises(InputError, match="dtype: got uint8, takes an unsigned type from uint16"):
        tissue(tmp_path / "no", channels=2, size=8, level=100, dtype="uint8")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"channels": 0}, "channels: got 0"),
        ({"size": 0}, "size: got 0"),
        ({"size": (3, 4, 5)}, "size: got"),
        ({"cell": 0.5}, "cell: got 0.5"),
        ({"level": 0}, "level: got 0"),
        ({"background": 0.1}, "background: got 0.1"),
    ],
)
def test_wrong_parameters_are_named_and_nothing_is_written(tmp_path, wrong, message):
    with pytest.raises(InputError, match=message):
        tissue(tmp_path / "out", **({"channels": 2, "size": 8} | wrong))
    assert not list(tmp_path.iterdir())


def windowed_ncc(stack, window=16, stride=8, floor=1.0):
    """Section 4 of the reference, by its formula: contrast-weighted mean of window NCCs."""
    sd = stack.std(axis=(1, 2))
    views = [sliding_window_view(image, (window, window))[::stride, ::stride] for image in stack]
    shape = (len(stack), len(stack))
    products, together, weight = np.zeros(shape), np.zeros(shape), np.zeros(len(stack))
    for row in range(views[0].shape[0]):
        patches = np.stack([view[row].reshape(view.shape[1], -1) for view in views])
        patches = patches - patches.mean(axis=-1, keepdims=True)
        ss = (patches**2).sum(axis=-1)
        total = ss + (floor * sd[:, None] * window) ** 2
        k2 = np.divide(ss, total, out=np.zeros_like(ss), where=total > 0)
        scale = np.divide(k2, ss, out=np.zeros_like(ss), where=ss > 0)
        u = (patches * np.sqrt(scale)[..., None]).reshape(len(stack), -1)
        products += u @ u.T
        together += k2 @ k2.T
        weight += k2.sum(axis=1)
    return products / (weight[:, None] + weight[None, :] - together)


@pytest.mark.parametrize("seed", [0, 11])
def test_pearson_and_windows_find_the_groups_by_brute_force(seed):
    spec = Tissue(channels=32, seed=seed)
    truth = spec.truth()
    box = Box(0, 1024, 0, 1024)
    stack = np.stack(
        [
            gaussian_filter(tissue_tile(spec, channel, box).astype(np.float32), 2.0)
            for channel in range(spec.channels)
        ]
    )
    group, kind = np.array(truth["group"]), np.array(truth["kind"])
    a, b = np.triu_indices(spec.channels, 1)
    same = (group[a] == group[b]) & (group[a] >= 0)

    def precision(matrix, chosen):
        return average_precision(same[chosen], matrix[a, b][chosen])

    gradient = (kind[a] == "gradients") | (kind[b] == "gradients")
    pearson = np.corrcoef(stack.reshape(spec.channels, -1))
    ncc = windowed_ncc(stack)
    assert precision(pearson, np.full(len(a), True)) >= 0.98
    assert precision(ncc, ~gradient) >= 0.98
    for either in (np.logical_or, np.logical_and):
        arcs = either(kind[a] == "arcs", kind[b] == "arcs")
        assert precision(pearson, arcs) >= 0.98
        assert precision(ncc, arcs) >= 0.98
    # A broad gradient is nearly flat in any window of 16, as the documentation says.
    assert precision(ncc, gradient) < 0.8 < 0.98 <= precision(pearson, gradient)
