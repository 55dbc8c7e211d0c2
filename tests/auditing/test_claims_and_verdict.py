"""From checks to the verdict on a claim, and from evidence to the numbers of a summary, counted by hand."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from bangbench.auditing.claims import all_claims, ball_attacks, gradient_claims, judge, line_attacks, of_enough, worst
from bangbench.auditing.verdict import Counted, summarise

SCENES = runpy.run_path(str(Path(__file__).with_name("scenes.py")))
ball, check, counted, evidence_of, flags, line = (
    SCENES[name] for name in ("ball", "check", "counted", "evidence_of", "flags", "line")
)
INF = np.inf
COUNTED = Counted(forwards=1234, seconds=5.0)


# --- claims -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        ([], "sound"),
        (["passed", "note", "not-run"], "sound"),
        (["note", "suspect", "passed"], "suspect"),
        (["masked", "suspect"], "masked"),
        (["inconclusive", "note"], "inconclusive"),
        (["inconclusive", "suspect"], "suspect"),
        (["suspect", "masked", "sound"], "masked"),
    ],
)
def test_the_worst_outcome_decides(outcomes, verdict):
    assert worst(outcomes) == verdict


def test_a_claim_is_judged_by_the_checks_that_concern_it():
    checks = [
        check("fgs-masked", "masked", ("fgs",)),
        check("logit-scale", "suspect", ("fgs", "hc1")),
        check("not-converged", "suspect", ("worst-case",)),
        check("few-images", "note"),
        check("wrong-gradient", "not-run"),
        check("bad-outputs", "passed"),
    ]
    assert judge("fgs", checks) == ("masked", ("fgs-masked", "logit-scale"))
    assert judge("hc1", checks) == ("suspect", ("logit-scale",))
    assert judge("worst-case", checks) == ("suspect", ("not-converged",))
    assert judge("pgd", checks) == ("sound", ())


def test_a_check_without_claims_concerns_them_all():
    checks = [check("bad-outputs", "suspect")]
    assert {judge(claim, checks) for claim in all_claims()} == {("suspect", ("bad-outputs",))}


@pytest.mark.parametrize(("correct", "outcome"), [(29, "inconclusive"), (30, "masked")])
def test_what_rests_on_rates_and_distances_needs_thirty_images(correct, outcome):
    few = of_enough([check("logit-scale", "masked", ("fgs",)), check("fgs-masked", "note")], correct)
    assert [found.outcome for found in few] == [outcome, "note"]
    assert judge("fgs", few) == (outcome, ("logit-scale",))


def test_a_reason_is_named_once():
    checks = [check("logit-scale", "suspect", ("fgs",)), check("logit-scale", "masked")]
    assert judge("fgs", checks) == ("masked", ("logit-scale",))


def test_claims_are_those_of_the_attacks():
    assert ("predictions", *line_attacks(), *ball_attacks(), "worst-case") == all_claims()
    assert set(gradient_claims()) < set(all_claims())
    assert not {"square", "transfer", "uniform-noise", "gaussian-noise", "predictions"} & set(gradient_claims())


# --- summaries --------------------------------------------------------------------------------------------------------

LINES = {
    "fgs": line([4.0, INF, 30.0, INF, INF, INF, INF, INF]),
    "fgs-unmasked": line([4.0, 10.0, 12.0, INF, INF, INF, INF, 20.0]),
    "hc1": line([INF] * 8),
    "hc1-unmasked": line([9.0, 21.0, INF, INF, INF, INF, INF, INF]),
}
BATTERY = {
    ("pgd", 20): ball(flags(8, [0, 1, 2, 7])),
    ("pgd", 10): ball(flags(8, [0, 1, 3])),
    ("square", 10): ball(flags(8, [])),
    ("square", 20): ball(flags(8, [4])),
}


@pytest.fixture
def summary():
    """A summary of 10 images, 8 of them correct, with one check of each kind."""
    checks = [
        check("fgs-masked", "masked", ("fgs",)),
        check("hot-cold-sign", "masked", ("hc1",)),
        check("logit-offset", "suspect", ("hc1", "hc1-unmasked")),
        check("few-images", "note"),
    ]
    evidence = evidence_of(LINES, BATTERY, (10, 20), no_transfer="Nobody was named.")
    return summarise(counted(8, wrong=[2, 9]), evidence, checks, "standard", COUNTED)


def wilson(successes, trials):
    """The interval in closed form, in percent."""
    share, z = successes / trials, 1.959964
    middle = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return 100 * (middle - half), 100 * (middle + half)


def test_images_are_counted_within_each_budget(summary):
    small, large = summary.budgets
    assert (small.budget, large.budget) == (10, 20)
    assert small.flipped == {"fgs": 1, "fgs-unmasked": 2, "hc1": 0, "hc1-unmasked": 1, "pgd": 3, "square": 0}
    assert large.flipped == {"fgs": 1, "fgs-unmasked": 4, "hc1": 0, "hc1-unmasked": 1, "pgd": 4, "square": 1}


def test_the_worst_case_is_over_all_attacks_and_smaller_budgets(summary):
    small, large = summary.budgets
    assert (small.worst_case, large.worst_case) == (3, 6)  # 0 1 3; and 2 7 4
    assert (small.rate, large.rate) == (37.5, 75.0)
    assert small.rate_interval == pytest.approx(wilson(3, 8), abs=1e-3)
    assert large.rate_interval == pytest.approx(wilson(6, 8), abs=1e-3)


def test_robust_accuracy_is_of_all_images(summary):
    assert [rates.robust_accuracy for rates in summary.budgets] == [50.0, 20.0]
    assert (summary.accuracy, summary.images, summary.correct) == (80.0, 10, 8)


def test_every_claim_has_the_rate_of_its_largest_budget(summary):
    rates = {claim.claim: claim.rate for claim in summary.claims}
    assert rates == {
        "predictions": 80.0,
        "fgs": 25.0,  # at any distance
        "fgs-unmasked": 50.0,
        "hc1": 0.0,
        "hc1-unmasked": 25.0,
        "pgd": 50.0,
        "apgd": None,  # was not run
        "apgd-ce": None,
        "apgd-t": None,
        "square": 12.5,
        "uniform-noise": None,
        "gaussian-noise": None,
        "worst-case": 75.0,
    }


def test_distances_are_over_flipped_images(summary):
    fgs = summary.claim("fgs").linf
    assert (fgs.mean, fgs.std) == (17.0, 13.0)
    assert summary.claim("hc1").linf is None
    assert summary.claim("pgd").linf is None


def test_the_verdict_is_the_worst_and_its_reasons_are_those_of_its_claims(summary):
    verdicts = {claim.claim: (claim.verdict, claim.reasons) for claim in summary.claims if claim.verdict != "sound"}
    assert verdicts == {
        "fgs": ("masked", ("fgs-masked",)),
        "hc1": ("masked", ("hot-cold-sign", "logit-offset")),
        "hc1-unmasked": ("suspect", ("logit-offset",)),
    }
    assert summary.verdict == "masked"
    assert summary.reasons == ("fgs-masked", "hot-cold-sign", "logit-offset")
    assert [check.code for check in summary.checks] == ["fgs-masked", "hot-cold-sign", "logit-offset", "few-images"]
    assert (summary.forwards, summary.seconds) == (1234, 5.0)


def test_reasons_of_milder_claims_are_not_the_models():
    checks = [check("not-converged", "suspect", ("worst-case",)), check("fgs-masked", "masked", ("fgs",))]
    summary = summarise(counted(8), evidence_of(LINES, BATTERY, (10, 20)), checks, "standard", COUNTED)
    assert (summary.verdict, summary.reasons) == ("masked", ("fgs-masked",))


def test_a_sound_model_has_no_reasons():
    summary = summarise(
        counted(8), evidence_of(LINES, BATTERY, (10, 20)), [check("few-images", "note")], "standard", COUNTED
    )
    assert (summary.verdict, summary.reasons) == ("sound", ())


def test_transfer_is_judged_only_where_there_is_another_model():
    battery = {**BATTERY, ("transfer", 20): ball(flags(8, [0, 1]))}
    with_it = summarise(counted(8), evidence_of(LINES, battery, (10, 20)), [], "standard", COUNTED)
    without = summarise(counted(8), evidence_of(LINES, BATTERY, (10, 20), no_transfer="None."), [], "standard", COUNTED)
    assert with_it.claim("transfer").rate == 25.0
    assert without.claim("transfer") is None
    assert len(with_it.claims) == len(without.claims) + 1


def test_a_model_that_is_never_right_has_no_rates():
    summary = summarise(counted(0, wrong=range(4)), evidence_of({}, {}, (10,)), [], "standard", COUNTED)
    (rates,) = summary.budgets
    assert (rates.flipped, rates.worst_case, rates.rate, rates.rate_interval) == ({}, 0, None, None)
    assert rates.robust_accuracy == summary.accuracy == 0.0
    assert {claim.rate for claim in summary.claims if claim.claim != "predictions"} == {None}
