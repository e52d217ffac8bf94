"""Rank the pairs of very many channels: a simulated result, its ranking in a file, time and memory.

    python tests/benchmarks/rank_large.py FOLDER [--channels 20000] [--memory 2GiB]

The matrix is that of channels with a few shared patterns plus noise, written tile by tile as a
result store; nothing here ever holds it. The ranking runs in a process of its own, whose peak
resident memory (VmHWM) is what is told.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 1024
PATTERNS = 12


def simulate_result(path: Path, channels: int, seed: int = 0) -> Path:
    """A result store of one measure with its standard errors: low rank plus noise."""
    import zarr

    from bigcorr.raster import store

    rng = np.random.default_rng(seed)
    loads = rng.gamma(0.3, 1.0, (channels, PATTERNS)) * rng.choice([-1, 1], (channels, PATTERNS))
    loads *= 0.9 / np.sqrt((loads**2).sum(axis=1, keepdims=True) + 1)
    rough = rng.uniform(0.1, 0.4, channels)
    group = zarr.open_group(str(path), mode="w", zarr_format=3)
    shape, chunks = (channels, channels), (min(SIDE, channels),) * 2
    attributes = {
        "kind": "similarity",
        "symmetric": True,
        "distribution": "t",
        "n_max": 1_000_000,
        "coordinates": "count count_other",
    }
    arrays = [
        store.create_array(
            group,
            name,
            shape=shape,
            dtype=np.float64,
            chunks=chunks,
            dims=("channel", "other"),
            fill_value=np.nan,
            attributes=attributes if name == "pearson" else {},
        )
        for name in ("pearson", "pearson_null", "pearson_sd")
    ]
    for top in range(0, channels, SIDE):
        for left in range(top, channels, SIDE):
            rows, columns = (slice(i, min(i + SIDE, channels)) for i in (top, left))
            spread = rough[rows, None] * rough[None, columns]
            noise = np.random.default_rng([seed, top, left]).standard_normal(spread.shape)
            value = np.clip(loads[rows] @ loads[columns].T + spread * noise, -1, 1)
            if top == left:
                value = np.triu(value, 1)
                value = value + value.T + np.eye(len(value))
            for array, block in zip(arrays, (value, 0 * value, spread), strict=True):
                array[rows, columns] = block
                array[columns, rows] = block.T
    names = np.array([f"gene{i:06d}" for i in rng.permutation(channels)])
    count = rng.integers(10, 100_000, channels)
    store.put_array(group, "channel", names, ("channel",))
    store.put_array(group, "other", names, ("other",))
    store.put_array(group, "count", count, ("channel",))
    store.put_array(group, "count_other", count, ("other",))
    group.attrs.update({"kind": "pairs", "parameters": {"pearson": {}}})
    store.consolidate(path)
    return path


def peak_bytes() -> int:
    """The largest resident memory that this process had so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM")


def rank(result: Path, out: Path, memory: str) -> dict[str, Any]:
    """Rank a store in this process."""
    import bigcorr as bc

    started = time.monotonic()
    last = {"stage": "", "at": started}
    seconds: dict[str, float] = {}

    class Stages:
        def __call__(self, stage: str, done: float, total: float | None = None) -> None:
            now = time.monotonic()
            seconds[stage] = round(seconds.get(stage, 0.0) + now - last["at"], 1)
            last["at"] = now

        def note(self, text: str) -> None:
            pass

    summary = bc.write_ranking(result, "pearson", out, memory=memory, progress=Stages())
    summary["seconds"] = round(time.monotonic() - started, 1)
    return {**summary, "stages": seconds, "peak_bytes": peak_bytes(), "bytes": out.stat().st_size}


def ends(result: Path) -> dict[str, Any]:
    """The first and last 100 pairs of a store, in this process."""
    import xarray as xr

    import bigcorr as bc

    started = time.monotonic()
    pairs = bc.rank_pairs(xr.open_zarr(result, chunks=None), "pearson", top=100, bottom=100)
    seconds = round(time.monotonic() - started, 1)
    return {"rows": len(pairs), "seconds": seconds, "peak_bytes": peak_bytes()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--channels", type=int, default=20_000)
    parser.add_argument("--memory", default="2GiB")
    parser.add_argument("--only", choices=["rank", "ends"])
    given = parser.parse_args()
    result, out = given.folder / "result.zarr", given.folder / "pairs.parquet"
    if given.only:
        made = rank(result, out, given.memory) if given.only == "rank" else ends(result)
        print(json.dumps(made))
        return
    if not result.exists():
        simulate_result(result, given.channels)
    for what in ("rank", "ends"):
        command = [sys.executable, __file__, str(given.folder), "--memory", given.memory]
        subprocess.run([*command, "--only", what], check=True)


if __name__ == "__main__":
    main()
