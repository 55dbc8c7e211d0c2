"""Auto-PGD, a gradient ascent that finds its step size (Croce and Hein, arXiv 2003.01690), on the DLR loss, L_inf."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bangbench.attacks.ball import Ball, BallAttack, BallSearch, Found, Means, gradients_and_logits
from bangbench.attacks.pgd import ascent, start_of
from bangbench.nets.classifier import Classifier
from bangbench.nets.gradients import margin

#: Weight of the new direction against that of the last move: alpha in the paper's equation for x^(k+1).
NEW_DIRECTION = 0.75
#: The share of steps that must raise the loss for the step size to be kept: rho in the paper's condition 1.
SUCCESSFUL_STEPS = 0.75
#: Iterates are whole grey levels: a shorter step would move nothing.
SHORTEST_STEP = 1.0


class ApgdSettings(NamedTuple):
    """iterations: steps from each start; restarts: number of random starts."""

    iterations: int = 50
    restarts: int = 1


DEFAULTS = ApgdSettings()


class _Climb(NamedTuple):
    """The images still climbing, one row each; compacted whenever some are done.

    rows: int64 (M,), where in the ball; current, previous, best: iterates (M, C, H, W); uphill, best_uphill: the
    gradient's sign at current and best; loss, best_loss: there, (M,); step: grey levels, (M,); rises: steps since
    the last checkpoint that raised the loss, (M,); checked_step, checked_loss: step and best_loss at that checkpoint.
    """

    rows: Tensor
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
        return _Climb(*(part[mask] for part in self))


def apgd(classifier: Classifier, ball: Ball, means: Means, settings: ApgdSettings = DEFAULTS) -> Found:
    """Return the first adversarial whole-grey-level iterate of each image; the images themselves count too."""
    search = BallSearch(classifier, ball, means.batch_size)
    search.judge_last(search.left(), ball.images.contiguous())
    for _ in range(settings.restarts):
        if bool(search.found.all()):
            break
        _run(search, start_of(ball, means, random=True), settings.iterations)
    return search.result()


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the difference of logits ratio, (N,): (max_{i != y} z_i - z_y) / (z_pi1 - z_pi3), positive if adversarial.

    pi1, pi3: the classes with the largest and third largest logit. Neither a shift nor a scale of the logits changes
    it. With fewer than 3 classes it is not defined, and the margin is returned.
    """
    if logits.shape[1] < 3:
        return margin(logits, labels)
    highest = logits.topk(3, dim=1).values
    return margin(logits, labels) / (highest[:, 0] - highest[:, 2]).clamp_min(1e-12)


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


def _run(search: BallSearch, start: Tensor, iterations: int) -> None:
    """Climb from `start` (N, C, H, W) with the images that are left (algorithm 1 of the paper)."""
    state = _begin(search, start)
    checks = checkpoints(iterations)
    last_check = 0
    for number in range(1, iterations):
        if not len(state.rows):
            return
        state = _advance(search, state, _next(state, search.ball.rows(state.rows), number))
        if number in checks:
            state = _check(state, number - last_check)
            last_check = number
    search.judge_last(state.rows, _next(state, search.ball.rows(state.rows), iterations))


def _begin(search: BallSearch, start: Tensor) -> _Climb:
    rows = search.left()
    left, uphill, loss = _look(search, rows, start[rows])
    rows = rows[left]
    current, step = start[rows], torch.full_like(loss, 2.0 * search.ball.budget)
    rises = torch.zeros_like(rows)
    return _Climb(rows, current, current, current, uphill, uphill, loss, loss, step, rises, step, loss)


def _look(search: BallSearch, rows: Tensor, current: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Judge iterates; return which are left (M,), and of these the gradient's sign and the loss, from the same pass."""
    labels = search.ball.labels[rows]
    gradient, logits = gradients_and_logits(search.classifier, current, labels, dlr, search.batch_size)
    left = search.judge(rows, current, logits)
    return left, ascent(gradient[left]), dlr(logits[left], labels[left])


def _next(state: _Climb, ball: Ball, number: int) -> Tensor:
    """Return x + a (z - x) + (1 - a) (x - previous), projected, with z = P(x + step sign(grad)); a is 1 at first."""
    weight = 1.0 if number == 1 else NEW_DIRECTION
    stepped = ball.project(state.uphill.mul(_per_image(state.step)).add_(state.current))
    moved = stepped.sub_(state.current).mul_(weight).add_(state.current)
    return ball.project(moved.add_(state.current - state.previous, alpha=1.0 - weight))


def _advance(search: BallSearch, state: _Climb, moved: Tensor) -> _Climb:
    """Take the step to `moved` (M, C, H, W), drop what it flips, and keep the best point."""
    left, uphill, loss = _look(search, state.rows, moved)
    state, current = state.keep(left), moved[left]
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
        step=torch.where(halved, (state.step / 2.0).clamp_min(SHORTEST_STEP), state.step),
        rises=torch.zeros_like(state.rises),
        checked_step=state.step,
        checked_loss=state.best_loss,
    )


def _per_image(values: Tensor) -> Tensor:
    """Return values (M,) as (M, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)


APGD = BallAttack(apgd)
