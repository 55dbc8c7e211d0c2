"""`audit`: from a spec to a verdict on disk."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from bangbench.attacks.ball import budgets_in_grey_levels
from bangbench.attacks.base import ATTACKS
from bangbench.attacks.opened import Opened, open_source_model, open_with_images
from bangbench.attacks.run import ENGINE
from bangbench.audit.battery import survivors_of_doubled_steps, survivors_of_unbounded, worst_case
from bangbench.audit.changed import averaged
from bangbench.audit.consistency import Evidence, consistency
from bangbench.audit.hygiene import hygiene
from bangbench.audit.masking import Lines, masking, variants_of
from bangbench.audit.parts import Part, Subjects, ball_of, compute, has_twin, line_of, parts_of
from bangbench.audit.preflight import preflight
from bangbench.audit.rows import audit_table, schema_of
from bangbench.audit.spec import AuditSpec
from bangbench.audit.subject import Subject, make_subject
from bangbench.audit.vanishing import vanishing
from bangbench.audit.verdict import Counted, summarise
from bangbench.core.device import available_cores, cpu_threads
from bangbench.core.errors import BenchError
from bangbench.core.jobs import Job, run_jobs
from bangbench.core.locks import folder_lock
from bangbench.core.progress import SILENT, Progress
from bangbench.core.provenance import collect_provenance
from bangbench.core.seeds import derive_seed, torch_default_seed
from bangbench.core.spec import fingerprint_of
from bangbench.nets.classifier import Classifier
from bangbench.nets.models import Model
from bangbench.nets.predict import to_device
from bangbench.store.audits import AuditRecord, Check
from bangbench.store.chunks import Chunks
from bangbench.store.files import check_writable
from bangbench.store.layout import AUDIT, results_folder
from bangbench.store.records import write_record
from bangbench.store.reuse import finished_record
from bangbench.store.tables import write_table

#: Counted up whenever an audit of the same model could find something else.
VERSION = 2

#: Pixels under attack from which processes, which take seconds to start, are worth it.
_IN_PROCESS_PIXELS = 100 * 28 * 28

#: What keeps gradient attacks from running at all, and what makes them chase the mean of so many passes.
_NO_GRADIENT, _RANDOM, PASSES = "no-gradient", "random-outputs", 8


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


class Share(NamedTuple):
    """Parts of the audit with this key that one process computes; numbered, in order, by their chunks.

    passes: as in `_subjects`; attacked: bool (N,), the images to attack, of which a random model may have others in
    every process.
    """

    spec: AuditSpec
    key: str
    parts: tuple[tuple[int, Part], ...]
    passes: int
    attacked: NDArray[np.bool_]
    chunks: Chunks


def audit(spec: AuditSpec, progress: Progress = SILENT) -> AuditRecord:
    """Audit the model of `spec`, or go on with it, or return the audit if it is there.

    Raises `UsageError` for unknown names and budgets, `BenchError` for a model or data that cannot be used and for
    results of other settings in the way.
    """
    plan = make_plan(spec)
    path = plan.folder / f"{AUDIT}.json"
    with folder_lock(plan.folder, spec.patience, progress):
        finished = finished_record(path, AuditRecord, plan.key, plan.settings, spec.overwrite)
        if finished is not None and path.with_suffix(".parquet").is_file():
            return finished
        check_writable(plan.folder)
        with cpu_threads(1 if plan.opened.device.type == "cpu" else None):
            return _audit_plan(plan, path, progress)


def make_plan(spec: AuditSpec) -> Plan:
    """Open models and images, fill in the budgets, and derive the key of the audit."""
    opened = open_with_images(spec)
    budgets = budgets_in_grey_levels(spec.budget, opened.data.images.shape[1])
    regular = open_source_model(spec.against, spec, opened) if spec.against else None
    if regular is not None and _function_of(regular) == _function_of(opened.model):
        regular = None  # its own images would be no transfer
    settings = spec.settings() | {"budget": list(budgets), "data": opened.info.source, "version": VERSION}
    settings |= {"against": regular.name if regular else None, "engine": ENGINE, "attacks": _versions()}
    settings |= opened.model.own_net("net") | (regular.own_net("against_net") if regular else {})
    identities = [model.identity() for model in (opened.model, regular) if model is not None]
    inputs = {"models": identities, "images": opened.info.fingerprint}
    return Plan(spec, opened, regular, budgets, settings, fingerprint_of({**settings, **inputs}))


def _versions() -> dict[str, int]:
    """Return the version of every registered attack: a result of another one is not used."""
    return {name: ATTACKS.load(name).version for name in ATTACKS.names()}


def _function_of(model: Model) -> Any:
    """Return what decides a model's answers."""
    return model.identity(), model.info.preprocessing


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
    subjects = _subjects(plan)
    checks = [*preflight(subjects.audited), *vanishing(subjects.audited)]
    passes = PASSES if _found(checks, _RANDOM) else 1
    if passes > 1:
        subjects = _subjects(plan, passes)
        checks = [_with_passes(check) if check.code == _RANDOM else check for check in checks]
    inputs = {"audit": plan.key, "attacked": subjects.audited.rows.tolist()}
    chunks = Chunks(plan.folder / f".chunks-{AUDIT}", fingerprint_of(inputs))
    groups = _groups(plan, subjects, checks)
    _compute_all(plan, subjects, groups, passes, chunks, progress)
    parts = [part for group in groups for part in group]
    with torch_default_seed(derive_seed(plan.spec.seed, "audit", "gather"), plan.opened.device):
        evidence, forwards, others = _gather(plan, subjects, parts, chunks)
        checks += [*others, *hygiene(subjects.audited, evidence.battery, plan.opened.model.info.method)]
    write_table(path.with_suffix(".parquet"), audit_table(subjects.audited, evidence), schema_of(evidence))
    summary = summarise(subjects.audited, evidence, checks, Counted(forwards, time.perf_counter() - begin))
    record = record.model_copy(update={"status": "done", "summary": summary})
    write_record(path, record)
    chunks.clear()
    return record


def _subjects(plan: Plan, passes: int = 1) -> Subjects:
    """Return the models with their images; passes: how many the audited one's logits are the mean of."""
    opened, device = plan.opened, plan.opened.device
    pixels, labels = to_device(opened.data.images, device), to_device(opened.data.labels, device)

    def subject_of(classifier: Classifier) -> Subject:
        return make_subject(classifier, pixels, labels, opened.batch_size, plan.spec.seed)

    audited = opened.model.classifier
    with torch_default_seed(derive_seed(plan.spec.seed, "audit", "clean"), device):
        return Subjects(
            subject_of(averaged(audited, passes) if passes > 1 else audited),
            subject_of(plan.regular.classifier) if plan.regular else None,
        )


def _found(checks: Sequence[Check], code: str) -> bool:
    return any(check.code == code and check.outcome in ("suspect", "masked") for check in checks)


def _with_passes(check: Check) -> Check:
    evidence = f"{check.evidence.rstrip('.')}; the attacks that follow are on the mean of {PASSES} passes."
    return check.model_copy(update={"evidence": evidence})


def _groups(plan: Plan, subjects: Subjects, checks: Sequence[Check]) -> tuple[tuple[Part, ...], ...]:
    """Return the parts to compute; none where no image is classified correctly."""
    if not subjects.audited.correct:
        return ()
    variants = variants_of(subjects.audited)
    return parts_of(plan.budgets, not _found(checks, _NO_GRADIENT), plan.regular is not None, variants)


def _compute_all(
    plan: Plan,
    subjects: Subjects,
    groups: tuple[tuple[Part, ...], ...],
    passes: int,
    chunks: Chunks,
    progress: Progress,
) -> None:
    """Compute the parts that are not there yet, in processes where that is worth it."""
    numbered = list(enumerate(part for group in groups for part in group))
    pending = [(number, part) for number, part in numbered if not chunks.done(number)]
    if 0 < len(pending) < len(numbered):
        progress.note(f"going on: {len(numbered) - len(pending)} of {len(numbered)} parts are done")
    shares = [
        Share(plan.spec, plan.key, mine, passes, subjects.audited.attacked.cpu().numpy(), chunks)
        for group in groups
        if (mine := tuple((number, part) for number, part in pending if part in group))
    ]
    label, workers = f"{plan.opened.model.name} audit", min(len(shares), _workers(plan))
    pixels = subjects.audited.correct * subjects.audited.pixels[0].numel()
    if workers > 1 and pixels > _IN_PROCESS_PIXELS:
        jobs = [Job(label, compute_share, share, stretches=1, announced=False) for share in shares]
        run_jobs(jobs, workers, label, progress)
        return
    progress.start(label, len(numbered), len(numbered) - len(pending), unit="part")
    try:
        for share in shares:
            _compute(share, subjects, progress)
    finally:
        progress.finish()


def compute_share(share: Share, progress: Progress) -> None:
    """Compute one share of the parts, in a process of its own that opens models and images for itself."""
    plan = make_plan(share.spec)
    if plan.key != share.key:
        raise BenchError(f"{plan.opened.model.name} was changed meanwhile; run the command again")
    with cpu_threads(1):
        progress.start(plan.opened.model.name, len(share.parts))
        subjects = _subjects(plan, share.passes)
        audited = subjects.audited._replace(attacked=to_device(share.attacked, plan.opened.device))
        _compute(share, subjects._replace(audited=audited), progress)


def _compute(share: Share, subjects: Subjects, progress: Progress) -> None:
    for number, part in share.parts:
        # layers that draw random numbers draw the same ones whichever process computes the part
        seed = derive_seed(share.spec.seed, "audit", number)
        with torch_default_seed(seed, subjects.audited.pixels.device):
            twin = share.chunks.read(number - 1) if has_twin(part) else None
            share.chunks.write(number, compute(part, subjects, twin))
        progress.advance()


def _workers(plan: Plan) -> int:
    return plan.spec.workers or (available_cores() if plan.opened.device.type == "cpu" else 1)


def _gather(plan: Plan, subjects: Subjects, parts: Sequence[Part], chunks: Chunks) -> tuple[Evidence, int, list[Check]]:
    """Read the parts, run what needs the survivors of all of them, and compare; return the forwards of all, too."""
    subject = subjects.audited
    arrays = {part: chunks.read(number) for number, part in enumerate(parts)}
    along = {part: line_of(found) for part, found in arrays.items() if part.budget is None}
    lines = Lines(
        {part.attack: run for part, run in along.items() if part.variant is None and not part.of_regular},
        {(part.attack, part.variant): run for part, run in along.items() if part.variant is not None},
        next((run for part, run in along.items() if part.of_regular), None),
    )
    battery = {(part.attack, part.budget): ball_of(found) for part, found in arrays.items() if part.budget is not None}
    forwards = sum(int(found["forwards"]) for found in arrays.values())
    none = torch.empty(0, dtype=torch.int64)
    evidence = Evidence(lines.own, battery, plan.budgets, None, none, 0, subject.logits.shape[1], _no_transfer(plan))
    if lines.own:
        largest = plan.budgets[-1]
        survivors = ~worst_case(lines.own, battery, largest, subject.correct)
        doubled, doubled_forwards = survivors_of_doubled_steps(subject, survivors, largest)
        unbounded, tried, unbounded_forwards = survivors_of_unbounded(subject)
        forwards += doubled_forwards + unbounded_forwards
        evidence = evidence._replace(
            doubled=doubled, surviving=int(survivors.sum()), unbounded=unbounded, unbounded_tried=tried
        )
    checks = [*masking(subject, lines), *consistency(subject, evidence)]
    return evidence, forwards, checks


def _no_transfer(plan: Plan) -> str:
    if plan.regular is not None:
        return ""
    if plan.spec.against is not None:
        return "The regular model to compare with is this model itself."
    return "There is no regular model to transfer from; name one with --against."
