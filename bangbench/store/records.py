"""The typed records: one JSON file for a model, an attack on a model, a noise evolution."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from bangbench.core.errors import BenchError
from bangbench.core.provenance import Provenance
from bangbench.core.validation import first_problem
from bangbench.store.files import read_file, write_json

SCHEMA = 1

_HALF_LETTER = re.compile(rb"\\u[dD][89a-fA-F]")
#: Bytes and levels of a record at most.
_MOST_BYTES, _DEEPEST = 16 << 20, 64

Status = Literal["started", "done"]

#: What a number of a record can be; `read_record` lets no NaN and no infinity through anywhere.
Percent = Annotated[float, Field(ge=0.0, le=100.0)]
Count = Annotated[int, Field(ge=0)]
#: A name in tables: one line, whatever they are written in.
Name = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f\u2028\u2029]*$", max_length=1000)]
Side = Annotated[int, Field(ge=1, le=65_536)]
Level = Annotated[float, Field(ge=0.0, le=255.0)]


class Record(BaseModel):
    """Base of all records. A record is written as "started" before work begins and completed at its end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = Field(SCHEMA, alias="schema")
    status: Status
    key: str
    spec: dict[str, Any]
    provenance: Provenance


class DataInfo(BaseModel):
    """The images a number was measured on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    source: Name
    fingerprint: str
    images: Count
    class_names: tuple[Name, ...]


class Preprocessing(BaseModel):
    """How grey levels x become the net's input: (x / input_scale - mean) / std.

    mean and std are per channel, in units of x / input_scale; `mean_image` says that the mean is an image instead,
    kept in preprocessing.safetensors.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_scale: float = 255.0
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    mean_image: bool = False


class ModelInfo(BaseModel):
    """What is known of a model: enough for a table row, copied into every record about the model.

    transformed: the method changed the net for good, and is needed to open the model. weights_sha256, code_sha256,
    behaviour: what it is: its weights, the source of its net where that is not the
    bench's own, and its logits on fixed images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    net: Name
    parameters: Count
    classes: Annotated[int, Field(ge=1, le=65_536)]
    input_shape: tuple[Side, Side, Side]
    preprocessing: Preprocessing
    method: str | None = None
    method_settings: Mapping[str, JsonValue] = {}
    seed: int | None = None
    iterations: int | None = None
    data: str | None = None
    published: str | None = None
    transformed: bool = False
    weights_sha256: str | None = None
    code_sha256: str | None = None
    behaviour: str | None = None

    def method_number(self, name: str) -> float | None:
        """Return a setting of the method that is a number, such as BANG's beta; None where there is none."""
        value = self.method_settings.get(name)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def method_identity(self) -> tuple[tuple[str, Hashable], ...]:
        """Return the settings of the method in a form that is the same for the same settings, and can be a key."""
        return tuple((name, _hashable(self.method_settings[name])) for name in sorted(self.method_settings))

    def method_text(self) -> dict[str, str]:
        """Return the settings of the method by name, as a table shows them."""
        return {name: _setting_text(value) for name, value in self.method_settings.items()}


def _hashable(value: JsonValue) -> Hashable:
    if isinstance(value, dict):
        return tuple((name, _hashable(value[name])) for name in sorted(value))
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


def _setting_text(value: JsonValue) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


class ModelCard(Record):
    """models/NAME/model.json; paper: where the method is published; notes: what the training had to say."""

    kind: Literal["model"] = "model"
    model: ModelInfo
    train_data: DataInfo
    paper: str | None = None
    stages: tuple[int, ...] = ()
    train_accuracy: Percent | None = None
    accuracy: Percent | None = None
    seconds: float | None = None
    notes: tuple[str, ...] = ()


class Moments(BaseModel):
    """Mean and population standard deviation over the flipped images; None where nothing flipped."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float | None
    std: float | None


class LinfSummary(Moments):
    """L_inf over flipped images (grey levels), and the median with failures as infinite (None: infinite)."""

    median_censored: Level | None


class AttackSummary(BaseModel):
    """The numbers of one attack on one model, in percent and grey levels (protocol section 8)."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    accuracy: Percent
    images: Count
    correct: Count
    flipped: Count
    rate: Percent | None
    rate_interval: tuple[Percent, Percent] | None
    blank: Percent | None
    linf: LinfSummary
    l2: Moments
    pass_definition: Moments = Field(alias="pass")
    pass_paper: Moments
    unaligned: Moments
    ecc_failures: dict[str, Count]
    unverified: Count
    forwards: Count
    seconds: float

    @model_validator(mode="after")
    def _whole(self) -> AttackSummary:
        """Refuse more flipped images than are correct, and more correct ones than there are."""
        if not self.flipped <= self.correct <= self.images:
            raise ValueError(
                f"expected flipped <= correct <= images, found {self.flipped}, {self.correct} and {self.images}"
            )
        return self


class AttackRecord(Record):
    """results/NAME/ATTACK.json, beside ATTACK.parquet with one row per image."""

    kind: Literal["attack"] = "attack"
    attack: str
    model: ModelInfo
    data: DataInfo
    summary: AttackSummary | None = None


#: One number, or whatever else it is, for each model, stage and sigma.
Percents = tuple[tuple[tuple[Percent, ...], ...], ...]
Draws = tuple[tuple[tuple[int, ...], ...], ...]
Intervals = tuple[tuple[tuple[tuple[float, float], ...], ...], ...]


class NoiseSummary(BaseModel):
    """Flipped draws in percent, [model][stage][sigma] in the order of the record's models, and the images per class.

    With a precision (percentage points), drawing stops for a cell once its interval is narrower: `draws` is then the
    most that an image can have, `draws_used` what it had, [model][stage][sigma], and `flipped_interval` (low, high) in
    percent, at a level for all cells together. In a reduced arithmetic, `compared` copies were predicted in float32 as
    well, and `differing` of them are flipped in one arithmetic and not in the other. A field that does not apply is not
    written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stages: tuple[int, ...]
    sigmas: tuple[float, ...]
    draws: int
    images: Count
    images_per_class: tuple[Count, ...]
    flipped_percent: Percents
    forwards: int
    seconds: float
    precision: float | None = None
    draws_used: Draws | None = None
    flipped_interval: Intervals | None = None
    arithmetic: str | None = None
    compared: int | None = None
    differing: int | None = None

    @model_validator(mode="after")
    def _whole(self) -> NoiseSummary:
        """Refuse a record of which only a part is there."""
        for names in (("precision", "draws_used", "flipped_interval"), ("arithmetic", "compared", "differing")):
            lacking = [name for name in names if getattr(self, name) is None]
            if 0 < len(lacking) < len(names):
                raise ValueError(f"expected {', '.join(names)} together, found no {', '.join(lacking)}")
        for surfaces in (self.draws_used, self.flipped_interval):
            if surfaces is not None and not self._fits(surfaces):
                raise ValueError("expected draws and intervals for every model, stage and sigma, found others")
        taken = [draws for rows in self.draws_used or () for row in rows for draws in row]
        if any(not 1 <= draws <= self.draws for draws in taken):
            raise ValueError(f"expected 1 to {self.draws} draws in every cell, found {min(taken)} to {max(taken)}")
        return self

    def _fits(self, surfaces: Sequence[Sequence[Sequence[object]]]) -> bool:
        return len(surfaces) == len(self.flipped_percent) and all(
            len(surface) == len(self.stages) and all(len(row) == len(self.sigmas) for row in surface)
            for surface in surfaces
        )

    @model_serializer(mode="wrap")
    def _without_what_does_not_apply(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        later = {name for name, field in type(self).model_fields.items() if not field.is_required()}
        return {name: value for name, value in plain(self).items() if value is not None or name not in later}


class NoiseRecord(Record):
    """results/NAMES/noise.json, beside noise.parquet with one row per (model, stage, sigma, image).

    models: of different names, by which the table calls them; the first is the reference that the others are held to.
    """

    kind: Literal["noise"] = "noise"
    models: tuple[ModelInfo, ...] = Field(min_length=1)
    data: DataInfo
    summary: NoiseSummary | None = None

    @model_validator(mode="after")
    def _as_many(self) -> NoiseRecord:
        found = len(self.models) if self.summary is None else len(self.summary.flipped_percent)
        if found != len(self.models):
            raise ValueError(f"expected percentages of {len(self.models)} models, found {found}")
        return self


AnyRecord = TypeVar("AnyRecord", bound=Record)


def write_record(path: Path, record: Record) -> None:
    """Write a record to `path`, atomically."""
    write_json(path, record.model_dump(mode="json", by_alias=True))


def read_record(path: Path, kind: type[AnyRecord]) -> AnyRecord:
    """Read a record of one kind; `BenchError` names the file and says what is wrong with it."""
    value = read_json(path)
    found = value.get("schema")
    if found != SCHEMA:
        raise BenchError(f"{path}: record of schema {found}, this bangbench reads schema {SCHEMA}; measure it again")
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        place, problem = first_problem(error)
        raise BenchError(f"{path}: not a {kind.__name__}: {'.'.join(place)}: {problem}") from error


def find_record(path: Path, kind: type[AnyRecord]) -> AnyRecord | None:
    """Return the record at `path`, or None where there is none."""
    return read_record(path, kind) if path.exists() else None


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file of at most 16 MiB, nested 64 deep, of finite numbers; `BenchError` otherwise."""
    content = read_file(path, _MOST_BYTES)
    try:
        value = json.loads(content.decode(), parse_float=_finite, parse_constant=_finite, parse_int=_whole)
        if _HALF_LETTER.search(content):
            json.dumps(value, ensure_ascii=False).encode()  # halves that make no letter can be written nowhere
    except (ValueError, RecursionError) as error:
        raise BenchError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise BenchError(f"{path}: expected a JSON object, found {type(value).__name__}")
    _check_depth(path, value)
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"expected finite numbers, found {text[:40]}")
    return value


def _whole(text: str) -> int:
    value = int(text)
    if not -(1 << 64) < value < 1 << 64:
        raise ValueError(f"expected whole numbers of 64 bits, found {text[:40]}")
    return value


def _check_depth(path: Path, value: JsonValue) -> None:
    """Raise `BenchError` for values nested deeper than any record: whoever walks them would exhaust the stack."""
    level: list[Any] = [value]
    for _ in range(_DEEPEST):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise BenchError(f"{path}: expected values nested at most {_DEEPEST} deep, found more; this is no record")


def _inside(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
