"""Maps of a pair that is registered first: nothing but the map is written.

The registration reads the pair by tiles; then every shard is made from the reference and from that
part of the moving image that lies on it. What the registration found is kept in the store, so that
a run that was cut off goes on with the very same.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bigcorr.operators import Operator
from bigcorr.operators_move import Affine, Shift
from bigcorr.operators_registered import Registered
from bigcorr.raster.source import as_source
from bigcorr.raster.store import partial_path
from bigcorr.registration.images import open_pair
from bigcorr.registration.projection import registration_bytes
from bigcorr.registration.register import register_pair
from bigcorr.run.cluster import ThreadPool, processors
from bigcorr.run.map_job import run_map
from bigcorr.run.memory import Projection
from bigcorr.run.progress import SILENT, Progress


def run_registered_map(
    op: Operator,
    sources: Sequence[Any],
    out_path: str | os.PathLike[str],
    *,
    model: str = "translation",
    nodata: float | None = None,
    resume: bool = True,
    progress: Progress | None = None,
    cluster: Any = None,
    **options: Any,
) -> dict[str, Any]:
    """Register the second raster on the first, and carry out an operator on both so aligned.

    Parameters
    ----------
    op : Operator
        Of two rasters, such as `bigcorr.operators.NCC`.
    sources : the reference and the moving raster, as for `run_map`.
    out_path : path
        The store; its attributes hold what the registration found.
    model : {"translation", "affine"}
    nodata, resume, progress, cluster, **options
        As for `run_map`. A pool serves the registration as well, which runs on the active client
        or on threads otherwise.

    Returns
    -------
    dict
        As of `run_map`, and ``registration``: the result as `Registration.summary` has it.

    Raises
    ------
    InputError
        As of `run_map` and of `bigcorr.register`.
    """
    progress = progress or SILENT
    opened = [as_source(source) for source in sources]
    asked = {
        "model": model,
        "inputs": [source.fingerprint() for source in opened],
        "nodata": nodata,
    }
    found = _earlier(Path(out_path), asked) if resume else None
    registering = 0
    if found is None:
        progress.note("registering the pair")
        pair = open_pair(opened[0], opened[1], nodata)
        pool = cluster if hasattr(cluster, "imap") else None
        found = register_pair(pair, model=model, pool=pool).summary() | {"asked": asked}
        task, beside, alone = registration_bytes(pair)
        taken = Projection.on(pool or ThreadPool(processors()), task, beside, alone)
        registering = taken.peak_bytes
    else:
        progress.note("the pair was registered by an earlier run")
    move: Shift | Affine
    if model == "affine":
        move = Affine(found["matrix"])
    else:
        move = Shift((found["shift"][0], found["shift"][1]))
    dy, dx = found["shift"]
    progress.note(f"shift ({dy:.3f}, {dx:.3f}), score {found['score']:.3f}")
    summary = run_map(
        Registered(op, move),
        opened,
        out_path,
        nodata=nodata,
        resume=resume,
        progress=progress,
        cluster=cluster,
        attrs={"registration": _told(found)},
        **options,
    )
    if "projected_peak_bytes" in summary:
        summary["projected_peak_bytes"] = max(summary["projected_peak_bytes"], registering)
    return {**summary, "registration": {k: v for k, v in found.items() if k != "asked"}}


def _told(found: dict[str, Any]) -> dict[str, Any]:
    """As a store's attributes have it: without NaN."""
    spread = [None if value is None or np.isnan(value) else value for value in found["spread"]]
    return {**found, "spread": spread}


def _earlier(path: Path, asked: dict[str, Any]) -> dict[str, Any] | None:
    """What an earlier run to the same place found for the same pair, asked in the same way."""
    import zarr

    for place in (path, partial_path(path) / "store"):
        if not place.exists():
            continue
        try:
            facts: Any = dict(zarr.open_group(str(place), mode="r").attrs).get("bigcorr")
            found = facts["registration"]
            if found["asked"] == asked:
                return dict(found)
        except Exception:  # no store of ours: for the writer to refuse
            continue
    return None
