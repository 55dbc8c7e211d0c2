"""What vanishes in float32 is counted exactly, and only a margin without a gradient is called masked."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bangbench.auditing.claims import gradient_claims
from bangbench.auditing.reasons import REASONS
from bangbench.auditing.subject import Subject, make_subject
from bangbench.auditing.vanishing import vanishing
from bangbench.nets.classifier import Classifier
from bangbench.store.records import Preprocessing

pytestmark = pytest.mark.exact

CODES = ["loss-underflow", "vanishing-gradient", "margin-gradient-gone"]


class Ramp(nn.Module):
    """Logits x/2 and -x/2 of an image of one pixel x: the margin is the grey level."""

    def forward(self, images: Tensor) -> Tensor:
        half = images.flatten(1) / 2.0
        return torch.cat([half, -half], 1)


def ramp(net: nn.Module | None = None) -> Subject:
    """Return a subject with the 255 images of one pixel from 1 to 255, all of class 0."""
    pixels = torch.arange(1, 256, dtype=torch.uint8).view(-1, 1, 1, 1)
    classifier = Classifier(net or Ramp(), Preprocessing(input_scale=1.0)).eval()
    return make_subject(classifier, pixels, torch.zeros(255, dtype=torch.int64), 100, seed=0)


def test_checks_come_in_the_order_of_the_reasons() -> None:
    assert [check.code for check in vanishing(ramp())] == CODES
    assert [code for code, reason in REASONS.items() if reason.group == "vanishing"] == CODES


def test_losses_of_zero_are_counted_exactly() -> None:
    check = vanishing(ramp())[0]
    # log(1 + exp(-m)) is 0 where exp(-m) is below half a rounding step: 2^-24 from 17 on, 2^-53 from 37 on
    assert check.count == 255 - 16
    assert check.images[:3] == (16, 17, 18)
    assert check.numbers["zero_loss"] == pytest.approx(100.0 * (255 - 16) / 255)
    assert check.numbers["zero_loss_float64"] == pytest.approx(100.0 * (255 - 36) / 255)
    assert check.numbers["margin_median"] == 128.0
    assert check.numbers["true_logit_median"] == 64.0
    assert check.evidence == (
        "The float32 loss is exactly 0 on 93.7 % of 255 correct images, that in float64 on 85.9 %; the true logit is "
        "64 and leads by 128 (medians)."
    )
    assert (check.outcome, check.claims) == ("note", ("fgs",))


def test_gradients_that_are_zero_or_subnormal_are_counted_exactly() -> None:
    check = vanishing(ramp())[1]
    # the gradient is exp(-m) / 2, below 2^-126 from 87 on
    assert check.count == 255 - 86
    assert check.numbers["zero"] + check.numbers["subnormal"] == pytest.approx(100.0 * (255 - 86) / 255)
    assert check.numbers["zero"] >= 100.0 * (255 - 104) / 255
    # the first 200 images in float64: none is below 2^-1022
    assert check.numbers["zero_float64"] == check.numbers["subnormal_float64"] == 0.0
    assert check.numbers["log10_largest_float64_median"] == pytest.approx(
        -100.5 / math.log(10) - math.log10(2), abs=1e-6
    )
    assert (check.outcome, check.claims) == ("note", ("fgs",))


def test_a_margin_with_a_gradient_passes_however_large_it_is() -> None:
    check = vanishing(ramp())[2]
    assert check.outcome == "passed"
    assert check.numbers["zero"] == check.numbers["not_finite"] == 0.0
    assert check.numbers["log10_largest_median"] == 0.0


class FlatFrom(nn.Module):
    """A ramp that does not pass a gradient from some grey level on."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self.level = level

    def forward(self, images: Tensor) -> Tensor:
        return Ramp()(torch.where(images < self.level, images, images.detach()))


def test_few_margins_without_a_gradient_are_a_note_and_more_are_masked() -> None:
    few, more = vanishing(ramp(FlatFrom(254)))[2], vanishing(ramp(FlatFrom(253)))[2]
    assert (few.outcome, few.count, few.images) == ("note", 2, (253, 254))
    assert (more.outcome, more.count, more.images) == ("masked", 3, (252, 253, 254))
    assert more.claims == gradient_claims()
    assert more.advice == REASONS["margin-gradient-gone"].advice
    assert "is zero on 1.2 % and NaN or infinite on 0.0 % of 255" in more.evidence


def test_gradients_that_are_not_finite_are_masked(tools: Any, nets: Any) -> None:
    # the root has an infinite slope at 0, and 0 times that is NaN
    broken = tools.around(nets.lenet, lambda images: images + 0.0 * images.abs().sqrt())
    check = tools.by_code(vanishing(tools.subject(broken)))["margin-gradient-gone"]
    assert check.outcome == "masked"
    assert check.numbers["not_finite"] == 100.0


@pytest.mark.parametrize("name", ["lenet", "conv", "linear", "adversarial"])
def test_sound_nets_raise_nothing(name: str, tools: Any, nets: Any) -> None:
    checks = vanishing(tools.subject(getattr(nets, name)))
    assert tools.alarms(checks) == {}
    assert checks[2].outcome == "passed"


def test_an_offset_of_the_logits_changes_nothing(tools: Any, nets: Any) -> None:
    checks, moved = vanishing(tools.subject(nets.conv)), vanishing(tools.subject(tools.flaw("logits minus 1e3")))
    assert [check.outcome for check in moved] == [check.outcome for check in checks]
    assert moved[0].numbers["true_logit_median"] == pytest.approx(
        checks[0].numbers["true_logit_median"] - 1000.0, abs=0.01
    )


def test_large_logits_are_notes_about_fgs(tools: Any, nets: Any) -> None:
    for net in (tools.flaw("logits times 1e4"), nets.distilled):
        loss, gradient, margin = vanishing(tools.subject(net))
        assert (loss.outcome, loss.claims) == ("note", ("fgs",))
        assert (gradient.outcome, gradient.claims) == ("note", ("fgs",))
        assert loss.numbers["zero_loss"] > 80.0
        assert margin.outcome == "passed"


def test_rounded_images_leave_the_margin_without_a_gradient(tools: Any) -> None:
    assert tools.alarms(vanishing(tools.subject(tools.flaw("16 levels")))) == {"margin-gradient-gone": "masked"}
    assert tools.alarms(vanishing(tools.subject(tools.flaw("16 levels, straight through")))) == {}


def test_a_saturated_softmax_leaves_the_margin_without_a_gradient(tools: Any, nets: Any) -> None:
    sharp = tools.around(nets.lenet, after=lambda logits: (30.0 * logits).softmax(1))
    checks = tools.by_code(vanishing(tools.subject(sharp)))
    assert checks["margin-gradient-gone"].outcome == "masked"
    # the loss of probabilities does not vanish: at best it is log(1 + (K - 1) / e)
    assert checks["loss-underflow"].numbers["zero_loss"] == 0.0


def test_without_a_gradient_only_the_losses_are_counted(tools: Any) -> None:
    loss, *gradients = vanishing(tools.subject(tools.flaw("detached")))
    assert loss.outcome in ("passed", "note")
    for check in gradients:
        assert check.outcome == "not-run"
        assert check.evidence.startswith("Autograd raises BenchError: no gradient of the logits reaches the images")


def test_images_with_nan_are_left_out(tools: Any) -> None:
    subject = tools.subject(tools.flaw("NaN on some images"))
    checks = vanishing(subject)
    assert tools.alarms(checks) == {}
    assert f"of {subject.correct} correct images" in checks[2].evidence


def test_no_correct_image_is_no_error(tools: Any, nets: Any) -> None:
    subject = tools.subject(nets.linear, count=4)
    checks = vanishing(subject._replace(attacked=torch.zeros(4, dtype=torch.bool)))
    assert {check.outcome for check in checks} == {"not-run"}
    assert {check.evidence for check in checks} == {"The model classifies no image correctly."}


def test_the_global_random_state_stays(tools: Any) -> None:
    subject = tools.subject(tools.flaw("noise layer"), count=40)
    before = torch.get_rng_state()
    first = vanishing(subject)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(3)
    assert vanishing(subject) == first
