"""The passes of a displacement one after the other, with what they find kept in memory.

`run.displacement_job` does the same with what they find kept in stores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bigcorr.motion.grids import ArrayGrid, Flow, found_flow
from bigcorr.motion.plan import Search
from bigcorr.motion.tile import Pair, measure, pixels_of, units

if TYPE_CHECKING:
    from bigcorr.run.cluster import Pool


def measure_all(pair: Pair, search: Search, pool: Pool, initial: Flow | None) -> Flow:
    """What the last pass has found, as a flow."""
    flow = initial
    for spec in search.passes:
        shape = spec.nodes(pair.shape)
        grid = ArrayGrid(np.empty((7, *shape), np.float32), shape)
        boxes = units(pair.shape, spec)
        tasks = (
            (pair, spec, search, box, None if flow is None else flow.part(pixels_of(spec, box)))
            for box in boxes
        )
        for index, values in pool.imap(measure, tasks):
            grid.values[(slice(None), *boxes[index].slices)] = values
        flow = found_flow(grid, spec, search)
    assert flow is not None
    return flow
