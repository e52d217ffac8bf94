"""bigcorr.subpix beside kornia 0.9.0: itself where it is installed, its written answers always."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from subpix_cases import fixed_calls, random_calls

from bigcorr import subpix

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}


def assert_equal(found: Any, expected: list[Any], dtype: str) -> None:
    parts = found if isinstance(found, tuple) else (found,)
    for part, answer in zip(parts, expected, strict=True):
        assert part.dtype == answer.dtype
        assert part.shape == answer.shape
        np.testing.assert_allclose(part, answer, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_what_kornia_answered_is_answered(dtype: str) -> None:
    with np.load(Path(__file__).with_name("kornia_values.npz")) as file:
        kept = dict(file)
    given = {
        name.removeprefix("input/"): array.astype(dtype)
        for name, array in kept.items()
        if name.startswith("input/")
    }
    calls = fixed_calls(given)
    assert {name for name, _, _ in calls} == {name for name in subpix.__all__ if name.islower()}
    for k, (name, args, options) in enumerate(calls):
        expected = [kept[key] for key in sorted(kept) if key.startswith(f"{dtype}/{k}/")]
        assert_equal(getattr(subpix, name)(*args, **options), expected, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("seed", range(25))
def test_every_function_is_kornias(seed: int, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    peer = pytest.importorskip("kornia.geometry.subpix")
    for name, args, options in random_calls(seed, dtype):
        answer = getattr(peer, name)(*map(torch.from_numpy, args), **options)
        parts = answer if isinstance(answer, tuple) else (answer,)
        found = getattr(subpix, name)(*args, **options)
        assert_equal(found, [part.numpy() for part in parts], dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_what_is_not_finite_and_what_is_flat_are_kornias(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    peer = pytest.importorskip("kornia.geometry.subpix")
    rng = np.random.default_rng(3)
    volume = rng.normal(size=(1, 2, 6, 9, 8)).astype(dtype)
    volume.ravel()[rng.choice(volume.size, 12, replace=False)] = [np.nan, np.inf, -np.inf] * 4
    volume[:, 1, 3:] = 0.25
    cases: list[tuple[str, Any, dict[str, Any]]] = [
        ("conv_soft_argmax3d", volume, {}),
        ("conv_soft_argmax2d", volume[:, :, 1], {"output_value": True}),
        ("spatial_softmax2d", volume[:, :, 1], {}),
        ("nms3d", volume, {"kernel_size": (3, 5, 2), "mask_only": True}),
        ("conv_quad_interp3d", np.nan_to_num(volume, posinf=9, neginf=-9), {}),
        ("conv_quad_interp3d", volume * np.asarray(1e-38, dtype), {}),
    ]
    for name, x, options in cases:
        answer = getattr(peer, name)(torch.from_numpy(np.ascontiguousarray(x)), **options)
        parts = answer if isinstance(answer, tuple) else (answer,)
        found = getattr(subpix, name)(x, **options)
        assert_equal(found, [part.numpy() for part in parts], dtype)


def test_the_defaults_are_kornias() -> None:
    import inspect

    peer = pytest.importorskip("kornia.geometry.subpix")
    for name in subpix.__all__:
        ours = inspect.signature(getattr(subpix, name)).parameters
        theirs = inspect.signature(getattr(peer, name)).parameters
        shared = [each for each in ours if each != "origin"]
        assert shared == list(theirs), name
        for each in shared:
            assert ours[each].default == theirs[each].default, (name, each)
