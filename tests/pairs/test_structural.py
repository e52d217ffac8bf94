"""Mean SSIM of all pairs: equal to scikit-image and to its definition, whole and in any plan."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bigcorr as bc
from bigcorr.errors import InputError
from bigcorr.run.cluster import ThreadPool
from bigcorr.run.pairs_job import ask, compute, plan_for
from bigcorr.run.progress import SILENT


def ssim(stack, **options):
    measure = bc.measures.SSIM(**options)
    return bc.pairwise(stack, [measure], progress=False)["ssim"].values


def scaled(stack, valid=None):
    """Each channel from 0 to 1."""
    valid = np.ones(stack.shape[1:], bool) if valid is None else valid
    stack = stack.astype(float)
    low, high = stack[:, valid].min(axis=1), stack[:, valid].max(axis=1)
    return (stack - low[:, None, None]) / (high - low)[:, None, None]


def brute(stack, valid, window, stride, min_valid=0.5, sample=True, c1=1e-4, c2=9e-4):
    """The mean over windows, one pair and one window at a time."""
    least = max(2, np.ceil(min_valid * window**2))
    matrix = np.zeros((len(stack), len(stack)))
    count = 0
    for i in range(0, stack.shape[1] - window + 1, stride):
        for j in range(0, stack.shape[2] - window + 1, stride):
            box = np.s_[i : i + window, j : j + window]
            ok = valid[box]
            if ok.sum() < least:
                continue
            x = stack[:, i : i + window, j : j + window][:, ok]
            mean = x.mean(axis=1)
            cov = np.atleast_2d(np.cov(x, ddof=int(sample)))
            var = np.diag(cov)
            both = (2 * np.outer(mean, mean) + c1) * (2 * cov + c2)
            each = (np.add.outer(mean**2, mean**2) + c1) * (np.add.outer(var, var) + c2)
            matrix += both / each
            count += 1
    return matrix / count if count else np.full_like(matrix, np.nan)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((3, 40, 57), "counts"), ((3, 530, 600), "counts"), ((3, 530, 600), "levels")],
)
def test_at_stride_one_it_is_the_mean_of_scikit_image(shape, kind):
    metrics = pytest.importorskip("skimage.metrics")
    rng = np.random.default_rng(0)
    if kind == "counts":
        stack = rng.poisson(0.05, shape).astype(np.uint16)
        stack[0, : shape[1] // 2] = 0
    else:
        stack = (60000 + 100 * rng.normal(size=shape)).astype(np.float32)
    images = scaled(stack)
    for options in ({}, {"use_sample_covariance": False}):
        found = ssim(stack, window=7, stride=1, **options)
        for i, j in ((0, 1), (1, 2), (2, 0)):
            expected = metrics.structural_similarity(
                images[i], images[j], data_range=1.0, **options
            )
            assert found[i, j] == pytest.approx(expected, abs=1e-7)


def test_with_a_data_range_levels_count_as_in_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    stack = np.random.default_rng(1).normal(50.0, 5.0, (2, 64, 64))
    stack[1] += 20.0
    found = ssim(stack, data_range=100.0, k1=0.02, k2=0.05)
    expected = metrics.structural_similarity(*stack, data_range=100.0, K1=0.02, K2=0.05)
    assert found[0, 1] == pytest.approx(expected, abs=1e-9)
    level = ssim(stack - [[[0.0]], [[20.0]]], data_range=100.0, k1=0.02, k2=0.05)
    assert found[0, 1] < level[0, 1] - 0.01


@settings(max_examples=25)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 70), st.integers(1, 200)),
    window=st.integers(2, 12),
    stride=st.integers(1, 13),
    missing=st.sampled_from([0.0, 0.3, 0.55]),
    rate=st.sampled_from([0.01, 1.0]),
    seed=st.integers(0, 999),
)
def test_any_window_stride_and_shared_mask_equal_the_definition(
    shape, window, stride, missing, rate, seed
):
    rng = np.random.default_rng(seed)
    stack = rng.poisson(rate, shape) * rng.random(shape)
    if seed % 2:
        stack -= 3.0
    mask = rng.random(shape[1:]) >= missing
    mask.flat[:2] = True
    stack[:, 0, 0] = 7.0
    if mask.size > 1:
        stack.reshape(shape[0], -1)[:, 1] = -5.0
    window = min(window, *shape[1:])
    if window < 2 or mask.sum() < 2:
        return
    found = bc.pairwise(
        stack, [bc.measures.SSIM(window=window, stride=stride)], mask=mask, progress=False
    )["ssim"].values
    expected = brute(scaled(stack, mask), mask, window, stride)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("against", [None, ["c60", "c5"]])
@pytest.mark.parametrize("masked", [False, True])
def test_any_plan_gives_the_same_bits(against, masked):
    rng = np.random.default_rng(2)
    stack = rng.poisson(0.0003, (270, 70, 150)).astype(np.float32)
    stack[:, 40, 70] += 1
    stack[:40] += rng.random((40, 70, 150))
    if masked:
        stack[:, rng.random((70, 150)) < 0.1] = np.nan

    def run(strip=None, group=None, workers=1):
        pool = ThreadPool(workers)
        measure = bc.measures.SSIM(window=9, stride=3)
        asked = ask(stack, measures=[measure], against=against, pool=pool, sigma=1.0)
        plan = plan_for(asked, pool)
        plan = dataclasses.replace(plan, strip=strip or plan.strip, group=group or plan.group)
        return compute(asked, plan, pool, None, SILENT).dataset()["ssim"].values

    whole = run()
    assert np.isfinite(whole).all()
    assert np.array_equal(whole, run(strip=32, workers=2))
    assert np.array_equal(whole, run(group=256, workers=2))


def test_against_gives_the_rows_of_the_whole_matrix_to_the_last_bit():
    stack = np.random.default_rng(3).poisson(0.1, (70, 60, 60)).astype(np.uint64)
    measure = bc.measures.SSIM()
    whole = bc.pairwise(stack, [measure], progress=False)["ssim"].values
    some = bc.pairwise(stack, [measure], against=["c69", "c0"], progress=False)["ssim"].values
    assert np.array_equal(some, whole[[69, 0]])


def test_constant_missing_and_identical_channels_have_the_documented_values():
    stack = np.random.default_rng(4).random((6, 40, 40))
    stack[1] = 7.3
    stack[2] = np.nan
    stack[3] = 0.0
    stack[4] = 2 * stack[0] + 5
    found = ssim(stack)
    for constant in (1, 2, 3):
        assert np.isnan(found[constant]).all()
        assert np.isnan(found[:, constant]).all()
    assert found[0, 0] == 1.0
    assert found[0, 4] == pytest.approx(1.0, abs=1e-9)
    fixed = ssim(stack, data_range=10.0)
    assert fixed[1, 3] == pytest.approx(1e-4 / (0.73**2 + 1e-4))
    assert np.isnan(fixed[2]).all()
    assert ssim(stack[:1]).tolist() == [[1.0]]


def test_no_window_with_enough_valid_pixels_leaves_no_value():
    stack = np.random.default_rng(5).random((2, 20, 20))
    stack[:, ::2] = np.nan
    assert np.isnan(ssim(stack, min_valid=0.9)).all()


def test_a_list_of_blurs_is_scaled_blur_by_blur():
    stack = np.random.default_rng(6).poisson(0.1, (3, 60, 60))
    measure = bc.measures.SSIM(window=8, stride=4)
    several = bc.pairwise(stack, [measure], sigma=[1, 3], progress=False)["ssim"]
    one = bc.pairwise(stack, [measure], sigma=3, progress=False)["ssim"]
    assert np.array_equal(several.sel(sigma=3.0).values, one.values)


def test_the_result_tells_by_which_range_each_channel_was_scaled():
    stack = np.random.default_rng(8).random((3, 40, 40))
    found = bc.pairwise(stack, ["ssim"], against="c1", progress=False)
    assert np.array_equal(found["minimum"].values, stack.min(axis=(1, 2)))
    assert np.array_equal(found["maximum"].values, stack.max(axis=(1, 2)))
    assert found["maximum"].dims == ("other",)
    several = bc.pairwise(stack, ["ssim"], sigma=[1, 2], progress=False)
    assert several["minimum"].dims == ("sigma", "other")
    fixed = bc.pairwise(stack, [bc.measures.SSIM(data_range=1.0)], progress=False)
    assert "minimum" not in fixed.coords


def test_channels_that_miss_different_pixels_are_refused():
    stack = np.random.default_rng(7).normal(size=(3, 40, 40))
    stack[1, 5, 5] = np.nan
    with pytest.raises(InputError, match="ssim needs one mask for all channels"):
        ssim(stack)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"window": 1}, "window: got 1"),
        ({"window": 3.5}, "window: got 3.5"),
        ({"window": 41}, "window: got 41"),
        ({"stride": 0}, "stride: got 0"),
        ({"data_range": 0}, "data_range: got 0"),
        ({"data_range": "big"}, "data_range: got 'big'"),
        ({"k1": 0.0}, "k1: got 0.0"),
        ({"k2": float("nan")}, "k2: got nan"),
        ({"use_sample_covariance": "maybe"}, "use_sample_covariance: got 'maybe'"),
        ({"min_valid": 0}, "min_valid: got 0"),
    ],
)
def test_bad_parameters_are_refused_by_name(options, named):
    with pytest.raises(InputError, match=named):
        ssim(np.ones((2, 40, 40)), **options)


def test_its_parameters_can_be_written_as_text():
    found = bc.measures.parse("ssim:window=9,stride=2,use_sample_covariance=false,data_range=255")
    assert found == bc.measures.SSIM(9, 2, 255, use_sample_covariance=False)
