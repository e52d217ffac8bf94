"""The ranking of a large simulated result runs, for a small one, so that it cannot rot."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from rank_large import ends, rank, simulate_result  # type: ignore[import-not-found]

import bigcorr as bc


def test_a_simulated_result_is_ranked_with_its_time_and_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("rank_large.SIDE", 32)
    result = simulate_result(tmp_path / "result.zarr", 90)
    told = rank(result, tmp_path / "pairs.parquet", "1GiB")
    assert told["pairs"] == 90 * 89 // 2
    assert told["peak_bytes"] > 0
    with xr.open_zarr(result, chunks=None) as sim:
        matrix = sim["pearson"].values
        np.testing.assert_array_equal(matrix, matrix.T)
        expected = bc.rank_pairs(sim, "pearson")
    pd.testing.assert_series_equal(
        pd.read_parquet(tmp_path / "pairs.parquet")["q_value"], expected["q_value"]
    )
    assert expected["q_value"].min() < 0.01 < expected["q_value"].max()
    assert ends(result)["rows"] == 200
