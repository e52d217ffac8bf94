"""Sums by key in bounded memory equal sums in a dictionary, also when they are made in two runs."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bigcorr.raster import spill
from bigcorr.raster.spill import Accumulator, Spool

quiet = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


class Stop(Exception):
    """A run that is cut off."""


@quiet
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 2**50), st.integers(1, 9)), max_size=30),
        min_size=1,
        max_size=8,
    ),
    st.integers(1, 20),
    st.integers(1, 20),
    st.booleans(),
    st.integers(0, 20),
)
def test_sums_do_not_depend_on_memory_nor_on_where_a_run_was_cut_off(
    tmp_path_factory, batches, rows, merged, near, cut
):
    folder = tmp_path_factory.mktemp("sums")
    total = Counter()
    given_pairs = []
    for batch in batches:
        pairs = [(key % 17 if near else key, amount) for key, amount in batch]
        for key, amount in pairs:
            total[key] += amount
        given_pairs.append(np.array(pairs, dtype=np.int64).reshape(-1, 2).T)

    def run(stop_after):
        accumulator = Accumulator(folder, len(batches), count_down(stop_after))
        for number in accumulator.pending:
            accumulator.add(*given_pairs[number], left_out=number)
        return accumulator, accumulator.result()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "RUN_ROWS", rows)
        patch.setattr(spill, "MERGED_ROWS", merged)
        try:
            accumulator, cells = run(cut)
        except Stop:
            kept = sum(1 for _ in folder.rglob("*.json"))
            accumulator, cells = run(None)
            assert accumulator.found == kept
        pieces = list(cells.pieces())
        part = [key for piece in cells.pieces(3, 9) for key in piece.key.tolist()]
    found = {k: a for p in pieces for k, a in zip(p.key.tolist(), p.amount.tolist(), strict=True)}
    assert found == total
    assert sum(len(piece.key) for piece in pieces) == len(total) == len(cells)
    assert all((np.diff(piece.key) > 0).all() for piece in pieces)
    assert cells.largest == max(total.values(), default=0)
    assert accumulator.left_out == sum(range(len(batches)))
    assert part == sorted(key for key in total if 3 <= key < 9)
    assert cells.any(3, 9) == bool(part)


def count_down(events):
    """A progress that cuts the run off after some events."""
    left = [events]

    def progress(*_):
        if left[0] is not None:
            left[0] -= 1
            if left[0] < 0:
                raise Stop

    return progress


@quiet
@given(st.lists(st.integers(0, 20), max_size=12), st.integers(0, 200), st.integers(0, 12))
def test_rows_come_back_in_order_from_memory_or_files(tmp_path_factory, lengths, limit, cut):
    folder = tmp_path_factory.mktemp("spool")
    dtype = np.dtype([("a", "i4")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "SPOOL_BYTES", limit)
        for stop in (cut, len(lengths)):  # the second goes on behind what the first has kept
            spool = Spool(folder, dtype)
            first = spool.kept.notes[-1]["next"] if spool.kept.notes else 0
            for number, length in enumerate(lengths[first:stop], first):
                rows = np.zeros(length, dtype)
                rows["a"] = np.arange(length) + sum(lengths[:number])
                spool.add(rows)
                if spool.full:
                    spool.keep({"next": number + 1})
        if spool.kept.notes:
            spool.keep({"next": len(lengths)})
        found = [value for k in range(spool.batches) for value in spool.batch(k)["a"].tolist()]
    assert found == list(range(sum(lengths)))
