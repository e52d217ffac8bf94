"""What the process that puts a result together cannot hold is refused before it is begun."""

from __future__ import annotations

from pathlib import Path

import distributed.system
import numpy as np
import pytest

import bigcorr as bc
from bigcorr.errors import InputError
from bigcorr.run import driver_memory
from bigcorr.run.pairs_job import run_pairs

STACK = np.random.default_rng(0).random((3, 40, 50))


def test_pairs_that_no_memory_holds_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_memory, "_ALWAYS", 0)
    monkeypatch.setattr(distributed.system, "MEMORY_LIMIT", driver_memory.DRIVER_BYTES)
    words = "memory: the process that puts the result together would hold .* this machine has"
    with pytest.raises(InputError, match=words):
        run_pairs(STACK, tmp_path / "r.zarr", measures=["pearson"], threads=1)
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match=words):
        bc.pairwise(STACK, ["pearson"], progress=False)


def test_the_matrices_that_are_given_back_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(driver_memory, "refuse_too_much", asked.append)
    for sigma, n in ((None, 1), ([1.0, 2.0], 2)):
        sim = bc.pairwise(STACK, ["pearson"], sigma=sigma, progress=False)
        held = sum(sim[name].nbytes for name in sim.data_vars)
        assert held == 8 * 9 * 3 * n  # values, null means, deviations
        assert asked[-1] >= held
