"""Every sign that attacks fail is raised above its threshold and not at it, with the right images and claims."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binom

from bangbench.auditing.battery import DOUBLED, DOUBLED_IMAGES
from bangbench.auditing.consistency import consistency
from bangbench.auditing.reasons import REASONS

SCENES = runpy.run_path(str(Path(__file__).with_name("scenes.py")))
ball, by_code, counted, evidence_of, flags, line, line_at = (
    SCENES[name] for name in ("ball", "by_code", "counted", "evidence_of", "flags", "line", "line_at")
)
COUNT = 1000
GRADIENT = ("pgd", "apgd", "apgd-ce", "apgd-t")
FOLLOWING = (*GRADIENT, "worst-case")
COMPARISONS = ["one-step-beats-many", "gradient-free-beats-gradient", "transfer-beats-direct", "noise-beats-attack"]
CODES = [
    "weak-attacks-only",
    *COMPARISONS,
    "unbounded-attack-fails",
    "bigger-budget-worse",
    "not-converged",
    "weaker-than-others",
]
LINES = ("fgs", "fgs-unmasked", "hc1", "hc1-unmasked")
RESTING_ON_GRADIENTS = (*LINES, *FOLLOWING)
SEARCHING = (*GRADIENT, "square")
BALLS = (*GRADIENT, "square", "transfer", "uniform-noise", "gaussian-noise")


def judge(count=COUNT, budgets=(10,), subject=None, fgs_unmasked=None, more=None, **flipped):
    """Return the checks where attacks flip the given images, and those that are not given none.

    flipped: ATTACK_BUDGET=rows; more: other evidence.
    """
    lines = dict.fromkeys(LINES, line_at(10, 0, count))
    lines["fgs-unmasked"] = lines["fgs-unmasked"] if fgs_unmasked is None else fgs_unmasked
    battery = {(name, budget): ball(flags(count, [])) for name in BALLS for budget in budgets}
    for name, rows in flipped.items():
        attack, _, budget = name.replace("_", "-").rpartition("-")
        assert (attack, int(budget)) in battery
        battery[attack, int(budget)] = ball(flags(count, rows))
    return by_code(consistency(subject or counted(count), evidence_of(lines, battery, budgets, **(more or {}))))


def test_where_all_agree_everything_passes_in_the_order_of_the_reasons():
    checks = judge(budgets=(5, 10))
    assert list(checks) == CODES == [code for code in REASONS if code in CODES]
    assert {check.outcome for check in checks.values()} == {"passed"}
    assert all(check.claims for check in checks.values())


# --- what should do worse does better ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("only", "outcome"), [(0, "passed"), (1, "note"), (10, "note"), (11, "suspect")])
def test_one_step_may_beat_many_on_one_percent(only, outcome):
    # 50 images fall to both, 90 to pgd alone; apgd does not count
    checks = judge(
        fgs_unmasked=line_at(10, 50 + only, COUNT), pgd_10=[*range(50), *range(900, 990)], apgd_10=range(COUNT)
    )
    check = checks["one-step-beats-many"]
    assert check.outcome == outcome
    assert check.claims == RESTING_ON_GRADIENTS
    assert check.numbers == {"within_10": float(only), "points_more": (only - 90) / 10.0}
    assert check.images == tuple(range(50, 50 + only))
    assert check.evidence.startswith(
        f"Correct images that FGS without underflow flips and PGD does not: {only} within 10 grey levels, of 1,000 "
        "(alarm above 1.0 % and 2 images)."
    )


def test_one_step_may_be_a_little_ahead_of_many():
    # 8 images more than PGD, of 1,000: within 1 %, whatever attacks without gradients may not do
    check = judge(fgs_unmasked=line_at(10, 58, COUNT), pgd_10=range(50), apgd_10=range(COUNT))["one-step-beats-many"]
    assert (check.outcome, check.numbers["points_more"]) == ("note", 0.8)


def test_one_step_counts_only_within_the_budget():
    assert judge(fgs_unmasked=line_at(10.5, COUNT, COUNT))["one-step-beats-many"].outcome == "passed"


@pytest.mark.parametrize(
    ("code", "weaker", "stronger", "limit"),
    [
        ("gradient-free-beats-gradient", "square", ("pgd", "apgd"), 40),  # 2 %
        ("transfer-beats-direct", "transfer", ("pgd", "apgd", "square"), 4),  # 0.2 %
        ("noise-beats-attack", "uniform_noise", ("pgd", "apgd", "square"), 4),
        ("noise-beats-attack", "gaussian_noise", ("pgd", "apgd", "square"), 4),
    ],
)
@pytest.mark.parametrize(("above", "outcome"), [(None, "passed"), (0, "note"), (1, "suspect")])
def test_what_follows_no_gradient_may_find_some_images_of_its_own(code, weaker, stronger, limit, above, outcome):
    # each stronger attack finds another one of the first images, and hundreds of its own
    only = 0 if above is None else limit + above
    own = range(1000, 1100)
    found = {f"{name}_10": [place, *own] for place, name in enumerate(stronger)}
    found[f"{weaker}_10"] = range(len(stronger) + only)
    check = judge(2000, **found)[code]
    assert check.outcome == outcome
    assert check.claims == RESTING_ON_GRADIENTS
    assert check.images == tuple(range(len(stronger), len(stronger) + only))[:20]
    assert check.count == only
    assert check.numbers == {"within_10": float(only), "points_more": (only - 100) / 20.0}


@pytest.mark.parametrize(
    ("own", "others", "outcome"),
    [(4, 0, "note"), (5, 0, "suspect"), (24, 20, "note"), (25, 20, "suspect"), (24, 21, "note")],
)
def test_square_may_find_a_fifth_of_a_point_more(own, others, outcome):
    check = judge(2000, square_10=range(own), pgd_10=range(500, 500 + others))["gradient-free-beats-gradient"]
    assert check.outcome == outcome
    assert check.numbers["points_more"] == (own - others) / 20.0
    assert f"Its rate is at most {(own - others) / 20.0:+.1f} points above theirs (alarm above 0.2)" in check.evidence


def test_noise_of_both_kinds_counts_together():
    checks = judge(uniform_noise_10=[1, 2], gaussian_noise_10=[2, 3])
    assert checks["noise-beats-attack"].outcome == "suspect"
    assert checks["noise-beats-attack"].images == (1, 2, 3)


@pytest.mark.parametrize(("only", "outcome"), [(2, "note"), (3, "suspect")])
@pytest.mark.parametrize("code", COMPARISONS)
def test_two_images_are_chance_however_few_there_are(code, only, outcome):
    rows = range(only)
    checks = judge(30, fgs_unmasked=line_at(10, only, 30), square_10=rows, transfer_10=rows, uniform_noise_10=rows)
    if code in ("transfer-beats-direct", "noise-beats-attack"):  # square has found the same images
        checks = judge(30, transfer_10=rows, uniform_noise_10=rows)
    assert checks[code].outcome == outcome


def test_the_worst_budget_decides_and_the_images_of_all_are_named_by_their_places():
    subject = counted(30, wrong=[0, 4])  # correct: places 1, 2, 3, 5, 6, ...
    check = judge(30, (5, 10), subject, square_5=[0, 1], square_10=[2, 3])["gradient-free-beats-gradient"]
    assert check.outcome == "note"  # two within either budget
    assert check.numbers == {"within_5": 2.0, "within_10": 2.0, "points_more": 100.0 * 2 / 30}
    assert check.images == (1, 2, 3, 5)
    assert ": 2 within 5, 2 within 10 grey levels, of 30" in check.evidence
    again = judge(30, (5, 10), subject, square_5=[0, 1, 2], square_10=[3])["gradient-free-beats-gradient"]
    assert again.outcome == "suspect"


def test_what_the_stronger_attack_finds_in_another_ball_does_not_count():
    check = judge(budgets=(5, 10), square_5=[0, 1, 2], pgd_10=[0, 1, 2])["gradient-free-beats-gradient"]
    assert check.outcome == "suspect"


def test_without_a_regular_model_there_is_no_transfer_to_judge():
    check = judge(more={"no_transfer": "Nobody was named."})["transfer-beats-direct"]
    assert (check.outcome, check.evidence) == ("not-run", "Nobody was named.")


# --- what should do better does not -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("survivors", "tried", "classes", "outcome"),
    [
        (0, 200, 10, "passed"),
        (1, 200, 10, "note"),
        (20, 200, 10, "note"),  # one class in ten, as chance would have it
        (21, 200, 10, "suspect"),
        (6, 12, 2, "note"),
        (7, 12, 2, "suspect"),
    ],
)
def test_no_more_than_chance_may_survive_the_whole_range(survivors, tried, classes, outcome):
    places = torch.arange(3, 3 + survivors)
    check = judge(more={"unbounded": places, "unbounded_tried": tried, "classes": classes})["unbounded-attack-fails"]
    assert check.outcome == outcome
    assert check.claims == RESTING_ON_GRADIENTS
    assert check.images == tuple(places.tolist())[:20]
    assert check.numbers["surviving"] == 100.0 * survivors / tried
    assert f"{survivors} of {tried} images survive PGD (chance: {100 // classes} %)" in check.evidence


@pytest.mark.parametrize(
    ("lost", "gained", "outcome"),
    # of five comparisons the smallest p counts five times: 5 / 2^12 is above 0.001, 5 / 2^13 below it
    [
        (0, 0, "passed"),
        (12, 0, "passed"),
        (13, 0, "suspect"),
        (17, 1, "suspect"),
        (15, 1, "passed"),
        (50, 60, "passed"),
    ],
)
def test_a_bigger_ball_may_lose_what_chance_loses(lost, gained, outcome):
    check = judge(
        budgets=(5, 10), apgd_5=range(100 + lost), apgd_10=[*range(100), *range(500, 500 + gained)], pgd_10=[7]
    )["bigger-budget-worse"]
    assert check.outcome == outcome
    assert check.numbers["apgd_lost_5_to_10"] == float(lost)
    assert check.numbers["pgd_lost_5_to_10"] == 0.0
    p_value = binom.sf(lost - 1, lost + gained, 0.5) if lost else 1.0
    assert check.numbers["smallest_p"] == pytest.approx(min(1.0, 5 * p_value))
    if outcome == "suspect":
        assert check.claims == ("apgd", "worst-case")
        assert check.count == lost
        assert check.images == tuple(range(100, 100 + lost))
        assert check.evidence.startswith(f"Apgd flips {lost - gained} fewer images within 10 than within 5 grey levels")
    else:
        assert check.claims == (*SEARCHING, "worst-case")
        assert check.count == 0
        assert check.evidence.startswith("No attack loses more images to a bigger budget than chance does")


def test_only_neighbouring_balls_are_compared_and_each_attack_is_named_once():
    check = judge(budgets=(5, 10, 20), square_5=range(40), square_10=range(20), pgd_5=[1], pgd_10=[1], pgd_20=[1])[
        "bigger-budget-worse"
    ]
    assert check.claims == ("square", "worst-case")
    assert check.numbers["square_lost_5_to_10"] == check.numbers["square_lost_10_to_20"] == 20.0
    assert check.count == 40
    assert "square_lost_5_to_20" not in check.numbers


@pytest.mark.parametrize("attack", ["transfer", "uniform_noise", "gaussian_noise"])
def test_what_does_not_search_its_ball_may_do_worse_in_a_bigger_one(attack):
    check = judge(budgets=(5, 10), **{f"{attack}_5": range(500)})["bigger-budget-worse"]
    assert (check.outcome, check.numbers["smallest_p"]) == ("passed", 1.0)
    assert attack.replace("_", "-") not in check.claims


def test_attacks_that_do_equally_well_in_both_balls_raise_the_alarm_in_one_of_a_thousand_audits_at_most():
    generator, alarms = np.random.default_rng(5), 0
    for _ in range(400):
        flipped = {
            f"{name}_{budget}": np.flatnonzero(generator.random(80) < 0.5)
            for name in SEARCHING
            for budget in (5, 10, 20)
        }
        alarms += judge(count=80, budgets=(5, 10, 20), **flipped)["bigger-budget-worse"].outcome == "suspect"
    assert alarms <= 3


def test_one_budget_alone_is_compared_with_nothing():
    check = judge()["bigger-budget-worse"]
    assert (check.outcome, check.numbers) == ("not-run", {})


@pytest.mark.parametrize(("more", "outcome"), [(0, "passed"), (1, "note"), (10, "note"), (11, "suspect")])
def test_doubled_steps_may_find_one_percent_more(more, outcome):
    check = judge(more={"doubled": {10: torch.arange(more)}, "surviving": {10: DOUBLED_IMAGES}})["not-converged"]
    assert check.outcome == outcome
    assert check.claims == FOLLOWING
    assert check.count == more
    assert check.numbers["flipped"] == more / 10.0
    assert check.numbers["flipped_10"] == more / 10.0
    said = (
        f"Auto-PGD with {DOUBLED.iterations} steps flips {more} of the first {DOUBLED_IMAGES} of {DOUBLED_IMAGES} that"
    )
    assert said in check.evidence


def test_what_doubled_steps_find_among_the_first_survivors_speaks_for_all():
    check = judge(more={"doubled": {10: torch.arange(6)}, "surviving": {10: 2 * DOUBLED_IMAGES}})["not-converged"]
    assert check.outcome == "suspect"  # 6 of the first 100, so about 12 of 200, of 1,000
    assert round(check.numbers["flipped"], 9) == 1.2
    assert "6 of the first 100 of 200 that survive" in check.evidence


def test_the_budget_in_which_most_is_left_to_find_decides_about_convergence():
    places = {5: torch.arange(11), 10: torch.arange(10, 12)}
    check = judge(budgets=(5, 10), more={"doubled": places, "surviving": {5: 100, 10: 40}})["not-converged"]
    assert check.outcome == "suspect"  # within the smaller one, though not within the larger
    assert (check.numbers["flipped_5"], check.numbers["flipped_10"], check.numbers["flipped"]) == (1.1, 0.2, 1.1)
    assert (check.count, check.images) == (12, tuple(range(12)))
    fine = judge(budgets=(5, 10), more={"doubled": {5: places[10], 10: places[10]}, "surviving": {5: 100, 10: 40}})
    assert fine["not-converged"].outcome == "note"


@pytest.mark.parametrize(("fgs", "outcome"), [(20, "note"), (21, "passed"), (30, "passed")])
def test_an_attack_along_a_line_is_weak_from_ten_points_on(fgs, outcome):
    lines = {
        "fgs": line_at(10, fgs, 100),
        "fgs-unmasked": line_at(10, 30, 100),
        "hc1": line_at(10, 29, 100),
        "hc1-unmasked": line([11.0] * 100) if outcome == "note" else line_at(10, 30, 100),  # beyond the budget
    }
    battery = {("pgd", 5): ball(flags(100, [0])), ("pgd", 10): ball(flags(100, range(25)))}
    check = by_code(consistency(counted(100), evidence_of(lines, battery, (5, 10))))["weak-attacks-only"]
    assert check.outcome == outcome
    assert check.claims == (("fgs", "hc1-unmasked") if outcome == "note" else LINES)
    assert check.numbers["worst_case"] == 30.0
    assert check.numbers["fgs_rate"] == fgs
    assert check.evidence.startswith(f"Within 10 grey levels: fgs {fgs}.0 %, fgs-unmasked 30.0 %, hc1 29.0 %")
    assert check.evidence.endswith("; the worst case over all attacks 30.0 %.")


# --- every attack against every other ---------------------------------------------------------------------------------


def all_gradients(rows, *besides, budget=10):
    """Return what `judge` takes where every attack with gradients flips the same images, but for those `besides`."""
    return {f"{name.replace('-', '_')}_{budget}": rows for name in GRADIENT if name not in besides}


@pytest.mark.parametrize(
    ("flipped", "outcome"), [(500, "passed"), (490, "passed"), (489, "note"), (400, "note"), (399, "suspect")]
)
@pytest.mark.parametrize("attack", GRADIENT)
def test_an_attack_with_gradients_may_be_ten_points_below_weaker_ones(attack, flipped, outcome):
    # FGS flips half of the images, and all other attacks with gradients as many
    attacks = all_gradients(range(500), attack) | {f"{attack.replace('-', '_')}_10": range(flipped)}
    check = judge(fgs_unmasked=line_at(10, 500, COUNT), square_10=range(500), **attacks)["weaker-than-others"]
    assert check.outcome == outcome
    assert check.count == (500 - flipped if outcome != "passed" else 0)
    assert check.numbers[f"{attack}_missed_10"] == 500 - flipped
    if outcome != "passed":
        assert check.claims == (attack,)
        assert check.evidence.startswith(f"{attack.capitalize()} leaves {500 - flipped} images within 10 grey levels")


@pytest.mark.parametrize("weaker", ["square", "uniform_noise", "gaussian_noise", "transfer"])
def test_every_weaker_kind_counts(weaker):
    attacks = all_gradients(range(500), "apgd") | {"apgd_10": range(300), f"{weaker}_10": range(500)}
    square = {} if weaker == "square" else {"square_10": range(500)}
    check = judge(**attacks, **square)["weaker-than-others"]
    assert (check.outcome, check.claims) == ("suspect", ("apgd",))


@pytest.mark.parametrize(("flipped", "outcome"), [(250, "note"), (249, "suspect")])
def test_an_attack_may_be_twenty_five_points_below_another_of_its_kind(flipped, outcome):
    attacks = all_gradients(range(500), "apgd-ce") | {"apgd_ce_10": range(flipped), "square_10": range(200)}
    check = judge(**attacks)["weaker-than-others"]
    assert (check.outcome, check.claims[0]) == (outcome, "apgd-ce")


@pytest.mark.parametrize(("flipped", "outcome"), [(850, "passed"), (600, "note"), (90, "note"), (89, "suspect")])
def test_square_may_find_fewer_images_but_not_next_to_none(flipped, outcome):
    check = judge(square_10=range(flipped), **all_gradients(range(900)))["weaker-than-others"]
    assert check.outcome == outcome
    if outcome != "passed":
        assert check.claims == ("square",)


def test_square_is_doubted_by_its_largest_ball_only():
    attacks = all_gradients(range(900), budget=5) | all_gradients(range(900))
    check = judge(budgets=(5, 10), square_5=range(1), square_10=range(400), **attacks)["weaker-than-others"]
    assert (check.outcome, check.claims) == ("note", ("square",))


def test_an_attack_that_tried_only_leftovers_is_not_compared():
    everyone, left = flags(COUNT, range(900)), flags(COUNT, range(900, COUNT))
    lines = dict.fromkeys(LINES, line_at(10, 0, COUNT))
    battery = {(name, 10): ball(everyone) for name in ("pgd", "apgd", "apgd-ce")}
    battery |= {(name, 10): ball(flags(COUNT, [950]), tried=left) for name in ("apgd-t", "square")}
    check = by_code(consistency(counted(COUNT), evidence_of(lines, battery)))["weaker-than-others"]
    assert (check.outcome, check.claims) == ("passed", ("pgd", "apgd", "apgd-ce"))


def test_two_images_are_chance_for_every_attack_too():
    check = judge(30, **all_gradients(range(20), "pgd"), pgd_10=range(18), square_10=range(20))["weaker-than-others"]
    assert check.outcome == "passed"


@pytest.mark.parametrize(("more", "concerned"), [(100, FOLLOWING), (101, RESTING_ON_GRADIENTS)])
def test_what_a_little_more_work_finds_speaks_against_one_step_only_where_it_is_a_lot(more, concerned):
    check = judge(more={"doubled": {10: torch.arange(more)}, "surviving": {10: 100}})["not-converged"]
    assert (check.outcome, check.claims) == ("suspect", concerned)


# --- what was not run -------------------------------------------------------------------------------------------------


def test_without_gradient_attacks_only_balls_of_other_attacks_are_compared():
    battery = {("square", 5): ball(flags(20, range(12))), ("square", 10): ball(flags(20, []))}
    more = {"doubled": {}, "unbounded_tried": 0, "no_transfer": "Nobody was named."}
    checks = by_code(consistency(counted(20), evidence_of({}, battery, (5, 10), **more)))
    not_run = {code: check.evidence for code, check in checks.items() if check.outcome == "not-run"}
    nothing = "There was no gradient attack to compare."
    assert not_run == dict.fromkeys(set(CODES) - {"bigger-budget-worse", "weaker-than-others"}, nothing) | {
        "transfer-beats-direct": "Nobody was named."
    }
    assert checks["bigger-budget-worse"].outcome == "suspect"
    assert checks["weaker-than-others"].outcome == "suspect"  # none of the 12 that fell in the smaller ball


def test_a_model_that_is_never_right_raises_nothing():
    empty = counted(0, wrong=[0, 1])
    more = {"doubled": {}, "unbounded_tried": 0}
    checks = consistency(empty, evidence_of({}, {}, (5, 10), **more))
    assert {check.outcome for check in checks} <= {"not-run", "passed"}
    assert np.array([check.count or 0 for check in checks]).sum() == 0


def test_two_more_images_are_no_alarm_about_convergence_however_few_there_are():
    found = [
        judge(count=40, more={"doubled": {10: torch.arange(more)}, "surviving": {10: 20}})["not-converged"].outcome
        for more in (2, 3)
    ]
    assert found == ["note", "suspect"]
