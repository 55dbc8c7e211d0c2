"""ECC alignment (Evangelidis and Psarakis 2008) of many small images, compiled; it follows OpenCV's, step by step.

`cv2.findTransformECC` with a homography, from the identity, with its 5x5 blur: both images are blurred, the moving
one and its gradients are warped with the current homography, and the homography is improved by the step that
maximises the correlation coefficient of the two to first order. On images of 28x28 pixels most of OpenCV's time is
the fixed cost of its calls; here a pair costs its arithmetic. The sums run in another order than OpenCV's, so a
homography differs in its last digits; where ECC converges, PASS differs by less than 0.001. Where it does not, rounding
grows with every iteration, as it does between two builds of OpenCV (benchmarks/pass_agreement.py).

The homography h = (h00, h01, h02, h10, h11, h12, h20, h21), with h22 = 1, maps the fixed image's coordinates (x, y)
to the moving one's: u = (h00 x + h01 y + h02) / d, v = (h10 x + h11 y + h12) / d, d = h20 x + h21 y + 1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bangbench.core.compiled import compiled, compiled_sum, plain
from bangbench.metrics.reference import CORRELATION_EPSILON, EccStatus

_ALIGNED, _NAN, _UNCORRELATED = (int(status) for status in EccStatus)

#: Values of a pixel that are sampled together: image, its differences across and down, and one that is not used, so
#: that they fill a register; or the channels of an image.
_PLANES = 4
_RIGHTWARDS, _DOWNWARDS = 1, 2
#: Rows of the sampling grid.
_ACROSS, _DOWN, _SCALE, _INSIDE = range(4)
#: Rows of the vectors: the Jacobian's columns, then the warped image and the template.
_JACOBIAN = 8
_WARPED, _TEMPLATE = 8, 9
#: Pixels whose products are added in float32 before the sum goes on in float64.
_BLOCK = 1024

#: A pivot under this makes OpenCV's inverse fail; all is zero then.
_SMALLEST_PIVOT = np.float32(10.0) * np.finfo(np.float32).eps

_ZERO, _HALF, _ONE, _FOUR, _SIX = (np.float32(value) for value in (0.0, 0.5, 1.0, 4.0, 6.0))
_BLUR_SCALE = np.float32(1.0 / 256.0)


class Alignment(NamedTuple):
    """matrix: float32 (N, 3, 3), fixed to moving coordinates; status: int8 (N,), an `EccStatus` each."""

    matrix: NDArray[np.float32]
    status: NDArray[np.int8]


def align_stack(fixed: NDArray[np.uint8], moving: NDArray[np.uint8], iterations: int) -> Alignment:
    """Return the homographies that warp each moving image onto its fixed one, both uint8 (N, H, W).

    At most `iterations` steps each. Where the status is not ALIGNED the matrix is of no use.
    """
    matrix = np.empty((len(fixed), 3, 3), np.float32)
    status = np.empty(len(fixed), np.int8)
    _align_all(plain(fixed), plain(moving), iterations, CORRELATION_EPSILON, matrix, status)
    return Alignment(matrix, status)


def warp_stack(images: NDArray[np.uint8], matrix: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return uint8 images (N, C, H, W) warped by homographies (N, 3, 3): bilinear, 0 outside, rounded half to even."""
    warped = np.empty(images.shape, np.uint8)
    _warp_all(plain(images), plain(matrix), warped)
    return warped


@compiled
def _align_all(fixed: Any, moving: Any, iterations: int, epsilon: float, matrix: Any, status: Any) -> None:
    count, height, width = fixed.shape
    size = height * width
    template, blurred, scratch = np.empty((3, height, width), np.float32)
    planes = np.zeros((height + 2) * (width + 2) * _PLANES, np.float32)
    grid = np.empty((4, size), np.float32)
    sampled = np.empty(size * _PLANES, np.float32)
    vectors = np.empty((10, size), np.float32)
    for pair in range(count):
        _blur(fixed[pair], scratch, template)
        _blur(moving[pair], scratch, blurred)
        _interleave(blurred, planes)
        h = np.zeros(8, np.float32)
        h[0] = h[4] = _ONE
        status[pair] = _align(template, planes, iterations, epsilon, h, grid, sampled, vectors)
        matrix[pair].ravel()[:8] = h
        matrix[pair, 2, 2] = _ONE


@compiled
def _align(
    template: Any,
    planes: Any,
    iterations: int,
    epsilon: float,
    h: Any,
    grid: Any,
    sampled: Any,
    vectors: Any,
) -> int:
    """Improve `h` until the correlation settles; return the status.

    The test is at the loop's head: `h` is improved once more after the correlation that ends it.
    """
    height, width = template.shape
    rho, last = -1.0, -epsilon
    done = 0
    while done < iterations and abs(rho - last) >= epsilon:
        done += 1
        _coordinates(h, height, width, grid)
        _sample(planes, width + 2, grid[_ACROSS], grid[_DOWN], sampled)
        image_norm, template_norm = _centre(sampled, template.ravel(), grid[_INSIDE], vectors)
        _jacobian(grid, width, sampled, vectors)
        gram = _gram(vectors)
        correlation = gram[_WARPED, _TEMPLATE]
        last, rho = rho, correlation / (image_norm * template_norm)
        if np.isnan(rho):
            return _NAN
        if _improve(gram, image_norm * image_norm, correlation, h) <= 0.0:
            return _UNCORRELATED
    return _ALIGNED


@compiled
def _blur(image: Any, scratch: Any, blurred: Any) -> None:
    """Blur with [1, 4, 6, 4, 1] / 16 along both axes, borders reflected about the outermost pixel."""
    height, width = image.shape
    last = width - 1
    for y in range(height):
        for x in range(width):
            before1, before2 = abs(x - 1), abs(x - 2)
            after1, after2 = last - abs(last - x - 1), last - abs(last - x - 2)
            outer = np.int32(image[y, before2]) + np.int32(image[y, after2])
            inner = np.int32(image[y, before1]) + np.int32(image[y, after1])
            scratch[y, x] = np.float32(outer + 4 * inner + 6 * np.int32(image[y, x]))
    last = height - 1
    for y in range(height):
        before1, before2 = scratch[abs(y - 1)], scratch[abs(y - 2)]
        after1, after2 = scratch[last - abs(last - y - 1)], scratch[last - abs(last - y - 2)]
        for x in range(width):
            total = before2[x] + after2[x] + _FOUR * (before1[x] + after1[x]) + _SIX * scratch[y, x]
            blurred[y, x] = total * _BLUR_SCALE


@compiled
def _interleave(image: Any, planes: Any) -> None:
    """Put the image and its central differences side by side, between borders of zeros that stay as they are.

    At the outermost pixels the reflected border makes the difference across it zero.
    """
    height, width = image.shape
    for y in range(height):
        for x in range(width):
            place = ((y + 1) * (width + 2) + x + 1) * _PLANES
            planes[place] = image[y, x]
            if 0 < x < width - 1:
                planes[place + _RIGHTWARDS] = _HALF * (image[y, x + 1] - image[y, x - 1])
            if 0 < y < height - 1:
                planes[place + _DOWNWARDS] = _HALF * (image[y + 1, x] - image[y - 1, x])


@compiled
def _coordinates(h: Any, height: int, width: int, grid: Any) -> None:
    """Note for each pixel where it is sampled, 1 / d, and the mask: 1 where the nearest neighbour is a pixel.

    What lies outside, NaN included, is sampled in the corner of the border of zeros.
    """
    h00, h01, h02, h10, h11, h12, h20, h21 = h
    wide, high = np.float32(width), np.float32(height)
    across, down, scale, inside = grid[_ACROSS], grid[_DOWN], grid[_SCALE], grid[_INSIDE]
    for y in range(height):
        y32 = np.float32(y)
        for x in range(width):
            x32 = np.float32(x)
            inverse = _ONE / (h20 * x32 + h21 * y32 + _ONE)
            u = (h00 * x32 + h01 * y32 + h02) * inverse
            v = (h10 * x32 + h11 * y32 + h12) * inverse
            near_u, near_v = np.rint(u), np.rint(v)
            within = (near_u >= _ZERO) & (near_u < wide) & (near_v >= _ZERO) & (near_v < high)
            touched = (u > -_ONE) & (u < wide) & (v > -_ONE) & (v < high)
            index = y * width + x
            across[index], down[index] = u if touched else -_ONE, v if touched else -_ONE
            scale[index] = inverse
            inside[index] = _ONE if within else _ZERO


@compiled
def _sample(planes: Any, stride: int, across: Any, down: Any, sampled: Any) -> None:
    """Interpolate the planes bilinearly at the noted places."""
    for index in range(len(across)):
        left, top = np.floor(across[index]), np.floor(down[index])
        right, low = across[index] - left, down[index] - top
        upper_place = (np.int32(top + _ONE) * stride + np.int32(left + _ONE)) * _PLANES
        lower_place = upper_place + stride * _PLANES
        for plane in range(_PLANES):
            upper_left, upper_right = planes[upper_place + plane], planes[upper_place + _PLANES + plane]
            lower_left, lower_right = planes[lower_place + plane], planes[lower_place + _PLANES + plane]
            upper = upper_left + right * (upper_right - upper_left)
            lower = lower_left + right * (lower_right - lower_left)
            sampled[index * _PLANES + plane] = upper + low * (lower - upper)


@compiled_sum
def _centre(sampled: Any, template: Any, inside: Any, vectors: Any) -> tuple[float, float]:
    """Put warped image and template into their rows, with zero mean inside the mask; return their norms there.

    Outside, the warped image keeps its values and the template is zero.
    """
    count = image = fixed = 0.0
    for index in range(len(inside)):
        count += inside[index]
        image += inside[index] * sampled[index * _PLANES]
        fixed += inside[index] * template[index]
    image_mean, fixed_mean = np.float32(image / count), np.float32(fixed / count)
    warped, target = vectors[_WARPED], vectors[_TEMPLATE]
    image2 = fixed2 = 0.0
    for index in range(len(inside)):
        weight = inside[index]
        warped[index] = sampled[index * _PLANES] - weight * image_mean
        target[index] = weight * (template[index] - fixed_mean)
        image2 += weight * warped[index] * warped[index]
        fixed2 += target[index] * target[index]
    return np.sqrt(image2), np.sqrt(fixed2)


@compiled
def _jacobian(grid: Any, width: int, sampled: Any, vectors: Any) -> None:
    """Put the derivatives with respect to h00, h10, h20, h01, h11, h21, h02, h12 into the first eight rows."""
    across, down, scale = grid[_ACROSS], grid[_DOWN], grid[_SCALE]
    for y in range(len(scale) // width):
        y32 = np.float32(y)
        for x in range(width):
            x32, index = np.float32(x), y * width + x
            with_u = sampled[index * _PLANES + _RIGHTWARDS] * scale[index]
            with_v = sampled[index * _PLANES + _DOWNWARDS] * scale[index]
            with_d = -(across[index] * with_u + down[index] * with_v)
            vectors[0, index], vectors[1, index], vectors[2, index] = with_u * x32, with_v * x32, with_d * x32
            vectors[3, index], vectors[4, index], vectors[5, index] = with_u * y32, with_v * y32, with_d * y32
            vectors[6, index], vectors[7, index] = with_u, with_v


@compiled
def _gram(vectors: Any) -> Any:
    """Return the dot products of the rows, float64 (10, 10); those of the last two with themselves are left out."""
    gram = np.zeros((10, 10))
    for first in range(_TEMPLATE):
        for second in range(first if first < _JACOBIAN else _TEMPLATE, 10):
            gram[first, second] = gram[second, first] = _dot(vectors[first], vectors[second])
    return gram


@compiled
def _dot(first: Any, second: Any) -> float:
    """Return the dot product: float32 sums of a block each, added in float64."""
    total = 0.0
    for begin in range(0, len(first), _BLOCK):
        total += _block_dot(first[begin : begin + _BLOCK], second[begin : begin + _BLOCK])
    return total


@compiled_sum
def _block_dot(first: Any, second: Any) -> Any:
    total = _ZERO
    for index in range(len(first)):
        total += first[index] * second[index]
    return total


@compiled
def _improve(gram: Any, image_norm2: float, correlation: float, h: Any) -> float:
    """Add the step to `h` unless ECC gives up; return the denominator of lambda, which is positive if it does not.

    lambda makes up for contrast: (|i|^2 - ip' H^-1 ip) / (i't - tp' H^-1 ip); the step is H^-1 J'(lambda t - i).
    """
    inverse = _inverse(gram[:_JACOBIAN, :_JACOBIAN].astype(np.float32))
    image, template = gram[:_JACOBIAN, _WARPED], gram[:_JACOBIAN, _TEMPLATE]
    solved = np.zeros(_JACOBIAN)
    for row in range(_JACOBIAN):
        for column in range(_JACOBIAN):
            solved[row] += inverse[row, column] * image[column]
    above, below = image_norm2, correlation
    for row in range(_JACOBIAN):
        above -= image[row] * solved[row]
        below -= template[row] * solved[row]
    if below <= 0.0:
        return below
    lam = above / below
    for row in range(_JACOBIAN):
        step = 0.0
        for column in range(_JACOBIAN):
            step += inverse[row, column] * np.float32(lam * template[column] - image[column])
        # the Jacobian's columns run down the homography's
        h[row % 3 * 3 + row // 3 if row < 6 else (row - 6) * 3 + 2] += np.float32(step)
    return below


@compiled
def _inverse(matrix: Any) -> Any:
    """Return the inverse of a float32 matrix, which is overwritten, by elimination; zero where it is singular."""
    size = len(matrix)
    inverse = np.zeros((size, size), np.float32)
    for row in range(size):
        inverse[row, row] = _ONE
    for column in range(size):
        pivot = column
        for row in range(column + 1, size):
            if abs(matrix[row, column]) > abs(matrix[pivot, column]):
                pivot = row
        if not abs(matrix[pivot, column]) >= _SMALLEST_PIVOT:
            inverse[:] = _ZERO
            return inverse
        _eliminate(matrix, inverse, column, pivot)
    for row in range(size - 1, -1, -1):
        for other in range(size):
            value = inverse[row, other]
            for column in range(row + 1, size):
                value -= matrix[row, column] * inverse[column, other]
            inverse[row, other] = value / matrix[row, row]
    return inverse


@compiled
def _eliminate(matrix: Any, inverse: Any, column: int, pivot: int) -> None:
    """Bring the pivot's row up and take multiples of it from the rows below, so that their entries vanish."""
    size = len(matrix)
    for other in range(size):
        matrix[column, other], matrix[pivot, other] = matrix[pivot, other], matrix[column, other]
        inverse[column, other], inverse[pivot, other] = inverse[pivot, other], inverse[column, other]
    for row in range(column + 1, size):
        factor = -matrix[row, column] / matrix[column, column]
        for other in range(column + 1, size):
            matrix[row, other] += factor * matrix[column, other]
        for other in range(size):
            inverse[row, other] += factor * inverse[column, other]


@compiled
def _warp_all(images: Any, matrix: Any, warped: Any) -> None:
    count, channels, height, width = images.shape
    size = height * width
    planes = np.zeros((height + 2) * (width + 2) * _PLANES, np.float32)
    grid = np.empty((4, size), np.float32)
    sampled = np.empty(size * _PLANES, np.float32)
    for image in range(count):
        for channel in range(channels):
            for y in range(height):
                for x in range(width):
                    planes[((y + 1) * (width + 2) + x + 1) * _PLANES + channel] = images[image, channel, y, x]
        _coordinates(matrix[image].ravel()[:8], height, width, grid)
        _sample(planes, width + 2, grid[_ACROSS], grid[_DOWN], sampled)
        for channel in range(channels):
            flat = warped[image, channel].ravel()
            for index in range(size):
                flat[index] = np.uint8(np.rint(sampled[index * _PLANES + channel]))
