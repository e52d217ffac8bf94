"""The table of benchmarks is made, for tiny images, so that it cannot rot."""

from __future__ import annotations

import pytest

pytest.importorskip("cv2")


def test_the_table_has_a_row_for_each_map() -> None:
    from table import rows, table  # type: ignore[import-not-found]

    lines = table(size=96, rounds=1).splitlines()
    assert len(lines) == 2 + len(rows()) + 2
    assert all(line.count("|") == 7 for line in lines[:-2])
