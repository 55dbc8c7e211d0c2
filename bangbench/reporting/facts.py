"""What was run, where, and what limits the numbers: the last part of the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from bangbench.core.provenance import Provenance
from bangbench.reporting.experiments import Experiment
from bangbench.reporting.frames import OVERALL, Frames, records_of
from bangbench.reporting.noise import draws_text
from bangbench.reporting.seeds import independent, recipes
from bangbench.reporting.table import Table, how_to_audit, left_out_notes, make_table, real, whole, words
from bangbench.store.layout import AUDIT

_COMMIT_DIGITS, _HASH_DIGITS = 10, 12


class Run(NamedTuple):
    """One finished run: whose it is, ``training``, ``fgs`` ... or ``noise``, its settings and where it was made.

    name: of the model or models, with the folder; owner: the same as a page shows it.
    """

    name: str
    owner: str
    kind: str
    spec: dict[str, object]
    provenance: Provenance


def runs_of(experiment: Experiment) -> list[Run]:
    """Return every finished run: the training of the models, then what was measured of them."""
    shown = shown_names(experiment)
    trainings, measured = [], []
    for model in experiment.models:
        owner = shown[model.name]
        if model.card is not None:
            trainings.append(Run(model.name, owner, "training", model.card.spec, model.card.provenance))
        records = [(name, model.attacks[name].record) for name in model.attack_names]
        measured += [Run(model.name, owner, name, record.spec, record.provenance) for name, record in records]
    for model in experiment.models:
        if model.audit is not None:
            record = model.audit.record
            measured.append(Run(model.name, shown[model.name], AUDIT, record.spec, record.provenance))
    noise = [
        Run(found.name, found.title, "noise", found.record.spec, found.record.provenance) for found in experiment.noise
    ]
    cells = [Run(found.name, found.name, "cells", record.spec, record.provenance)
             for found in [experiment.grid] if found is not None for record in found.cells.values()]  # fmt: skip
    return [*trainings, *measured, *noise, *cells]


def commands(experiment: Experiment) -> tuple[str, ...]:
    """Return the commands that made the records, training first, each once, and the one of the report."""
    return (*dict.fromkeys(run.provenance.command for run in runs_of(experiment)), "bangbench report")


def shown_names(experiment: Experiment) -> dict[str, str]:
    """Return how a page shows each model: without its folder, unless a model of another folder is called the same."""
    often = Counter(model.id for model in experiment.everyone)
    return {model.name: model.id if often[model.id] == 1 else model.name for model in experiment.everyone}


def models_table(experiment: Experiment, frames: Frames) -> Table | None:
    """Return one row per model: what it is, how it was trained, on what it was measured, and for how long."""
    attacks, shown, places = experiment.attack_names, shown_names(experiment), _environments(runs_of(experiment))
    audits = frames.audits[frames.audits["claim"] == OVERALL].assign(attack=AUDIT)
    seconds = {
        (row["model"], f"{row['attack']}_seconds"): row["seconds"]
        for frame in (frames.attacks, audits)
        for row in records_of(frame)
    }
    timed = [*attacks, *([AUDIT] * experiment.audited)]
    rows = []
    for row in records_of(frames.models):
        used = [letter for letter, runs in places.items() if any(run.name == row["model"] for run in runs)]
        row |= {f"{name}_seconds": seconds.get((row["model"], f"{name}_seconds")) for name in timed}
        hashed = None if row["weights_sha256"] is None else row["weights_sha256"][:_HASH_DIGITS]
        rows.append(row | {"model": shown[row["model"]], "weights": hashed, "environment": ", ".join(used) or None})
    noise = [
        f"Noise evolution of {found.title}: {found.summary.images:,} images, {draws_text(found.summary)}, "
        f"{len(found.summary.stages)} x {len(found.summary.sigmas)} stages and noise strengths, "
        f"{found.summary.seconds:,.1f} s."
        for found in experiment.noise
    ]
    return make_table(
        f"{experiment.name}-models",
        "The models",
        rows,
        (
            *(words(header) for header in ("Model", "Net", "Method")),
            words("Settings", "method_settings"),
            *(whole(header) for header in ("Parameters", "Seed", "Iterations")),
            words("Trained on", "trained_on"),
            words("Weights (SHA-256)", "weights"),
            real("Training (s)", "training_seconds", 1),
            whole("Test images", "images"),
            *(real(f"{name.replace(AUDIT, 'Audit')} (s)", f"{name}_seconds", 1) for name in timed),
            words("Environment"),
        ),
        (
            "Seconds: wall-clock time of the training and of each attack on the images of the column Test images, with "
            "PASS where it is defined. Environment: a row of the next table.",
            *noise,
        ),
    )


def environments_table(experiment: Experiment) -> Table | None:
    """Return one row per environment: commit, versions, processor, and which runs were made there."""
    rows = [
        {"environment": letter, "runs": owners(runs)} | described(runs[0].provenance)
        for letter, runs in _environments(runs_of(experiment)).items()
    ]
    columns = [words(header) for header in ("Environment", "Commit", "Versions", "Machine", "Runs")]
    return make_table(f"{experiment.name}-environments", "Where it was run", rows, columns, ())


def _environments(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Return the runs by environment, E1, E2 ...: what they share but for the command."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.provenance.model_dump_json(exclude={"command"}), []).append(run)
    return {f"E{number}": same for number, same in enumerate(found.values(), start=1)}


def owners(runs: Iterable[Run]) -> str:
    """Return runs as ``R0: fgs, hc1; B1: fgs``."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        kinds.setdefault((run.name, run.owner), []).append(run.kind)
    return "; ".join(f"{owner}: {', '.join(dict.fromkeys(names))}" for (_, owner), names in kinds.items())


def described(place: Provenance) -> dict[str, str]:
    """Return the commit and whether the source had been changed since, the versions, and the machine, in words."""
    commit = "not recorded" if place.commit is None else place.commit[:_COMMIT_DIGITS]
    packages = "".join(f", {name} {version}" for name, version in place.packages.items())
    cores = f"{place.cores} core{'' if place.cores == 1 else 's'}"
    return {
        "commit": f"{commit}, changed since" if place.commit is not None and place.dirty else commit,
        "versions": f"bangbench {place.bangbench}, Python {place.python}{packages}",
        "machine": f"{place.device}; {place.processor}, {cores}; {place.system}",
    }


def limits(experiment: Experiment) -> tuple[str, ...]:
    """Return what limits the numbers: images, seeds, what was left out or not run, mixed or changed sources."""
    return (
        *_limited(experiment),
        *_seeds(experiment),
        *left_out_notes(experiment),
        *_not_run(experiment),
        *_mixed(experiment),
    )


def _limited(experiment: Experiment) -> Iterator[str]:
    runs: dict[str, list[str]] = {}
    for run in runs_of(experiment):
        if run.spec.get("limit") is not None:
            runs.setdefault(str(run.spec["limit"]), []).append(f"{run.owner} {run.kind}")
    for limit, labels in runs.items():
        yield f"Measured on the first {limit} test images only, not on the full test split: {', '.join(labels)}."


def _seeds(experiment: Experiment) -> Iterator[str]:
    """Name the models that stand alone: nothing else was trained in the same way from another seed."""
    shown = shown_names(experiment)
    groups = [alike for alike in recipes(experiment.everyone) if len(independent(alike)) == 1]
    alone = [shown[model.name] for alike in groups for model in alike]
    if alone:
        yield (
            f"Trained from one seed only: {', '.join(alone)}. How much such a model's numbers change from one training "
            "to the next cannot be told from this page."
        )
    unknown = [shown[model.name] for model in experiment.everyone if model.card is None]
    if unknown:
        yield (
            f"How these were trained is not known, since there is no model.json of their weights: {', '.join(unknown)}."
        )


def _not_run(experiment: Experiment) -> Iterator[str]:
    every = experiment.attack_names
    missing: dict[str, list[str]] = {}
    for model in experiment.attacked:
        lacks = ", ".join(attack for attack in every if attack not in model.attacks)
        if lacks:
            missing.setdefault(lacks, []).append(model.id)
    for attacks, models in missing.items():
        yield f"Not run on {', '.join(models)}: {attacks}."
    unaudited = [model for model in experiment.everyone if model.audit is None]
    if unaudited:
        shown = shown_names(experiment)
        yield (
            f"Not audited: {', '.join(shown[model.name] for model in unaudited)}. Whether their low rates are "
            f"robustness or vanished gradients is not known; to tell: {how_to_audit(experiment, unaudited)}"
        )


def _mixed(experiment: Experiment) -> Iterator[str]:
    """Say in what the environments differ, and which runs no commit reproduces."""
    runs = runs_of(experiment)
    places = [described(run.provenance) for run in runs]
    differing = [what for what in ("commit", "versions", "machine") if len({place[what] for place in places}) > 1]
    if differing:
        yield f"The runs differ in {', '.join(differing)}: the table Where it was run has them."
    changed = [run for run in runs if run.provenance.dirty]
    if changed:
        yield (
            "Measured with source that had been changed since its commit, so that the commit alone does not reproduce "
            f"it: {owners(changed)}."
        )


def lead(experiment: Experiment) -> str:
    """Return how many models, which attacks, which images."""
    models, attacks, noise = len(experiment.everyone), experiment.attack_names, len(experiment.noise)
    grid, parts = experiment.grid, [f"{models} model{'' if models == 1 else 's'}"]
    if grid is not None:
        parts = [f"summaries of {len(grid.cells)} of {len(grid.record.cells)} models"]
    parts += [f"attacks: {', '.join(attacks)}"] if attacks else []
    parts += [f"{noise} noise evolution{'' if noise == 1 else 's'}"] if noise else []
    images = f"{experiment.data.images:,} test images of {experiment.data.name}"
    return f"{'; '.join([*parts, images])} (fingerprint {experiment.data.fingerprint[:12]})."
