"""Gradients with respect to the image, one backward pass for a whole batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from bangbench.core.errors import BenchError
from bangbench.nets.classifier import Classifier
from bangbench.nets.first_layer import quick_image_gradients


def image_gradient(
    classifier: Classifier, images: Tensor, objective: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Return d(sum of objectives)/d(images), float32 (N, C, H, W), and the logits (N, K).

    objective: logits (N, K) -> one value per image (N,). The values are summed, never averaged: a factor 1/N could
    itself underflow. Raises `BenchError` where no gradient reaches the images at all.
    """
    variable = images.detach().clone().requires_grad_(True)
    with torch.enable_grad(), quick_image_gradients(classifier.net, variable):
        logits = classifier(variable)
        value = objective(logits).sum()
        gradient = torch.autograd.grad(value, variable, allow_unused=True)[0] if value.requires_grad else None
    if gradient is None:
        raise BenchError(
            "no gradient of the logits reaches the images: the model cuts it off. Attacks that follow gradients do not "
            "work on it, others do (square, gaussian-noise); what that means: bangbench explain no-gradient"
        )
    return gradient.contiguous(), logits.detach()


def class_powers(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return exp(z_c - max z), (N, K), and their sum over the classes, (N,), the same on every machine.

    The powers are computed in float64 and rounded to float32 (float64 for float64 logits), the sum adds them one by
    one in class order, as Caffe does. Torch's own softmax and cross-entropy add the lanes of a vector, whose width
    depends on the CPU; for a confident net the last bit decides whether a loss is 0 and where its gradient points.
    """
    precision = torch.float64 if logits.dtype == torch.float64 else torch.float32
    precise = logits.detach().double()
    powers = (precise - precise.amax(1, keepdim=True)).exp_().to(precision)
    total = torch.zeros_like(powers[:, 0])
    for power in powers.unbind(1):
        total = total + power
    return powers, total


def loss_vanishes(logits: Tensor, labels: Tensor) -> Tensor:
    """Return where Caffe's float32 softmax gives the true class exactly 1 (FGS then has no gradient), bool (N,).

    Of logits in float64 the same in float64. For an image that is classified correctly the powers then sum to 1.
    """
    powers, total = class_powers(logits)
    return true_logits(powers, labels) / total == 1.0


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return -log p_true, (N,), with the gradient p - onehot from `class_powers`, the same on every machine."""
    powers, total = class_powers(logits)
    probabilities = powers / total[:, None]
    loss = -true_logits(probabilities, labels).log()
    return _with_gradient(loss, logits, probabilities - one_hot(labels, logits.shape[1]).to(probabilities))


def unmasked_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return m = logsumexp over the wrong classes - z_true, (N,): the cross-entropy is log(1 + exp(m)).

    The gradient of the cross-entropy is sigmoid(m) * grad m. The factor vanishes for a confident net, the sign of
    grad m does not. Value and gradient are computed from `class_powers`, the same on every machine.
    """
    wrong = without_true_class(logits.detach(), labels)
    powers, total = class_powers(wrong)
    value = total.log() + wrong.amax(1) - true_logits(logits.detach(), labels)
    weights = powers / total[:, None] - one_hot(labels, logits.shape[1]).to(powers)
    return _with_gradient(value, logits, weights)


def hot_cold(logits: Tensor, labels: Tensor, mended: bool = False) -> Tensor:
    """Return w h with w = |h_t| at the closest wrong class t and -h_true at the true one, (N,); w held constant.

    h: the logits (N, K); mended: -|h_true| at the true class, which leads away from it whatever its sign.
    """
    target = without_true_class(logits, labels).argmax(1)
    hot, cold = true_logits(logits, target), true_logits(logits, labels)
    weight = -cold.detach().abs() if mended else -cold.detach()
    return hot.detach().abs() * hot + weight * cold


def _with_gradient(values: Tensor, logits: Tensor, weights: Tensor) -> Tensor:
    """Return values (N,) whose gradient at the logits (N, K) is `weights` (N, K)."""
    weighted = (weights.to(logits.dtype) * logits).sum(1)
    return values.to(logits.dtype) + (weighted - weighted.detach())


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the largest wrong logit - the true logit, (N,): positive where adversarial; it never underflows."""
    return without_true_class(logits, labels).amax(1) - true_logits(logits, labels)


def largest_entry(gradient: Tensor) -> Tensor:
    """Return the largest absolute entry of each image's gradient, (N,); NaN and infinity become infinity."""
    largest = gradient.abs().flatten(1).amax(1)
    return torch.nan_to_num(largest, nan=torch.inf, posinf=torch.inf)


def without_true_class(logits: Tensor, labels: Tensor) -> Tensor:
    """Return logits (N, K) with the true class at minus infinity."""
    return logits.scatter(1, labels[:, None], -torch.inf)


def true_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the logit of the true class, (N,)."""
    return logits.gather(1, labels[:, None]).squeeze(1)
