"""A BANG step against the same step with per-sample gradients: by Opacus, and by torch.func.

The peers do less than BANG: the factors are given to them, they need no norms. What is compared is the price of having
each sample's weight gradient, which BANG never forms.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bangbench.core.device import cpu_threads
from bangbench.training.loop import Run
from bangbench.training.memory import keep_freed_memory
from benchmarks.compare import Row, Work, compare, fastest, with_peer
from benchmarks.inputs import grey_images, training_run
from benchmarks.training_step import steps_of

_STEPS, _RUNS, _LIMIT = 3, 7, 3.0
_OPERATION = f"{_STEPS} BANG steps, lenet, batch 64"

#: Channels last, functorch; samples at a time. Opacus 1.6's own samplers are left out where channels lie last: the
#: gradients of a convolution with several input channels come out wrong there.
OPACUS_SETTINGS = ((False, False), (False, True), (True, True))
FUNCTIONAL_SETTINGS = ((False, None), (False, 16), (True, None), (True, 16))

#: images, labels, factors (N,) -> nothing; leaves the weighted gradient in the net.
PerSample = Callable[[Tensor, Tensor, Tensor], None]


def comparisons() -> list[Row]:
    """Compare on one thread with each library at the fastest of its settings."""
    keep_freed_memory()
    rows = with_peer("opacus", _OPERATION, lambda: [_compare("Opacus", opacus_works())])
    return [*rows, _compare("torch.func vmap(grad)", functional_works())]


def _compare(library: str, works: dict[str, Work]) -> Any:
    name, images = grey_images()
    with cpu_threads(1):
        own = steps_of(training_run("lenet", images, "bang"), _STEPS)
        settings, peer = fastest(works)
        return compare(f"{_OPERATION}, {name}, 1 thread", own, f"{library}, {settings}", peer, _RUNS, at_least=_LIMIT)


def opacus_works() -> dict[str, Work]:
    """Return steps with Opacus by memory layout and by the way it takes gradients."""
    return {
        f"{_layout(last)}, {'functorch' if functorch else 'grad samplers'}": _steps(
            run := _plain_run(last), opacus_gradients(run, functorch)
        )
        for last, functorch in OPACUS_SETTINGS
    }


def functional_works() -> dict[str, Work]:
    """Return steps with torch.func by memory layout and by the number of samples at a time."""
    return {
        f"{_layout(last)}, {f'{chunk} samples' if chunk else 'the batch'} at a time": _steps(
            run := _plain_run(last), functional_gradients(run, chunk)
        )
        for last, chunk in FUNCTIONAL_SETTINGS
    }


def opacus_gradients(run: Run, functorch: bool) -> PerSample:
    """Return Opacus' per-sample gradients, weighted and added up."""
    from opacus import GradSampleModule

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it says of hooks and of reductions changes nothing here
        module = GradSampleModule(run.classifier, loss_reduction="mean", force_functorch=functorch)

    def compute(images: Tensor, labels: Tensor, factors: Tensor) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cross_entropy(module(images), labels).backward()  # type: ignore[no-untyped-call]
        for weight in module.parameters():
            weight.grad = _weighted(weight.grad_sample, factors, weight)
            weight.grad_sample = None

    return compute


def functional_gradients(run: Run, chunk: int | None) -> PerSample:
    """Return torch.func's per-sample gradients, weighted and added up."""
    weights = dict(run.classifier.named_parameters())

    def loss(given: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = torch.func.functional_call(run.classifier, given, (image[None],))
        return cross_entropy(logits, label[None])

    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0), randomness="different", chunk_size=chunk)

    def compute(images: Tensor, labels: Tensor, factors: Tensor) -> None:
        detached = {name: weight.detach() for name, weight in weights.items()}
        for name, samples in gradients(detached, images, labels).items():
            weights[name].grad = _weighted(samples, factors, weights[name])

    return compute


def _plain_run(channels_last: bool) -> Run:
    return training_run("lenet", grey_images()[1], "regular", channels_last)


def _steps(run: Run, gradients: PerSample) -> Work:
    iterations = itertools.count()
    factors = torch.linspace(1.0, 2.0, run.batches.size)

    def work() -> None:
        for _ in range(_STEPS):
            iteration = next(iterations)
            gradients(*run.batches.at(iteration), factors)
            run.solver.step(run.rate(iteration))
            run.solver.clear_gradients()

    return work


def _weighted(samples: Tensor, factors: Tensor, like: nn.Parameter) -> Tensor:
    """Return the mean over samples (N, ...) of factor times gradient, laid out like the weight."""
    total = (factors @ samples.flatten(1)) / len(samples)
    return torch.empty_like(like).copy_(total.view(like.shape))


def _layout(channels_last: bool) -> str:
    return "channels last" if channels_last else "contiguous"
