"""The summaries stage with a toy summary: all pixels once, resumed, empty blocks unread."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import ndimage

from bigcorr.measures import MEASURES
from bigcorr.pairs.summaries import NoFeatures, rounds_of
from bigcorr.raster.stack import StackWriter
from bigcorr.raster.zarr_ import ZarrSource
from bigcorr.run import summaries as stage_module
from bigcorr.run.checkpoint import Checkpoint
from bigcorr.run.cluster import ThreadPool
from bigcorr.run.pairs_job import ask, compute, plan_for
from bigcorr.run.progress import SILENT


@dataclass(frozen=True)
class StepTally:
    """Sum of |x - the pixel to its left| over pixels valid in both, and valid pixels."""

    margin = 1
    dtype = np.dtype(np.float64)

    def shape(self, raster):
        return (2,)

    def add(self, total, tile):
        total[1] += tile.count
        if tile.empty:
            return
        y, x = tile.inner
        ok = np.ones(tile.reach.shape, bool) if tile.valid is None else tile.valid != 0
        first = max(x.start, 1)
        both = ok[y, first : x.stop] & ok[y, first - 1 : x.stop - 1]
        here, left = tile.values[y, first : x.stop], tile.values[y, first - 1 : x.stop - 1]
        total[0] += np.abs(here - left)[both].sum()

    def workspace_bytes(self, pixels):
        return 20 * pixels

    def idle(self, integers):
        return False


@dataclass(frozen=True)
class Steps:
    tally: StepTally = StepTally()
    needs: tuple = ()

    def finish(self, total, statistics):
        return total


@dataclass(frozen=True)
class RelativeStep:
    """Needs another summary first, and no pixel of its own where data are 16-bit integers."""

    needs: tuple = (Steps(),)

    @dataclass(frozen=True)
    class Nothing(StepTally):
        def add(self, total, tile):
            total[0] += tile.statistics.known.of(Steps())[tile.row][1]  # the valid pixels, per tile

        def idle(self, integers):
            return integers

    @property
    def tally(self):
        return self.Nothing()

    def finish(self, total, statistics):
        return statistics.known.of(Steps())[:, 0] + total[:, 0]


@dataclass(frozen=True)
class Toy:
    """Outer sum of the steps: made of summaries alone."""

    name = "toy"
    kind = "similarity"
    range = (0.0, np.inf)
    symmetric = True
    distribution = "none"
    parameters = {}  # noqa: RUF012
    summaries = (RelativeStep(), Steps())

    def features(self, raster):
        return NoFeatures()

    def check(self, shape):
        pass

    def finalize(self, partial, selection, rows, statistics):
        steps = statistics.known.of(Steps())[:, 0]
        assert statistics.known.of(RelativeStep()).shape == steps.shape
        return steps[selection.rows[rows]][:, None] + steps[selection.columns]


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setitem(MEASURES, "toy", Toy)


def brute(stack, valid=None, sigma=None):
    x = stack.astype(float)
    if sigma is not None:
        x = np.stack([ndimage.gaussian_filter(c, sigma) for c in x])
    valid = np.ones(stack.shape, bool) if valid is None else valid
    steps = np.abs(np.where(valid, x, 0)[..., 1:] - np.where(valid, x, 0)[..., :-1])
    total = np.where(valid[..., 1:] & valid[..., :-1], steps, 0).sum(axis=(1, 2))
    return total[:, None] + total


def run(stack, checkpoint=None, pool=None, group=None, **question):
    pool = pool or ThreadPool(1)
    asked = ask(stack, measures=["toy", "pearson"], significance=False, pool=pool, **question)
    plan = plan_for(asked, pool)
    plan = dataclasses.replace(plan, group=group or plan.group)
    return compute(asked, plan, pool, checkpoint, SILENT).dataset()


@pytest.mark.parametrize("sigma", [None, 1.5])
def test_every_pixel_of_a_raster_of_many_regions_is_counted_once(sigma):
    stack = np.random.default_rng(0).poisson(0.05, (3, 1100, 2050)).astype(np.uint8)
    stack[1, :1030] = 0
    sim = run(stack, sigma=sigma)
    np.testing.assert_allclose(sim["toy"], brute(stack, sigma=sigma), rtol=1e-9)
    two = run(stack, pool=ThreadPool(2), sigma=sigma)
    assert np.array_equal(sim["toy"].values, two["toy"].values)


def test_masks_and_missing_pixels_of_each_channel_are_left_out():
    rng = np.random.default_rng(1)
    stack = rng.normal(size=(4, 90, 70))
    mask = rng.random((90, 70)) < 0.8
    stack[0][rng.random((90, 70)) < 0.3] = np.nan
    stack[2] = np.nan
    valid = np.isfinite(stack) & mask
    sim = run(stack, mask=mask)
    np.testing.assert_allclose(sim["toy"], brute(stack, valid), rtol=1e-12)


def test_channels_in_groups_and_tiles_of_the_matrix_find_their_own_summaries():
    stack = np.random.default_rng(2).poisson(0.3, (600, 20, 24)).astype(np.float32)
    whole = run(stack)
    np.testing.assert_allclose(whole["toy"], brute(stack), rtol=1e-12)
    tiled = run(stack, group=256)
    assert np.array_equal(whole["toy"].values, tiled["toy"].values)
    some = run(stack, against=["c599", "c3"])
    assert np.array_equal(some["toy"].values, whole["toy"].values[[599, 3]])


class Stop(Exception):
    pass


def test_after_a_stop_only_the_rest_is_done_with_the_same_bits(tmp_path, monkeypatch):
    stack = np.random.default_rng(3).normal(size=(150, 40, 30))
    undisturbed = run(stack)
    unit, calls = stage_module.summary_unit, []

    def stopping(*arguments):
        calls.append(arguments[1])
        if len(calls) == 2:
            raise Stop
        return unit(*arguments)

    monkeypatch.setattr(stage_module, "summary_unit", stopping)
    checkpoint = Checkpoint(tmp_path / "r.partial")
    with pytest.raises(Stop):
        run(stack, checkpoint)
    again = run(stack, checkpoint)
    assert again.attrs["units_found_done"] >= 2  # statistics are units too
    assert np.array_equal(undisturbed["toy"].values, again["toy"].values)
    first = [tuple(numbers) for numbers in calls]
    assert first.count(tuple(range(64))) == 2  # once in each of the two passes: never again


def test_what_is_empty_is_not_read(tmp_path, monkeypatch):
    stack = np.zeros((2, 1100, 2050), np.uint8)
    stack[:, 3, 5] = stack[0, 1090, 2040] = 9
    path = tmp_path / "s.zarr"
    with StackWriter(path, ["a", "b"], stack.shape[1:], "uint8") as writer:
        for channels, box in writer.shard_boxes:
            writer.write(channels, box, stack[(channels, *box.slices)])
    read, unit, original = [], stage_module.summary_unit, ZarrSource.read

    def noting(self, channels, box):
        read.append((len(channels), box))
        return original(self, channels, box)

    def watched(*arguments):
        with monkeypatch.context() as patch:
            patch.setattr(ZarrSource, "read", noting)
            return unit(*arguments)

    monkeypatch.setattr(stage_module, "summary_unit", watched)
    sim = run(str(path))
    np.testing.assert_allclose(sim["toy"], brute(stack))
    # Six regions of two channels. Three hold something, three more touch its chunk by the margin.
    assert sum(count for count, _ in read) == 6


def test_a_need_comes_a_pass_earlier():
    assert rounds_of([Toy()]) == [(Steps(),), (RelativeStep(),)]


def test_a_measure_of_summaries_alone_needs_no_pair_pass():
    stack = np.random.default_rng(4).poisson(1.0, (3, 40, 40)).astype(np.uint8)
    asked = ask(stack, measures=["toy"])
    asked = dataclasses.replace(asked, counts=stack.sum(axis=(1, 2)))
    rows = dict(plan_for(asked, ThreadPool(1)).rows())
    assert rows["passes for summaries"] == "1"  # the second has nothing to read in integers
    result = compute(asked, plan_for(asked, ThreadPool(1)), ThreadPool(1), None, SILENT)
    np.testing.assert_allclose(result.dataset()["toy"], brute(stack))
    assert result.attrs["units"] == 2  # statistics and summaries
