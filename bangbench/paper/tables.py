"""The table as the paper prints it: each measured row with the published one directly under it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from bangbench.core.statistics import t_interval
from bangbench.paper.published import RowReference, published, published_label, published_row
from bangbench.reporting.attack_tables import rate_show
from bangbench.reporting.experiments import UNMASKED, Experiment, ModelResults
from bangbench.reporting.frames import Frames, Values, claim_values, measured
from bangbench.reporting.seeds import independent, recipes
from bangbench.reporting.table import (
    KIND,
    LABEL,
    Cell,
    Column,
    Table,
    audit_notes,
    if_doubted,
    make_table,
    real,
    shown,
    spread,
    words,
)
from bangbench.store.audits import PREDICTIONS

ATTACKS = ("fgs", "hc1")
_FIELDS = (
    *("rate_percent", "audit_verdict", "pass_paper_mean", "pass_paper_std"),
    *("linf_mean_grey_levels", "linf_std_grey_levels"),
)
#: What is averaged over the seeds of one recipe.
_AVERAGED = (
    "accuracy_percent",
    *(f"{attack}_{field}" for attack in ATTACKS for field in (_FIELDS[0], _FIELDS[2], _FIELDS[4])),
)

Reproduced = list[tuple[ModelResults, RowReference | None]]


def paper_table(experiment: Experiment, frames: Frames) -> Table | None:
    """Return the columns of the paper's Tables 1 and 2: rates in percent, L_inf in grey levels."""
    pairs = [(model, published_row(model.model, experiment.data, model.card)) for model in experiment.attacked]
    rows: list[Values] = []
    for several in _rows_together(experiment, pairs):
        models, reference = [model for model, _ in several], several[0][1]
        rows += [row for model in models for row in (_measured(experiment, model), *_unmasked(experiment, model))]
        rows += _mean(experiment, models)
        if reference is not None:
            rows.append(_published(experiment, models[0], reference))
    seeds, show = any(row["source"] == "seeds" for row in rows), rate_show(experiment)
    columns = [
        _with_seeds(column, places, seeds)
        for attack in ATTACKS
        for places, column in (
            (2, Column(f"{attack.upper()} rate (%)", (f"{attack}_rate_percent", f"{attack}_audit_verdict"), show)),
            (4, spread(f"{attack.upper()} PASS", f"{attack}_pass_paper", 4)),
            (2, spread(f"{attack.upper()} L∞", f"{attack}_linf", 2, "_grey_levels")),
        )
    ]
    return make_table(
        experiment.name,
        experiment.title,
        rows,
        (
            words("ID", LABEL),
            real("β", "beta", 2),
            real("ε", "epsilon", 3),
            _with_seeds(
                Column("Accuracy (%)", ("accuracy_percent", "predictions_audit_verdict"), if_doubted(2)), 2, seeds
            ),
            *columns,
        ),
        (
            "Rate: flipped images per correctly classified image. PASS and L∞ (grey levels of 0 to 255): mean ± "
            "standard deviation over the flipped images.",
            "PASS of the measured rows is pass_paper, which was matched empirically to the paper's Table 1 and is not "
            f"the authors' code; PASS by its written definition stands in {experiment.name}-bench.",
            *_published_notes(experiment, pairs),
            *([_SEEDS_NOTE] if seeds else []),
            *([_UNMASKED_NOTE] if any(row[KIND] == "unmasked" for row in rows) else []),
            *audit_notes(experiment, (PREDICTIONS, *ATTACKS)),
        ),
    )


_SEEDS_NOTE = (
    "Mean of n seeds: over trainings that differ in nothing but the seed, with the mean's 95 % t interval in brackets, "
    "which is left out where all give the same number."
)
_UNMASKED_NOTE = (
    "Unmasked: the same attack where nothing holds it back, in place of the masked rate above it; without PASS where "
    "it is from the audit, which looks at fewer images."
)


def _rows_together(experiment: Experiment, pairs: Reproduced) -> list[Reproduced]:
    """Return the models that stand for the same row (or for none) and were trained alike, together, in order."""
    alike = {model.name: models[0].name for models in recipes(experiment.attacked) for model in models}
    together: dict[tuple[str | None, str], Reproduced] = {}
    for model, reference in pairs:
        row = None if reference is None else reference.row.id
        together.setdefault((row, alike.get(model.name, model.name)), []).append((model, reference))
    return list(together.values())


def _mean(experiment: Experiment, models: Sequence[ModelResults]) -> Iterator[Values]:
    """Yield the mean over several seeds, with its t interval in place of standard deviations and verdicts."""
    seeds = independent(models)
    if len(seeds) < 2:
        return
    rows = [_measured(experiment, model) for model in seeds]
    values: Values = {name: rows[0][name] for name in ("beta", "epsilon")}
    for name in _AVERAGED:
        known = [row[name] for row in rows if row[name] is not None]
        found = t_interval(np.array(known, dtype=np.float64)) if len(known) == len(rows) else None
        values[name] = None if found is None else found.mean
        values |= dict(zip(_ends(name), (None, None) if found is None else (found.low, found.high), strict=True))
    yield _row(experiment, seeds[0], "seeds", **values, **{LABEL: f"mean of {len(seeds)} seeds"}) | {KIND: "measured"}


def _with_seeds(column: Column, places: int, seeds: bool) -> Column:
    """Return a column that shows an interval over seeds where a row has one; the column itself without seeds."""
    if not seeds:
        return column

    def show(cell: Cell) -> str:
        return column.show(cell[:-2]) if cell[-1] is None else shown(places, " [{}, {}]")((cell[0], *cell[-2:]))

    return column._replace(fields=(*column.fields, *_ends(column.fields[0])), show=show)


def _ends(field: str) -> tuple[str, str]:
    """Return the fields of the ends of an interval: rate_low_percent and rate_high_percent for rate_percent."""
    unit = next((unit for unit in ("_percent", "_grey_levels") if field.endswith(unit)), "")
    stem = field.removesuffix(unit)
    return f"{stem}_low{unit}", f"{stem}_high{unit}"


def _row(experiment: Experiment, model: ModelResults, source: str, **values: object) -> Values:
    names: Values = {"id": model.id, "source": source, "model": model.name, "data": experiment.data.name}
    row = names | dict.fromkeys(("beta", "epsilon", "accuracy_percent", "predictions_audit_verdict"))
    row |= {f"{attack}_{field}": None for attack in ATTACKS for field in _FIELDS}
    return row | values | {KIND: source, LABEL: values.get(LABEL, model.id)}


def _of_attack(attack: str, values: Values) -> Values:
    return {f"{attack}_{field}": values.get(field) for field in _FIELDS}


def _measured(experiment: Experiment, model: ModelResults) -> Values:
    values: Values = {name: model.model.method_number(name) for name in ("beta", "epsilon")}
    values |= {"accuracy_percent": model.accuracy, "predictions_audit_verdict": model.verdict(PREDICTIONS)}
    for attack in ATTACKS:
        values |= _of_attack(attack, measured(model, attack))
    return _row(experiment, model, "measured", **values)


def _unmasked(experiment: Experiment, model: ModelResults) -> list[Values]:
    """Return the row under a model with masked rates: the same attacks where nothing holds them back.

    The numbers of the twin are those measured, or else the audit's, which have no PASS.
    """
    values: Values = {}
    masked = [attack for attack in ATTACKS if model.is_masked(attack)]
    for attack in masked:
        twin, claim = f"{attack}{UNMASKED}", model.claim(f"{attack}{UNMASKED}")
        values |= _of_attack(attack, measured(model, twin) or ({} if claim is None else claim_values(claim)))
    row = _row(experiment, model, "unmasked", **values, **{LABEL: "unmasked"})
    return [row] if any(attack in model.attacks for attack in masked) else []


def _published(experiment: Experiment, model: ModelResults, reference: RowReference) -> Values:
    row = reference.row
    values: Values = {"beta": row.beta, "epsilon": row.epsilon, "accuracy_percent": row.accuracy}
    for attack, printed in zip(ATTACKS, (row.fgs, row.hc1), strict=True):
        numbers = (printed.rate, None, *printed.pass_paper, *printed.linf)
        values |= _of_attack(attack, dict(zip(_FIELDS, numbers, strict=True)))
    label = published_label(experiment.data, reference.dataset)
    found = _row(experiment, model, "published", **values, **{LABEL: label})
    return found | {"model": f"{reference.table}/{row.id}", "data": reference.dataset}


def _published_notes(experiment: Experiment, pairs: Reproduced) -> tuple[str, ...]:
    references = [(model.id, reference) for model, reference in pairs if reference is not None]
    if not references:
        return ()
    source = published().source
    tables = sorted({reference.table[-1] for _, reference in references})
    notes = [f"Published rows: {source.title} (arXiv {source.arxiv}), Table {' and Table '.join(tables)}."]
    renamed = [
        f"{name} stands for Table {reference.table[-1]} {reference.row.id}"
        for name, reference in references
        if name != reference.row.id
    ]
    if renamed:
        notes.append(f"{'; '.join(renamed)}.")
    labels = {published_label(experiment.data, reference.dataset) for _, reference in references} - {"published"}
    if labels:
        # a copy may bear the name of the original; what was asked for tells them apart
        same_name = experiment.data.name in {reference.dataset for _, reference in references}
        measured_on = experiment.data.source if same_name else experiment.data.name
        notes.append(
            f"The rows above those marked {', '.join(sorted(labels))} were measured on {measured_on}: other "
            "images than the published numbers."
        )
    return tuple(notes)
