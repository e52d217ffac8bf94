"""Calls that are made of bigcorr.subpix and of kornia alike: name, arguments, options.

`random_calls` draws them for `test_kornia.py`, which runs kornia; `fixed_calls` are those whose
answers `make_kornia_values.py` has written down in kornia_values.npz.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Call = tuple[str, tuple[NDArray[Any], ...], dict[str, Any]]


def inputs() -> dict[str, NDArray[np.float64]]:
    """The arrays of `fixed_calls`, kept beside the answers."""
    rng = np.random.default_rng(20)
    volume = rng.normal(size=(1, 1, 5, 8, 7))
    return {
        "maps": rng.normal(size=(2, 1, 6, 7)),
        "volume": gaussian_filter(volume, (0, 0, 0.7, 0.7, 0.7)),
        "mean": np.array([[0.3, -0.2], [0.9, 1.4]]),
        "std": np.array([[0.4, 0.2], [0.05, 0.6]]),
    }


def fixed_calls(given: dict[str, NDArray[Any]]) -> list[Call]:
    """A few calls that between them use every function and most options."""
    maps, volume, mean, std = (given[name] for name in ("maps", "volume", "mean", "std"))
    pixels = {"normalized_coordinates": False}
    wide = {"kernel_size": (4, 3), "stride": (2, 1), "padding": (2, 0), "output_value": True}
    deep = {"kernel_size": (2, 3, 4), "stride": (1, 2, 3), "padding": (1, 1, 0)}
    return [
        ("spatial_softmax2d", (maps,), {"temperature": 0.3}),
        ("spatial_expectation2d", (np.exp(maps),), {}),
        ("spatial_soft_argmax2d", (maps,), {"temperature": 0.1}),
        ("spatial_soft_argmax2d", (maps,), pixels),
        ("conv_soft_argmax2d", (maps,), {}),
        ("conv_soft_argmax2d", (maps,), {"temperature": 0.2, **wide, **pixels}),
        ("conv_soft_argmax3d", (volume,), {"stride": (2, 2, 2)}),
        ("conv_soft_argmax3d", (volume,), {"normalized_coordinates": True, **deep}),
        ("conv_quad_interp3d", (volume,), {}),
        ("nms2d", (maps,), {"kernel_size": (3, 2)}),
        ("nms3d", (volume,), {"kernel_size": (3, 3, 3), "mask_only": True}),
        ("render_gaussian2d", (mean, std), {"size": (4, 5)}),
        ("render_gaussian2d", (5 * mean, 3 * std), {"size": (3, 6), **pixels}),
    ]


def random_calls(seed: int, dtype: str) -> list[Call]:
    """One call of each function, with shapes and options that differ from seed to seed."""
    rng = np.random.default_rng(seed)
    d, h, w = (int(n) for n in rng.integers(3, 14, 3))
    maps = rng.normal(size=(2, 3, h, w)).astype(dtype)
    volume = rng.normal(size=(2, 2, d, h, w)).astype(dtype)
    smooth = gaussian_filter(volume, (0, 0, 0.7, 0.7, 0.7)) * 10.0 ** rng.integers(-3, 3)
    temperature = float(10 ** rng.uniform(-1.5, 1))
    where = {"normalized_coordinates": bool(rng.integers(2))}
    quad = {
        "n_iters": int(rng.integers(0, 7)),
        "max_subpixel_shift": float(rng.uniform(0.2, 0.8)),
        "dilation_radius": int(rng.integers(1, 4)),
        "allow_scale_steps": bool(rng.integers(2)),
    }
    mean = rng.normal(size=(3, 2)).astype(dtype)
    std = rng.uniform(0.1, 2, (3, 2)).astype(dtype)
    probabilities = np.abs(maps) / np.abs(maps).sum((2, 3), keepdims=True)
    soft = {"temperature": temperature, "output_value": True, **where}
    return [
        ("spatial_softmax2d", (maps,), {"temperature": temperature}),
        ("spatial_expectation2d", (probabilities,), where),
        ("spatial_soft_argmax2d", (maps,), {"temperature": temperature, **where}),
        ("conv_soft_argmax2d", (maps,), {**_windows(rng, (h, w)), **soft}),
        ("conv_soft_argmax3d", (volume,), {**_windows(rng, (d, h, w)), **soft}),
        ("conv_quad_interp3d", (smooth.astype(dtype),), quad),
        ("nms2d", (maps,), {"kernel_size": _windows(rng, (h, w))["kernel_size"]}),
        ("nms3d", (volume,), {"kernel_size": _windows(rng, (d, h, w))["kernel_size"]}),
        ("render_gaussian2d", (mean, std), {"size": (h, w), **where}),
    ]


def _windows(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Any]:
    kernel = tuple(int(rng.integers(1, min(6, n) + 1)) for n in shape)
    return {
        "kernel_size": kernel,
        "stride": tuple(int(s) for s in rng.integers(1, 4, len(shape))),
        "padding": tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel),
    }
