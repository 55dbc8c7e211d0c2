"""Preflight: whether the outputs are finite logits that depend on the image alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from bangbench.auditing.probe import ModelError, finite_rows, forward, rounding_step, spread
from bangbench.auditing.subject import Subject, found
from bangbench.core.seeds import default_seeds, derive_seed, torch_generator
from bangbench.nets.classifier import Classifier
from bangbench.store.audits import Check

#: Images for repeats, and repeats.
_REPEATED, _REPEATS = 100, 5
#: A few images, and how often they are shown to a model that might count its calls.
_FEW, _CALLS = 8, 100
#: Differences between repeats, as a share of the logits' spread.
_RANDOM = 1e-4
#: Images for batches, and differences between batches as a share of the logits' spread: batch sizes change the order
#: of float32 sums, by some 1e-6 of the spread for LeNet; those of a coarser arithmetic by a few of its rounding steps.
_BATCHED, _BATCH_TOLERANCE, _BATCH_ROUNDING = 100, 1e-3, 8.0
#: Logits far from zero are coarser than their spread tells: rounding steps that no difference counts below.
_ROUNDING_STEPS = 64.0
#: How far from 1 probabilities may sum.
_SUM_TOLERANCE = 1e-5

#: torch's own layers that behave differently in training mode.
_DEPEND_ON_MODE = (
    nn.modules.dropout._DropoutNd,
    nn.modules.batchnorm._NormBase,
    nn.RReLU,
    nn.RNNBase,
    nn.MultiheadAttention,
)


def train_mode(subject: Subject) -> Check:
    """Look for layers in training mode: among the modules, and whichever are called in a forward pass.

    The latter also finds layers that are no registered part of the model, which eval() does not reach, and layers
    that are switched back in forward().
    """
    before = {module for module in subject.classifier.modules() if _in_training(module)}
    during: set[nn.Module] = set()

    def look(module: nn.Module, *_: Any) -> None:
        if _in_training(module):
            during.add(module)

    handles = [
        nn.modules.module.register_module_forward_pre_hook(look),
        nn.modules.module.register_module_forward_hook(look),
    ]
    try:
        forward(subject.classifier, subject.pixels[:2].float(), 2)
    except ModelError as failure:
        if not before | during:
            return found("train-mode", "not-run", str(failure))
    finally:
        for handle in handles:
            handle.remove()
    return _report_modes(before, during | {module for module in subject.classifier.modules() if _in_training(module)})


def _report_modes(before: set[nn.Module], ever: set[nn.Module]) -> Check:
    numbers = {"before": float(len(before)), "during": float(len(ever))}
    if not before | ever:
        evidence = "no layer whose answer depends on it is in training mode, before or during a forward pass"
        return found("train-mode", "passed", evidence, numbers=numbers)
    counts = Counter(type(module).__name__ for module in before | ever)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    when = "" if before else " during a forward pass, though not before it"
    return found("train-mode", "suspect", f"in training mode{when}: {kinds}", numbers=numbers)


def _in_training(module: nn.Module) -> bool:
    """Return whether a module is in training mode and could answer differently for it.

    torch's other layers do not look at the mode, a user's own module may.
    """
    if not module.training or isinstance(module, Classifier):
        return False
    return isinstance(module, _DEPEND_ON_MODE) or not type(module).__module__.startswith("torch.nn.modules")


def probabilities(subject: Subject) -> Check:
    """Look whether the outputs are probabilities already."""
    logits = subject.logits[finite_rows(subject)].double()
    if not len(logits):
        return found("probabilities", "not-run", "no image has finite logits")
    low, high, off = float(logits.min()), float(logits.max()), float((logits.sum(1) - 1.0).abs().max())
    numbers = {"smallest": low, "largest": high, "sum_off": off}
    evidence = f"outputs between {low:.4g} and {high:.4g}, sums up to {off:.2g} away from 1"
    is_one = low >= 0.0 and high <= 1.0 and off <= _SUM_TOLERANCE
    return found("probabilities", "suspect" if is_one else "passed", evidence, numbers=numbers)


def depends_on_history(subject: Subject) -> Check:
    """Compare the answers to the same batch, with the same random numbers, after one history and after others.

    In between the model is shown other images, the same in another order, one of them alone, and a few of them many
    times over: a model that answers from its last input, or counts its calls, then answers differently.
    """
    rows = finite_rows(subject, _REPEATED)
    if len(rows) < 2:
        return found("depends-on-history", "not-run", "fewer than two images have finite logits")
    images = subject.pixels[rows].float()
    histories = {
        "other images": [255.0 - images],
        "the same in another order": [images.flip(0)],
        "one of them alone": [images[-1:]],
        f"{_CALLS} calls": [images[:_FEW]] * _CALLS,
    }
    try:
        first, differences = _seeded(subject, images), {}
        for history, batches in histories.items():
            for batch in batches:
                forward(subject.classifier, batch, subject.batch_size)
            differences[history] = _differences(_seeded(subject, images), first)
    except ModelError as failure:
        return found("depends-on-history", "not-run", str(failure))
    changed = rows[torch.stack(list(differences.values())).amax(0) > _RANDOM]
    largest = {history: float(values.max()) for history, values in differences.items()}
    listed = ", ".join(f"{value:.2g} after {history}" for history, value in largest.items())
    evidence = f"with the same random numbers, logits of {len(rows)} images differ (of their spread) by {listed}"
    numbers = {history: _finite(value) for history, value in largest.items()}
    if not len(changed):
        return found("depends-on-history", "passed", evidence, numbers=numbers)
    return found("depends-on-history", "suspect", evidence, numbers=numbers, rows=changed)


def _seeded(subject: Subject, images: Tensor) -> Tensor:
    """Return the logits (N, K) of a forward pass for which all global generators are set to the same state."""
    with default_seeds(derive_seed(subject.seed, "audit", "depends-on-history"), images.device):
        return forward(subject.classifier, images, subject.batch_size)


def random_outputs(subject: Subject) -> Check:
    """Compare repeats of the same forward pass, after one that is not looked at: what comes before is no chance."""
    rows = finite_rows(subject, _REPEATED)
    if not len(rows):
        return found("random-outputs", "not-run", "no image has finite logits")
    images = subject.pixels[rows].float()
    try:
        repeats = [forward(subject.classifier, images, subject.batch_size) for _ in range(1 + _REPEATS)][1:]
    except ModelError as failure:
        return found("random-outputs", "not-run", str(failure))
    differences = torch.stack([_differences(again, repeats[0]) for again in repeats[1:]]).amax(0)
    changed = rows[differences > _RANDOM]
    largest = float(differences.max())
    evidence = f"{_REPEATS} repeats of {len(rows)} images differ by at most {largest:.2g} of the logits' spread"
    numbers = {"largest_difference": _finite(largest)}
    if not len(changed):
        return found("random-outputs", "passed", evidence, numbers=numbers)
    return found("random-outputs", "suspect", evidence, numbers=numbers, rows=changed)


def batch_dependent(subject: Subject, problem: str | None = None) -> Check:
    """Compare the logits of images in the audit's batches with those alone, in halves, and in another order.

    problem: why the same batch is answered differently, if so.
    """
    rows = finite_rows(subject, _BATCHED)
    if problem is not None:
        return found("batch-dependent", "not-run", f"{problem}, so that batches cannot be compared")
    if len(rows) < 2:
        return found("batch-dependent", "not-run", "fewer than two images have finite logits")
    images = subject.pixels[rows].float()
    generator = torch_generator(subject.seed, "audit", "batch-dependent")
    order = torch.randperm(len(rows), generator=generator).to(rows.device)
    half = (len(rows) + 1) // 2
    ways = {"alone": (None, 1), "in halves": (None, half), "in another order": (order, half)}
    try:
        together = forward(subject.classifier, images, subject.batch_size)
    except ModelError as failure:
        return found("batch-dependent", "not-run", f"in a batch of {min(len(rows), subject.batch_size)}, {failure}")
    answers, failures = {}, {}
    for way, (moved, size) in ways.items():
        try:
            logits = forward(subject.classifier, images if moved is None else images[moved], size)
        except ModelError as failure:
            failures[way] = str(failure)
        else:
            answers[way] = logits if moved is None else logits[moved.argsort()]
    tolerance = max(_BATCH_TOLERANCE, _BATCH_ROUNDING * rounding_step(subject))
    return _report_batches(rows, together, answers, failures, tolerance)


def _report_batches(
    rows: Tensor, together: Tensor, answers: dict[str, Tensor], failures: dict[str, str], tolerance: float
) -> Check:
    refused = "".join(f"; {way}, {failure}" for way, failure in failures.items())
    if not answers:
        return found("batch-dependent", "not-run", f"the model takes no other batch than {len(rows)}{refused}")
    differences = {way: _differences(logits, together) for way, logits in answers.items()}
    changed = rows[torch.stack(list(differences.values())).amax(0) > tolerance]
    moved = torch.stack([(logits != together).any(1) for logits in answers.values()]).any(0)
    largest = {way: float(values.max()) for way, values in differences.items()}
    listed = ", ".join(f"{value:.2g} {way}" for way, value in largest.items())
    evidence = f"against a batch of {len(rows)}, logits differ by at most (of their spread) {listed}{refused}"
    numbers = {way: _finite(value) for way, value in largest.items()} | {"moved": float(moved.sum())}
    if len(changed):
        return found("batch-dependent", "suspect", evidence, numbers=numbers, rows=changed)
    if moved.any():
        evidence += f"; that is rounding, in the last digits of {int(moved.sum())} of {len(rows)} images"
    return found("batch-dependent", "passed", evidence, numbers=numbers)


def _differences(logits: Tensor, reference: Tensor) -> Tensor:
    """Return each image's largest difference as a share of the logits' spread, (N,); infinite where one is NaN.

    The spread is the image's own or the median one, whichever is larger. Differences of a few rounding steps are 0.
    """
    difference = (logits - reference).abs().amax(1)
    steps = _ROUNDING_STEPS * torch.finfo(reference.dtype).eps * reference.abs().amax(1)
    own = (reference.amax(1) - reference.amin(1)).clamp_min(max(spread(reference), torch.finfo(reference.dtype).tiny))
    share = torch.where(difference <= steps, 0.0, difference / own)
    return share.nan_to_num(nan=torch.inf, posinf=torch.inf)


def _finite(value: float) -> float | None:
    return value if value < float("inf") else None


def bad_outputs(subject: Subject) -> Check:
    """Look for logits that are not finite."""
    rows = (~subject.logits.isfinite().all(1)).nonzero().squeeze(1)
    nan = int(subject.logits.isnan().any(1).sum())
    numbers = {"nan": float(nan), "infinite": float(len(rows) - nan)}
    if not len(rows):
        return found("bad-outputs", "passed", f"the logits of all {len(subject.pixels)} images are finite")
    evidence = f"{len(rows)} of {len(subject.pixels)} images have NaN ({nan}) or infinite ({len(rows) - nan}) logits"
    return found("bad-outputs", "suspect", evidence, numbers=numbers, rows=rows)
