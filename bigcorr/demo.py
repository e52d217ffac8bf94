"""The demo: simulated tissue with a known answer, ranked and judged; a real pair of images, mapped.

The library's own functions in the order a user would call them. How the outcome is printed is the
command line's part.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bigcorr.errors import InputError
from bigcorr.run.progress import SILENT, Progress
from bigcorr.tiles import Box

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from bigcorr.run.cluster import Pool

MEASURES = ("pearson", "ncc")
SIGMA = 2.0


@dataclass(frozen=True)
class DemoOutcome:
    """What the demo made.

    Attributes
    ----------
    stack, result, ncc_map, report : paths of what was written.
    picture : the matrix, the best and the worst pair, as PNG.
    rankings : the ranked table by each measure.
    precision : a row a kind of pattern, a column of average precision a measure.
    image_ncc : median and mean of the NCC map of the real pair.
    """

    stack: Path
    result: Path
    ncc_map: Path
    report: Path
    picture: Path
    rankings: dict[str, pd.DataFrame]
    precision: pd.DataFrame
    image_ncc: dict[str, float]


def run_demo(
    folder: str | os.PathLike[str] = "demo-output",
    *,
    channels: int = 64,
    size: int = 1024,
    progress: Progress = SILENT,
    **running: Any,
) -> DemoOutcome:
    """Simulate, rank, judge, map and report, all below `folder`.

    Parameters
    ----------
    folder : made if it is not there; what an earlier demo wrote in it is replaced.
    channels, size : of the simulated tissue (a square).
    progress : told how far it is.
    **running : ``cluster``, ``workers``, ``threads``, ``memory`` of the runs.

    Raises
    ------
    InputError
        scikit-image, whose bundled pictures are the real pair, is not installed.
    """
    import xarray as xr

    from bigcorr.pairs.precision import group_precision
    from bigcorr.pairs.ranking import rank_pairs
    from bigcorr.report import write_report
    from bigcorr.run.cluster import open_pool
    from bigcorr.run.pairs_job import run_pairs
    from bigcorr.simulate import tissue

    images = real_pair()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stack, result = folder / "tissue.zarr", folder / "pairs.zarr"

    simulated = tissue(
        stack,
        channels=channels,
        size=size,
        overwrite=True,
        progress=lambda done, total: progress("simulate", done, total),
    )
    with open_pool(**running) as pool:
        run_pairs(
            stack,
            result,
            measures=list(MEASURES),
            sigma=SIGMA,
            resume=False,
            progress=progress,
            cluster=pool,
        )
        ncc_map, image_ncc = map_real_pair(images, folder, pool, progress)
    report, picture = folder / "report.html", folder / "demo.png"
    with xr.open_zarr(result, chunks=None) as sim:
        rankings = {measure: rank_pairs(sim, measure) for measure in MEASURES}
        write_report(sim, report, source=stack)
        draw(sim, rankings[MEASURES[0]], stack, picture)
    precision = {m: group_precision(rankings[m], simulated["truth"]) for m in MEASURES}
    table = precision[MEASURES[0]][["pattern", "pairs", "same_group"]].copy()
    for measure in MEASURES:
        table[measure] = precision[measure]["average_precision"]

    return DemoOutcome(stack, result, ncc_map, report, picture, rankings, table, image_ncc)


def draw(sim: xr.Dataset, pairs: pd.DataFrame, stack: Path, path: Path) -> None:
    """One picture of a result: the matrix, and the best and the worst pair beside it."""
    from io import BytesIO

    from PIL import Image

    from bigcorr.maps import gaussian_blur, ncc
    from bigcorr.raster.source import open_source
    from bigcorr.report.figures import heatmap, pair_panel

    source = open_source(stack)
    box = Box(0, min(512, source.shape[1]), 0, min(512, source.shape[2]))
    names = list(source.channels)
    certain = pairs[pairs["value"].notna()]
    figures = [heatmap(sim["pearson"].values, list(sim["channel"].values), label="pearson")]
    for _, pair in certain.iloc[[0, -1]].iterrows():
        chosen = [names.index(pair["a"]), names.index(pair["b"])]
        a, b = gaussian_blur(source.read(chosen, box).astype(np.float32), SIGMA)
        label = f"local NCC (pearson {pair['value']:.2f})"
        figures.append(pair_panel(a, b, ncc(a, b, 31), (pair["a"], pair["b"]), label=label))
    images = []
    for figure in figures:
        buffer = BytesIO()
        figure.savefig(buffer, dpi=75, bbox_inches="tight", facecolor="white")
        images.append(Image.open(buffer).convert("RGB"))
    matrix, *panels = images
    matrix.thumbnail((matrix.width, sum(panel.height for panel in panels)))
    sheet = Image.new("RGB", (matrix.width + max(p.width for p in panels), matrix.height), "white")
    sheet.paste(matrix)
    for number, panel in enumerate(panels):
        sheet.paste(panel, (matrix.width, number * panels[0].height))
    sheet.quantize(128).save(path, optimize=True)


def real_pair() -> np.ndarray:
    """Two colour bands of a real picture of the sky, (2, y, x): the Hubble Deep Field.

    Red and blue light show the same galaxies with different strength: similar wherever there is
    something, not where there is only noise.
    """
    try:
        from skimage import data
    except ImportError:
        raise InputError(
            "the demo takes its pictures from scikit-image: pip install 'bigcorr[demo]'"
        ) from None
    picture = data.hubble_deep_field()
    return np.ascontiguousarray(np.moveaxis(picture[..., [0, 2]], -1, 0))


def map_real_pair(
    images: np.ndarray, folder: Path, pool: Pool, progress: Progress
) -> tuple[Path, dict[str, float]]:
    """The NCC map of the real pair as a store, and its median and mean."""
    import xarray as xr

    from bigcorr.operators import NCC
    from bigcorr.raster import save_raster
    from bigcorr.raster.source import open_source
    from bigcorr.run.map_job import run_map

    pictures, out = folder / "hubble.zarr", folder / "hubble_ncc.zarr"
    bands = xr.DataArray(images, dims=("channel", "y", "x"), coords={"channel": ["red", "blue"]})
    save_raster(bands, pictures, overwrite=True)
    run_map(
        NCC(window=15),
        [f"{pictures}#red", f"{pictures}#blue"],
        out,
        resume=False,
        progress=progress,
        cluster=pool,
    )
    source = open_source(out)
    values = source.read(slice(None), Box(0, source.shape[1], 0, source.shape[2]))
    return out, {"median": float(np.median(values)), "mean": float(values.mean())}
