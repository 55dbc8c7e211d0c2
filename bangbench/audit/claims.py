"""The claims that an audit judges, and how what its checks found becomes a verdict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bangbench.store.audits import PREDICTIONS, VERDICTS, WORST_CASE, Check, Verdict

#: Attacks along a line, in the order of the tables.
LINE_ATTACKS = ("fgs", "fgs-unmasked", "hc1", "hc1-unmasked")

#: Which attack along a line is another one with nothing masked; most of their directions are often the same.
TWINS = {"fgs-unmasked": "fgs", "hc1-unmasked": "hc1"}

#: Attacks inside a ball that follow gradients, and those that do not.
GRADIENT_BALL_ATTACKS = ("pgd", "apgd")
OTHER_BALL_ATTACKS = ("square", "transfer", "uniform-noise", "gaussian-noise")
BALL_ATTACKS = (*GRADIENT_BALL_ATTACKS, *OTHER_BALL_ATTACKS)

#: What rests on gradients: where they are useless, these rates say nothing.
GRADIENT_CLAIMS = (*LINE_ATTACKS, *GRADIENT_BALL_ATTACKS, WORST_CASE)

#: Checks of gradients, which concern no claim but those.
ABOUT_GRADIENTS = (
    *("no-gradient", "wrong-gradient", "shattered-gradient", "inner-gradient", "rough-loss"),
    "margin-gradient-gone",
)

ALL_CLAIMS = (PREDICTIONS, *LINE_ATTACKS, *BALL_ATTACKS, WORST_CASE)


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
