"""PASS of a whole batch at once with torch, for stacks that are scored on a GPU.

The same algorithm as `ecc.py` and `ssim.py`, step by step: pairs whose alignment has ended leave the batch. It is
written out in shifts, sums and gathers, of which none is computed in TF32. On a CPU it gives the same scores, but
the compiled engine is faster there: each of these operations goes through memory.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from bangbench.metrics.checks import WINDOW
from bangbench.metrics.engine import PassScores, grey_stack, join
from bangbench.metrics.reference import CORRELATION_EPSILON, PRESETS, EccStatus, PresetName
from bangbench.metrics.ssim import C1, C2, half_window

_MARGIN = WINDOW // 2
_JACOBIAN = 8
_SMALLEST_PIVOT = 10.0 * torch.finfo(torch.float32).eps
#: Pixels of a batch: some 250 bytes each are in use at a time, 1 GiB in all.
BATCH_PIXELS = 2**22


class _Images(NamedTuple):
    """The pairs whose alignment goes on: their rows, homographies (M, 8), and what stays the same meanwhile.

    template: (M, P) blurred; planes: (M, (H + 2) (W + 2), 3), the moving image and its differences across and down,
    between borders of zeros.
    """

    rows: Tensor
    h: Tensor
    template: Tensor
    planes: Tensor
    rho: Tensor
    last: Tensor

    def keep(self, mask: Tensor) -> _Images:
        return _Images(*(part[mask] for part in self))


class _Grid(NamedTuple):
    """Coordinates in the moving image (M, P), 1 / d, and the mask of what is inside."""

    across: Tensor
    down: Tensor
    scale: Tensor
    inside: Tensor


@torch.no_grad()
def score_pairs(
    adversarial: NDArray[np.uint8], original: NDArray[np.uint8], presets: tuple[PresetName, ...], device: torch.device
) -> dict[PresetName, PassScores]:
    """Return PASS of each pair for each preset, like `engine.score_pairs`, computed on `device` in batches."""
    step = max(1, BATCH_PIXELS // max(1, original[:1].size))
    parts = [
        _score_batch(adversarial[start : start + step], original[start : start + step], presets, device)
        for start in range(0, max(1, len(original)), step)
    ]
    return join(parts)


def _score_batch(
    adversarial: NDArray[np.uint8], original: NDArray[np.uint8], presets: tuple[PresetName, ...], device: torch.device
) -> dict[PresetName, PassScores]:
    images = [torch.from_numpy(np.ascontiguousarray(stack)).to(device) for stack in (adversarial, original)]
    greys = [torch.from_numpy(grey_stack(stack)).to(device) for stack in (adversarial, original)]
    unaligned = ssim(*images)
    scores: dict[PresetName, PassScores] = {}
    for preset in presets:
        warps_adversarial, iterations = PRESETS[preset]
        moving, fixed = (0, 1) if warps_adversarial else (1, 0)
        h, status = align(greys[fixed], greys[moving], iterations)
        found = status == EccStatus.ALIGNED
        score = unaligned.clone()
        score[found] = ssim(warp(images[moving][found], h[found]), images[fixed][found])
        scores[preset] = PassScores(*(column.cpu().numpy() for column in (score, unaligned, status)))
    return scores


def align(fixed: Tensor, moving: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Return the homographies (N, 8) that warp the moving images onto the fixed ones, uint8 (N, H, W), and statuses."""
    count, height, width = fixed.shape
    device = fixed.device
    h = torch.tensor([1.0, 0, 0, 0, 1, 0, 0, 0], device=device).repeat(count, 1)
    status = torch.zeros(count, dtype=torch.int8, device=device)
    rho = torch.full((count,), -1.0, dtype=torch.float64, device=device)
    last = torch.full_like(rho, -CORRELATION_EPSILON)
    rows = torch.arange(count, device=device)
    active = _Images(rows, h.clone(), _blur(fixed).flatten(1), _planes(_blur(moving)), rho, last)
    for _ in range(iterations):
        active = active.keep((active.rho - active.last).abs() >= CORRELATION_EPSILON)
        if not len(active.rows):
            break
        active, failure = _improve(active, height, width)
        status[active.rows] = failure
        h[active.rows] = active.h
        active = active.keep(failure == EccStatus.ALIGNED)
    return h, status


def _blur(images: Tensor) -> Tensor:
    """Return images (N, H, W), float32, blurred with [1, 4, 6, 4, 1] / 16 along both axes, borders reflected."""
    padded = pad(images.to(torch.float32)[:, None], (2, 2, 2, 2), mode="reflect")[:, 0]
    for axis in (1, 2):
        size = padded.shape[axis] - 4
        outer1, inner1, centre, inner2, outer2 = (padded.narrow(axis, start, size) for start in range(5))
        padded = outer1 + outer2 + 4.0 * (inner1 + inner2) + 6.0 * centre
    return padded / 256.0


def _planes(image: Tensor) -> Tensor:
    planes = image.new_zeros((*image.shape, 3))
    planes[..., 0] = image
    planes[:, :, 1:-1, 1] = 0.5 * (image[:, :, 2:] - image[:, :, :-2])
    planes[:, 1:-1, :, 2] = 0.5 * (image[:, 2:] - image[:, :-2])
    return pad(planes, (0, 0, 1, 1, 1, 1)).flatten(1, 2)


def _grid(h: Tensor, height: int, width: int) -> _Grid:
    """Return where each pixel is sampled; what lies outside, NaN included, in the corner of the border of zeros."""
    x = torch.arange(width, device=h.device, dtype=torch.float32).repeat(height)
    y = torch.arange(height, device=h.device, dtype=torch.float32).repeat_interleave(width)
    h00, h01, h02, h10, h11, h12, h20, h21 = h[:, :, None].unbind(1)
    scale = 1.0 / (h20 * x + h21 * y + 1.0)
    u, v = (h00 * x + h01 * y + h02) * scale, (h10 * x + h11 * y + h12) * scale
    near_u, near_v = u.round(), v.round()
    inside = (near_u >= 0) & (near_u < width) & (near_v >= 0) & (near_v < height)
    touched = (u > -1) & (u < width) & (v > -1) & (v < height)
    return _Grid(u.where(touched, -1.0), v.where(touched, -1.0), scale, inside)


def _sample(planes: Tensor, grid: _Grid, width: int) -> Tensor:
    """Return the planes (M, Q, K) interpolated bilinearly, (M, P, K)."""
    left, top = grid.across.floor(), grid.down.floor()
    right, low = (grid.across - left)[..., None], (grid.down - top)[..., None]
    place = ((top + 1.0) * (width + 2) + (left + 1.0)).to(torch.int64)[..., None]

    def at(offset: int) -> Tensor:
        return planes.gather(1, (place + offset).expand(-1, -1, planes.shape[2]))

    upper = torch.lerp(at(0), at(1), right)
    lower = torch.lerp(at(width + 2), at(width + 3), right)
    return torch.lerp(upper, lower, low)


def _improve(active: _Images, height: int, width: int) -> tuple[_Images, Tensor]:
    """Return the images with their homographies improved by one step, and what became of each, int8 (M,)."""
    grid = _grid(active.h, height, width)
    sampled = _sample(active.planes, grid, width)
    image, template, norms = _centred(sampled[..., 0], active.template, grid.inside)
    jacobian = _jacobian(sampled[..., 1], sampled[..., 2], grid, width)
    vectors = torch.cat([jacobian, image[:, None], template[:, None]], 1).to(torch.float64)
    gram = vectors @ vectors.mT
    correlation = gram[:, _JACOBIAN, _JACOBIAN + 1]
    rho = correlation / (norms[0] * norms[1])
    step, below = _step(gram, norms[0] ** 2, correlation)
    failure = torch.zeros_like(active.rows, dtype=torch.int8)
    failure[below <= 0.0] = EccStatus.UNCORRELATED
    failure[rho.isnan()] = EccStatus.NAN
    return active._replace(h=active.h + step, rho=rho, last=active.rho), failure


def _centred(image: Tensor, template: Tensor, inside: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Return both (M, P) with zero mean inside the mask, and their norms there; outside, the template is zero."""
    count = inside.sum(1)
    image_mean = ((image.to(torch.float64) * inside).sum(1) / count).to(torch.float32)[:, None]
    template_mean = ((template.to(torch.float64) * inside).sum(1) / count).to(torch.float32)[:, None]
    image = image - image_mean * inside
    template = (template - template_mean) * inside
    image_norm, template_norm = ((part * inside).to(torch.float64).square().sum(1).sqrt() for part in (image, template))
    return image, template, (image_norm, template_norm)


def _jacobian(right: Tensor, down: Tensor, grid: _Grid, width: int) -> Tensor:
    """Return the derivatives (M, 8, P) with respect to h00, h10, h20, h01, h11, h21, h02, h12."""
    place = torch.arange(right.shape[1], device=right.device)
    x, y = (place % width).to(torch.float32), (place // width).to(torch.float32)
    with_u, with_v = right * grid.scale, down * grid.scale
    with_d = -(grid.across * with_u + grid.down * with_v)
    columns = (with_u * x, with_v * x, with_d * x, with_u * y, with_v * y, with_d * y, with_u, with_v)
    return torch.stack(columns, 1)


def _step(gram: Tensor, image_norm2: Tensor, correlation: Tensor) -> tuple[Tensor, Tensor]:
    """Return the step of h (M, 8) and the denominator of lambda (M,); see `ecc._improve`."""
    inverse = _inverse(gram[:, :_JACOBIAN, :_JACOBIAN].to(torch.float32)).to(torch.float64)
    image, template = gram[:, :_JACOBIAN, _JACOBIAN], gram[:, :_JACOBIAN, _JACOBIAN + 1]
    solved = (inverse @ image[..., None])[..., 0]
    above = image_norm2 - (image * solved).sum(1)
    below = correlation - (template * solved).sum(1)
    error = (above / below)[:, None] * template - image
    step = (inverse @ error[..., None])[..., 0].to(torch.float32)
    # the Jacobian's columns run down the homography's
    return step[:, [0, 3, 6, 1, 4, 7, 2, 5]], below


def _inverse(matrix: Tensor) -> Tensor:
    """Return the inverses (M, 8, 8); zero where a pivot of the elimination is too small, or a value not finite.

    No such matrix is solved with: what a GPU's libraries make of NaN and of pivots that it leads to is undefined.
    """
    identity = torch.eye(_JACOBIAN, device=matrix.device).expand_as(matrix)
    finite = matrix.isfinite().all(2).all(1)
    factors, pivots, _ = torch.linalg.lu_factor_ex(matrix.where(finite[:, None, None], identity))
    usable = finite & (factors.diagonal(dim1=1, dim2=2).abs().amin(1) >= _SMALLEST_PIVOT)
    in_place = torch.arange(1, _JACOBIAN + 1, dtype=pivots.dtype, device=matrix.device)
    factors = factors.where(usable[:, None, None], identity)
    pivots = pivots.where(usable[:, None], in_place)
    inverse: Tensor = torch.linalg.lu_solve(factors, pivots, identity)
    return inverse.where(usable[:, None, None], 0.0)


def warp(images: Tensor, h: Tensor) -> Tensor:
    """Return uint8 images (N, C, H, W) warped by homographies (N, 8): bilinear, 0 outside, rounded half to even."""
    _, _, height, width = images.shape
    planes = pad(images.to(torch.float32), (1, 1, 1, 1)).flatten(2).mT
    sampled = _sample(planes, _grid(h, height, width), width)
    return sampled.round_().to(torch.uint8).mT.reshape(images.shape)


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Return `ssim.ssim_stack` of uint8 images (N, C, H, W): float64 (N,)."""
    one, other = first.to(torch.float64), second.to(torch.float64)
    mean1, mean2, square1, square2, product = (
        _filter(quantity) for quantity in (one, other, one * one, other * other, one * other)
    )
    means = mean1 * mean2
    squares = mean1 * mean1 + mean2 * mean2
    variances = (square1 - mean1 * mean1) + (square2 - mean2 * mean2)
    above = (2.0 * means + C1) * (2.0 * (product - means) + C2)
    return (above / ((squares + C1) * (variances + C2))).mean((2, 3)).mean(1)


def _filter(images: Tensor) -> Tensor:
    """Return images (N, C, H, W) under the Gaussian window, borders reflected with the edge pixel repeated."""
    weights = half_window().tolist()
    for axis in (2, 3):
        size = images.shape[axis]
        place = torch.arange(-_MARGIN, size + _MARGIN, device=images.device)
        place = torch.where(place < 0, -1 - place, torch.where(place >= size, 2 * size - 1 - place, place))
        padded = images.index_select(axis, place)
        images = weights[0] * padded.narrow(axis, _MARGIN, size)
        for distance in range(1, _MARGIN + 1):
            before = padded.narrow(axis, _MARGIN - distance, size)
            images = images + weights[distance] * (before + padded.narrow(axis, _MARGIN + distance, size))
    return images
