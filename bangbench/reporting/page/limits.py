"""What a reader has to know before relying on the numbers, as plain sentences."""

from __future__ import annotations

from collections.abc import Callable

from bangbench.core.provenance import Provenance
from bangbench.reporting.collect import FoundNoise
from bangbench.reporting.groups import Group, ModelResults, short_name
from bangbench.reporting.noise_rows import PAPER_DRAWS, arithmetic_note, pair_title
from bangbench.reporting.page.facts import (
    attacks_of,
    commit_text,
    machine_text,
    models_of,
    owners,
    runs_of,
    shown_names,
    versions_text,
)
from bangbench.reporting.per_image import cell_draws
from bangbench.reporting.seed_rows import independent, is_training_known, recipes
from bangbench.reporting.verdicts import how_to_audit, measured_names


def limits(group: Group) -> tuple[str, ...]:
    """Return what limits the numbers of a group: images, seeds, attacks left out, draws, mixed or changed sources."""
    return (
        *_limited(group),
        *_few_draws(group),
        *_reduced(group),
        *_one_seed(group),
        *_unknown_training(group),
        *_missing_attacks(group),
        *_not_audited(group),
        *_dirty(group),
        *_mixed(group, "commits", commit_text),
        *_mixed(group, "versions", versions_text),
        *_mixed(group, "machines", machine_text),
    )


def _limited(group: Group) -> list[str]:
    runs: dict[str, list[str]] = {}
    for run in runs_of(group):
        if run.spec.get("limit") is not None:
            runs.setdefault(str(run.spec["limit"]), []).append(run.label)
    return [
        f"Measured on the first {limit} test images only, not on the full test split: {', '.join(labels)}."
        for limit, labels in runs.items()
    ]


def _few_draws(group: Group) -> list[str]:
    return [
        f"The noise evolution of {pair_title(found)} has {_copies(found)} noisy copies of each image; the paper has "
        f"{PAPER_DRAWS:,}."
        for found in group.noise
        if cell_draws(found.summary).min() < PAPER_DRAWS
    ]


def _copies(found: FoundNoise) -> str:
    draws = cell_draws(found.summary)
    fewest, most = int(draws.min()), int(draws.max())
    return f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"


def _reduced(group: Group) -> list[str]:
    notes = ((pair_title(found), arithmetic_note(found.summary)) for found in group.noise)
    return [f"Noise evolution of {pair}: {note}." for pair, note in notes if note]


def _one_seed(group: Group) -> list[str]:
    """Name the models that stand alone: nothing else was trained in the same way from another seed."""
    shown = shown_names(group)
    alone = [shown[model.name] for alike in recipes(_models(group)) if len(independent(alike)) == 1 for model in alike]
    if not alone:
        return []
    return [
        f"Trained from one seed only: {', '.join(alone)}. How much such a model's numbers change from one training to "
        "the next cannot be told from this page."
    ]


def _unknown_training(group: Group) -> list[str]:
    shown = shown_names(group)
    names = [shown[model.name] for model in _models(group) if not is_training_known(model)]
    if not names:
        return []
    *others, last = names
    subject, whose = (f"{', '.join(others)} and {last} were", "their") if others else (f"{last} was", "its")
    return [f"How {subject} trained is not known: there is no model.json of {whose} weights."]


def _models(group: Group) -> list[ModelResults]:
    """Return every model of a group once, with the card of its training but without what was measured of it."""
    cards = {
        info.name: card for found in group.noise for info, card in zip(found.record.models, found.cards, strict=True)
    }
    cards |= {model.name: model.card for model in group.models}
    return [ModelResults(info.name, info, {}, card=cards[info.name]) for info in models_of(group)]


def _missing_attacks(group: Group) -> list[str]:
    every = attacks_of(group)
    missing: dict[str, list[str]] = {}
    for model in group.attacked:
        lacks = ", ".join(attack for attack in every if attack not in model.attacks)
        if lacks:
            missing.setdefault(lacks, []).append(short_name(model.name))
    return [f"Not run on {', '.join(models)}: {attacks}." for attacks, models in missing.items()]


def _not_audited(group: Group) -> list[str]:
    missing = [name for name in measured_names(group) if name not in group.audits]
    if not missing:
        return []
    shown = shown_names(group)
    return [
        f"Not audited: {', '.join(shown[name] for name in missing)}. Whether their low rates are robustness or "
        f"vanished gradients is not known; to tell: {how_to_audit(group, missing)}"
    ]


def _dirty(group: Group) -> list[str]:
    runs = [run for run in runs_of(group) if run.provenance.dirty]
    if not runs:
        return []
    return [
        f"Measured with source that had been changed since its commit, so that the commit alone does not reproduce "
        f"it: {owners(runs)}."
    ]


def _mixed(group: Group, what: str, describe: Callable[[Provenance], str]) -> list[str]:
    labels: dict[str, list[str]] = {}
    for run in runs_of(group):
        names = labels.setdefault(describe(run.provenance), [])
        if run.owner not in names:
            names.append(run.owner)
    if len(labels) < 2:
        return []
    found = "; ".join(f"{value} ({', '.join(names)})" for value, names in labels.items())
    return [f"The runs were made with different {what}: {found}."]
