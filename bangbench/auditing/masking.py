"""Masked against unmasked: the same attack with and without what hides a gradient (protocol sections 4 and 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bangbench.attacks.base import Attack, Direction, Means, make_attack
from bangbench.attacks.expected import expected_answers
from bangbench.attacks.judged import run_attack
from bangbench.attacks.line import LineAttack
from bangbench.auditing.changed import changed
from bangbench.auditing.claims import line_attacks, twins
from bangbench.auditing.probe import precise
from bangbench.auditing.subject import Subject, found
from bangbench.core.errors import BenchError
from bangbench.core.seeds import torch_generator
from bangbench.core.statistics import censored_quantiles, mcnemar, paired_rate_difference
from bangbench.nets.classifier import Classifier
from bangbench.nets.gradients import margin, true_logits
from bangbench.store.audits import Check, Outcome

#: Images on which shifted, scaled and float64 gradients are compared with the model as it is.
VARIANT_IMAGES = 100

#: Differences of a rate, in points, and of the median L_inf, as a share, from which an outcome follows. The authors'
#: regular LeNet loses 10 points of FGS to underflow and is not taken for robust by anyone; their BANG LeNet loses 98.
NOTED, SUSPECT, MASKED = 1.0, 15.0, 25.0
SUSPECT_DISTANCE, MASKED_DISTANCE = 0.2, 0.3

#: Grey levels by which a median L_inf may change without meaning anything: distances are whole ones.
LEVELS = 2.0

#: How often chance may tell two attacks' distances apart, in the one direction that matters.
_ONE_SIDED = 0.025

#: The share of images (percent) with a negative true logit from which HC1's weight matters.
NEGATIVE_LOGITS = 10.0

#: The typical margin between the two largest logits after scaling: the loss is small but far from underflow.
_SCALED_MARGIN = 5.0


class LineRun(NamedTuple):
    """An attack along a line on the correct images: bool (M,), L_inf float64 (M,), infinite where not flipped.

    lost: bool (M,), the attack counted a success that is none.
    """

    flipped: NDArray[np.bool_]
    linf: NDArray[np.float64]
    lost: NDArray[np.bool_]
    blank: int
    forwards: int

    @property
    def rate(self) -> float:
        """Return flipped images in percent."""
        return 100.0 * float(self.flipped.mean()) if len(self.flipped) else 0.0

    @property
    def median(self) -> float:
        """Return the median L_inf in grey levels, failures as infinite."""
        quantiles = censored_quantiles(self.linf, (0.5,))
        return np.inf if quantiles is None else quantiles[0]

    @property
    def mean(self) -> float | None:
        """Return the mean L_inf over the flipped images, in grey levels; None where there are none."""
        return float(self.linf[self.flipped].mean()) if self.flipped.any() else None

    @staticmethod
    def joined(parts: Sequence[LineRun]) -> LineRun:
        """Return the run over all images from those over their parts, in order."""
        flipped, linf, lost = (np.concatenate(values) for values in zip(*(part[:3] for part in parts), strict=True))
        return LineRun(flipped, linf, lost, sum(part.blank for part in parts), sum(part.forwards for part in parts))

    def first(self, count: int) -> LineRun:
        """Return the same for the first `count` images."""
        return LineRun(self.flipped[:count], self.linf[:count], self.lost[:count], self.blank, self.forwards)


def line_run(subject: Subject, name: str, variant: str | None = None, twin: LineRun | None = None) -> LineRun:
    """Return what an attack along a line does to all correct images.

    variant: a code of `VARIANTS`; the attack then follows the gradients of the changed model, on the first
    `VARIANT_IMAGES` of them. twin: what the masked twin of an unmasked attack did; where both have the same direction
    nothing is searched twice.
    """
    attack = make_attack(name)
    if not isinstance(attack, LineAttack):
        return _unbounded_run(subject, name, attack)
    images, labels = subject.correct_images(VARIANT_IMAGES if variant else None)
    followed, precision = VARIANTS[variant](subject) if variant else (subject.classifier, torch.float32)
    direction = attack.directions(followed, images.to(precision), labels, subject.batch_size)
    if twin is None:
        return _search(subject, attack, images, labels, direction)
    masked = _twin_of(name).directions(followed, images.to(precision), labels, subject.batch_size)
    differs = (direction.tensor != masked.tensor).flatten(1).any(1) | (direction.blank != masked.blank)
    own = _search(subject, attack, images[differs], labels[differs], direction.rows(differs))
    flipped, linf, lost, rows = twin.flipped.copy(), twin.linf.copy(), twin.lost.copy(), differs.cpu().numpy()
    flipped[rows], linf[rows], lost[rows] = own.flipped, own.linf, own.lost
    return LineRun(flipped, linf, lost, int(direction.blank.sum()), own.forwards)


def _twin_of(name: str) -> LineAttack:
    masked = twins()[name]
    attack = make_attack(masked)
    if not isinstance(attack, LineAttack):
        raise BenchError(f"attack '{masked}' names an unmasked twin and follows no line: {type(attack).__name__}")
    return attack


def _unbounded_run(subject: Subject, name: str, attack: Attack) -> LineRun:
    """Return what an attack without a bound that follows no line does to all correct images."""
    images, labels = subject.correct_images()
    means = Means(torch_generator(subject.seed, "audit", name), subject.batch_size)
    judged = run_attack(attack, name, subject.classifier, images, labels, means, subject.seed)
    linf = torch.where(judged.flipped, judged.linf, torch.inf).cpu().numpy()
    lost = judged.lost.cpu().numpy()
    return LineRun(judged.flipped.cpu().numpy(), linf, lost, int(judged.flips.blank.sum()), judged.forwards)


def _search(subject: Subject, attack: LineAttack, images: Tensor, labels: Tensor, direction: Direction) -> LineRun:
    """Search along directions that any precision computed; predictions are always those of the model as it is."""
    direction = Direction(direction.tensor.float(), direction.blank, direction.gradient_max.float())
    flips = attack.along(subject.classifier, images, labels, direction, subject.batch_size)
    moved = (flips.adversarial.double() - images.double()).abs().flatten(1).amax(1)
    predictions, _ = expected_answers(subject.classifier, flips.adversarial, labels, subject.batch_size)
    other = predictions != labels
    flipped, lost = (rows.cpu().numpy() for rows in (flips.found & other, flips.found & ~other))
    distance = np.where(flipped, moved.cpu().numpy(), np.inf)
    return LineRun(flipped, distance, lost, int(direction.blank.sum()), flips.forwards + len(images))


class Lines(NamedTuple):
    """Everything that was run along lines.

    own: by attack; changed: by attack and code of `variants_of`; regular: fgs-unmasked on the regular model, if there
    is one. Empty where there is nothing to attack or no gradient to follow.
    """

    own: Mapping[str, LineRun]
    changed: Mapping[tuple[str, str], LineRun]
    regular: LineRun | None


def masking(subject: Subject, lines: Lines) -> list[Check]:
    """Return the checks of the group: FGS, HC1, and all four under changes that change no prediction."""
    if not lines.own:
        codes = ("fgs-masked", "hot-cold-sign", *VARIANTS)
        return [found(code, "not-run", "There was no attack along a line to compare.") for code in codes]
    return [
        _fgs_masked(subject, lines.own["fgs"], lines.own["fgs-unmasked"], lines.regular),
        _hot_cold_sign(subject, lines.own["hc1"], lines.own["hc1-unmasked"]),
        *(_variant(code, lines) for code in VARIANTS),
    ]


def _fgs_masked(subject: Subject, masked: LineRun, unmasked: LineRun, regular: LineRun | None) -> Check:
    rows = subject.rows.cpu()[torch.from_numpy(unmasked.flipped & ~masked.flipped)]
    evidence = (
        f"FGS flips {masked.rate:.2f} % of {subject.correct:,} correct images ({masked.blank:,} have a loss of exactly "
        f"0 in float32), {unmasked.rate:.2f} % when computed without underflow{_at(unmasked)}"
    )
    if regular is not None and regular.mean is not None:
        evidence += f"; the regular model falls to the same attack at a mean L_inf of {regular.mean:.1f}"
    numbers = {"blank": float(masked.blank), "regular_unmasked_mean_linf": regular.mean if regular else None}
    numbers |= _rates_and_distances(masked, unmasked)
    return found("fgs-masked", _by_gap(gap_of(masked, unmasked)), f"{evidence}.", ("fgs",), numbers, rows)


def _hot_cold_sign(subject: Subject, masked: LineRun, unmasked: LineRun) -> Check:
    rows = subject.rows
    negative = true_logits(subject.logits[rows], subject.labels[rows]) < 0.0
    share, gap = 100.0 * float(negative.double().mean()), gap_of(masked, unmasked)
    outcome: Outcome = "passed"
    if share >= NEGATIVE_LOGITS and (gap.points >= 2.0 or gap.farther >= SUSPECT_DISTANCE):
        outcome = "masked"
    elif share >= NOTED:
        outcome = "note"
    evidence = (
        f"The true logit is negative on {share:.1f} % of the correct images; HC1 flips {masked.rate:.2f} %"
        f"{_at(masked)}, {unmasked.rate:.2f} %{_at(unmasked)} with the sign mended."
    )
    numbers = {"negative_true_logits": share, **_rates_and_distances(masked, unmasked)}
    return found("hot-cold-sign", outcome, evidence, ("hc1",), numbers, rows[negative].cpu())


def _variant(code: str, lines: Lines) -> Check:
    """Compare the attacks with those that follow the gradients of the changed model."""
    texts: list[str] = []
    claims: list[str] = []
    outcomes: list[Outcome] = []
    numbers: dict[str, float | None] = {}
    count = 0
    if not any(variant == code for _, variant in lines.changed):
        return _not_changed(code)
    for name in line_attacks():
        if (name, code) not in lines.changed:
            continue
        other = lines.changed[name, code]
        count = len(other.flipped)
        own = lines.own[name].first(count)
        outcome = _by_change(own, other)
        outcomes.append(outcome)
        numbers |= {f"{name}_rate": own.rate, f"{name}_changed_rate": other.rate}
        if outcome != "passed":
            medians = f"median L_inf {own.median:.0f} to {other.median:.0f}"
            texts.append(f"{name} {own.rate:.1f} % to {other.rate:.1f} % ({medians})")
        if outcome in ("suspect", "masked"):
            claims.append(name)
    what = f"{_CHANGES[code]}, on {count:,} images"
    evidence = f"{what}: {', '.join(texts)}." if texts else f"{what}: no rate changes by more than {NOTED:.0f} point."
    outcome = max(outcomes, key=("passed", "note", "suspect", "masked").index)
    return found(code, outcome, evidence, tuple(claims) or line_attacks(), numbers)


def _not_changed(code: str) -> Check:
    if code == "logit-scale":
        sentence = (
            f"The median margin is at most {_SCALED_MARGIN:.0f}: logits so small hide nothing, and stay as they are."
        )
        return found(code, "passed", sentence, line_attacks())
    return found(code, "not-run", "The model cannot be run in float64.")


def _rates_and_distances(masked: LineRun, unmasked: LineRun) -> dict[str, float | None]:
    return {
        "rate": masked.rate,
        "unmasked_rate": unmasked.rate,
        "mean_linf": masked.mean,
        "unmasked_mean_linf": unmasked.mean,
    }


class Gap(NamedTuple):
    """By how much an attack does better than another one on the same images.

    raw: points of the rate; points: those, 0 unless their 95 % interval, paired by image, is above 0; farther: the
    share by which the other one's median L_inf is larger, 0 unless that is more than `LEVELS` and more images are
    flipped closer by than farther off than chance would have it (a sign test, failures infinitely far).
    """

    raw: float
    points: float
    farther: float


def gap_of(weaker: LineRun, stronger: LineRun) -> Gap:
    """Return the gap by which the second run does better than the first one."""
    raw, difference = stronger.rate - weaker.rate, paired_rate_difference(stronger.flipped, weaker.flipped)
    low, high = (0.0, 0.0) if difference is None or difference.interval is None else difference.interval
    closer, off = int((stronger.linf < weaker.linf).sum()), int((stronger.linf > weaker.linf).sum())
    farther = 0.0
    if high >= 0.0 and np.isfinite(stronger.median) and weaker.median - stronger.median > LEVELS:
        certain = mcnemar(closer, off, "greater") < _ONE_SIDED
        farther = weaker.median / stronger.median - 1.0 if certain and stronger.median > 0.0 else 0.0
    # rounding takes back what 13 / 10 - 1 is off by
    return Gap(raw, raw if low > 0.0 else 0.0, round(farther, 9))


def _by_gap(gap: Gap) -> Outcome:
    if gap.points >= MASKED:
        return "masked"
    if gap.points >= SUSPECT:
        return "suspect"
    return "note" if gap.raw >= NOTED else "passed"


def _by_change(own: LineRun, other: LineRun) -> Outcome:
    """Judge how much stronger an attack becomes by what should change nothing."""
    gap = gap_of(own, other)
    if gap.farther >= MASKED_DISTANCE:
        return "masked"
    if gap.farther >= SUSPECT_DISTANCE:
        return "suspect" if gap.points < MASKED else "masked"
    return _by_gap(gap)


def _at(run: LineRun) -> str:
    return "" if run.mean is None else f" at a mean L_inf of {run.mean:.1f}"


def _shifted(subject: Subject) -> tuple[Classifier, torch.dtype]:
    return changed(subject.classifier, centred=True), torch.float32


def _scaled(subject: Subject) -> tuple[Classifier, torch.dtype]:
    return changed(subject.classifier, divisor=max(_typical_margin(subject) / _SCALED_MARGIN, 1.0)), torch.float32


def _typical_margin(subject: Subject) -> float:
    rows = subject.rows
    return float((-margin(subject.logits[rows], subject.labels[rows])).median())


def _double(subject: Subject) -> tuple[Classifier, torch.dtype]:
    model = precise(subject.classifier, subject.pixels)
    return model.classifier, model.dtype


#: Changes that change no prediction, by the code of the check that makes them.
VARIANTS = {"logit-offset": _shifted, "logit-scale": _scaled, "float64-differs": _double}


def variants_of(subject: Subject) -> tuple[str, ...]:
    """Return the codes of the changes that the model can be given.

    Not every net can be run in float64. Logits are never made larger, which would make attacks weaker or stronger by
    what the model itself does not do.
    """
    left_out = set()
    if precise(subject.classifier, subject.pixels).dtype != torch.float64:
        left_out.add("float64-differs")
    if _typical_margin(subject) <= _SCALED_MARGIN:
        left_out.add("logit-scale")
    return tuple(code for code in VARIANTS if code not in left_out)


_CHANGES = {
    "logit-offset": "with the mean of each image's logits subtracted",
    "logit-scale": f"with all logits divided so that the median margin is {_SCALED_MARGIN:.0f}",
    "float64-differs": "with gradients in float64",
}
