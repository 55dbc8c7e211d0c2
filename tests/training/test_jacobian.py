"""jacobian: the penalty against derivatives of one output after the other, and its own derivative."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bangbench.core.errors import UsageError
from bangbench.training.methods.base import make_method
from bangbench.training.methods.jacobian import layers_jacobian, squared_jacobian


def squared_norm(outputs: Tensor, inputs: Tensor) -> Tensor:
    """Return ||d outputs / d inputs||_F^2, the mean over the samples, from one output of one sample at a time."""
    total = torch.zeros((), dtype=torch.float64)
    for row, output in enumerate(outputs.flatten(1)):
        for entry in output:
            (gradient,) = torch.autograd.grad(entry, inputs, create_graph=True)
            total = total + (gradient[row] ** 2).sum()
    return total / len(outputs)


@pytest.mark.parametrize("layers", [False, True])
def test_without_weight_it_is_regular_training(smooth, few, layers):
    classifier, (images, labels) = smooth(dropout=nn.Dropout(0.5), head=nn.Linear(20, 4)), few
    method = make_method("jacobian", {"weight": 0.0, "layers": layers})
    torch.manual_seed(2)
    found = method.objective(classifier, images, labels)
    torch.manual_seed(2)
    assert torch.equal(found.loss, cross_entropy(classifier(images), labels))


def test_the_exact_penalty_and_its_derivative(smooth, few, same_gradients):
    classifier, (images, labels) = smooth(), few
    method = make_method("jacobian", {"weight": 0.3, "projections": 0})
    found = method.objective(classifier, images, labels)
    pixels = (images / 255.0).requires_grad_()
    logits = classifier(255.0 * pixels)
    expected = cross_entropy(logits, labels) + 0.3 / 2.0 * squared_norm(logits, pixels)
    same_gradients(classifier, found.loss, expected)


def test_many_projections_come_to_the_exact_norm(smooth, few):
    classifier, images = smooth(), few[0].requires_grad_()
    torch.manual_seed(3)
    logits = classifier(images)
    exact = squared_jacobian(logits, images, 0).item()
    assert squared_jacobian(logits, images, 200).item() == pytest.approx(exact, rel=0.05)
    few_of_them = [squared_jacobian(logits, images, 1).item() for _ in range(200)]
    assert len(set(few_of_them)) == 200
    assert sum(few_of_them) / 200 == pytest.approx(exact, rel=0.05)


def test_the_layers_penalty_is_the_sum_over_layers_whose_inputs_are_held_constant(smooth, few, same_gradients):
    classifier, images = smooth(), few[0][:3]
    pixels = (images / 255.0).requires_grad_()
    convolution, squash, flatten, linear, squash_again, head = classifier.net
    first = flatten(squash(convolution(pixels)))  # the classifier divides grey levels by 255
    first_held = first.detach().requires_grad_()
    second = squash_again(linear(first_held))
    second_held = second.detach().requires_grad_()
    expected = squared_norm(first, pixels) + squared_norm(second, first_held)
    expected = expected + squared_norm(head(second_held), second_held)
    same_gradients(classifier, layers_jacobian(classifier, images, 0), expected)
    torch.manual_seed(4)
    assert layers_jacobian(classifier, images, 300).item() == pytest.approx(expected.item(), rel=0.05)


def test_layers_penalise_the_norm_of_the_layers(smooth, few, same_gradients):
    classifier, (images, labels) = smooth(), few
    torch.manual_seed(5)
    found = make_method("jacobian", {"weight": 0.4, "layers": True}).objective(classifier, images, labels)
    torch.manual_seed(5)
    expected = cross_entropy(classifier(images), labels) + 0.2 * layers_jacobian(classifier, images, 1)
    same_gradients(classifier, found.loss, expected)
    assert torch.equal(found.logits, classifier(images))
    assert not any(layer._forward_pre_hooks for layer in classifier.net.modules())


def test_the_exact_norm_of_layers_is_refused():
    with pytest.raises(UsageError, match=r"method 'jacobian': layers: .*projections of at least 1"):
        make_method("jacobian", {"projections": "0", "layers": "true"})
