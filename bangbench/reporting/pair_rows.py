"""Pairs of models on the images that both classify correctly: one row per pair and attack."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from bangbench.core.statistics import Estimate
from bangbench.reporting.comparison import (
    Comparison,
    PairedAttack,
    PairedMeans,
    common_attacks,
    compare,
    interval_text,
    p_text,
)
from bangbench.reporting.groups import Group, ModelResults, short_name
from bangbench.reporting.rows import group_title
from bangbench.reporting.table import (
    MISSING,
    Cell,
    Column,
    Row,
    Table,
    Value,
    csv_column,
    decimals,
    number,
    text,
    value_and_interval,
)
from bangbench.reporting.verdicts import audit_notes, show_rate

#: Up to so many models every pair is compared; of more of them, the first regular one with each of the others.
_MOST_MODELS = 4

_NOTES = (
    "Images: those that both models classify correctly; rates in percent of these, with 95 % Wilson intervals in the "
    "CSV. First and second: in the order of the pair's name. Difference: first minus second, in percentage points, "
    "with Tango's 95 % score interval for paired rates; p: McNemar's exact test.",
    "L∞ (grey levels) and PASS (the written definition): means over the images flipped in both, so that both are "
    "averages over the same images; differences with 95 % bootstrap intervals, none from fewer than 6 images or from "
    "the same difference in each. Median L∞: over all images of the row, those never flipped counted as infinite.",
    "A low rate under an attack is no robustness where its unmasked twin flips many more.",
    "Intervals and p cover the sampling of images, not training with another seed. Each stands for itself: of 100 "
    "comparisons of equal models, about 5 have p below 0.05 by chance.",
)


def pair_table(group: Group) -> Table | None:
    """Return what differs between pairs of models on common images; None where no two have single images."""
    comparisons = [compare(first, second) for first, second in _pairs(group)]
    if not comparisons:
        return None
    rows = tuple(Row("measured", _cells(comparison, item)) for comparison in comparisons for item in comparison.attacks)
    return Table(
        name=f"{group.name}-pairs",
        title=f"{group_title(group)}; pairs of models on common images",
        columns=_columns(group),
        rows=rows,
        notes=(
            *_NOTES,
            *_chosen_note(group),
            _accuracy_note(comparisons),
            *audit_notes(group, _attacks(comparisons), (name for each in comparisons for name in each[:2])),
        ),
    )


def _attacks(comparisons: Sequence[Comparison]) -> list[str]:
    return [item.attack for comparison in comparisons for item in comparison.attacks]


def _with_rows(group: Group) -> list[ModelResults]:
    return [model for model in group.models if any(found.rows is not None for found in model.attacks.values())]


def _pairs(group: Group) -> list[tuple[ModelResults, ModelResults]]:
    models = _with_rows(group)
    if len(models) > _MOST_MODELS:
        base = _base(models)
        pairs = [(base, model) for model in models if model is not base]
    else:
        pairs = list(combinations(models, 2))
    return [(first, second) for first, second in pairs if common_attacks(first, second)]


def _base(models: Sequence[ModelResults]) -> ModelResults:
    return next((model for model in models if model.model.method == "regular"), models[0])


def _show_p(cell: Cell) -> str:
    value = cell[0]
    return p_text(value) if isinstance(value, (int, float)) else MISSING


_NAMES = (
    Column("Pair", "Pair", (), text, "left"),
    csv_column("first"),
    csv_column("second"),
    csv_column("data"),
    Column("Attack", "Attack", ("attack",), text, "left"),
    Column("Images", "Images", ("images",), text),
)
_NUMBERS = (
    Column(
        "Difference (points)",
        "Difference\npoints",
        ("difference_points", "difference_low_points", "difference_high_points"),
        value_and_interval(2),
    ),
    Column("p", "p", ("mcnemar_p",), _show_p),
    Column("Both flipped", "Both\nflipped", ("both_flipped",), text),
    Column("First L∞", None, ("first_linf_mean_grey_levels",), decimals(2)),
    Column("Second L∞", None, ("second_linf_mean_grey_levels",), decimals(2)),
    Column(
        "L∞ difference",
        "L∞\ndifference",
        ("linf_difference_grey_levels", "linf_difference_low_grey_levels", "linf_difference_high_grey_levels"),
        value_and_interval(2),
    ),
    Column("First PASS", None, ("first_pass_mean",), decimals(4)),
    Column("Second PASS", None, ("second_pass_mean",), decimals(4)),
    Column(
        "PASS difference",
        None,
        ("pass_difference", "pass_difference_low", "pass_difference_high"),
        value_and_interval(4),
    ),
    Column(
        "First median L∞",
        None,
        (
            "first_linf_median_censored_grey_levels",
            "first_linf_lower_quartile_censored_grey_levels",
            "first_linf_upper_quartile_censored_grey_levels",
        ),
        decimals(2),
    ),
    Column(
        "Second median L∞",
        None,
        (
            "second_linf_median_censored_grey_levels",
            "second_linf_lower_quartile_censored_grey_levels",
            "second_linf_upper_quartile_censored_grey_levels",
        ),
        decimals(2),
    ),
)


def _columns(group: Group) -> tuple[Column, ...]:
    return (*_NAMES, _rate_column(group, "first"), _rate_column(group, "second"), *_NUMBERS)


def _rate_column(group: Group, which: str) -> Column:
    rate = f"{which}_rate"
    fields = (f"{rate}_percent", f"{rate}_low_percent", f"{rate}_high_percent", f"{which}_audit_verdict")
    return Column(f"{which.title()} rate (%)", f"{which.title()}\nrate %", fields, show_rate(group))


def _pair_title(comparison: Comparison) -> str:
    return f"{short_name(comparison.first)} vs {short_name(comparison.second)}"


def _cells(comparison: Comparison, item: PairedAttack) -> tuple[Cell, ...]:
    rates = item.rates
    return (
        (_pair_title(comparison),),
        (comparison.first,),
        (comparison.second,),
        (comparison.data,),
        (item.attack,),
        (item.images,),
        (rates.first.percent, *(rates.first.interval or (None, None)), item.verdicts[0]),
        (rates.second.percent, *(rates.second.interval or (None, None)), item.verdicts[1]),
        _estimate_cell(rates.difference),
        (rates.p_value if item.images else None,),
        (item.both_flipped,),
        *_mean_cells(item.linf),
        *_mean_cells(item.pass_definition),
        _quartile_cell(item.first_quartiles),
        _quartile_cell(item.second_quartiles),
    )


def _estimate_cell(estimate: Estimate | None) -> Cell:
    if estimate is None:
        return None, None, None
    interval: tuple[Value, Value] = estimate.interval or (None, None)
    return estimate.value, *interval


def _mean_cells(means: PairedMeans | None) -> tuple[Cell, Cell, Cell]:
    if means is None:
        return (None,), (None,), (None, None, None)
    return (means.first,), (means.second,), _estimate_cell(means.difference)


def _quartile_cell(quartiles: tuple[float, ...] | None) -> Cell:
    """Return the median, which is printed, and the lower and the upper quartile."""
    if quartiles is None:
        return None, None, None
    lower, median, upper = quartiles
    return median, lower, upper


def _chosen_note(group: Group) -> tuple[str, ...]:
    models = _with_rows(group)
    if len(models) <= _MOST_MODELS:
        return ()
    return (f"{len(models)} models: {short_name(_base(models).name)} is compared with each of the others.",)


def _accuracy_note(comparisons: Sequence[Comparison]) -> str:
    """Return the accuracies of each pair over all images, correctly classified or not."""
    pairs = "; ".join(
        f"{_pair_title(comparison)} {number(rates.first.percent, 2)} and {number(rates.second.percent, 2)} %, "
        f"difference {number(difference.value, 2)} {interval_text(difference.interval, 2)} points, "
        f"p {p_text(rates.p_value)}"
        for comparison in comparisons
        if (difference := (rates := comparison.accuracy).difference) is not None
    )
    return f"Accuracy over all {comparisons[0].images:,} test images: {pairs}."
