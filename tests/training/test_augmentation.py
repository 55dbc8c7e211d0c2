"""Shifted and mirrored training images, and runs on them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bangbench.training.augmentation import Augmentation
from bangbench.training.run import train

IMAGES = torch.randint(1, 256, (40, 3, 6, 5), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def moved(image: Tensor, down: int, right: int) -> Tensor:
    """Return an image (C, H, W) moved, pixel by pixel, black where nothing comes from."""
    result = torch.zeros_like(image)
    height, width = image.shape[1:]
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                result[:, row, column] = image[:, row - down, column - right]
    return result


def moves_that_explain(shown: Tensor, image: Tensor, most: int) -> list[tuple[int, int]]:
    steps = range(-most, most + 1)
    return [(down, right) for down in steps for right in steps if torch.equal(moved(image, down, right), shown)]


def test_every_image_is_moved_on_its_own_by_every_amount_in_both_directions():
    shown = Augmentation(shift=2, seed=1).at(7, IMAGES)
    assert shown.dtype == torch.uint8
    found = [moves_that_explain(one, image, 2) for one, image in zip(shown, IMAGES, strict=True)]
    assert all(len(moves) == 1 for moves in found)
    downs, rights = zip(*(moves[0] for moves in found), strict=True)
    assert set(downs) == set(rights) == {-2, -1, 0, 1, 2}
    assert downs != rights


def test_half_of_the_images_are_mirrored_left_to_right():
    shown = Augmentation(flip=True, seed=1).at(0, IMAGES)
    mirrored = [torch.equal(one, image.flip(2)) for one, image in zip(shown, IMAGES, strict=True)]
    assert [torch.equal(one, image) for one, image in zip(shown, IMAGES, strict=True)] == [not one for one in mirrored]
    assert 10 < sum(mirrored) < 30


def test_the_draws_belong_to_seed_and_step():
    one = Augmentation(2, True, seed=1)
    assert torch.equal(one.at(3, IMAGES), one.at(3, IMAGES))
    assert not torch.equal(one.at(3, IMAGES), one.at(4, IMAGES))
    assert not torch.equal(one.at(3, IMAGES), one._replace(seed=2).at(3, IMAGES))
    assert Augmentation().at(3, IMAGES) is IMAGES


def test_an_augmented_run_goes_on_where_it_was_interrupted(spec_of, stop_after, left_by, tmp_path):
    settings = {"shift": 2, "flip": True, "shuffle": True}
    card = train(spec_of(name="whole", **settings))
    with pytest.raises(KeyboardInterrupt):
        train(spec_of(name="parts", **settings), stop_after(6))
    train(spec_of(name="parts", **settings))
    train(spec_of(name="plain", shuffle=True))
    whole, parts, plain = (left_by(tmp_path / "models" / name) for name in ("whole", "parts", "plain"))
    assert parts == whole
    assert plain["weights.safetensors"] != whole["weights.safetensors"]
    assert (card.spec["shift"], card.spec["flip"]) == (2, True)
