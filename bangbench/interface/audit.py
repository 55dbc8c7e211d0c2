"""`audit`: is a model robust, or were attacks kept from working? In one line, without a disk."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch
from torch import nn

from bangbench.attacks.budgets import budgets_in_grey_levels, parse_budget
from bangbench.attacks.registry import ATTACKS
from bangbench.attacks.run import ENGINE
from bangbench.attacks.spec import Strength
from bangbench.auditing.examine import Inquiry, computed, examine
from bangbench.auditing.parts import Arrays, Part
from bangbench.auditing.run import VERSION, attack_versions
from bangbench.auditing.spec import AuditSpec
from bangbench.auditing.subject import Subject as Examined
from bangbench.auditing.subject import make_subject
from bangbench.core.device import cpu_threads, describe_device
from bangbench.core.errors import UsageError
from bangbench.core.provenance import collect_provenance
from bangbench.core.seeds import default_seeds, derive_seed
from bangbench.core.spec import fingerprint_of, make_settings
from bangbench.data.dataset import data_info
from bangbench.interface.describe import HERE, described_by
from bangbench.interface.inputs import Batch, Images, Labels, read_batch
from bangbench.interface.models import Model, Subject, borrowed, preprocessing
from bangbench.interface.progress import bar
from bangbench.nets.predict import batch_size_for
from bangbench.store.audits import AuditRecord, AuditSummary, ClaimVerdict
from bangbench.store.headline import RobustAccuracy, headline, robust_accuracy
from bangbench.store.layout import AUDIT, check_name
from bangbench.store.records import Preprocessing, write_record
from bangbench.store.tables import write_table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

#: Budgets as the bench takes them: shares of the grey-level range, such as "8/255" or 0.3.
Budgets = str | float | Sequence[str | float]

_NO_TRANSFER = "There is no other model to transfer from; pass one as against=."


@dataclass(frozen=True, repr=False)
class Audit:
    """What an audit found.

    record: as the command line writes it; table: one row per image; notes: what a reader should know of how the model
    and the images were taken.
    """

    record: AuditRecord
    table: pa.Table
    notes: tuple[str, ...]

    @property
    def summary(self) -> AuditSummary:
        """Return every number of the audit."""
        if self.record.summary is None:
            raise ValueError("expected the record of a finished audit, found one without a summary")
        return self.record.summary

    @property
    def verdict(self) -> str:
        """Return `sound`, `inconclusive`, `suspect` or `masked`: the worst of the claims'."""
        return self.summary.verdict

    @property
    def claims(self) -> dict[str, ClaimVerdict]:
        """Return verdict, reasons and rate of each claim, by its name: `predictions`, an attack, `worst-case`."""
        return {claim.claim: claim for claim in self.summary.claims}

    def robust_accuracy(self, budget: str | float | None = None) -> RobustAccuracy:
        """Return the percentage of images that no attack flips within a budget (None: the largest audited)."""
        levels = self.summary.budgets[-1].budget if budget is None else parse_budget(_text(budget))
        for rates in self.summary.budgets:
            if rates.budget == levels:
                return robust_accuracy(self.summary, rates)
        audited = ", ".join(f"{rates.budget}/255" for rates in self.summary.budgets)
        raise UsageError(f"expected a budget that was audited ({audited}), found {levels}/255; audit with budget=...")

    @property
    def checks(self) -> pd.DataFrame:
        """Return one row per check: code, outcome, claims, evidence, count of images, meaning, advice."""
        import pandas as pd

        names = ("code", "outcome", "claims", "evidence", "count", "images", "meaning", "advice")
        rows = [check.model_dump(include=set(names)) for check in self.summary.checks]
        return pd.DataFrame(rows, columns=list(names)).astype({"count": "Int64"})

    @property
    def images(self) -> pd.DataFrame:
        """Return one row per image: label, prediction, L_inf of attacks along lines, what fell within each budget."""
        import pandas as pd

        kinds = {pa.bool_(): pd.BooleanDtype()}
        frame: pd.DataFrame = self.table.to_pandas(types_mapper=kinds.get)
        return frame

    def plot(self) -> Figure:
        """Return a figure: accuracy against the budget, under the worst case and under each attack."""
        from bangbench.interface.plots import accuracy_figure

        return accuracy_figure(self.record.model.name, self.summary)

    def save(self, folder: str | Path) -> Path:
        """Write audit.json and audit.parquet for `bangbench report`, and return the record's path.

        folder: a name, ``mine`` or ``audits/mine``, goes under results/ in the working directory, where the report
        looks; a path from the root of the file system, or one that begins with results/, is taken as it is.
        """
        place = Path(folder)
        if not place.is_absolute() and place.parts[:1] != ("results",):
            place = Path("results", check_name(place.as_posix()))
        name = f"{place.parent.name}/{place.name}" if place.parent.parent.name == "results" else place.name
        info = self.record.model.model_copy(update={"name": check_name(name)})
        path = place / f"{AUDIT}.json"
        columns = {column: self.table.column(column).combine_chunks() for column in self.table.column_names}
        write_table(path.with_suffix(".parquet"), columns, self.table.schema)
        write_record(path, self.record.model_copy(update={"model": info}))
        return path

    @property
    def headline(self) -> str:
        """Return the answer in one sentence."""
        return headline(self.record.model.name, self.summary)

    def __repr__(self) -> str:
        width = max(len(name) for name in self.claims)
        lines = [
            f"  {name:{width}}  {'-' if claim.rate is None else f'{claim.rate:.1f} %':>7}  {claim.verdict:12}  "
            f"{', '.join(claim.reasons)}".rstrip()
            for name, claim in self.claims.items()
        ]
        return "\n".join([self.headline, *lines, *(f"  note: {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        from bangbench.interface.card import audit_card

        return audit_card(self.headline, self.summary, self.notes)


@described_by(AuditSpec, HERE | {"against": "Another model on the same images: its adversarial images are tried."})
def audit(
    model: nn.Module | Model,
    images: Images,
    labels: Labels = None,
    *,
    against: nn.Module | Model | None = None,
    budget: Budgets | None = None,
    limit: int | None = 1000,
    strength: Strength = "standard",
    seed: int = 0,
    batch_size: int | None = None,
    workers: int | None = None,
    input_scale: float | None = None,
    mean: float | tuple[float, ...] | None = None,
    std: float | tuple[float, ...] | None = None,
    name: str | None = None,
    progress: bool = True,
) -> Audit:
    """Audit a model on its test images: how robust it is, and whether attacks were kept from working.

    images: tensor or array (N, C, H, W), float in [0, 1] or uint8, or a DataLoader without `labels`. The model takes
    them in [0, 1]; where its normalisation lies outside it, name it: ``mean=``, ``std=``, ``input_scale=``. It runs on
    its own device and is left as it was. Interrupted, the audit concludes from the images that it is done with.

    Raises `UsageError`, which says what was seen and what to pass, for images, labels or a model of another form.
    """
    given = {"budget": budget_texts(budget), "limit": limit, "strength": strength, "seed": seed, "workers": workers}
    spec = make_settings("audit", AuditSpec, {**given, "model": "model", "batch_size": batch_size})
    batch, own = read_batch(images, labels, limit), preprocessing(input_scale, mean, std)
    with borrowed(model, batch, own, name) as subject:
        regular, beside = None, None
        if against is not None and against is not model:
            with borrowed(against, batch, own if _takes(against, own) else None, None) as beside:
                regular = _examined(beside, batch, spec)
                return _audited(subject, regular, beside, batch, own, spec, progress)
        return _audited(subject, None, None, batch, own, spec, progress)


def _takes(model: nn.Module | Model, own: Preprocessing | None) -> bool:
    return own is not None and not isinstance(model, Model)


def _audited(
    subject: Subject,
    regular: Examined | None,
    beside: Subject | None,
    batch: Batch,
    own: Preprocessing | None,
    spec: AuditSpec,
    shown: bool,
) -> Audit:
    budgets = budgets_in_grey_levels(spec.budget, batch.pixels.shape[1])
    how = functools.partial(_compute, label=f"{subject.name} audit", workers=spec.workers, shown=shown)
    info = subject.described(batch, own or Preprocessing())
    examined = _examined(subject, batch, spec)
    result = examine(examined, regular, budgets, spec.strength, info.method, _NO_TRANSFER, how)
    data = data_info(batch.dataset(subject.classes), "images", "memory")
    settings = spec.settings() | {"budget": list(budgets), "data": data.source, "version": VERSION}
    settings |= {"against": beside.name if beside else None, "engine": ENGINE, "attacks": attack_versions()}
    identity = {"weights": info.weights_sha256, "behaviour": info.behaviour, "images": data.fingerprint}
    record = AuditRecord(
        schema=1,
        status="done",
        key=fingerprint_of({**settings, **identity}),
        spec=settings,
        provenance=collect_provenance(describe_device(subject.device)),
        model=info,
        against=beside.described(batch, own or Preprocessing()) if beside else None,
        data=data,
        summary=result.summary,
    )
    arrays = [pa.array(result.columns[field.name], type=field.type) for field in result.schema]
    notes = (*batch.notes, *_notes(subject, result.summary, batch))
    return Audit(record, pa.Table.from_arrays(arrays, schema=result.schema), notes)


def _examined(subject: Subject, batch: Batch, spec: AuditSpec) -> Examined:
    """Return the model on its images as an audit looks at it."""
    pixels, labels = torch.from_numpy(batch.pixels).to(subject.device), torch.from_numpy(batch.labels)
    with default_seeds(derive_seed(spec.seed, "audit", "clean"), subject.device):
        size = spec.batch_size or batch_size_for(subject.device, batch.pixels[:1].size)
        return make_subject(subject.classifier, pixels, labels.to(subject.device), size, spec.seed)


def _notes(subject: Subject, summary: AuditSummary, batch: Batch) -> Iterator[str]:
    yield from subject.notes
    if summary.images < len(batch.pixels):
        yield f"stopped after {summary.images:,} of {len(batch.pixels):,} images; every number is about those"
    if summary.accuracy < 200.0 / subject.classes:
        yield (
            f"only {summary.accuracy:.1f} % of the clean images are classified correctly: if that is not so elsewhere, "
            "the model takes its images otherwise; see mean=, std= and input_scale="
        )


def _compute(inquiry: Inquiry, label: str, workers: int | None, shown: bool) -> Mapping[Part, Arrays]:
    """Compute the parts in order, in processes where `workers` are asked for; interrupted, return those that are done.

    Nothing can be said before all attacks are through with some images.
    """
    found: dict[Part, Arrays] = {}
    progress = bar(shown)
    progress.start(label, len(inquiry.parts), unit="part")
    try:
        for part, arrays in zip(inquiry.parts, _results(inquiry, workers or 1), strict=True):
            found[part] = arrays
            progress.advance()
    except KeyboardInterrupt:
        if not found:
            raise
    finally:
        progress.finish()
    return found


def _results(inquiry: Inquiry, workers: int) -> Iterator[Arrays]:
    if workers == 1 or len(inquiry.parts) < 2:
        yield from (computed(inquiry, part) for part in inquiry.parts)
        return
    from joblib import Parallel, delayed

    tasks = (delayed(_in_a_process)(ATTACKS.objects(), inquiry, part) for part in inquiry.parts)
    yield from Parallel(n_jobs=min(workers, len(inquiry.parts)), return_as="generator")(tasks)


def _in_a_process(attacks: Mapping[str, Any], inquiry: Inquiry, part: Part) -> Arrays:
    """Compute a part in a process of its own, which is told of the attacks that a notebook registered."""
    for name, kind in attacks.items():
        if name not in ATTACKS:
            ATTACKS.add_object(name, kind)
    with cpu_threads(1):
        return computed(inquiry, part)


def budget_texts(budget: Budgets | None) -> tuple[str, ...] | None:
    """Return budgets as the specs take them."""
    if budget is None:
        return None
    several = [budget] if isinstance(budget, str | float | int) else budget
    return tuple(_text(one) for one in several)


def _text(budget: str | float) -> str:
    return budget if isinstance(budget, str) else f"{budget:.9f}"
