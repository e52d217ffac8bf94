"""Sums by key in bounded memory equal sums in a dictionary."""

from collections import Counter

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bigcorr.raster.spill import Accumulator, Spool


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 2**50), st.integers(1, 9)), max_size=30), max_size=8
    ),
    st.integers(1, 20),
    st.booleans(),
)
def test_sums_do_not_depend_on_how_little_memory_there_is(tmp_path, batches, rows, near):
    total = Counter()
    accumulator = Accumulator(tmp_path, rows=rows)
    for batch in batches:
        pairs = [(key % 17 if near else key, amount) for key, amount in batch]
        for key, amount in pairs:
            total[key] += amount
        key, amount = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        accumulator.add(key, amount)
    run, largest = accumulator.result()
    cells = run.take(0, len(run))
    assert dict(zip(cells.key.tolist(), cells.amount.tolist(), strict=True)) == total
    assert (np.diff(cells.key) > 0).all()
    assert largest == max(total.values(), default=0)
    part = [key for piece in run.pieces(3, 9) for key in piece.key.tolist()]
    assert part == sorted(key for key in total if 3 <= key < 9)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 20), max_size=12), st.integers(0, 200))
def test_rows_come_back_in_order_from_memory_or_file(tmp_path_factory, lengths, limit):
    dtype = np.dtype([("a", "i4")])
    spool = Spool(tmp_path_factory.mktemp("spool"), dtype, limit=limit)
    start = 0
    for length in lengths:
        rows = np.zeros(length, dtype)
        rows["a"] = np.arange(start, start + length)
        spool.add(rows)
        start += length
    for _ in range(2):
        found = [value for rows in spool for value in rows["a"].tolist()]
        assert found == list(range(start))
