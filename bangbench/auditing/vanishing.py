"""Where float32 leaves nothing to attack: losses that are exactly 0, gradients that are zero or nearly so."""

from __future__ import annotations

import torch
from torch import Tensor

from bangbench.auditing.probe import ModelError, Precise, forward, gradients, percent, precise, untouched
from bangbench.auditing.subject import Subject, found
from bangbench.nets.gradients import largest_entry, loss_vanishes, margin, true_logits
from bangbench.store.audits import Check, Outcome

#: Percentage of the correct images from which a share is worth a note, or of lost margin gradients masks the model.
SHARE = 1.0
#: Correct images for gradients in float64, which are slower.
_DOUBLE_IMAGES = 200
_QUANTILES = {"5": 0.05, "median": 0.5, "95": 0.95}
_CODES = ("loss-underflow", "vanishing-gradient", "margin-gradient-gone")


def vanishing(subject: Subject) -> list[Check]:
    """Return one check for each reason of the group "vanishing", in their order, about the correct images.

    A share of vanished losses or gradients is a note: whether it keeps an attack from working, the comparison with
    the unmasked attack tells. A margin without a gradient masks everything that follows gradients.
    """
    if not subject.correct:
        return [found(code, "not-run", "the model classifies no image correctly") for code in _CODES]
    with untouched(subject):
        images, labels = subject.correct_images()
        double = precise(subject.classifier, images)
        return [
            _loss_underflow(subject, double, images, labels),
            _vanishing_gradient(subject, double, images, labels),
            _margin_gradient_gone(subject, images, labels),
        ]


def _loss_underflow(subject: Subject, double: Precise, images: Tensor, labels: Tensor) -> Check:
    logits = subject.logits[subject.rows]
    try:
        logits64 = forward(double.classifier, images.to(double.dtype), subject.batch_size).double()
    except ModelError:
        logits64 = logits.double()
    zero, zero64 = loss_vanishes(logits.float(), labels), loss_vanishes(logits64, labels)
    numbers: dict[str, float | None] = {
        "zero_loss": percent(zero),
        "zero_loss_float64": percent(zero64),
        **_quantiles("true_logit", true_logits(logits, labels)),
        **_quantiles("margin", -margin(logits, labels)),
    }
    evidence = (
        f"the float32 loss is exactly 0 on {numbers['zero_loss']:.1f} % of {len(labels)} correct images, that in "
        f"float64 on {numbers['zero_loss_float64']:.1f} %; the true logit is {numbers['true_logit_median']:.4g} and "
        f"leads by {numbers['margin_median']:.4g} (medians){double.note}"
    )
    rows = subject.rows[zero] if zero.any() else None
    return found("loss-underflow", _noted(zero), evidence, ("fgs",), numbers, rows)


def _vanishing_gradient(subject: Subject, double: Precise, images: Tensor, labels: Tensor) -> Check:
    some, theirs = images[:_DOUBLE_IMAGES].to(double.dtype), labels[:_DOUBLE_IMAGES]
    try:
        largest = largest_entry(gradients(subject.classifier, images, labels, "loss", subject.batch_size))
        largest64 = largest_entry(gradients(double.classifier, some, theirs, "loss", subject.batch_size))
    except ModelError as failure:
        return found("vanishing-gradient", "not-run", str(failure), ("fgs",))
    zero, subnormal = _zero_and_subnormal(largest)
    zero64, subnormal64 = _zero_and_subnormal(largest64)
    numbers: dict[str, float | None] = {
        "zero": percent(zero),
        "subnormal": percent(subnormal),
        "zero_float64": percent(zero64),
        "subnormal_float64": percent(subnormal64),
        **_quantiles("log10_largest", largest[~zero].log10()),
        **_quantiles("log10_largest_float64", largest64[~zero64].log10()),
    }
    evidence = (
        f"the gradient of the loss is all zero on {numbers['zero']:.1f} % and subnormal on {numbers['subnormal']:.1f} "
        f"% of {len(labels)} correct images, in float64 on {numbers['zero_float64']:.1f} % and "
        f"{numbers['subnormal_float64']:.1f} % of {len(theirs)}"
    )
    typical = numbers["log10_largest_median"]
    evidence += "" if typical is None else f"; where it is not zero, its largest entry is 10^{typical:.1f} (median)"
    gone = zero | subnormal
    rows = subject.rows[gone] if gone.any() else None
    return found("vanishing-gradient", _noted(gone), evidence + double.note, ("fgs",), numbers, rows)


def _margin_gradient_gone(subject: Subject, images: Tensor, labels: Tensor) -> Check:
    try:
        largest = largest_entry(gradients(subject.classifier, images, labels, "margin", subject.batch_size))
    except ModelError as failure:
        return found("margin-gradient-gone", "not-run", str(failure))
    zero, bad = largest == 0.0, ~largest.isfinite()
    gone = zero | bad
    numbers = {
        "zero": percent(zero),
        "not_finite": percent(bad),
        **_quantiles("log10_largest", largest[~gone].log10()),
    }
    evidence = (
        f"the gradient of the margin is zero on {numbers['zero']:.1f} % and NaN or infinite on "
        f"{numbers['not_finite']:.1f} % of {len(labels)} correct images"
    )
    if not gone.any():
        return found("margin-gradient-gone", "passed", evidence, numbers=numbers)
    outcome: Outcome = "masked" if percent(gone) >= SHARE else "note"
    return found("margin-gradient-gone", outcome, evidence, numbers=numbers, rows=subject.rows[gone])


def _zero_and_subnormal(largest: Tensor) -> tuple[Tensor, Tensor]:
    zero = largest == 0.0
    return zero, ~zero & (largest < torch.finfo(largest.dtype).tiny)


def _noted(flags: Tensor) -> Outcome:
    return "note" if percent(flags) >= SHARE else "passed"


def _quantiles(name: str, values: Tensor) -> dict[str, float | None]:
    """Return the 5 %, 50 % and 95 % quantiles of the finite values (M,) by name; None where there are none."""
    known = values[values.isfinite()].double()
    return {f"{name}_{label}": float(known.quantile(at)) if len(known) else None for label, at in _QUANTILES.items()}
