"""Counts at spots (Visium, Spatial Transcriptomics): a sparse matrix with positions, in .npz.

Reading and checking only; `ingest.py` lays the spots on a grid.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.raster.base import default_names
from bigcorr.raster.store import one_line

REQUIRED = ("data", "indices", "indptr", "shape", "pos")


@dataclass(frozen=True)
class SpotCounts:
    """Counts of genes at spots, row by row (CSR), and where the spots are."""

    genes: tuple[str, ...]
    y: NDArray[np.float64]
    x: NDArray[np.float64]
    count: NDArray[np.int64]
    spot: NDArray[np.int64]
    gene: NDArray[np.int64]


def is_npz(path: str | Path) -> bool:
    """True for a zip archive, which .npz is."""
    return zipfile.is_zipfile(path)


def read_spots(path: str | Path) -> SpotCounts:
    """Read a counts file.

    Parameters
    ----------
    path : .npz with the CSR arrays ``data``, ``indices``, ``indptr`` and ``shape`` (genes, spots),
        as `scipy.sparse.save_npz` names them, ``pos`` (spots, 2) as x, y, and ``genes``.

    Raises
    ------
    InputError : an array is missing or does not fit the others.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            held = {name: archive[name] for name in archive.files if name != "spots"}
    except Exception as error:  # a damaged archive makes the reader fail in any way
        raise InputError(f"{path} is not a readable .npz file: {one_line(error)}") from error
    missing = [name for name in REQUIRED if name not in held]
    if missing:
        raise InputError(
            f"{path} is no counts file: it lacks {', '.join(missing)} (takes {', '.join(REQUIRED)} "
            f"and genes; it has {', '.join(held) or 'nothing'})"
        )
    if held["shape"].shape != (2,):
        raise InputError(f"{path}: shape must be (genes, spots), got {held['shape'].tolist()}")
    rows, columns = (int(n) for n in held["shape"])
    _check(path, held, rows, columns)
    genes = held.get("genes")
    names = default_names(rows) if genes is None else tuple(str(name) for name in genes)
    pos = held["pos"].astype(np.float64)
    per_row = np.diff(held["indptr"].astype(np.int64))
    return SpotCounts(
        genes=names,
        y=pos[:, 1],
        x=pos[:, 0],
        count=held["data"].astype(np.int64),
        spot=held["indices"].astype(np.int64),
        gene=np.repeat(np.arange(rows, dtype=np.int64), per_row),
    )


def _check(path: str | Path, held: dict[str, NDArray[Any]], rows: int, columns: int) -> None:
    data, indices, indptr, pos = (held[name] for name in ("data", "indices", "indptr", "pos"))
    if pos.shape != (columns, 2) or pos.dtype.kind not in "iuf":
        raise InputError(
            f"{path}: pos must be numbers of shape ({columns}, 2) for {columns} spots, got "
            f"{pos.dtype} {pos.shape}"
        )
    if not np.isfinite(pos).all():
        raise InputError(
            f"{path}: pos holds {np.count_nonzero(~np.isfinite(pos))} values not finite"
        )
    if "genes" in held and held["genes"].shape != (rows,):
        raise InputError(f"{path}: {held['genes'].shape} gene names for {rows} rows")
    fits = (
        data.ndim == indices.ndim == indptr.ndim == 1
        and indices.dtype.kind in "iu"
        and indptr.dtype.kind in "iu"
        and len(indptr) == rows + 1
        and len(data) == len(indices) == indptr[-1]
        and indptr[0] == 0
        and bool(np.all(np.diff(indptr.astype(np.int64)) >= 0))
        and (len(indices) == 0 or (indices.min() >= 0 and indices.max() < columns))
    )
    if not fits:
        raise InputError(
            f"{path}: data, indices and indptr are no CSR matrix of {rows} x {columns}"
        )
    if data.dtype.kind not in "biuf" or not np.all((data >= 0) & (data == np.floor(data))):
        raise InputError(f"{path}: data must hold counts (0, 1, 2, ...)")
