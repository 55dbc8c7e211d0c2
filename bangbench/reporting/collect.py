"""Find the records under results/ and read them; what cannot be read is named, never guessed at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bangbench.core.errors import BenchError, unknown_name
from bangbench.store.audits import AuditRecord, AuditSummary
from bangbench.store.cells import CellRecord, GridCell, GridRecord, cell_path, read_grid
from bangbench.store.examples import Examples, examples_file, read_examples
from bangbench.store.layout import AUDIT, CARD, CELL, GRID, LOG, REPORT_DOCUMENT, RESERVED, model_folder, versus_name
from bangbench.store.reading import attempt
from bangbench.store.records import (
    AttackRecord,
    AttackSummary,
    DataInfo,
    ModelCard,
    ModelInfo,
    NoiseRecord,
    NoiseSummary,
    Record,
    find_record,
    read_record,
)
from bangbench.store.tables import read_table

Content = TypeVar("Content")

_LOG_FIELDS = ("iteration", "loss", "rate", "training_accuracy", "test_accuracy")
_IMAGE_FIELDS = ("index", "attacked", "flipped", "linf", "pass", "margin", "true_logit")
#: Percentage points by which rounding may move a record's percentages from those of its counts.
_TOLERANCE = 1e-6


def folder_of(name: str) -> str:
    """Return the folder part of a name: table1 for table1/R0, nothing for R0."""
    return name.rpartition("/")[0]


def short_name(name: str) -> str:
    """Return a name without its folder: R0 for table1/R0."""
    return name.rpartition("/")[2]


class FoundAttack(NamedTuple):
    """A finished attack: the name of its results, its file and its content.

    images: the rows of ATTACK.parquet; examples: a few pictures; None where they are not there.
    """

    name: str
    path: Path
    record: AttackRecord
    summary: AttackSummary
    images: pd.DataFrame | None = None
    examples: Examples | None = None


class FoundNoise(NamedTuple):
    """A finished noise evolution.

    flipped: flipped draws of each image, int64 (models, stages, sigmas, images); None where they are not there.
    """

    name: str
    path: Path
    record: NoiseRecord
    summary: NoiseSummary
    flipped: NDArray[np.int64] | None = None

    @property
    def percent(self) -> NDArray[np.float64] | None:
        """Return the flipped draws of each image in percent, (models, stages, sigmas, images)."""
        return None if self.flipped is None else 100.0 * self.flipped / cell_draws(self.summary)[..., np.newaxis]

    @property
    def title(self) -> str:
        """Return the models as a table names them: R0 vs B1; with folders where these differ."""
        names = [info.name for info in self.record.models]
        alike = len({folder_of(name) for name in names}) == 1
        return " vs ".join(map(short_name, names) if alike else names)

    @property
    def last_stage(self) -> int | None:
        """Return the iteration of the last stage; None where it is not known, as for imported weights."""
        unknown = self.summary.stages == (0,) and self.record.models[0].iterations is None
        return None if unknown else self.summary.stages[-1]


class FoundAudit(NamedTuple):
    """A finished audit: the name of its results, its file and its content."""

    name: str
    path: Path
    record: AuditRecord
    summary: AuditSummary


class FoundGrid(NamedTuple):
    """A grid, of which some models are measured: its name, what it is to have, the finished cells by their names."""

    name: str
    record: GridRecord
    cells: Mapping[str, CellRecord]

    @property
    def finished(self) -> list[tuple[GridCell, CellRecord]]:
        """Return the models that are measured, in the order of the grid."""
        return [(cell, self.cells[cell.name]) for cell in self.record.cells if cell.name in self.cells]

    @property
    def data(self) -> DataInfo:
        """Return the test images of the first model."""
        return next(record.data for _, record in self.finished if record.data is not None)


class Unfinished(NamedTuple):
    """A run without numbers yet: its results' name, ``fgs`` ..., ``noise`` or ``audit``, and its data."""

    name: str
    run: str
    data: DataInfo


class Collected(NamedTuple):
    """Everything found; `problems` has one message for each file that cannot be used.

    cards, logs: what is known of the training of the models that have results, by name, where it happened under the
    same root; logs have one row per stage.
    """

    attacks: tuple[FoundAttack, ...]
    noise: tuple[FoundNoise, ...]
    audits: tuple[FoundAudit, ...]
    cards: Mapping[str, ModelCard]
    logs: Mapping[str, pd.DataFrame]
    unfinished: tuple[Unfinished, ...]
    problems: tuple[str, ...]
    grids: tuple[FoundGrid, ...] = ()


_Found = FoundAttack | FoundNoise | FoundAudit | Unfinished


def collect(root: Path, models: tuple[str, ...]) -> Collected:
    """Read the records of `models` (empty: of everything) and of the noise evolutions among them.

    Raises `UsageError` for a name without results, with the closest one that has some, and `BenchError` where
    there are no results at all.
    """
    files, grids = _record_files(root / "results"), _grid_names(root / "results")
    if not files and not grids:
        raise BenchError(
            f"{root / 'results'}: found no results; measure something first, for example: bangbench attack MODEL"
        )
    for name in models:
        if name not in files and name not in grids:
            raise unknown_name("model with results", name, [*files, *grids])
    problems: list[str] = []
    chosen = ((name, path) for name, paths in files.items() if _is_wanted(name, models) for path in paths)
    records = list(_records(chosen, problems))
    noise = [found for found in records if isinstance(found, FoundNoise) and _is_among(found, models)]
    measured = [found.name for found in records if isinstance(found, FoundAttack | FoundAudit)]
    evolved = [info.name for found in noise for info in found.record.models]
    read_card = lambda name: find_record(model_folder(root, name) / CARD, ModelCard)  # noqa: E731
    return Collected(
        attacks=tuple(found for found in records if isinstance(found, FoundAttack)),
        noise=tuple(noise),
        audits=tuple(found for found in records if isinstance(found, FoundAudit)),
        cards=_of_models([*measured, *evolved], read_card, problems),
        logs=_of_models(measured, lambda name: read_training_log(root, name), problems),
        unfinished=tuple(found for found in records if isinstance(found, Unfinished)),
        grids=tuple(
            found for name in grids if not models or name in models for found in _read_grid(root, name, problems)
        ),
        problems=tuple(problems),
    )


def card_of(cards: Mapping[str, ModelCard], name: str, model: ModelInfo) -> ModelCard | None:
    """Return what is known of the training of a model; None where it was made elsewhere, or trained again since."""
    card = cards.get(name)
    if card is None or card.status != "done" or card.model.weights_sha256 != model.weights_sha256:
        return None
    return card


def cell_draws(summary: NoiseSummary) -> NDArray[np.int64]:
    """Return how many draws each image had, (models, stages, sigmas)."""
    if summary.draws_used is None:
        return np.full(np.shape(summary.flipped_percent), summary.draws)
    return np.array(summary.draws_used)


def read_training_log(root: Path, name: str) -> pd.DataFrame | None:
    """Return the log of a model trained under `root`, one row per stage; `BenchError` for a damaged one.

    Columns: iteration, loss (mean since the stage before), rate, training_accuracy, test_accuracy (percent).
    """
    path = model_folder(root, name) / LOG
    if not path.is_file():
        return None
    try:
        return pd.read_csv(path, usecols=list(_LOG_FIELDS))[list(_LOG_FIELDS)].astype(np.float64)
    except (ValueError, OSError, UnicodeDecodeError) as error:
        raise BenchError(f"{path}: not a training log ({error!r}); train the model again to have its curves") from error


def _record_files(results: Path) -> dict[str, list[Path]]:
    """Return the JSON files of each name; reserved and hidden folders, the report's document and grids hold none."""
    found: dict[str, list[Path]] = {}
    for path in sorted([*results.glob("*/*.json"), *results.glob("*/*/*.json")]):
        place = path.relative_to(results)
        hidden = any(part.startswith(".") for part in place.parts)
        if place.parts[0] not in RESERVED and path.name not in (REPORT_DOCUMENT, CELL, GRID) and not hidden:
            found.setdefault(place.parent.as_posix(), []).append(path)
    return found


def _grid_names(results: Path) -> list[str]:
    return [path.parent.name for path in sorted(results.glob(f"*/{GRID}")) if not path.parent.name.startswith(".")]


def _read_grid(root: Path, name: str, problems: list[str]) -> Iterator[FoundGrid]:
    """Yield a grid with the cells that can be used, unless it has none yet."""
    grid = attempt(Path(name), lambda _: read_grid(root, name), problems)
    found: dict[str, CellRecord] = {}
    for cell in () if grid is None else grid.cells:
        record = attempt(cell_path(root, cell.name), lambda path: find_record(path, CellRecord), problems)
        if record is not None and record.status == "done" and record.model is not None and record.data is not None:
            found[cell.name] = record
    if grid is not None and found:
        yield FoundGrid(name, grid, found)


def _is_wanted(name: str, models: tuple[str, ...]) -> bool:
    """Tell whether a folder may hold something about the models: it is one of them, or of several beside each other."""
    return not models or name in models or "-vs-" in name


def _is_among(found: FoundNoise, models: tuple[str, ...]) -> bool:
    names = {info.name for info in found.record.models}
    pairs = {versus_name(pair) for pair in permutations(models, 2)}
    return not models or names <= set(models) or found.name in {*models, *pairs}


def _records(files: Iterable[tuple[str, Path]], problems: list[str]) -> Iterator[_Found]:
    """Yield the content of every record that can be used; what is wrong with the others is added to `problems`."""
    for name, path in files:
        read: Callable[[Path], _Found] = partial(_read, name, problems)
        found: _Found | None = attempt(path, read, problems)
        if found is not None:
            yield found


def _read(name: str, problems: list[str], path: Path) -> _Found:
    kinds: dict[str, type[Record]] = {"noise.json": NoiseRecord, f"{AUDIT}.json": AuditRecord}
    record, rows = read_record(path, kinds.get(path.name, AttackRecord)), path.with_suffix(".parquet")
    if isinstance(record, AttackRecord) and record.attack != path.stem:
        raise BenchError(f"{path}: expected the record of {path.stem}, found {record.attack}; was it renamed?")
    match record:
        case AttackRecord(status="started") | NoiseRecord(status="started") | AuditRecord(status="started"):
            return Unfinished(name, path.stem, record.data)
        case AttackRecord(summary=AttackSummary() as attacked):
            images = attempt(rows, lambda rows: read_images(rows, attacked), problems)
            examples = attempt(examples_file(path), read_examples, problems)
            return FoundAttack(name, path, record, attacked, images, examples)
        case NoiseRecord(summary=NoiseSummary() as noise):
            _check_surfaces(path, noise)
            return FoundNoise(
                name, path, record, noise, attempt(rows, lambda rows: _read_counts(rows, noise), problems)
            )
        case AuditRecord(summary=AuditSummary() as audited):
            _check_counts(path, audited)
            return FoundAudit(name, path, record, audited)
    raise BenchError(f"{path}: the run is marked done but has no summary; measure it again")


def _of_models(names: Iterable[str], read: Callable[[str], Content | None], problems: list[str]) -> dict[str, Content]:
    """Return what `read` finds for each model, by name; what is wrong with a file is added to `problems`."""
    contents: dict[str, Content] = {}
    for name in dict.fromkeys(names):
        content = attempt(Path("models") / name, lambda path: read(path.relative_to("models").as_posix()), problems)
        if content is not None:
            contents[name] = content
    return contents


def read_images(path: Path, summary: AttackSummary) -> pd.DataFrame | None:
    """Return the rows of ATTACK.parquet, one per test image, or None where there is no such file.

    Raises `BenchError` for a file that is damaged, lacks a column, or does not belong to the record beside it.
    """
    if not path.exists():
        return None
    frame = _frame(path, _IMAGE_FIELDS)
    found = len(frame), int(frame["attacked"].sum()), int(frame["flipped"].sum())
    expected = summary.images, summary.correct, summary.flipped
    if found != expected:
        raise BenchError(
            f"{path}: expected (images, correct, flipped) {expected} as in the record beside it, found {found}; "
            "make the measurement again"
        )
    return frame


def _read_counts(path: Path, summary: NoiseSummary) -> NDArray[np.int64] | None:
    """Return the counts in noise.parquet, (models, stages, sigmas, images); errors as `read_images`."""
    if not path.exists():
        return None
    frame = _frame(path, ("flipped",))
    shape = (len(summary.flipped_percent), len(summary.stages), len(summary.sigmas), summary.images)
    if len(frame) != np.prod(shape):
        raise BenchError(
            f"{path}: expected {np.prod(shape):,} rows for the record beside it, found {len(frame):,}; "
            "make the measurement again"
        )
    flipped: NDArray[np.int64] = frame["flipped"].to_numpy(np.int64).reshape(shape)
    found = 100.0 * flipped.sum(axis=-1) / (summary.images * cell_draws(summary))
    expected = np.array(summary.flipped_percent)
    wrong = np.argwhere(np.abs(found - expected) > _TOLERANCE)
    if len(wrong):
        model, stage, sigma = place = tuple(wrong[0])
        raise BenchError(
            f"{path}: does not belong to the record beside it: expected {expected[place]:.4f} % flipped of model "
            f"{model + 1} at stage {summary.stages[stage]} and sigma {summary.sigmas[sigma]:g}, found "
            f"{found[place]:.4f} %; make the measurement again"
        )
    return flipped


def _frame(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    frame: Any = read_table(path).to_pandas()
    for name in columns:
        if name not in frame.columns:
            raise BenchError(f"{path}: expected a column '{name}', found {', '.join(frame.columns)}; measure it again")
    return frame


def _check_counts(path: Path, summary: AuditSummary) -> None:
    """Raise `BenchError` unless no attack flips more images than are correct, and no more are than there are."""
    counts = [count for rates in summary.budgets for count in (rates.worst_case, *rates.flipped.values())]
    if not 0 <= summary.correct <= summary.images or not all(0 <= count <= summary.correct for count in counts):
        raise BenchError(
            f"{path}: expected at most {summary.correct:,} flipped of {summary.images:,} images, of which so many are "
            f"correct, found {max(counts, default=0):,}; audit it again"
        )


def _check_surfaces(path: Path, summary: NoiseSummary) -> None:
    """Raise `BenchError` unless every model has a number for each stage and sigma."""
    shape = (len(summary.stages), len(summary.sigmas))
    if not summary.images_per_class:
        raise BenchError(f"{path}: expected the number of images of each class, found none; measure it again")
    for surface in summary.flipped_percent:
        if 0 in shape or len(surface) != shape[0] or {len(line) for line in surface} != {shape[1]}:
            raise BenchError(
                f"{path}: expected percentages for {shape[0]} stages x {shape[1]} sigmas (1 x 1 at least), found "
                "another number of them; measure it again"
            )
