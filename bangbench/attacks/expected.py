"""Random models: an attack chases, and is judged by, the prediction that is expected over repeated passes."""

from __future__ import annotations

import torch
from torch import Tensor

from bangbench.core.seeds import default_seeds, derive_seed
from bangbench.nets.classifier import Classifier
from bangbench.nets.predict import logits_of, misclassified

#: Passes whose mean an attack follows, and passes of their own, one by one, by which an image is judged.
PASSES, JUDGING_PASSES = 8, 32

#: Images on which two passes are compared, and differences, as a share of the logits' spread, that are none.
_COMPARED, _NO_DIFFERENCE = 64, 1e-4


def expected(classifier: Classifier, images: Tensor, seed: int, batch_size: int) -> Classifier:
    """Return the classifier, or where two passes over the first images differ, one whose prediction is their mean's.

    images: uint8 or float32 (N, C, H, W), grey levels. A classifier that averages already stays as it is.
    """
    if classifier.draws > 1 or not len(images):
        return classifier
    with default_seeds(derive_seed(seed, "attack", "two passes"), images.device):
        first, second = (logits_of(classifier, images[:_COMPARED], batch_size) for _ in range(2))
    apart = (first - second).abs().amax(1)
    spread = first.amax(1) - first.amin(1)
    return classifier.with_draws(PASSES) if bool((apart > _NO_DIFFERENCE * spread).any()) else classifier


def told_of_passes(classifier: Classifier) -> str:
    """Return what a user should know of how a classifier that averages passes is attacked."""
    return (
        f"answers the same image differently from pass to pass: attacked on the mean of {classifier.draws} passes, "
        f"judged by {JUDGING_PASSES} of their own"
    )


@torch.no_grad()
def expected_answers(
    classifier: Classifier, images: Tensor, labels: Tensor, batch_size: int
) -> tuple[Tensor, Tensor | None]:
    """Return predictions int64 (N,) of images (N, C, H, W), and the share of passes with another class than the label.

    The share, float32 (N,) in [0, 1], is None for a classifier that does not average; its one pass tells all. An
    answer with NaN in it is taken for the label: it is no attack's success.
    """
    if not len(images):  # which not every net takes
        return labels, None if classifier.draws == 1 else labels.float()
    if classifier.draws == 1:
        answers, share = logits_of(classifier, images, batch_size), None
    else:
        chances = _chances(classifier, images, batch_size)
        answers, share = chances.mean(0), (chances.argmax(2) != labels).float().mean(0)
    return torch.where(misclassified(answers, labels), answers.argmax(1), labels), share


@torch.no_grad()
def confirmed(classifier: Classifier, images: Tensor, labels: Tensor, flipped: Tensor, batch_size: int) -> Tensor:
    """Return which of the images that are `flipped`, bool (N,), passes of their own show to be so beyond chance.

    A search that ends at the first flip ends, at a random model, at the first lucky one. The expected prediction has
    to change by two standard errors. Whatever does not average is taken at its word.
    """
    rows = flipped.nonzero().squeeze(1) if classifier.draws > 1 else flipped[:0]
    if not len(rows):
        return flipped
    chances = _chances(classifier, images[rows], batch_size)
    own = labels[rows].view(-1, 1)
    rival = chances.mean(0).scatter(1, own, -1.0).argmax(1, keepdim=True)
    of_rival, of_own = (chances.gather(2, place.expand(len(chances), -1, -1)).squeeze(2) for place in (rival, own))
    lead = of_rival - of_own
    clear = lead.mean(0) > 2.0 * lead.std(0) / len(lead) ** 0.5
    return flipped.index_put((rows,), clear)


def _chances(classifier: Classifier, images: Tensor, batch_size: int) -> Tensor:
    """Return the probabilities (P, N, K) of `JUDGING_PASSES` single passes."""
    one = classifier.with_draws(1)
    return torch.stack([logits_of(one, images, batch_size).softmax(1) for _ in range(JUDGING_PASSES)])
