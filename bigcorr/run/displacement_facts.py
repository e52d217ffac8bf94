"""What the numbers of a displacement depend on, and in what way another run's were others.

Only words and comparisons; the run itself is `displacement_job`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bigcorr import __version__
from bigcorr.motion.grids import Flow
from bigcorr.motion.plan import Search
from bigcorr.motion.start import in_words
from bigcorr.motion.tile import Pair
from bigcorr.run.other_run import differences, flat, refuse


def facts_of(
    pair: Pair, search: Search, most: float | None, start: Flow | None = None
) -> dict[str, Any]:
    """All that the values depend on, as it is stored with them."""
    images = pair.reference, pair.moving
    parameters = json.loads(json.dumps(asdict(search)))
    return {
        "kind": "displacement",
        "parameters": parameters | {"max_inconsistency": most, "initial": in_words(start)},
        "sources": [image.source.path for image in images],
        "channels": [image.source.channels[0] for image in images],
        "nodata_in": [image.nodata for image in images],
        "inputs": [image.source.fingerprint() for image in images],
        "version": __version__,
    }


def refuse_other_run(path: Path, stored: Any, facts: dict[str, Any], begun: str) -> None:
    """Say in what way the run whose result, or begun result, lies at `path` was another."""
    stored = stored if isinstance(stored, dict) else {}
    found = differences(stored, facts, ("passes",))
    there, here = (flat(each).get("passes") for each in (stored, facts))
    if there != here:
        changed = [text for text in found if "changed since" not in text]
        found = [*changed, f"passes {_in_short(there)} there, {_in_short(here)} here"]
    refuse(path, found, begun)


def _in_short(passes: Any) -> str:
    """Window, search and step of each pass."""
    try:
        return ", ".join(f"{p['window']}/{p['search']}/{p['step']}" for p in passes)
    except (TypeError, KeyError):  # damaged
        return str(passes)
