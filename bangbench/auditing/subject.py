"""What an audit looks at, and how its checks say what they found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from bangbench.auditing.claims import ABOUT_GRADIENTS, gradient_claims
from bangbench.auditing.reasons import REASONS
from bangbench.core.seeds import derive_seed
from bangbench.nets.classifier import Classifier
from bangbench.nets.predict import logits_of
from bangbench.store.audits import Check, Outcome

#: How many images a check names.
NAMED_IMAGES = 20


class Subject(NamedTuple):
    """A model and the images it is audited on; everything on one device.

    pixels: uint8 (N, C, H, W), the first N of the test split, so that a row is an image's place there; labels: int64
    (N,); logits: float32 (N, K) of the pixels; attacked: bool (N,), True where the model is right; seed: the user's.
    """

    classifier: Classifier
    pixels: Tensor
    labels: Tensor
    logits: Tensor
    attacked: Tensor
    batch_size: int
    seed: int

    @property
    def correct(self) -> int:
        """Return the number of images that the model classifies correctly."""
        return int(self.attacked.sum())

    @property
    def rows(self) -> Tensor:
        """Return the places of the correct images, int64 (correct,)."""
        return self.attacked.nonzero().squeeze(1)

    def correct_images(self, limit: int | None = None) -> tuple[Tensor, Tensor]:
        """Return images float32 (M, C, H, W) in grey levels and labels (M,) of the (first so many) correct ones."""
        rows = self.rows[:limit]
        return self.pixels[rows].float(), self.labels[rows]

    def again(self, classifier: Classifier) -> Subject:
        """Return the same images with another classifier."""
        return make_subject(classifier, self.pixels, self.labels, self.batch_size, self.seed)

    def some_correct(self, first: int, count: int) -> Subject:
        """Return the same for so many of the correct images only, from the `first` on; random numbers are others."""
        rows = self.rows[first : first + count]
        part = (self.pixels[rows], self.labels[rows], self.logits[rows], self.attacked[rows])
        return Subject(self.classifier, *part, self.batch_size, derive_seed(self.seed, "from", first))


def make_subject(classifier: Classifier, pixels: Tensor, labels: Tensor, batch_size: int, seed: int) -> Subject:
    """Return the subject for a classifier and its test images, uint8 (N, C, H, W), with labels int64 (N,)."""
    logits = logits_of(classifier, pixels, batch_size)
    right = (logits.argmax(1) == labels) & logits.isfinite().all(1)
    return Subject(classifier, pixels, labels, logits, right, batch_size, seed)


def found(
    code: str,
    outcome: Outcome,
    evidence: str,
    claims: tuple[str, ...] = (),
    numbers: Mapping[str, float | None] | None = None,
    rows: Tensor | None = None,
) -> Check:
    """Return a check's result; meaning and advice of its reason are added where there is something to do.

    evidence: a sentence, or one without capital and full stop; claims: those the outcome concerns; empty: all of them,
    or for a check of gradients those that rest on gradients; rows: the places of the images that show it, int64 (M,).
    """
    reason = REASONS[code]
    matters = outcome in ("note", "inconclusive", "suspect", "masked")
    return Check(
        code=code,
        outcome=outcome,
        claims=claims or (gradient_claims() if code in ABOUT_GRADIENTS else ()),
        evidence=f"{evidence[0].upper()}{evidence[1:].rstrip('.')}.",
        numbers=dict(numbers or {}),
        count=None if rows is None else len(rows),
        images=() if rows is None else tuple(torch.as_tensor(rows)[:NAMED_IMAGES].tolist()),
        meaning=reason.meaning if matters else None,
        advice=reason.advice if matters else None,
    )
