"""`ingest`: tables of points, counts at spots and images into a stack store.

Which kind a source is, what may be asked of it, and the summary. The work of each step lives in
`ingest_tables.py` (points and spots) and `convert.py` (images); what a killed one leaves, in
`begun.py`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bigcorr import __version__
from bigcorr.raster import store
from bigcorr.raster.base import file_stamp
from bigcorr.raster.begun import JOB, Begun
from bigcorr.raster.convert import convert_images
from bigcorr.raster.ingest_checks import Source, as_paths, check_parameters, kind_of_all
from bigcorr.raster.ingest_tables import Table, ingest_points, ingest_spots
from bigcorr.raster.lock import locked
from bigcorr.raster.markers import jsonable
from bigcorr.raster.points import Progress
from bigcorr.raster.source import open_source
from bigcorr.raster.spill import FOLDERS


def ingest(
    sources: Source | Sequence[Source],
    dest: Source,
    *,
    bin: float | None = None,
    pixel_size: float | None = None,
    origin: tuple[float, float] | None = None,
    round: bool = False,
    normalize: str | None = None,
    chunk: int = store.CHUNK,
    shard: int = store.SHARD,
    columns: dict[str, str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Make a stack store of tables of points, of counts at spots, or of images.

    Parameters
    ----------
    sources : one or several of a kind. *Points*: CSV, TSV, Stereo-seq GEM or Parquet with a row a
        transcript, plain or compressed; one channel a gene, in the order of the names. *Spots*:
        .npz with a CSR matrix (genes, spots) and ``pos`` (x, y). *Images*: Zarr, TIFF, .npy, PNG,
        JPEG; several give one channel each.
    dest : the store to make; nothing is there until all of it is done. A run that was killed is
        gone on with by the same call, from what it has kept in ``dest + ".partial"``.
    bin : side of a pixel in units of the table where these are no lengths (Stereo-seq bins).
    pixel_size : side of a pixel in the table's unit of length, e.g. micrometres. Points and spots
        take exactly one of `bin` and `pixel_size`; for images it is only recorded.
    origin : (y, x) of the raster's corner, by default the least y and x of the table. Rows before
        it are left out, and counted.
    round : lay positions on the nearest whole multiple of the pixel size, which is then the
        centre of a pixel; else a pixel holds what lies in it.
    normalize : "log1p-cp10k": float32 log(1 + 10 000 count / total of the pixel over all genes);
        pixels without a spot (or without any count) are NaN.
    chunk, shard : (y, x) sizes in pixels.
    columns : names of the columns for ``x``, ``y``, ``gene``, ``count``, where they are not the
        usual ones of MERSCOPE, Xenium, CosMx, Stereo-seq (the gene's name before its id) or
        x, y, gene, count.
    overwrite : start afresh, and replace a store that is already at `dest`. Without it a store
        that this very call has made before is left as it is, and any other is refused.
    progress : called with (stage, done, total or None).

    Returns
    -------
    dict
        ``kind``, ``channels``, ``shape`` (y, x), ``dtype``, ``total_count``, ``rows`` read,
        ``left_out`` (reason -> rows), ``warnings`` and the parameters, all JSON-like; ``units`` of
        work and ``units_done_before`` by earlier runs.

    Raises
    ------
    MissingFileError
        A source is not there.
    InputError
        A source is of no known kind, a parameter does not fit it, or `dest` was made or begun
        from another source or with other parameters.
    RunError
        The disk is full or refuses, a chunk of an image cannot be read, or another run writes
        there.

    Notes
    -----
    Memory does not grow with the table: rows wait in files beside `dest` once they take more than
    32 MiB, are counted by sorting each file, and each shard (64 MiB at most) is filled and written
    once. Counts are stored in the smallest unsigned type that holds the largest.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from bigcorr.raster.ingest import ingest
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> text = "x,y,gene\\n0,0,a\\n3,1,b\\n3,1,b\\n"
    >>> table = folder / "points.csv"
    >>> _ = table.write_text(text)
    >>> done = ingest(table, folder / "stack.zarr", pixel_size=1)
    >>> done["shape"], done["channels"], done["total_count"]
    ([2, 4], 2, 3)
    """
    started = time.perf_counter()
    paths = as_paths(sources)
    kind = kind_of_all(paths)
    target = Path(dest)
    check_parameters(kind, bin, pixel_size, origin, round, normalize, columns)
    store.clip_chunks((1, 1), chunk, shard)
    facts = {
        "source": [path.name for path in paths],
        "pixel_size": None if pixel_size is None else float(pixel_size),
        "bin": None if bin is None else float(bin),
        "normalize": normalize,
        "round": bool(round) or None,
    }
    facts = {key: value for key, value in facts.items() if value is not None}
    image = open_source([str(path) for path in paths]) if kind == "image" else None
    job = {
        "command": "ingest",
        "version": __version__,
        "kind": kind,
        "sources": [str(path.absolute()) for path in paths],
        **{name: facts.get(name) for name in ("bin", "pixel_size", "round", "normalize")},
        "origin": None if origin is None else [float(value) for value in origin],
        "columns": columns,
        "chunk": chunk,
        "shard": shard,
        # Last: where several things differ, the ones above say more.
        "input fingerprint": [file_stamp(path) for path in paths]
        if image is None
        else image.fingerprint(),
    }
    with locked(target, progress) as lock:
        watched = lock.watch(progress)
        begun = Begun(target, job, restart=overwrite)
        told = {"kind": kind, "path": str(target), **facts}
        if begun.summary is not None:
            kept = {**begun.summary, "units_done_before": begun.summary["units"]}
            return jsonable({**told, **kept, "wall_seconds": time.perf_counter() - started})
        layout = {
            "path": target,
            "chunk": chunk,
            "shard": shard,
            "overwrite": overwrite,
            "fingerprint": begun.fingerprint,
            "keep": (JOB, *FOLDERS),
        }
        with begun.working(lock):
            if image is not None:
                writer, counts, summary = convert_images(image, facts, watched, **layout)
            else:
                size = float(bin if bin is not None else pixel_size or 0.0)
                table = Table(
                    paths=paths,
                    size=size,
                    origin=origin,
                    rounded=bool(round),
                    normalize=normalize,
                    columns=columns,
                    facts=facts,
                    layout=layout,
                    folder=begun.folder,
                    progress=watched,
                )
                writer, counts, summary = (
                    ingest_points(table) if kind == "points" else ingest_spots(table)
                )
            lock.check()
            lasting = {k: v for k, v in summary.items() if k != "units_done_before"}
            writer.finish(counts, begun.receipt(lasting))
    return jsonable({**told, **summary, "wall_seconds": time.perf_counter() - started})
