"""What was run, where, and what limits the numbers: the last part of the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple
from urllib.parse import quote

from bangbench.core.provenance import Provenance
from bangbench.reporting.attack_tables import independent, recipes
from bangbench.reporting.collect import cell_draws
from bangbench.reporting.experiments import Experiment, noise_title
from bangbench.reporting.frames import Values
from bangbench.reporting.noise import arithmetic_note, draws_text
from bangbench.reporting.notes import how_to_audit
from bangbench.reporting.table import Column, Table, make_table, real, whole, words
from bangbench.store.layout import AUDIT

_PAPER_DRAWS = 1000
_COMMIT_DIGITS, _HASH_DIGITS = 10, 12


class Link(NamedTuple):
    """A link and its text."""

    href: str
    text: str


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
    trainings, attacks, audits = [], [], []
    for model in experiment.models:
        owner = shown[model.name]
        if model.card is not None:
            trainings.append(Run(model.name, owner, "training", model.card.spec, model.card.provenance))
        for name in model.attack_names:
            record = model.attacks[name].record
            attacks.append(Run(model.name, owner, name, record.spec, record.provenance))
        if model.audit is not None:
            audit = model.audit.record
            audits.append(Run(model.name, owner, AUDIT, audit.spec, audit.provenance))
    noise = [
        Run(found.name, noise_title(found), "noise", found.record.spec, found.record.provenance)
        for found in experiment.noise
    ]
    return [*trainings, *attacks, *audits, *noise]


def commands(experiment: Experiment) -> tuple[str, ...]:
    """Return the commands that made the records, training first, each once, and the one of the report."""
    return (*dict.fromkeys(run.provenance.command for run in runs_of(experiment)), "bangbench report")


def shown_names(experiment: Experiment) -> dict[str, str]:
    """Return how a page shows each model: without its folder, unless a model of another folder is called the same."""
    often = Counter(model.id for model in experiment.everyone)
    return {model.name: model.id if often[model.id] == 1 else model.name for model in experiment.everyone}


def attacks_of(experiment: Experiment) -> list[str]:
    """Return the names of all attacks run on any model, each once."""
    return list(dict.fromkeys(name for model in experiment.models for name in model.attack_names))


def models_table(experiment: Experiment) -> Table | None:
    """Return one row per model: what it is, how it was trained, on what it was measured, and for how long."""
    attacks, shown = attacks_of(experiment), shown_names(experiment)
    places = _environments(runs_of(experiment))
    rows = []
    for model in experiment.everyone:
        info = model.model
        row: Values = {"model": shown[model.name], "net": info.net, "method": info.method}
        settings = [f"{name} {value}" for name, value in info.method_text().items()]
        row |= {"settings": ", ".join(settings) or None, "parameters": info.parameters}
        row |= {"seed": info.seed, "iterations": info.iterations, "trained on": info.data}
        row["weights"] = None if info.weights_sha256 is None else info.weights_sha256[:_HASH_DIGITS]
        row["training_seconds"] = None if model.card is None else model.card.seconds
        row["images"] = experiment.data.images
        for attack in attacks:
            summary = model.summary(attack)
            row[f"{attack}_seconds"] = None if summary is None else summary.seconds
        row["audit_seconds"] = None if model.audit is None else model.audit.summary.seconds
        used = [letter for letter, runs in places.items() if any(run.name == model.name for run in runs)]
        rows.append(row | {"environment": ", ".join(used) or None})
    timed = [*((name, f"{name}_seconds") for name in attacks), *([("Audit", "audit_seconds")] * experiment.audited)]
    noise = [
        f"Noise evolution of {noise_title(found)}: {found.summary.images:,} images, {draws_text(found.summary)}, "
        f"{len(found.summary.stages)} x {len(found.summary.sigmas)} stages and noise strengths, "
        f"{found.summary.seconds:,.1f} s."
        for found in experiment.noise
    ]
    return make_table(
        f"{experiment.name}-models",
        "The models",
        rows,
        (
            *(words(header) for header in ("Model", "Net", "Method", "Settings")),
            *(whole(header) for header in ("Parameters", "Seed", "Iterations")),
            words("Trained on"),
            words("Weights (SHA-256)", "weights"),
            real("Training (s)", "training_seconds", 1),
            whole("Test images", "images"),
            *(real(f"{name} (s)", field, 1) for name, field in timed),
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
    rows = []
    for letter, runs in _environments(runs_of(experiment)).items():
        place = runs[0].provenance
        row = {"environment": letter, "commit": commit_text(place), "versions": versions_text(place)}
        rows.append(row | {"machine": machine_text(place), "runs": owners(runs)})
    columns: list[Column] = [words(header) for header in ("Environment", "Commit", "Versions", "Machine", "Runs")]
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
    return "; ".join(f"{owner}: {', '.join(names)}" for (_, owner), names in kinds.items())


def commit_text(provenance: Provenance) -> str:
    """Return the commit in short, and whether the source had been changed since."""
    if provenance.commit is None:
        return "not recorded"
    return provenance.commit[:_COMMIT_DIGITS] + (", changed since" if provenance.dirty else "")


def versions_text(provenance: Provenance) -> str:
    """Return versions as ``bangbench 0.1.0, Python 3.11.7, torch 2.6.0``."""
    packages = "".join(f", {name} {version}" for name, version in provenance.packages.items())
    return f"bangbench {provenance.bangbench}, Python {provenance.python}{packages}"


def machine_text(provenance: Provenance) -> str:
    """Return device, processor, cores and system."""
    cores = f"{provenance.cores} core{'' if provenance.cores == 1 else 's'}"
    return f"{provenance.device}; {provenance.processor}, {cores}; {provenance.system}"


def limits(experiment: Experiment) -> tuple[str, ...]:
    """Return what limits the numbers: images, seeds, attacks left out, draws, mixed or changed sources."""
    return (
        *_limited(experiment),
        *_draws(experiment),
        *_seeds(experiment),
        *_not_run(experiment),
        *_dirty(experiment),
        *_mixed(experiment, "commits", commit_text),
        *_mixed(experiment, "versions", versions_text),
        *_mixed(experiment, "machines", machine_text),
    )


def _limited(experiment: Experiment) -> Iterator[str]:
    runs: dict[str, list[str]] = {}
    for run in runs_of(experiment):
        if run.spec.get("limit") is not None:
            runs.setdefault(str(run.spec["limit"]), []).append(f"{run.owner} {run.kind}")
    for limit, labels in runs.items():
        yield f"Measured on the first {limit} test images only, not on the full test split: {', '.join(labels)}."


def _draws(experiment: Experiment) -> Iterator[str]:
    for found in experiment.noise:
        draws = cell_draws(found.summary)
        fewest, most = int(draws.min()), int(draws.max())
        if fewest < _PAPER_DRAWS:
            copies = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
            yield (
                f"The noise evolution of {noise_title(found)} has {copies} noisy copies of each image; the paper has "
                f"{_PAPER_DRAWS:,}."
            )
        if note := arithmetic_note(found.summary):
            yield f"Noise evolution of {noise_title(found)}: {note}."


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
    every = attacks_of(experiment)
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


def _dirty(experiment: Experiment) -> Iterator[str]:
    runs = [run for run in runs_of(experiment) if run.provenance.dirty]
    if runs:
        yield (
            "Measured with source that had been changed since its commit, so that the commit alone does not reproduce "
            f"it: {owners(runs)}."
        )


def _mixed(experiment: Experiment, what: str, describe: Callable[[Provenance], str]) -> Iterator[str]:
    labels: dict[str, dict[str, None]] = {}
    for run in runs_of(experiment):
        labels.setdefault(describe(run.provenance), {})[run.owner] = None
    if len(labels) > 1:
        found = "; ".join(f"{value} ({', '.join(names)})" for value, names in labels.items())
        yield f"The runs were made with different {what}: {found}."


def lead(experiment: Experiment) -> str:
    """Return how many models, which attacks, which images."""
    models, attacks, noise = len(experiment.everyone), attacks_of(experiment), len(experiment.noise)
    parts = [f"{models} model{'' if models == 1 else 's'}"]
    parts += [f"attacks: {', '.join(attacks)}"] if attacks else []
    parts += [f"{noise} noise evolution{'' if noise == 1 else 's'}"] if noise else []
    images = f"{experiment.data.images:,} test images of {experiment.data.name}"
    return f"{'; '.join([*parts, images])} (fingerprint {experiment.data.fingerprint[:12]})."


def links_to(links: Sequence[str]) -> tuple[Link, ...]:
    """Return files by the ends of their names; a name cannot be taken for anything else."""
    return tuple(Link(quote(link, safe="/"), link.rpartition(".")[2]) for link in links)


def downloads_of(links: tuple[str, ...]) -> list[tuple[str, tuple[Link, ...]]]:
    """Return the files by stem, each with its formats, in the order given."""
    found: dict[str, list[str]] = {}
    for link in links:
        found.setdefault(PurePosixPath(link).with_suffix("").as_posix(), []).append(link)
    return [(stem, links_to(several)) for stem, several in found.items()]
