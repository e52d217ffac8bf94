"""A pair of images with a known sub-pixel shift and a known changed region.

The texture is a sum of plane waves, so that it has a value at every real coordinate: the moving
image is computed at shifted coordinates, never resampled, and the shift is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigcorr.errors import InputError
from bigcorr.simulate.tissue import image_shape
from bigcorr.tiles import Box

_WAVES = 192
_SD = 0.125
_BLOCK = 256
"""Side of the fixed blocks of the global grid that are made whole, so that tiles agree."""


class ImagePair(NamedTuple):
    """Two float32 images of one shape, and what was done to the second.

    ``truth`` holds ``shift``: (dy, dx) in pixels to apply to `moving` to lay it on `reference`,
    and ``changed``: (y, x) bool, True where the shifted `moving` shows something else than
    `reference`.
    """

    reference: NDArray[np.float32]
    moving: NDArray[np.float32]
    truth: dict[str, Any]


@dataclass(frozen=True)
class Scene:
    """A pair of images: everything but a tile.

    Parameters
    ----------
    shape : (y, x) of both images.
    shift : (dy, dx) in pixels to apply to the moving image to lay it on the reference.
    seed : any integer.
    changed_fraction : share of the reference that lies in the changed region, a disc.
    wavelengths : shortest and longest wave of the texture, in pixels.
    noise : standard deviation of independent noise on both images, in that of the texture.
    """

    shape: tuple[int, int]
    shift: tuple[float, float] = (2.7, -1.3)
    seed: int = 0
    changed_fraction: float = 0.05
    wavelengths: tuple[float, float] = (5.0, 64.0)
    noise: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.changed_fraction <= 0.5:
            raise InputError(
                f"changed_fraction: got {self.changed_fraction}, takes a share of 0 to 0.5"
            )
        if not 2 < self.wavelengths[0] <= self.wavelengths[1]:
            raise InputError(
                f"wavelengths: got {self.wavelengths}, takes (shortest, longest) above 2 pixels"
            )
        if not self.noise >= 0:
            raise InputError(f"noise: got {self.noise}, takes 0 or more")

    def reference(self, box: Box) -> NDArray[np.float32]:
        """The pixels of the reference in a box."""
        return self._assemble(box, (0.0, 0.0), 0)

    def moving(self, box: Box) -> NDArray[np.float32]:
        """The pixels of the moving image in a box."""
        return self._assemble(box, self.shift, 1)

    def changed(self, box: Box) -> NDArray[np.bool_]:
        """Where the shifted moving image differs from the reference, on the reference's grid."""
        return self._in_disc(box, (0.0, 0.0))

    @cached_property
    def _disc(self) -> tuple[float, float, float]:
        """Centre and radius of the changed region, which lies wholly on the image if it can."""
        h, w = self.shape
        radius = float(np.sqrt(self.changed_fraction * h * w / np.pi))
        place = self._random(2).random(2)
        cy, cx = (
            n / 2 if n <= 2 * radius else radius + u * (n - 2 * radius)
            for n, u in zip(self.shape, place, strict=True)
        )
        return cy, cx, radius

    @cached_property
    def _waves(self) -> NDArray[np.float64]:
        """(texture, 3, wave): angular frequency along y and x, and phase, of both textures."""
        shortest, longest = self.wavelengths
        draw = self._random(0).random((2, 3, _WAVES))
        length = shortest * (longest / shortest) ** draw[:, 0]
        angle, phase = 2 * np.pi * draw[:, 1], 2 * np.pi * draw[:, 2]
        turn = 2 * np.pi / length
        return np.stack([turn * np.sin(angle), turn * np.cos(angle), phase], axis=1)

    def _random(self, *path: int) -> np.random.Generator:
        return np.random.default_rng((self.seed % 2**64, *path))

    def _in_disc(self, box: Box, offset: tuple[float, float]) -> NDArray[np.bool_]:
        cy, cx, radius = self._disc
        y = np.arange(box.y0, box.y1)[:, None] + offset[0] - cy
        x = np.arange(box.x0, box.x1)[None, :] + offset[1] - cx
        return y * y + x * x < radius * radius

    def _assemble(self, box: Box, offset: tuple[float, float], image: int) -> NDArray[np.float32]:
        """Cut a box out of the fixed blocks of the global grid, each made whole."""
        out = np.empty(box.shape, np.float32)
        first_y, first_x = box.y0 // _BLOCK, box.x0 // _BLOCK
        for j in range(first_y, -(-box.y1 // _BLOCK)):
            for i in range(first_x, -(-box.x1 // _BLOCK)):
                block = Box(j * _BLOCK, (j + 1) * _BLOCK, i * _BLOCK, (i + 1) * _BLOCK)
                pixels = self._texture(0, block, offset)
                replaced = image * self._in_disc(block, offset)
                if replaced.any():
                    pixels = np.where(replaced, self._texture(1, block, offset), pixels)
                if self.noise:
                    pixels += self._random(1, image, j, i).normal(0, _SD * self.noise, pixels.shape)
                part = block.clipped((box.y1, box.x1))
                part = Box(max(part.y0, box.y0), part.y1, max(part.x0, box.x0), part.x1)
                out[part.relative_to(box).slices] = pixels[part.relative_to(block).slices]
        return out

    def _texture(self, number: int, box: Box, offset: tuple[float, float]) -> NDArray[np.float64]:
        """Texture `number` at the pixels of a box plus `offset`: mean 0.5, sd 0.125."""
        wave_y, wave_x, phase = self._waves[number]
        # cos(a + b) = cos a cos b - sin a sin b: one small matrix product instead of a cosine
        # for each pixel and wave.
        y = (np.arange(box.y0, box.y1) + offset[0])[:, None] * wave_y + phase
        x = (np.arange(box.x0, box.x1) + offset[1])[:, None] * wave_x
        rows = np.concatenate([np.cos(y), -np.sin(y)], axis=1)
        columns = np.concatenate([np.cos(x), np.sin(x)], axis=1)
        texture: NDArray[np.float64] = 0.5 + _SD * np.sqrt(2 / _WAVES) * (rows @ columns.T)
        return texture


def image_pair(
    size: int | tuple[int, int] = 512,
    shift: tuple[float, float] = (2.7, -1.3),
    seed: int = 0,
    changed_fraction: float = 0.05,
    noise: float = 0.0,
) -> ImagePair:
    """Two images of one texture with a known shift and a known changed region, in memory.

    Parameters
    ----------
    size : pixels, one number or (y, x).
    shift, seed, changed_fraction, noise : see `Scene`, which makes the same images by tiles.

    Examples
    --------
    >>> pair = image_pair(128, shift=(0.25, -3.0), seed=4, changed_fraction=0.1)
    >>> pair.moving.shape, pair.truth["shift"], round(float(pair.truth["changed"].mean()), 2)
    ((128, 128), (0.25, -3.0), 0.1)
    """
    shape = image_shape(size)
    scene = Scene(
        shape, (float(shift[0]), float(shift[1])), int(seed), changed_fraction, noise=noise
    )
    whole = Box(0, shape[0], 0, shape[1])
    truth = {"shift": scene.shift, "changed": scene.changed(whole)}
    return ImagePair(scene.reference(whole), scene.moving(whole), truth)
