"""Write kornia_values.npz: what kornia 0.9.0 answers to `subpix_cases.fixed_calls`.

Run by hand where kornia and torch are installed (``pip install bigcorr[oracle]``); the ordinary
tests read the file alone.
"""

from __future__ import annotations

from pathlib import Path

import kornia
import kornia.geometry.subpix as peer
import numpy as np
import torch
from subpix_cases import fixed_calls, inputs


def main() -> None:
    assert kornia.__version__ == "0.9.0", kornia.__version__
    given = inputs()
    kept = {f"input/{name}": array for name, array in given.items()}
    for dtype in ("float32", "float64"):
        arrays = {name: array.astype(dtype) for name, array in given.items()}
        for k, (name, args, options) in enumerate(fixed_calls(arrays)):
            answer = getattr(peer, name)(*map(torch.from_numpy, args), **options)
            parts = answer if isinstance(answer, tuple) else (answer,)
            for i, part in enumerate(parts):
                kept[f"{dtype}/{k}/{i}"] = part.numpy()
    np.savez_compressed(Path(__file__).with_name("kornia_values.npz"), **kept)


if __name__ == "__main__":
    main()
