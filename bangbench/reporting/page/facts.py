"""What was run: the models, and the environments their numbers come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from bangbench.core.provenance import Provenance
from bangbench.reporting.bench_rows import attack_names
from bangbench.reporting.groups import Group, ModelResults, short_name
from bangbench.reporting.noise_rows import draws_text, pair_title
from bangbench.reporting.rows import group_title
from bangbench.reporting.table import MISSING, Cell, Column, Row, Table, text
from bangbench.store.layout import AUDIT
from bangbench.store.records import ModelInfo

_COMMIT_DIGITS = 10
_HASH_DIGITS = 12
_GREEK = {"beta": "β", "epsilon": "ε"}


class Run(NamedTuple):
    """One finished run: whose it is, ``training``, ``fgs`` ... or ``noise``, its settings and where it was made.

    name: of the model or pair, with its folder; owner: the same as a page shows it.
    """

    name: str
    owner: str
    kind: str
    spec: dict[str, object]
    provenance: Provenance

    @property
    def label(self) -> str:
        """Return the run as a sentence names it: R0 fgs."""
        return f"{self.owner} {self.kind}"


def runs_of(group: Group) -> list[Run]:
    """Return every finished run of a group: the training of its models, then what was measured of them."""
    shown = shown_names(group)
    runs = [
        Run(model.name, shown[model.name], "training", model.card.spec, model.card.provenance)
        for model in group.models
        if model.card is not None
    ]
    runs += [
        Run(model.name, shown[model.name], attack, found.record.spec, found.record.provenance)
        for model in group.models
        for attack, found in ((name, model.attacks[name]) for name in attack_names(model))
    ]
    runs += [
        Run(model.name, shown[model.name], AUDIT, model.audit.record.spec, model.audit.record.provenance)
        for model in group.models
        if model.audit is not None
    ]
    runs += [
        Run(found.name, pair_title(found), "noise", found.record.spec, found.record.provenance) for found in group.noise
    ]
    return runs


def shown_names(group: Group) -> dict[str, str]:
    """Return how a page shows each model: without its folder, unless a model of another folder is called the same."""
    names = [info.name for info in models_of(group)]
    often = Counter(map(short_name, names))
    return {name: short_name(name) if often[short_name(name)] == 1 else name for name in names}


def attacks_of(group: Group) -> list[str]:
    """Return the names of all attacks run on any model of a group, each once."""
    return list(dict.fromkeys(name for model in group.models for name in attack_names(model)))


def models_of(group: Group) -> list[ModelInfo]:
    """Return every model of a group once, those too of which only a noise evolution was measured."""
    models = {model.name: model.model for model in group.models}
    for found in group.noise:
        for info in found.record.models:
            models.setdefault(info.name, info)
    return list(models.values())


def owners(runs: Iterable[Run]) -> str:
    """Return runs as ``R0: fgs, hc1; B1: fgs``."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        kinds.setdefault((run.name, run.owner), []).append(run.kind)
    return "; ".join(f"{owner}: {', '.join(names)}" for (_, owner), names in kinds.items())


def models_table(group: Group) -> Table:
    """Return one row per model: what it is, how it was trained, on what it was measured, and for how long."""
    attacks = attacks_of(group)
    letters, shown = _letters(group), shown_names(group)
    columns = (
        *(_text_column(header) for header in ("Model", "Net", "Method", "Settings")),
        *(Column(header, None, (header.lower(),), text) for header in ("Parameters", "Seed", "Iterations")),
        *(_text_column(header) for header in ("Trained on", "Weights (SHA-256)")),
        Column("Training (s)", None, ("training_seconds",), _seconds),
        Column("Test images", None, ("images",), text),
        *(Column(f"{attack} (s)", None, (f"{attack}_seconds",), _seconds) for attack in attacks),
        *([Column("Audit (s)", None, ("audit_seconds",), _seconds)] if any(_audits(group)) else []),
        _text_column("Environment"),
    )
    results = {model.name: model for model in group.models}
    rows = []
    for info in models_of(group):
        labels = shown[info.name], letters.get(info.name)
        rows.append(_model_row(group, info, results.get(info.name), attacks, labels))
    return Table(
        name=f"{group.name}-models",
        title=f"{group_title(group)}; the models",
        columns=columns,
        rows=tuple(rows),
        notes=(
            "Seconds: wall-clock time of the training and of each attack on the images of the column Test images, with "
            "PASS where it is defined. Environment: a row of the next table.",
            *(_noise_time(group)),
        ),
    )


def environments_table(group: Group) -> Table:
    """Return one row per environment: commit, versions, processor, and which runs were made there."""
    runs = runs_of(group)
    rows = []
    for letter, key in zip(_names(), _keys(runs), strict=False):
        here = [run for run in runs if environment_key(run.provenance) == key]
        rows.append(_environment_row(letter, here))
    headers = ("Environment", "Commit", "Versions", "Machine", "Runs")
    return Table(
        name=f"{group.name}-environments",
        title=f"{group_title(group)}; where it was run",
        columns=tuple(map(_text_column, headers)),
        rows=tuple(rows),
        notes=(),
    )


def environment_key(provenance: Provenance) -> str:
    """Return what two runs share that were made in one environment: everything but the command."""
    return provenance.model_dump_json(exclude={"command"})


def commit_text(provenance: Provenance) -> str:
    """Return the commit in short, and whether the source had been changed since."""
    if provenance.commit is None:
        return "not recorded"
    return provenance.commit[:_COMMIT_DIGITS] + (", changed since" if provenance.dirty else "")


def versions_text(provenance: Provenance) -> str:
    """Return versions as ``bangbench 0.1.0, Python 3.11.7, torch 2.6.0``."""
    return f"bangbench {provenance.bangbench}, Python {provenance.python}{_packages(provenance)}"


def machine_text(provenance: Provenance) -> str:
    """Return device, processor, cores and system."""
    cores = f"{provenance.cores} core{'' if provenance.cores == 1 else 's'}"
    return f"{provenance.device}; {provenance.processor}, {cores}; {provenance.system}"


def _packages(provenance: Provenance) -> str:
    return "".join(f", {name} {version}" for name, version in provenance.packages.items())


def _model_row(
    group: Group, info: ModelInfo, results: ModelResults | None, attacks: list[str], labels: tuple[str, str | None]
) -> Row:
    """Return one row; `labels` are the model's name as shown and its environments."""
    summaries = [None if results is None else results.summary(attack) for attack in attacks]
    cells: tuple[Cell, ...] = (
        (labels[0],),
        (info.net,),
        (info.method,),
        (_settings(info),),
        (info.parameters,),
        (info.seed,),
        (info.iterations,),
        (info.data,),
        (None if info.weights_sha256 is None else info.weights_sha256[:_HASH_DIGITS],),
        (_training_seconds(results),),
        (group.data.images,),
        *((None if summary is None else summary.seconds,) for summary in summaries),
        *([_audit_seconds(results)] if any(_audits(group)) else []),
        (labels[1],),
    )
    return Row("measured", cells)


def _environment_row(letter: str, runs: list[Run]) -> Row:
    provenance = runs[0].provenance
    cells = (letter, commit_text(provenance), versions_text(provenance), machine_text(provenance), owners(runs))
    return Row("measured", tuple((value,) for value in cells))


def _text_column(header: str) -> Column:
    return Column(header, None, (header.lower(),), text, "left")


def _settings(info: ModelInfo) -> str | None:
    shown = [f"{_GREEK.get(name, name)} {value}" for name, value in info.method_text().items()]
    return ", ".join(shown) or None


def _seconds(cell: Cell) -> str:
    value = cell[0]
    return MISSING if value is None or isinstance(value, str) else f"{value:,.1f}"


def _noise_time(group: Group) -> list[str]:
    return [
        f"Noise evolution of {pair_title(found)}: {found.summary.images:,} images, {draws_text(found.summary)}, "
        f"{len(found.summary.stages)} x {len(found.summary.sigmas)} stages and noise strengths, "
        f"{found.summary.seconds:,.1f} s."
        for found in group.noise
    ]


def _keys(runs: list[Run]) -> list[str]:
    return list(dict.fromkeys(environment_key(run.provenance) for run in runs))


def _training_seconds(results: ModelResults | None) -> float | None:
    if results is None or results.card is None:
        return None
    return results.card.seconds


def _audits(group: Group) -> list[bool]:
    return [model.audit is not None for model in group.models]


def _audit_seconds(results: ModelResults | None) -> Cell:
    return (None if results is None or results.audit is None else results.audit.summary.seconds,)


def _letters(group: Group) -> dict[str, str]:
    """Return the environments that the runs of each model (or pair) were made in, by its name with the folder."""
    runs = runs_of(group)
    names = dict(zip(_keys(runs), _names(), strict=False))
    letters: dict[str, dict[str, None]] = {}
    for run in runs:
        letters.setdefault(run.name, {})[names[environment_key(run.provenance)]] = None
    return {name: ", ".join(found) for name, found in letters.items()}


def _names() -> Iterable[str]:
    """Yield names that cannot be taken for a model's or a row's: E1, E2 ..."""
    number = 0
    while True:
        number += 1
        yield f"E{number}"
