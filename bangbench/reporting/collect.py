"""Find the records under results/ and read them; what cannot be read is named, never guessed at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import NamedTuple, TypeVar

from bangbench.core.errors import BenchError, unknown_name
from bangbench.reporting.per_image import AttackRows, NoiseRows, read_attack_rows, read_noise_rows
from bangbench.reporting.training_log import TrainingLog, read_training_log
from bangbench.store.audits import AuditRecord, AuditSummary
from bangbench.store.examples import Examples, examples_file, read_examples
from bangbench.store.layout import AUDIT, CARD, CELL, GRID, REPORT_DOCUMENT, RESERVED, model_folder, versus_name
from bangbench.store.reading import attempt
from bangbench.store.records import (
    AttackRecord,
    AttackSummary,
    DataInfo,
    ModelCard,
    ModelInfo,
    NoiseRecord,
    NoiseSummary,
    find_record,
    read_record,
)

_NOISE_FILE = "noise.json"

Content = TypeVar("Content")


class FoundAttack(NamedTuple):
    """A finished attack: the name of its results, its file and its content.

    rows: its single images, from ATTACK.parquet; examples: a few of their pictures; None where they are not there.
    """

    name: str
    path: Path
    record: AttackRecord
    summary: AttackSummary
    rows: AttackRows | None = None
    examples: Examples | None = None


class FoundNoise(NamedTuple):
    """A finished noise evolution: the name of its results, its file, its content and its single images, if there.

    cards: of the regular and the BANG model, as `card_of` finds them.
    """

    name: str
    path: Path
    record: NoiseRecord
    summary: NoiseSummary
    rows: NoiseRows | None = None
    cards: tuple[ModelCard | None, ModelCard | None] = (None, None)


class FoundAudit(NamedTuple):
    """A finished audit: the name of its results, its file and its content."""

    name: str
    path: Path
    record: AuditRecord
    summary: AuditSummary


class Unfinished(NamedTuple):
    """A run without numbers yet: its results' name, ``fgs`` ..., ``noise`` or ``audit``, and its data."""

    name: str
    run: str
    data: DataInfo


_Found = FoundAttack | FoundNoise | FoundAudit | Unfinished


class Collected(NamedTuple):
    """Everything found; `problems` has one message for each file that cannot be used.

    cards, logs: what is known of the training of the models that have results, by name, where it happened under the
    same root; logs only of those attacked or audited.
    """

    attacks: tuple[FoundAttack, ...]
    noise: tuple[FoundNoise, ...]
    audits: tuple[FoundAudit, ...]
    cards: Mapping[str, ModelCard]
    logs: Mapping[str, TrainingLog]
    unfinished: tuple[Unfinished, ...]
    problems: tuple[str, ...]


def collect(root: Path, models: tuple[str, ...]) -> Collected:
    """Read the records of `models` (empty: of everything) and of the pairs among them.

    Raises `UsageError` for a name without results, with the closest one that has some, and `BenchError` where
    there are no results at all.
    """
    files = _record_files(root / "results")
    if not files:
        raise BenchError(
            f"{root / 'results'}: found no results; measure something first, for example: bangbench attack MODEL"
        )
    for name in models:
        if name not in files:
            raise unknown_name("model with results", name, files)
    wanted = _with_pairs(models) if models else set(files)
    chosen = [(name, path) for name, paths in files.items() if name in wanted for path in paths]
    problems: list[str] = []
    records = list(_records(chosen, problems))
    attacks = tuple(_with_images(record, problems) for record in records if isinstance(record, FoundAttack))
    audits = tuple(record for record in records if isinstance(record, FoundAudit))
    evolutions = [
        pair for record in records if isinstance(record, FoundNoise) for pair in _pairs(_with_counts(record, problems))
    ]
    measured = [found.name for found in attacks] + [found.name for found in audits]
    evolved = [info.name for found in evolutions for info in found.record.models]
    cards = _of_models(
        [*measured, *evolved], lambda name: find_record(model_folder(root, name) / CARD, ModelCard), problems
    )
    return Collected(
        attacks=attacks,
        noise=tuple(_with_cards(found, cards) for found in evolutions),
        audits=audits,
        cards=cards,
        logs=_of_models(measured, lambda name: read_training_log(root, name), problems),
        unfinished=tuple(record for record in records if isinstance(record, Unfinished)),
        problems=tuple(problems),
    )


def card_of(cards: Mapping[str, ModelCard], name: str, model: ModelInfo) -> ModelCard | None:
    """Return what is known of the training of a model; None where it was made elsewhere, or trained again since."""
    card = cards.get(name)
    if card is None or card.status != "done" or card.model.weights_sha256 != model.weights_sha256:
        return None
    return card


def _record_files(results: Path) -> dict[str, list[Path]]:
    """Return the JSON files of each name; reserved and hidden folders, the report's document and grids hold none."""
    found: dict[str, list[Path]] = {}
    for path in sorted([*results.glob("*/*.json"), *results.glob("*/*/*.json")]):
        place = path.relative_to(results)
        if (
            place.parts[0] in RESERVED
            or path.name in (REPORT_DOCUMENT, CELL, GRID)
            or any(part.startswith(".") for part in place.parts)
        ):
            continue
        found.setdefault(place.parent.as_posix(), []).append(path)
    return found


def _with_pairs(models: tuple[str, ...]) -> set[str]:
    return {*models, *(versus_name(pair) for pair in permutations(models, 2))}


def _records(files: list[tuple[str, Path]], problems: list[str]) -> Iterator[_Found]:
    """Yield the content of every record that can be used; what is wrong with the others is added to `problems`."""
    readers: dict[str, Callable[[str, Path], _Found]] = {_NOISE_FILE: _read_noise, f"{AUDIT}.json": _read_audit}
    for name, path in files:
        read: Callable[[Path], _Found] = partial(readers.get(path.name, _read_attack), name)
        found: _Found | None = attempt(path, read, problems)
        if found is not None:
            yield found


def _with_images(found: FoundAttack, problems: list[str]) -> FoundAttack:
    """Return an attack with its single images and examples; a damaged file of them is named and left out."""
    rows = attempt(found.path.with_suffix(".parquet"), lambda path: read_attack_rows(path, found.summary), problems)
    return found._replace(rows=rows, examples=attempt(examples_file(found.path), read_examples, problems))


def _with_counts(found: FoundNoise, problems: list[str]) -> FoundNoise:
    """Return a noise evolution with its single images; a damaged file of them is named and left out."""
    path = found.path.with_suffix(".parquet")
    return found._replace(rows=attempt(path, lambda path: read_noise_rows(path, found.summary), problems))


def _pairs(found: FoundNoise) -> Iterator[FoundNoise]:
    """Yield the reference of a noise evolution beside each of its other models."""
    summary, rows = found.summary, found.rows
    for place in range(1, len(found.record.models)):
        both = [0, place]
        chosen = {
            name: tuple(values[place] for place in both)
            for name in ("flipped_percent", "draws_used", "flipped_interval")
            if (values := getattr(summary, name)) is not None
        }
        part = summary.model_copy(update=chosen)
        models = tuple(found.record.models[place] for place in both)
        yield found._replace(
            record=found.record.model_copy(update={"models": models, "summary": part}),
            summary=part,
            rows=None if rows is None else rows._replace(draws=rows.draws[both], flipped=rows.flipped[both]),
        )


def _with_cards(found: FoundNoise, cards: Mapping[str, ModelCard]) -> FoundNoise:
    """Return a noise evolution with what is known of the training of its models."""
    regular, bang = found.record.models
    return found._replace(cards=(card_of(cards, regular.name, regular), card_of(cards, bang.name, bang)))


def _of_models(names: Iterable[str], read: Callable[[str], Content | None], problems: list[str]) -> dict[str, Content]:
    """Return what `read` finds for each model, by name; what is wrong with a file is added to `problems`."""
    contents: dict[str, Content] = {}
    for name in dict.fromkeys(names):
        content = attempt(Path("models") / name, lambda path: read(path.relative_to("models").as_posix()), problems)
        if content is not None:
            contents[name] = content
    return contents


def _read_attack(name: str, path: Path) -> FoundAttack | Unfinished:
    record = read_record(path, AttackRecord)
    if record.attack != path.stem:
        raise BenchError(f"{path}: expected the record of {path.stem}, found {record.attack}; was it renamed?")
    if record.status == "started":
        return Unfinished(name, record.attack, record.data)
    if record.summary is None:
        raise _no_summary(path)
    return FoundAttack(name, path, record, record.summary)


def _read_noise(name: str, path: Path) -> FoundNoise | Unfinished:
    record = read_record(path, NoiseRecord)
    if record.status == "started":
        return Unfinished(name, "noise", record.data)
    if record.summary is None:
        raise _no_summary(path)
    _check_surfaces(path, record.summary)
    return FoundNoise(name, path, record, record.summary)


def _read_audit(name: str, path: Path) -> FoundAudit | Unfinished:
    record = read_record(path, AuditRecord)
    if record.status == "started":
        return Unfinished(name, AUDIT, record.data)
    if record.summary is None:
        raise _no_summary(path)
    _check_counts(path, record.summary)
    return FoundAudit(name, path, record, record.summary)


def _check_counts(path: Path, summary: AuditSummary) -> None:
    """Raise `BenchError` unless no attack flips more images than are correct, and no more are than there are."""
    counts = [count for rates in summary.budgets for count in (rates.worst_case, *rates.flipped.values())]
    if not 0 <= summary.correct <= summary.images or not all(0 <= count <= summary.correct for count in counts):
        raise BenchError(
            f"{path}: expected at most {summary.correct:,} flipped of {summary.images:,} images, of which so many are "
            f"correct, found {max(counts, default=0):,}; audit it again"
        )


def _no_summary(path: Path) -> BenchError:
    return BenchError(f"{path}: the run is marked done but has no summary; measure it again")


def _check_surfaces(path: Path, summary: NoiseSummary) -> None:
    """Raise `BenchError` unless every model's surface has a number for each stage and sigma."""
    stages, sigmas = len(summary.stages), len(summary.sigmas)
    if not summary.images_per_class:
        raise BenchError(f"{path}: expected the number of images of each class, found none; measure it again")
    for surface in summary.flipped_percent:
        if not stages or not sigmas or len(surface) != stages or {len(line) for line in surface} != {sigmas}:
            raise BenchError(
                f"{path}: expected percentages for {stages} stages x {sigmas} sigmas (1 x 1 at least), "
                "found another number of them; measure it again"
            )
