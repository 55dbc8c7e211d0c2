"""Each attack against all others, image by image: what it leaves that they flip within the same budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bangbench.auditing.battery import Flags, worst_case
from bangbench.auditing.claims import ball_attacks, gradient_ball_attacks
from bangbench.auditing.evidence import Evidence, places
from bangbench.auditing.subject import Subject, found
from bangbench.core.statistics import paired_rate_difference
from bangbench.store.audits import Check, Outcome

#: Percent of the correct images that an attack may leave to others, and how many images it may whatever their share.
MISSED, CHANCE = 1.0, 2

#: Points below all weaker attacks together, and below another attack of its kind, from which one is to be doubted.
BELOW_WEAKER, BELOW_ANOTHER = 10.0, 25.0

#: Random search finds fewer images than gradients do, but not less than this share of them, where those are many.
SEARCHED, MANY = 0.1, 50.0

#: What looks at outputs only and searches for itself; the other attacks without gradients throw dice.
_SEARCH = "square"


class Shortfall(NamedTuple):
    """What one attack leaves within one budget.

    missed: which images others flip, bool (M,); below: by how many points their rate is higher, 0 where that may be
    chance; outcome: what follows.
    """

    attack: str
    budget: int
    missed: Flags
    below: float
    outcome: Outcome

    @property
    def text(self) -> str:
        """Return what was left, in words."""
        points = f", {self.below:.1f} points fewer" if self.below else ""
        return f"{self.attack} leaves {int(self.missed.sum()):,} images within {self.budget} grey levels{points}"


def weaker_than_others(subject: Subject, evidence: Evidence) -> Check:
    """Compare each attack that tried every image with what all others flip within the same budget."""
    pairs = [
        (name, budget)
        for name in ball_attacks()
        if name in gradient_ball_attacks() or name == _SEARCH
        for budget in evidence.budgets
        if (name, budget) in evidence.battery and evidence.battery[name, budget].from_scratch
    ]
    if not pairs or not subject.correct:
        return found("weaker-than-others", "not-run", "No attack tried every image.")
    all_of_them = [_shortfall(evidence, name, budget) for name, budget in pairs]
    kinds: tuple[Outcome, ...] = ("passed", "note", "suspect")
    outcome = max((one.outcome for one in all_of_them), key=kinds.index)
    worst = [one for one in all_of_them if one.outcome == outcome] if outcome != "passed" else []
    names = tuple(dict.fromkeys(one.attack for one in worst or all_of_them))
    said = "; ".join(one.text for one in worst) or "Each attack by itself flips what the others do"
    sentence = f"{said} (of {subject.correct:,}; worth a note above {MISSED:.0f} % and {CHANCE} images)."
    flagged = np.logical_or.reduce([np.zeros(subject.correct, dtype=np.bool_), *(one.missed for one in worst)])
    numbers: dict[str, float | None] = {
        f"{one.attack}_missed_{one.budget}": float(one.missed.sum()) for one in all_of_them
    }
    return found("weaker-than-others", outcome, sentence, names, numbers, places(subject, flagged))


def _shortfall(evidence: Evidence, name: str, budget: int) -> Shortfall:
    own = evidence.battery[name, budget].flipped
    if name == _SEARCH:
        return _of_search(evidence, budget, own)
    weaker = _union(own, _weaker(evidence, name, budget))
    others = [
        evidence.battery[other, budget].flipped
        for other in gradient_ball_attacks()
        if other != name and (other, budget) in evidence.battery and evidence.battery[other, budget].from_scratch
    ]
    missed = _union(own, [weaker, *others]) & ~own
    below_weaker = _points(weaker, own)
    below_another = max((_points(other, own) for other in others), default=0.0)
    doubted = below_weaker > BELOW_WEAKER or below_another > BELOW_ANOTHER
    return Shortfall(name, budget, missed, max(below_weaker, below_another), _outcome(missed, doubted))


def _of_search(evidence: Evidence, budget: int, own: Flags) -> Shortfall:
    """Compare random search with the worst case: far fewer images are no surprise, next to none are."""
    worst = worst_case(evidence.lines, evidence.battery, budget, len(own))
    below, share = _points(worst, own), 100.0 * float(own.mean())
    doubted = budget == evidence.budgets[-1] and below > MANY and share < SEARCHED * 100.0 * float(worst.mean())
    missed = worst & ~own if below > BELOW_WEAKER else np.zeros_like(own)
    return Shortfall(_SEARCH, budget, missed, below, _outcome(missed, doubted))


def _weaker(evidence: Evidence, name: str, budget: int) -> list[Flags]:
    """Return what attacks that should do worse than one with gradients flip."""
    kinds = [other for other in ball_attacks() if other not in (*gradient_ball_attacks(), name)]
    line = evidence.lines.get("fgs-unmasked")
    return [*evidence.within(kinds, budget), *([] if line is None else [line.linf <= budget])]


def _union(like: Flags, several: Sequence[Flags]) -> Flags:
    union: Flags = np.logical_or.reduce([np.zeros_like(like), *several])
    return union


def _points(others: Flags, own: Flags) -> float:
    """Return by how many points the others' rate is above an attack's own, 0 where that may be chance."""
    difference = paired_rate_difference(others, own)
    if difference is None or difference.interval is None or difference.interval[0] <= 0.0:
        return 0.0
    return difference.value


def _outcome(missed: Flags, doubted: bool) -> Outcome:
    count = int(missed.sum())
    if count <= max(CHANCE, MISSED / 100.0 * len(missed)):
        return "passed"
    return "suspect" if doubted else "note"
