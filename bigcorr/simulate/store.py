"""Simulated image pairs as a stack store, written tile by tile."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bigcorr.simulate.images import Scene
from bigcorr.simulate.tissue import image_shape
from bigcorr.tiles import Box

IMAGE_CHANNELS = ("reference", "moving", "changed")


def write_images(
    path: str | os.PathLike[str],
    size: int | tuple[int, int] = 512,
    shift: tuple[float, float] = (2.7, -1.3),
    seed: int = 0,
    changed_fraction: float = 0.05,
    noise: float = 0.0,
    *,
    threads: int | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write a pair of images with known truth as a stack store, tile by tile.

    Parameters
    ----------
    path : the stack store to make, with the channels ``reference``, ``moving`` and ``changed``
        (1 where the shifted moving image shows something else than the reference).
    size, shift, seed, changed_fraction, noise : see `bigcorr.simulate.image_pair`.
    threads : shards made at once; by default the number of CPU cores.
    overwrite : replace a store that is there.
    progress : called with (shards done, shards in all).

    Returns
    -------
    dict
        ``path``, ``shape`` (channel, y, x), ``dtype`` and ``truth``: the shift.

    Examples
    --------
    >>> import tempfile
    >>> made = write_images(tempfile.mkdtemp() + "/pair.zarr", 64, shift=(1.5, 0))
    >>> made["shape"], made["truth"]
    ((3, 64, 64), {'shift': [1.5, 0.0]})
    """
    from bigcorr.raster.lock import locked
    from bigcorr.raster.stack import StackWriter
    from bigcorr.run.cluster import ThreadPool, processors

    shape = image_shape(size)
    place = (float(shift[0]), float(shift[1]))
    scene = Scene(shape, place, int(seed), changed_fraction, noise=noise)
    attrs = {
        "source": f"simulated images, seed {scene.seed}",
        "simulation": {
            "seed": scene.seed,
            "changed_fraction": scene.changed_fraction,
            "noise": scene.noise,
        },
        "truth": {"shift": list(scene.shift)},
    }
    with locked(path) as lock:
        watched = lock.watch(progress)
        with StackWriter(
            Path(path), IMAGE_CHANNELS, shape, np.float32, attrs=attrs, overwrite=overwrite
        ) as writer:
            shards = list(writer.shard_boxes)

            def make(channels: slice, box: Box) -> None:
                changed = scene.changed(box).astype(np.float32)
                images = np.stack([scene.reference(box), scene.moving(box), changed])
                writer.write(channels, box, images[channels])

            pool = ThreadPool(threads or processors())
            for done, _ in enumerate(pool.imap(make, shards, window=pool.slots), start=1):
                watched(done, len(shards))
    return {
        "path": os.fspath(path),
        "shape": (len(IMAGE_CHANNELS), *shape),
        "dtype": "float32",
        "truth": attrs["truth"],
    }
