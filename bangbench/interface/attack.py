"""`attack`: one attack on a model, without a disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bangbench.attacks.base import Attack, make_attack
from bangbench.attacks.budgets import budgets_in_grey_levels
from bangbench.attacks.chunk import Target, attack_chunk
from bangbench.attacks.expected import expected, told_of_passes
from bangbench.attacks.rows import joined_columns, summarise
from bangbench.attacks.run import CHUNK
from bangbench.attacks.spec import AttackSpec
from bangbench.core.errors import UsageError
from bangbench.core.progress import Progress
from bangbench.core.spec import make_settings
from bangbench.interface.audit import Budgets, budget_texts
from bangbench.interface.describe import HERE, described_by
from bangbench.interface.inputs import Batch, Images, Labels, read_batch
from bangbench.interface.models import Model, Subject, borrowed, preprocessing
from bangbench.interface.progress import bar
from bangbench.nets.classifier import Classifier
from bangbench.nets.predict import batch_size_for
from bangbench.store.records import AttackSummary

if TYPE_CHECKING:
    import pandas as pd

#: What the rows hold beside PASS, which `pass_score` computes.
_COLUMNS = (
    *("index", "label", "prediction", "attacked", "blank", "flipped", "adversarial_prediction"),
    *("scale", "linf", "l2", "gradient_max", "margin", "true_logit", "flipped_share"),
)


@dataclass(frozen=True, repr=False)
class Attacked:
    """What an attack did to N images; those that the model gets wrong without it are not attacked.

    adversarial: in the form of the images given, (N, C, H, W), the original where nothing was found; success: bool
    (N,); linf, l2: float64 (N,), in grey levels, NaN where nothing was found; summary: the numbers of all images.
    """

    attack: str
    model: str
    budgets: tuple[int, ...]
    adversarial: Tensor | NDArray[Any]
    success: NDArray[np.bool_]
    linf: NDArray[np.float64]
    l2: NDArray[np.float64]
    columns: dict[str, NDArray[Any]]
    summary: AttackSummary
    notes: tuple[str, ...]

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per image: label, prediction, whether and how far it was flipped (grey levels)."""
        import pandas as pd

        frame = pd.DataFrame({name: self.columns[name] for name in _COLUMNS if name in self.columns})
        frame["adversarial_prediction"] = frame["adversarial_prediction"].astype("Int64").replace(-1, pd.NA)
        return frame

    @property
    def accuracy(self) -> float:
        """Return the percentage of all images that are classified correctly and stay so."""
        return 100.0 * (self.summary.correct - self.summary.flipped) / self.summary.images

    def __repr__(self) -> str:
        within = f" within {', '.join(f'{budget}/255' for budget in self.budgets)}" if self.budgets else ""
        low, high = self.summary.rate_interval or (0.0, 100.0)
        rate = "-" if self.summary.rate is None else f"{self.summary.rate:.1f} % [{low:.1f}, {high:.1f}]"
        lines = [
            f"{self.model}: {self.attack}{within} flips {self.summary.flipped:,} of {self.summary.correct:,} correct "
            f"images ({rate}); accuracy {self.summary.accuracy:.1f} % becomes {self.accuracy:.1f} % "
            f"(n = {self.summary.images:,})",
            *(f"  note: {note}" for note in self.notes),
        ]
        return "\n".join(lines)


@described_by(AttackSpec, HERE | {"against": "transfer: the model whose adversarial images are tried."})
def attack(
    model: nn.Module | Model,
    images: Images,
    labels: Labels,
    attack: str | Attack,
    *,
    budget: Budgets | None = None,
    against: nn.Module | Model | None = None,
    limit: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    input_scale: float | None = None,
    mean: float | tuple[float, ...] | None = None,
    std: float | tuple[float, ...] | None = None,
    name: str | None = None,
    progress: bool = True,
    **settings: Any,
) -> Attacked:
    """Attack the images that a model gets right, and judge what comes back by forward passes of its own.

    images, labels, model: as `audit` takes them. attack: a name of `ATTACKS`, or an attack; further settings are its
    own, such as ``restarts=3``. Interrupted, it returns what it did to the first images, if it is done with any.

    Raises `UsageError` for an unknown attack, a setting that it does not have or that is out of range.
    """
    given = {"budget": budget_texts(budget), "limit": limit, "seed": seed, "batch_size": batch_size}
    spec = make_settings("attack", AttackSpec, {**given, "model": "model"})
    found = make_attack(attack, settings) if isinstance(attack, str) else attack
    called = attack if isinstance(attack, str) else type(attack).__name__
    _check_taken(found, called, budget, against, settings if not isinstance(attack, str) else {})
    batch, own = read_batch(images, labels, limit), preprocessing(input_scale, mean, std)
    with borrowed(model, batch, own, name) as subject:
        if against is None:
            return _attacked(subject, None, batch, found, called, spec, bar(progress))
        with borrowed(against, batch, own if not isinstance(against, Model) else None, None) as source:
            return _attacked(subject, source.classifier, batch, found, called, spec, bar(progress))


def _check_taken(found: Attack, called: str, budget: Budgets | None, against: object, settings: dict[str, Any]) -> None:
    if budget is not None and not found.bounded:
        raise UsageError(f"budget: attack '{called}' follows a line and has no budget; leave it out")
    if ("source" in found.needs) != (against is not None):
        wanted = "needs the model whose adversarial images it tries: pass against=" if against is None else "takes none"
        raise UsageError(f"against: attack '{called}' {wanted}")
    if settings:
        raise UsageError(f"{', '.join(settings)}: an attack that is given as an object has its settings already")


def _attacked(
    subject: Subject,
    source: Classifier | None,
    batch: Batch,
    found: Attack,
    called: str,
    spec: AttackSpec,
    progress: Progress,
) -> Attacked:
    first = torch.from_numpy(batch.pixels[:CHUNK]).to(subject.device)
    budgets = budgets_in_grey_levels(spec.budget, batch.pixels.shape[1]) if found.bounded else ()
    size = spec.batch_size or batch_size_for(subject.device, batch.pixels[:1].size)
    classifier = expected(subject.classifier, first, spec.seed, size)
    target = Target(classifier, found, called, size, None, spec.seed, budgets, source)
    parts = _parts(target, batch, f"{subject.name} {called}", progress)
    columns, totals = joined_columns(parts)
    adversarial = columns.pop("adversarial")
    summary = summarise(columns, int(totals["unverified"]), int(totals["forwards"]), float(totals["seconds"]))
    success = columns["flipped"]
    pixels = batch.pixels[: len(success)].copy()
    pixels[success] = adversarial
    linf, l2 = (np.where(success, columns[name], np.nan).astype(np.float64) for name in ("linf", "l2"))
    notes = _notes(subject, classifier, batch, len(success))
    return Attacked(called, subject.name, budgets, batch.given_back(pixels), success, linf, l2, columns, summary, notes)


def _parts(target: Target, batch: Batch, label: str, progress: Progress) -> list[dict[str, Any]]:
    """Attack the images in the portions of the command line; interrupted, return those that are done."""
    parts: list[dict[str, Any]] = []
    count = len(batch.pixels)
    progress.start(label, count, unit="image")
    try:
        for begin in range(0, count, CHUNK):
            part = slice(begin, begin + CHUNK)
            parts.append(attack_chunk(target, batch.pixels[part], batch.labels[part], begin))
            progress.advance(len(batch.pixels[part]))
    except KeyboardInterrupt:
        if not parts:
            raise
    finally:
        progress.finish()
    return parts


def _notes(subject: Subject, classifier: Classifier, batch: Batch, done: int) -> tuple[str, ...]:
    notes = [*batch.notes, *subject.notes]
    if classifier.draws > 1:
        notes.append(f"the model {told_of_passes(classifier)}")
    if done < len(batch.pixels):
        notes.append(f"stopped after {done:,} of {len(batch.pixels):,} images; every number is about those")
    return tuple(notes)
