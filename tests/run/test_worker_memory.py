"""Workers that die: said with the task, the memory that was seen and what was projected."""

from __future__ import annotations

import multiprocessing
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import dask
import numpy as np
import pytest

import bigcorr as bc
from bigcorr.errors import RunError
from bigcorr.operators import GaussianBlur
from bigcorr.raster import npy
from bigcorr.run.cluster import DaskPool, connect
from bigcorr.run.displacement_job import run_displacement
from bigcorr.run.map_job import run_map
from bigcorr.run.pairs_job import run_pairs
from bigcorr.run.worker_memory import DeadWorkerError, telling_projection


def eat(number: int) -> int:
    """Take memory until somebody puts an end to it."""
    if number != 2:
        return number
    held = []
    for _ in range(1000):
        held.append(np.ones(2**19))
        time.sleep(0.02)  # no faster than whoever watches can look, on a busy machine too
    return len(held)


def die(number: int) -> int:
    """Crash, but not before somebody has looked at the worker."""
    if number == 1:
        time.sleep(1.0)
        os._exit(3)
    return number


class Greedy(npy.NpySource):
    """A raster that takes more than it says; or whose reader crashes."""

    harm = staticmethod(eat)

    def _read(self, index, box):  # type: ignore[no-untyped-def]
        if multiprocessing.parent_process() is not None:
            self.harm(2)
        return super()._read(index, box)


class Crashing(Greedy):
    harm = staticmethod(lambda _: die(1))


@pytest.fixture(scope="module")
def pool() -> Iterator[DaskPool]:
    """A worker of 700 MiB; a task that kills it once is given up."""
    settings = {"distributed.scheduler.allowed-failures": 0, "logging.distributed": "critical"}
    with dask.config.set(settings), connect("local", workers=1, memory="700MiB") as client:
        yield DaskPool(client)
        client.cluster.close()


@pytest.fixture
def image(tmp_path: Path) -> str:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random((3, 40, 50)).astype("f4"))
    return str(tmp_path / "a.npy")


def test_a_death_for_want_of_memory_tells_limit_and_what_was_seen(pool: DaskPool) -> None:
    with pytest.raises(DeadWorkerError) as caught, telling_projection(300 * 2**20):
        list(pool.imap(eat, [(n,) for n in range(3)]))
    assert isinstance(caught.value, RunError)
    words = str(caught.value)
    assert words.startswith("the worker of task 2 died once, for want of memory (a worker was seen")
    assert "it may take 700 MiB, projected are 300 MiB): raise --memory" in words
    seen = int(re.search(r"seen with (\d+) MiB", words)[1])  # type: ignore[index]
    assert 525 < seen < 900


def test_a_death_of_something_else_is_not_called_one_of_memory(pool: DaskPool) -> None:
    # One task: one that had just ended, its answer still under way, would be told dead as well.
    with pytest.raises(DeadWorkerError, match=r"task 0 died once .*not for want of memory"):
        list(pool.imap(die, [(1,)]))


def test_runs_name_the_place_and_what_was_projected(
    pool: DaskPool, image: str, tmp_path: Path
) -> None:
    out = tmp_path / "o.zarr"
    with pytest.raises(DeadWorkerError, match=r"shard of rows 0:40, columns 0:50 .*projected are"):
        run_map(GaussianBlur(1.0), [Crashing(image)], out, cluster=pool)
    with pytest.raises(DeadWorkerError, match=r"unit \d+ of \w+.* died once .*projected are \d+"):
        run_pairs(Crashing(image), tmp_path / "r.zarr", measures=["pearson"], cluster=pool)
    channel = Crashing(image).select([0])
    with pytest.raises(DeadWorkerError, match=r"nodes of rows 0:2, columns 0:3 .*projected are"):
        run_displacement(
            channel, channel, tmp_path / "d.zarr", window=16, search=4, step=16, cluster=pool
        )
    assert bc.check_store(tmp_path / "o.zarr").ok  # nothing half done is taken for done


def test_a_task_that_fails_by_its_data_names_tile_and_file(tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    bc.save_raster(np.random.default_rng(0).random((2, 64, 64)).astype("f4"), store, chunk=32)
    file = store / "raster" / "c" / "0" / "0" / "0"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    for run in (
        lambda: run_map(GaussianBlur(1.0), [str(store)], tmp_path / "o.zarr", threads=1),
        lambda: run_pairs(str(store), tmp_path / "r.zarr", measures=["pearson"], threads=1),
    ):
        with pytest.raises(RunError) as caught:
            run()
        words = str(caught.value)
        assert str(file) in words
        assert re.search(r"chunk \(\d, \d, \d\) of .*a\.zarr.*rows \d+:\d+, columns \d+:", words)
    with pytest.raises(RunError, match=r"\(in the shard of rows 0:64, columns 0:64\)"):
        run_map(GaussianBlur(1.0), [str(store)], tmp_path / "o.zarr", threads=1)
