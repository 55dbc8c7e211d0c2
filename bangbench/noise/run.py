"""`evolve`: from models to their noise evolution on disk."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bangbench.core.device import cpu_threads, describe_device
from bangbench.core.errors import BenchError
from bangbench.core.executor_choice import placed
from bangbench.core.locks import folder_lock
from bangbench.core.progress import SILENT, Progress
from bangbench.core.provenance import collect_provenance
from bangbench.nets.classifier import Classifier
from bangbench.nets.predict import answered, logits_of, to_device
from bangbench.noise.cells import Total, summarise
from bangbench.noise.plan import Plan, make_plan
from bangbench.noise.rounds import count_rounds, open_chunks
from bangbench.noise.select import select_images
from bangbench.noise.spec import NoiseSpec
from bangbench.store.files import check_writable
from bangbench.store.layout import NOISE, results_folder
from bangbench.store.records import NoiseRecord, write_record
from bangbench.store.reuse import finished_record
from bangbench.store.tables import write_table

RECORD = f"{NOISE}.json"
TABLE = f"{NOISE}.parquet"
CHUNKS = f".chunks-{NOISE}"

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


def evolve(spec: NoiseSpec, progress: Progress = SILENT) -> NoiseRecord:
    """Measure the noise evolution of models, or go on with it, or return it if it is there (protocol section 7).

    Raises `UsageError` for unknown models and data, `BenchError` for models that were not trained alike, for data that
    does not fit the models, and for results of other settings that are in the way.
    """
    plan = make_plan(spec)
    for note in (note for model in plan.models for note in model.notes()):
        progress.note(note)
    folder = results_folder(spec.root, plan.name)
    with folder_lock(folder, spec.patience, progress):
        finished = finished_record(folder / RECORD, NoiseRecord, plan.key, plan.settings, spec.overwrite)
        if finished is not None and (folder / TABLE).is_file():
            return finished
        check_writable(folder)
        with cpu_threads(1), placed(spec, spec.workers, progress):
            return _measure(plan, folder, progress)


def _measure(plan: Plan, folder: Path, progress: Progress) -> NoiseRecord:
    begin = time.perf_counter()
    record = _started(plan)
    write_record(folder / RECORD, record)
    (folder / TABLE).unlink(missing_ok=True)
    classifiers = plan.classifiers
    chosen = _choose_images(plan, classifiers, progress)
    chunks = open_chunks(plan, chosen, folder / CHUNKS)
    counted = count_rounds(plan, classifiers, chosen, chunks, progress)
    write_table(folder / TABLE, _columns(plan, chosen, counted), SCHEMA)
    summary = summarise(plan.outline(chosen), counted, time.perf_counter() - begin)
    record = record.model_copy(update={"status": "done", "summary": summary})
    write_record(folder / RECORD, record)
    chunks.clear()
    return record


def _started(plan: Plan) -> NoiseRecord:
    return NoiseRecord(
        schema=1,
        status="started",
        key=plan.key,
        spec=plan.settings,
        provenance=collect_provenance(describe_device(plan.device)),
        models=tuple(model.info for model in plan.models),
        data=plan.data,
    )


def _choose_images(plan: Plan, classifiers: Sequence[Classifier], progress: Progress) -> NDArray[np.int64]:
    """Return the test indices of the images that take part; notes which classes have fewer than asked for."""
    images, labels = to_device(plan.test.images, plan.device), to_device(plan.test.labels, plan.device)
    correct = np.empty((len(classifiers), len(labels)), dtype=np.bool_)
    progress.start("choosing images", len(classifiers), unit="stage")
    try:
        for place, classifier in enumerate(classifiers):
            logits = logits_of(classifier, images, plan.spec.batch_size)
            correct[place] = answered(logits, labels).cpu().numpy()
            progress.advance()
    finally:
        progress.finish()
    chosen = select_images(correct, plan.test.labels, plan.spec.per_class)
    names = " and ".join(model.name for model in plan.models)
    if len(chosen) == 0:
        raise BenchError(f"no test image is classified correctly at all stages of {names}; train them longer")
    scarce = {
        name: count
        for name, count in zip(plan.test.class_names, plan.outline(chosen).images_per_class, strict=True)
        if count < plan.spec.per_class
    }
    if scarce:
        counted = ", ".join(f"{name}: {count}" for name, count in scarce.items())
        progress.note(f"fewer than {plan.spec.per_class} images correct at all stages of {names}; class {counted}")
    return chosen


def _columns(plan: Plan, chosen: NDArray[np.int64], counted: Total) -> dict[str, Any]:
    """Return the table's columns: the counts (models, stages, sigmas, images) in C order."""
    surfaces = plan.outline(chosen).surfaces
    flipped, draws = surfaces(counted.flipped), surfaces(counted.draws)
    model, stage, sigma, image = np.indices(flipped.shape, dtype=np.int32).reshape(4, -1)
    return {
        "model": pa.DictionaryArray.from_arrays(model, [one.name for one in plan.models]),
        "stage": np.array(plan.stages, dtype=np.int32)[stage],
        "sigma": np.array(plan.noise.sigmas, dtype=np.float32)[sigma],
        "index": chosen[image],
        "label": plan.test.labels[chosen][image],
        "draws": draws[model, stage, sigma],
        "flipped": flipped.ravel(),
    }
