"""FGS: which samples are blank, and that fgs-unmasked is the same attack without the underflow."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from bangbench.attacks.fgs import Fgs, FgsUnmasked

pytestmark = pytest.mark.exact

fgs, fgs_unmasked = Fgs().direction, FgsUnmasked().direction

MARGINS = np.array([2, 8, 12, 15, 16, 18, 20, 40, 80])
#: Below this share of the largest entry the sign of a float32 gradient is rounding noise.
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def saturating(tools):
    """A linear classifier whose margin for class 0 is a quarter of pixel 0, and images with the margins above."""
    generator = np.random.default_rng(0)
    weight = generator.integers(-8, 9, (3, 64)) * tools.unit
    weight[:, 0] = (0.25, 0.0, 0.0)
    images = np.zeros((len(MARGINS), 1, 8, 8), dtype=np.float32)
    images[:, 0, 0, 0] = 4 * MARGINS
    return tools.linear(weight, np.zeros(3)), torch.from_numpy(images), torch.zeros(len(MARGINS), dtype=torch.int64)


@pytest.fixture(scope="module")
def uneven(small_net):
    """The small net with its logits magnified, so that confidence ranges from none to saturation; noise images."""
    classifier = copy.deepcopy(small_net)
    classifier.net[-1].weight.mul_(600.0)
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (120, 1, 8, 8), generator=generator).float()
    return classifier, images, classifier(images).argmax(1)


def exact_gradient(classifier, images, labels):
    """The gradient of logsumexp over the wrong classes - z_true in float64, one image at a time."""
    double = copy.deepcopy(classifier).double()
    rows = []
    for image, label in zip(images.double(), labels.tolist(), strict=True):
        variable = image[None].clone().requires_grad_(True)
        logits = double(variable)[0]
        wrong = torch.cat([logits[:label], logits[label + 1 :]])
        margin = torch.log(torch.exp(wrong - wrong.max()).sum()) + wrong.max() - logits[label]
        rows.append(torch.autograd.grad(margin, variable)[0])
    return torch.cat(rows)


def clear(gradient, share=ROUNDING):
    """Where an entry is larger than `share`, one for all samples or (N,), of its sample's largest."""
    return gradient.abs() > (share * gradient.abs().flatten(1).amax(1)).view(-1, 1, 1, 1)


def float32_loss(classifier, images, labels):
    """The loss -log p_true with p_true = softmax in float32."""
    logits = classifier(images).numpy()
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    probability = shifted[np.arange(len(logits)), labels] / shifted.sum(1)
    assert probability.dtype == np.float32
    return -np.log(probability)


def test_exactly_the_samples_whose_float32_loss_is_zero_are_blank(saturating):
    classifier, images, labels = saturating
    loss = float32_loss(classifier, images, labels)
    assert (loss == 0.0).tolist() == [False] * 5 + [True] * 4
    assert 0.0 < loss[4] < 1e-6
    assert fgs(classifier, images, labels).blank.tolist() == (loss == 0.0).tolist()


def test_blank_samples_still_have_an_autograd_gradient(saturating):
    classifier, images, labels = saturating
    variable = images.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(cross_entropy(classifier(variable), labels, reduction="sum"), variable)
    blank = fgs(classifier, images, labels).blank
    assert blank.any()
    assert (gradient[blank].abs().flatten(1).amax(1) > 0).all()
    assert fgs(classifier, images, labels).gradient_max.equal(gradient.abs().flatten(1).amax(1))


def test_the_blank_rule_holds_on_a_net_of_every_confidence(uneven):
    classifier, images, labels = uneven
    loss = float32_loss(classifier, images, labels)
    assert fgs(classifier, images, labels).blank.tolist() == (loss == 0.0).tolist()
    assert 10 < (loss == 0.0).sum() < 110


def test_a_misclassified_sample_is_not_blank_however_sure_the_net_is(saturating):
    classifier, images, labels = saturating
    assert not fgs(classifier, images, labels + 1).blank.any()


@pytest.mark.parametrize("planted", ["saturating", "uneven"])
def test_unmasked_gives_every_sample_the_direction_of_float64(request, planted):
    classifier, images, labels = request.getfixturevalue(planted)
    exact = exact_gradient(classifier, images, labels)
    direction = fgs_unmasked(classifier, images, labels)
    assert not direction.blank.any()
    assert clear(exact).float().mean() > 0.9
    assert direction.tensor[clear(exact)].equal(exact.sign().float()[clear(exact)])
    assert torch.allclose(direction.gradient_max.double(), exact.abs().flatten(1).amax(1), rtol=1e-4)


@pytest.mark.parametrize("planted", ["saturating", "uneven"])
def test_unsaturated_samples_get_the_same_signs_from_both(request, planted):
    classifier, images, labels = request.getfixturevalue(planted)
    usable = ~fgs(classifier, images, labels).blank
    plain = fgs(classifier, images, labels).tensor[usable]
    unmasked = fgs_unmasked(classifier, images, labels).tensor[usable]
    # float32 knows p_true - 1, a factor in the gradient of the loss, to 2^-24: a larger share the smaller the loss
    loss = torch.from_numpy(float32_loss(classifier, images, labels))[usable]
    share = ROUNDING + 8 * 2.0**-24 / loss
    assert (share < 1e-3).sum() >= len(loss) / 3
    differ = plain != unmasked
    assert not (differ & clear(exact_gradient(classifier, images, labels)[usable], share)).any()
    assert differ.float().mean() < 0.02


def test_the_direction_is_one_grey_level_a_step(uneven):
    for attack in (fgs, fgs_unmasked):
        assert set(attack(*uneven).tensor.unique().tolist()) <= {-1.0, 0.0, 1.0}


def test_with_two_classes_the_direction_is_that_of_the_difference_of_their_weights(two_classes, tools):
    case = two_classes
    images, labels = torch.from_numpy(case.images).float(), torch.from_numpy(case.labels)
    expected = np.sign(case.weight[1 - case.labels] - case.weight[case.labels]).reshape(case.images.shape)
    for attack in (fgs, fgs_unmasked):
        direction = attack(tools.linear(case.weight, case.bias), images, labels)
        assert direction.tensor.numpy().tolist() == expected.tolist()
        assert not direction.blank.any()
