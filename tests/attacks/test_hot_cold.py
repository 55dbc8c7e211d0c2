"""HC1's direction against an explicit Jacobian, and the sign that leads it astray on negative logits."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from bangbench.attacks.hot_cold import HotCold, HotColdUnmasked

pytestmark = pytest.mark.exact

hot_cold, hot_cold_unmasked = HotCold().direction, HotColdUnmasked().direction


@pytest.fixture(scope="module")
def images():
    return torch.randint(0, 256, (20, 1, 8, 8), generator=torch.Generator().manual_seed(7)).float()


def shifted(classifier, change):
    """The classifier with `change` added to every logit."""
    other = copy.deepcopy(classifier)
    other.net[-1].bias.add_(change)
    return other


def hot_cold_by_jacobian(jacobian, logits, label, mended):
    """J^T w / max|J^T w| and max|J^T w|, with w of the definition; jacobian (K, 1, 8, 8), logits (K,), float64."""
    rivals = logits.copy()
    rivals[label] = -np.inf
    closest = rivals.argmax()
    weights = np.zeros(len(logits))
    weights[closest] = abs(logits[closest])
    weights[label] = -abs(logits[label]) if mended else -logits[label]
    product = np.tensordot(weights, jacobian, axes=1)
    return product / np.abs(product).max(), np.abs(product).max()


@pytest.mark.parametrize("change", [0.0, 5.0, -5.0])
@pytest.mark.parametrize(("attack", "mended"), [(hot_cold, False), (hot_cold_unmasked, True)])
def test_the_direction_is_that_of_the_explicit_jacobian(small_net, images, attack, mended, change):
    classifier = shifted(small_net, change)
    labels = classifier(images).argmax(1)
    labels[::5] = (labels[::5] + 1) % 4  # not only the most likely class
    direction = attack(classifier, images, labels)
    double = copy.deepcopy(classifier).double()
    for index, image in enumerate(images.double()):
        jacobian = torch.autograd.functional.jacobian(lambda flat: double(flat[None])[0], image).numpy()
        logits = double(image[None])[0].numpy()
        expected, largest = hot_cold_by_jacobian(jacobian, logits, labels[index], mended)
        assert direction.tensor[index].numpy() == pytest.approx(expected, abs=2e-5)
        assert float(direction.gradient_max[index]) == pytest.approx(largest, rel=1e-4)
    assert not direction.blank.any()


def test_the_direction_is_that_of_finite_differences(small_net, images):
    labels = small_net(images).argmax(1)
    direction = hot_cold(small_net, images, labels)
    double = copy.deepcopy(small_net).double()
    moves = 1e-3 * torch.eye(64, dtype=torch.float64).view(64, 1, 8, 8)
    for index, image in enumerate(images[:4].double()):
        slopes = (double(image + moves) - double(image - moves)).numpy() / 2e-3
        logits = double(image[None])[0].numpy()
        expected, _ = hot_cold_by_jacobian(slopes.T.reshape(4, 1, 8, 8), logits, labels[index], mended=False)
        assert direction.tensor[index].numpy() == pytest.approx(expected, abs=1e-4)


def test_literal_and_unmasked_agree_where_the_true_logit_is_positive_and_only_there(small_net, images):
    labels = small_net(images).argmax(1)
    positive, negative = shifted(small_net, 5.0), shifted(small_net, -5.0)
    assert (positive(images).gather(1, labels[:, None]) > 0).all()
    assert hot_cold(positive, images, labels).tensor.equal(hot_cold_unmasked(positive, images, labels).tensor)
    assert (negative(images).gather(1, labels[:, None]) < 0).all()
    assert not hot_cold(negative, images, labels).tensor.equal(hot_cold_unmasked(negative, images, labels).tensor)


@pytest.fixture
def negative_logits(tools):
    """Class 0 far ahead of class 1, both logits negative; the rows are orthogonal, so that each can be watched."""
    weight = np.zeros((3, 64))
    weight[0, :32] = np.arange(1, 33) * tools.unit
    weight[1, 32:] = 4 * tools.unit
    return tools.linear(weight, np.array([-12.0, -13.0, -30.0]))


def test_literal_hot_cold_pushes_towards_the_true_class_where_its_logit_is_negative(negative_logits):
    image, label = torch.full((1, 1, 8, 8), 128.0), torch.tensor([0])
    before = negative_logits(image)
    assert before.argmax() == 0
    assert before[0, 0] < 0
    literal = image + hot_cold(negative_logits, image, label).tensor
    mended = image + hot_cold_unmasked(negative_logits, image, label).tensor
    assert negative_logits(literal)[0, 0] > before[0, 0]
    assert negative_logits(mended)[0, 0] < before[0, 0]
    assert negative_logits(mended)[0, 1] > before[0, 1]


def test_literal_hot_cold_fails_where_unmasked_succeeds(negative_logits, tools):
    images, labels = np.full((1, 1, 8, 8), 128, dtype=np.uint8), np.array([0])
    assert not tools.run_attack(HotCold(), negative_logits, images, labels).found.any()
    unmasked = tools.run_attack(HotColdUnmasked(), negative_logits, images, labels)
    assert unmasked.found.all()


def test_with_two_classes_the_closest_class_is_the_other_one(two_classes, tools):
    case = two_classes
    images, labels = torch.from_numpy(case.images).float(), torch.from_numpy(case.labels)
    direction = hot_cold(tools.linear(case.weight, case.bias), images, labels)
    expected = (case.weight[1 - case.labels] / (8 * tools.unit)).reshape(case.images.shape)
    assert direction.tensor.numpy().tolist() == expected.tolist()


def test_the_largest_change_per_step_is_one_grey_level(small_net, images):
    labels = small_net(images).argmax(1)
    for attack in (hot_cold, hot_cold_unmasked):
        assert attack(small_net, images, labels).tensor.abs().flatten(1).amax(1).eq(1.0).all()
