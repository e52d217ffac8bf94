"""In what way the run whose result, or begun result, is there already was another one.

What is stored may have been damaged: nothing is taken for granted of its shape.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from bigcorr.errors import InputError


def flat(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts of a run and its parameters side by side."""
    parameters = facts.get("parameters")
    return {**facts, **(parameters if isinstance(parameters, dict) else {})}


def differences(stored: dict[str, Any], facts: dict[str, Any], apart: Collection[str]) -> list[str]:
    """What is otherwise in words: parameters, or else the inputs that have changed since.

    Parameters
    ----------
    stored, facts : of the run that is there, and of the one that is wanted.
    apart : what is not to be compared beside the inputs.
    """
    there, here = flat(stored), flat(facts)
    found = [
        f"{key.removesuffix('_in')} {there.get(key)} there, {value} here"
        for key, value in here.items()
        if key not in ("kind", "parameters", "inputs", *apart) and there.get(key) != value
    ]
    if found or stored.get("inputs") == facts["inputs"]:
        return found
    inputs = stored.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != len(facts["inputs"]):
        return ["what it was made from is not said there"]
    pairs = zip(facts["sources"], inputs, facts["inputs"], strict=True)
    return [f"{name} has changed since" for name, old, new in pairs if old != new]


def refuse(path: Path, found: list[str], begun: str = "") -> None:
    """Raise an `InputError` with the differences, if there are any.

    begun : " that was begun" of an unfinished run.
    """
    if found:
        raise InputError(
            f"{path} is the result{begun} of another run ({'; '.join(found)}): choose another "
            "name, or start afresh to replace it"
        )
