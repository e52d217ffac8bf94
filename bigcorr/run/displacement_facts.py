"""What the numbers of a displacement depend on, and in what way another run's were others.

Only words and comparisons; the run itself is `displacement_job`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bigcorr import __version__
from bigcorr.errors import InputError
from bigcorr.motion.grids import Flow
from bigcorr.motion.plan import Search
from bigcorr.motion.start import in_words
from bigcorr.motion.tile import Pair


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


def refuse_other_run(path: Path, stored: dict[str, Any], facts: dict[str, Any], begun: str) -> None:
    """Say in what way the run whose result, or begun result, lies at `path` was another."""
    there: dict[str, Any] = {**stored, **stored.get("parameters", {})}
    here: dict[str, Any] = {**facts, **facts["parameters"]}
    named = [key for key in here if key not in ("kind", "parameters", "inputs", "passes")]
    found = [
        f"{key.removesuffix('_in')} {there.get(key)} there, {here[key]} here"
        for key in named
        if there.get(key) != here[key]
    ]
    if there.get("passes") != here["passes"]:
        found.append(f"passes {_in_short(there)} there, {_in_short(here)} here")
    if not found and there.get("inputs") != here["inputs"]:
        pairs = zip(facts["sources"], stored.get("inputs", []), facts["inputs"], strict=False)
        found = [f"{name} has changed since" for name, old, new in pairs if old != new]
    if found:
        raise InputError(
            f"{path} is the result{begun} of another run ({'; '.join(found)}): choose another "
            "name, or start afresh to replace it"
        )


def _in_short(facts: dict[str, Any]) -> str:
    passes = facts.get("passes") or []
    return ", ".join(f"{p['window']}/{p['search']}/{p['step']}" for p in passes)
