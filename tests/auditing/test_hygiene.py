"""Every slip of an evaluation is found, and none is seen where there is none."""

from __future__ import annotations

import runpy
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bangbench.auditing.claims import all_claims, ball_attacks, line_attacks
from bangbench.auditing.hygiene import hygiene
from bangbench.auditing.reasons import REASONS
from bangbench.training.methods.base import Regular, attacks_shown
from bangbench.training.methods.registry import METHODS

SCENES = runpy.run_path(str(Path(__file__).with_name("scenes.py")))
ball, by_code, classifier_of, counted, duels, flags, subject_of = (
    SCENES[name] for name in ("ball", "by_code", "classifier_of", "counted", "duels", "flags", "subject_of")
)
PixelLogits, Then = SCENES["PixelLogits"], SCENES["Then"]


def judge(subject: Any, battery: Any = None, method: str | None = None, lines: Any = None) -> Any:
    return by_code(hygiene(subject, lines or {}, battery or {}, method))


def test_a_clean_evaluation_passes_in_the_order_of_the_reasons(digits):
    images = torch.from_numpy(digits.images[:30])
    net = Then(lambda logits: logits[:, 300:310])
    subject = subject_of(classifier_of(net), images)
    battery = {("pgd", 10): ball(flags(30, [1, 2])), ("square", 10): ball(flags(30, [3]))}
    checks = judge(subject, battery, "bang")
    assert list(checks) == [code for code, reason in REASONS.items() if reason.group == "hygiene"]
    outcomes = {code: check.outcome for code, check in checks.items()}
    assert outcomes == dict.fromkeys(checks, "passed") | {"few-images": "note"}
    assert all(check.claims for check in checks.values())


def test_a_success_that_is_none_is_told_with_attack_and_image():
    subject = counted(4, wrong=[0])  # correct: places 1 to 4
    battery = {
        ("pgd", 5): ball(flags(4, [0])),
        ("square", 5): ball(flags(4, []), lost=flags(4, [1])),
        ("square", 10): ball(flags(4, []), lost=flags(4, [1, 3])),
    }
    check = judge(subject, battery)["success-lost"]
    assert (check.outcome, check.images, check.count) == ("suspect", (2, 4), 2)
    assert check.claims == ("square",)
    assert check.evidence == "Square: 2 successes that are none when the stored image is read back."
    kept = judge(subject, {("pgd", 5): ball(flags(4, [0]))})["success-lost"]
    assert (kept.outcome, kept.claims, kept.count) == ("passed", (*line_attacks(), *ball_attacks()), 0)


def test_an_image_outside_its_budget_is_told_with_attack_and_image():
    battery = {
        ("pgd", 5): ball(flags(4, [0]), outside=flags(4, [2])),
        ("apgd", 5): ball(flags(4, []), outside=flags(4, [3])),
        ("square", 5): ball(flags(4, [])),
    }
    check = judge(counted(4, wrong=[0]), battery)["budget-violated"]
    assert (check.outcome, check.images) == ("suspect", (3, 4))
    assert check.claims == ("pgd", "apgd")
    assert check.evidence == "Pgd, apgd: 2 images that break the budget, which are not counted."
    assert judge(counted(4), {})["budget-violated"].outcome == "passed"


def test_images_are_counted_apart_and_add_up():
    battery = {("pgd", 5): ball(flags(7, [0, 1])), ("square", 5): ball(flags(7, [2, 3, 4]))}
    check = judge(counted(7, wrong=[1, 5]), battery)["denominators"]
    assert check.outcome == "passed"
    assert check.evidence == "9 images, 2 wrong on clean images, 7 attacked, up to 3 flipped."
    assert check.numbers == {"images": 9.0, "correct": 7.0, "correct_again": 7.0, "flipped": 3.0}


def test_an_answer_that_depends_on_the_batch_changes_the_count():
    # batches of 97 are filled to 104
    net = Then(lambda logits: logits.flip(1) if len(logits) == 104 else logits)
    subject = subject_of(classifier_of(net), [(200, 0, 0)] * 200)
    check = judge(subject)["denominators"]
    assert check.outcome == "suspect"
    assert check.claims == all_claims()
    assert check.evidence == (
        "200 images, 0 wrong on clean images, 200 attacked, up to 0 flipped; counted again, 6 are classified correctly."
    )


def test_images_without_an_answer_are_not_counted_as_correct_the_second_time():
    # the largest of logits that are all NaN is the first one, which is these images' class
    net = Then(lambda logits: logits.where(logits[:, 2:] == 0.0, torch.nan))
    subject = subject_of(classifier_of(net), [(200, 0, 0), (200, 0, 9), (200, 0, 9)], [0, 0, 0])
    check = judge(subject)["denominators"]
    assert (subject.correct, check.numbers["correct_again"], check.outcome) == (1, 1.0, "passed")


@pytest.mark.parametrize(("classes", "outcome"), [(2, "note"), (3, "passed"), (10, "passed")])
def test_two_classes_are_worth_a_note_on_apgd(classes, outcome):
    check = judge(counted(3, classes=classes))["few-classes"]
    assert (check.outcome, check.claims) == (outcome, ("apgd",))
    assert check.evidence == f"The model has {classes} classes; the DLR loss needs 3."


@pytest.mark.parametrize(
    ("method", "outcome", "claims", "evidence"),
    [
        (None, "not-run", (), "How the model was trained is not known."),
        ("regular", "passed", all_claims(), "The model was trained by regular, on clean images."),
        ("bang", "passed", all_claims(), "The model was trained by bang, on clean images."),
        ("pgd-at", "note", ("pgd",), "The model was trained by pgd-at, on the images of pgd."),
        (
            "fgs-at",
            "note",
            ("fgs", "fgs-unmasked"),
            "The model was trained by fgs-at, on the images of fgs and fgs-unmasked.",
        ),
    ],
)
def test_an_attack_seen_in_training_is_worth_a_note(method, outcome, claims, evidence):
    check = judge(counted(3), method=method)["trained-on-attack"]
    assert (check.outcome, check.claims, check.evidence) == (outcome, claims, evidence)


class SaysNothing(Regular):
    """A method that a third party made from one that says what it trains on."""


class OnItsOwnAttack(Regular):
    """A method of a third party that trains on attacks, one of them in the battery."""

    trained_on = ("pgd", "theirs")


@pytest.fixture
def theirs(monkeypatch):
    """Register methods of third parties for one test: one that says nothing, one that does, one that is damaged."""
    module = types.ModuleType("their_methods")
    module.SaysNothing, module.OnItsOwnAttack = SaysNothing, OnItsOwnAttack
    monkeypatch.setitem(sys.modules, "their_methods", module)
    for name, target in (("silent", "SaysNothing"), ("own-at", "OnItsOwnAttack"), ("damaged", "Missing")):
        METHODS.register(name, f"their_methods:{target}")
    yield
    for name in ("silent", "own-at", "damaged"):
        del METHODS._targets[name]


@pytest.mark.parametrize("method", ["silent", "damaged", "of-another-machine"])
def test_a_method_that_does_not_say_what_it_trains_on_is_not_taken_for_one_on_clean_images(theirs, method):
    check = judge(counted(3), method=method)["trained-on-attack"]
    assert (check.outcome, check.claims) == ("not-run", ())
    assert check.evidence == f"Whether {method} trains on the images of an attack is not known."


def test_a_method_of_a_third_party_speaks_for_itself(theirs):
    check = judge(counted(3), method="own-at")["trained-on-attack"]
    assert (check.outcome, check.claims) == ("note", ("pgd", "theirs"))


@pytest.mark.parametrize("method", ["regular", "bang", "pgd-at", "fgs-at"])
def test_every_method_of_the_bench_says_which_attacks_of_an_audit_it_trains_on(method):
    shown = attacks_shown(method)
    assert shown is not None
    assert set(shown) <= set(all_claims())


def test_constant_images_are_worth_a_note(digits):
    # so few that alignments, which fail on them, are no matter
    images = np.concatenate([digits.images[:11], np.full((1, 1, 28, 28), 7, dtype=np.uint8)])
    check = judge(subject_of(classifier_of(PixelLogits()), images))["pass-artefacts"]
    assert check.outcome == "note"
    assert check.numbers["constant_images"] == 1.0
    assert check.numbers["failed_alignments"] < 10.0
    assert "1 of 12 images are constant" in check.evidence


def test_images_that_cannot_be_aligned_are_worth_a_note():
    # one bright pixel in the dark: a copy with noise everywhere has nothing to be aligned by
    images = np.zeros((5, 1, 12, 12), dtype=np.uint8)
    images[:, :, 6, 6] = 1
    check = judge(subject_of(classifier_of(PixelLogits()), images))["pass-artefacts"]
    assert check.outcome == "note"
    assert check.numbers["failed_alignments"] > 10.0
    assert check.numbers["constant_images"] == 0.0


def test_an_image_that_is_not_itself_is_worth_a_note(digits, monkeypatch):
    import bangbench.auditing.hygiene as module

    true_score = module.pass_score

    def off(*stacks):
        scores = true_score(*stacks)
        return scores._replace(score=scores.score - 1e-4)

    subject = subject_of(classifier_of(PixelLogits()), digits.images[:2])
    assert judge(subject)["pass-artefacts"].outcome == "passed"
    monkeypatch.setattr(module, "pass_score", off)
    assert judge(subject)["pass-artefacts"].outcome == "note"


@pytest.mark.parametrize("shape", [(1, 10, 11), (2, 12, 12)])
def test_where_pass_is_not_defined_it_is_not_tried(shape):
    images = np.arange(2 * np.prod(shape)).reshape(2, *shape) % 251
    check = judge(subject_of(classifier_of(PixelLogits()), images))["pass-artefacts"]
    assert check.outcome == "not-run"
    assert check.evidence.startswith("PASS is not defined for these images: ")


@pytest.mark.parametrize(("correct", "outcome"), [(30, "note"), (380, "note"), (381, "passed"), (1000, "passed")])
def test_an_interval_wider_than_ten_points_is_worth_a_note(correct, outcome):
    # the Wilson interval of one half is 196 / sqrt(n + 1.96^2) points wide
    check = judge(counted(correct, wrong=[0]))["few-images"]
    assert check.outcome == outcome
    if correct % 2 == 0:
        assert check.numbers["width"] == pytest.approx(195.996 / np.sqrt(correct + 3.8415), abs=1e-3)
    assert check.evidence.startswith(f"With {correct:,} images attacked")


@pytest.mark.parametrize(("correct", "images"), [(29, 32), (10, 33), (1, 60)])
def test_fewer_than_thirty_images_say_nothing_and_how_many_would_do(correct, images):
    check = judge(counted(correct, wrong=[0]))["few-images"]
    assert (check.outcome, check.claims) == ("inconclusive", all_claims())
    assert f"at this accuracy {images} test images have as many" in check.evidence
    assert check.advice == REASONS["few-images"].advice


def test_a_model_that_is_never_right_is_suspect():
    check = judge(counted(0, wrong=[0, 1]))["few-images"]
    assert (check.outcome, check.numbers["width"]) == ("suspect", 100.0)
    assert check.evidence == "The model classifies no image correctly, so that nothing could be attacked."


def test_duels_have_two_classes():
    assert judge(duels([4, 6]))["few-classes"].outcome == "note"
