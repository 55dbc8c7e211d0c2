"""`attack`: from a spec to one record per attack on disk."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bangbench.attacks.base import ATTACKS
from bangbench.attacks.chunk import Target, attack_chunk
from bangbench.attacks.examples import choose_examples
from bangbench.attacks.rows import SCHEMA, parquet_columns, summarise
from bangbench.attacks.spec import AttackSpec
from bangbench.core.device import choose_device, cpu_threads, describe_device
from bangbench.core.errors import BenchError, UsageError
from bangbench.core.progress import SILENT, Progress
from bangbench.core.provenance import collect_provenance
from bangbench.core.spec import fingerprint_of
from bangbench.data.dataset import Dataset, data_info
from bangbench.data.sources import open_source
from bangbench.metrics.checks import check_channels, check_size
from bangbench.metrics.pass_score import PassPool
from bangbench.nets.models import Given, Model, open_model
from bangbench.nets.predict import batch_size_for
from bangbench.store.chunks import Chunks
from bangbench.store.examples import examples_file, write_examples
from bangbench.store.files import check_writable, write_bytes
from bangbench.store.layout import results_folder
from bangbench.store.records import AttackRecord, DataInfo, Preprocessing, write_record
from bangbench.store.reuse import finished_record
from bangbench.store.tables import write_table

#: Images per chunk: the unit of resuming. Fixed, so that it cannot change a result.
CHUNK = 500

#: What a chunk's file holds, counted up with every change: chunks of another format are computed again.
CHUNK_FORMAT = 2

#: Columns of a chunk that are totals, not one value per image.
_TOTALS = ("unverified", "forwards", "seconds")


class Opened(NamedTuple):
    """A model with the images it is attacked on."""

    spec: AttackSpec
    model: Model
    data: Dataset
    info: DataInfo
    device: str
    batch_size: int


def attack(spec: AttackSpec, progress: Progress = SILENT) -> list[AttackRecord]:
    """Run the attacks of `spec` on one model, go on with them, or return them if they are there.

    Raises `UsageError` for unknown names, `BenchError` for a model or data that cannot be used and for results of
    other settings in the way.
    """
    for name in spec.attack:
        ATTACKS.check(name)
    opened = _open(spec)
    check_writable(results_folder(spec.root, opened.model.name))
    with cpu_threads(spec.workers), PassPool(spec.workers) as pool:
        usable_pool = pool if _pass_is_defined(opened, progress) else None
        return [_run_attack(opened, name, usable_pool, progress) for name in spec.attack]


def _open(spec: AttackSpec) -> Opened:
    device = choose_device(spec.device)
    given = spec.model_dump(include={"input_scale", "mean", "std"}, exclude_none=True)
    if (given or spec.weights) and ":" not in spec.model:
        raise UsageError("--weights, --input-scale, --mean and --std go with a module:factory model only")
    extra = Given(spec.weights, Preprocessing(**given))
    model = open_model(spec.model, spec.root, device, spec.data_dir, spec.data, extra)
    text = spec.data or model.data
    if text is None:
        raise UsageError(f"model '{spec.model}' does not say which images it takes: add --data")
    source = open_source(text, spec.data_dir)
    data = source.load("test").first(spec.limit)
    _check_fit(model, data, source.name)
    info = data_info(data, source.name, text)
    return Opened(spec, model, data, info, describe_device(device), spec.batch_size or batch_size_for(device))


def _check_fit(model: Model, data: Dataset, name: str) -> None:
    if data.images.shape[1:] != model.info.input_shape:
        raise BenchError(
            f"model '{model.name}' takes images {model.info.input_shape}, {name} has {data.images.shape[1:]}; "
            "choose the data it was trained on with --data"
        )
    if len(data.class_names) != model.info.classes:
        raise BenchError(f"model '{model.name}' has {model.info.classes} classes, {name} has {len(data.class_names)}")


def _pass_is_defined(opened: Opened, progress: Progress) -> bool:
    shape = opened.data.images.shape
    try:
        check_size(shape)
        check_channels(shape[1])
    except BenchError as error:
        progress.note(f"PASS is left out: {error}")
        return False
    return True


def _run_attack(opened: Opened, name: str, pool: PassPool | None, progress: Progress) -> AttackRecord:
    spec, folder = opened.spec, results_folder(opened.spec.root, opened.model.name)
    settings = spec.settings() | {"attack": name, "data": opened.info.source}
    key = fingerprint_of({**settings, "weights": opened.model.info.weights_sha256, "images": opened.info.fingerprint})
    path = folder / f"{name}.json"
    finished = finished_record(path, AttackRecord, key, settings, spec.overwrite)
    if finished is not None and all(file.is_file() for file in _vouched_for(path, spec.save_images)):
        return finished
    record = AttackRecord(
        schema=1,
        status="started",
        key=key,
        spec=settings,
        provenance=collect_provenance(opened.device),
        attack=name,
        model=opened.model.info,
        data=opened.info,
    )
    write_record(path, record)
    for file in (*_vouched_for(path, save_images=True), examples_file(path)):
        file.unlink(missing_ok=True)  # what an overwritten run left belongs to other rows
    chunks = Chunks(folder / f".chunks-{name}", fingerprint_of({"run": key, "format": CHUNK_FORMAT}))
    target = Target(opened.model.classifier, ATTACKS.load(name), opened.batch_size, pool)
    _attack_chunks(opened, target, chunks, f"{opened.model.name} {name}", progress)
    return _complete(opened, record, path, chunks)


def _vouched_for(path: Path, save_images: bool) -> list[Path]:
    """Return the files without which the finished record at `path` is not enough; it may have no examples."""
    return [path.with_suffix(suffix) for suffix in ((".parquet", ".npz") if save_images else (".parquet",))]


def _attack_chunks(opened: Opened, target: Target, chunks: Chunks, label: str, progress: Progress) -> None:
    count = len(opened.data.images)
    starts = range(0, count, CHUNK)
    finished = {number for number in range(len(starts)) if chunks.done(number)}
    done = sum(min(CHUNK, count - starts[number]) for number in finished)
    progress.start(label, count, done, unit="image")
    try:
        for number, start in enumerate(starts):
            if number not in finished:
                part = slice(start, start + CHUNK)
                images, labels = opened.data.images[part], opened.data.labels[part]
                chunks.write(number, attack_chunk(target, images, labels, start))
                progress.advance(len(images))
    finally:
        progress.finish()


def _complete(opened: Opened, record: AttackRecord, path: Path, chunks: Chunks) -> AttackRecord:
    """Join the chunks: write rows, examples, the images if asked for, and last the record that vouches for them."""
    columns = _joined(chunks, len(opened.data.images))
    totals = {name: columns.pop(name).sum() for name in _TOTALS}
    adversarial = columns.pop("adversarial")
    write_table(path.with_suffix(".parquet"), parquet_columns(columns), SCHEMA)
    write_examples(examples_file(path), choose_examples(columns, opened.data.images, adversarial))
    if opened.spec.save_images:
        index = columns["index"][columns["flipped"]]
        write_bytes(path.with_suffix(".npz"), _npz(index=index, adversarial=adversarial))
    summary = summarise(columns, int(totals["unverified"]), int(totals["forwards"]), float(totals["seconds"]))
    done = record.model_copy(update={"status": "done", "summary": summary})
    write_record(path, done)
    chunks.clear()
    return done


def _joined(chunks: Chunks, count: int) -> dict[str, NDArray[Any]]:
    parts = [chunks.read(number) for number in range(len(range(0, count, CHUNK)))]
    return {name: np.concatenate([np.atleast_1d(part[name]) for part in parts]) for name in parts[0]}


def _npz(**arrays: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()
