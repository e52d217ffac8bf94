"""What kind a source of `ingest` is, and what may be asked of it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from bigcorr.errors import InputError, MissingFileError
from bigcorr.raster.source import IMAGE_SUFFIXES, TIFF_SUFFIXES
from bigcorr.raster.spots import is_npz

NORMALIZE = (None, "log1p-cp10k")
Source = str | os.PathLike[str]


def as_paths(sources: Source | Sequence[Source]) -> list[Path]:
    """One path or several as a list."""
    single = isinstance(sources, (str, os.PathLike))
    paths = [Path(sources)] if single else [Path(path) for path in sources]  # type: ignore[arg-type, union-attr]
    if not paths:
        raise InputError("nothing to ingest: takes at least one file")
    return paths


def kind_of_all(paths: list[Path]) -> str:
    """The kind of the sources, which must all be of one."""
    kinds = {path: _kind(path) for path in paths}
    first = kinds[paths[0]]
    for path, kind in kinds.items():
        if kind != first:
            raise InputError(
                f"sources of one kind go together: {paths[0]} is {first}, {path} is {kind}"
            )
    return first


def _kind(path: Path) -> str:
    """ "points", "spots" or "image", by the file's name and first bytes."""
    text = str(path)
    if not path.exists():
        if "#" in text and Path(text.rpartition("#")[0]).exists():
            return "image"
        raise MissingFileError(f"no such file or folder: {path}")
    name = path.name.lower()
    if path.is_dir() or name.endswith((".npy", *TIFF_SUFFIXES, *IMAGE_SUFFIXES)):
        return "image"
    if not os.access(path, os.R_OK):
        raise InputError(f"{path} cannot be read: permission denied")
    return "spots" if is_npz(path) else "points"


def check_parameters(
    kind: str,
    bin: float | None,
    pixel_size: float | None,
    origin: tuple[float, float] | None,
    round: bool,
    normalize: str | None,
    columns: dict[str, str] | None,
) -> None:
    """Refuse what makes no sense, or not for this kind of source."""
    for name, value in (("bin", bin), ("pixel_size", pixel_size)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} must be a positive number, got {value}")
    if normalize not in NORMALIZE:
        raise InputError(f"normalize takes 'log1p-cp10k', got '{normalize}'")
    if origin is not None and not (len(origin) == 2 and all(math.isfinite(v) for v in origin)):
        raise InputError(f"origin takes two numbers (y, x), got {origin}")
    if columns and kind != "points":
        raise InputError(f"columns are for tables of points; this is {kind}")
    if kind == "image":
        asked = {"bin": bin, "origin": origin, "round": round or None, "normalize": normalize}
        for name, given in asked.items():
            if given is not None:
                raise InputError(f"{name} is for points and spots, not for images")
    elif (bin is None) == (pixel_size is None):
        got = "both" if bin is not None else "neither"
        raise InputError(f"{kind} take one of bin and pixel_size, got {got}")
