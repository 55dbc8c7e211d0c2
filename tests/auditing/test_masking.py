"""Masked against unmasked: on classifiers whose attacks can be worked out by hand, and at the borders of outcomes."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bangbench.auditing.claims import line_attacks
from bangbench.auditing.masking import VARIANT_IMAGES, VARIANTS, Lines, gap_of, line_run, masking, variants_of

SCENES = runpy.run_path(str(Path(__file__).with_name("scenes.py")))
by_code, classifier_of, counted, duels, line, line_at, subject_of = (
    SCENES[name] for name in ("by_code", "classifier_of", "counted", "duels", "line", "line_at", "subject_of")
)
PixelLogits, Then, KeptInAList = (SCENES[name] for name in ("PixelLogits", "Then", "KeptInAList"))
CODES = ["fgs-masked", "hot-cold-sign", *VARIANTS]
LEADS = [11, 14, 17, 20, 23]
REST = ("fgs", "fgs_unmasked", "hc1_unmasked")


def run_all(subject, regular=None):
    """Return the checks from real runs, by code."""
    own = {name: line_run(subject, name) for name in line_attacks()}
    changed = {(name, code): line_run(subject, name, code) for name in line_attacks() for code in variants_of(subject)}
    return by_code(masking(subject, Lines(own, changed, regular)))


def judge(count=100, regular=None, subject=None, **runs):
    """Return the checks from made-up runs; those that are not given flip everything at a distance of 10."""
    everything = line_at(10, count, count)
    own = {name: runs.get(name.replace("-", "_"), everything) for name in line_attacks()}
    changed = {(name, code): runs.get("changed", everything) for name in line_attacks() for code in VARIANTS}
    return by_code(masking(subject or counted(count), Lines(own, changed, regular)))


# --- classifiers ------------------------------------------------------------------------------------------------------


def test_an_ordinary_classifier_passes():
    checks = run_all(duels(LEADS))
    assert {code: checks[code].outcome for code in CODES} == dict.fromkeys(CODES, "passed")
    assert checks["fgs-masked"].numbers["rate"] == 100.0
    assert "no rate changes by more than 1 point" in checks["logit-offset"].evidence
    assert "logits so small hide nothing" in checks["logit-scale"].evidence


def test_the_distances_of_fast_gradient_sign_are_those_of_closed_form():
    subject = duels(LEADS)
    for name in ("fgs", "fgs-unmasked"):
        assert line_run(subject, name).linf.tolist() == [lead // 2 + 1 for lead in LEADS]


def test_low_logits_turn_hot_cold_round():
    checks = run_all(duels(LEADS, net=Then(lambda logits: logits - 1000.0)))
    assert {code: checks[code].outcome for code in CODES} == {
        "fgs-masked": "passed",
        "hot-cold-sign": "masked",
        "logit-offset": "masked",
        "logit-scale": "passed",
        "float64-differs": "passed",
    }
    sign, offset = checks["hot-cold-sign"], checks["logit-offset"]
    assert sign.claims == ("hc1",)
    assert sign.numbers["negative_true_logits"] == 100.0
    assert (sign.numbers["rate"], sign.numbers["unmasked_rate"]) == (0.0, 100.0)
    assert sign.images == tuple(range(5))
    assert offset.claims == ("hc1",)
    assert offset.evidence.startswith("With the mean of each image's logits subtracted, on 5 images: hc1 0.0 % to 100")
    assert (offset.numbers["hc1_rate"], offset.numbers["hc1_changed_rate"]) == (0.0, 100.0)


def test_large_logits_hide_the_loss():
    checks = run_all(duels(LEADS, input_scale=255.0 / 1e4))
    assert {code: checks[code].outcome for code in CODES} == {
        "fgs-masked": "masked",
        "hot-cold-sign": "passed",
        "logit-offset": "passed",
        "logit-scale": "masked",
        "float64-differs": "passed",  # the loss is 0 in float64, too
    }
    assert "FGS flips 0.00 % of 5 correct images (5 have a loss of exactly 0" in checks["fgs-masked"].evidence
    assert checks["fgs-masked"].numbers["blank"] == 5.0
    assert checks["logit-scale"].claims == ("fgs",)


def test_a_loss_that_only_float64_can_hold_is_found_by_float64():
    checks = run_all(duels([25] * 5, input_scale=1.0))  # e^-25 is below float32's resolution at 1, above float64's
    assert checks["float64-differs"].outcome == checks["logit-scale"].outcome == "masked"
    assert checks["float64-differs"].claims == ("fgs",)
    assert checks["float64-differs"].numbers["fgs_changed_rate"] == 100.0


@pytest.mark.parametrize("code", VARIANTS)
def test_changes_keep_every_prediction_and_the_model_as_it_is(code):
    generator = torch.Generator().manual_seed(1)
    layer = nn.Linear(12, 10)
    layer.weight.data = torch.randn(10, 12, generator=generator)
    net = Then(lambda logits: 30.0 * logits - 500.0, nn.Sequential(nn.Flatten(), layer))
    subject = subject_of(classifier_of(net), torch.randint(0, 256, (41, 3, 2, 2), generator=generator))
    before = subject.classifier(subject.pixels.float())
    changed, precision = VARIANTS[code](subject)
    after = changed(subject.pixels.to(precision))
    assert torch.equal(after.argmax(1), before.argmax(1))
    assert len(before.argmax(1).unique()) > 2
    assert layer.weight.dtype == torch.float32
    if code == "logit-offset":
        assert torch.allclose(after.mean(1), torch.zeros(41), atol=0.05)
    elif code == "logit-scale":
        highest = after.topk(2, 1).values
        assert float((highest[:, 0] - highest[:, 1]).median()) == pytest.approx(5.0, rel=1e-3)
    else:
        assert after.dtype == torch.float64


def test_changes_are_compared_on_the_first_images_only():
    subject = duels([12] * (VARIANT_IMAGES + 7))
    run = line_run(subject, "fgs", "logit-offset")
    assert len(run.flipped) == VARIANT_IMAGES
    count = VARIANT_IMAGES + 7
    late = line([10.0] * VARIANT_IMAGES + [np.inf] * 7)
    everything = {
        (name, code): line_at(10, VARIANT_IMAGES, VARIANT_IMAGES) for name in line_attacks() for code in VARIANTS
    }
    checks = by_code(masking(counted(count), Lines(dict.fromkeys(line_attacks(), late), everything, None)))
    assert checks["logit-offset"].outcome == "passed"
    assert f"on {VARIANT_IMAGES} images" in checks["logit-offset"].evidence


def test_a_model_that_cannot_be_run_in_float64_is_not_compared_in_it():
    pixels = torch.randint(0, 256, (6, 1, 8, 8), generator=torch.Generator().manual_seed(1))
    subject = subject_of(classifier_of(KeptInAList(), 256.0), pixels)
    assert "float64-differs" not in variants_of(subject)
    assert variants_of(duels(LEADS, input_scale=1.0)) == tuple(VARIANTS)
    check = run_all(subject)["float64-differs"]
    assert check.outcome == "not-run"
    assert check.evidence == "The model cannot be run in float64."


# --- borders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flipped", "outcome"),
    [(100, "passed"), (99, "note"), (86, "note"), (85, "suspect"), (76, "suspect"), (75, "masked"), (0, "masked")],
)
def test_fgs_is_judged_by_the_points_it_loses(flipped, outcome):
    assert judge(fgs=line_at(10, flipped, 100))["fgs-masked"].outcome == outcome


def test_half_a_point_is_no_loss():
    assert judge(200, fgs=line_at(10, 199, 200))["fgs-masked"].outcome == "passed"


def test_an_fgs_that_does_better_than_its_twin_is_not_masked():
    assert judge(fgs_unmasked=line_at(10, 50, 100))["fgs-masked"].outcome == "passed"


def test_fgs_names_the_images_it_loses_by_their_places():
    subject = counted(4, wrong=[0, 3])  # correct: places 1, 2, 4, 5
    fgs = line([3.0, np.inf, np.inf, 3.0], blank=2)
    check = judge(4, subject=subject, fgs=fgs, fgs_unmasked=line([8.0, np.inf, 12.0, 7.0]))["fgs-masked"]
    assert check.images == (4,)
    assert check.count == 1
    assert check.claims == ("fgs",)
    assert check.numbers["mean_linf"] == 3.0
    assert check.numbers["unmasked_mean_linf"] == 9.0
    assert check.evidence == (
        "FGS flips 50.00 % of 4 correct images (2 have a loss of exactly 0 in float32), 75.00 % when computed without "
        "underflow at a mean L_inf of 9.0."
    )


def test_the_regular_models_distance_stands_beside():
    check = judge(regular=line([10.0, 15.0, np.inf] + [np.inf] * 97))["fgs-masked"]
    assert check.evidence.endswith("; the regular model falls to the same attack at a mean L_inf of 12.5.")
    assert check.numbers["regular_unmasked_mean_linf"] == 12.5


@pytest.mark.parametrize("regular", [None, line([np.inf] * 100)])
def test_without_a_distance_of_the_regular_model_none_is_told(regular):
    check = judge(regular=regular)["fgs-masked"]
    assert "regular" not in check.evidence
    assert check.numbers["regular_unmasked_mean_linf"] is None


@pytest.mark.parametrize(
    ("negative", "masked", "unmasked", "outcome"),
    [
        (10, line_at(10, 96, 100), line_at(10, 100, 100), "masked"),  # a tenth of the logits, four points
        (9, line_at(10, 96, 100), line_at(10, 100, 100), "note"),
        (10, line_at(10, 97, 100), line_at(10, 100, 100), "note"),  # three images may be chance
        (10, line_at(18, 100, 100), line_at(15, 100, 100), "masked"),  # a fifth farther
        (10, line_at(17.9, 100, 100), line_at(15, 100, 100), "note"),
        (10, line_at(12, 100, 100), line_at(10, 100, 100), "note"),  # two grey levels
        (10, line_at(10, 49, 100), line_at(10, 50, 100), "note"),  # no median to compare with
        (100, line_at(9, 100, 100), line_at(10, 100, 100), "note"),
        (1, line_at(90, 10, 100), line_at(10, 100, 100), "note"),
        (0, line_at(90, 10, 100), line_at(10, 100, 100), "passed"),
    ],
)
def test_hot_cold_is_masked_where_negative_logits_cost_it_images_or_distance(negative, masked, unmasked, outcome):
    subject = counted(100)
    logits = subject.logits.clone()
    logits[100 - negative :] -= 1000.0
    check = judge(subject=subject._replace(logits=logits), hc1=masked, hc1_unmasked=unmasked)["hot-cold-sign"]
    assert check.outcome == outcome
    assert check.numbers["negative_true_logits"] == pytest.approx(negative)
    assert check.count == negative
    assert check.images == tuple(range(100 - negative, 100))[:20]


def test_a_true_logit_of_zero_is_not_negative():
    subject = counted(100)
    assert judge(subject=subject._replace(logits=subject.logits * 0.0))["hot-cold-sign"].outcome == "passed"


@pytest.mark.parametrize(
    ("own", "outcome"),
    [
        (line_at(10, 100, 100), "passed"),
        (line_at(10, 99, 100), "note"),
        (line_at(10, 86, 100), "note"),
        (line_at(10, 85, 100), "suspect"),
        (line_at(10, 75, 100), "masked"),
        (line_at(11.9, 100, 100), "passed"),
        (line_at(12, 100, 100), "passed"),  # a fifth farther, but by two grey levels
        (line_at(12.1, 100, 100), "suspect"),
        (line_at(12.1, 76, 100), "suspect"),
        (line_at(12.1, 75, 100), "masked"),  # both together
        (line_at(12.9, 100, 100), "suspect"),
        (line_at(13, 100, 100), "masked"),
        (line_at(5, 50, 100), "masked"),  # failures are infinitely far
    ],
)
@pytest.mark.parametrize("code", VARIANTS)
def test_a_change_matters_by_rate_and_by_distance(code, own, outcome):
    check = judge(hc1_unmasked=own)[code]
    assert check.outcome == outcome
    assert check.claims == (("hc1-unmasked",) if outcome in ("suspect", "masked") else line_attacks())
    assert check.numbers["hc1-unmasked_rate"] == own.rate
    assert check.numbers["hc1-unmasked_changed_rate"] == 100.0
    assert ("hc1-unmasked" in check.evidence) == (outcome != "passed")


@pytest.mark.parametrize(
    ("better", "worse", "outcome"),
    [(61, 39, "masked"), (59, 41, "passed"), (100, 0, "masked")],  # by the exact sign test
)
def test_a_distance_counts_beyond_what_chance_moves(better, worse, outcome):
    # the median is 20 with the model's own gradients and 15 with the others
    own = line([20.0] * better + [10.0] * worse)
    changed = line([15.0] * 100)
    assert judge(hc1=own, changed=changed, **dict.fromkeys(REST, changed))["logit-offset"].outcome == outcome


@pytest.mark.parametrize(("count", "points"), [(4, 20.0), (3, 0.0)])
def test_points_count_beyond_what_chance_moves(count, points):
    assert gap_of(line_at(10, 0, 20), line_at(10, count, 20)).points == points


def test_what_makes_an_attack_fail_more_often_does_not_make_it_closer():
    # the rate falls from 100 to 60 %, while the images that are still flipped are flipped sooner
    assert gap_of(line_at(20, 100, 100), line_at(10, 60, 100)).farther == 0.0


def test_ordinary_distances_of_a_few_grey_levels_are_no_mask():
    # 59 images: 3 grey levels become 2, on all of them
    assert gap_of(line_at(3, 59, 59), line_at(2, 59, 59)).farther == 0.0


@pytest.mark.parametrize(("factor", "tried"), [(1.0, False), (100.0, True)])
def test_logits_are_never_made_larger(factor, tried):
    subject = duels(LEADS, net=Then(lambda logits: factor * logits), input_scale=10.0)
    assert ("logit-scale" in variants_of(subject)) is tried
    changed, _ = VARIANTS["logit-scale"](subject)
    images = subject.pixels.float()
    assert bool((changed(images).abs() <= subject.classifier(images).abs()).all())


def test_the_worst_of_four_attacks_decides_and_all_that_suffer_are_named():
    check = judge(fgs=line_at(10, 70, 100), hc1=line_at(10, 80, 100), hc1_unmasked=line_at(10, 98, 100))["logit-scale"]
    assert check.outcome == "masked"
    assert check.claims == ("fgs", "hc1")
    assert check.evidence == (
        "With all logits divided so that the median margin is 5, on 100 images: fgs 70.0 % to 100.0 % (median L_inf 10 "
        "to 10), hc1 80.0 % to 100.0 % (median L_inf 10 to 10), hc1-unmasked 98.0 % to 100.0 % (median L_inf 10 to 10)."
    )


def test_an_attack_that_a_change_makes_weaker_is_not_masked():
    assert judge(changed=line_at(40, 10, 100))["logit-scale"].outcome == "passed"


def test_nothing_is_compared_where_nothing_was_run():
    checks = masking(counted(3), Lines({}, {}, None))
    assert [check.code for check in checks] == CODES
    assert {check.outcome for check in checks} == {"not-run"}
    assert {check.evidence for check in checks} == {"There was no attack along a line to compare."}


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distances", "median"),
    [
        ([3.0, 9.0, 5.0], 5.0),
        ([3.0, np.inf, 5.0], 5.0),
        ([3.0, 5.0, 7.0, np.inf], 6.0),
        ([3.0, np.inf], np.inf),
        ([], np.inf),
    ],
)
def test_failures_are_infinitely_far_in_the_median(distances, median):
    assert line(distances).median == median


def test_rate_and_mean_are_over_all_and_over_flipped_images():
    run = line([4.0, np.inf, 8.0, np.inf])
    assert (run.rate, run.mean) == (50.0, 6.0)
    assert line([np.inf]).mean is None
    assert line([]).rate == 0.0
    assert run.first(1).linf.tolist() == [4.0]
    assert run.first(1).flipped.tolist() == [True]


def test_only_correct_images_are_attacked_and_failures_have_no_distance():
    pixels = [(120, 100), (100, 120), (121, 100), (255, 0)]
    subject = subject_of(classifier_of(PixelLogits(), 255.0), pixels, [0, 0, 0, 0])
    run = line_run(subject, "fgs")
    assert run.linf.tolist() == [11.0, 11.0, 128.0]
    late = Then(lambda logits: logits + torch.tensor([2.0, 0.0]))  # saturation leaves the lead of one class at 1
    unflippable = line_run(subject_of(classifier_of(late, 255.0), [(120, 100)], [0]), "fgs")
    assert unflippable.linf.tolist() == [np.inf]
    assert unflippable.flipped.tolist() == [False]
