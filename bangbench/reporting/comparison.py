"""Two models on the same images: paired differences with intervals, and what they say in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bangbench.core.errors import BenchError
from bangbench.core.statistics import (
    Estimate,
    Flags,
    Interval,
    Numbers,
    censored_quantiles,
    mcnemar,
    paired_mean_difference,
    paired_rate_difference,
    wilson_interval,
)
from bangbench.reporting.bench_rows import RATE_GAP, attack_names
from bangbench.reporting.collect import FoundAudit
from bangbench.reporting.groups import ModelResults, short_name
from bangbench.reporting.per_image import AttackRows
from bangbench.reporting.table import number
from bangbench.reporting.verdicts import MASKED, UNMASKED, verdict_on, worst_case_text

QUARTILES = (0.25, 0.5, 0.75)

#: What an unmasked twin changes, and where a gap between the two comes from.
_TWINS = {
    "fgs": ("the same attack with a gradient that cannot underflow", "vanished gradients"),
    "hc1": ("the same attack with the sign of the true class's weight mended", "that sign"),
}
_OTHER_TWIN = ("its unmasked twin", "what the twin mends")
_SIGNIFICANT = 0.05


class Rate(NamedTuple):
    """So many successes among so many images, as percent with its 95 % Wilson interval (None without images)."""

    successes: int
    images: int
    percent: float | None
    interval: Interval | None


class PairedRates(NamedTuple):
    """The rates of two models on the same images; the difference (first minus second) in percentage points.

    p_value: McNemar's exact test. Without images the difference is None.
    """

    first: Rate
    second: Rate
    difference: Estimate | None
    p_value: float

    @property
    def differ(self) -> bool:
        """Tell whether the interval excludes zero; with few discordant images McNemar's exact test has to agree."""
        return excludes_zero(self.difference) and self.p_value < _SIGNIFICANT


class PairedMeans(NamedTuple):
    """The means of two models over the same images, and the first minus the second (same unit)."""

    first: float
    second: float
    difference: Estimate


class PairedAttack(NamedTuple):
    """One attack on the images that both models classify correctly.

    linf (grey levels) and pass_definition are over the `both_flipped` images flipped in both; None where there is
    none or no score. The quartiles (25, 50, 75 %) of L_inf are over all `images`, infinite where an attack failed.
    verdicts: what the audits of both models say of their rates.
    """

    attack: str
    images: int
    rates: PairedRates
    both_flipped: int
    linf: PairedMeans | None
    pass_definition: PairedMeans | None
    first_quartiles: tuple[float, ...] | None
    second_quartiles: tuple[float, ...] | None
    verdicts: tuple[str, str]


class Comparison(NamedTuple):
    """Two models (by name) on the `images` test images of `data`: accuracy, every attack that both have, the audits."""

    first: str
    second: str
    data: str
    images: int
    accuracy: PairedRates
    attacks: tuple[PairedAttack, ...]
    audits: tuple[FoundAudit | None, FoundAudit | None]

    def attack(self, name: str) -> PairedAttack | None:
        """Return one attack, or None where not both models have it."""
        return next((item for item in self.attacks if item.attack == name), None)


def excludes_zero(estimate: Estimate | None) -> bool:
    """Tell whether an estimate has an interval and zero lies outside it."""
    if estimate is None or estimate.interval is None:
        return False
    low, high = estimate.interval
    return low > 0.0 or high < 0.0


def common_attacks(first: ModelResults, second: ModelResults) -> list[str]:
    """Return the attacks whose single images both models have, in the order of the tables."""
    both = [name for name in attack_names(first) if name in second.attacks]
    return [name for name in both if first.rows(name) is not None and second.rows(name) is not None]


def compare(first: ModelResults, second: ModelResults) -> Comparison:
    """Compare two models image by image.

    Raises `BenchError` where no attack has single images of both, or where they are not the same images.
    """
    names = common_attacks(first, second)
    if not names:
        raise _nothing_in_common(first, second)
    pairs = [(name, *_same_images(first, second, name)) for name in names]
    _, rows, other = pairs[0]
    return Comparison(
        first=first.name,
        second=second.name,
        data=first.attacks[names[0]].record.data.name,
        images=len(rows.indices),
        accuracy=_paired_rates(rows.attacked, other.attacked),
        attacks=tuple(
            _paired_attack(*pair, (verdict_on(first.audit, pair[0]), verdict_on(second.audit, pair[0])))
            for pair in pairs
        ),
        audits=(first.audit, second.audit),
    )


def _nothing_in_common(first: ModelResults, second: ModelResults) -> BenchError:
    having = "; ".join(
        f"{model.name}: {', '.join(name for name in attack_names(model) if model.rows(name) is not None) or 'none'}"
        for model in (first, second)
    )
    return BenchError(
        f"expected an attack with a Parquet file of single images for both {first.name} and {second.name}, found "
        f"none ({having}); run the same attack on both: bangbench attack {first.name} {second.name} (with "
        "--overwrite where the record is there and the Parquet file is not)"
    )


def _same_images(first: ModelResults, second: ModelResults, attack: str) -> tuple[AttackRows, AttackRows]:
    """Return the rows of both models; `BenchError` unless they are about the same images in the same order."""
    found, other = first.attacks[attack], second.attacks[attack]
    rows, other_rows = found.rows, other.rows
    same = found.record.data.fingerprint == other.record.data.fingerprint
    if rows is None or other_rows is None or not same or not np.array_equal(rows.indices, other_rows.indices):
        raise BenchError(
            f"expected {attack} on {first.name} and {second.name} to be measured on the same images, found "
            f"{_images(first, attack)} and {_images(second, attack)}; run it on both with the same --data and --limit"
        )
    return rows, other_rows


def _images(model: ModelResults, attack: str) -> str:
    data = model.attacks[attack].record.data
    return f"{data.images:,} images of {data.name} ({data.fingerprint[:8]})"


def _paired_rates(first: Flags, second: Flags) -> PairedRates:
    return PairedRates(
        first=_rate(first),
        second=_rate(second),
        difference=paired_rate_difference(first, second),
        p_value=mcnemar(int((first & ~second).sum()), int((second & ~first).sum())),
    )


def _rate(flags: Flags) -> Rate:
    successes, images = int(flags.sum()), len(flags)
    percent = 100.0 * successes / images if images else None
    return Rate(successes, images, percent, wilson_interval(successes, images))


def _paired_attack(attack: str, first: AttackRows, second: AttackRows, verdicts: tuple[str, str]) -> PairedAttack:
    common = first.attacked & second.attacked
    both = common & first.flipped & second.flipped
    return PairedAttack(
        attack=attack,
        images=int(common.sum()),
        rates=_paired_rates(first.flipped[common], second.flipped[common]),
        both_flipped=int(both.sum()),
        linf=_paired_means(first.linf[both], second.linf[both]),
        pass_definition=_paired_means(first.pass_definition[both], second.pass_definition[both]),
        first_quartiles=_quartiles(first, common),
        second_quartiles=_quartiles(second, common),
        verdicts=verdicts,
    )


def _paired_means(first: Numbers, second: Numbers) -> PairedMeans | None:
    """Return the means, or None where an image has no number: PASS is undefined for images of a few pixels."""
    difference = paired_mean_difference(first, second)
    if difference is None or not np.isfinite(difference.value):
        return None
    return PairedMeans(float(first.mean()), float(second.mean()), difference)


def _quartiles(rows: AttackRows, images: Flags) -> tuple[float, ...] | None:
    return censored_quantiles(np.where(rows.flipped, rows.linf, np.inf)[images], QUARTILES)


def paragraph(comparison: Comparison) -> str:
    """Return one paragraph about a comparison; no model is put above the other where an interval includes zero."""
    first, second = _names(comparison)
    accuracy = _told_rates(comparison.accuracy, (first, second), "classifies more of them correctly")
    sentences = [
        f"{first} and {second} on the same {comparison.images:,} test images of {comparison.data} (95 % intervals in "
        f"brackets, p by McNemar's exact test): accuracy {_percent(comparison.accuracy.first)} and "
        f"{_percent(comparison.accuracy.second)}, {accuracy}.",
        *(_audit_sentence(*pair) for pair in zip((first, second), comparison.audits, strict=True)),
    ]
    common = comparison.attacks[0].images
    if common == 0:
        return f"{' '.join(sentences)} No image is classified correctly by both, so their attacks cannot be compared."
    sentences.append(f"The attacks are compared on the {common:,} images that both classify correctly.")
    for item in _twins_first(comparison.attacks):
        sentences += [*_twin_sentences(comparison, item), _rate_sentence(comparison, item), *_sizes(comparison, item)]
    return " ".join(sentences)


def p_text(p_value: float) -> str:
    """Return a p value as printed in a table: three decimals, or ``<0.001``."""
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def interval_text(interval: Interval | None, places: int) -> str:
    """Return ``[low, high]``, or nothing where there is no interval."""
    return "" if interval is None else f"[{interval[0]:.{places}f}, {interval[1]:.{places}f}]"


def _names(comparison: Comparison) -> tuple[str, str]:
    """Return both names, without their folder where that leaves them different."""
    first, second = short_name(comparison.first), short_name(comparison.second)
    return (comparison.first, comparison.second) if first == second else (first, second)


def _twins_first(attacks: Sequence[PairedAttack]) -> list[PairedAttack]:
    """Return the attacks in their order, each unmasked one before the attack that it is the twin of."""
    return sorted(
        attacks,
        key=lambda item: (
            [other.attack.removesuffix(UNMASKED) for other in attacks].index(item.attack.removesuffix(UNMASKED)),
            not item.attack.endswith(UNMASKED),
        ),
    )


def _twin_sentences(comparison: Comparison, item: PairedAttack) -> list[str]:
    """Return, ahead of an unmasked attack, what it shows about the masked one, where both were run."""
    masked = comparison.attack(item.attack.removesuffix(UNMASKED))
    if not item.attack.endswith(UNMASKED) or masked is None:
        return []
    what, cause = _TWINS.get(masked.attack, _OTHER_TWIN)
    gaps = [
        f"{name} {_percent(low)} against {_percent(high)}"
        for name, low, high in zip(
            _names(comparison),
            (masked.rates.first, masked.rates.second),
            (item.rates.first, item.rates.second),
            strict=True,
        )
        if (high.percent or 0.0) - (low.percent or 0.0) > RATE_GAP
    ]
    if not gaps:
        return [f"{item.attack}, {what}, flips at most {RATE_GAP:g} points more than {masked.attack} on either model."]
    return [
        f"{masked.attack} flips fewer of them than {item.attack}, {what}: {'; '.join(gaps)}. The gap comes "
        f"from {cause}: a low rate under {masked.attack} is no robustness there."
    ]


def _rate_sentence(comparison: Comparison, item: PairedAttack) -> str:
    first, second = _names(comparison)
    told = _told_rates(item.rates, (first, second), "is flipped more often")
    marks = [
        f" ({verdict})" if audit is not None else ""
        for verdict, audit in zip(item.verdicts, comparison.audits, strict=True)
    ]
    rates = (
        f"{_percent(item.rates.first)} of them for {first}{marks[0]} and {_percent(item.rates.second)} for "
        f"{second}{marks[1]}"
    )
    masked = [name for name, verdict in zip((first, second), item.verdicts, strict=True) if verdict == MASKED]
    caution = f"; what is masked is no robustness of {' and '.join(masked)}" if masked else ""
    return f"{item.attack} flips {rates}: {told}{caution}."


def _audit_sentence(name: str, audit: FoundAudit | None) -> str:
    """Return what the audit of a model says of it."""
    if audit is None:
        return f"{name} is not audited: its low rates may be robustness or a gradient that is gone."
    reasons = f" ({', '.join(audit.summary.reasons)})" if audit.summary.reasons else ""
    return f"The audit calls {name} {audit.summary.verdict}{reasons}; its worst case: {worst_case_text(audit)}."


def _sizes(comparison: Comparison, item: PairedAttack) -> list[str]:
    """Return how large the changes are: over the images flipped in both, and the medians over all."""
    names, sentences = _names(comparison), []
    if item.linf is None:
        sentences.append(f"No image is flipped in both by {item.attack}.")
    else:
        sizes = [
            f"mean L∞ {item.linf.first:.2f} and {item.linf.second:.2f} grey levels "
            f"({_told_means(item.linf, 2, names, 'takes the larger change')})"
        ]
        if (score := item.pass_definition) is not None:
            told = _told_means(score, 4, names, "has the adversarial images closer to the originals")
            sizes.append(f"mean PASS {score.first:.4f} and {score.second:.4f} ({told})")
        sentences.append(f"Over the {item.both_flipped:,} images flipped in both: {', '.join(sizes)}.")
    if item.first_quartiles is not None and item.second_quartiles is not None:
        medians = [number(quartiles[1], 2) for quartiles in (item.first_quartiles, item.second_quartiles)]
        sentences.append(f"Median L∞ with failures as infinite: {medians[0]} and {medians[1]}.")
    return sentences


def _told_rates(rates: PairedRates, names: tuple[str, str], what: str) -> str:
    if rates.difference is None:
        return "no difference can be told"
    p_value = p_text(rates.p_value)
    p_value = f"p {p_value.replace('<', '< ')}" if p_value.startswith("<") else f"p = {p_value}"
    if not rates.differ:
        return f"{_signed(rates.difference, 2)} points, {p_value}: no difference can be told"
    return f"{_larger(rates.difference, names)} {what}, by {_size(rates.difference, 2)} points, {p_value}"


def _told_means(means: PairedMeans, places: int, names: tuple[str, str], what: str) -> str:
    if means.difference.interval is None:
        reason = "no interval from so few images or from the same difference in each"
        return f"{means.difference.value:.{places}f}, {reason}: no difference can be told"
    if not excludes_zero(means.difference):
        return f"{_signed(means.difference, places)}: no difference can be told"
    return f"{_larger(means.difference, names)} {what}, by {_size(means.difference, places)}"


def _larger(difference: Estimate, names: tuple[str, str]) -> str:
    return names[0] if difference.value > 0.0 else names[1]


def _size(difference: Estimate, places: int) -> str:
    """Return a difference and its interval as numbers above zero."""
    value, interval = difference
    if value < 0.0 and interval is not None:
        value, interval = -value, (-interval[1], -interval[0])
    return f"{value:.{places}f} {interval_text(interval, places)}"


def _signed(difference: Estimate, places: int) -> str:
    return f"a difference of {difference.value:.{places}f} {interval_text(difference.interval, places)}"


def _percent(rate: Rate) -> str:
    return f"{number(rate.percent, 2)} %"
