"""`python -m benchmarks.auto_attack MODEL ...`: the standard audit's battery beside AutoAttack standard.

The peer is torchattacks' AutoAttack as AutoAttack standard sets it (APGD-CE and APGD-T 100 iterations, 9 targets,
FAB-T 100, Square 5,000 queries; Croce and Hein, arXiv 2003.01690), on every correct image within every budget. Its
images are rounded to whole grey levels inside the budget before they are judged. Both run on one thread, and
seconds are the processor's, not the clock's: other work on the machine inflates them less.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from bangbench.attacks.budgets import budgets_in_grey_levels
from bangbench.attacks.opened import open_with_images
from bangbench.attacks.spec import ModelSpec
from bangbench.auditing.battery import Orders, worst_case
from bangbench.auditing.parts import IMAGES, Part, Subjects, compute, gathered
from bangbench.auditing.subject import Subject, make_subject
from bangbench.core.provenance import collect_provenance
from bangbench.nets.classifier import Classifier
from bangbench.store.files import write_json

_BATCH = 256


def main() -> None:
    """Attack every model both ways, print, and write the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.auto_attack")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", default=None, help="test images, where they are not those of the model's data")
    parser.add_argument("--budget", action="append", help="share of the range; several times for several budgets")
    parser.add_argument("--limit", type=int, default=200, help="the first so many test images")
    parser.add_argument("--out", type=Path, default=None, help="write the comparison to this JSON file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for model in arguments.models:
        spec = ModelSpec(model=model, data=arguments.data, limit=arguments.limit, device="cpu")
        rows += compared(spec, arguments.budget)
        if arguments.out is not None:
            provenance = collect_provenance("cpu").model_dump(mode="json")
            write_json(arguments.out, {"schema": 1, "provenance": provenance, "rows": rows})
    Console(width=120).print(_table(rows))


def compared(spec: ModelSpec, budgets_given: Sequence[str] | None) -> list[dict[str, Any]]:
    """Return one row per budget: images each leaves, found by one only, seconds over all budgets, forwards."""
    opened = open_with_images(spec)
    images, labels = torch.from_numpy(opened.data.images), torch.from_numpy(opened.data.labels)
    budgets = budgets_in_grey_levels(budgets_given, images.shape[1])
    subject = make_subject(opened.model.classifier, images, labels, _BATCH, seed=0)
    started = time.process_time()
    ours, forwards = battery(subject, budgets)
    seconds = time.process_time() - started
    rows = []
    for budget in budgets:
        started = time.process_time()
        theirs = auto_attack(subject, budget)
        only = subject.rows.numpy()[theirs & ~ours[budget]].tolist()
        rows.append(
            {
                "model": opened.model.name,
                "data": opened.info.name,
                "budget": budget,
                "images": len(labels),
                "correct": subject.correct,
                "robust": int((~ours[budget]).sum()),
                "peer_robust": int((~theirs).sum()),
                "only_peer": only,
                "only_bangbench": int((ours[budget] & ~theirs).sum()),
                "peer_seconds": time.process_time() - started,
                "seconds_of_all_budgets": seconds,
                "forwards_of_all_budgets": forwards,
            }
        )
    return rows


def battery(subject: Subject, budgets: tuple[int, ...]) -> tuple[dict[int, NDArray[np.bool_]], int]:
    """Return which correct images the standard battery flips, bool (M,) by budget, and its forward passes."""
    orders, subjects = Orders(budgets, "standard", has_gradient=True, has_source=False), Subjects(subject, None)
    parts = [Part("images", first) for first in range(0, subject.correct, IMAGES)]
    lines, found, forwards = gathered({part: compute(part, subjects, orders) for part in parts})
    return {budget: worst_case(lines.own, found, budget, subject.correct) for budget in budgets}, forwards


def auto_attack(subject: Subject, budget: int) -> NDArray[np.bool_]:
    """Return which correct images AutoAttack standard flips within a budget, bool (M,)."""
    from torchattacks import APGD, APGDT, FAB, Square

    net, classes = _UnitRange(subject.classifier).eval(), subject.logits.shape[1]
    common = {"eps": budget / 255.0, "seed": 0}
    attacks = (
        APGD(net, steps=100, loss="ce", **common),
        APGDT(net, steps=100, n_classes=classes, **common),
        FAB(net, steps=100, multi_targeted=True, n_classes=classes, **common),
        Square(net, n_queries=5000, **common),
    )
    images, labels = subject.correct_images()
    left = torch.arange(len(images))
    for attack in attacks:
        fell = [_flipped(attack, net.classifier, images[some], labels[some], budget) for some in left.split(_BATCH)]
        left = left[~torch.cat(fell)] if len(left) else left
    flipped = np.ones(len(images), dtype=np.bool_)
    flipped[left.numpy()] = False
    return flipped


def _flipped(attack: Any, classifier: Classifier, images: Tensor, labels: Tensor, budget: int) -> Tensor:
    found = (attack(images / 255.0, labels) * 255.0).round()
    inside = torch.minimum(torch.maximum(found, images - budget), images + budget).clamp(0.0, 255.0)
    with torch.no_grad():
        return classifier(inside).argmax(1) != labels


class _UnitRange(nn.Module):
    """The classifier on images in 0..1."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(images * 255.0)
        return logits


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=SIMPLE_HEAD, caption="robust: correct images that nothing flips; seconds of one processor")
    for header in ("model", "budget", "correct", "robust", "peer's", "peer only", "bangbench only", "s", "peer's s"):
        table.add_column(header, justify="left" if header == "model" else "right")
    for row in rows:
        counts = (row["correct"], row["robust"], row["peer_robust"], len(row["only_peer"]), row["only_bangbench"])
        shared = f"{row['seconds_of_all_budgets']:.0f} (all)"
        table.add_row(row["model"], str(row["budget"]), *map(str, counts), shared, f"{row['peer_seconds']:.0f}")
    return table


if __name__ == "__main__":
    main()
