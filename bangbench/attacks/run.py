"""`attack`: from a spec to one record per attack on disk."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bangbench.attacks.asked import attacks_asked, check_attacks
from bangbench.attacks.base import Attack
from bangbench.attacks.budgets import budgets_in_grey_levels
from bangbench.attacks.chunk import Target, attack_chunk
from bangbench.attacks.examples import FlippedImages, choose_examples
from bangbench.attacks.expected import JUDGING_PASSES, expected, told_of_passes
from bangbench.attacks.opened import Opened, open_source_model, open_with_images
from bangbench.attacks.rows import joined_columns, parquet_columns, schema_of, summarise
from bangbench.attacks.spec import AttackSpec
from bangbench.core.device import cpu_threads
from bangbench.core.errors import BenchError
from bangbench.core.executor import chosen_executor
from bangbench.core.executor_choice import placed
from bangbench.core.locks import folder_lock
from bangbench.core.progress import SILENT, Progress
from bangbench.core.provenance import collect_provenance
from bangbench.core.shares import Share, Work, processes_for, share_out
from bangbench.core.spec import fingerprint_of
from bangbench.metrics.checks import check_channels, check_size
from bangbench.metrics.pass_score import PassPool
from bangbench.nets.classifier import Classifier
from bangbench.nets.models import Model
from bangbench.nets.predict import to_device
from bangbench.store.chunks import Chunks
from bangbench.store.examples import examples_file, write_examples
from bangbench.store.files import check_writable, write_bytes
from bangbench.store.layout import results_folder
from bangbench.store.records import AttackRecord, write_record
from bangbench.store.reuse import finished_record
from bangbench.store.tables import write_table

#: Images per chunk: the unit of resuming. Fixed, so that it cannot change a result.
CHUNK = 500

#: What a chunk's file holds, counted up with every change: chunks of another format are computed again.
CHUNK_FORMAT = 3

#: Counted up whenever the search, the scores or the rows of every attack could come out otherwise: what an earlier
#: engine left is not used.
ENGINE = 2

#: What --save-images keeps beside the images, and the column that it comes from.
_KEPT = {"index": "index", "label": "label", "prediction": "adversarial_prediction"}

#: Images that are attacked sooner in this process than others, which take seconds, are started.
_IN_PROCESS_IMAGES = 5000


class Run(NamedTuple):
    """One attack of a spec on an opened model: its name, what it needs, and the settings that its record keeps."""

    spec: AttackSpec
    opened: Opened
    name: str
    target: Target
    settings: dict[str, Any]

    @property
    def key(self) -> str:
        """Return the hash that tells whether two runs are the same one."""
        inputs = {**self.opened.model.identity(), "images": self.opened.info.fingerprint}
        return fingerprint_of({**self.settings, **inputs})

    @property
    def record_path(self) -> Path:
        """Return the attack's record; its other files lie beside it."""
        return results_folder(self.spec.root, self.opened.model.name) / f"{self.name}.json"


class Opening(NamedTuple):
    """What another process needs to work on one attack: the spec of that attack alone, and where its chunks go."""

    spec: AttackSpec
    chunks: Chunks


def attack(spec: AttackSpec, progress: Progress = SILENT) -> list[AttackRecord]:
    """Run the attacks of `spec` on one model, go on with them, or return them if they are there.

    Raises `UsageError` for unknown names, `BenchError` for a model or data that cannot be used and for results of
    other settings in the way.
    """
    check_attacks(spec)
    with PassPool(spec.workers) as pool:
        runs = plan_attacks(spec, pool, progress)
        folder = runs[0].record_path.parent
        with folder_lock(folder, spec.patience, progress), cpu_threads(spec.workers):
            finished = [_finished(run) for run in runs]
            if None not in finished:
                return [record for record in finished if record is not None]
            check_writable(folder)
            with placed(spec, spec.workers, progress):
                return [found or _run_attack(run, progress) for run, found in zip(runs, finished, strict=True)]


def plan_attacks(spec: AttackSpec, pool: PassPool | None = None, progress: Progress = SILENT) -> list[Run]:
    """Open what the attacks of `spec` need, and derive the settings and the key of each."""
    attacks, opened = attacks_asked(spec), open_with_images(spec)
    source = open_source_model(spec.against, spec, opened) if spec.against else None
    for note in opened.model.notes():
        progress.note(note)
    usable_pool = pool if _pass_is_defined(opened, progress) else None
    first = to_device(opened.data.images[:CHUNK], opened.device)
    classifier = expected(opened.model.classifier, first, spec.seed, opened.batch_size)
    if classifier is not opened.model.classifier:
        progress.note(f"{opened.model.name} {told_of_passes(classifier)}")
    return [_make_run(spec, opened, classifier, source, name, found, usable_pool) for name, found in attacks.items()]


def _pass_is_defined(opened: Opened, progress: Progress) -> bool:
    shape = opened.data.images.shape
    try:
        check_size(shape)
        check_channels(shape[1])
    except BenchError as error:
        progress.note(f"PASS is left out: {error}")
        return False
    return True


def _make_run(
    spec: AttackSpec,
    opened: Opened,
    classifier: Classifier,
    source: Model | None,
    name: str,
    found: Attack,
    pool: PassPool | None,
) -> Run:
    budgets = budgets_in_grey_levels(spec.budget, opened.data.images.shape[1]) if found.bounded else ()
    copied = source if "source" in found.needs else None
    target = Target(
        classifier,
        found,
        name,
        opened.batch_size,
        pool,
        spec.seed,
        budgets,
        copied.classifier if copied else None,
    )
    settings = spec.settings() | {"attack": name, "data": opened.info.source, "engine": ENGINE}
    settings |= {"version": found.version, "attack_settings": found.settings.model_dump(mode="json")}
    settings |= opened.model.own_net("net")
    if classifier.draws > 1:
        settings |= {"passes": classifier.draws, "judging_passes": JUDGING_PASSES}
    if budgets:
        settings |= {"budget": list(budgets)}
    if copied is not None:
        settings |= {"against": copied.name, "against_identity": copied.identity()} | copied.own_net("against_net")
    return Run(spec, opened, name, target, settings)


def _finished(run: Run) -> AttackRecord | None:
    """Return the record of a run that is done with its files; `BenchError` where another is in its way."""
    spec, path = run.spec, run.record_path
    finished = finished_record(path, AttackRecord, run.key, run.settings, spec.overwrite)
    whole = all(file.is_file() for file in _vouched_for(path, spec.save_images))
    return finished if finished is not None and whole else None


def _run_attack(run: Run, progress: Progress) -> AttackRecord:
    path = run.record_path
    record = AttackRecord(
        schema=1,
        status="started",
        key=run.key,
        spec=run.settings,
        provenance=collect_provenance(run.opened.device_name),
        attack=run.name,
        model=run.opened.model.info,
        data=run.opened.info,
    )
    write_record(path, record)
    for file in (*_vouched_for(path, save_images=True), examples_file(path)):
        file.unlink(missing_ok=True)  # what an overwritten run left belongs to other rows
    chunks = Chunks(path.parent / f".chunks-{run.name}", fingerprint_of({"run": run.key, "format": CHUNK_FORMAT}))
    _attack_chunks(run, chunks, progress)
    return _complete(run, record, chunks)


def _vouched_for(path: Path, save_images: bool) -> list[Path]:
    """Return the files without which the finished record at `path` is not enough; it may have no examples."""
    return [path.with_suffix(suffix) for suffix in ((".parquet", ".npz") if save_images else (".parquet",))]


def _attack_chunks(run: Run, chunks: Chunks, progress: Progress) -> None:
    """Attack the chunks that are not there yet, in processes of their own where that is worth it."""
    count = len(run.opened.data.images)
    pending = tuple(number for number in range(len(range(0, count, CHUNK))) if not chunks.done(number))
    device = run.opened.device.type
    # beside a GPU of this process they are the threads of PASS
    asked = run.spec.workers if device == "cpu" or chosen_executor() is not None else 1
    processes = processes_for(len(pending), len(pending) * CHUNK, _IN_PROCESS_IMAGES, asked, device)
    if processes > 1:
        own = run.spec.options_of(run.name, run.target.attack.Settings.model_fields)
        option = tuple(f"{setting}={value}" for setting, value in own.items())
        opening = Opening(run.spec.model_copy(update={"attack": (run.name,), "option": option}), chunks)
        share_out(Share(open_work, opening, run.key, run.opened.model.name, pending), processes, _label(run), progress)
    else:
        _attack_pending(run, chunks, pending, progress, count)


@contextmanager
def open_work(opening: Opening) -> Iterator[Work]:
    """Open model and data of an attack in a process of its own, which computes with one thread."""
    with cpu_threads(1), PassPool(1) as pool:
        (run,) = plan_attacks(opening.spec, pool)  # silently: what there is to say has been said
        yield Work(run.key, partial(_attack_pending, run, opening.chunks))


def _attack_pending(
    run: Run, chunks: Chunks, pending: Sequence[int], progress: Progress, count: int | None = None
) -> None:
    """Attack the pending chunks; the bar counts them as the last of `count` images (None: as all of them)."""
    data = run.opened.data
    left = sum(len(data.images[_part(number)]) for number in pending)
    total = left if count is None else count
    progress.start(_label(run), total, total - left, unit="image")
    try:
        for number in pending:
            images, labels = data.images[_part(number)], data.labels[_part(number)]
            chunks.write(number, attack_chunk(run.target, images, labels, number * CHUNK))
            progress.advance(len(images))
    finally:
        progress.finish()


def _part(number: int) -> slice:
    """Return the images of one chunk."""
    return slice(number * CHUNK, (number + 1) * CHUNK)


def _label(run: Run) -> str:
    return f"{run.opened.model.name} {run.name}"


def _complete(run: Run, record: AttackRecord, chunks: Chunks) -> AttackRecord:
    """Join the chunks: write rows, examples, the images if asked for, and last the record that vouches for them."""
    path, images = run.record_path, run.opened.data.images
    flipped_images, numbers = FlippedImages(chunks), range(len(range(0, len(images), CHUNK)))
    columns, totals = joined_columns([flipped_images.columns_of(number) for number in numbers])
    write_table(path.with_suffix(".parquet"), parquet_columns(columns), schema_of(columns))
    write_examples(examples_file(path), choose_examples(columns, images, flipped_images))
    if run.spec.save_images:
        kept = {name: columns[column][columns["flipped"]] for name, column in _KEPT.items()}
        adversarial = flipped_images[np.arange(len(kept["index"]))]
        write_bytes(path.with_suffix(".npz"), _npz(**kept, original=images[kept["index"]], adversarial=adversarial))
    summary = summarise(columns, int(totals["unverified"]), int(totals["forwards"]), float(totals["seconds"]))
    done = record.model_copy(update={"status": "done", "summary": summary})
    write_record(path, done)
    chunks.clear()
    return done


def _npz(**arrays: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()
