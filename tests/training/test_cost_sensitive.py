"""cost-sensitive: the weights of the classes, and that nothing else differs from pgd-at."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from bangbench.core.errors import UsageError
from bangbench.training.methods.base import RunView, make_method

ATTACK = {"budget": 0.2, "step": 0.1, "steps": 3}


def test_with_equal_costs_it_is_pgd_at(smooth, few):
    classifier = smooth()
    losses = []
    for method in (make_method("cost-sensitive", ATTACK | {"protection": 1.0}), make_method("pgd-at", ATTACK)):
        torch.manual_seed(8)
        losses.append(method.objective(classifier, *few).loss)
    torch.testing.assert_close(*losses, rtol=1e-12, atol=0.0)


def test_protected_classes_weigh_more_and_the_weights_are_not_normalised(shown, smooth, few, same_gradients):
    classifier, (images, labels) = smooth(), few
    passes = shown(classifier)
    method = make_method("cost-sensitive", ATTACK | {"protected": "1,3", "protection": 7.0})
    found = method.objective(classifier, images, labels)
    attacked = passes[0]
    assert float((attacked - images).abs().max()) == pytest.approx(51.0)
    expected = torch.zeros((), dtype=torch.float64)
    for image, label in zip(attacked, labels, strict=True):
        expected = expected + (7.0 if int(label) in (1, 3) else 1.0) * cross_entropy(classifier(image[None])[0], label)
    assert {int(label) for label in labels} == {0, 1, 2, 3}
    same_gradients(classifier, found.loss, expected / len(images))


def test_a_class_without_images_is_refused_before_training(few):
    images, labels = few
    run = RunView(None, images.to(torch.uint8), labels, 0, 1, 1, None)
    make_method("cost-sensitive", {"protected": (0, 3)}).begin_run(run)
    for wrong in (4, -1):
        with pytest.raises(UsageError, match=f"no training image is of class {wrong}; expected numbers .* from 0 to 3"):
            make_method("cost-sensitive", {"protected": (3, wrong)}).begin_run(run)


@pytest.mark.parametrize("value", ["", "three", "1;2"])
def test_what_is_no_list_of_classes_is_refused(value):
    with pytest.raises(UsageError, match="method 'cost-sensitive': protected"):
        make_method("cost-sensitive", {"protected": value})
