"""Compiled kernels are kept, and processes that start at once on an empty cache do not collide."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FIRST_USE = """
import time
import numpy as np
import bigcorr as bc
import bigcorr.kernels.gaussian

image = np.random.default_rng(0).integers(0, 255, (40, 50)).astype(np.uint8)
start = time.process_time()
total = float(bc.gaussian_blur(image, 2.0).sum(dtype=np.float64))
print(total.hex(), time.process_time() - start)
"""


@pytest.mark.slow
def test_processes_that_start_at_once_on_a_cold_cache_agree_and_the_next_is_quick(
    tmp_path: Path,
) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", FIRST_USE]
    together = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    outputs = [process.communicate()[0].split() for process in together]
    assert [process.returncode for process in together] == [0] * 4
    assert len({total for total, _ in outputs}) == 1
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    total, seconds = again.stdout.split()
    assert total == outputs[0][0]
    assert float(seconds) < 1.0
