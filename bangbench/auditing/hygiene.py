"""Whether the evaluation itself was clean: budgets, stored images, denominators, enough images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from bangbench.attacks.ball import batched_logits
from bangbench.auditing.battery import Battery, Flags
from bangbench.auditing.claims import FEWEST_IMAGES, all_claims, ball_attacks, line_attacks
from bangbench.auditing.masking import LineRun
from bangbench.auditing.subject import Subject, found
from bangbench.core.errors import BenchError
from bangbench.core.seeds import torch_generator
from bangbench.core.statistics import wilson_interval
from bangbench.metrics.checks import check_channels, check_size
from bangbench.metrics.pass_score import pass_score
from bangbench.metrics.reference import EccStatus
from bangbench.store.audits import Check, Outcome
from bangbench.training.methods.base import attacks_shown

#: Pairs that PASS is tried on, and how far an image's PASS with itself may be from 1.
_PASS_PAIRS, _PASS_TOLERANCE = 32, 1e-6

#: A 95 % interval (points) that is too wide to rank models by; failed alignments (percent) that bias a mean.
_WIDE_INTERVAL, _FAILED_ALIGNMENTS = 10.0, 10.0


#: Images per forward pass when correct images are counted again: none of the sizes that the bench uses.
_OTHER_BATCH = 97


def hygiene(subject: Subject, lines: Mapping[str, LineRun], battery: Battery, method: str | None) -> list[Check]:
    """Return the checks of the group; method: how the model was trained, None where that is not known."""
    return [
        _success_lost(subject, lines, battery),
        _budget_violated(subject, battery),
        _denominators(subject, battery),
        _few_classes(subject),
        _trained_on_attack(method),
        _pass_artefacts(subject),
        _few_images(subject),
    ]


def _success_lost(subject: Subject, lines: Mapping[str, LineRun], battery: Battery) -> Check:
    shown = {(name, 255): run.lost for name, run in lines.items()} | {key: run.lost for key, run in battery.items()}
    fine = "Every success, the first one of each image, was confirmed by a forward pass on the stored uint8 image."
    what = "successes that are none when the stored image is read back"
    return _none_shown(subject, "success-lost", shown, what, fine, (*line_attacks(), *ball_attacks()))


def _budget_violated(subject: Subject, battery: Battery) -> Check:
    shown = {name: run.outside for name, run in battery.items()}
    fine = "Every adversarial image is inside its budget and 0..255, in whole grey levels, recomputed in float64."
    what = "images that break the budget, which are not counted"
    return _none_shown(subject, "budget-violated", shown, what, fine, ball_attacks())


def _none_shown(
    subject: Subject,
    code: str,
    shown: Mapping[tuple[str, int], Flags],
    what: str,
    fine: str,
    claims: tuple[str, ...],
) -> Check:
    """Return a check on `claims` that no attack fails by showing an image; `what` the images are, if there are."""
    names = tuple(dict.fromkeys(name for (name, _), flags in shown.items() if flags.any()))
    flags: Flags = np.logical_or.reduce([np.zeros(subject.correct, dtype=np.bool_), *shown.values()])
    rows = subject.rows.cpu()[torch.from_numpy(flags)]
    if not names:
        return found(code, "passed", fine, claims, rows=rows)
    return found(code, "suspect", f"{', '.join(names)}: {len(rows)} {what}.", names, rows=rows)


def _denominators(subject: Subject, battery: Battery) -> Check:
    """Count again with other batches: images, those classified correctly, and the most that one attack flips."""
    logits = batched_logits(subject.classifier, subject.pixels.float(), _OTHER_BATCH)
    right = int(((logits.argmax(1) == subject.labels) & logits.isfinite().all(1)).sum())
    most = max((int(run.flipped.sum()) for run in battery.values()), default=0)
    images, correct = len(subject.labels), subject.correct
    fits = right == correct and most <= correct
    sentence = (
        f"{images:,} images, {images - correct:,} wrong on clean images, {correct:,} attacked, up to {most:,} flipped"
    )
    sentence += "." if fits else f"; counted again, {right:,} are classified correctly."
    numbers = {
        "images": float(images),
        "correct": float(correct),
        "correct_again": float(right),
        "flipped": float(most),
    }
    return found("denominators", "passed" if fits else "suspect", sentence, all_claims(), numbers)


def _few_classes(subject: Subject) -> Check:
    classes = subject.logits.shape[1]
    sentence = f"The model has {classes} classes; the DLR loss needs 3."
    return found("few-classes", "note" if classes < 3 else "passed", sentence, ("apgd",), {"classes": float(classes)})


def _trained_on_attack(method: str | None) -> Check:
    if method is None:
        return found("trained-on-attack", "not-run", "How the model was trained is not known.")
    seen = attacks_shown(method)
    if seen is None:
        return found(
            "trained-on-attack", "not-run", f"Whether {method} trains on the images of an attack is not known."
        )
    if seen:
        sentence = f"The model was trained by {method}, on the images of {' and '.join(seen)}."
        return found("trained-on-attack", "note", sentence, seen)
    return found("trained-on-attack", "passed", f"The model was trained by {method}, on clean images.", all_claims())


def _pass_artefacts(subject: Subject) -> Check:
    """Score images against themselves and against a noisy copy; count those without any contrast."""
    images = subject.pixels[:_PASS_PAIRS].cpu()
    try:
        check_size(images.shape)
        check_channels(images.shape[1])
    except BenchError as error:
        return found("pass-artefacts", "not-run", f"PASS is not defined for these images: {error}.")
    noise = torch.randint(-8, 9, images.shape, generator=torch_generator(subject.seed, "audit", "pass"))
    noisy = (images.to(torch.int16) + noise).clamp(0, 255).to(torch.uint8)
    own = pass_score(images.numpy(), images.numpy()).score
    failed = 100.0 * float((pass_score(noisy.numpy(), images.numpy()).status != EccStatus.ALIGNED).mean())
    constant = int((subject.pixels.flatten(1).amax(1) == subject.pixels.flatten(1).amin(1)).sum())
    off = float(np.abs(own - 1.0).max())
    outcome: Outcome = "note" if off > _PASS_TOLERANCE or failed > _FAILED_ALIGNMENTS or constant else "passed"
    sentence = (
        f"PASS of an image with itself is 1 within {off:.0e}; {failed:.0f} % of {len(images)} alignments with a noisy "
        f"copy fail; {constant} of {len(subject.pixels):,} images are constant."
    )
    numbers = {"largest_deviation": off, "failed_alignments": failed, "constant_images": float(constant)}
    return found("pass-artefacts", outcome, sentence, all_claims(), numbers)


def _few_images(subject: Subject) -> Check:
    """Judge the number of images by the interval of a rate of one half, the widest there is."""
    correct = subject.correct
    interval = wilson_interval(correct // 2, correct)
    width = 100.0 if interval is None else interval[1] - interval[0]
    sentence = f"With {correct:,} images attacked, the 95 % interval of a rate is at most {width:.1f} points wide."
    outcome: Outcome = "note" if width > _WIDE_INTERVAL else "passed"
    if 0 < correct < FEWEST_IMAGES:
        enough = -(-FEWEST_IMAGES * len(subject.labels) // correct)
        outcome = "inconclusive"
        sentence += (
            f" Fewer than {FEWEST_IMAGES} say nothing about an attack; at this accuracy {enough:,} test images have as "
            "many that are classified correctly."
        )
    if not correct:
        outcome, sentence = "suspect", "The model classifies no image correctly, so that nothing could be attacked."
    return found("few-images", outcome, sentence, all_claims(), {"width": width})
