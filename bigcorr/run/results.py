"""Results: matrices of a run as a Dataset in memory, or written block by block to a store.

The sums of a run are small beside its matrices, so rows of a matrix are made when they are wanted.
Nothing is computed from pixels here.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bigcorr import __version__
from bigcorr.errors import InputError
from bigcorr.pairs.measure import Features, Measure, Partial, matrices
from bigcorr.pairs.selection import Selection
from bigcorr.pairs.shifts import null_moments
from bigcorr.pairs.variance import null_values, standard_errors
from bigcorr.raster import chunks, store
from bigcorr.raster.base import RasterSource
from bigcorr.raster.markers import write_whole
from bigcorr.run.progress import SILENT, Progress

if TYPE_CHECKING:
    import xarray as xr

    from bigcorr.run.blur_job import Blur

BLOCK_BYTES = 64 * 2**20
"""Most bytes of one block of rows of a matrix, if that is not less than a row of chunks."""

SIDE = 1024
"""Rows and columns of a chunk of a stored matrix: a block is a number of whole ones."""

Block = tuple[str, tuple[Any, ...], NDArray[np.float64]]
"""Variable, where in its matrix, values."""


@dataclass
class PairResult:
    """Everything that the matrices of a run are made from.

    measures, stated : as in `PairsQuestion`.
    raster : rows and columns of what was compared.
    """

    source: RasterSource
    measures: tuple[Measure, ...]
    stated: tuple[Measure, ...]
    against: tuple[int, ...] | None
    sigmas: tuple[tuple[float, float] | None, ...] | None
    sigma: tuple[float, float] | None
    blurs: list[Blur]
    counts: NDArray[Any]
    attrs: dict[str, Any]
    raster: tuple[int, int]
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
        for measure, stated in zip(self.measures, self.stated, strict=True):
            by_shifts = self.n_shifts > 0
            has_error = by_shifts or measure.name in self.blurs[0].variances
            out[measure.name] = {
                "kind": measure.kind,
                "range": list(measure.range),
                "symmetric": measure.symmetric,
                "distribution": measure.distribution if has_error else "none",
                **({"distribution": "shifts", "n_shifts": self.n_shifts} if by_shifts else {}),
                "parameters": stated.parameters,
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

    def places(self) -> list[tuple[int, ...]]:
        """The tiles of the matrices, blur by blur: number of the blur, first row and column, rows
        and columns."""
        return [
            (number, *tile.place, *tile.shape)
            for number, blur in enumerate(self.blurs)
            for tile, _ in blur.tiles
        ]

    def blocks(self, first: int = 0) -> Iterator[tuple[int, Block]]:
        """The matrices block by block, from a tile of `places` on: number of the tile, block."""
        index = 0
        for number, blur in enumerate(self.blurs):
            outer = () if self.sigmas is None else (number,)
            for place in range(len(blur.tiles)):
                if index >= first:
                    for name, where, values in self._tile_blocks(blur, place):
                        yield index, (name, (*outer, *where), values)
                index += 1

    def _tile_blocks(self, blur: Blur, index: int) -> Iterator[Block]:
        """The matrices of one tile, some rows at a time: (variable, where, values)."""
        tile, section = blur.tiles[index]
        partials = blur.partials(section)
        shifted = blur.shifted[index].load() if blur.shifted else None
        row, column = tile.place
        rows, columns = tile.shape
        step = SIDE * max(1, BLOCK_BYTES // (8 * SIDE * max(columns, 1)))
        across = slice(column, column + columns)
        for start in range(0, rows, step):
            part = slice(start, min(start + step, rows))
            down = slice(row + part.start, row + part.stop)
            for name, values, turned in self._values(blur, tile, partials, shifted, part):
                yield name, (down, across), values
                if tile.mirrored:
                    yield name, (across, down), turned

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
        known = (self.measures, partials, self.raster, tile, rows, statistics)
        for measure, value, turned in matrices(*known):
            yield measure.name, value, turned
            variance = blur.variances.get(measure.name)
            if shifted is not None:
                yield from self._shifted(measure, tile, shifted, rows, value.shape)
            elif variance is not None:
                partial = partials[measure.features(self.raster)]
                sd = standard_errors(measure, variance, partial, tile, rows)
                sd[np.isnan(value)] = np.nan
                null = null_values(measure, partials, self.raster, tile, rows, statistics)
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
            "shape": list(self.source.shape[1:]),
            "sigma": sigma[0] if sigma and sigma[0] == sigma[1] else sigma,
            "sigmas": None if self.sigmas is None else [s and list(s) for s in self.sigmas],
            "parameters": {m.name: m.parameters for m in self.stated},
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
        for _, (name, where, values) in self.blocks():
            data[name][where] = values
        attrs = {k: v for k, v in self.all_attrs().items() if v is not None}
        return xr.Dataset(
            {name: (self.dims, data[name], kinds[name]) for name in kinds},
            coords=self.coords(),
            attrs=attrs,
        )


def write_result(
    result: PairResult,
    path: Path,
    built: Path,
    job: dict[str, Any],
    progress: Progress = SILENT,
) -> None:
    """Write the store at `built` and rename it to `path`, replacing what is there.

    Tiles of the matrices that an earlier run wrote at `built` are kept.
    """
    import zarr

    with store.writing(path):
        places = [list(place) for place in result.places()]
        found = _tiles_written(built, places)
        if found:
            progress.note(f"write: {found} of {len(places)} tiles are done already")
        else:
            store.remove(built)
            _create(result, built)
        progress("write", found, len(places))
        group = zarr.open_group(str(built), mode="r+")
        arrays = {name: store.open_array(built, "r+", name) for name in result.variables()}
        files: set[Path] = set()
        done = found
        for index, (name, where, values) in result.blocks(found):
            if index > done:
                _note_tiles(built, places, index, files)
                done = index
                progress("write", done, len(places))
            arrays[name][where] = values
            files |= set(_files_of(arrays[name], where))
        _note_tiles(built, places, len(places), files)
        progress("write", len(places), len(places))
        for name, (dims, coordinate) in result.coords().items():
            if name in group:  # of a run that was killed right here
                del group[name]
            store.put_array(group, name, coordinate, dims)
        attrs = {k: v for k, v in result.all_attrs().items() if v is not None}
        attrs["job"] = job
        group.attrs.update(json.loads(json.dumps(attrs, default=_plain)))
        chunks.write_file_lists(built)
        store.consolidate(built)
        store.rename_into_place(built, path)


def _create(result: PairResult, built: Path) -> None:
    """The store without values."""
    import zarr

    group = zarr.open_group(str(built), mode="w", zarr_format=3)
    rows, columns = result.shape[-2:]
    tile = (max(1, min(rows, SIDE)), max(1, min(columns, SIDE)))
    beside = " ".join(name for name in result.coords() if name not in result.dims)
    for name, attributes in result.variables().items():
        store.create_array(
            group,
            name,
            shape=result.shape,
            dtype=np.float64,
            chunks=(1,) * (len(result.shape) - 2) + tile,
            dims=result.dims,
            fill_value=np.nan,
            attributes={**attributes, "coordinates": beside},
        )


def _tiles_written(built: Path, places: list[list[int]]) -> int:
    """How many tiles of the matrices are whole at `built`: those before the one under way."""
    try:
        note = json.loads(_note_path(built).read_text())
        # Tiles that share chunks with others are not whole before these are.
        alone = all(row % SIDE == 0 and column % SIDE == 0 for _, row, column, *_ in places)
        return int(note["tiles"]) if alone and note["places"] == places else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _note_tiles(built: Path, places: list[list[int]], done: int, files: set[Path]) -> None:
    """Note that the tiles before `done` are whole, once the disk has the files written since."""
    for file in files:
        store.sync_file(file)
    for folder in {file.parent for file in files}:
        store.sync_folder(folder)
    files.clear()
    write_whole(_note_path(built), json.dumps({"tiles": done, "places": places}))


def _note_path(built: Path) -> Path:
    return built.with_name(f"{built.name}.json")


def _files_of(array: Any, where: tuple[Any, ...]) -> Iterator[Path]:
    """The files of the chunks that a block lies in."""
    box = tuple(p if isinstance(p, slice) else slice(p, p + 1) for p in where)
    for part in chunks.parts_of(box, array.chunks):
        yield Path(chunks.store_root(array)) / chunks.file_of_place(array, part)


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
