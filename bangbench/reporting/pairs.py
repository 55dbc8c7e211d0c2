"""Two models on the same images: paired differences with intervals, as rows of a table and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from bangbench.core.errors import BenchError, unknown_name
from bangbench.core.statistics import (
    Estimate,
    Flags,
    Numbers,
    censored_quantiles,
    mcnemar,
    paired_mean_difference,
    paired_rate_difference,
    wilson_interval,
)
from bangbench.reporting.attack_tables import masking_sentences
from bangbench.reporting.experiments import Experiment, ModelResults
from bangbench.reporting.frames import Frames, Values, interval_fields, with_interval
from bangbench.reporting.robustness import attacks_with_images, distances
from bangbench.reporting.table import (
    MISSING,
    Column,
    Table,
    audit_mark,
    audit_notes,
    interval_text,
    make_table,
    number,
    real,
    shown,
    value_and_verdict,
    whole,
    words,
)
from bangbench.store.headline import headline

#: Up to so many models every pair is compared; of more of them, the first regular one with each of the others.
_MOST_MODELS = 4
_QUARTILES = (0.25, 0.5, 0.75)
_SIGNIFICANT = 0.05

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


class Comparison(NamedTuple):
    """Two models on the `images` test images of `data`.

    accuracy: their rates of correct images and the difference; attacks: one row per attack that both have, by name.
    """

    first: ModelResults
    second: ModelResults
    data: str
    images: int
    accuracy: Values
    attacks: Mapping[str, Values]

    @property
    def title(self) -> str:
        """Return the pair as a table names it: R0 vs B1."""
        return " vs ".join(self.names)

    @property
    def names(self) -> tuple[str, str]:
        """Return both names, without their folder where that leaves them different."""
        first, second = self.first, self.second
        return (first.name, second.name) if first.id == second.id else (first.id, second.id)


def common_attacks(first: ModelResults, second: ModelResults) -> list[str]:
    """Return the attacks whose single images both models have, in the order of the tables."""
    return [name for name in attacks_with_images(first) if name in attacks_with_images(second)]


def compare(first: ModelResults, second: ModelResults) -> Comparison:
    """Compare two models image by image.

    Raises `BenchError` where no attack has single images of both, or where they are not the same images.
    """
    names = common_attacks(first, second)
    if not names:
        raise _nothing_in_common(first, second)
    pairs = {name: _same_images(first, second, name) for name in names}
    images, other = pairs[names[0]]
    return Comparison(
        first=first,
        second=second,
        data=first.attacks[names[0]].record.data.name,
        images=len(images),
        accuracy=_rates(*(each["attacked"].to_numpy(bool) for each in (images, other))),
        attacks={name: _paired(*pair) for name, pair in pairs.items()},
    )


def compare_named(experiments: Sequence[Experiment], names: tuple[str, str]) -> Comparison:
    """Compare two models measured on the same images: on most of them, if on several sets; errors as `compare`."""
    known = {model.name for experiment in experiments for model in experiment.models}
    for name in names:
        if name not in known:
            raise unknown_name("model with results", name, known)
    for experiment in sorted(experiments, key=lambda each: -each.data.images):
        # two folders are two experiments on one data set
        alike = [each for each in experiments if each.data.fingerprint == experiment.data.fingerprint]
        found = [
            next((model for each in alike for model in each.attacked if model.name == name), None) for name in names
        ]
        if found[0] is not None and found[1] is not None:
            return compare(found[0], found[1])
    raise BenchError(
        f"{names[0]} and {names[1]} have no results on the same images; attack both on the same data to compare them"
    )


def _nothing_in_common(first: ModelResults, second: ModelResults) -> BenchError:
    having = "; ".join(f"{model.name}: {', '.join(attacks_with_images(model)) or 'none'}" for model in (first, second))
    return BenchError(
        f"expected an attack with a Parquet file of single images for both {first.name} and {second.name}, found "
        f"none ({having}); run the same attack on both: bangbench attack {first.name} {second.name} (with "
        "--overwrite where the record is there and the Parquet file is not)"
    )


def _same_images(first: ModelResults, second: ModelResults, attack: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the images of both models; `BenchError` unless they are the same ones in the same order."""
    images, other = attacks_with_images(first)[attack], attacks_with_images(second)[attack]
    if not np.array_equal(images["index"], other["index"]):
        raise BenchError(
            f"expected {attack} on {first.name} and {second.name} to be measured on the same images, found other ones; "
            "run it on both with the same --data and --limit"
        )
    return images, other


def _rates(first: Flags, second: Flags) -> Values:
    """Return both rates in percent with their Wilson intervals, the difference in points, McNemar's p."""
    row: Values = {}
    for which, flags in (("first", first), ("second", second)):
        count, images = int(flags.sum()), len(flags)
        rate = 100.0 * count / images if images else None
        row |= with_interval(f"{which}_rate", "_percent", rate, wilson_interval(count, images))
    row |= _estimate("difference", paired_rate_difference(first, second), "_points")
    p_value = mcnemar(int((first & ~second).sum()), int((second & ~first).sum()))
    return row | {"mcnemar_p": p_value if len(first) else None}


def _estimate(stem: str, estimate: Estimate | None, unit: str) -> Values:
    return with_interval(stem, unit, *(estimate or (None, None)))


def _paired(*images: pd.DataFrame) -> Values:
    """Return one attack on the images that both models classify correctly."""
    common = np.logical_and(*(each["attacked"].to_numpy(bool) for each in images))
    held = [distances(each)[common] for each in images]
    flipped = [np.isfinite(each) for each in held]
    both = np.flatnonzero(common)[flipped[0] & flipped[1]]
    row: Values = {"images": int(common.sum())} | _rates(*flipped) | {"both_flipped": len(both)}
    for stem, unit in (("linf", "_grey_levels"), ("pass", "")):
        row |= _means(stem, unit, *(each[stem].to_numpy(np.float64)[both] for each in images))
    for which, distance in zip(("first", "second"), held, strict=True):
        lower, median, upper = censored_quantiles(distance, _QUARTILES) or (None, None, None)
        quartiles = (("median", median), ("lower_quartile", lower), ("upper_quartile", upper))
        row |= {f"{which}_linf_{name}_censored_grey_levels": value for name, value in quartiles}
    return row


def _means(stem: str, unit: str, first: Numbers, second: Numbers) -> Values:
    """Return both means and the difference; nothing where an image has no number, as PASS of a few pixels."""
    difference = paired_mean_difference(first, second)
    known = difference is not None and np.isfinite(difference.value)
    means = {
        f"first_{stem}_mean{unit}": float(first.mean()) if known else None,
        f"second_{stem}_mean{unit}": float(second.mean()) if known else None,
    }
    return means | _estimate(f"{stem}_difference", difference if known else None, unit)


def pair_table(experiment: Experiment, frames: Frames) -> Table | None:
    """Return what differs between pairs of models on common images; None where no two have single images."""
    models = [model for model in experiment.models if attacks_with_images(model)]
    pairs = list(combinations(models, 2))
    chosen = ""
    if len(models) > _MOST_MODELS:
        base = next((model for model in models if model.model.method == "regular"), models[0])
        pairs = [(base, model) for model in models if model is not base]
        chosen = f"{len(models)} models: {base.id} is compared with each of the others."
    return comparison_table(experiment, [compare(*pair) for pair in pairs if common_attacks(*pair)], chosen)


def comparison_table(experiment: Experiment, comparisons: Sequence[Comparison], chosen: str = "") -> Table | None:
    """Return one row per pair and attack; chosen: a note on which pairs there are."""
    rows = [_row(comparison, attack) for comparison in comparisons for attack in comparison.attacks]
    show = value_and_verdict(2) if experiment.audited else shown(2)
    return make_table(
        f"{experiment.name}-pairs",
        f"{experiment.title}; pairs of models on common images",
        rows,
        (
            words("Pair", "_label"),
            words("Attack"),
            whole("Images"),
            *(Column(f"{which.title()} rate (%)", (f"{which}_rate_percent", f"{which}_audit_verdict"), show)
              for which in ("first", "second")),
            real("Difference (points)", interval_fields("difference", "_points"), 2),
            Column("p", ("mcnemar_p",), lambda cell: MISSING if cell[0] is None else p_text(float(cell[0]))),
            whole("Both flipped", "both_flipped"),
            real("First L∞", "first_linf_mean_grey_levels", 2, terminal=False),
            real("Second L∞", "second_linf_mean_grey_levels", 2, terminal=False),
            real("L∞ difference", interval_fields("linf_difference", "_grey_levels"), 2),
            real("First PASS", "first_pass_mean", 4, terminal=False),
            real("Second PASS", "second_pass_mean", 4, terminal=False),
            real("PASS difference", interval_fields("pass_difference", ""), 4, terminal=False),
            real("First median L∞", "first_linf_median_censored_grey_levels", 2, terminal=False),
            real("Second median L∞", "second_linf_median_censored_grey_levels", 2, terminal=False),
        ),
        (
            *_NOTES,
            *([chosen] if chosen else []),
            *([_accuracy_note(comparisons)] if comparisons else []),
            *audit_notes(
                experiment,
                (attack for comparison in comparisons for attack in comparison.attacks),
                (model for comparison in comparisons for model in (comparison.first, comparison.second)),
            ),
        ),
    )  # fmt: skip


def _row(comparison: Comparison, attack: str) -> Values:
    found = dict(comparison.attacks[attack])
    names: Values = {"_label": comparison.title, "first": comparison.first.name, "second": comparison.second.name}
    row = names | {"data": comparison.data, "attack": attack, "images": found.pop("images")}
    for which, model in (("first", comparison.first), ("second", comparison.second)):
        row |= {field: found.pop(field) for field in list(found) if field.startswith(f"{which}_rate")}
        row[f"{which}_audit_verdict"] = model.verdict(attack)
    return row | found


def _accuracy_note(comparisons: Sequence[Comparison]) -> str:
    """Return the accuracies of each pair over all images, correctly classified or not."""
    show, told = shown(2, " [{}, {}]"), []
    for each in comparisons:
        rates, difference = (
            each.accuracy,
            tuple(each.accuracy[field] for field in interval_fields("difference", "_points")),
        )
        if difference[0] is not None:
            both = f"{number(rates['first_rate_percent'], 2)} and {number(rates['second_rate_percent'], 2)} %"
            told.append(f"{each.title} {both}, difference {show(difference)} points, p {p_text(rates['mcnemar_p'])}")
    return f"Accuracy over all {comparisons[0].images:,} test images: {'; '.join(told)}."


def p_text(p_value: float) -> str:
    """Return a p value as printed in a table: three decimals, or ``<0.001``."""
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def paragraph(comparison: Comparison) -> str:
    """Return one paragraph about a comparison; no model is put above the other where an interval includes zero."""
    models, names, rates = (comparison.first, comparison.second), comparison.names, comparison.accuracy
    told = [
        f"{names[0]} and {names[1]} on the same {comparison.images:,} test images of {comparison.data} (95 % intervals "
        f"in brackets, p by McNemar's exact test): accuracy {number(rates['first_rate_percent'], 2)} % and "
        f"{number(rates['second_rate_percent'], 2)} %, {_told(rates, names, 'classifies more of them correctly')}.",
        *(
            f"{name} is not audited: its low rates may be robustness or a gradient that is gone."
            if model.audited is None
            else f"The audit of {headline(name, model.audited)}."
            for name, model in zip(names, models, strict=True)
        ),
    ]
    common = next(iter(comparison.attacks.values()))["images"]
    if common == 0:
        return f"{' '.join(told)} No image is classified correctly by both, so their attacks cannot be compared."
    told += [*masking_sentences(models), f"The attacks are compared on the {common:,} images that both get right."]
    return " ".join([*told, *(_rate_sentence(comparison, attack) for attack in comparison.attacks)])


def _rate_sentence(comparison: Comparison, attack: str) -> str:
    row, models = comparison.attacks[attack], (comparison.first, comparison.second)
    shown = [
        f"{number(row[f'{which}_rate_percent'], 2)} % for {name}{audit_mark(model, attack)}"
        for which, name, model in zip(("first", "second"), comparison.names, models, strict=True)
    ]
    masked = [name for name, model in zip(comparison.names, models, strict=True) if model.is_masked(attack)]
    caution = f"; what is masked is no robustness of {' and '.join(masked)}" if masked else ""
    return f"{attack} flips {' and '.join(shown)}: {_told(row, comparison.names, 'is flipped more often')}{caution}."


def _told(row: Values, names: tuple[str, str], what: str) -> str:
    """Return which of two rates is higher; none where the interval includes zero or the exact test does not agree."""
    value, low, high = (row[field] for field in interval_fields("difference", "_points"))
    if value is None:
        return "no difference can be told"
    p_value = f"p = {p_text(row['mcnemar_p'])}".replace("= <", "< ")
    if low is None or low <= 0.0 <= high or row["mcnemar_p"] >= _SIGNIFICANT:
        ends = interval_text(None if low is None else (low, high), 2)
        return f"a difference of {number(value, 2)} {ends} points, {p_value}: no difference can be told"
    ends = interval_text((low, high) if value > 0.0 else (-high, -low), 2)
    return f"{names[value < 0.0]} {what}, by {abs(value):.2f} {ends} points, {p_value}"
