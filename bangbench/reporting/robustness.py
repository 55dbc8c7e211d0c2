"""Robust accuracy against an L_inf budget, image by image: attack by attack, and against all at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from bangbench.core.statistics import Numbers, wilson_interval
from bangbench.reporting.experiments import NOT_AUDITED, Experiment, ModelResults, worst_of
from bangbench.reporting.frames import Frames, Values, with_interval
from bangbench.reporting.table import Column, Table, audit_notes, make_table, shown, whole, words
from bangbench.store.audits import VERDICTS
from bangbench.store.audits import WORST_CASE as WORST_CASE_CLAIM

WORST_CASE = "worst case"
#: No perturbation of an 8-bit image is larger, in grey levels.
LARGEST_LINF = 255.0
#: Budgets of L_inf in grey levels: small changes show on colour photographs, digits bear large ones.
GREY_BUDGETS = (8, 16, 32, 64, 96, 128, 255)
COLOUR_BUDGETS = (1, 2, 4, 8, 16, 32, 255)


class Held(NamedTuple):
    """What an attack could do: L_inf of each correct image (grey levels, infinite: not flipped), ascending; all images.

    Images classified wrongly count in `total`; those that the attack fails on are robust at every budget, up to 255.
    """

    linf: Numbers
    total: int

    def counts(self, budgets: ArrayLike) -> NDArray[np.int64]:
        """Return how many images are correct and not flipped at L_inf <= budget, one count per budget."""
        flipped = np.searchsorted(self.linf, np.asarray(budgets, dtype=np.float64), side="right")
        return np.asarray(len(self.linf) - flipped, dtype=np.int64)

    def accuracy(self, budgets: ArrayLike) -> Numbers:
        """Return the robust accuracy in percent of all test images, per budget."""
        return np.asarray(100.0 * self.counts(budgets) / self.total, dtype=np.float64)

    def interval(self, budget: float) -> tuple[float, float]:
        """Return the 95 % Wilson interval of the robust accuracy at a budget, in percent."""
        return wilson_interval(int(self.counts(budget)), self.total) or (0.0, 100.0)

    def steps(self) -> tuple[Numbers, Numbers]:
        """Return the exact step function: 0 and every budget at which the accuracy falls, the accuracy from each on."""
        budgets = np.unique(np.append(self.linf[np.isfinite(self.linf)], 0.0))
        return budgets, self.accuracy(budgets)


class RobustModel(NamedTuple):
    """A model against each of its attacks that has single images, and against all those in `covered` at once.

    covered: the attacks over the same images, of which `worst` takes the smallest L_inf per image.
    """

    model: ModelResults
    attacks: Mapping[str, Held]
    worst: Held
    covered: tuple[str, ...]

    def verdict(self, attack: str) -> str:
        """Return the verdict on the robust accuracy under an attack.

        Under the worst case it is as good as the best of the attacks covered, where the audit's own is no worse.
        """
        if attack != WORST_CASE:
            return self.model.verdict(attack)
        covered = {self.model.verdict(name) for name in self.covered}
        best = next((verdict for verdict in VERDICTS if verdict in covered), NOT_AUDITED)
        return worst_of([best, self.model.verdict(WORST_CASE_CLAIM)])


def attacks_with_images(model: ModelResults) -> dict[str, pd.DataFrame]:
    """Return the attacks of a model whose single images are there: the bench's own first, then others by name."""
    return {name: images for name in model.attack_names if (images := model.images(name)) is not None}


def distances(images: pd.DataFrame) -> Numbers:
    """Return L_inf of all images (grey levels), infinite where they were not flipped; (images,)."""
    return np.asarray(np.where(images["flipped"], images["linf"], np.inf), dtype=np.float64)


def linf_or_infinite(images: pd.DataFrame) -> Numbers:
    """Return L_inf of the attacked images (grey levels), infinite where the attack failed; (attacked,)."""
    return np.asarray(distances(images)[images["attacked"].to_numpy(bool)])


def worst_case(images: Sequence[pd.DataFrame]) -> Numbers:
    """Return for each correct image the smallest L_inf (grey levels) of all attacks, infinite where none flips it.

    images: of one attack or more over the same images, with the same ones classified correctly; (correct,), in their
    order.
    """
    return np.asarray(np.min([linf_or_infinite(each) for each in images], axis=0), dtype=np.float64)


def robust_models(experiment: Experiment) -> list[RobustModel]:
    """Return the models that have single images of at least one attack, in the experiment's order."""
    return [item for model in experiment.models if (item := _robust_model(model)) is not None]


def _robust_model(model: ModelResults) -> RobustModel | None:
    found = attacks_with_images(model)
    if not found:
        return None
    first, keys = next(iter(found.values())), ["index", "attacked"]
    same = {name: images for name, images in found.items() if np.array_equal(first[keys], images[keys])}
    return RobustModel(
        model=model,
        attacks={name: Held(np.sort(linf_or_infinite(images)), len(images)) for name, images in found.items()},
        worst=Held(np.sort(worst_case(list(same.values()))), len(first)),
        covered=tuple(same),
    )


def budgets_of(experiment: Experiment) -> tuple[int, ...]:
    """Return the budgets in grey levels at which an experiment's table gives numbers."""
    return COLOUR_BUDGETS if any(model.model.input_shape[0] == 3 for model in experiment.models) else GREY_BUDGETS


def covered_attacks(models: Sequence[RobustModel]) -> str:
    """Return the attacks that a worst case covers in words, by model where the models differ."""
    if len({item.covered for item in models}) == 1:
        return ", ".join(models[0].covered)
    return "; ".join(f"{item.model.id}: {', '.join(item.covered)}" for item in models)


def varied_models(models: Iterable[ModelResults], most: int) -> list[ModelResults]:
    """Return at most so many models, in their order: every method's first before any method's second."""
    seen: Counter[str | None] = Counter()
    ranked = []
    for place, model in enumerate(models):
        seen[model.model.method] += 1
        ranked.append((seen[model.model.method], place, model))
    chosen = sorted(ranked, key=lambda entry: entry[:2])[:most]
    return [model for _, _, model in sorted(chosen, key=lambda entry: entry[1])]


def robustness_table(experiment: Experiment, frames: Frames) -> Table | None:
    """Return robust accuracies in percent per model, attack and budget; None where no single images are there."""
    models = robust_models(experiment)
    if not models:
        return None
    budgets = budgets_of(experiment)
    lines = [(item, *line) for item in models for line in (*item.attacks.items(), (WORST_CASE, item.worst))]
    left_out = [f"{item.model.id} {name}" for item in models for name in item.attacks if name not in item.covered]
    return make_table(
        f"{experiment.name}-robustness",
        f"{experiment.title}; robust accuracy against an L∞ budget",
        [_row(experiment, item, attack, held, budgets) for item, attack, held in lines],
        (
            words("ID"),
            words("Attack"),
            *([words("Audit", "audit_verdict")] if experiment.audited else []),
            whole("Images"),
            Column("Clean (%)", ("accuracy_percent",), shown(2)),
            *(Column(f"At {budget} (%)", (f"robust_at_{budget}_grey_levels_percent",), shown(2)) for budget in budgets),
        ),
        (
            "Robust accuracy at a budget: percent of all test images that are classified correctly and not flipped "
            "at an L∞ of at most so many grey levels (0 to 255). Images classified wrongly stay in the denominator; "
            "those an attack fails on, blank gradients included, count as robust at every budget. Clean: at 0.",
            f"{WORST_CASE.capitalize()}: an image counts as flipped at the smallest L∞ that any of the attacks run "
            f"needs ({covered_attacks(models)}). Other attacks could need less: an upper bound of robustness.",
            *(
                [f"Not in the worst case, since run on other images or weights: {', '.join(left_out)}."]
                * bool(left_out)
            ),
            "The CSV file holds the 95 % Wilson interval of each robust accuracy over the test images.",
            *audit_notes(experiment, experiment.attack_names),
        ),
    )


def _row(experiment: Experiment, item: RobustModel, attack: str, held: Held, budgets: tuple[int, ...]) -> Values:
    row: Values = {
        "id": item.model.id,
        "source": "measured",
        "model": item.model.name,
        "data": experiment.data.name,
        "attack": attack,
        "audit_verdict": item.verdict(attack),
        "attacks_covered": " ".join(item.covered if attack == WORST_CASE else (attack,)),
        "images": held.total,
    }
    for budget, accuracy in zip((0, *budgets), held.accuracy((0, *budgets)), strict=True):
        stem = f"robust_at_{budget}_grey_levels" if budget else "accuracy"
        row |= with_interval(stem, "_percent", float(accuracy), held.interval(budget))
    return row
