"""Results: matrices of a run as a Dataset in memory, or written block by block to a store.

The sums of a run are small beside its matrices, so rows of a matrix are made when they are wanted.
Nothing is computed from pixels here.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bigcorr import __version__
from bigcorr.errors import InputError
from bigcorr.pairs.measure import Features, Measure, Partial, matrices
from bigcorr.pairs.selection import CHANNEL_CHUNK, Selection
from bigcorr.pairs.shifts import null_moments
from bigcorr.pairs.variance import null_values, standard_errors
from bigcorr.raster import chunks, store
from bigcorr.raster.base import RasterSource

if TYPE_CHECKING:
    import xarray as xr

    from bigcorr.run.blur_job import Blur

BLOCK_BYTES = 64 * 2**20
"""Most bytes of one block of rows of a matrix."""


@dataclass
class PairResult:
    """Everything that the matrices of a run are made from."""

    source: RasterSource
    measures: tuple[Measure, ...]
    against: tuple[int, ...] | None
    sigmas: tuple[tuple[float, float] | None, ...] | None
    sigma: tuple[float, float] | None
    blurs: list[Blur]
    counts: NDArray[Any]
    attrs: dict[str, Any]
    n_shifts: int = 0

    @property
    def dims(self) -> tuple[str, ...]:
        return ("channel", "other") if self.sigmas is None else ("sigma", "channel", "other")

    @property
    def shape(self) -> tuple[int, ...]:
        rows = len(self.source.channels) if self.against is None else len(self.against)
        matrix = (rows, len(self.source.channels))
        return matrix if self.sigmas is None else (len(self.sigmas), *matrix)

    def variables(self) -> dict[str, dict[str, Any]]:
        """Names of the matrices and their attributes."""
        out: dict[str, dict[str, Any]] = {}
        for measure in self.measures:
            by_shifts = self.n_shifts > 0
            has_error = by_shifts or measure.name in self.blurs[0].variances
            out[measure.name] = {
                "kind": measure.kind,
                "range": list(measure.range),
                "symmetric": measure.symmetric,
                "distribution": measure.distribution if has_error else "none",
                **({"distribution": "shifts", "n_shifts": self.n_shifts} if by_shifts else {}),
                "parameters": measure.parameters,
                "n_max": int(max(self.blurs[0].statistics.n.max(initial=0), 0)),
            }
            if has_error:
                name = measure.name
                how = f" by {self.n_shifts} toroidal shifts" if by_shifts else ""
                out[f"{name}_null"] = {"long_name": f"mean of {name} under independence{how}"}
                out[f"{name}_sd"] = {
                    "long_name": f"standard deviation of {name} under independence{how}, spatial "
                    "autocorrelation allowed for"
                }
        return out

    def blocks(self) -> Iterator[tuple[str, tuple[Any, ...], NDArray[np.float64]]]:
        """All matrices block by block: (variable, where, values)."""
        for number, blur in enumerate(self.blurs):
            outer = () if self.sigmas is None else (number,)
            for index, (tile, section) in enumerate(blur.tiles):
                partials = blur.partials(section)
                shifted = blur.shifted[index].load() if blur.shifted else None
                row, column = tile.place
                rows, columns = tile.shape
                step = CHANNEL_CHUNK * max(1, BLOCK_BYTES // (8 * CHANNEL_CHUNK * max(columns, 1)))
                across = slice(column, column + columns)
                for start in range(0, rows, step):
                    part = slice(start, min(start + step, rows))
                    down = slice(row + part.start, row + part.stop)
                    for name, values, turned in self._values(blur, tile, partials, shifted, part):
                        yield name, (*outer, down, across), values
                        if tile.mirrored:
                            yield name, (*outer, across, down), turned

    def _values(
        self,
        blur: Blur,
        tile: Selection,
        partials: dict[Features, Partial],
        shifted: dict[str, NDArray[Any]] | None,
        rows: slice,
    ) -> Iterator[tuple[str, NDArray[np.float64], NDArray[np.float64]]]:
        """The matrices of some rows of a tile, and of its mirror image across the diagonal."""
        statistics = blur.statistics.select(tile.numbers)
        known = (self.measures, partials, self._raster, tile, rows, statistics)
        for measure, value, turned in matrices(*known):
            yield measure.name, value, turned
            variance = blur.variances.get(measure.name)
            if shifted is not None:
                yield from self._shifted(measure, tile, shifted, rows, value.shape)
            elif variance is not None:
                partial = partials[measure.features(self._raster)]
                sd = standard_errors(measure, variance, partial, tile, rows)
                sd[np.isnan(value)] = np.nan
                null = null_values(measure, partials, self._raster, tile, rows, statistics)
                null[np.isnan(sd)] = np.nan
                yield f"{measure.name}_sd", sd, sd.T
                yield f"{measure.name}_null", null, null.T

    @staticmethod
    def _shifted(
        measure: Measure,
        tile: Selection,
        moments: dict[str, NDArray[Any]],
        rows: slice,
        shape: tuple[int, int],
    ) -> Iterator[tuple[str, NDArray[np.float64], NDArray[np.float64]]]:
        null, sd = null_moments(moments, measure.name, rows, shape)
        turned = null.T, sd.T
        if tile.mirrored and not measure.symmetric:
            there = null_moments(moments, f"{measure.name}.turned", rows, shape)
            turned = there[0].T, there[1].T
        yield f"{measure.name}_sd", sd, turned[1]
        yield f"{measure.name}_null", null, turned[0]

    @property
    def _raster(self) -> tuple[int, int]:
        return self.source.shape[1], self.source.shape[2]

    def coords(self) -> dict[str, tuple[tuple[str, ...], NDArray[Any]]]:
        names = np.asarray(self.source.channels, dtype=str)
        rows = list(range(len(names)) if self.against is None else self.against)
        out: dict[str, tuple[tuple[str, ...], NDArray[Any]]] = {
            "channel": (("channel",), names[rows]),
            "other": (("other",), names),
            "count": (("channel",), self.counts[rows]),
            "count_other": (("other",), self.counts),
        }
        if self.sigmas is not None:
            sigmas = [np.nan if s is None else float(np.sqrt(s[0] * s[1])) for s in self.sigmas]
            out["sigma"] = (("sigma",), np.array(sigmas))
        if any(getattr(measure, "scales_by_range", False) for measure in self.measures):
            dims = ("other",) if self.sigmas is None else ("sigma", "other")
            for name in ("minimum", "maximum"):
                values = np.stack([getattr(blur.statistics, name) for blur in self.blurs])
                out[name] = (dims, values[0] if self.sigmas is None else values)
        return out

    def all_attrs(self) -> dict[str, Any]:
        """What the result says of itself; the same for a Dataset and a store."""
        sigma = None if self.sigma is None else list(self.sigma)
        return {
            "kind": "pairs",
            "bigcorr_version": __version__,
            "source": self.source.path,
            "shape": list(self._raster),
            "sigma": sigma[0] if sigma and sigma[0] == sigma[1] else sigma,
            "sigmas": None if self.sigmas is None else [s and list(s) for s in self.sigmas],
            "parameters": {m.name: m.parameters for m in self.measures},
            "blas": _blas(),
            "cpu": _cpu(),
            "pixel_size": self.source.attrs.get("pixel_size"),
            "truth": self.source.attrs.get("truth"),
            **self.attrs,
        }

    def dataset(self) -> xr.Dataset:
        """The whole result in memory."""
        import xarray as xr

        kinds = self.variables()
        data = {name: np.empty(self.shape) for name in kinds}
        for name, where, values in self.blocks():
            data[name][where] = values
        attrs = {k: v for k, v in self.all_attrs().items() if v is not None}
        return xr.Dataset(
            {name: (self.dims, data[name], kinds[name]) for name in kinds},
            coords=self.coords(),
            attrs=attrs,
        )


def write_result(result: PairResult, path: Path, built: Path, job: dict[str, Any]) -> None:
    """Write the store at `built` and rename it to `path`, replacing what is there."""
    import zarr

    if built.exists():
        shutil.rmtree(built)
    with store.writing(path):
        group = zarr.open_group(str(built), mode="w", zarr_format=3)
        arrays = {}
        rows, columns = result.shape[-2:]
        tile = (max(1, min(rows, 1024)), max(1, min(columns, 1024)))
        beside = " ".join(name for name in result.coords() if name not in result.dims)
        for name, attributes in result.variables().items():
            arrays[name] = store.create_array(
                group,
                name,
                shape=result.shape,
                dtype=np.float64,
                chunks=(1,) * (len(result.shape) - 2) + tile,
                dims=result.dims,
                fill_value=np.nan,
                attributes={**attributes, "coordinates": beside},
            )
        for name, where, values in result.blocks():
            arrays[name][where] = values
        for name, (dims, coordinate) in result.coords().items():
            store.put_array(group, name, coordinate, dims)
        attrs = {k: v for k, v in result.all_attrs().items() if v is not None}
        attrs["job"] = job
        group.attrs.update(json.loads(json.dumps(attrs, default=_plain)))
        chunks.write_file_lists(built)
        store.consolidate(built)
        store.rename_into_place(built, path)


def existing_job(path: Path) -> dict[str, Any] | None:
    """The job of a finished result at `path`; None where nothing is there.

    Raises
    ------
    InputError
        Something else is there.
    """
    if not os.path.lexists(path):
        return None
    if store.is_zarr(path):
        import zarr

        try:
            job = zarr.open_group(str(path), mode="r").attrs.get("job")
        except (ValueError, OSError, KeyError):
            job = None
        if isinstance(job, dict):
            return dict(job)
    raise InputError(f"{path} exists and is not a result of pairs: give another output")


def _blas() -> str:
    from threadpoolctl import threadpool_info

    for pool in threadpool_info():
        if pool.get("user_api") == "blas":
            kind = pool.get("architecture") or ""
            return f"{pool.get('internal_api')} {pool.get('version')} {kind}".strip()
    return "unknown"


def _cpu() -> str:
    """The kind of processor, as far as the system tells."""
    try:
        with open("/proc/cpuinfo") as file:
            names = [
                line.partition(":")[2].strip() for line in file if line.startswith("model name")
            ]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value)} is not JSON")
