"""Measures of texture: histograms of local binary patterns, compared for all pairs of channels.

A histogram belongs to one channel, so it is counted once for each; nothing of any pair is summed
over pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.histograms import density, whole_counts
from bigcorr.kernels.histogram_pairs import KINDS, compare_histograms
from bigcorr.kernels.lbp_circle import Method
from bigcorr.operators import Layer
from bigcorr.operators_lbp import LocalBinaryPattern
from bigcorr.pairs.measure import ChannelStatistics, Partial
from bigcorr.pairs.selection import Selection
from bigcorr.pairs.summaries import ChannelTile, NoFeatures, Tally

Matrix = NDArray[np.float64]

MOST_CODES = 2**16
"""Most codes of a histogram: 512 KiB a channel."""
ROOM = 2**22
"""Numbers of the histograms of one side of a comparison."""
METRICS: dict[str, tuple[str, Literal["similarity", "distance"], float]] = {
    "bhattacharyya": ("product", "similarity", 1.0),
    "hellinger": ("product", "distance", 1.0),
    "chi2": ("chi2", "distance", 1.0),
    "intersection": ("least", "similarity", 1.0),
    "jensenshannon": ("entropy", "distance", float(np.sqrt(np.log(2)))),
    "euclidean": ("square", "distance", float(np.sqrt(2))),
}
"""By which sum over bins a metric is made, what it is, and its largest value."""


@dataclass(frozen=True)
class CodeCounts:
    """How often each local binary pattern occurs in a channel: its tally and its density."""

    points: int
    radius: float
    method: Method

    @property
    def _operator(self) -> LocalBinaryPattern:
        return LocalBinaryPattern(self.points, self.radius, self.method, may_miss=True)

    @property
    def margin(self) -> int:
        return max(self._operator.halo)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.int64)

    def shape(self, raster: tuple[int, int]) -> tuple[int, ...]:
        return (self._operator.codes,)

    def add(self, total: NDArray[Any], tile: ChannelTile) -> None:
        operator = self._operator
        if tile.empty and tile.valid is None:
            one = Layer(np.zeros([2 * r + 1 for r in operator.halo]))
            total[int(operator.tile(one)[0, 0])] += tile.core.size
            return
        halo_y, halo_x = operator.halo
        padded = tile.core.padded(halo_y, halo_y, halo_x, halo_x)
        inside = padded.clipped(tile.raster)
        source, target = inside.relative_to(tile.reach), inside.relative_to(padded)
        # Beyond the raster the operator puts zeros; what is missing is NaN to it.
        pixels = np.zeros(padded.shape)
        pixels[target.slices] = tile.values[source.slices]
        if tile.valid is not None:
            pixels[target.slices][tile.valid[source.slices] == 0] = np.nan
        layer = Layer(pixels, origin=(padded.y0, padded.x0), raster=tile.raster)
        total += whole_counts(operator.tile(layer), operator.codes)

    def workspace_bytes(self, pixels: int) -> int:
        # As padded, as the operator's floats, masks, codes; the counting goes by bands.
        return 32 * pixels + 2**24

    def idle(self, integers: bool) -> bool:
        return False

    @property
    def tally(self) -> Tally:
        return self

    @property
    def needs(self) -> tuple[Any, ...]:
        return ()

    def finish(self, total: NDArray[Any], statistics: ChannelStatistics) -> NDArray[Any]:
        found: NDArray[np.float64] = density(total)
        return found


@dataclass(frozen=True)
class LBP:
    """Likeness of texture: local binary patterns counted in each channel, histograms compared.

    Parameters
    ----------
    points, radius : int and float, or sequences of them
        Samples on the circle around each pixel and its radius in pixels. With several circles
        (in text: ``points=8+16,radius=1+2``) the value is the mean over them.
    method : {"uniform", "default", "ror", "nri_uniform"}
        As for `bigcorr.local_binary_pattern`.
    metric : str
        "bhattacharyya": sum of sqrt(p q), a similarity; "hellinger": sqrt(1 - that), a distance;
        "chi2": half the sum of (p - q)^2 / (p + q), a distance; "intersection": sum of min(p, q),
        a similarity; "jensenshannon": as ``scipy.spatial.distance.jensenshannon``, a distance;
        "euclidean": a distance.

    Notes
    -----
    Where a pattern lies does not count: channels of the same texture are alike wherever they have
    it. Pixels with a missing one in their pattern are left out; channels may miss different ones.
    A channel without any pattern has no value (NaN).

    References
    ----------
    Ojala, Pietikainen, Maenpaa (2002), "Multiresolution gray-scale and rotation invariant texture
    classification with local binary patterns", IEEE PAMI 24.

    Examples
    --------
    >>> import bigcorr as bc
    >>> bc.measures.LBP(points=(8, 16), radius=(1, 2), metric="chi2")
    LBP(points=(8, 16), radius=(1.0, 2.0), method='uniform', metric='chi2')
    """

    points: Any = 8
    radius: Any = 1.0
    method: Method = "uniform"
    metric: str = "bhattacharyya"

    name: ClassVar[str] = "lbp"
    symmetric: ClassVar[bool] = True
    distribution: ClassVar[Literal["none"]] = "none"

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise InputError(f"metric: got {self.metric!r}, takes one of {', '.join(METRICS)}")
        if self.method == "var":
            raise InputError("method: got 'var', which has no codes to count; takes another")
        points, radii = _several(self.points), _several(self.radius)
        if len(points) != len(radii):
            raise InputError(
                f"radius: got {len(radii)} of them for {len(points)} numbers of points, takes as "
                "many of one as of the other"
            )
        circles = [
            LocalBinaryPattern(*circle, self.method) for circle in zip(points, radii, strict=True)
        ]
        for circle in circles:
            if circle.codes > MOST_CODES:
                raise InputError(
                    f"points: got {circle.points} for {self.method!r}, {circle.codes} codes; the "
                    f"histograms of pairs take at most {MOST_CODES}"
                )
        several = len(circles) > 1
        for name in ("points", "radius"):
            values = tuple(getattr(circle, name) for circle in circles)
            object.__setattr__(self, name, values if several else values[0])

    @property
    def kind(self) -> Literal["similarity", "distance"]:
        return METRICS[self.metric][1]

    @property
    def range(self) -> tuple[float, float]:
        return 0.0, METRICS[self.metric][2]

    def features(self, raster: tuple[int, int]) -> NoFeatures:
        return NoFeatures()

    @property
    def summaries(self) -> tuple[CodeCounts, ...]:
        circles = zip(_several(self.points), _several(self.radius), strict=True)
        return tuple(CodeCounts(points, radius, self.method) for points, radius in circles)

    @property
    def parameters(self) -> dict[str, Any]:
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in given.items()}

    def check(self, shape: tuple[int, int]) -> None:
        """Fits every raster."""

    def finalize(
        self, partial: Partial, selection: Selection, rows: slice, statistics: ChannelStatistics
    ) -> Matrix:
        x, y = selection.rows[rows], selection.columns
        value = np.zeros((len(x), len(y)))
        for summary in self.summaries:
            step = max(1, min(256, ROOM // summary.shape((0, 0))[0]))
            for top in range(0, len(x), step):
                down = slice(top, top + step)
                own = statistics.known.select(x[down]).of(summary)
                for left in range(0, len(y), step):
                    across = slice(left, left + step)
                    other = statistics.known.select(y[across]).of(summary)
                    value[down, across] += self._values(own, other)
        value /= len(self.summaries)
        same = selection.same(rows) & ~np.isnan(value)
        value[same] = 1.0 if self.kind == "similarity" else 0.0
        return np.clip(value, *self.range)

    def _values(self, a: Matrix, b: Matrix) -> Matrix:
        """The metric of all rows of `a` with all of `b`; NaN where there is no histogram."""
        term = METRICS[self.metric][0]
        # Densities are NaN in all bins or in none.
        none = np.isnan(a[:, :1]) | np.isnan(b[:, 0])
        if term == "product":
            a, b = np.sqrt(a), np.sqrt(b)
        value = np.empty((len(a), len(b)))
        compare_histograms(a, np.ascontiguousarray(b.T), KINDS.index(term), value)
        if self.metric == "hellinger":
            value = np.sqrt(np.maximum(1.0 - value, 0.0))
        elif self.metric in ("chi2", "jensenshannon"):
            value /= 2
        if self.metric in ("jensenshannon", "euclidean"):
            value = np.sqrt(np.maximum(value, 0.0))
        return np.where(none, np.nan, value)


def _several(value: Any) -> tuple[Any, ...]:
    """One or several numbers; in text they stand as ``8+16``."""
    if isinstance(value, str):
        try:
            return tuple(float(part) if "." in part else int(part) for part in value.split("+"))
        except ValueError:
            return (value,)
    return tuple(value) if isinstance(value, (tuple, list)) and value else (value,)
