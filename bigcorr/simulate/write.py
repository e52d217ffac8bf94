"""What a simulation makes, written shard by shard as a stack; a killed one goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr import __version__
from bigcorr.tiles import Box


def write_stack(
    path: Path,
    parameters: dict[str, Any],
    channels: Sequence[str],
    shape: tuple[int, int],
    dtype: np.dtype[Any],
    attrs: dict[str, Any],
    make: Callable[[slice, Box], NDArray[Any]],
    *,
    threads: int | None,
    overwrite: bool,
    progress: Callable[[int, int], None] | None,
) -> list[float]:
    """Write ``make(channels, box)`` for every shard of a stack.

    Parameters
    ----------
    parameters : all that the pixels depend on, besides the channels, the shape and the dtype.
    attrs : facts to keep with the stack.
    threads : shards made at once; by default the number of CPU cores.
    overwrite : start afresh, and replace a store that is there. Without it one that was made with
        the same parameters is left as it is, and any other is refused.
    progress : called with (shards done, shards in all).

    Returns
    -------
    list of float
        The total of each channel.
    """
    from bigcorr.raster.begun import JOB, Begun
    from bigcorr.raster.lock import locked
    from bigcorr.raster.stack import StackWriter
    from bigcorr.run.cluster import ThreadPool, processors

    job = {
        "command": "simulate",
        "version": __version__,
        **parameters,
        "channels": list(channels),
        "shape": list(shape),
        "dtype": dtype.name,
    }
    with locked(path) as lock:
        watched = lock.watch(progress)
        begun = Begun(path, job, restart=overwrite)
        if begun.summary is not None:
            return list(begun.summary["totals"])
        with begun.working(lock):
            writer = StackWriter(
                path,
                channels,
                shape,
                dtype,
                attrs=attrs,
                overwrite=overwrite,
                fingerprint=begun.fingerprint,
                keep=(JOB,),
            )

            def one(part: slice, box: Box) -> None:
                writer.write(part, box, make(part, box))

            pool = ThreadPool(threads or processors())
            tasks = pool.imap(one, writer.pending, window=pool.slots)
            for done, _ in enumerate(tasks, start=writer.found + 1):
                watched(done, writer.total)
            lock.check()
            totals = writer.totals.tolist()
            writer.finish(attrs=begun.receipt({"totals": totals}))
    return list(totals)
