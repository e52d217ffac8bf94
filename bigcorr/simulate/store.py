"""Simulated image pairs as a stack store, written tile by tile."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    overwrite : start afresh, and replace a store that is there. Without it a simulation that was
        killed is gone on with, and one that is done is left as it is.
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
    from bigcorr.simulate.write import write_stack

    shape = image_shape(size)
    place = (float(shift[0]), float(shift[1]))
    scene = Scene(shape, place, int(seed), changed_fraction, noise=noise)
    parameters = {
        "seed": scene.seed,
        "changed_fraction": scene.changed_fraction,
        "noise": scene.noise,
    }
    attrs = {
        "source": f"simulated images, seed {scene.seed}",
        "simulation": parameters,
        "truth": {"shift": list(scene.shift)},
    }

    def make(channels: slice, box: Box) -> NDArray[Any]:
        changed = scene.changed(box).astype(np.float32)
        return np.stack([scene.reference(box), scene.moving(box), changed])[channels]

    write_stack(
        Path(path),
        {"kind": "images", "shift": list(scene.shift), **parameters},
        IMAGE_CHANNELS,
        shape,
        np.dtype(np.float32),
        attrs,
        make,
        threads=threads,
        overwrite=overwrite,
        progress=progress,
    )
    return {
        "path": os.fspath(path),
        "shape": (len(IMAGE_CHANNELS), *shape),
        "dtype": "float32",
        "truth": attrs["truth"],
    }
