"""Loaded by every worker process that the command line starts.

Ctrl-C reaches all processes of a terminal. It is for the driver, which then ends its workers;
theirs would only be tracebacks on the screen.
"""

from __future__ import annotations

import logging
import signal
from typing import Any


def dask_setup(worker: Any) -> None:
    """Called by dask in the worker, before its first task."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
