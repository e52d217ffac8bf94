"""Pools: bounded, in any order, and clear about what they cannot reach."""

from __future__ import annotations

import threading
import time

import pytest

from bigcorr.errors import InputError, MissingFileError
from bigcorr.run import workspace
from bigcorr.run.cluster import DaskPool, ThreadPool, connect, open_pool, parse_memory
from bigcorr.run.workspace import tile_memory


def square(x):
    time.sleep(0.001 * (x % 3))
    return x * x


def fail(x):
    raise InputError(f"no {x}")


def test_threads_give_every_result_once_with_its_index():
    results = dict(ThreadPool(3).imap(square, ((x,) for x in range(50))))
    assert results == {x: x * x for x in range(50)}


def test_never_more_in_flight_than_the_window():
    flying, most, lock = [0], [0], threading.Lock()

    def tasks():
        for x in range(30):
            with lock:
                flying[0] += 1
                most[0] = max(most[0], flying[0])
            yield (x,)

    for _ in ThreadPool(2).imap(square, tasks(), window=4):
        with lock:
            flying[0] -= 1
    assert most[0] <= 5


def test_a_failing_task_raises_its_own_error():
    with pytest.raises(InputError, match="no 3"):
        list(ThreadPool(2).imap(fail, [(3,)]))


def keep_a_tile(x):
    tile_memory((10, 10), "f4", "test")
    return x


def test_workers_drop_the_tiles_that_their_threads_keep():
    from distributed import Client

    with Client(
        processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None
    ) as client:
        done = DaskPool(client).imap(keep_a_tile, [(1,)])
        assert next(done) == (0, 1)
        assert workspace._kept
        assert list(done) == []
        until = time.monotonic() + 30
        while workspace._kept:
            assert time.monotonic() < until
            time.sleep(0.01)


def test_library_calls_use_the_active_client_and_leave_it_open():
    from distributed import Client

    with Client(
        processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None
    ) as client:
        with open_pool() as pool:
            assert isinstance(pool, DaskPool)
            assert pool.slots == 2
            assert dict(pool.imap(square, [(x,) for x in range(9)])) == {x: x * x for x in range(9)}
        assert client.status == "running"
    with open_pool(threads=1) as pool:
        assert isinstance(pool, ThreadPool)


def test_without_a_limit_threads_share_half_of_the_free_memory():
    with open_pool(threads=2) as pool:
        assert pool.memory_limit is not None
        assert pool.memory_limit > 0


@pytest.mark.parametrize(
    ("cluster", "error", "named"),
    [
        ("lokal", InputError, "lokal"),
        ("nowhere.yaml", MissingFileError, r"nowhere\.yaml"),
        ("tcp://127.0.0.1:9", InputError, "no scheduler answers"),
    ],
)
def test_a_cluster_that_is_not_there_is_named(cluster, error, named, monkeypatch):
    monkeypatch.setattr("bigcorr.run.cluster.CONNECT_SECONDS", 0.5)
    with pytest.raises(error, match=named):
        connect(cluster)


@pytest.mark.parametrize("memory", ["2 gibbons", "-1GiB", 0])
def test_a_memory_limit_that_is_none_is_refused(memory):
    with pytest.raises(InputError, match="memory"):
        parse_memory(memory)


@pytest.mark.parametrize("option", ["workers", "threads"])
def test_no_workers_are_refused(option):
    with pytest.raises(InputError, match=option), open_pool(None, **{option: 0}):
        pass
