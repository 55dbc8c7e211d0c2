"""Auto-PGD, a gradient ascent that finds its step size (Croce and Hein, arXiv 2003.01690), on three losses, L_inf."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from bangbench.attacks.ball import Ball, BallAttack, BallSearch, Found, batched_logits, gradients_and_logits, kept
from bangbench.attacks.base import AttackSettings, ByStrength, Means
from bangbench.attacks.losses import DLR, TARGETED_DLR, UNMASKED_CROSS_ENTROPY, Loss
from bangbench.attacks.pgd import ascent, start_of
from bangbench.nets.classifier import Classifier
from bangbench.nets.gradients import true_logits, without_true_class

#: Weight of the new direction against that of the last move: alpha in the paper's equation for x^(k+1).
NEW_DIRECTION = 0.75
#: The share of steps that must raise the loss for the step size to be kept: rho in the paper's condition 1.
SUCCESSFUL_STEPS = 0.75
#: Classes whose distance is estimated for each target that is tried: those with the largest logits.
_CANDIDATES_PER_TARGET = 3


class ApgdSettings(AttackSettings):
    """iterations: steps from each start; restarts: number of random starts."""

    iterations: int = Field(100, ge=1)
    restarts: int = Field(1, ge=1)


class TargetedSettings(ApgdSettings):
    """targets: wrong classes that are tried one after the other, the closest first."""

    targets: int = Field(9, ge=1)


class _Apgd(BallAttack):
    """Climb a loss from random starts; the first adversarial iterate of each image counts, and so does the image."""

    Settings: ClassVar[type[AttackSettings]] = ApgdSettings
    settings: ApgdSettings
    version = 2
    loss: ClassVar[Loss]
    strengths: ClassVar[ByStrength] = {"quick": {"iterations": 50}, "extended": {"restarts": 5}}
    cost = 300

    def find(self, classifier: Classifier, ball: Ball, means: Means) -> Found:
        """Return the first adversarial iterate of each image, whole grey levels."""
        return apgd(classifier, ball, means, self.settings, self.loss)


class Apgd(_Apgd):
    """Auto-PGD on the difference of logits ratio."""

    loss = DLR


class ApgdCrossEntropy(_Apgd):
    """Auto-PGD on the cross-entropy, written so that it cannot underflow."""

    loss = UNMASKED_CROSS_ENTROPY


class ApgdTargeted(_Apgd):
    """Auto-PGD on the targeted difference of logits ratio, for the closest wrong classes one after the other."""

    Settings: ClassVar[type[AttackSettings]] = TargetedSettings
    settings: TargetedSettings
    version = 1
    loss = TARGETED_DLR
    strengths: ClassVar[ByStrength] = {"quick": None, "extended": {"restarts": 5}}
    on_survivors = frozenset({"standard", "extended"})
    cost = 2700

    def find(self, classifier: Classifier, ball: Ball, means: Means) -> Found:
        """Return the first adversarial iterate of each image, whole grey levels."""
        return apgd_targeted(classifier, ball, means, self.settings)


def apgd(
    classifier: Classifier,
    ball: Ball,
    means: Means,
    settings: ApgdSettings = ApgdSettings(),  # noqa: B008  # frozen
    loss: Loss = DLR,
) -> Found:
    """Return the first adversarial iterate of each image, rounded to whole grey levels; the images count, too.

    Iterates are walked in float32. Each is judged, and its gradient taken, at the closest whole-grey-level image.
    """
    search = BallSearch(classifier, ball, means.batch_size)
    search.judge_last(search.left(), ball.images.contiguous())
    for _ in range(settings.restarts):
        if bool(search.found.all()):
            break
        _run(search, start_of(ball, means, random=True), settings.iterations, loss, ball.labels)
    return search.result()


def apgd_targeted(classifier: Classifier, ball: Ball, means: Means, settings: TargetedSettings) -> Found:
    """Do the same for each of the closest wrong classes of an image in turn."""
    search = BallSearch(classifier, ball, means.batch_size)
    search.judge_last(search.left(), ball.images.contiguous())
    left = search.left()
    targets = torch.zeros(len(ball.images), 0, dtype=torch.int64, device=ball.images.device)
    if len(left):
        closest, forwards = closest_classes(classifier, ball.rows(left), settings.targets, means.batch_size)
        search.forwards += forwards
        targets = closest.new_zeros((len(ball.images), closest.shape[1]))
        targets[left] = closest
    for _ in range(settings.restarts):
        for aims in targets.unbind(1):
            if bool(search.found.all()):
                return search.result()
            _run(search, start_of(ball, means, random=True), settings.iterations, TARGETED_DLR, aims)
    return search.result()


def closest_classes(classifier: Classifier, ball: Ball, count: int, batch_size: int) -> tuple[Tensor, int]:
    """Return the `count` closest wrong classes of each image, (N, at most count), the closest first, and forwards.

    Close is what a linear model of the net would flip with the least L_inf: (z_y - z_c) / ||grad(z_y - z_c)||_1
    (after Melamed et al., MALT, arXiv 2407.02240), among the classes with the largest logits. Where that is no number
    the logits alone decide.
    """
    logits = batched_logits(classifier, ball.images, batch_size)
    wrong = logits.shape[1] - 1
    tried = min(wrong, _CANDIDATES_PER_TARGET * count)
    candidates = without_true_class(torch.nan_to_num(logits), ball.labels).topk(tried, dim=1).indices
    distances = [_linear_distance(classifier, ball, aims, batch_size) for aims in candidates.unbind(1)]
    order = torch.nan_to_num(torch.stack(distances, 1), nan=torch.inf).argsort(dim=1, stable=True)
    return candidates.gather(1, order)[:, :count], (1 + tried) * len(ball.images)


def _linear_distance(classifier: Classifier, ball: Ball, aims: Tensor, batch_size: int) -> Tensor:
    def gap(logits: Tensor, labels: Tensor, aims: Tensor) -> Tensor:
        return true_logits(logits, labels) - true_logits(logits, aims)

    gradient, logits = gradients_and_logits(classifier, ball.images, gap, batch_size, ball.labels, aims)
    return gap(logits, ball.labels, aims) / gradient.abs().flatten(1).sum(1)


class _Climb(NamedTuple):
    """The images still climbing, one row each; compacted whenever some are done.

    rows: int64 (M,), where in the ball; aims: int64 (M,), the classes that a targeted loss leads to; current, previous,
    best: iterates (M, C, H, W); uphill, best_uphill: the gradient's sign at current and best; loss, best_loss: there,
    (M,); step: grey levels, (M,); rises: steps since the last checkpoint that raised the loss, (M,); checked_step,
    checked_loss: step and best_loss at that checkpoint.
    """

    rows: Tensor
    aims: Tensor
    current: Tensor
    previous: Tensor
    best: Tensor
    uphill: Tensor
    best_uphill: Tensor
    loss: Tensor
    best_loss: Tensor
    step: Tensor
    rises: Tensor
    checked_step: Tensor
    checked_loss: Tensor

    def keep(self, mask: Tensor) -> _Climb:
        return _Climb(*kept(mask, *self))


def checkpoints(iterations: int) -> tuple[int, ...]:
    """Return the numbers of steps after which the step size is looked at: w_j = ceil(p_j N), without 0 and N.

    p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06), here in exact hundredths.
    """
    before, now = 0, 22
    reached = set()
    while now < 100:
        reached.add(-(-now * iterations // 100))
        before, now = now, now + max(now - before - 3, 6)
    return tuple(sorted(reached - {iterations}))


def _run(search: BallSearch, start: Tensor, iterations: int, loss: Loss, aims: Tensor) -> None:
    """Climb from `start` (N, C, H, W) with the images that are left (algorithm 1 of the paper); aims: (N,)."""
    state = _begin(search, start, loss, aims)
    checks = checkpoints(iterations)
    last_check = 0
    for number in range(1, iterations):
        if not len(state.rows):
            return
        state = _advance(search, state, _next(state, search.ball.rows(state.rows), number), loss)
        if number in checks:
            state = _check(state, number - last_check)
            last_check = number
    search.judge_last(state.rows, _next(state, search.ball.rows(state.rows), iterations))


def _begin(search: BallSearch, start: Tensor, loss: Loss, aims: Tensor) -> _Climb:
    rows = search.left()
    left, uphill, value = _look(search, rows, start[rows], loss, aims[rows])
    rows = rows[left]
    current, step = start[rows], torch.full_like(value, 2.0 * search.ball.budget)
    rises = torch.zeros_like(rows)
    return _Climb(rows, aims[rows], current, current, current, uphill, uphill, value, value, step, rises, step, value)


def _look(search: BallSearch, rows: Tensor, current: Tensor, loss: Loss, aims: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Judge iterates; return which are left (M,), and of these the gradient's sign and the loss, from the same pass."""
    labels, seen = search.ball.labels[rows], current.round()
    gradient, logits = gradients_and_logits(search.classifier, seen, loss.objective, search.batch_size, labels, aims)
    left = search.judge(rows, seen, logits)
    gradient, logits, labels, aims = kept(left, gradient, logits, labels, aims)
    return left, ascent(gradient), loss.value(logits, labels, aims)


def _next(state: _Climb, ball: Ball, number: int) -> Tensor:
    """Return x + a (z - x) + (1 - a) (x - previous), projected, with z = P(x + step sign(grad)); a is 1 at first."""
    weight = 1.0 if number == 1 else NEW_DIRECTION
    stepped = ball.inside(state.uphill.mul(_per_image(state.step)).add_(state.current))
    moved = stepped.sub_(state.current).mul_(weight).add_(state.current)
    return ball.inside(moved.add_(state.current - state.previous, alpha=1.0 - weight))


def _advance(search: BallSearch, state: _Climb, moved: Tensor, climbed: Loss) -> _Climb:
    """Take the step to `moved` (M, C, H, W), drop what it flips, and keep the best point."""
    left, uphill, loss = _look(search, state.rows, moved, climbed, state.aims)
    state, (current,) = state.keep(left), kept(left, moved)
    better = loss > state.best_loss
    return state._replace(
        current=current,
        previous=state.current,
        best=torch.where(_per_image(better), current, state.best),
        uphill=uphill,
        best_uphill=torch.where(_per_image(better), uphill, state.best_uphill),
        loss=loss,
        best_loss=torch.where(better, loss, state.best_loss),
        rises=state.rises + (loss > state.loss),
    )


def _check(state: _Climb, length: int) -> _Climb:
    """Halve the step and go back to the best point where the last `length` steps did little.

    Condition 1: fewer than 75 % of them raised the loss. Condition 2: neither the step nor the best loss has changed
    since the checkpoint before.
    """
    few = state.rises < SUCCESSFUL_STEPS * length
    stuck = (state.step == state.checked_step) & (state.best_loss == state.checked_loss)
    halved = few | stuck
    return state._replace(
        current=torch.where(_per_image(halved), state.best, state.current),
        uphill=torch.where(_per_image(halved), state.best_uphill, state.uphill),
        loss=torch.where(halved, state.best_loss, state.loss),
        step=torch.where(halved, state.step / 2.0, state.step),
        rises=torch.zeros_like(state.rises),
        checked_step=state.step,
        checked_loss=state.best_loss,
    )


def _per_image(values: Tensor) -> Tensor:
    """Return values (M,) as (M, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)
