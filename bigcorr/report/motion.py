"""The nodes of a displacement as its report shows them, and the numbers that it tells.

Long runs are read box by box, and every so manieth node is kept. No figures, no HTML.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigcorr.motion.stored import boxes_of, read_nodes

if TYPE_CHECKING:
    import xarray as xr

FloatArray = NDArray[np.float32]

_MOST_NODES = 1024
_COMMON = (1.0, 3.0)
"""Nodes along each side that are kept at most; a motion of so many pixels, and so many times as far
as the rest of it spreads, is shown without it as well."""


class Nodes(NamedTuple):
    """The nodes of a displacement, or every `every`-th of them along each axis.

    y, x : their places in pixels of the raster.
    dy, dx : NaN where there is no vector.
    score, peak_ratio : NaN where nothing was found, and where there is no vector.
    residual : pixels from the median of the eight nodes about it, or what the way back misses by.
    both_ways : whether it is the second.
    valid, total : how many have a vector, of all nodes.
    """

    y: NDArray[np.float64]
    x: NDArray[np.float64]
    dy: FloatArray
    dx: FloatArray
    score: FloatArray
    peak_ratio: FloatArray
    residual: FloatArray
    both_ways: bool
    every: int
    valid: int
    total: int


def kept_nodes(found: xr.Dataset, most: int = _MOST_NODES) -> Nodes:
    """Read a displacement box by box; keep at most `most` nodes along each axis."""
    shape = found.sizes["y"], found.sizes["x"]
    every = max(1, -(-max(shape) // most))
    both_ways = "inconsistency" in found
    names = ("dy", "dx", "score", "peak_ratio", *(["inconsistency"] if both_ways else []))
    kept = np.full((5, -(-shape[0] // every), -(-shape[1] // every)), np.nan, np.float32)
    valid = 0
    for box in boxes_of(found):
        around = box.padded(1, 1, 1, 1).clipped(shape)
        values = read_nodes(found, names, around)
        inside = box.relative_to(around)
        known = np.isfinite(values[0])
        valid += int(known[inside.slices].sum())
        values[:, ~known] = np.nan
        if not both_ways:
            values = np.concatenate([values, _off_the_median(values[:2])[None]])
        rows, columns = (
            slice(-(-start // every) * every - start + part.start, part.stop, every)
            for start, part in zip((box.y0, box.x0), inside.slices, strict=True)
        )
        part = values[:, rows, columns]
        at = -(-box.y0 // every), -(-box.x0 // every)
        kept[:, at[0] : at[0] + part.shape[1], at[1] : at[1] + part.shape[2]] = part
    y, x = (np.asarray(found[axis].values[::every], np.float64) for axis in "yx")
    dy, dx, score, peak_ratio, residual = kept
    return Nodes(
        y, x, dy, dx, score, peak_ratio, residual, both_ways, every, valid, shape[0] * shape[1]
    )


def _off_the_median(flow: FloatArray) -> FloatArray:
    """Pixels from each vector to the median of those of the eight nodes about it."""
    padded = np.pad(flow, ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    h, w = flow.shape[1:]
    near = [padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    return np.asarray(np.hypot(*(flow - median_of_known(np.stack(near)))), np.float32)


def median_of_known(values: FloatArray) -> FloatArray:
    """Median along the first axis of what is not NaN; NaN of nothing, and no warning.

    >>> median_of_known(np.array([[1, np.nan], [np.nan, np.nan], [4, np.nan]], np.float32))
    array([2.5, nan], dtype=float32)
    """
    ordered = np.sort(values, axis=0)  # NaN comes last
    count = np.isfinite(values).sum(axis=0)
    low, high = (
        np.take_along_axis(ordered, np.maximum(at, 0)[None], axis=0)[0]
        for at in ((count - 1) // 2, np.minimum(count // 2, len(values) - 1))
    )
    return np.asarray((low + high) / 2, np.float32)


def common_motion(nodes: Nodes) -> tuple[float, float] | None:
    """The median vector, where it would hide how the others differ from it."""
    known = np.isfinite(nodes.dy)
    flow = np.stack([nodes.dy[known], nodes.dx[known]])
    middle = np.median(flow, axis=1)
    spread = float(np.median(np.hypot(*(flow - middle[:, None]))))
    length = float(np.hypot(*middle))
    hides = length > _COMMON[0] and length > _COMMON[1] * spread
    return (float(middle[0]), float(middle[1])) if hides else None


def in_a_sentence(nodes: Nodes, facts: dict[str, Any]) -> str:
    share = f"{nodes.valid:,} of {nodes.total:,} nodes have a vector"
    if not nodes.valid:
        return f"{share}."
    length = np.hypot(nodes.dy, nodes.dx)
    median = float(np.nanmedian(length))
    text = f"{share}; the median motion is {median:.3g} pixels"
    size = facts["pixel_size"]
    if size is not None and not math.isclose(size[0], 1.0):
        apart = np.hypot(nodes.dy * size[0], nodes.dx * size[1])
        text += f", {float(np.nanmedian(apart)):.3g} in the raster's unit"
    return text + "."


def numbers_of(nodes: Nodes, facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The numbers of the page, each with its name."""
    rows = []
    if facts["sources"]:
        rows += list(zip(("Reference", "Moving"), facts["sources"], strict=True))
    share = nodes.valid / max(nodes.total, 1)
    rows.append(("Nodes", " × ".join(f"{n:,}" for n in facts["nodes"])))
    rows.append(("With a vector", f"{nodes.valid:,} ({share:.1%})"))
    if nodes.valid:
        dy, dx = (_of_known(each) for each in (nodes.dy, nodes.dx))
        rows.append(
            ("Median (dy, dx)", _pair(float(np.median(dy)), float(np.median(dx)), "pixels"))
        )
        length = np.hypot(dy, dx)
        low, high = np.quantile(length, [0.05, 0.95])
        rows.append(("Length of the motion", f"{_span(length, low, high)} pixels"))
        size = facts["pixel_size"]
        if size is not None:
            real = np.hypot(dy * size[0], dx * size[1])
            rows += [
                ("Side of a pixel (y, x)", f"{size[0]:.6g} × {size[1]:.6g} of the raster's unit"),
                ("The same in the raster's unit", _span(real, *np.quantile(real, [0.05, 0.95]))),
            ]
        rows.append(("Median score", f"{np.median(_of_known(nodes.score)):.4f}"))
        ratio = _of_known(nodes.peak_ratio)
        if ratio.size:
            rows.append(("Median peak ratio", f"{np.median(ratio):.3g}"))
        off = _of_known(nodes.residual)
        if off.size:
            name = "Way there and back misses by" if nodes.both_ways else "Off its neighbours by"
            rows.append((name, f"median {np.median(off):.3g} pixels"))
    windows = facts["windows"]
    if windows is not None and len(windows):
        rows.append(("Windows", ", ".join(f"{n} × {n}" for n in np.ravel(windows).tolist())))
    for key, name in (("search", "Searched within"), ("step", "From node to node")):
        if facts[key] is not None:
            rows.append((name, f"{facts[key]} pixels"))
    if facts["initial"] is not None:
        rows.append(("Started from", str(facts["initial"])))
    if facts["version"]:
        rows.append(("bigcorr", str(facts["version"])))
    return rows


def _of_known(values: FloatArray) -> FloatArray:
    return values[np.isfinite(values)]


def _pair(first: float, second: float, unit: str) -> str:
    return f"({first:.4f}, {second:.4f}) {unit}"


def _span(values: Sequence[float] | NDArray[Any], low: float, high: float) -> str:
    return (
        f"median {np.median(values):.3g}, nine of ten from {low:.3g} to {high:.3g}, "
        f"at most {np.max(values):.3g}"
    )
