"""Signs that attacks fail: what should be weaker does better, and what should be stronger does not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from bangbench.auditing.battery import DOUBLED, DOUBLED_IMAGES, Flags, only_first, worst_case
from bangbench.auditing.claims import gradient_ball_attacks, gradient_claims, searching_attacks
from bangbench.auditing.evidence import Evidence, places
from bangbench.auditing.shortfalls import weaker_than_others
from bangbench.auditing.subject import Subject, found
from bangbench.core.statistics import holm, mcnemar
from bangbench.store.audits import WORST_CASE, Check, Outcome

#: Percent of the correct images from which each sign is an alarm. Square finds some images on adversarially trained
#: nets that PGD does not, without any masking: 0.9 % on the bench's own.
ONE_STEP, GRADIENT_FREE, TRANSFER, NOISE, UNCONVERGED = 1.0, 2.0, 0.2, 0.2, 1.0

#: Percent of the correct images from which more steps that find them cast doubt on every gradient, one step's, too.
ASTRAY = 10.0

#: Points by which an attack without gradients may flip more images than those that follow them (AutoAttack's).
RATE = 0.2

#: So many images are no alarm, whatever their share: another random start may well find them.
_CHANCE_FINDS = 2

#: How often chance may raise the alarm about bigger budgets, over all attacks and budgets of an audit.
_BY_CHANCE = 0.001

#: An attack along a line whose rate is this many points below the worst case within the same distance is a weak one.
_WEAK = 10.0

_NOTHING = "There was no gradient attack to compare."


def consistency(subject: Subject, evidence: Evidence) -> list[Check]:
    """Return the checks of the groups "stronger attacks" and "consistency"."""
    return [
        _weak_attacks(subject, evidence),
        *(_beats(subject, evidence, code, rule) for code, rule in _comparisons().items()),
        _unbounded(evidence),
        _bigger_budget(subject, evidence),
        _converged(subject, evidence),
        weaker_than_others(subject, evidence),
    ]


def _not_run(code: str, reason: str) -> Check:
    return found(code, "not-run", reason)


def _weak_attacks(subject: Subject, evidence: Evidence) -> Check:
    """Note the attacks along a line that flip far fewer images than the worst case within the same budget."""
    if not evidence.lines:
        return _not_run("weak-attacks-only", _NOTHING)
    budget = evidence.budgets[-1]
    strongest = worst_case(evidence.lines, evidence.battery, budget, subject.correct)
    rates = {name: 100.0 * float((run.linf <= budget).mean()) for name, run in evidence.lines.items()}
    worst = 100.0 * float(strongest.mean())
    weak = tuple(name for name, rate in rates.items() if worst - rate >= _WEAK)
    text = ", ".join(f"{name} {rate:.1f} %" for name, rate in rates.items())
    sentence = f"Within {budget} grey levels: {text}; the worst case over all attacks {worst:.1f} %."
    numbers: dict[str, float | None] = {"worst_case": worst, **{f"{name}_rate": rate for name, rate in rates.items()}}
    return found("weak-attacks-only", "note" if weak else "passed", sentence, weak or tuple(rates), numbers)


class _Beats(NamedTuple):
    """A comparison: attacks that should do worse, those that should do better, and the alarm in percent.

    weaker: empty for FGS without underflow, along its line.
    """

    weaker: tuple[str, ...]
    stronger: tuple[str, ...]
    alarm: float
    text: str


def _comparisons() -> dict[str, _Beats]:
    gradient = gradient_ball_attacks()
    return {
        "one-step-beats-many": _Beats(
            (), ("pgd",), ONE_STEP, "Correct images that FGS without underflow flips and PGD does not"
        ),
        "gradient-free-beats-gradient": _Beats(
            ("square",), gradient, GRADIENT_FREE, "Correct images that Square flips and attacks with gradients do not"
        ),
        "transfer-beats-direct": _Beats(
            ("transfer",),
            (*gradient, "square"),
            TRANSFER,
            "Correct images that the regular model's adversarial images flip and direct attacks do not",
        ),
        "noise-beats-attack": _Beats(
            ("uniform-noise", "gaussian-noise"),
            (*gradient, "square"),
            NOISE,
            "Correct images that random noise flips and the attacks do not",
        ),
    }


def _beats(subject: Subject, evidence: Evidence, code: str, rule: _Beats) -> Check:
    if "transfer" in rule.weaker and evidence.no_transfer:
        return _not_run(code, evidence.no_transfer)
    if not (evidence.lines and evidence.within(rule.stronger, evidence.budgets[0])):
        return _not_run(code, _NOTHING)
    counts, better, flagged = {}, -np.inf, np.zeros(subject.correct, dtype=np.bool_)
    for budget in evidence.budgets:
        weaker = evidence.within(rule.weaker, budget)
        if not rule.weaker:
            weaker = [evidence.lines["fgs-unmasked"].linf <= budget]
        stronger = evidence.within(rule.stronger, budget)
        only = only_first(weaker, stronger)
        if evidence.from_scratch(rule.weaker, budget):
            better = max(better, 100.0 * int(only.sum() - only_first(stronger, weaker).sum()) / subject.correct)
        counts[budget] = int(only.sum())
        flagged |= only
    most = max(counts.values())
    ahead = bool(rule.weaker) and better > RATE
    alarming = most > _CHANCE_FINDS and (most > rule.alarm / 100.0 * subject.correct or ahead)
    outcome: Outcome = "suspect" if alarming else "note" if most else "passed"
    per_budget = ", ".join(f"{count} within {budget}" for budget, count in counts.items())
    sentence = (
        f"{rule.text}: {per_budget} grey levels, of {subject.correct:,} (alarm above {rule.alarm} % and "
        f"{_CHANCE_FINDS} images)."
    )
    if rule.weaker and better > -np.inf:
        sentence += f" Its rate is at most {better:+.1f} points above theirs (alarm above {RATE})."
    numbers: dict[str, float | None] = {f"within_{budget}": float(count) for budget, count in counts.items()}
    numbers |= {"points_more": better if better > -np.inf else None}
    return found(code, outcome, sentence, gradient_claims(), numbers, places(subject, flagged))


def _unbounded(evidence: Evidence) -> Check:
    if not evidence.unbounded_tried:
        return _not_run("unbounded-attack-fails", _NOTHING)
    chance = 100.0 / evidence.classes
    share = 100.0 * len(evidence.unbounded) / evidence.unbounded_tried
    outcome: Outcome = "suspect" if share > chance else "note" if len(evidence.unbounded) else "passed"
    sentence = (
        f"With the whole range as budget, {len(evidence.unbounded)} of {evidence.unbounded_tried} images survive PGD "
        f"(chance: {chance:.0f} %)."
    )
    numbers = {"surviving": share}
    return found("unbounded-attack-fails", outcome, sentence, gradient_claims(), numbers, evidence.unbounded)


class _Grown(NamedTuple):
    """An attack in a ball and in the next larger one: which images, (N,), only the smaller flips, only the larger."""

    attack: str
    small: int
    large: int
    lost: Flags
    gained: Flags

    @property
    def p_value(self) -> float:
        """Return how likely chance loses so many, were each image that only one flips as likely lost as gained."""
        return mcnemar(int(self.lost.sum()), int(self.gained.sum()), "greater")

    @property
    def text(self) -> str:
        """Return what was lost, in words."""
        fewer = int(self.lost.sum()) - int(self.gained.sum())
        return f"{self.attack} flips {fewer} fewer images within {self.large} than within {self.small} grey levels"


def _bigger_budget(subject: Subject, evidence: Evidence) -> Check:
    """Compare each attack that searches its ball with itself in the next larger one, image by image."""
    grown = [
        _grown(evidence, name, small, large)
        for name in searching_attacks()
        for small, large in zip(evidence.budgets[:-1], evidence.budgets[1:], strict=True)
        if (name, small) in evidence.battery and evidence.from_scratch((name,), small)
        if evidence.from_scratch((name,), large)
    ]
    if not grown:
        return _not_run("bigger-budget-worse", "No attack that searches its ball was run within two budgets.")
    p_values = holm([pair.p_value for pair in grown])
    worse = [pair for pair, p_value in zip(grown, p_values, strict=True) if p_value < _BY_CHANCE]
    flagged = np.any([np.zeros(subject.correct, dtype=np.bool_), *(pair.lost for pair in worse)], axis=0)
    said = "; ".join(pair.text for pair in worse) or "No attack loses more images to a bigger budget than chance does"
    sentence = f"{said} (the smallest p of {len(grown)} comparisons, adjusted by Holm: {min(p_values):.2g})."
    outcome: Outcome = "suspect" if worse else "passed"
    concerned = tuple(dict.fromkeys(pair.attack for pair in worse)) if worse else searching_attacks()
    numbers: dict[str, float | None] = {"smallest_p": min(p_values)}
    numbers |= {f"{pair.attack}_lost_{pair.small}_to_{pair.large}": float(pair.lost.sum()) for pair in grown}
    rows = places(subject, flagged)
    return found("bigger-budget-worse", outcome, sentence, (*concerned, WORST_CASE), numbers, rows)


def _grown(evidence: Evidence, name: str, small: int, large: int) -> _Grown:
    before, after = evidence.battery[name, small].flipped, evidence.battery[name, large].flipped
    return _Grown(name, small, large, before & ~after, after & ~before)


def _converged(subject: Subject, evidence: Evidence) -> Check:
    """Compare the battery, within every budget, with more steps of its kind on what it left."""
    if not evidence.doubled:
        return _not_run("not-converged", _NOTHING)
    texts, shares = [], {}
    for budget, fallen in evidence.doubled.items():
        surviving = evidence.surviving[budget]
        tried = min(surviving, DOUBLED_IMAGES)
        shares[budget] = 100.0 * len(fallen) / subject.correct * (surviving / tried if tried else 1.0)
        texts.append(f"{len(fallen)} of the first {tried} of {surviving} that survive everything within {budget}")
    share, most = max(shares.values()), max(len(fallen) for fallen in evidence.doubled.values())
    alarming = share > UNCONVERGED and most > _CHANCE_FINDS
    outcome: Outcome = "suspect" if alarming else "note" if most else "passed"
    sentence = (
        f"Auto-PGD with {DOUBLED.iterations} steps flips {'; '.join(texts)} grey levels (for all of them, at most "
        f"{share:.2f} % of the correct ones; alarm above {UNCONVERGED:.0f} % and {_CHANCE_FINDS} images)."
    )
    numbers: dict[str, float | None] = {f"flipped_{budget}": value for budget, value in shares.items()}
    rows = torch.unique(torch.cat(list(evidence.doubled.values())))
    # a little more work that finds a little more says nothing of one step along a line
    concerned = gradient_claims() if share > ASTRAY else (*gradient_ball_attacks(), WORST_CASE)
    return found("not-converged", outcome, sentence, concerned, {"flipped": share, **numbers}, rows)
