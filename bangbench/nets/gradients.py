"""Gradients with respect to the image, one backward pass for a whole batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bangbench.nets.classifier import Classifier


def image_gradient(
    classifier: Classifier, images: Tensor, objective: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Return d(sum of objectives)/d(images), float32 (N, C, H, W), and the logits (N, K).

    objective: logits (N, K) -> one value per image (N,). The values are summed, never averaged: a factor 1/N could
    itself underflow.
    """
    variable = images.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        logits = classifier(variable)
        (gradient,) = torch.autograd.grad(objective(logits).sum(), variable)
    return gradient.contiguous(), logits.detach()


def unmasked_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return m = logsumexp over the wrong classes - z_true, (N,): the cross-entropy is log(1 + exp(m)).

    The gradient of the cross-entropy is sigmoid(m) * grad m. The factor vanishes for a confident net, the sign of
    grad m does not.
    """
    return without_true_class(logits, labels).logsumexp(1) - true_logits(logits, labels)


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
