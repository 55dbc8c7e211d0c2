"""Transfer: the source's images from their definitions, what the target must not be asked, and ART's and foolbox's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bangbench.attacks.ball import Ball, smallest_budget
from bangbench.attacks.base import Means
from bangbench.attacks.transfer import MomentumSettings, Transfer, momentum_steps, sign_step, transfer
from bangbench.core.errors import UsageError

pytestmark = pytest.mark.exact

SHAPES = [(1, 8, 5), (3, 4, 7)]
TEN = MomentumSettings()


def means(source, batch_size=64):
    return Means(torch.Generator().manual_seed(0), batch_size, source)


def exact_net(tools, shape, change=0):
    """Two classes and integer weights: logits and the margin's gradient are exact in float32 in any order of sums.

    change: the most by which weights differ from those of the net without a change.
    """
    channels, height, width = shape
    layers = nn.Sequential(
        nn.Conv2d(channels, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * (height - 2) * (width - 2), 2)
    )
    generator, other = torch.Generator().manual_seed(8), torch.Generator().manual_seed(9)
    for parameter in layers.parameters():
        weights = torch.randint(-3, 4, parameter.shape, generator=generator)
        parameter.data = (weights + torch.randint(-change, change + 1, weights.shape, generator=other)).float()
    return tools.wrap(layers)


def gradient_by_hand(source, image, label):
    """d(z_wrong - z_true)/d(image) of one image of two classes."""
    variable = torch.tensor(image[None], requires_grad=True)
    logits = source(variable)[0]
    return torch.autograd.grad(logits[1 - label] - logits[label], variable)[0][0].numpy()


def allowed(moved, image, budget):
    return np.clip(np.clip(moved, image - budget, image + budget), 0.0, 255.0)


def momentum_by_hand(source, ball, steps, decay):
    """One image at a time, in float32 as the package."""
    ends = []
    for original, label in zip(ball.images.numpy(), ball.labels.tolist(), strict=True):
        image, momentum = original.copy(), np.zeros_like(original)
        for _ in range(steps):
            gradient = gradient_by_hand(source, image, label)
            norm = np.abs(gradient).sum(dtype=np.float32)
            momentum = np.float32(decay) * momentum + (gradient / norm if norm > 0 else 0.0)
            step = np.float32(ball.budget / steps) * np.sign(momentum)
            image = allowed((image + step).astype(np.float32), original, ball.budget)
        ends.append(np.rint(image))
    return torch.from_numpy(np.stack(ends))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_sign_step_goes_the_whole_budget_along_the_sign_of_the_margins_gradient(tools, shape):
    source = exact_net(tools, shape)
    ball = tools.random_ball(source, shape)
    by_hand = [
        allowed(image + 12 * np.sign(gradient_by_hand(source, image, label)), image, 12)
        for image, label in zip(ball.images.numpy(), ball.labels.tolist(), strict=True)
    ]
    assert torch.equal(sign_step(source, ball, 5), torch.from_numpy(np.stack(by_hand)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("steps", "decay", "budget"), [(10, 1.0, 12), (10, 1.0, 2), (4, 0.5, 30)])
def test_the_momentum_steps_are_those_of_a_plain_loop(tools, shape, steps, decay, budget):
    source = exact_net(tools, shape)
    ball = tools.random_ball(source, shape, budget=budget)
    ours = momentum_steps(source, ball, 5, MomentumSettings(steps=steps, decay=decay))
    assert torch.equal(ours, momentum_by_hand(source, ball, steps, decay))
    assert (ours - ball.images).abs().max() == budget


def test_momentum_carries_on_where_the_gradient_turns(tools):
    source = exact_net(tools, SHAPES[0])
    ball = tools.random_ball(source, SHAPES[0], budget=40)
    with_momentum, without = (
        momentum_steps(source, ball, 64, MomentumSettings(steps=10, decay=decay)) for decay in (1.0, 0.0)
    )
    assert not torch.equal(with_momentum, without)


@pytest.mark.parametrize("budget", [1, 7, 25])
def test_the_source_is_left_behind_by_the_whole_budget_and_not_at_its_first_flip(two_classes, tools, budget):
    source = tools.linear(two_classes.weight, two_classes.bias)
    images, labels = torch.from_numpy(two_classes.images).float(), torch.from_numpy(two_classes.labels)
    ball = Ball(images, labels, budget)
    change = two_classes.weight[1 - two_classes.labels] - two_classes.weight[two_classes.labels]
    end = torch.from_numpy(budget * np.sign(change)).float().view_as(images)
    end = (images + end).clamp(0.0, 255.0)
    assert torch.equal(sign_step(source, ball, 64), end)
    assert torch.equal(momentum_steps(source, ball, 64, TEN), end)


class Deaf(nn.Module):
    """Another net, through which no gradient goes."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        return self.net(images.detach())


@pytest.mark.parametrize("shape", SHAPES)
def test_found_are_the_images_of_the_source_that_the_target_misclassifies(tools, shape):
    source, target = exact_net(tools, shape), exact_net(tools, shape, 1)
    ball = tools.random_ball(target, shape, 400, budget=40)
    first, second = sign_step(source, ball, 64), momentum_steps(source, ball, 64, TEN)
    by_first, by_second = (target(images).argmax(1) != ball.labels for images in (first, second))
    result = transfer(tools.wrap(Deaf(target)), ball, means(source))
    assert torch.equal(result.found, by_first | by_second)
    assert (by_second & ~by_first).any()
    assert (~result.found).any()
    assert torch.equal(result.adversarial[by_first], first[by_first])
    assert torch.equal(result.adversarial[by_second & ~by_first], second[by_second & ~by_first])
    assert torch.equal(result.adversarial[~result.found], ball.images[~result.found])
    assert result.forwards == 11 * 400 + 400 + int((~by_first).sum())


@pytest.mark.parametrize("shape", SHAPES)
def test_the_batch_size_changes_nothing(tools, shape):
    source, target = exact_net(tools, shape), exact_net(tools, shape, 2)
    ball = tools.random_ball(target, shape)
    whole, *others = (transfer(target, ball, means(source, size)) for size in (24, 7, 1))
    for other in others:
        assert torch.equal(other.adversarial, whole.adversarial)
        assert torch.equal(other.found, whole.found)
        assert other.forwards == whole.forwards


def test_nothing_is_random_and_nothing_given_is_changed(tools):
    source, target = exact_net(tools, SHAPES[0]), exact_net(tools, SHAPES[0], 2)
    ball, used = tools.random_ball(target, SHAPES[0]), means(source)
    kept, before = Ball(ball.images.clone(), ball.labels.clone(), ball.budget), used.generator.get_state()
    globally = torch.get_rng_state()
    transfer(target, ball, used)
    assert torch.equal(used.generator.get_state(), before)
    assert torch.equal(torch.get_rng_state(), globally)
    assert torch.equal(ball.images, kept.images)
    assert torch.equal(ball.labels, kept.labels)


def test_without_another_model_the_user_is_told_how_to_name_one(tools):
    target = exact_net(tools, SHAPES[0])
    with pytest.raises(UsageError, match="was given none; name that model with --against MODEL"):
        Transfer().find(target, tools.random_ball(target, SHAPES[0]), means(None))
    assert "source" in Transfer.needs


class Fixed(nn.Module):
    """The same logits whatever the image; the gradient is zero, or NaN."""

    def __init__(self, logits, slope=0.0):
        super().__init__()
        self.logits, self.slope = torch.tensor(logits), slope

    def forward(self, images):
        # the derivative of the square root at 0 is infinite, and infinity times 0 is no number
        rise = torch.sqrt(0.0 * images).flatten(1).sum(1, keepdim=True) if self.slope else 0.0 * images[:, :1, 0, 0]
        return self.logits + self.slope * rise * torch.tensor([0.0, 1.0])


@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_a_source_without_a_gradient_leaves_the_images_as_they_are(tools, slope):
    source, target = tools.wrap(Fixed([1.0, 0.0], slope)), tools.wrap(Fixed([1.0, 0.0]))
    ball = tools.random_ball(target, SHAPES[0])
    assert torch.equal(sign_step(source, ball, 64), ball.images)
    assert torch.equal(momentum_steps(source, ball, 64, TEN), ball.images)
    assert not transfer(target, ball, means(source)).found.any()


class Plateau(nn.Module):
    """The logit of class 1 grows with every pixel up to 105, where its gradient ends: it is zero, or NaN."""

    def __init__(self, nothing):
        super().__init__()
        self.nothing = nothing

    def forward(self, images):
        pixels = images.flatten(1)
        wrong = -torch.relu(105.0 - pixels)
        if self.nothing:
            wrong = wrong + 0.0 * torch.sqrt((pixels < 105.0) + 0.0 * pixels)
        return torch.stack([torch.zeros(len(images)), wrong.sum(1)], 1)


@pytest.mark.parametrize("nothing", [False, True])
def test_momentum_carries_an_image_on_over_places_without_a_gradient(tools, nothing):
    ball = Ball(torch.full((2, 1, 1, 1), 100.0), torch.zeros(2, dtype=torch.int64), 20)
    assert momentum_steps(tools.wrap(Plateau(nothing)), ball, 64, TEN).flatten().tolist() == [120.0, 120.0]


@pytest.mark.parametrize("nothing", [False, True])
def test_a_pixel_without_a_gradient_holds_no_other_back(tools, nothing):
    ball = Ball(torch.tensor([110.0, 50.0]).view(1, 1, 1, 2), torch.zeros(1, dtype=torch.int64), 20)
    source = tools.wrap(Plateau(nothing))
    assert sign_step(source, ball, 64).flatten().tolist() == [110.0, 70.0]
    assert momentum_steps(source, ball, 64, TEN).flatten().tolist() == [110.0, 70.0]


def test_a_confident_source_is_followed_though_its_cross_entropy_has_vanished(two_classes, tools):
    confident = tools.linear(1e4 * two_classes.weight, 1e4 * two_classes.bias)
    target = tools.linear(two_classes.weight, two_classes.bias)
    ball = Ball(torch.from_numpy(two_classes.images).float(), torch.from_numpy(two_classes.labels), 40)
    assert (nn.functional.cross_entropy(confident(ball.images), ball.labels, reduction="none") == 0.0).any()
    result = transfer(target, ball, means(confident))
    assert torch.equal(result.found, transfer(target, ball, means(target)).found)
    assert result.found.any()


def test_a_target_that_returns_no_numbers_is_not_flipped(tools):
    source = exact_net(tools, SHAPES[0])
    nothing = tools.wrap(Fixed([1.0, torch.nan]))
    result = transfer(nothing, tools.random_ball(source, SHAPES[0]), means(source))
    assert not result.found.any()


def test_an_image_of_one_pixel_goes_up_by_the_budget(tools):
    net = nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
    net[1].load_state_dict({"weight": torch.tensor([[0.0], [1.0]]), "bias": torch.tensor([106.5, 0.0])})
    ball = Ball(torch.full((3, 1, 1, 1), 100.0), torch.zeros(3, dtype=torch.int64), 7)
    classifier = tools.wrap(net)
    assert transfer(classifier, ball, means(classifier)).adversarial.flatten().tolist() == [107.0] * 3


class Refusing(nn.Module):
    """A net that must not be asked."""

    def forward(self, images):
        raise RuntimeError(f"asked for {len(images)} images")


def test_without_images_neither_net_is_asked(tools):
    nobody = tools.wrap(Refusing())
    result = transfer(nobody, Ball(torch.empty(0, 3, 4, 5), torch.empty(0, dtype=torch.int64), 7), means(nobody))
    assert result.adversarial.shape == (0, 3, 4, 5)
    assert result.found.shape == (0,)
    assert result.forwards == 0


def test_smallest_budget_takes_it_as_it_takes_every_attack(tools):
    source, target = exact_net(tools, SHAPES[0]), exact_net(tools, SHAPES[0], 2)
    ball = tools.random_ball(target, SHAPES[0], 60)
    flips = smallest_budget(Transfer(), "transfer", target, ball.images, ball.labels, (4, 12, 60), means(source))
    assert set(flips.scale[flips.found].tolist()) == {4.0, 12.0, 60.0}
    small = transfer(target, ball._replace(budget=4), means(source))
    assert torch.equal(flips.scale == 4.0, small.found)


def smooth_ball(net, count, budget):
    images = torch.randint(0, 256, (count, 1, 8, 8), generator=torch.Generator().manual_seed(2)).float()
    with torch.no_grad():
        return Ball(images, net(images).argmax(1), budget)


@pytest.mark.filterwarnings("ignore:Please import `gaussian_filter`:DeprecationWarning")
def test_foolbox_takes_the_same_sign_step(small_net):
    foolbox, budget = pytest.importorskip("foolbox"), 9
    ball = smooth_ball(small_net, 100, budget)
    model = foolbox.PyTorchModel(small_net, bounds=(0, 255), device="cpu")
    theirs, _, _ = foolbox.attacks.LinfFastGradientAttack()(model, ball.images, ball.labels, epsilons=float(budget))
    assert torch.equal(sign_step(small_net, ball, 64), theirs)


def test_art_takes_the_same_momentum_steps(small_net):
    """The cross-entropy's gradient is the margin's times a number per image, which the L1 norm divides out."""
    pytest.importorskip("art")
    from art.attacks.evasion import MomentumIterativeMethod
    from art.estimators.classification import PyTorchClassifier

    ball = smooth_ball(small_net, 100, 20)
    estimator = PyTorchClassifier(
        small_net, nn.CrossEntropyLoss(), (1, 8, 8), 4, clip_values=(0.0, 255.0), device_type="cpu"
    )
    peer = MomentumIterativeMethod(estimator, eps=20, eps_step=2, decay=1.0, max_iter=10, batch_size=100, verbose=False)
    theirs = torch.from_numpy(peer.generate(ball.images.numpy(), ball.labels.numpy())).round()
    ours = momentum_steps(small_net, ball, 64, TEN)
    assert (ours - ball.images).abs().lt(20).any()
    # a component of the momentum that is zero but for rounding may differ
    assert float((ours == theirs).float().mean()) > 0.999
