"""PASS of many pairs against the loop a user would write with OpenCV and scikit-image, in one process and in many."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from bangbench.attacks.fgs import FgsUnmasked
from bangbench.core.device import available_cores, cpu_threads
from bangbench.metrics.pass_score import pass_scores_all
from bangbench.metrics.reference import PairScore, PresetName, pass_pair_presets
from benchmarks.compare import Comparison, Row, Work, compare, with_peer
from benchmarks.inputs import subject

_PAIRS, _RUNS = 200, 5
_LIMIT_LOOP, _LIMIT_PROCESSES = 5.0, 3.0

Stack = NDArray[np.uint8]
Scores = list[dict[PresetName, PairScore]]


def comparisons() -> list[Row]:
    """Compare both presets on all cores; the scores of bangbench and of the loop are held against each other first."""
    name, adversarial, original = fgs_pairs(_PAIRS)
    operation = f"PASS, both presets, {len(original)} FGS pairs, {name}"
    note = difference(adversarial, original)

    def own() -> object:
        return pass_scores_all(adversarial, original)

    def beside(peer: str, work: Work, limit: float) -> list[Comparison]:
        return [compare(operation, own, peer, work, _RUNS, at_least=limit, note=note)]

    def beside_processes() -> list[Comparison]:
        from joblib.externals.loky import get_reusable_executor

        cores = available_cores()
        try:
            work = processes(adversarial, original, cores)
            return beside(f"the same loop by joblib, {cores} processes", work, _LIMIT_PROCESSES)
        finally:
            get_reusable_executor().shutdown(wait=True)

    rows: list[Row] = list(beside("loop, one process", lambda: loop(adversarial, original), _LIMIT_LOOP))
    return rows + with_peer("joblib", operation, beside_processes)


def fgs_pairs(count: int) -> tuple[str, Stack, Stack]:
    """Return adversarial and original images uint8 (N, 1, 28, 28) of the attack that flips nearly all."""
    name, classifier, images, labels = subject(count)
    with cpu_threads(None):
        attack = FgsUnmasked()
        flips = attack.along(classifier, images, labels, attack.directions(classifier, images, labels, count))
    original = images[flips.found].to(flips.adversarial.dtype)
    return name, flips.adversarial[flips.found].numpy(), original.numpy()


def loop(adversarial: Stack, original: Stack) -> Scores:
    """Return the scores pair by pair; OpenCV is faster on one thread where images are small."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return [pass_pair_presets(*pair) for pair in zip(adversarial, original, strict=True)]
    finally:
        cv2.setNumThreads(before)


def processes(adversarial: Stack, original: Stack, cores: int) -> Work:
    """Return the loop over processes that stay alive between runs, four parts each."""
    from joblib import Parallel, delayed

    parallel = Parallel(n_jobs=cores)
    parts = list(zip(np.array_split(adversarial, 4 * cores), np.array_split(original, 4 * cores), strict=True))
    return lambda: parallel(delayed(loop)(*part) for part in parts)


def difference(adversarial: Stack, original: Stack) -> str:
    """Say how far the scores of bangbench and of the loop are apart."""
    found, expected = pass_scores_all(adversarial, original), loop(adversarial, original)
    scores = [np.abs(found[preset].score - [pair[preset].score for pair in expected]).max() for preset in found]
    status = sum(int((found[preset].status != [pair[preset].status for pair in expected]).sum()) for preset in found)
    return f"scores differ by at most {max(scores):.1e}, the alignment's status in {status} pairs"
