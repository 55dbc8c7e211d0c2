"""`examine`: the audit of a classifier, without disk, spec or process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import torch

from bangbench.attacks.expected import JUDGING_PASSES, PASSES
from bangbench.attacks.spec import Strength
from bangbench.auditing.battery import Orders, fallen_to_doubled_steps, survivors_of_unbounded, worst_case
from bangbench.auditing.claims import of_enough
from bangbench.auditing.consistency import consistency
from bangbench.auditing.evidence import Evidence
from bangbench.auditing.hygiene import hygiene
from bangbench.auditing.masking import VARIANTS, masking, variants_of
from bangbench.auditing.parts import IMAGES, Arrays, Part, Subjects, compute, gathered, parts_of
from bangbench.auditing.preflight import preflight
from bangbench.auditing.rows import audit_table, schema_of
from bangbench.auditing.settled import settled
from bangbench.auditing.subject import Subject
from bangbench.auditing.vanishing import vanishing
from bangbench.auditing.verdict import Counted, summarise
from bangbench.core.seeds import default_seeds, derive_seed
from bangbench.store.audits import AuditSummary, Check

#: What keeps gradient attacks from running at all, and what makes them chase the mean of several passes.
_NO_GRADIENT, _RANDOM = "no-gradient", "random-outputs"


class Inquiry(NamedTuple):
    """What is to be computed, after a look at the model.

    passes: how many forward passes the audited model's logits are the mean of; checks: those of the model itself.
    """

    subjects: Subjects
    orders: Orders
    passes: int
    checks: tuple[Check, ...]

    @property
    def parts(self) -> tuple[Part, ...]:
        """Return the parts to compute; none where no image is classified correctly."""
        subject = self.subjects.audited
        if not subject.correct:
            return ()
        return parts_of(subject.correct, self.orders, variants_of(subject) if self.orders.has_gradient else ())

    def covering(self, found: Mapping[Part, Arrays]) -> Inquiry:
        """Return what was asked about the images alone that all of the battery was run on, the first ones."""
        audited, covered = self.subjects.audited, IMAGES * sum(part.kind == "images" for part in found)
        if covered >= audited.correct:
            return self
        end = int(audited.rows[covered])
        few = audited._replace(
            pixels=audited.pixels[:end],
            labels=audited.labels[:end],
            logits=audited.logits[:end],
            attacked=audited.attacked[:end],
        )
        return self._replace(subjects=self.subjects._replace(audited=few))


class Examination(NamedTuple):
    """What an audit found: the summary, and one row per image as columns with their schema."""

    summary: AuditSummary
    columns: dict[str, Any]
    schema: pa.Schema


def examine(
    subject: Subject,
    regular: Subject | None,
    budgets: Sequence[int],
    strength: Strength = "standard",
    method: str | None = None,
    no_transfer: str = "There is no regular model to transfer from; name one with --against.",
    compute_parts: Callable[[Inquiry], Mapping[Part, Arrays]] | None = None,
) -> Examination:
    """Audit a classifier on its images: tell whether it is robust or its gradients are gone.

    subject: the model and its images (`make_subject`); regular: a model to compare with, on the same images; budgets:
    increasing, in grey levels; method: how the model was trained, None where that is not known; no_transfer: why there
    is no regular model, where there is none; compute_parts: computes the parts of what is asked, or the first ones of
    them, in another way than here one by one.
    """
    begin = time.perf_counter()
    inquiry = look_at(subject, regular, tuple(budgets), strength)
    found = (compute_parts or _one_by_one)(inquiry)
    result = conclude(inquiry.covering(found), found, method, "" if regular else no_transfer, begin)
    missing = {part.variant for part in inquiry.parts if part not in found and part.variant in VARIANTS}
    if not missing:
        return result
    checks = tuple(_stopped(check) if check.code in missing else check for check in result.summary.checks)
    return result._replace(summary=result.summary.model_copy(update={"checks": checks}))


def _one_by_one(inquiry: Inquiry) -> dict[Part, Arrays]:
    return {part: computed(inquiry, part) for part in inquiry.parts}


def _stopped(check: Check) -> Check:
    return check.model_copy(update={"outcome": "not-run", "evidence": "The audit was stopped before this was tried."})


def look_at(subject: Subject, regular: Subject | None, budgets: tuple[int, ...], strength: Strength) -> Inquiry:
    """Check inputs, outputs and gradients, and decide what can be attacked and how."""
    checks = [*preflight(subject), *vanishing(subject)]
    draws = subject.classifier.draws
    passes = max(PASSES, draws) if _found(checks, _RANDOM) else draws
    if passes > 1:
        checks = [_with_passes(check, passes) if check.code == _RANDOM else check for check in checks]
    orders = Orders(budgets, strength, not _found(checks, _NO_GRADIENT), regular is not None)
    return Inquiry(Subjects(averaged_subject(subject, passes), regular), orders, passes, tuple(checks))


def averaged_subject(subject: Subject, passes: int) -> Subject:
    """Return a subject whose model's logits are the mean of so many passes, attacked on what the mean gets right."""
    if passes == subject.classifier.draws:
        return subject
    with default_seeds(derive_seed(subject.seed, "audit", "clean"), subject.pixels.device):
        return subject.again(subject.classifier.with_draws(passes))


def computed(inquiry: Inquiry, part: Part) -> Arrays:
    """Compute one part; layers that draw random numbers draw the same ones wherever it is computed."""
    subject = inquiry.subjects.audited
    with default_seeds(derive_seed(subject.seed, "audit", *map(str, part)), subject.pixels.device):
        return compute(part, inquiry.subjects, inquiry.orders)


def conclude(
    inquiry: Inquiry, found: Mapping[Part, Arrays], method: str | None, no_transfer: str, begin: float
) -> Examination:
    """Run what needs the survivors of everything, compare, and judge; begin: the clock when the audit began."""
    subject = inquiry.subjects.audited
    with default_seeds(derive_seed(subject.seed, "audit", "gather"), subject.pixels.device):
        evidence, forwards, others = _gather(inquiry, found, no_transfer)
        own = settled(inquiry.checks, others, evidence)
        checks = [*own, *others, *hygiene(subject, evidence.lines, evidence.battery, method)]
    counted = Counted(forwards, time.perf_counter() - begin)
    summary = summarise(subject, evidence, checks, inquiry.orders.strength, counted)
    return Examination(summary, audit_table(subject, evidence), schema_of(evidence))


def _gather(inquiry: Inquiry, found: Mapping[Part, Arrays], no_transfer: str) -> tuple[Evidence, int, list[Check]]:
    subject, budgets = inquiry.subjects.audited, inquiry.orders.budgets
    lines, battery, forwards = gathered(found)
    none = torch.empty(0, dtype=torch.int64)
    evidence = Evidence(lines.own, battery, budgets, {}, {}, none, 0, subject.logits.shape[1], no_transfer)
    if lines.own:
        for budget in budgets:
            survivors = ~worst_case(lines.own, battery, budget, subject.correct)
            evidence.doubled[budget], spent = fallen_to_doubled_steps(subject, survivors, budget)
            evidence.surviving[budget] = int(survivors.sum())
            forwards += spent
        unbounded, tried, spent = survivors_of_unbounded(subject)
        evidence = evidence._replace(unbounded=unbounded, unbounded_tried=tried)
        forwards += spent
    compared = [*masking(subject, lines), *consistency(subject, evidence)]
    return evidence, forwards, of_enough(compared, subject.correct)


def _found(checks: Sequence[Check], code: str) -> bool:
    return any(check.code == code and check.outcome in ("suspect", "masked") for check in checks)


def _with_passes(check: Check, passes: int) -> Check:
    evidence = (
        f"{check.evidence.rstrip('.')}; the attacks that follow are on the mean of {passes} passes, and judged by "
        f"{JUDGING_PASSES} of their own."
    )
    return check.model_copy(update={"evidence": evidence})
