"""Runs of measures with loops and summaries of their own go on after an interruption."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import bigcorr as bc
from bigcorr.run.pairs_job import run_pairs
from bigcorr.run.progress import Silent

MEASURES = [
    bc.measures.SSIM(window=8, stride=4),
    bc.measures.LBP(),
    bc.measures.Wasserstein(grid=64, projections=4, quantiles=64),
    bc.measures.Sinkhorn(grid=8),
]


class Stopped(BaseException):
    """Somebody pulled the plug."""


class StopAt(Silent):
    """Stops the run when a stage has done so many units."""

    def __init__(self, stage, units):
        self.at = stage, units

    def __call__(self, stage, done, total=None):
        if (stage, done) == self.at:
            raise Stopped


@pytest.mark.parametrize(("stage", "units"), [("summaries", 1), ("pairs", 5)])
def test_after_an_interruption_the_rest_has_the_same_bits(stage, units, tmp_path):
    stack = np.random.default_rng(0).poisson(0.1, (4, 500, 400)).astype(np.uint16)
    np.save(tmp_path / "stack.npy", stack)
    question = {"measures": MEASURES, "against": ["c3", "c0"], "sigma": 1.0}
    out = tmp_path / "result.zarr"
    with pytest.raises(Stopped):
        run_pairs(tmp_path / "stack.npy", out, progress=StopAt(stage, units), **question)
    assert not out.exists()
    summary = run_pairs(tmp_path / "stack.npy", out, **question)
    assert summary["units_found_done"] >= units
    expected = bc.pairwise(stack, progress=False, **question)
    found = xr.open_zarr(out)
    assert set(found.coords) == set(expected.coords) > {"minimum", "maximum"}
    for measure in MEASURES:
        assert np.isfinite(expected[measure.name]).all()
        assert np.array_equal(found[measure.name].values, expected[measure.name].values)
