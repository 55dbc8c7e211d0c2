"""The engine for GPUs against the compiled one, run here on the CPU, and on a GPU where there is one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bangbench.core.errors import UsageError
from bangbench.metrics import on_device
from bangbench.metrics.compare import compare_files
from bangbench.metrics.engine import score_pairs
from bangbench.metrics.pass_score import PassPool, pass_scores_all
from bangbench.metrics.reference import PRESETS, EccStatus
from bangbench.metrics.spec import PassSpec

pytestmark = pytest.mark.exact

_CPU = torch.device("cpu")
_PRESETS = tuple(PRESETS)


def _assert_alike(found, expected):
    assert found.keys() == expected.keys()
    for preset, scores in expected.items():
        assert [column.dtype for column in found[preset]] == [column.dtype for column in scores]
        assert found[preset].status.tolist() == scores.status.tolist()
        np.testing.assert_allclose(found[preset].score, scores.score, rtol=0, atol=1e-3)
        np.testing.assert_allclose(found[preset].unaligned, scores.unaligned, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["digits", "photos"])
def test_the_batched_engine_scores_as_the_compiled_one(kind, request):
    pairs = request.getfixturevalue(kind).with_failures()
    found = on_device.score_pairs(*pairs, _PRESETS, _CPU)
    _assert_alike(found, score_pairs(*pairs, _PRESETS))
    assert found["definition"].status[:4].tolist() == [
        EccStatus.ALIGNED,
        EccStatus.NAN,
        EccStatus.UNCORRELATED,
        EccStatus.ALIGNED,
    ]


def test_memory_is_bounded_by_cutting_the_stack(digits, monkeypatch):
    whole = on_device.score_pairs(*digits, _PRESETS, _CPU)
    monkeypatch.setattr(on_device, "BATCH_PIXELS", 5 * 28 * 28)
    cut = on_device.score_pairs(*digits, _PRESETS, _CPU)
    for preset in _PRESETS:
        np.testing.assert_allclose(cut[preset].score, whole[preset].score, rtol=0, atol=1e-6)


def test_no_pairs_give_empty_scores():
    empty = np.empty((0, 1, 28, 28), np.uint8)
    for scores in on_device.score_pairs(empty, empty, _PRESETS, _CPU).values():
        assert [column.shape for column in scores] == [(0,)] * 3


def test_singular_systems_take_no_step():
    stripes = np.tile((np.arange(28) % 8 * 30).astype(np.uint8), (1, 1, 28, 1))
    moved = np.roll(stripes, 1, axis=3)
    _assert_alike(on_device.score_pairs(moved, stripes, _PRESETS, _CPU), score_pairs(moved, stripes, _PRESETS))


def test_a_pool_leaves_the_cpu_to_the_compiled_engine(digits):
    with PassPool(device=_CPU) as pool:
        scores = pool.score(*digits)
    assert np.array_equal(scores["paper"].score, pass_scores_all(*digits)["paper"].score)


def test_an_unknown_device_is_refused(digits, tmp_path):
    np.save(tmp_path / "o.npy", digits.original)
    with pytest.raises(UsageError, match="unknown device 'gpu'"):
        compare_files(PassSpec(original=tmp_path / "o.npy", adversarial=tmp_path / "o.npy", device="gpu"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_scores_as_the_compiled_engine(photos):
    pairs = photos.with_failures()
    found = pass_scores_all(*pairs, device=torch.device("cuda"))
    _assert_alike(found, score_pairs(*pairs, _PRESETS))


def test_singular_and_broken_matrices_have_no_inverse_and_disturb_no_other():
    usual = torch.eye(8) * torch.arange(1.0, 9.0)
    matrices = torch.stack([usual, torch.zeros(8, 8), torch.full((8, 8), torch.nan), usual.clone(), usual + 1.0])
    matrices[3, 2, 5] = torch.inf
    found = on_device._inverse(matrices)
    assert torch.equal(found[1:4], torch.zeros(3, 8, 8))
    assert torch.allclose(found[[0, 4]] @ matrices[[0, 4]], torch.eye(8).expand(2, 8, 8), atol=1e-5)
