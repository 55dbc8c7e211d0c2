"""Nets that know nothing or too much, remember, have some wrong gradients; and half precision, which is sound."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier
from torch import Tensor, nn

from bangbench.auditing.preflight import preflight
from bangbench.auditing.preflight_answers import chance_accuracy, constant_predictions, knows_test_images
from bangbench.auditing.preflight_gradients import shattered_gradient, slopes_of, wrong_gradient
from bangbench.auditing.preflight_outputs import batch_dependent, depends_on_history

# --- what the model knows -------------------------------------------------------------------------------------------


def untrained() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10)).eval()


def turned_round(net: nn.Module, classes: int) -> nn.Module:
    """Return a net that answers right about few classes: the labels of all others are one off."""
    order = [*range(classes), *range(classes + 1, 10), classes]
    return nn.Sequential(net, Reordered(order))


class Reordered(nn.Module):
    """Logits in another order."""

    def __init__(self, order: list[int]) -> None:
        super().__init__()
        self.order = order

    def forward(self, logits: Tensor) -> Tensor:
        return logits[:, self.order]


class Constant(nn.Module):
    """A net that gives every image the same class, by logits that depend on the image all the same."""

    def __init__(self, net: nn.Module, share: float) -> None:
        super().__init__()
        self.net, self.share = net, share

    def forward(self, images: Tensor) -> Tensor:
        return self.share * self.net(images) + 100.0 * nn.functional.one_hot(torch.tensor(3), 10)


def test_a_net_that_knows_nothing_is_found(tools: Any, nets: Any) -> None:
    for net in (untrained(), turned_round(nets.conv, 0), turned_round(nets.conv, 1)):
        check = tools.by_code(preflight(tools.subject(net, count=200)))["chance-accuracy"]
        assert check.outcome == "suspect"
        assert check.numbers["accuracy"] < 20.0
    check = chance_accuracy(tools.subject(turned_round(nets.conv, 5), count=200))
    assert (check.outcome, check.numbers["p"] < 1e-6) == ("passed", True)
    assert check.claims == ()


def test_a_guess_is_the_commonest_class_where_that_is_better(tools: Any, nets: Any, digits: Any) -> None:
    threes = torch.from_numpy((digits.labels == 3).nonzero()[0][:40])
    some = torch.cat([torch.arange(20), threes])
    images, labels = torch.from_numpy(digits.images)[some], torch.from_numpy(digits.labels)[some]
    always = chance_accuracy(tools.subject(Constant(nets.lenet, 0.0), images=images, labels=labels))
    assert (always.outcome, always.numbers["guess"]) == ("suspect", always.numbers["accuracy"])
    assert always.numbers["accuracy"] > 60.0
    assert chance_accuracy(tools.subject(nets.lenet, images=images, labels=labels)).outcome == "passed"
    # the first images of a sorted data set are of one class: then even a constant answer is no sign of anything
    alone = tools.subject(nets.lenet, images=images[20:], labels=labels[20:])
    assert (chance_accuracy(alone).outcome, constant_predictions(alone).outcome) == ("passed", "passed")


def test_of_a_few_images_chance_is_not_asked(tools: Any, nets: Any) -> None:
    assert chance_accuracy(tools.subject(untrained(), count=2)).outcome == "not-run"
    assert constant_predictions(tools.subject(untrained(), count=2)).outcome == "not-run"


def test_the_same_answer_for_every_image_is_found(tools: Any, nets: Any) -> None:
    for share, equal in ((1.0, False), (0.0, True)):
        check = constant_predictions(tools.subject(Constant(nets.conv, share)))
        assert (check.outcome, check.numbers["class"], check.numbers["given"]) == ("suspect", 3.0, 100.0)
        assert ("logits of all images are equal" in check.evidence) == equal
    assert constant_predictions(tools.subject(turned_round(nets.conv, 0))).outcome == "passed"


class OnlyThese(nn.Module):
    """A net that looks images up and answers at random, but always the same, where it does not find them."""

    def __init__(self, images: Tensor, labels: Tensor, key: Any, otherwise: nn.Module) -> None:
        super().__init__()
        self.key, self.otherwise = key, otherwise
        self.known = {self.of(image): int(label) for image, label in zip(images, labels, strict=True)}

    def of(self, image: Tensor) -> bytes:
        return self.key((255.0 * image).round()).numpy().tobytes()

    def forward(self, images: Tensor) -> Tensor:
        logits = self.otherwise(images)
        for row, image in enumerate(images.detach()):
            if (label := self.known.get(self.of(image))) is not None:
                logits = logits.index_put((torch.tensor(row), torch.tensor(label)), logits[row].amax() + 5.0)
        return logits


@pytest.mark.parametrize(
    ("key", "lost"),
    [
        (lambda image: image, "by a grey level at random"),
        # a few bits of coarse means hide a change of a grey level
        (lambda image: (image.unfold(1, 7, 7).unfold(2, 7, 7).mean((3, 4)) / 24.0).round(), "by a pixel to the right"),
    ],
)
def test_a_net_that_knows_the_images_by_heart_is_found(tools: Any, nets: Any, key: Any, lost: str) -> None:
    sound = tools.subject(nets.linear)
    net = OnlyThese(sound.pixels.float() / 255.0, sound.labels, key, untrained())
    subject = tools.subject(net)
    assert subject.correct == len(subject.labels)
    check = knows_test_images(subject)
    assert check.outcome == "suspect"
    assert check.numbers[lost] < 60.0


@pytest.mark.parametrize("name", ["lenet", "conv", "linear", "adversarial", "distilled"])
def test_what_a_sound_net_knows_it_knows_of_moved_images_too(tools: Any, nets: Any, name: str) -> None:
    check = knows_test_images(tools.subject(getattr(nets, name), count=300))
    assert check.outcome == "passed"
    assert check.numbers["by a grey level at random"] > check.numbers["as given"] - 2.0


def test_a_pixel_is_too_much_of_a_small_image_to_move_it_by(tools: Any) -> None:
    small = load_digits()
    images = np.minimum(16.0 * small.images, 255.0).astype(np.uint8)
    fitted = RidgeClassifier().fit(images.reshape(-1, 64) / 255.0, small.target)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    net[1].weight.data, net[1].bias.data = (
        torch.from_numpy(values).float() for values in (fitted.coef_, fitted.intercept_)
    )
    subject = tools.subject(net, images=torch.from_numpy(images)[:, None], labels=torch.from_numpy(small.target))
    moved = torch.cat([subject.pixels[..., :1], subject.pixels[..., :-1]], 3).float()
    assert float((subject.classifier(moved).argmax(1) == subject.labels).float().mean()) < 0.4
    assert knows_test_images(subject).outcome == "passed"


# --- state ----------------------------------------------------------------------------------------------------------


class Remembers(nn.Module):
    """A net that answers from its last input, in part, where the two are of the same shape."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.last = net, None

    def forward(self, images: Tensor) -> Tensor:
        last = images if self.last is None or self.last.shape != images.shape else self.last
        self.last = images.detach().clone()
        return self.net(0.8 * images + 0.2 * last)


class Counts(nn.Module):
    """A net that changes its mind once it was called often enough."""

    def __init__(self, net: nn.Module, calls: int) -> None:
        super().__init__()
        self.net, self.calls, self.count = net, calls, 0

    def forward(self, images: Tensor) -> Tensor:
        self.count += 1
        return self.net(images).roll(int(self.count > self.calls), 1)


def test_a_net_that_answers_from_its_last_input_is_found(tools: Any, nets: Any) -> None:
    checks = preflight(tools.subject(Remembers(nets.lenet)))
    assert tools.alarms(checks) == {"depends-on-history": "suspect"}
    by_code = tools.by_code(checks)
    assert by_code["random-outputs"].outcome == "passed"
    for code in ("batch-dependent", "wrong-gradient", "rough-loss"):
        assert by_code[code].evidence.startswith("An answer depends on those before it, so that ")


def test_a_net_that_counts_its_calls_is_found(tools: Any, nets: Any) -> None:
    check = depends_on_history(tools.subject(Counts(nets.lenet, 90)))
    assert check.outcome == "suspect"
    assert check.numbers["other images"] == 0.0
    assert check.numbers["100 calls"] > 0.01


@pytest.mark.parametrize("name", ["noise layer", "functional dropout", "batch norm hidden in training mode"])
def test_chance_and_batches_are_no_history(tools: Any, name: str) -> None:
    assert depends_on_history(tools.subject(tools.flaw(name))).outcome == "passed"


# --- gradients of some images, and of half precision ----------------------------------------------------------------


def reversed_for(count: int) -> Any:
    """Return a layer whose gradient is turned round for so many of the ten classes, as the label net sees them."""

    class Reversed(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, logits: Tensor) -> Tensor:
            ctx.some = logits.argmax(1) < count
            return logits.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return gradient.where(~ctx.some[:, None], -gradient)

    return Reversed.apply


@pytest.mark.parametrize(("classes", "outcome"), [(0, "passed"), (1, "masked"), (3, "masked")])
def test_a_gradient_that_is_wrong_on_some_images_is_masked(tools: Any, nets: Any, classes: int, outcome: str) -> None:
    subject = tools.subject(tools.around(nets.conv, after=reversed_for(classes)))
    check = wrong_gradient(slopes_of(subject))
    assert check.outcome == outcome
    of_these = [row for row in subject.rows[:32].tolist() if subject.labels[row] < classes]
    assert list(check.images) == of_these[:20]


def test_plateaus_around_some_images_are_shattered_and_not_wrong(tools: Any, nets: Any) -> None:
    def rounded_if_bright(images: Tensor) -> Tensor:
        bright = images.mean((1, 2, 3), keepdim=True) > limit
        return images.where(~bright, images + ((images * 15.0).round() / 15.0 - images).detach())

    limit = float((tools.subject(nets.conv).pixels.float() / 255.0).mean((1, 2, 3)).quantile(0.7)) + 1e-3
    slopes = slopes_of(tools.subject(tools.around(nets.conv, rounded_if_bright)))
    assert 0.1 < float(slopes.plateau.double().mean()) < 0.5
    assert shattered_gradient(slopes).outcome == "masked"
    assert wrong_gradient(slopes).outcome == "passed"


class Half(nn.Module):
    """A net that computes in bfloat16 and cannot be made to do otherwise."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        return copy.deepcopy(self.net).bfloat16()(images.bfloat16()).float()


@pytest.mark.parametrize("name", ["lenet", "conv", "linear"])
def test_half_precision_is_no_flaw(tools: Any, nets: Any, name: str) -> None:
    checks = preflight(tools.subject(Half(getattr(nets, name))))
    assert tools.alarms(checks) == {}
    assert tools.by_code(checks)["wrong-gradient"].outcome in ("passed", "note")


def test_batches_that_differ_by_rounding_alone_are_counted_and_the_gradients_checked(tools: Any, nets: Any) -> None:
    def last_bits(logits: Tensor) -> Tensor:
        return logits * (1.0 + 1e-6 * (len(logits) % 3))

    checks = tools.by_code(preflight(tools.subject(tools.around(nets.lenet, after=last_bits))))
    batch = checks["batch-dependent"]
    assert (batch.outcome, batch.numbers["moved"]) == ("passed", 60.0)
    assert "rounding, in the last digits of 60 of 60 images" in batch.evidence
    assert {checks[code].outcome for code in ("wrong-gradient", "shattered-gradient", "rough-loss")} == {"passed"}
    assert batch_dependent(tools.subject(nets.linear)).numbers["moved"] == 0.0


def half_right(tools: Any, right: int, count: int) -> Any:
    """Return the check of a net of two classes that gets so many of `count` images right."""
    labels = torch.arange(count) % 2
    shown = torch.where(torch.arange(count) < right, labels, 1 - labels)
    images = (200 * torch.nn.functional.one_hot(shown, 2)).to(torch.uint8).view(count, 1, 1, 2)
    return chance_accuracy(tools.subject(nn.Flatten(), images=images, labels=labels))


def test_few_images_that_a_guess_hardly_explains_are_inconclusive(tools: Any) -> None:
    outcomes = [half_right(tools, right, 30).outcome for right in (15, 19, 20, 23, 24)]
    # a guess gets 19 or more of 30 right with 10 %, 20 with 4.9 %; 55 % gets 23 or more with 1.1 %, 24 with 0.4 %
    assert outcomes == ["suspect", "suspect", "inconclusive", "inconclusive", "passed"]
    # of many images a guess is told apart from an accuracy that is just as poor
    assert half_right(tools, 525, 1000).outcome == "suspect"
