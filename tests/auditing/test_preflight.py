"""Every flaw that preflight looks for is found under its own name, and nothing is found in sound models."""

from __future__ import annotations

import copy
import random
import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import grad

from bangbench.auditing.claims import ABOUT_GRADIENTS, gradient_claims
from bangbench.auditing.preflight import preflight
from bangbench.auditing.preflight_gradients import (
    inner_gradient,
    no_gradient,
    rough_loss,
    shattered_gradient,
    slopes_of,
    wrong_gradient,
)
from bangbench.auditing.preflight_inputs import channel_order, input_scale
from bangbench.auditing.preflight_outputs import bad_outputs, batch_dependent, random_outputs, train_mode
from bangbench.auditing.reasons import REASONS
from bangbench.auditing.slopes import measure_slopes
from bangbench.auditing.subject import Subject
from bangbench.core.errors import OutOfMemoryError
from bangbench.nets.classifier import Classifier
from bangbench.store.records import Preprocessing

#: What each flaw must raise, and nothing else.
ALARMS = {
    "softmax": {"probabilities": "suspect"},
    # dropout in training mode is random
    "dropout hidden in training mode": {"train-mode": "suspect", "random-outputs": "suspect"},
    "dropout switched back": {"train-mode": "suspect", "random-outputs": "suspect"},
    "functional dropout": {"random-outputs": "suspect"},
    "noise layer": {"random-outputs": "suspect"},
    # batch norm in training mode takes its statistics from the batch
    "batch norm hidden in training mode": {"train-mode": "suspect", "batch-dependent": "suspect"},
    # steps are as rough as a random walk
    "16 levels": {"shattered-gradient": "masked", "rough-loss": "suspect"},
    "16 levels, straight through": {"shattered-gradient": "masked", "rough-loss": "suspect"},
    "detached": {"no-gradient": "masked"},
    "through numpy": {"no-gradient": "masked"},
    "NaN on some images": {"bad-outputs": "suspect"},
    "wrong backward": {"wrong-gradient": "masked"},
    "gradient inside": {"inner-gradient": "suspect"},
    "wiggles": {"rough-loss": "suspect"},
}
#: Those that need no layers are given to the linear net, which is faster.
SHOWN_BY_ANY_NET = {
    "softmax",
    "functional dropout",
    "noise layer",
    "16 levels",
    "detached",
    "gradient inside",
    "wiggles",
}


def without_inference_mode(net: nn.Module, sound: Subject) -> Subject:
    """Return a subject of a net that cannot be run in inference mode, with the logits of another."""
    return sound._replace(classifier=Classifier(net, Preprocessing()).eval())


@pytest.mark.parametrize("name", ALARMS)
def test_a_flaw_raises_its_own_code_and_no_other(name: str, tools: Any, nets: Any) -> None:
    net = tools.flaw(name, nets.linear if name in SHOWN_BY_ANY_NET else nets.conv)
    inside = name == "gradient inside"
    subject = without_inference_mode(net, tools.subject(nets.linear)) if inside else tools.subject(net)
    checks = preflight(subject)
    assert tools.alarms(checks) == ALARMS[name]
    for check in checks:
        if check.code in ALARMS[name]:
            assert check.meaning == REASONS[check.code].meaning
            assert check.claims == (gradient_claims() if check.code in ABOUT_GRADIENTS else ())


@pytest.mark.parametrize("name", ["lenet", "conv", "linear", "adversarial", "distilled"])
def test_a_sound_net_passes(name: str, tools: Any, nets: Any) -> None:
    checks = preflight(tools.subject(getattr(nets, name)))
    assert [check.code for check in checks if check.outcome != "passed"] == ["channel-order"]
    assert tools.by_code(checks)["channel-order"].outcome == "not-run"


@pytest.mark.parametrize("name", ["logits times 1e4", "logits minus 1e3"])
def test_scale_and_offset_of_the_logits_are_no_matter_of_preflight(name: str, tools: Any, nets: Any) -> None:
    checks = preflight(tools.subject(tools.flaw(name, nets.linear)))
    assert {check.outcome for check in checks if check.code != "channel-order"} == {"passed"}


def test_checks_come_in_the_order_of_the_reasons(tools: Any, nets: Any) -> None:
    expected = [code for code, reason in REASONS.items() if reason.group == "preflight"]
    assert [check.code for check in preflight(tools.subject(nets.linear, count=20))] == expected


# --- inputs ---------------------------------------------------------------------------------------------------------


def test_a_wrong_scale_is_found_with_the_right_one(tools: Any, nets: Any) -> None:
    checks = preflight(tools.subject(nets.conv, input_scale=255.0 * 255.0))
    assert tools.alarms(checks) == {"input-scale": "suspect", "chance-accuracy": "suspect"}
    evidence = tools.by_code(checks)["input-scale"].evidence
    assert "times 25" in evidence
    assert evidence.endswith("under 20 other preprocessings, on 60 images.")


def test_missing_mean_subtraction_and_inversion_are_found(tools: Any, nets: Any) -> None:
    subject = tools.subject(nets.lenet)
    mean = subject.pixels.float().mean(0) / 255.0
    for before, what in (
        (lambda images: images + mean, "minus the mean image"),
        (lambda images: 1.0 - images, "inverted"),
    ):
        check = input_scale(tools.subject(tools.around(nets.lenet, before)))
        assert check.outcome == "suspect"
        assert check.numbers[what] - check.numbers["as given"] >= 5.0


def test_a_difference_that_chance_explains_is_none(tools: Any, nets: Any) -> None:
    assert input_scale(tools.subject(nets.conv, input_scale=255.0 * 255.0)).outcome == "suspect"
    check = input_scale(tools.subject(nets.conv, count=8, input_scale=255.0 * 255.0))
    assert check.outcome == "passed"
    assert max(check.numbers.values()) - check.numbers["as given"] > 50.0


def test_reversed_channels_are_found(tools: Any, nets: Any) -> None:
    grey = tools.subject(nets.lenet)
    colour = torch.cat([grey.pixels, grey.pixels.roll(1, 0), grey.pixels.roll(2, 0)], 1)
    first, last = (
        tools.subject(tools.around(nets.lenet, take), images=colour, labels=grey.labels)
        for take in (lambda images: images[:, :1], lambda images: images[:, 2:])
    )
    assert channel_order(first).outcome == "passed"
    check = channel_order(last)
    assert check.outcome == "suspect"
    assert "with channels reversed, on 60 images" in check.evidence
    assert channel_order(grey).evidence == "The images have 1 channel, not 3."


# --- outputs --------------------------------------------------------------------------------------------------------


def test_layers_in_training_mode_are_listed_by_kind(tools: Any) -> None:
    check = train_mode(tools.subject(tools.flaw("dropout hidden in training mode")))
    assert check.evidence == "In training mode during a forward pass, though not before it: 1 Dropout."
    check = train_mode(tools.subject(tools.flaw("dropout switched back")))
    assert "though not before it: 1 Dropout" in check.evidence


def test_a_layer_left_in_training_mode_counts_only_if_it_could_matter(tools: Any, nets: Any) -> None:
    subject = tools.subject(copy.deepcopy(nets.lenet))
    sequence = subject.classifier.net
    for layer in sequence:
        layer.train(not isinstance(layer, nn.Dropout))
    assert train_mode(subject).outcome == "passed"
    sequence.train()
    assert train_mode(subject).evidence == "In training mode: 1 Dropout."


def test_differences_far_below_the_spread_are_not_random(tools: Any, nets: Any) -> None:
    faint = tools.around(nets.lenet, after=lambda logits: logits + 1e-5 * torch.rand_like(logits))
    clear = tools.around(nets.lenet, after=lambda logits: logits + 1e-1 * torch.rand_like(logits))
    assert random_outputs(tools.subject(faint)).outcome == "passed"
    check = random_outputs(tools.subject(clear))
    assert (check.outcome, check.count) == ("suspect", 60)
    assert check.evidence.startswith("5 repeats of 60 images differ by at most 0.0")


def test_a_random_net_is_not_called_batch_dependent(tools: Any) -> None:
    check = tools.by_code(preflight(tools.subject(tools.flaw("noise layer"))))["batch-dependent"]
    assert check.outcome == "not-run"
    assert "random" in check.evidence


def test_images_whose_answer_depends_on_the_batch_are_named(tools: Any, nets: Any) -> None:
    brightness = tools.subject(nets.linear).pixels.float().mean((1, 2, 3))
    limit = float(brightness.quantile(0.9))

    def only_some(images: Tensor) -> Tensor:
        bright = images.mean((1, 2, 3), keepdim=True) > limit / 255.0
        return images * torch.where(bright, 1.0 / len(images), 1.0)

    check = batch_dependent(tools.subject(tools.around(nets.lenet, only_some)))
    assert check.outcome == "suspect"
    assert check.images == tuple((brightness > limit).nonzero().squeeze(1).tolist())
    assert 0 < check.count < 10


def test_the_mean_of_the_batch_is_found(tools: Any) -> None:
    assert batch_dependent(tools.subject(tools.flaw("minus the mean of the batch"))).outcome == "suspect"


def test_a_net_that_takes_no_single_image_is_compared_in_other_batches(tools: Any, nets: Any) -> None:
    def refuse(images: Tensor) -> Tensor:
        if len(images) == 8:  # a classifier fills its batches up to a multiple of eight
            raise ValueError("one image is too few\nfor me")
        return images

    check = batch_dependent(tools.subject(tools.around(nets.lenet, refuse)))
    assert check.outcome == "passed"
    assert check.evidence.endswith("; alone, the forward pass raises ValueError: one image is too few.")


def test_logits_that_are_not_finite_are_named(tools: Any) -> None:
    subject = tools.subject(tools.flaw("NaN on some images"))
    check = bad_outputs(subject)
    bad = subject.logits.isnan().any(1)
    assert check.count == int(bad.sum()) > 5
    assert check.images == tuple(bad.nonzero().squeeze(1)[:20].tolist())
    assert check.numbers == {"nan": float(bad.sum()), "infinite": 0.0}


def test_infinite_logits_are_counted_apart(tools: Any, nets: Any) -> None:
    subject = tools.subject(nets.linear, count=10)
    logits = subject.logits.clone()
    logits[3, 2] = torch.inf
    check = bad_outputs(subject._replace(logits=logits))
    assert check.evidence == "1 of 10 images have NaN (0) or infinite (1) logits."
    assert check.images == (3,)


# --- gradients ------------------------------------------------------------------------------------------------------


class RightInFloat64(torch.autograd.Function):
    """The identity, whose gradient is wrong in float32 alone."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        return images.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.flip(-1) if gradient.dtype == torch.float32 else gradient


def test_a_gradient_that_only_float32_gets_wrong_is_masked(tools: Any, nets: Any) -> None:
    check = wrong_gradient(slopes_of(tools.subject(tools.around(nets.lenet, RightInFloat64.apply))))
    assert check.outcome == "masked"
    assert (check.numbers["wrong"], check.numbers["wrong_float32"]) == (0.0, 100.0)
    assert check.numbers["cosine"] > 0.99
    assert check.numbers["cosine_float32"] < 0.9


def test_a_right_gradient_agrees_to_the_last_digits(tools: Any, nets: Any) -> None:
    for net in (nets.lenet, nets.conv, nets.linear):
        slopes = measure_slopes(tools.subject(net))
        assert slopes.cosine.min() > 0.95
        assert slopes.cosine.median() > 0.99999
        assert not slopes.plateau.any()


def test_whole_grey_levels_are_no_shattered_gradient(tools: Any, nets: Any) -> None:
    checks = preflight(tools.subject(tools.flaw("grey levels, straight through", nets.linear)))
    assert tools.alarms(checks) == {}
    check = tools.by_code(checks)["shattered-gradient"]
    assert check.outcome == "passed"
    assert "for whole grey levels, which images have, the gradient is right" in check.evidence


def test_a_zero_gradient_is_left_to_the_check_for_vanishing(tools: Any, nets: Any) -> None:
    class Zero(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, images: Tensor) -> Tensor:
            return images.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return torch.zeros_like(gradient)

    check = wrong_gradient(slopes_of(tools.subject(tools.around(nets.linear, Zero.apply))))
    assert check.outcome == "not-run"
    assert "zero or not finite on all 32 images" in check.evidence


def uncopied(net: nn.Module) -> nn.Module:
    """Give a net something that cannot be copied."""
    net.lock = threading.Lock()  # type: ignore[assignment]
    return net


def test_a_net_that_cannot_be_copied_is_measured_in_float32(tools: Any, nets: Any) -> None:
    for before, wrong, shattered in (
        (lambda images: images, "passed", "passed"),
        (tools.flaw("wrong backward").before, "masked", "passed"),
        (tools.flaw("16 levels, straight through").before, "not-run", "masked"),
    ):
        slopes = slopes_of(tools.subject(uncopied(tools.around(nets.conv, before))))
        assert wrong_gradient(slopes).outcome == wrong
        check = shattered_gradient(slopes)
        assert check.outcome == shattered
        assert "in float32, as the model cannot be run in float64 (TypeError: cannot pickle" in check.evidence


def test_a_net_that_stays_in_float32_is_measured_there(tools: Any, nets: Any) -> None:
    class Fixed(nn.Module):
        def double(self) -> Fixed:
            return self

        def _apply(self, fn: Any, recurse: bool = True) -> Fixed:
            return self

        def __init__(self) -> None:
            super().__init__()
            self.net = nets.lenet

        def forward(self, images: Tensor) -> Tensor:
            return self.net(images.float())

    slopes = measure_slopes(tools.subject(Fixed()))
    assert slopes.model.dtype == torch.float32
    assert "(its outputs stay float32)" in slopes.model.note
    assert slopes.cosine.median() > 0.99


def test_no_gradient_says_what_autograd_says(tools: Any) -> None:
    check = no_gradient(tools.subject(tools.flaw("detached")))
    assert check.evidence.startswith(
        "Asked for a gradient, autograd raises RuntimeError: element 0 of tensors does not"
    )
    check = no_gradient(tools.subject(tools.flaw("through numpy")))
    assert check.evidence.startswith("Asked for a gradient, autograd raises RuntimeError: Can't call numpy()")


def test_a_gradient_of_parameters_alone_does_not_reach_the_image(tools: Any, nets: Any) -> None:
    subject = tools.subject(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)))
    cut = subject._replace(classifier=tools.subject(tools.around(subject.classifier.net, Tensor.detach)).classifier)
    assert no_gradient(subject).outcome == "passed"
    assert no_gradient(cut).evidence == "The logits do not depend on the image as far as autograd can tell."


def test_every_way_to_run_autograd_inside_is_seen(tools: Any, nets: Any) -> None:
    sound = tools.subject(nets.lenet)

    def by_name(images: Tensor) -> Tensor:
        with torch.enable_grad():
            variable = images.detach().clone().requires_grad_(True)
            return images + grad(variable.square().sum(), variable)[0]

    def by_backward(images: Tensor) -> Tensor:
        with torch.enable_grad():
            variable = images.detach().clone().requires_grad_(True)
            variable.square().sum().backward()
        return images + variable.grad

    for way in (by_name, by_backward):
        check = inner_gradient(without_inference_mode(tools.around(nets.lenet, way), sound))
        assert (check.outcome, check.numbers["calls"]) == ("suspect", 2.0)
    assert inner_gradient(sound).outcome == "passed"


def test_roughness_is_one_where_the_margin_is_linear(tools: Any, nets: Any) -> None:
    for name, low, high in (("linear", 0.8, 1.25), ("lenet", 0.8, 1.5), ("adversarial", 0.8, 1.5)):
        assert low < rough_loss(tools.subject(getattr(nets, name)), None).numbers["roughness"] < high
    assert rough_loss(tools.subject(tools.flaw("wiggles")), None).numbers["roughness"] > 30.0


# --- strange models, and what stays as it was ------------------------------------------------------------------------


def test_a_model_that_raises_makes_no_check_raise(tools: Any, nets: Any) -> None:
    def refuse(images: Tensor) -> Tensor:
        raise KeyError("nothing for you")

    subject = tools.subject(nets.lenet)
    broken = subject._replace(classifier=Classifier(tools.around(nets.lenet, refuse), Preprocessing()).eval())
    checks = tools.by_code(preflight(broken))
    assert tools.alarms(checks.values()) == {"no-gradient": "masked"}
    assert "raises KeyError: 'nothing for you'" in checks["no-gradient"].evidence
    for code in ("input-scale", "random-outputs", "inner-gradient", "rough-loss", "batch-dependent", "train-mode"):
        assert checks[code].outcome == "not-run"
        assert "he forward pass raises KeyError: 'nothing for you'." in checks[code].evidence


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_look_at_is_no_error(count: int, tools: Any, nets: Any) -> None:
    subject = tools.subject(nets.lenet, count=2)
    few = subject._replace(
        logits=subject.logits.where(torch.arange(2)[:, None] < count, torch.nan),
        attacked=torch.zeros(2, dtype=torch.bool),
    )
    checks = tools.by_code(preflight(few))
    assert tools.alarms(checks.values()) == {"bad-outputs": "suspect"}
    assert (
        checks["wrong-gradient"].evidence == checks["rough-loss"].evidence == "The model classifies no image correctly."
    )


def test_a_model_and_all_global_states_stay_as_they_were(tools: Any, nets: Any) -> None:
    net = nn.Sequential(nn.BatchNorm2d(1), *tools.flaw("dropout hidden in training mode")).train()
    net[1].requires_grad_(True)
    net[0].weight.requires_grad_(False)
    subject = tools.subject(net)
    net[0].train()
    torch.manual_seed(5)
    before = state_of(net)
    preflight(subject)
    assert state_of(net) == before


def state_of(net: nn.Module) -> list[Any]:
    """Return all that a check could leave changed, in a form that can be compared."""
    module = nn.modules.module
    return [
        torch.get_rng_state().tolist(),
        random.getstate(),
        str(np.random.get_state()),
        [part.training for part in net.modules()],
        [value.requires_grad for value in net.parameters()],
        [value.grad for value in net.parameters()],
        {name: value.tolist() for name, value in net.state_dict().items()},
        [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in net.modules()],
        [len(module._global_forward_hooks), len(module._global_forward_pre_hooks)],
        [torch.autograd.grad, torch.autograd.backward, torch.autograd._engine_run_backward],
        torch.is_grad_enabled(),
    ]


def test_the_same_seed_gives_the_same_checks(tools: Any) -> None:
    subject = tools.subject(tools.flaw("functional dropout"), count=40)
    torch.manual_seed(1)
    first = preflight(subject)
    torch.manual_seed(2)
    assert preflight(subject) == first
    assert preflight(subject._replace(seed=1)) != first


class Large(nn.Module):
    """A net that a machine has no memory for, when it is given more than a few images."""

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return images.flatten(1)[:, :10]


def test_an_end_of_memory_says_nothing_about_the_model(tools: Any) -> None:
    one = tools.subject(Large(), count=8)
    subject = one._replace(
        pixels=one.pixels.repeat(8, 1, 1, 1), labels=one.labels.repeat(8), logits=one.logits.repeat(8, 1)
    )
    with pytest.raises(OutOfMemoryError, match="--batch-size"):
        random_outputs(subject)
