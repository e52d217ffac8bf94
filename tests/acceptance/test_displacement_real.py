"""Displacement against the truth: particle images of flows, and frames with measured motion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

import bigcorr as bc

pytestmark = pytest.mark.acceptance

PIV = {"window": 12, "search": 8, "step": 4, "passes": [32, 16, 12]}
FRAMES = {"search": 8, "step": 4, "passes": [21, 11, 9, 9]}


def read_flow(path: Path) -> np.ndarray:
    """(2, h, w) as (dy, dx) of a .flo file; NaN where it is not known."""
    raw = path.read_bytes()
    width, height = np.frombuffer(raw[4:12], "<i4")
    u_v = np.frombuffer(raw[12:], "<f4").reshape(height, width, 2).astype(np.float64)
    u_v[np.abs(u_v) > 1e9] = np.nan
    return np.moveaxis(u_v[..., ::-1], -1, 0)


def grey(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("L") if image.mode != "L" else image)


def mean_error(flow: object, truth: np.ndarray, border: int = 0) -> tuple[float, float]:
    """Mean endpoint error over nodes with a vector and a truth, and the share that has a vector."""
    y, x = (flow[axis].values for axis in "yx")  # type: ignore[index]
    places = np.meshgrid(y, x, indexing="ij")
    known = np.isfinite(truth[0])
    at = [ndimage.map_coordinates(np.where(known, each, 1e6), places, order=1) for each in truth]
    error = np.hypot(flow.dy.values - at[0], flow.dx.values - at[1])  # type: ignore[attr-defined]
    h, w = truth.shape[1:]
    inside = ((y >= border) & (y <= h - 1 - border))[:, None] & (
        (x >= border) & (x <= w - 1 - border)
    )
    counted = inside & (np.abs(at[0]) < 1e3)
    found = counted & np.isfinite(error)
    return float(error[found].mean()), float(found.sum() / counted.sum())


@pytest.mark.parametrize(
    ("name", "most"), [("backstep/backstep_Re800", 0.04), ("DNS_turbulence/DNS_turbulence", 0.11)]
)
@pytest.mark.parametrize("number", [1, 2])
def test_particle_images_are_followed(real_data: Path, name: str, number: int, most: float) -> None:
    start = f"{real_data}/piv/{name}_{number:05d}_"
    a, b = (grey(Path(f"{start}img{k}.tif")) for k in (1, 2))
    truth = read_flow(Path(start + "flow.flo"))
    error, share = mean_error(bc.displacement(a, b, **PIV), truth, border=16)
    assert error < most
    assert share > 0.99


@pytest.mark.parametrize(("name", "most"), [("RubberWhale", 0.15), ("Dimetrodon", 0.185)])
def test_frames_with_known_motion_are_followed(real_data: Path, name: str, most: float) -> None:
    folder = real_data / "optical_flow" / name
    a, b = (grey(folder / f"frame{k}.png") for k in (10, 11))
    truth = read_flow(folder / "flow10.flo")
    error, share = mean_error(bc.displacement(a, b, **FRAMES), truth)
    assert error < most
    assert share > 0.98
