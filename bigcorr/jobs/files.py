"""Job files: YAML read, checked against the models, complained about in one line."""

from __future__ import annotations

import difflib
import os
import reprlib
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from bigcorr.errors import InputError, MissingFileError
from bigcorr.jobs.models import COMMANDS, Job, Settings, Step

S = TypeVar("S", bound=BaseModel)


def build(model: type[S], data: Any, where: str = "", folder: str | None = None) -> S:
    """`model` from plain data, or an `InputError` of one line that says where and what."""
    try:
        return model.model_validate(data, context={"folder": folder})
    except ValidationError as error:
        raise InputError(_one_line(error, model, where)) from None
    except UnicodeError:  # bytes of a command line that are no text
        start = f"{where}: " if where else ""
        raise InputError(f"{start}got {_shown(data)}; takes text in UTF-8") from None


def load_job(path: str | os.PathLike[str]) -> Job:
    """Read and check a job file.

    Parameters
    ----------
    path : path of a YAML file
        ``cluster``, ``workers``, ``threads``, ``memory`` and ``resume`` as on the command line,
        and ``steps``: a list of ``command: {option: value}``. Relative paths in it start at the
        file's own folder.

    Raises
    ------
    MissingFileError
        There is no such file.
    InputError
        It is not YAML, a key is not known (with the nearest that is), a value is of the wrong
        kind, or an option is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"no such job file: {path}")
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a text file; a job is a YAML file") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}{_yaml_complaint(error)}") from None
    except RecursionError:
        raise InputError(f"{path}: lists in lists in lists, too deep to be a job") from None
    except ValueError as error:  # a date or a number that cannot be
        raise InputError(f"{path}: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("steps"), list) or not data["steps"]:
        raise InputError(f"{path}: a job file holds a list 'steps' of command: {{option: value}}")

    steps = tuple(
        _step(item, f"{path}: step {number}", str(path.parent))
        for number, item in enumerate(data["steps"], start=1)
    )
    settings = {key: value for key, value in data.items() if key != "steps"}
    _refuse_unknown(settings, [*Settings.model_fields, "steps"], str(path))
    checked = build(Settings, settings, str(path))
    if checked.cluster != "local" and "://" not in checked.cluster:
        checked = checked.model_copy(update={"cluster": str(path.parent / checked.cluster)})
    return Job.model_construct(**checked.model_dump(), steps=steps)


def _step(item: Any, where: str, folder: str) -> Step:
    if not isinstance(item, dict) or len(item) != 1:
        raise InputError(f"{where}: got {_shown(item)}; takes one command: {{option: value}}")
    ((command, options),) = item.items()
    _refuse_unknown([command], COMMANDS, where, "command")
    return build(COMMANDS[command], options or {}, f"{where} ({command})", folder)


def _refuse_unknown(
    keys: Iterable[Any], known: Iterable[str], where: str, kind: str = "key"
) -> None:
    known = list(known)
    for key in keys:
        if str(key).replace("-", "_") not in known:
            raise InputError(f"{where}: unknown {kind} {str(key)!r}; {near(str(key), known)}")


def near(word: str, known: list[str]) -> str:
    """A hint for a word that is not known.

    >>> near("sigmma", ["sigma", "stride"])
    "did you mean 'sigma'?"
    """
    close = difflib.get_close_matches(word.replace("-", "_"), known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"takes {', '.join(sorted(known))}"


def _one_line(error: ValidationError, model: type[BaseModel], where: str) -> str:
    """The first complaint of pydantic, in our words."""
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    start = f"{where}: " if where else ""
    if first["type"] == "extra_forbidden":
        return f"{start}unknown key {name!r}; {near(name, list(model.model_fields))}"
    if first["type"] == "missing":
        return f"{start}{name!r} is missing"
    message = first["msg"].removeprefix("Value error, ")
    if isinstance(first.get("ctx", {}).get("error"), InputError) and ": " in message:
        return f"{start}{message}"
    takes = message[0].lower() + message[1:]
    return f"{start}{name}: got {_shown(first['input'])}; {takes}" if name else f"{start}{takes}"


class _Brief(reprlib.Repr):
    """A value in words, however large: lists of lists by alias may be endless."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 200, 200


_shown = _Brief().repr


def _yaml_complaint(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "not a YAML file"
    return f", line {mark.line + 1}: {problem}" if mark else f": {problem}"


class _UniqueKeys(yaml.SafeLoader):
    """Plain YAML that refuses a key given twice; the last one would win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)
