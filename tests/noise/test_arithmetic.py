"""Predictions in fewer digits: where they can be had, that switches are put back, and what they change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bangbench.core.errors import UsageError
from bangbench.nets.classifier import Classifier
from bangbench.noise.arithmetic import check_arithmetic, computing_in
from bangbench.noise.count import COMPARED_DRAWS, Images, Noise, count_flips
from bangbench.store.records import Preprocessing

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class NearTie(nn.Module):
    """Class 1 leads class 0 by a thousandth of its logit: bfloat16 has no digit for it, and the first class wins."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 2, bias=False)
        self.layer.load_state_dict({"weight": torch.tensor([[1.0], [1.001]]).expand(2, 16)})
        self.seen: list[torch.dtype] = []

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layer(images.flatten(1))
        self.seen.append(logits.dtype)
        return logits


@pytest.fixture
def near_tie() -> Classifier:
    return Classifier(NearTie(), Preprocessing(input_scale=1.0)).eval()


@pytest.fixture
def images() -> Images:
    return Images(torch.full((3, 1, 4, 4), 120, dtype=torch.uint8), torch.ones(3, dtype=torch.int64), np.arange(3))


def test_float32_compares_nothing(near_tie, images):
    counts = count_flips([near_tie], images, Noise((5.0,), 4, 0, True), 6)
    assert counts.differing is None
    assert not counts.flipped.any()
    assert set(near_tie.net.seen) == {torch.float32}


def test_bfloat16_computes_in_bfloat16_and_the_first_draws_in_float32_as_well(near_tie, images):
    counts = count_flips([near_tie], images, Noise((5.0,), 14, 0, True), 6, arithmetic="bfloat16")
    assert counts.flipped.tolist() == [[[14] * 3]]
    assert counts.differing is not None
    assert counts.differing.tolist() == [[[COMPARED_DRAWS] * 3]]
    assert set(near_tie.net.seen) == {torch.bfloat16, torch.float32}


def test_a_copy_that_both_get_wrong_does_not_differ(near_tie, images):
    other = images._replace(labels=torch.full((3,), 5))
    counts = count_flips([near_tie], other, Noise((5.0,), 3, 0, True), 6, arithmetic="bfloat16")
    assert counts.flipped.tolist() == [[[3] * 3]]
    assert counts.differing is not None
    assert not counts.differing.any()


@pytest.mark.parametrize("batch_size", [1, 7, 100])
@pytest.mark.parametrize(("first", "compared"), [(0, 5), (7, 3), (10, 0)])
def test_only_the_first_draws_of_each_image_are_compared_in_whatever_round_they_come(
    near_tie, images, batch_size, first, compared
):
    counts = count_flips([near_tie], images, Noise((5.0,), 5, 0, True, first), batch_size, arithmetic="bfloat16")
    assert counts.differing is not None
    assert counts.differing.tolist() == [[[compared] * 3]]


def test_tf32_is_refused_where_there_is_no_cuda():
    with pytest.raises(UsageError, match="--arithmetic tf32 needs a CUDA device, found cpu; take float32 or bfloat16"):
        check_arithmetic("tf32", CPU)


def test_tf32_is_refused_on_a_gpu_that_has_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "an old GPU")
    with pytest.raises(UsageError, match="an old GPU has no TF32"):
        check_arithmetic("tf32", CUDA)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    check_arithmetic("tf32", CUDA)


@pytest.mark.parametrize("arithmetic", ["float32", "bfloat16"])
def test_other_arithmetics_need_no_gpu(arithmetic):
    check_arithmetic(arithmetic, CPU)


def test_tf32_is_on_inside_the_block_and_put_back_after_an_error():
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32, cudnn.allow_tf32 = False, False
        with pytest.raises(KeyboardInterrupt), computing_in("tf32", CUDA):
            assert (matmul.allow_tf32, cudnn.allow_tf32) == (True, True)
            raise KeyboardInterrupt
        assert (matmul.allow_tf32, cudnn.allow_tf32) == (False, False)
        with computing_in("float32", CUDA):
            assert (matmul.allow_tf32, cudnn.allow_tf32) == (False, False)
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
