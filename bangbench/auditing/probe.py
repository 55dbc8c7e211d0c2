"""Looking at a model without changing it: forward passes, margins, gradients, a float64 copy."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bangbench.attacks.ball import batched_logits, gradients_and_logits
from bangbench.auditing.subject import Subject
from bangbench.core.errors import OutOfMemoryError
from bangbench.core.seeds import default_seeds, derive_seed
from bangbench.nets.classifier import Classifier
from bangbench.nets.gradients import cross_entropy, margin
from bangbench.nets.predict import left_as_found


class ModelError(Exception):
    """The model itself raised an error, or does not do what every model must; the message says which."""


@contextmanager
def untouched(subject: Subject) -> Iterator[None]:
    """Put the model's modes and buffers and all global random states back afterwards; these are seeded inside."""
    seed = derive_seed(subject.seed, "audit", "forward")
    with left_as_found(subject.classifier), default_seeds(seed, subject.pixels.device):
        yield


def finite_rows(subject: Subject, limit: int | None = None) -> Tensor:
    """Return the places of the (first so many) images whose logits are all finite, int64 (M,)."""
    return subject.logits.isfinite().all(1).nonzero().squeeze(1)[:limit]


def forward(classifier: Classifier, images: Tensor, batch_size: int) -> Tensor:
    """Return the logits (N, K) of images float32 or float64 (N, C, H, W), without a graph; raises `ModelError`.

    Not in inference mode, in which a model that computes gradients of its own could not do so.
    """
    try:
        return batched_logits(classifier, images, batch_size)
    except OutOfMemoryError:
        raise  # says nothing about the model
    except Exception as error:
        raise ModelError(f"the forward pass raises {described(error)}") from error


def right_answers(subject: Subject, images: Tensor, labels: Tensor) -> Tensor:
    """Return which images float32 (N, C, H, W) are given their labels (N,), bool (N,); raises `ModelError`."""
    logits = forward(subject.classifier, images, subject.batch_size)
    return (logits.argmax(1) == labels) & logits.isfinite().all(1)


def rounding_step(subject: Subject) -> float:
    """Return the relative rounding step of the coarsest precision among parameters, logits and layers' outputs."""
    kinds = {value.dtype for value in subject.classifier.parameters() if value.is_floating_point()}

    def look(module: nn.Module, given: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.is_floating_point():
            kinds.add(output.dtype)

    handle = nn.modules.module.register_module_forward_hook(look)
    try:
        forward(subject.classifier, subject.pixels[:2].float(), 2)
    except ModelError:  # the check that asks will say so
        pass
    finally:
        handle.remove()
    return max(torch.finfo(kind).eps for kind in (subject.logits.dtype, *kinds))


def is_coarse(subject: Subject) -> bool:
    """Return whether the model computes in half precision, at least in part."""
    return rounding_step(subject) > torch.finfo(torch.float32).eps


def described(error: Exception) -> str:
    """Return an error's type and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def percent(flags: Tensor) -> float:
    """Return how many of the flags, bool (M,), are True, in percent."""
    return 100.0 * float(flags.double().mean())


def spread(logits: Tensor) -> float:
    """Return the median over images of the largest minus the smallest of its finite logits (N, K)."""
    return float((logits.amax(1) - logits.amin(1)).median())


class Precise(NamedTuple):
    """A copy of the model in float64, or the model itself where that cannot be had; `note` says so."""

    classifier: Classifier
    dtype: torch.dtype
    note: str

    @property
    def name(self) -> str:
        """Return the precision in words."""
        return "float64" if self.dtype == torch.float64 else "float32"


def precise(classifier: Classifier, images: Tensor) -> Precise:
    """Return a copy of the model that computes in float64, tried on images (N, C, H, W)."""
    try:
        double = copy.deepcopy(classifier).double()
        logits = forward(double, images[:2].double(), 2)
    except OutOfMemoryError:
        raise
    except Exception as error:  # whatever a user's net may raise when it is copied or converted
        reason = described(error)
    else:
        if logits.dtype == torch.float64:
            return Precise(double, torch.float64, "")
        reason = f"its outputs stay {str(logits.dtype).removeprefix('torch.')}"
    return Precise(classifier, torch.float32, f"; in float32, as the model cannot be run in float64 ({reason})")


def gradients(classifier: Classifier, images: Tensor, labels: Tensor, objective: str, batch_size: int) -> Tensor:
    """Return d(objective)/d(image), (N, C, H, W), in the images' precision; raises `ModelError`.

    objective: `margin`, or `loss` for the cross-entropy of the true label.
    """
    value = margin if objective == "margin" else cross_entropy
    try:
        return gradients_and_logits(classifier, images, value, batch_size, labels)[0]
    except OutOfMemoryError:
        raise
    except Exception as error:
        raise ModelError(f"autograd raises {described(error)}") from error
