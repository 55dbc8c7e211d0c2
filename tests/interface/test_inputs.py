"""What images, labels and models are taken for, and what is refused with what to pass instead."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from bangbench.core.errors import UsageError
from bangbench.interface.inputs import grey_levels, read_batch

LABELS = torch.tensor([0, 1])


def test_floats_are_shares_of_the_range_and_uint8_is_grey_levels():
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    for given in (levels, levels / 255, levels.double() / 255, (levels / 255).half(), levels.numpy() / 255.0):
        pixels, rounded = grey_levels(given)
        np.testing.assert_array_equal(pixels, levels.numpy())
        assert rounded == 0


def test_images_on_no_grey_level_are_rounded_and_counted():
    images = torch.full((3, 1, 4, 4), 10 / 255)
    images[1, 0, 2, 2:] = 10.4 / 255
    pixels, rounded = grey_levels(images)
    assert rounded == 1
    assert (pixels == 10).all()
    assert read_batch(images, torch.zeros(3, dtype=torch.int64)).notes[0].startswith("1 of 3 images were on no whole")


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (torch.full((2, 1, 4, 4), 200.0), r"found 200 to 200; pass images / 255"),
        (
            torch.full((2, 1, 4, 4), -2.1),
            r"found -2.1 to -2.1, which looks normalised; pass the images before .* mean=",
        ),
        (torch.full((2, 1, 4, 4), torch.nan), "found NaN or infinite"),
        (torch.full((2, 1, 4, 4), torch.inf), "found NaN or infinite"),
        (torch.zeros(2, 32, 32, 3), r"found \(2, 32, 32, 3\), which looks like \(N, H, W, C\); pass images.permute"),
        (torch.zeros(2, 32, 32), r"found \(2, 32, 32\); pass images\[:, None\]"),
        (torch.zeros(2, 784), r"found \(2, 784\); pass one image a row"),
        (torch.zeros(0, 1, 4, 4), "pass at least one image"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.int64), r"found torch.int64; pass grey levels as uint8"),
        (np.zeros((2, 1, 4, 4), bool), "found bool; pass grey levels as uint8"),
    ],
)
def test_other_images_are_refused_with_what_was_seen_and_what_to_pass(images, says):
    with pytest.raises(UsageError, match=says):
        read_batch(images, LABELS)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (None, "expected the class of each image"),
        (torch.eye(2), r"found float32 \(2, 2\); pass labels.argmax\(1\)"),
        (torch.zeros(2), r"found float32 \(2,\)"),
        (torch.zeros(3, dtype=torch.int64), "as many labels as images, found 3 and 2"),
    ],
)
def test_other_labels_are_refused(labels, says):
    with pytest.raises(UsageError, match=says):
        read_batch(torch.zeros(2, 1, 4, 4), labels)


def test_a_loader_gives_both_up_to_the_limit():
    images, labels = torch.rand(10, 1, 4, 4), torch.arange(10)
    loader = DataLoader(TensorDataset(images, labels), batch_size=4)
    batch = read_batch(loader, None, 6)
    assert batch.labels.tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(batch.pixels, grey_levels(images[:6])[0])
    assert len(read_batch(loader, None).labels) == 10


@pytest.mark.parametrize(
    ("images", "labels", "says"),
    [
        ([torch.zeros(1, 4, 4)], LABELS, "found list with labels; stack the images"),
        ("images", None, "batches are .images, labels., found str"),
        (iter([]), None, "found an empty one"),
        (iter([torch.zeros(2, 1, 4, 4)]), None, "whose batches are .images, labels., found Tensor"),
        (7, None, "found int without labels"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(images, labels, says):
    with pytest.raises(UsageError, match=says):
        read_batch(images, labels)


def test_images_come_back_in_the_form_they_were_given_in():
    levels = np.arange(32, dtype=np.uint8).reshape(2, 1, 4, 4)
    for given in (levels, torch.from_numpy(levels), torch.from_numpy(levels) / 255, levels / 255.0):
        back = read_batch(given, LABELS).given_back(levels)
        assert type(back) is type(given)
        assert back.dtype == given.dtype
        np.testing.assert_array_equal(np.asarray(back), np.asarray(given))
