"""Masked against unmasked: how much of a low rate is a vanished gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bangbench.reporting.bench_rows import RATE_GAP, attack_title, median_censored
from bangbench.reporting.groups import Group, ModelResults, short_name
from bangbench.reporting.rows import group_title, unfinished_note
from bangbench.reporting.table import Cell, Column, Row, Show, Table, csv_column, mean_and_std, number, text
from bangbench.reporting.verdicts import UNMASKED, audit_notes, is_masked, show_rate, unmasked_claim, verdict_on
from bangbench.store.records import AttackSummary

#: How many times larger the median L_inf has to be.
_MEDIAN_FACTOR = 1.25
#: An unmasked rate, in percent, below which the images that withstand it are put into words.
_NEARLY_ALL = 95.0

#: The bench's own attacks that have an unmasked twin.
_OWN = ("fgs", "hc1")


class _Compared(NamedTuple):
    """One model under an attack and its unmasked twin."""

    name: str
    masked: AttackSummary
    unmasked: AttackSummary


def masking_table(group: Group) -> Table | None:
    """Return rate and L_inf of each attack beside its unmasked twin; None where no unmasked attack was run."""
    if not any(attack.endswith(UNMASKED) for model in group.models for attack in model.attacks):
        return None
    stems = _stems(group)
    attacks = [attack for stem in stems for attack in (stem, f"{stem}{UNMASKED}")]
    columns = tuple(column for attack in attacks for column in _attack_columns(attack, show_rate(group)))
    return Table(
        name=f"{group.name}-masking",
        title=f"{group_title(group)}; masked against unmasked",
        columns=(*_NAMES, *columns),
        rows=tuple(row for model in group.attacked for row in _rows(group, model, attacks)),
        notes=(
            "Rates in percent of the correct images; L∞ in grey levels, mean ± standard deviation over the "
            "flipped images.",
            *masking_sentences(group),
            *audit_notes(group, attacks),
            *unfinished_note(group),
        ),
    )


def masking_sentences(group: Group) -> tuple[str, ...]:
    """Return what the differences between the attacks and their unmasked twins mean."""
    return tuple(sentence for stem in _stems(group) for sentence in _sentence(group, stem))


def _stems(group: Group) -> list[str]:
    """Return the attacks to show beside their unmasked twins: the bench's own first, then others by name.

    The bench's own are shown where either of the two was run on some model, others where the twin was.
    """
    run = {attack for model in group.models for attack in model.attacks}
    own = [stem for stem in _OWN if run & {stem, f"{stem}{UNMASKED}"}]
    return own + sorted({attack.removesuffix(UNMASKED) for attack in run if attack.endswith(UNMASKED)} - set(own))


def _attack_columns(attack: str, show: Show) -> tuple[Column, ...]:
    title, field = attack_title(attack), attack.replace("-", "_")
    stem = title.removesuffix(UNMASKED)
    short = f"{stem}\n" if stem == title else f"{stem}\nunm."
    linf = (f"{field}_linf_mean_grey_levels", f"{field}_linf_std_grey_levels")
    return (
        Column(f"{title} rate (%)", f"{short}\nrate %", (f"{field}_rate_percent", f"{field}_audit_verdict"), show),
        Column(f"{title} L∞", f"{short}\nL∞", linf, mean_and_std(2)),
    )


_NAMES = (
    Column("ID", "ID", ("id",), text, "left"),
    csv_column("source"),
    csv_column("model"),
    csv_column("data"),
)


def _rows(group: Group, model: ModelResults, attacks: Sequence[str]) -> list[Row]:
    """Return a model's row, and one of the audit's numbers for unmasked twins that were not run."""
    rows = [Row("measured", _cells(group, model, attacks))]
    masked = [attack for attack in attacks if attack in model.attacks and is_masked(model, attack)]
    missing = [attack for attack in masked if f"{attack}{UNMASKED}" not in model.attacks]
    if any(unmasked_claim(model, attack) is not None for attack in missing):
        rows.append(Row("unmasked", _audited_cells(group, model, attacks, missing)))
    return rows


def _audited_cells(
    group: Group, model: ModelResults, attacks: Sequence[str], missing: Sequence[str]
) -> tuple[Cell, ...]:
    cells: list[Cell] = [("in the audit",), ("audit",), (model.name,), (group.data.name,)]
    for attack in attacks:
        claim = unmasked_claim(model, attack.removesuffix(UNMASKED)) if attack.endswith(UNMASKED) else None
        if claim is None or attack.removesuffix(UNMASKED) not in missing:
            cells += [(None, None), (None, None)]
        else:
            linf = claim.linf
            cells += [(claim.rate, claim.verdict), (None, None) if linf is None else (linf.mean, linf.std)]
    return tuple(cells)


def _cells(group: Group, model: ModelResults, attacks: Sequence[str]) -> tuple[Cell, ...]:
    cells: list[Cell] = [(short_name(model.name),), ("measured",), (model.name,), (group.data.name,)]
    for attack in attacks:
        summary = model.summary(attack)
        cells.append((None, None) if summary is None else (summary.rate, verdict_on(model.audit, attack)))
        cells.append((None, None) if summary is None else (summary.linf.mean, summary.linf.std))
    return tuple(cells)


def _sentence(group: Group, attack: str) -> tuple[str, ...]:
    """Return what the difference means, where both attacks were run on some model that has correct images."""
    compared = []
    for model in group.models:
        masked, unmasked = model.summary(attack), model.summary(f"{attack}{UNMASKED}")
        if masked is not None and unmasked is not None and masked.correct and unmasked.correct:
            compared.append(_Compared(short_name(model.name), masked, unmasked))
    if not compared:
        return ()
    own = {"fgs": _fgs_sentence, "hc1": _hc1_sentence}
    return (own[attack](compared) if attack in own else _other_sentence(attack, compared),)


def _fgs_sentence(compared: list[_Compared]) -> str:
    """Say what separates FGS from fgs-unmasked: the underflow of the gradient, and nothing else."""
    low = [item for item in compared if _rate_gap(item) > RATE_GAP]
    if not low:
        return f"FGS against fgs-unmasked: vanished gradients hold its rates down by at most {RATE_GAP:g} points."
    numbers = "; ".join(
        f"{item.name} {_rates(item)}, {number(item.masked.blank, 2)} % of gradients blank" for item in low
    )
    meaning = "what fgs-unmasked flips beyond FGS was hidden by vanished float32 gradients, not resisted"
    return f"FGS against fgs-unmasked ({numbers}): {meaning}{_withstood('fgs', low)}."


def _hc1_sentence(compared: list[_Compared]) -> str:
    """Say what separates HC1 from hc1-unmasked: the sign of the true class's weight, and nothing else."""
    harder = [item for item in compared if _rate_gap(item) > RATE_GAP or _median_is_larger(item)]
    if not harder:
        return (
            f"HC1 flips at most {RATE_GAP:g} points less than hc1-unmasked, and its median L∞ is not much "
            "larger: the sign of its weight matters little for these models."
        )
    numbers = "; ".join(f"{item.name} {_rates(item)}, median L∞ {_medians(item)}" for item in harder)
    return (
        f"HC1 against hc1-unmasked ({numbers}): where the true logit is negative, HC1's weight pushes towards the "
        f"true class; that sign makes the gap between the two, not robustness{_withstood('hc1', harder)}."
    )


def _other_sentence(attack: str, compared: list[_Compared]) -> str:
    """Say how far an attack of another package falls behind its twin, of which no more than the name is known."""
    low = [item for item in compared if _rate_gap(item) > RATE_GAP]
    if not low:
        return f"{attack} flips at most {RATE_GAP:g} points less than {attack}{UNMASKED}."
    numbers = "; ".join(f"{item.name} {_rates(item)}" for item in low)
    return (
        f"{attack} against {attack}{UNMASKED} ({numbers}): what {attack}{UNMASKED} flips beyond {attack} is not "
        f"resisted{_withstood(attack, low)}."
    )


def _withstood(attack: str, compared: list[_Compared]) -> str:
    """Return how many images the unmasked attack does not flip either, for the models where these are many."""
    return "".join(
        f"; {number(100.0 - item.unmasked.rate, 2)} % of {item.name}'s images withstand even {attack}{UNMASKED}"
        for item in compared
        if item.unmasked.rate is not None and item.unmasked.rate < _NEARLY_ALL
    )


def _rate_gap(item: _Compared) -> float:
    """Return by how many percentage points the unmasked attack flips more."""
    return (item.unmasked.rate or 0.0) - (item.masked.rate or 0.0)


def _median_is_larger(item: _Compared) -> bool:
    masked, unmasked = median_censored(item.masked), median_censored(item.unmasked)
    return masked is not None and unmasked is not None and masked > _MEDIAN_FACTOR * unmasked


def _rates(item: _Compared) -> str:
    return f"{number(item.masked.rate, 2)} against {number(item.unmasked.rate, 2)} %"


def _medians(item: _Compared) -> str:
    masked, unmasked = median_censored(item.masked), median_censored(item.unmasked)
    return f"{number(masked, 2)} against {number(unmasked, 2)}"
