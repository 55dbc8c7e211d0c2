"""PASS of stacks: equal to the reference bit for bit, whatever the number of workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest

from bangbench.core.errors import BenchError, UsageError
from bangbench.metrics import opencv_engine
from bangbench.metrics import pass_score as pass_module
from bangbench.metrics.opencv_engine import ssim_stack
from bangbench.metrics.pass_score import PassPool, pass_score, pass_scores_all
from bangbench.metrics.reference import EccStatus, pass_pair_presets, ssim


def _with_failures(pairs):
    """Return the pairs with one constant and one inverted adversarial image among them."""
    adversarial = pairs.adversarial.copy()
    adversarial[1] = 0
    adversarial[2] = 255 - pairs.original[2]
    return adversarial, pairs.original


def _same(first, second):
    return first.keys() == second.keys() and all(
        np.array_equal(a, b) and a.dtype == b.dtype
        for preset in first
        for a, b in zip(first[preset], second[preset], strict=True)
    )


@pytest.mark.parametrize("kind", ["digits", "photos"])
def test_stacks_score_exactly_as_the_reference_does_pair_by_pair(kind, request):
    adversarial, original = _with_failures(request.getfixturevalue(kind))
    scores = pass_scores_all(adversarial, original, workers=1)
    assert list(scores) == ["definition", "paper"]
    for index, pair in enumerate(zip(adversarial, original, strict=True)):
        for preset, expected in pass_pair_presets(*pair).items():
            assert tuple(column[index] for column in scores[preset]) == expected


@pytest.mark.parametrize("tall_pixels", [1, 5000, 2**20])
def test_ssim_of_a_stack_does_not_depend_on_how_it_is_cut(digits, photos, tall_pixels, monkeypatch):
    monkeypatch.setattr(opencv_engine, "_TALL_PIXELS", tall_pixels)
    for pairs in (digits, photos):
        expected = [ssim(*pair) for pair in zip(*pairs, strict=True)]
        assert ssim_stack(*pairs).tolist() == expected


def test_ssim_of_a_stack_takes_the_smallest_and_oblong_images(photos):
    for height, width in ((11, 11), (11, 40), (30, 12)):
        adversarial, original = (stack[:, :, :height, :width] for stack in photos)
        expected = [ssim(*pair) for pair in zip(adversarial, original, strict=True)]
        assert ssim_stack(adversarial, original).tolist() == expected


def test_types_are_those_of_the_record_and_statuses_name_the_failures(digits):
    scores = pass_score(*_with_failures(digits), workers=1)
    assert [column.dtype for column in scores] == [np.float64, np.float64, np.int8]
    assert scores.status[:4].tolist() == [
        EccStatus.ALIGNED,
        EccStatus.NAN,
        EccStatus.UNCORRELATED,
        EccStatus.ALIGNED,
    ]
    assert scores.score[1:3].tolist() == scores.unaligned[1:3].tolist()
    assert (scores.score[3:] != scores.unaligned[3:]).all()


def test_one_preset_scores_as_it_does_beside_the_other(digits):
    both = pass_scores_all(*digits, workers=1)
    for preset in ("definition", "paper"):
        assert _same({preset: pass_score(*digits, preset=preset, workers=1)}, {preset: both[preset]})
    assert _same({"definition": pass_score(*digits)}, {"definition": both["definition"]})


def test_two_workers_and_one_give_the_same_bits_in_the_same_order(digits, photos, monkeypatch):
    monkeypatch.setattr(pass_module, "_IN_PROCESS_VALUES", 0)
    monkeypatch.setattr(pass_module, "_TASK_VALUES", 5 * 28 * 28)
    with PassPool(workers=2) as pool:
        for pairs in (digits, photos):
            adversarial, original = _with_failures(pairs)
            assert _same(pool.score(adversarial, original), pass_scores_all(adversarial, original, workers=1))
        assert pool._executor is not None
    assert pool._executor is None


def test_a_pool_starts_workers_once_the_stacks_it_has_seen_are_worth_it(digits, monkeypatch):
    monkeypatch.setattr(pass_module, "_IN_PROCESS_VALUES", 40 * 28 * 28)
    with PassPool(workers=2) as pool:
        first = pool.score(*digits)
        assert pool._executor is None
        second = pool.score(*digits)
        executor = pool._executor
        assert executor is not None
        third = pool.score(*digits)
        assert pool._executor is executor
    assert _same(first, second) and _same(first, third)


def test_no_pairs_give_empty_scores():
    empty = np.empty((0, 1, 28, 28), np.uint8)
    for scores in pass_scores_all(empty, empty).values():
        assert [column.shape for column in scores] == [(0,)] * 3


def test_memory_order_does_not_matter(photos):
    channels_last = [np.ascontiguousarray(stack.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) for stack in photos]
    assert _same(pass_scores_all(*channels_last, workers=1), pass_scores_all(*photos, workers=1))


def test_opencvs_threads_are_left_as_they_were(digits):
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        pass_score(*digits, workers=1)
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


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


def test_the_modules_that_workers_import_leave_torch_alone():
    check = "import sys, bangbench.metrics.pass_score; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True, timeout=60)


_SCRIPT = """
import sys
import numpy as np
from bangbench.metrics import pass_score

if __name__ == "__main__":
    pass_score._IN_PROCESS_VALUES = 0
    stack = np.random.default_rng(0).integers(0, 256, (2000, 1, 28, 28), np.uint8)
    with pass_score.PassPool(workers=2) as pool:
        if sys.argv[1] == "warm":
            pool.score(stack[:64], stack[:64])
        print("started", flush=True)
        while True:
            pool.score(stack, stack)
"""


@pytest.fixture
def scoring(tmp_path, request):
    """Start a script that scores for ever with two workers, in a process group of its own."""
    script = tmp_path / "score.py"
    script.write_text(_SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(script), request.param],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "started\n"
    yield process
    process.kill()
    process.communicate(timeout=30)


def signal_group(process, number):
    """Signal the process and its workers, as a terminal does."""
    os.killpg(process.pid, number)


# Output ends only when every worker has closed its copy of the pipes: that `communicate` returns proves none is left.


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("scoring", ["cold", "warm"], indirect=True)
def test_ctrl_c_ends_the_workers_without_a_word_from_them(scoring):
    with pytest.raises(subprocess.TimeoutExpired):
        scoring.wait(0.3)
    signal_group(scoring, signal.SIGINT)
    _, errors = scoring.communicate(timeout=30)
    assert errors.count("Traceback (most recent call last)") == 1
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert "Process Spawn" not in errors


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("scoring", ["warm"], indirect=True)
def test_workers_do_not_outlive_a_killed_parent(scoring):
    scoring.send_signal(signal.SIGKILL)
    scoring.communicate(timeout=30)
    assert scoring.returncode == -signal.SIGKILL


def test_a_worker_that_dies_is_an_error_that_says_what_to_do(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import numpy as np\n"
        "from bangbench.core.errors import BenchError\n"
        "from bangbench.metrics import pass_score\n"
        "pass_score._IN_PROCESS_VALUES = 0\n"
        "stack = np.zeros((2, 1, 28, 28), np.uint8)\n"
        "try:\n"
        "    pass_score.pass_score(stack, stack, workers=2)\n"
        "except BenchError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=True)
    assert "a worker process died" in done.stdout
    assert "fewer workers" in done.stdout
