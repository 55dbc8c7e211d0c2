"""`audit`: from a spec to a verdict on disk."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bangbench.attacks.budgets import budgets_in_grey_levels
from bangbench.attacks.opened import Opened, open_source_model, open_with_images
from bangbench.attacks.registry import ATTACKS
from bangbench.attacks.run import ENGINE
from bangbench.auditing.battery import Orders
from bangbench.auditing.claims import ball_attacks, line_attacks
from bangbench.auditing.examine import Inquiry, averaged_subject, computed, conclude, look_at
from bangbench.auditing.parts import Part, Subjects
from bangbench.auditing.spec import AuditSpec
from bangbench.auditing.subject import Subject, make_subject
from bangbench.core.device import cpu_threads
from bangbench.core.executor_choice import placed
from bangbench.core.locks import folder_lock
from bangbench.core.progress import SILENT, Progress
from bangbench.core.provenance import collect_provenance
from bangbench.core.seeds import default_seeds, derive_seed
from bangbench.core.shares import Share, Work, processes_for, share_out
from bangbench.core.spec import fingerprint_of
from bangbench.nets.models import Model
from bangbench.nets.predict import to_device
from bangbench.store.audits import AuditRecord
from bangbench.store.chunks import Chunks
from bangbench.store.files import check_writable
from bangbench.store.layout import AUDIT, results_folder
from bangbench.store.records import write_record
from bangbench.store.reuse import finished_record
from bangbench.store.tables import write_table

#: Counted up whenever an audit of the same model could find something else.
VERSION = 4

#: Pixels under attack from which processes, which take seconds to start, are worth it.
_IN_PROCESS_PIXELS = 100 * 28 * 28


class Plan(NamedTuple):
    """A spec with its defaults filled in, its models and images opened."""

    spec: AuditSpec
    opened: Opened
    regular: Model | None
    budgets: tuple[int, ...]
    settings: dict[str, Any]
    key: str

    @property
    def folder(self) -> Path:
        """Return where the results go."""
        return results_folder(self.spec.root, self.opened.model.name)


class Opening(NamedTuple):
    """What another process needs to work on the parts of an audit, whose places are the numbers of their chunks.

    passes: as in `Inquiry`; attacked: bool (N,), the images to attack, of which a random model may have others in
    every process.
    """

    spec: AuditSpec
    parts: tuple[Part, ...]
    orders: Orders
    passes: int
    attacked: NDArray[np.bool_]
    chunks: Chunks


def audit(spec: AuditSpec, progress: Progress = SILENT) -> AuditRecord:
    """Audit the model of `spec`, or go on with it, or return the audit if it is there.

    Raises `UsageError` for unknown names and budgets, `BenchError` for a model or data that cannot be used and for
    results of other settings in the way.
    """
    plan = make_plan(spec)
    for note in plan.opened.model.notes():
        progress.note(note)
    path = plan.folder / f"{AUDIT}.json"
    with folder_lock(plan.folder, spec.patience, progress):
        finished = finished_record(path, AuditRecord, plan.key, plan.settings, spec.overwrite)
        if finished is not None and path.with_suffix(".parquet").is_file():
            return finished
        check_writable(plan.folder)
        threads = cpu_threads(1 if plan.opened.device.type == "cpu" else None)
        with threads, placed(spec, spec.workers, progress):
            return _audit_plan(plan, path, progress)


def make_plan(spec: AuditSpec) -> Plan:
    """Open models and images, fill in the budgets, and derive the key of the audit."""
    opened = open_with_images(spec)
    budgets = budgets_in_grey_levels(spec.budget, opened.data.images.shape[1])
    regular = open_source_model(spec.against, spec, opened) if spec.against else None
    if regular is not None and _function_of(regular) == _function_of(opened.model):
        regular = None  # its own images would be no transfer
    settings = spec.settings() | {"budget": list(budgets), "data": opened.info.source, "version": VERSION}
    settings |= {"against": regular.name if regular else None, "engine": ENGINE, "attacks": attack_versions()}
    settings |= opened.model.own_net("net") | (regular.own_net("against_net") if regular else {})
    identities = [model.identity() for model in (opened.model, regular) if model is not None]
    inputs = {"models": identities, "images": opened.info.fingerprint}
    return Plan(spec, opened, regular, budgets, settings, fingerprint_of({**settings, **inputs}))


def attack_versions() -> dict[str, int]:
    """Return the version of every attack that takes part in audits: a result of another one is not used."""
    return {name: ATTACKS.load(name).version for name in sorted((*line_attacks(), *ball_attacks()))}


def _function_of(model: Model) -> Any:
    """Return what decides a model's answers."""
    return model.identity(), model.info.net, model.info.preprocessing


def _audit_plan(plan: Plan, path: Path, progress: Progress) -> AuditRecord:
    begin = time.perf_counter()
    record = AuditRecord(
        schema=1,
        status="started",
        key=plan.key,
        spec=plan.settings,
        provenance=collect_provenance(plan.opened.device_name),
        model=plan.opened.model.info,
        against=plan.regular.info if plan.regular else None,
        data=plan.opened.info,
    )
    write_record(path, record)
    path.with_suffix(".parquet").unlink(missing_ok=True)
    progress.note(f"{plan.opened.model.name}: looking at inputs, outputs and gradients")
    inquiry = look_at(_subject(plan, plan.opened.model), _regular(plan), plan.budgets, plan.spec.strength)
    inputs = {"audit": plan.key, "attacked": inquiry.subjects.audited.rows.tolist()}
    chunks = Chunks(plan.folder / f".chunks-{AUDIT}", fingerprint_of(inputs))
    _compute_all(plan, inquiry, chunks, progress)
    found = {part: chunks.read(number) for number, part in enumerate(inquiry.parts)}
    result = conclude(inquiry, found, plan.opened.model.info.method, _no_transfer(plan), begin)
    write_table(path.with_suffix(".parquet"), result.columns, result.schema)
    record = record.model_copy(update={"status": "done", "summary": result.summary})
    write_record(path, record)
    chunks.clear()
    return record


def _subject(plan: Plan, model: Model) -> Subject:
    opened, device = plan.opened, plan.opened.device
    pixels, labels = to_device(opened.data.images, device), to_device(opened.data.labels, device)
    with default_seeds(derive_seed(plan.spec.seed, "audit", "clean"), device):
        return make_subject(model.classifier, pixels, labels, opened.batch_size, plan.spec.seed)


def _regular(plan: Plan) -> Subject | None:
    return _subject(plan, plan.regular) if plan.regular else None


def _compute_all(plan: Plan, inquiry: Inquiry, chunks: Chunks, progress: Progress) -> None:
    """Compute the parts that are not there yet, in processes where that is worth it."""
    total = len(inquiry.parts)
    pending = tuple(number for number in range(total) if not chunks.done(number))
    if 0 < len(pending) < total:
        progress.note(f"going on: {total - len(pending)} of {total} parts are done")
    audited, name = inquiry.subjects.audited, plan.opened.model.name
    pixels, device = audited.correct * audited.pixels[0].numel(), plan.opened.device.type
    processes = processes_for(len(pending), pixels, _IN_PROCESS_PIXELS, plan.spec.workers, device)
    if processes > 1:
        attacked = audited.attacked.cpu().numpy()
        opening = Opening(plan.spec, inquiry.parts, inquiry.orders, inquiry.passes, attacked, chunks)
        share_out(Share(open_work, opening, plan.key, name, pending), processes, f"{name} audit", progress)
    else:
        _compute(inquiry, inquiry.parts, chunks, f"{name} audit", pending, progress, total)


@contextmanager
def open_work(opening: Opening) -> Iterator[Work]:
    """Open models and images of an audit in a process of its own, which computes with one thread."""
    plan = make_plan(opening.spec)
    with cpu_threads(1):
        audited = averaged_subject(_subject(plan, plan.opened.model), opening.passes)
        audited = audited._replace(attacked=to_device(opening.attacked, plan.opened.device))
        inquiry = Inquiry(Subjects(audited, _regular(plan)), opening.orders, opening.passes, ())
        label = f"{plan.opened.model.name} audit"
        yield Work(plan.key, partial(_compute, inquiry, opening.parts, opening.chunks, label))


def _compute(
    inquiry: Inquiry,
    parts: Sequence[Part],
    chunks: Chunks,
    label: str,
    pending: Sequence[int],
    progress: Progress,
    total: int | None = None,
) -> None:
    """Compute the pending parts; the bar counts them as the last of `total` (None: as all of them)."""
    count = len(pending) if total is None else total
    progress.start(label, count, count - len(pending), unit="part")
    try:
        for number in pending:
            chunks.write(number, computed(inquiry, parts[number]))
            progress.advance()
    finally:
        progress.finish()


def _no_transfer(plan: Plan) -> str:
    """Return why no other model's images are tried; empty where they are."""
    if plan.regular is not None:
        return ""
    if plan.spec.against is not None:
        return "The regular model to compare with is this model itself."
    return "There is no regular model to transfer from; name one with --against."
