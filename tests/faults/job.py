"""A job that a fault campaign does harm to: ``job.py KIND INPUT OUTPUT CLUSTER``.

It tells each event of its progress on stdout and waits for a line on stdin before it goes on, so
that the harm is done at a known moment. An end of stdin lets it run. Ends like the command line.
CLUSTER is "threads", "local" (worker processes of its own) or the address of a scheduler.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from bigcorr.cli.failure import explain


class InStep:
    """Progress that waits for its reader."""

    def __call__(self, stage: str, done: float, total: float | None = None) -> None:
        print(json.dumps({"stage": stage, "done": done, "total": total}), flush=True)
        sys.stdin.readline()

    def note(self, text: str) -> None:
        pass


def run(kind: str, source: str, output: str, cluster: str) -> dict[str, Any]:
    """Run one job; the units that there were, and those that were found done."""
    from bigcorr.motion import tile
    from bigcorr.operators import NCC
    from bigcorr.raster import spill, text_table
    from bigcorr.raster.ingest import ingest
    from bigcorr.run.displacement_job import run_displacement
    from bigcorr.run.map_job import run_map
    from bigcorr.run.pairs_job import run_pairs
    from bigcorr.run.registered_job import run_registered_map

    pool: dict[str, Any] = {"threads": 2}
    if cluster == "local":
        pool = {"cluster": "local", "workers": 2, "threads": 1, "memory": "1GiB"}
    elif cluster != "threads":
        pool = {"cluster": cluster}
    if kind == "map":
        pair = [f"{source}#0", f"{source}#1"]
        done = run_map(NCC(7), pair, output, chunk=32, shard=128, progress=InStep(), **pool)
        return {"units": done["units"], "found": done["units_done_before"]}
    if kind == "registered":
        pair = [f"{source}#0", f"{source}#1"]
        options: dict[str, Any] = {"chunk": 32, "shard": 128, "progress": InStep(), **pool}
        done = run_registered_map(NCC(7), pair, output, model="translation", **options)
        return {"units": done["units"], "found": done["units_done_before"]}
    if kind == "displacement":
        tile.UNIT = 128  # units as small as the raster is, in this process: it cuts them
        pair = [f"{source}#0", f"{source}#1"]
        search: dict[str, Any] = {"window": 12, "search": 4, "step": 8, "passes": 2}
        search |= {"max_inconsistency": 2.0, "progress": InStep()}
        done = run_displacement(*pair, output, **search, **pool)
        return {"units": done["units"], "found": done["units_done_before"]}
    if kind == "pairs":
        asked = {"measures": ["pearson", "ncc"], "window": 16, "stride": 8, "sigma": 1.0}
        done = run_pairs(source, output, progress=InStep(), **asked, **pool)
        return {"units": done.get("units", 0), "found": done.get("units_found_done", 0)}
    layout: dict[str, Any] = {"chunk": 64, "shard": 128}
    if kind == "table":  # a small one goes the way of a long one
        spill.SPOOL_BYTES, spill.RUN_ROWS, spill.MERGED_ROWS = 2**15, 2**10, 2**11
        text_table.BLOCK_BYTES = 2**14
        layout["bin"] = 1
    done = ingest(source, output, progress=InStep(), **layout)
    return {"units": done["units"], "found": done["units_done_before"]}


if __name__ == "__main__":
    try:
        print(json.dumps({"finished": run(*sys.argv[1:5])}), flush=True)
    except Exception as error:
        status, message = explain(error)
        print(message, file=sys.stderr, flush=True)
        sys.exit(status)
