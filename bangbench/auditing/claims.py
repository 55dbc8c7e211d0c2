"""The claims that an audit judges, made from the registry of attacks, and how checks become a verdict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import get_args

from bangbench.attacks.base import Attack
from bangbench.attacks.registry import ATTACKS
from bangbench.attacks.spec import STANDARD_ATTACKS, Strength
from bangbench.store.audits import PREDICTIONS, VERDICTS, WORST_CASE, Check, Verdict

#: Checks of gradients, which concern no claim but those that rest on gradients.
ABOUT_GRADIENTS = (
    *("no-gradient", "wrong-gradient", "shattered-gradient", "inner-gradient", "rough-loss"),
    "margin-gradient-gone",
)

#: Correct images below which no rate or distance says that an attack was kept from working.
FEWEST_IMAGES = 30


def line_attacks() -> tuple[str, ...]:
    """Return the attacks along a line, the paper's and their twins first."""
    others = (name for name, kind in _kinds() if not kind.bounded and name not in STANDARD_ATTACKS)
    return (*STANDARD_ATTACKS, *others)


def ball_attacks() -> tuple[str, ...]:
    """Return the attacks inside a ball: those that follow gradients, then the others, the cheapest first.

    Those that audits of no strength run are not among them.
    """
    kinds = [(name, kind) for name, kind in _kinds() if kind.bounded and _in_some_audit(kind)]
    return tuple(name for name, kind in sorted(kinds, key=lambda pair: "gradients" not in pair[1].needs))


def _in_some_audit(kind: type[Attack]) -> bool:
    return any(kind.strengths.get(strength, {}) is not None for strength in get_args(Strength))


def gradient_ball_attacks() -> tuple[str, ...]:
    """Return the attacks inside a ball that follow gradients."""
    return tuple(name for name in ball_attacks() if "gradients" in ATTACKS.load(name).needs)


def searching_attacks() -> tuple[str, ...]:
    """Return the attacks that look for the best point of the whole ball, and so find no less in one that holds it."""
    return tuple(name for name in ball_attacks() if ATTACKS.load(name).nested)


def twins() -> dict[str, str]:
    """Return which attack is the masked twin of an unmasked one; most of their directions are often the same."""
    return {kind.unmasked_twin: name for name, kind in _kinds() if kind.unmasked_twin is not None}


def gradient_claims() -> tuple[str, ...]:
    """Return what rests on gradients: where they are useless, these rates say nothing."""
    return (*line_attacks(), *gradient_ball_attacks(), WORST_CASE)


def all_claims() -> tuple[str, ...]:
    """Return every claim that can be judged, in the order of the tables."""
    return (PREDICTIONS, *line_attacks(), *ball_attacks(), WORST_CASE)


def of_enough(checks: Iterable[Check], correct: int) -> list[Check]:
    """Return checks that compare rates or distances, without verdicts where there are too few images for one."""
    return [
        check.model_copy(update={"outcome": "inconclusive"})
        if correct < FEWEST_IMAGES and check.outcome in ("suspect", "masked")
        else check
        for check in checks
    ]


def judge(claim: str, checks: Sequence[Check]) -> tuple[Verdict, tuple[str, ...]]:
    """Return the verdict on a claim, the worst of the outcomes that concern it, and the codes behind it."""
    against = [
        check for check in checks if check.outcome in VERDICTS[1:] and (not check.claims or claim in check.claims)
    ]
    verdict = worst(check.outcome for check in against)
    return verdict, tuple(dict.fromkeys(check.code for check in against))


def worst(outcomes: Iterable[str]) -> Verdict:
    """Return the worst verdict among outcomes; `sound` where none is one."""
    seen = {*outcomes, "sound"}
    return [verdict for verdict in VERDICTS if verdict in seen][-1]


def _kinds() -> list[tuple[str, type[Attack]]]:
    """Return every registered attack by its name, the cheapest first."""
    kinds = [(name, ATTACKS.load(name)) for name in ATTACKS.names()]
    return sorted(kinds, key=lambda pair: pair[1].cost)
