"""`evolve`: from a pair of models to its noise evolution on disk."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from bangbench.core.device import available_cores, choose_device, cpu_threads, describe_device
from bangbench.core.errors import BenchError, UsageError
from bangbench.core.jobs import Job, run_jobs
from bangbench.core.progress import SILENT, Progress
from bangbench.core.provenance import collect_provenance
from bangbench.core.spec import fingerprint_of
from bangbench.data.dataset import Dataset, data_info
from bangbench.data.sources import open_source
from bangbench.nets.classifier import Classifier
from bangbench.nets.models import Model, open_model
from bangbench.nets.predict import batch_size_for, predict, to_device
from bangbench.noise.count import Images, Noise, count_flips
from bangbench.noise.select import select_images
from bangbench.noise.spec import NoiseSpec
from bangbench.store.chunks import Chunks
from bangbench.store.files import check_writable
from bangbench.store.layout import pair_name, results_folder
from bangbench.store.records import DataInfo, NoiseRecord, NoiseSummary, write_record
from bangbench.store.reuse import finished_record
from bangbench.store.tables import write_table

RECORD = "noise.json"
TABLE = "noise.parquet"
CHUNKS = ".chunks-noise"

#: Images per chunk: what an interruption can lose. Independent of the batch size, so that either may change.
CHUNK_IMAGES = 10

#: Forward passes that are over sooner in this process than others, which take seconds, are started.
_IN_PROCESS_FORWARDS = 100_000

SCHEMA = pa.schema(
    [
        ("model", pa.dictionary(pa.int32(), pa.string())),
        ("stage", pa.int32()),
        ("sigma", pa.float32()),
        ("index", pa.int32()),
        ("label", pa.int16()),
        ("draws", pa.int32()),
        ("flipped", pa.int32()),
    ]
)


class Plan(NamedTuple):
    """A spec with its defaults filled in, its models and data opened and found to fit."""

    spec: NoiseSpec
    device: torch.device
    regular: Model
    bang: Model
    stages: tuple[int, ...]
    test: Dataset
    data: DataInfo
    noise: Noise
    settings: dict[str, Any]
    key: str

    @property
    def forwards_per_image(self) -> int:
        """Return how often one image goes through a net."""
        return 2 * len(self.stages) * len(self.noise.sigmas) * self.noise.draws


class Share(NamedTuple):
    """A part of the work: the chunks `pending` of the images `chosen`, of the run with this key."""

    spec: NoiseSpec
    key: str
    chosen: NDArray[np.int64]
    pending: tuple[int, ...]
    chunks: Chunks


def evolve(spec: NoiseSpec, progress: Progress = SILENT) -> NoiseRecord:
    """Measure the noise evolution of a pair, or go on with it, or return it if it is there (protocol section 7).

    Raises `UsageError` for unknown models and data, `BenchError` for a pair that was not trained alike, for data that
    does not fit the models, and for results of other settings that are in the way.
    """
    plan = make_plan(spec)
    folder = results_folder(spec.root, pair_name(plan.regular.name, plan.bang.name))
    finished = finished_record(folder / RECORD, NoiseRecord, plan.key, plan.settings, spec.overwrite)
    if finished is not None and (folder / TABLE).is_file():
        return finished
    check_writable(folder)
    with cpu_threads(1):
        return _measure(plan, folder, progress)


def make_plan(spec: NoiseSpec) -> Plan:
    """Open the models and the data, check that they belong together, and derive the key of the run."""
    device = choose_device(spec.device)
    regular, bang = (
        open_model(reference, spec.root, device, spec.data_dir, spec.data) for reference in (spec.regular, spec.bang)
    )
    stages = _common_stages(regular, bang)
    source_text = _data_of(spec, regular, bang)
    source = open_source(source_text, spec.data_dir)
    test = source.load("test")
    _check_fit(regular, bang, test, source_text)
    data = data_info(test, source.name, source_text)
    noise = Noise(spec.sigmas(test.images.shape[1]), spec.draws, spec.seed, spec.clip)
    settings = spec.settings() | {"sigma": list(noise.sigmas), "data": source_text}
    fingerprints = [regular.stages_fingerprint(), bang.stages_fingerprint(), test.fingerprint]
    key = fingerprint_of({**settings, "inputs": fingerprints})
    return Plan(spec, device, regular, bang, stages, test, data, noise, settings, key)


def stages_of(model: Model) -> tuple[int, ...]:
    """Return the iterations a model can be had at: its snapshots, or its last iteration (0 if unknown) alone."""
    return model.stages or (model.info.iterations or 0,)


def _common_stages(regular: Model, bang: Model) -> tuple[int, ...]:
    first, second = stages_of(regular), stages_of(bang)
    if first == second:
        return first
    lacking = [
        f"{one.name} has no stage {', '.join(map(str, missing[:5]))}{', ...' if len(missing) > 5 else ''}"
        for one, missing in ((regular, sorted({*second} - {*first})), (bang, sorted({*first} - {*second})))
        if missing
    ]
    raise BenchError(
        f"expected the same stages of both models, found that {' and '.join(lacking)}; "
        "train the pair alike (the same --iterations and --stages)"
    )


def _data_of(spec: NoiseSpec, regular: Model, bang: Model) -> str:
    known = sorted({text for text in (regular.data, bang.data) if text is not None})
    if spec.data is not None:
        return spec.data
    if not known:
        raise UsageError("neither model says what images it was trained on: add --data")
    if len(known) > 1:
        raise UsageError(
            f"{regular.name} was trained on {regular.data}, {bang.name} on {bang.data}: a pair is trained alike; "
            "add --data to say which images to use"
        )
    return known[0]


def _check_fit(regular: Model, bang: Model, test: Dataset, source: str) -> None:
    takes = {model.name: (model.info.input_shape, model.info.classes) for model in (regular, bang)}
    found = (test.images.shape[1:], len(test.class_names))
    wrong = [
        f"{name} takes images of shape {shape} in {classes} classes"
        for name, (shape, classes) in takes.items()
        if (shape, classes) != found
    ]
    if wrong:
        raise BenchError(
            f"the test images of {source} have shape {found[0]} and {found[1]} classes, but {' and '.join(wrong)}; "
            "choose models and --data that belong together"
        )


def _measure(plan: Plan, folder: Path, progress: Progress) -> NoiseRecord:
    begin = time.perf_counter()
    record = _started(plan)
    write_record(folder / RECORD, record)
    (folder / TABLE).unlink(missing_ok=True)
    classifiers = _classifiers(plan)
    chosen = _choose_images(plan, classifiers, progress)
    chunks = Chunks(folder / CHUNKS, fingerprint_of([plan.key, CHUNK_IMAGES, chosen.tolist()]))
    flipped = _count(plan, classifiers, chosen, chunks, progress)
    write_table(folder / TABLE, _columns(plan, chosen, flipped), SCHEMA)
    summary = _summary(plan, chosen, flipped, time.perf_counter() - begin)
    record = record.model_copy(update={"status": "done", "summary": summary})
    write_record(folder / RECORD, record)
    chunks.clear()
    return record


def _classifiers(plan: Plan) -> list[Classifier]:
    """Return the regular model at each stage, then the BANG model."""
    return [model.stage_classifier(stage) for model in (plan.regular, plan.bang) for stage in plan.stages]


def _started(plan: Plan) -> NoiseRecord:
    return NoiseRecord(
        schema=1,
        status="started",
        key=plan.key,
        spec=plan.settings,
        provenance=collect_provenance(describe_device(plan.device)),
        regular=plan.regular.info,
        bang=plan.bang.info,
        data=plan.data,
    )


def _choose_images(plan: Plan, classifiers: Sequence[Classifier], progress: Progress) -> NDArray[np.int64]:
    """Return the test indices of the images that take part; notes which classes have fewer than asked for."""
    images, labels = to_device(plan.test.images, plan.device), to_device(plan.test.labels, plan.device)
    correct = np.empty((len(classifiers), len(labels)), dtype=np.bool_)
    progress.start("choosing images", len(classifiers), unit="stage")
    try:
        for place, classifier in enumerate(classifiers):
            correct[place] = (predict(classifier, images) == labels).cpu().numpy()
            progress.advance()
    finally:
        progress.finish()
    chosen = select_images(correct, plan.test.labels, plan.spec.per_class)
    names = f"{plan.regular.name} and {plan.bang.name}"
    if len(chosen) == 0:
        raise BenchError(f"no test image is classified correctly at all stages of {names}; train them longer")
    scarce = {
        name: count
        for name, count in zip(plan.test.class_names, _per_class(plan, chosen), strict=True)
        if count < plan.spec.per_class
    }
    if scarce:
        counted = ", ".join(f"{name}: {count}" for name, count in scarce.items())
        progress.note(f"fewer than {plan.spec.per_class} images correct at all stages of {names}; class {counted}")
    return chosen


def _count(
    plan: Plan, classifiers: Sequence[Classifier], chosen: NDArray[np.int64], chunks: Chunks, progress: Progress
) -> NDArray[np.int32]:
    """Return the flipped draws, (2, stages, sigmas, images); computes the chunks that are not there yet."""
    count = len(range(0, len(chosen), CHUNK_IMAGES))
    pending = [number for number in range(count) if not chunks.done(number)]
    left = sum(len(_part(chosen, number)) for number in pending)
    if left < len(chosen):
        progress.note(f"going on: {len(chosen) - left} of {len(chosen)} images are done")
    share = Share(plan.spec, plan.key, chosen, tuple(pending), chunks)
    workers = min(len(pending), _workers(plan))
    if workers > 1 and left * plan.forwards_per_image > _IN_PROCESS_FORWARDS:
        shares = [share._replace(pending=share.pending[first::workers]) for first in range(workers)]
        jobs = [Job("the noise evolution", count_share, one, stretches=1, announced=False) for one in shares]
        run_jobs(jobs, workers, pair_name(plan.regular.name, plan.bang.name), progress)
    else:
        _count_chunks(plan, classifiers, share, progress, done=len(chosen) - left)
    counts = np.concatenate([chunks.read(number)["flipped"] for number in range(count)], axis=-1)
    return counts.reshape(2, len(plan.stages), *counts.shape[1:])


def count_share(share: Share, progress: Progress) -> None:
    """Count one share of the chunks, in a process of its own that opens models and data for itself."""
    plan = make_plan(share.spec)
    if plan.key != share.key:
        raise BenchError(f"{plan.regular.name} or {plan.bang.name} was changed meanwhile; run the command again")
    with cpu_threads(1):
        _count_chunks(plan, _classifiers(plan), share, progress)


def _count_chunks(
    plan: Plan, classifiers: Sequence[Classifier], share: Share, progress: Progress, done: int = 0
) -> None:
    """Count the pending chunks; `done` images were finished by an earlier run."""
    total = done + sum(len(_part(share.chosen, number)) for number in share.pending)
    label, per_image = pair_name(plan.regular.name, plan.bang.name), plan.forwards_per_image
    progress.start(label, total * per_image, done * per_image, unit="img")
    batch_size = plan.spec.batch_size or batch_size_for(plan.device)
    try:
        for number in share.pending:
            images = _images(plan, _part(share.chosen, number))
            flipped = count_flips(classifiers, images, plan.noise, batch_size, progress)
            share.chunks.write(number, {"flipped": flipped})
    finally:
        progress.finish()


def _part(chosen: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Return the test indices of one chunk."""
    return chosen[number * CHUNK_IMAGES : (number + 1) * CHUNK_IMAGES]


def _workers(plan: Plan) -> int:
    return plan.spec.workers or (available_cores() if plan.device.type == "cpu" else 1)


def _images(plan: Plan, indices: NDArray[np.int64]) -> Images:
    return Images(
        to_device(plan.test.images[indices], plan.device), to_device(plan.test.labels[indices], plan.device), indices
    )


def _per_class(plan: Plan, chosen: NDArray[np.int64]) -> tuple[int, ...]:
    counts = np.bincount(plan.test.labels[chosen], minlength=len(plan.test.class_names))
    return tuple(int(count) for count in counts)


def _columns(plan: Plan, chosen: NDArray[np.int64], flipped: NDArray[np.int32]) -> dict[str, Any]:
    """Return the table's columns: the counts (2, stages, sigmas, images) in C order."""
    model, stage, sigma, image = np.indices(flipped.shape, dtype=np.int32).reshape(4, -1)
    return {
        "model": pa.DictionaryArray.from_arrays(model, ["regular", "bang"]),
        "stage": np.array(plan.stages, dtype=np.int32)[stage],
        "sigma": np.array(plan.noise.sigmas, dtype=np.float32)[sigma],
        "index": chosen[image],
        "label": plan.test.labels[chosen][image],
        "draws": np.full(flipped.size, plan.noise.draws),
        "flipped": flipped.ravel(),
    }


def _summary(plan: Plan, chosen: NDArray[np.int64], flipped: NDArray[np.int32], seconds: float) -> NoiseSummary:
    percent = 100.0 * flipped.sum(axis=-1, dtype=np.int64) / (len(chosen) * plan.noise.draws)
    regular, bang = (tuple(tuple(row) for row in surface.tolist()) for surface in percent)
    return NoiseSummary(
        stages=plan.stages,
        sigmas=plan.noise.sigmas,
        draws=plan.noise.draws,
        images=len(chosen),
        images_per_class=_per_class(plan, chosen),
        flipped_percent={"regular": regular, "bang": bang},
        forwards=flipped.size * plan.noise.draws,
        seconds=seconds,
    )
