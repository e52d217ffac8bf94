"""What a job may say: one model a command, with the names that the command line uses.

The command line builds the same models from its options. No work is done here, nothing heavy is
imported, and files are read by `files`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    model_validator,
)

from bigcorr.errors import InputError

Scalar = bool | int | float | str


def _from_job_folder(value: str, info: ValidationInfo) -> str:
    """Paths in a job file start at the file's own folder, so that a job runs from anywhere."""
    folder = (info.context or {}).get("folder")
    if folder is None or value == "auto" or "://" in value:
        return value
    return str(Path(folder) / Path(value).expanduser())


def _one_as_list(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else [value]


def _number_pair(value: Any) -> Any:
    """``"3,4"`` or ``[3, 4]`` as two numbers."""
    return value.split(",") if isinstance(value, str) else value


def _size_pair(value: Any) -> Any:
    """``512``, ``"512"`` or ``"512,768"`` as (y, x)."""
    if isinstance(value, str):
        value = re.split(r"[,x]", value)
    parts = _one_as_list(value)
    return parts * 2 if len(parts) == 1 else parts


def _memory_size(value: Any) -> Any:
    text = str(value).strip()
    if not re.fullmatch(r"(?i)(\d+(\.\d*)?|\.\d+)\s*([kmgtp]?i?b?)", text):
        raise InputError("takes a size in bytes such as 2GiB or 500MB")
    return text


def _sigmas(value: Any) -> Any:
    """One blur as a number, several as a list: ``2``, ``"2"``, ``"2,4,8"``, ``[2, 4, 8]``."""
    parts = value.split(",") if isinstance(value, str) else _one_as_list(value)
    try:
        numbers = [float(part) for part in parts]
    except (TypeError, ValueError):
        raise InputError("takes a number of pixels, or several as 2,4,8") from None
    several = isinstance(value, (list, tuple)) or len(numbers) > 1
    return numbers if several else numbers[0]


def _no_blur(value: Any) -> Any:
    """``none`` as None, so that a command line can say it."""
    return None if value == "none" else value


def _model_of(value: Any) -> Any:
    """``register: true`` as the model that it stands for."""
    return {True: "translation", False: None}.get(value, value) if value in (True, False) else value


Aligned = Annotated[
    Literal["translation", "affine"] | None,
    BeforeValidator(_model_of),
    Field(alias="register"),
]
"""Whether the second image is registered on the first before they are compared, and by which model;
the field has another name, since every model class has a method `register`."""


def _whole_numbers(value: Any) -> Any:
    """One number as such, several as a list: ``3``, ``"3"``, ``"64,32,16"``, ``[64, 32, 16]``."""
    parts = value.split(",") if isinstance(value, str) else value
    if isinstance(value, str) and len(parts) == 1:
        return parts[0]
    return parts


def _vector_or_path(value: Any) -> Any:
    """``"3,-4"`` as two numbers; what is none is the path of a file."""
    if not isinstance(value, str):
        return value
    try:
        numbers = [float(part) for part in value.split(",")]
    except ValueError:
        return value
    if len(numbers) != 2:
        raise InputError("takes two numbers of pixels DY,DX, or a file")
    return numbers


FilePath = Annotated[str, Field(min_length=1), AfterValidator(_from_job_folder)]
FilePaths = Annotated[list[FilePath], Field(min_length=1), BeforeValidator(_one_as_list)]
Names = Annotated[list[str], BeforeValidator(_one_as_list)]


def parse_measure(text: str) -> dict[str, Any]:
    """``"ncc:window=32,stride=16"`` as ``{"name": "ncc", "parameters": {...}}``.

    >>> parse_measure("ncc:window=32,stride=16")
    {'name': 'ncc', 'parameters': {'window': 32, 'stride': 16}}
    """
    name, _, rest = text.partition(":")
    parameters: dict[str, Scalar] = {}
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise InputError(
                f"measure {text!r}: {item!r} is not KEY=VALUE "
                "(a measure is NAME or NAME:KEY=VALUE,KEY=VALUE)"
            )
        try:
            parameters[key.strip().replace("-", "_")] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError):  # a date that is none is a ValueError
            raise InputError(
                f"measure {text!r}: {key.strip()} got {value.strip()!r}, takes a number or a word"
            ) from None
    return {"name": name.strip(), "parameters": parameters}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _hyphens_are_underscores(cls, data: Any) -> Any:
        if isinstance(data, dict):
            return {k.replace("-", "_") if isinstance(k, str) else k: v for k, v in data.items()}
        return data


class Measure(BaseModel):
    """A measure and its own parameters; which ones it takes is for the measure to say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1)]
    parameters: dict[str, Scalar] = {}

    @model_validator(mode="before")
    @classmethod
    def _spellings(cls, data: Any) -> Any:
        """``ncc``, ``ncc:window=32`` and ``{ncc: {window: 32}}`` are the same kind of thing."""
        if isinstance(data, str):
            return parse_measure(data)
        if isinstance(data, dict) and "name" not in data and len(data) == 1:
            ((name, parameters),) = data.items()
            return {"name": name, "parameters": parameters or {}}
        return data


class Settings(_Strict):
    """Where and how wide a job runs; never changes its result."""

    cluster: Annotated[str, Field(min_length=1)] = "local"
    workers: Annotated[int, Field(ge=1)] | None = None
    threads: Annotated[int, Field(ge=1)] | None = None
    memory: Annotated[str, BeforeValidator(_memory_size)] | None = None
    resume: bool = True
    """Go on from what the same step finished before; else start afresh and replace it."""


class Step(_Strict):
    """One command of a job."""

    command: ClassVar[str]


class Ingest(Step):
    """Files of any kind in, a stack out."""

    command = "ingest"

    sources: FilePaths
    output: FilePath
    bin: Annotated[float, Field(gt=0)] | None = None
    pixel_size: Annotated[float, Field(gt=0)] | None = None
    origin: Annotated[tuple[float, float], BeforeValidator(_number_pair)] | None = None
    round: bool = False
    normalize: Literal["log1p-cp10k"] | None = None
    columns: dict[str, str] | None = None
    chunk: Annotated[int, Field(ge=1)] = 512
    shard: Annotated[int, Field(ge=1)] = 2048


class Simulate(Step):
    """Data with known truth: a stack of tissue, or a pair of images; unset options are its own."""

    command = "simulate"

    output: FilePath
    kind: Literal["tissue", "images"] = "tissue"
    size: Annotated[tuple[int, int], BeforeValidator(_size_pair)] | None = None
    seed: int | None = None
    channels: Annotated[int, Field(ge=1)] | None = None
    cell: float | None = None
    level: float | None = None
    background: float | None = None
    dtype: Literal["uint8", "uint16", "uint32"] | None = None
    shift: Annotated[tuple[float, float], BeforeValidator(_number_pair)] | None = None
    changed_fraction: float | None = None
    noise: float | None = None

    @model_validator(mode="after")
    def _options_fit_the_kind(self) -> Simulate:
        other = {"tissue": _IMAGE_OPTIONS, "images": _TISSUE_OPTIONS}[self.kind]
        for name in other:
            if getattr(self, name) is not None:
                raise InputError(f"{name}: is not an option of kind {self.kind!r}")
        return self


_TISSUE_OPTIONS = ("channels", "cell", "level", "background", "dtype")
_IMAGE_OPTIONS = ("shift", "changed_fraction", "noise")


class Register(Step):
    """The move that lays one image on another; what is moved by it and a page, if asked."""

    command = "register"

    a: FilePath
    b: FilePath
    model: Literal["translation", "affine"] = "translation"
    upsample: int = 10
    sigma: Annotated[float | Literal["auto"] | None, BeforeValidator(_no_blur)] = "auto"
    tile: int | None = None
    nodata: float | None = None
    output: FilePath | None = None
    report: FilePath | None = None


class NCC(Step):
    """Per-pixel similarity of two images of the same place."""

    command = "ncc"

    a: FilePath
    b: FilePath
    output: FilePath
    window: int = 7
    boundary: Literal["reflect", "nearest", "nan"] = "reflect"
    min_valid: float = 0.5
    weights: Literal["uniform", "gaussian"] = "uniform"
    blur: float | None = None
    nodata: float | None = None
    align: Aligned = None


class SSIM(Step):
    """Per-pixel structural similarity of two images of the same place."""

    command = "ssim"

    a: FilePath
    b: FilePath
    output: FilePath
    window: int = 7
    data_range: float | None = None
    boundary: Literal["reflect", "nearest", "nan"] = "reflect"
    min_valid: float = 0.5
    gaussian_weights: bool = False
    sigma: float = 1.5
    k1: float = 0.01
    k2: float = 0.03
    use_sample_covariance: bool = True
    blur: float | None = None
    nodata: float | None = None
    align: Aligned = None


class Blur(Step):
    """Gaussian blur of an image or a stack."""

    command = "blur"

    source: FilePath
    output: FilePath
    sigma: Annotated[float | list[float], BeforeValidator(_sigmas)]
    truncate: float = 4.0
    fill: bool = False
    nodata: float | None = None


class LBP(Step):
    """Local binary pattern of every pixel of an image or a stack."""

    command = "lbp"

    source: FilePath
    output: FilePath
    points: int = 8
    radius: float = 1.0
    method: Literal["default", "ror", "uniform", "nri_uniform", "var"] = "uniform"
    nodata: float | None = None


class Displacement(Step):
    """Where each part of one image lies in another."""

    command = "displacement"

    a: FilePath
    b: FilePath
    output: FilePath
    window: int = 32
    search: int = 8
    step: int = 16
    passes: Annotated[int | list[int], BeforeValidator(_whole_numbers)] = 1
    levels: int = 0
    subpixel: Literal["quadratic", "gaussian", "soft_argmax", "none"] = "quadratic"
    weights: Literal["uniform", "gaussian"] | None = None
    min_valid: float = 0.5
    smooth: bool | None = None
    outlier_threshold: float = 2.0
    max_inconsistency: float | None = None
    initial: Annotated[tuple[float, float] | FilePath | None, BeforeValidator(_vector_or_path)] = (
        None
    )
    temperature: float = 0.1
    nodata: float | None = None


class Pairs(Step):
    """The similarity of every pair of channels."""

    command = "pairs"

    stack: FilePath
    output: FilePath
    measures: Annotated[list[Measure], Field(min_length=1), BeforeValidator(_one_as_list)]
    sigma: Annotated[float | list[float], BeforeValidator(_sigmas)] | None = None
    window: int | None = None
    stride: int | None = None
    contrast_floor: float | None = None
    significance: bool = True
    mask: FilePath | None = None
    nodata: float | None = None
    min_count: Annotated[float, Field(ge=0)] | None = None
    against: Names | None = None
    detrend: Literal["none", "plane", "quadratic"] = "none"
    n_shifts: Annotated[int, Field(ge=0)] = 0
    shift_seed: Annotated[int, Field(ge=0)] = 0
    coarsen: Annotated[int, Field(ge=1, le=512)] = 1
    plan_only: bool = False


class Rank(Step):
    """The pairs of a result, most similar first."""

    command = "rank"

    result: FilePath
    by: str | None = None
    order: Literal["value", "z"] = "value"
    sigma: float | None = None
    top: Annotated[int, Field(ge=1)] | None = None
    bottom: Annotated[int, Field(ge=1)] | None = None
    against: Names | None = None
    output: FilePath | None = None


class Clusters(Step):
    """Groups of channels that are alike, by average linkage."""

    command = "clusters"

    result: FilePath
    by: str | None = None
    sigma: float | None = None
    clusters: Annotated[int, Field(ge=1)] | None = None
    threshold: float | None = None
    output: FilePath | None = None


class Report(Step):
    """A result as one HTML file."""

    command = "report"

    result: FilePath
    output: FilePath
    by: str | None = None
    stack: FilePath | None = None


COMMANDS: dict[str, type[Step]] = {
    step.command: step
    for step in (
        Ingest,
        Simulate,
        Register,
        NCC,
        SSIM,
        Blur,
        LBP,
        Displacement,
        Pairs,
        Rank,
        Clusters,
        Report,
    )
}


class Job(Settings):
    """A job file: settings and steps, carried out in the order they are written in."""

    steps: tuple[Step, ...] = Field(min_length=1)
