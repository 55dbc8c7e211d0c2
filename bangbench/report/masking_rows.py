"""Masked against unmasked: how much of a low rate is a vanished gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from bangbench.report.bench_rows import median_censored
from bangbench.report.groups import Group, ModelResults, short_name
from bangbench.report.rows import group_title, unfinished_note
from bangbench.report.table import Cell, Column, Row, Table, csv_column, decimals, mean_and_std, number, text
from bangbench.store.records import AttackSummary

#: A gap in rate, in percentage points, from which on it is put into words.
_RATE_GAP = 5.0
#: How many times larger the median L_inf has to be.
_MEDIAN_FACTOR = 1.25


class _Compared(NamedTuple):
    """One model under an attack and its unmasked twin."""

    name: str
    masked: AttackSummary
    unmasked: AttackSummary


def masking_table(group: Group) -> Table | None:
    """Return rate and L_inf of each attack beside its unmasked twin; None where no unmasked attack was run."""
    if not any(attack.endswith("-unmasked") for model in group.models for attack in model.attacks):
        return None
    return Table(
        name=f"{group.name}-masking",
        title=f"{group_title(group)}; masked against unmasked",
        columns=_COLUMNS,
        rows=tuple(Row("measured", _cells(group, model)) for model in group.models),
        notes=(
            "Rates in percent of the correct images; L∞ in grey levels, mean ± standard deviation over the "
            "flipped images.",
            *_sentence(group, "fgs", _fgs_sentence),
            *_sentence(group, "hc1", _hc1_sentence),
            *unfinished_note(group),
        ),
    )


def _attack_columns(attack: str) -> tuple[Column, ...]:
    title, field = attack.replace("fgs", "FGS").replace("hc1", "HC1"), attack.replace("-", "_")
    short = title.replace("-unmasked", "\nunm.") if "-" in title else f"{title}\n"
    linf = (f"{field}_linf_mean_grey_levels", f"{field}_linf_std_grey_levels")
    return (
        Column(f"{title} rate (%)", f"{short}\nrate %", (f"{field}_rate_percent",), decimals(2)),
        Column(f"{title} L∞", f"{short}\nL∞", linf, mean_and_std(2)),
    )


_COLUMNS = (
    Column("ID", "ID", ("id",), text, "left"),
    csv_column("source"),
    csv_column("model"),
    csv_column("data"),
    *_attack_columns("fgs"),
    *_attack_columns("fgs-unmasked"),
    *_attack_columns("hc1"),
    *_attack_columns("hc1-unmasked"),
)


def _cells(group: Group, model: ModelResults) -> tuple[Cell, ...]:
    cells: list[Cell] = [(short_name(model.name),), ("measured",), (model.name,), (group.data.name,)]
    for attack in ("fgs", "fgs-unmasked", "hc1", "hc1-unmasked"):
        summary = model.summary(attack)
        cells.append((None if summary is None else summary.rate,))
        cells.append((None, None) if summary is None else (summary.linf.mean, summary.linf.std))
    return tuple(cells)


def _sentence(group: Group, attack: str, say: Callable[[list[_Compared]], str]) -> tuple[str, ...]:
    """Return what the difference means, where both attacks were run on some model that has correct images."""
    compared = []
    for model in group.models:
        masked, unmasked = model.summary(attack), model.summary(f"{attack}-unmasked")
        if masked is not None and unmasked is not None and masked.correct and unmasked.correct:
            compared.append(_Compared(short_name(model.name), masked, unmasked))
    return (say(compared),) if compared else ()


def _fgs_sentence(compared: list[_Compared]) -> str:
    """Say what separates FGS from fgs-unmasked: the underflow of the gradient, and nothing else."""
    low = [item for item in compared if _rate_gap(item) > _RATE_GAP]
    if not low:
        return (
            f"FGS flips at most {_RATE_GAP:g} points less than fgs-unmasked: its rates are not held down by "
            "vanished gradients."
        )
    numbers = "; ".join(
        f"{item.name} {_rates(item)}, {number(item.masked.blank, 2)} % of gradients blank" for item in low
    )
    meaning = "what FGS misses comes from vanished float32 gradients, not from robustness"
    return f"FGS against fgs-unmasked ({numbers}): {meaning}."


def _hc1_sentence(compared: list[_Compared]) -> str:
    """Say what separates HC1 from hc1-unmasked: the sign of the true class's weight, and nothing else."""
    harder = [item for item in compared if _rate_gap(item) > _RATE_GAP or _median_is_larger(item)]
    if not harder:
        return (
            f"HC1 flips at most {_RATE_GAP:g} points less than hc1-unmasked, and its median L∞ is not much "
            "larger: the sign of its weight matters little for these models."
        )
    numbers = "; ".join(f"{item.name} {_rates(item)}, median L∞ {_medians(item)}" for item in harder)
    return (
        f"HC1 against hc1-unmasked ({numbers}): where the true logit is negative, HC1's weight pushes towards the "
        "true class; what holds HC1 back is that sign, not robustness."
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
