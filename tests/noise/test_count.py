"""Flipped draws against a closed form, against one copy at a time, and at several batch sizes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bangbench.nets.catalogue import build_net, net_definition
from bangbench.nets.classifier import Classifier
from bangbench.noise.count import Images, Noise, count_flips
from bangbench.noise.draws import draws
from bangbench.store.records import Preprocessing

pytestmark = pytest.mark.exact


def images_of(pixels: Tensor, classifier: Classifier | None = None, first_index: int = 40) -> Images:
    """Images labelled with the classifier's own prediction, or 0."""
    with torch.inference_mode():
        labels = classifier(pixels.float()).argmax(1) if classifier else torch.zeros(len(pixels), dtype=torch.int64)
    return Images(pixels, labels, np.arange(first_index, first_index + len(pixels)))


def random_pixels(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def lenet(seed: int) -> Classifier:
    definition = net_definition("lenet")
    net = build_net(definition, (1, 28, 28), 10, seed)
    return Classifier(net, definition.preprocessing, None, definition.channels_last).eval()


def linear_classifier(weight: Tensor, bias: Tensor) -> Classifier:
    layer = nn.Linear(weight.shape[1], len(weight))
    layer.load_state_dict({"weight": weight, "bias": bias})
    return Classifier(nn.Sequential(nn.Flatten(), layer), Preprocessing(input_scale=1.0)).eval()


def test_counts_are_equal_at_every_batch_size():
    classifiers = [lenet(0), lenet(1)]
    images = images_of(random_pixels(5, 1, 28, 28), classifiers[0])
    noise = Noise((20.0, 60.0, 100.0), 13, seed=4, clip=True)
    one_by_one = count_flips(classifiers, images, noise, 1).flipped
    assert one_by_one.shape == (2, 3, 5)
    assert one_by_one.dtype == np.int32
    assert 0 < one_by_one[0].sum() < one_by_one[0].size * 13
    for batch_size in (7, 64, 1000):
        np.testing.assert_array_equal(count_flips(classifiers, images, noise, batch_size).flipped, one_by_one)


@pytest.mark.parametrize("clip", [True, False])
def test_counts_equal_a_loop_over_single_copies(clip):
    classifier = lenet(2)
    images = images_of(random_pixels(3, 1, 28, 28), classifier)
    noise = Noise((30.0, 90.0), 12, seed=9, clip=clip)
    expected = np.zeros((2, 3), dtype=np.int32)
    for level, sigma in enumerate(noise.sigmas):
        for row, index in enumerate(images.indices.tolist()):
            for draw in range(noise.draws):
                noisy = images.pixels[row].numpy() + np.float32(sigma) * draws(9, index, draw, 1, (1, 28, 28))
                noisy = np.clip(np.rint(noisy), 0, 255) if clip else noisy
                with torch.inference_mode():
                    expected[level, row] += int(classifier(torch.from_numpy(noisy)).argmax(1)) != images.labels[row]
    np.testing.assert_array_equal(count_flips([classifier], images, noise, 7).flipped[0], expected)
    assert expected.sum() > 0


def test_an_image_gives_the_same_counts_alone_and_among_others():
    classifier = lenet(0)
    images = images_of(random_pixels(4, 1, 28, 28), classifier)
    noise = Noise((80.0,), 40, seed=0, clip=True)
    together = count_flips([classifier], images, noise, 33).flipped
    for row in range(4):
        alone = Images(images.pixels[row : row + 1], images.labels[row : row + 1], images.indices[row : row + 1])
        assert count_flips([classifier], alone, noise, 33).flipped[0, 0, 0] == together[0, 0, row]


def test_a_linear_classifier_flips_as_often_as_the_closed_form_says():
    """Two classes, margin m = (w0 - w1) x + b0 - b1: P(flip) = Phi(-m / (sigma ||w0 - w1||))."""
    generator = torch.Generator().manual_seed(3)
    pixels = random_pixels(1, 1, 6, 6)
    weight = torch.randn(2, 36, generator=generator)
    difference = weight[0] - weight[1]
    norm, sigmas, copies = float(difference.norm()), (15.0, 40.0, 90.0), 4000
    margin = 30.0 * norm
    bias = torch.tensor([margin - float(difference @ pixels.float().flatten()), 0.0])
    noise = Noise(sigmas, copies, seed=7, clip=False)
    flipped = count_flips([linear_classifier(weight, bias)], images_of(pixels), noise, 500).flipped[0, :, 0]
    for sigma, count in zip(sigmas, flipped, strict=True):
        expected = 0.5 * math.erfc(margin / (sigma * norm) / math.sqrt(2))
        standard_error = math.sqrt(expected * (1 - expected) / copies)
        assert abs(count / copies - expected) < 4 * standard_error


def test_clipped_copies_are_whole_grey_levels_in_range_and_others_are_not():
    seen: list[Tensor] = []

    class Watching(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images.clone())
            return images.flatten(1)[:, :2]

    watching = Classifier(Watching(), Preprocessing(input_scale=1.0)).eval()
    for clip in (True, False):
        count_flips([watching], images_of(random_pixels(1, 1, 8, 8)), Noise((100.0,), 5, 0, clip), 5)
    clipped, free = seen
    assert clipped.min() == 0
    assert clipped.max() == 255
    assert torch.equal(clipped, clipped.round())
    assert free.min() < 0
    assert free.max() > 255
    assert torch.equal(clipped, free.round().clamp(0, 255))


def test_progress_counts_every_forward_pass():
    class Counting:
        total = 0

        def start(self, label: str, total: int, done: int = 0, unit: str = "it") -> None: ...
        def advance(self, count: int = 1) -> None:
            self.total += count

        def note(self, text: str) -> None: ...
        def finish(self) -> None: ...

    progress = Counting()
    count_flips(
        [lenet(0), lenet(1)], images_of(random_pixels(2, 1, 28, 28)), Noise((5.0, 9.0), 7, 0, True), 4, progress
    )
    assert progress.total == 2 * 2 * 2 * 7


def test_later_draws_add_up_to_those_of_one_count():
    classifiers = [lenet(0), lenet(1)]
    images = images_of(random_pixels(3, 1, 28, 28), classifiers[0])
    noise = Noise((40.0, 90.0), 11, seed=2, clip=True)
    whole = count_flips(classifiers, images, noise, 20).flipped
    parts = [count_flips(classifiers, images, noise._replace(first=first, draws=draws), 20).flipped
             for first, draws in ((0, 3), (3, 7), (10, 1))]  # fmt: skip
    np.testing.assert_array_equal(sum(parts), whole)
    assert all(part.any() for part in parts)


def test_closed_cells_stay_zero_and_the_others_are_counted_as_without_them():
    classifiers = [lenet(0), lenet(1)]
    images = images_of(random_pixels(4, 1, 28, 28), classifiers[0])
    noise = Noise((60.0, 80.0, 100.0), 9, seed=4, clip=True)
    cells = np.array([[True, False, False], [False, False, True]])
    counted = count_flips(classifiers, images, noise, 16, cells=cells).flipped
    whole = count_flips(classifiers, images, noise, 16).flipped
    np.testing.assert_array_equal(counted, whole * cells[:, :, None])
    assert whole[~cells].any()


def test_a_classifier_without_an_open_cell_is_not_asked_and_no_cell_draws_nothing(monkeypatch):
    class Never(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise AssertionError("asked")

    never = Classifier(Never(), Preprocessing()).eval()
    images, noise = images_of(random_pixels(2, 1, 28, 28)), Noise((10.0, 20.0), 3, 0, True)
    assert (
        count_flips([never, lenet(0)], images, noise, 4, cells=np.array([[False] * 2, [True] * 2])).flipped[0].sum()
        == 0
    )
    monkeypatch.setattr("bangbench.noise.count.draws", None)
    assert not count_flips([never], images, noise, 4, cells=np.zeros((1, 2), dtype=bool)).flipped.any()
