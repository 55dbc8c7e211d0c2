"""Attacks inside balls: what counts as flipped, what as lost or outside, and the worst case over all of them."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from bangbench.attacks.ball import BallAttack, Found
from bangbench.attacks.registry import ATTACKS
from bangbench.auditing import battery
from bangbench.auditing.battery import (
    DOUBLED,
    UNBOUNDED_IMAGES,
    fallen_to_doubled_steps,
    only_first,
    run_ball,
    survivors_of_unbounded,
    worst_case,
)

SCENES = runpy.run_path(str(Path(__file__).with_name("scenes.py")))
ball, classifier_of, duels, flags, line, subject_of = (
    SCENES[name] for name in ("ball", "classifier_of", "duels", "flags", "line", "subject_of")
)
PixelLogits, Then = SCENES["PixelLogits"], SCENES["Then"]
INF = np.inf


@pytest.fixture
def lying(monkeypatch):
    """Register an attack that returns what it is given, whatever is true; return what it was called with."""
    calls = []

    def register(adversarial, found):
        class Liar(BallAttack):
            def find(self, classifier, ball, means):
                calls.append((ball, means, torch.rand(1, generator=means.generator).item()))
                images = torch.tensor(adversarial, dtype=torch.float32).reshape(ball.images.shape)
                return Found(images, torch.tensor(found), forwards=100)

        monkeypatch.setattr(ATTACKS, "load", lambda name: Liar)
        return calls

    return register


def pixels(*pairs):
    return subject_of(classifier_of(PixelLogits()), list(pairs), [0] * len(pairs))


def run_on_all(subject, name, budget, source=None):
    """Attack all correct images with the defaults of an attack."""
    return run_ball(subject, name, budget, np.ones(subject.correct, dtype=np.bool_), None, source)


# --- one run ----------------------------------------------------------------------------------------------------------


def test_only_what_holds_on_the_stored_image_counts(lying):
    subject = pixels((60, 50), (60, 50), (60, 50), (60, 50))
    truly, same, rounds_back, unclaimed = (52, 58), (60, 50), (55.1, 55.4), (52, 58)
    lying([truly, same, rounds_back, unclaimed], [True, True, True, False])
    run = run_on_all(subject, "liar", 10)
    assert run.flipped.tolist() == [True, False, False, False]
    assert run.lost.tolist() == [False, True, True, False]  # of two equal logits the first counts
    assert not run.outside.any()


def test_what_lies_outside_the_budget_does_not_count(lying):
    subject = pixels((60, 50), (60, 50))
    inside, too_far = (50, 60), (49, 60)
    lying([inside, too_far], [True] * 2)
    run = run_on_all(subject, "liar", 10)
    assert run.flipped.tolist() == [True, False]
    assert run.outside.tolist() == [False, True]
    assert not run.lost[1]  # it does flip: it is another attack's success


def test_only_the_images_that_are_chosen_are_attacked(lying):
    calls = lying([(50, 60), (50, 60)], [True, True])
    run = run_ball(pixels((60, 50), (61, 50), (62, 50)), "liar", 12, flags(3, [0, 2]))
    assert calls[0][0].images.flatten(1).tolist() == [[60.0, 50.0], [62.0, 50.0]]
    assert run.tried.tolist() == run.flipped.tolist() == [True, False, True]
    assert not run.from_scratch
    assert run_ball(pixels((60, 50)), "liar", 12, flags(1, [])).forwards == 0
    assert len(calls) == 1


def test_forward_passes_include_the_judges(lying):
    lying([(60, 50), (60, 50)], [False, False])
    assert run_on_all(pixels((60, 50), (60, 50)), "liar", 10).forwards == 102


def test_only_correct_images_are_attacked_in_grey_levels(lying):
    calls = lying([(60, 50), (70, 50)], [False, False])
    subject = pixels((60, 50), (50, 60), (70, 50))
    run_on_all(subject, "liar", 7)
    given = calls[0][0]
    assert given.images.flatten(1).tolist() == [[60.0, 50.0], [70.0, 50.0]]
    assert (given.labels.tolist(), given.budget) == ([0, 0], 7)


def test_every_attack_and_budget_has_random_numbers_of_its_own(lying):
    calls = lying([(60, 50)], [False])
    subject = pixels((60, 50))
    for name, budget, seed in [("a", 7, 0), ("a", 7, 0), ("b", 7, 0), ("a", 8, 0), ("a", 7, 1)]:
        run_on_all(subject._replace(seed=seed), name, budget)
    drawn = [number for *_, number in calls]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 4


def test_the_attack_gets_the_source_and_the_batch_size(lying):
    calls = lying([(60, 50)], [False])
    source = classifier_of(PixelLogits())
    run_on_all(pixels((60, 50)), "liar", 7, source)
    assert calls[0][1].source is source
    assert calls[0][1].batch_size == 64


@pytest.mark.parametrize("name", ["pgd", "apgd", "apgd-ce", "apgd-t", "square"])
def test_real_attacks_flip_exactly_what_closed_form_allows(name):
    # within 6 grey levels the lead can be changed by 12
    run = run_on_all(duels([8, 11, 12, 13, 9]), name, 6)
    assert run.flipped.tolist() == [True, True, False, False, True]
    assert not run.lost.any()
    assert not run.outside.any()


# --- all runs ---------------------------------------------------------------------------------------------------------


def test_the_worst_case_is_cumulative_over_budgets_and_attacks():
    lines = {"fgs": line([INF, 10.0, 11.0, INF, INF, INF])}
    battery = {
        ("pgd", 10): ball(flags(6, [2])),
        ("pgd", 20): ball(flags(6, [3])),  # loses image 2, which stays fallen
        ("square", 30): ball(flags(6, [4])),
    }
    fallen = {budget: np.flatnonzero(worst_case(lines, battery, budget, 6)).tolist() for budget in (9, 10, 20, 29, 30)}
    assert fallen == {9: [], 10: [1, 2], 20: [1, 2, 3], 29: [1, 2, 3], 30: [1, 2, 3, 4]}


def test_where_nothing_was_run_nothing_falls():
    assert worst_case({}, {}, 10, 3).tolist() == [False] * 3


def test_only_first_are_those_that_no_second_one_flips():
    first, second = [flags(6, [0, 1]), flags(6, [2, 3])], [flags(6, [1]), flags(6, [3, 5])]
    assert np.flatnonzero(only_first(first, second)).tolist() == [0, 2]
    assert not only_first([], second).any()


# --- tests of the battery ---------------------------------------------------------------------------------------------


def test_doubled_steps_try_the_survivors_alone_and_name_their_places():
    subject = pixels((50, 60), (60, 52), (60, 49), (60, 48), (60, 47), (60, 51))  # the first one is wrong
    survivors = flags(5, [0, 2, 3])  # leads 8, 12, 13; 11 is no survivor
    flipped, forwards = fallen_to_doubled_steps(subject, survivors, 6)
    assert flipped.tolist() == [1]
    assert 2 * DOUBLED.iterations < forwards <= 3 * (DOUBLED.iterations + 2)  # two never fall


def test_doubled_steps_try_the_first_survivors_only(monkeypatch):
    monkeypatch.setattr(battery, "DOUBLED_IMAGES", 2)
    subject = pixels((60, 52), (60, 48), (60, 52), (60, 52))  # the second one cannot fall within 6
    flipped, _ = fallen_to_doubled_steps(subject, flags(4, [0, 1, 3]), 6)
    assert flipped.tolist() == [0]


def test_doubled_steps_have_nothing_to_do_without_survivors():
    flipped, forwards = fallen_to_doubled_steps(pixels((60, 50)), flags(1, []), 6)
    assert (flipped.tolist(), forwards) == ([], 0)


def test_an_unbounded_attack_flips_everything_that_can_be_flipped():
    survivors, tried, forwards = survivors_of_unbounded(pixels((50, 60), (255, 0), (60, 50)))
    assert (survivors.tolist(), tried) == ([], 2)
    assert forwards > 0


def test_the_survivors_of_an_unbounded_attack_are_named_by_their_places():
    # with a start of 256 grey levels, no image can leave the first class
    ahead = Then(lambda logits: logits + torch.tensor([256.0, 0.0]))
    subject = subject_of(classifier_of(ahead), [(0, 0), (9, 7), (0, 255)], [0, 1, 0])
    survivors, tried, _ = survivors_of_unbounded(subject)
    assert (survivors.tolist(), tried) == ([0, 2], 2)


def test_an_unbounded_attack_tries_the_first_images_only():
    subject = duels([4] * (UNBOUNDED_IMAGES + 5))
    assert survivors_of_unbounded(subject)[1] == UNBOUNDED_IMAGES
