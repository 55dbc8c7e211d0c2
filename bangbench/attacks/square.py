"""Square attack (Andriushchenko et al. 2020, arXiv 1912.00049): random search in the L_inf ball, no gradients."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from bangbench.attacks.ball import Ball, BallAttack, BallSearch, Found, batched_logits, kept
from bangbench.attacks.base import AttackSettings, ByStrength, Means
from bangbench.nets.classifier import Classifier
from bangbench.nets.gradients import margin

#: The share of the queries after which the squares' area is halved, in the paper 10, 50, 200, ... of 10,000.
_HALVED_AFTER = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


class SquareSettings(AttackSettings):
    """queries: forward passes per image at most, at least 1; share: of the pixels in the first square, in (0, 1].

    turn: a square that would change nothing gets the opposite signs. On grey images a quarter of the squares would
    waste their query; the authors' own program draws those again, other libraries let them be.
    """

    queries: int = Field(500, ge=1)
    share: float = Field(0.8, gt=0.0, le=1.0)
    turn: bool = True


DEFAULTS = SquareSettings()


class Square(BallAttack):
    """Random search with squares."""

    Settings: ClassVar[type[AttackSettings]] = SquareSettings
    settings: SquareSettings
    needs = frozenset()
    strengths: ClassVar[ByStrength] = {"standard": {"queries": 5000}, "extended": {"queries": 10_000}}
    on_survivors = frozenset({"standard", "extended"})
    cost = 5000

    def find(self, classifier: Classifier, ball: Ball, means: Means) -> Found:
        """Return the first adversarial candidate of each image."""
        return square(classifier, ball, means, self.settings)


class _Proposals(NamedTuple):
    """What one query tries: places int64 (N, P), pixels counted row by row; up bool (N, C, 1 or P), image + budget."""

    places: Tensor
    up: Tensor


class _Active(NamedTuple):
    """The images not flipped yet: their places in the ball, their best candidates, and the true class's lead there.

    low, high: the smallest and largest values allowed, float32 (A, C, H, W).
    """

    rows: Tensor
    labels: Tensor
    low: Tensor
    high: Tensor
    best: Tensor
    lead: Tensor

    def keep(self, mask: Tensor) -> _Active:
        return _Active(*kept(mask, *self))


@torch.no_grad()
def square(classifier: Classifier, ball: Ball, means: Means, settings: SquareSettings = DEFAULTS) -> Found:
    """Return the first images of a random search that are classified otherwise than as their labels.

    The first query sets every column of every channel to image + budget or image - budget. Each further one sets a
    square to such values, a sign per channel, and is kept where it makes the lead z_true - max z_wrong smaller.
    Squares may lie anywhere, the last row and column included. Every query draws the numbers of all images of the
    ball, so that what becomes of an image depends neither on the batch size nor on the others' success. A NaN logit
    is neither a smaller lead nor a flip.
    """
    search, active = BallSearch(classifier, ball, means.batch_size), _start(ball)
    for proposals in _proposals(ball, means.generator, settings):
        if not len(active.rows):
            break
        candidates = _candidates(active, proposals, settings.turn)
        logits = batched_logits(classifier, candidates, means.batch_size)
        left = search.judge(active.rows, candidates, logits)
        active = _improve(active, candidates, logits).keep(left)
    return search.result()


def _start(ball: Ball) -> _Active:
    count, device = len(ball.images), ball.images.device
    rows, lead = torch.arange(count, device=device), torch.full((count,), torch.inf, device=device)
    return _Active(rows, ball.labels, *ball.bounds(), ball.images, lead)


def _candidates(active: _Active, proposals: _Proposals, turn: bool) -> Tensor:
    """Return the best candidates with one proposal put in, float32 (A, C, H, W)."""
    places = proposals.places[active.rows, None].expand(-1, active.best.shape[1], -1)
    low, high, now = (part.flatten(2).gather(2, places) for part in (active.low, active.high, active.best))
    up = proposals.up[active.rows]
    put = torch.where(up, high, low)
    if turn:
        unchanged = (put == now).flatten(1).all(1).view(-1, 1, 1)
        put = torch.where(unchanged, torch.where(up, low, high), put)
    return active.best.flatten(2).scatter(2, places, put).view_as(active.best)


def _improve(active: _Active, candidates: Tensor, logits: Tensor) -> _Active:
    """Return the images with what is better put in place."""
    lead = -margin(logits, active.labels)
    better = lead < active.lead
    best = torch.where(better.view(-1, 1, 1, 1), candidates, active.best)
    return active._replace(best=best, lead=torch.where(better, lead, active.lead))


def _proposals(ball: Ball, generator: torch.Generator, settings: SquareSettings) -> Iterator[_Proposals]:
    """Yield what each query tries: stripes, then squares."""
    count, channels, height, width = ball.images.shape
    device, stripes = ball.images.device, _coins((count, channels, 1, width), generator)
    everywhere = torch.arange(height * width, device=device).expand(count, -1)
    yield _Proposals(everywhere, stripes.expand(-1, -1, height, -1).flatten(2).to(device))
    for iteration in range(settings.queries - 1):
        side = square_side(height, width, iteration / settings.queries, settings.share)
        across = torch.arange(side)
        top, left = (torch.randint(length - side + 1, (count, 1), generator=generator) for length in (height, width))
        places = ((top + across) * width)[:, :, None] + (left + across)[:, None, :]
        yield _Proposals(places.flatten(1).to(device), _coins((count, channels, 1), generator).to(device))


def square_side(height: int, width: int, done: float, share: float) -> int:
    """Return the side of the square in pixels: its area is `share` of the image, halved as queries are spent.

    done: the share of the queries spent, in [0, 1): the area is share / 2^i from the i-th of the paper's times on.
    """
    area = share / 2.0 ** bisect_left(_HALVED_AFTER, done) * height * width
    return min(max(round(math.sqrt(area)), 1), height, width)


def _coins(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randint(2, shape, generator=generator, dtype=torch.uint8).bool()
