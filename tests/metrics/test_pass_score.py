"""PASS of stacks: equal to the reference within 0.001, whatever the number of workers."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from bangbench.core.errors import BenchError, UsageError
from bangbench.metrics import pass_score as pass_module
from bangbench.metrics.pass_score import PassPool, pass_score, pass_scores_all
from bangbench.metrics.reference import EccStatus, pass_pair_presets


def _same(first, second):
    return first.keys() == second.keys() and all(
        np.array_equal(a, b) and a.dtype == b.dtype
        for preset in first
        for a, b in zip(first[preset], second[preset], strict=True)
    )


@pytest.mark.exact
@pytest.mark.parametrize("kind", ["digits", "photos"])
def test_stacks_score_as_the_reference_does_pair_by_pair(kind, request):
    adversarial, original = request.getfixturevalue(kind).with_failures()
    scores = pass_scores_all(adversarial, original, workers=1)
    assert list(scores) == ["definition", "paper"]
    for index, pair in enumerate(zip(adversarial, original, strict=True)):
        for preset, expected in pass_pair_presets(*pair).items():
            score, unaligned, status = (column[index] for column in scores[preset])
            assert status == expected.status
            assert score == pytest.approx(expected.score, abs=1e-3)
            assert unaligned == pytest.approx(expected.unaligned, abs=1e-12)


def test_types_are_those_of_the_record_and_statuses_name_the_failures(digits):
    scores = pass_score(*digits.with_failures(), workers=1)
    assert [column.dtype for column in scores] == [np.float64, np.float64, np.int8]
    assert scores.status[:4].tolist() == [
        EccStatus.ALIGNED,
        EccStatus.NAN,
        EccStatus.UNCORRELATED,
        EccStatus.ALIGNED,
    ]
    assert scores.score[1:3].tolist() == scores.unaligned[1:3].tolist()
    assert (scores.score[3:] != scores.unaligned[3:]).all()


@pytest.mark.exact
def test_one_preset_scores_as_it_does_beside_the_other(digits):
    both = pass_scores_all(*digits, workers=1)
    for preset in ("definition", "paper"):
        assert _same({preset: pass_score(*digits, preset=preset, workers=1)}, {preset: both[preset]})
    assert _same({"definition": pass_score(*digits)}, {"definition": both["definition"]})


@pytest.mark.exact
def test_two_workers_and_one_give_the_same_bits_in_the_same_order(digits, photos, monkeypatch):
    monkeypatch.setattr(pass_module, "_TASK_VALUES", 5 * 28 * 28)
    with PassPool(workers=2) as pool:
        for pairs in (digits, photos):
            adversarial, original = pairs.with_failures()
            assert _same(pool.score(adversarial, original), pass_scores_all(adversarial, original, workers=1))


def test_a_pools_threads_end_with_its_block(digits):
    with PassPool(workers=2) as pool:
        pool.score(*digits)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pass")]


def test_no_pairs_give_empty_scores():
    empty = np.empty((0, 1, 28, 28), np.uint8)
    for scores in pass_scores_all(empty, empty).values():
        assert [column.shape for column in scores] == [(0,)] * 3


@pytest.mark.exact
def test_memory_order_does_not_matter(photos):
    channels_last = [np.ascontiguousarray(stack.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) for stack in photos]
    assert _same(pass_scores_all(*channels_last, workers=1), pass_scores_all(*photos, workers=1))


def test_stacks_that_cannot_be_scored_are_refused_before_work_starts():
    stack = np.zeros((2, 1, 28, 28), np.uint8)
    with pytest.raises(BenchError, match=r"adversarial images: expected uint8 \(N, C, H, W\), found float32"):
        pass_score(stack.astype(np.float32), stack)
    with pytest.raises(BenchError, match=r"original images: expected uint8 .*, found uint8 \(1, 28, 28\)"):
        pass_score(stack, stack[0])
    with pytest.raises(BenchError, match="original images: expected a NumPy array, found list"):
        pass_score(stack, stack.tolist())
    with pytest.raises(BenchError, match=r"found \(1, 1, 28, 28\) and \(2, 1, 28, 28\); pass the two stacks"):
        pass_score(stack[:1], stack)
    with pytest.raises(BenchError, match="found 8x28 with 1 channel"):
        pass_score(stack[:, :, :8], stack[:, :, :8])
    with pytest.raises(BenchError, match=r"channels, found 28; .*axes are"):
        pass_score(stack.transpose(0, 2, 1, 3).repeat(28, 2), stack.transpose(0, 2, 1, 3).repeat(28, 2))
    with pytest.raises(UsageError, match="unknown PASS preset 'defnition': did you mean 'definition'"):
        pass_score(stack, stack, "defnition")
    with pytest.raises(UsageError, match="expected at least 1 worker, found 0"):
        pass_score(stack, stack, workers=0)


def test_an_error_of_one_task_reaches_the_caller(digits, monkeypatch):
    def broken(*_):
        raise BenchError("expected a test, found one")

    monkeypatch.setattr(pass_module, "score_pairs", broken)
    with pytest.raises(BenchError, match="expected a test, found one"):
        pass_score(*digits, workers=2)


def test_scoring_leaves_torch_alone():
    check = "import sys, bangbench.metrics.pass_score; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True, timeout=60)


_SCRIPT = """
import numpy as np
from bangbench.metrics.pass_score import PassPool

stack = np.random.default_rng(0).integers(0, 256, (2000, 1, 28, 28), np.uint8)
with PassPool(workers=2) as pool:
    pool.score(stack[:64], stack[:64])
    print("started", flush=True)
    while True:
        pool.score(stack, stack)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_ends_the_threads_with_the_script(tmp_path):
    script = tmp_path / "score.py"
    script.write_text(_SCRIPT)
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "started\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert errors.count("Traceback (most recent call last)") == 1
    assert errors.rstrip().endswith("KeyboardInterrupt")
