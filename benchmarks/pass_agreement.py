"""`python -m benchmarks.pass_agreement`: PASS by the compiled engine against OpenCV and scikit-image on real pairs.

ECC does not converge on every pair: where it wanders until its 50 iterations are up, rounding errors grow until the
scores of two builds have nothing to do with each other. So OpenCV is also compared with itself, its own vector
instructions switched off: that share of pairs no other implementation can be expected to agree on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bangbench.attacks.base import Means, make_attack
from bangbench.core.provenance import collect_provenance
from bangbench.data.sources import open_source
from bangbench.metrics import on_device
from bangbench.metrics.pass_score import pass_scores_all
from bangbench.metrics.reference import PRESETS, PresetName
from bangbench.nets.models import open_model
from bangbench.nets.predict import predict
from bangbench.store.files import write_json
from benchmarks.inputs import CPU
from benchmarks.pass_scores import Stack, loop

#: Scores closer than this agree.
_TOLERANCE = 1e-3
_PRESETS = tuple(PRESETS)
#: Models and the data they are attacked on.
_CASES = (
    ("table1/R0", "mnist"),
    ("table1/B1", "mnist"),
    ("table2/R0", "folder:cifar10-jpeg.zip"),
    ("table2/B0", "folder:cifar10-jpeg.zip"),
)

Scored = dict[PresetName, tuple[NDArray[np.float64], NDArray[np.int8]]]


class Agreement(NamedTuple):
    """Percent of `pairs` whose statuses are equal and whose scores are within the tolerance.

    itself: OpenCV against OpenCV without vector instructions; of_stable: ours among the pairs where those two agree;
    batched: the engine for GPUs, on the CPU, against the compiled one; largest: the largest difference there is.
    """

    case: str
    preset: PresetName
    pairs: int
    status: float
    within: float
    of_stable: float
    itself: float
    batched: float
    largest: float
    mean: float
    mean_opencv: float


def main() -> None:
    """Attack, score four times, and print how many scores agree."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.pass_agreement")
    parser.add_argument("--root", type=Path, default=Path(), help="directory that holds models/")
    parser.add_argument("--data-dir", type=Path, default=None, help="directory of MNIST and cifar10-jpeg.zip")
    parser.add_argument("--limit", type=int, default=900, help="test images to attack per model")
    parser.add_argument("--out", type=Path, default=None, help="write the numbers to this JSON file")
    arguments = parser.parse_args()
    rows: list[Agreement] = []
    for model, data in _CASES:
        for attack in ("fgs", "hc1"):
            pair = adversarial_pairs(arguments.root, arguments.data_dir, model, data, attack, arguments.limit)
            if len(pair[1]):  # few images may all withstand an attack
                rows += compare_engines(f"{model} {attack}", *pair)
    Console(width=150).print(_table(rows))
    if arguments.out is not None:
        provenance = collect_provenance("cpu").model_dump(mode="json")
        content = {"schema": 1, "tolerance": _TOLERANCE, "limit": arguments.limit, "provenance": provenance}
        write_json(arguments.out, content | {"rows": [row._asdict() for row in rows]})


def adversarial_pairs(
    root: Path, data_dir: Path | None, model: str, data: str, attack: str, limit: int
) -> tuple[Stack, Stack]:
    """Return the adversarial images of an attack, and the originals, of the first `limit` test images."""
    classifier = open_model(model, root, CPU, data_dir, data).classifier
    test = open_source(data, data_dir).load("test").first(limit)
    images, labels = torch.from_numpy(test.images).float(), torch.from_numpy(test.labels)
    right = predict(classifier, images) == labels
    flips = make_attack(attack).run(classifier, images[right], labels[right], Means(torch.Generator(), 250))
    return flips.adversarial[flips.found].numpy(), test.images[right.numpy()][flips.found.numpy()]


def compare_engines(case: str, adversarial: Stack, original: Stack) -> list[Agreement]:
    """Return how far the engines agree on the pairs, a row per preset."""
    opencv = _by_opencv(adversarial, original)
    cv2.setUseOptimized(False)
    plain = _by_opencv(adversarial, original)
    cv2.setUseOptimized(True)
    ours = pass_scores_all(adversarial, original)
    batched = on_device.score_pairs(adversarial, original, _PRESETS, CPU)
    rows = []
    for preset in _PRESETS:
        (score, status), (again, _) = opencv[preset], plain[preset]
        near = np.abs(ours[preset].score - score) <= _TOLERANCE
        stable = np.abs(again - score) <= _TOLERANCE
        rows.append(
            Agreement(
                case,
                preset,
                len(original),
                _percent(ours[preset].status == status),
                _percent(near),
                _percent(near[stable]),
                _percent(stable),
                _percent(np.abs(batched[preset].score - ours[preset].score) <= _TOLERANCE),
                float(np.abs(ours[preset].score - score).max()),
                float(ours[preset].score.mean()),
                float(score.mean()),
            )
        )
    return rows


def _by_opencv(adversarial: Stack, original: Stack) -> Scored:
    pairs = loop(adversarial, original)
    return {
        preset: (
            np.array([pair[preset].score for pair in pairs]),
            np.array([pair[preset].status for pair in pairs], dtype=np.int8),
        )
        for preset in _PRESETS
    }


def _percent(flags: NDArray[np.bool_]) -> float:
    return 100.0 * float(flags.mean())


def _table(rows: list[Agreement]) -> Table:
    pairs = sum(row.pairs for row in rows) // len(_PRESETS)
    table = Table(
        title=f"PASS of {pairs:,} pairs against OpenCV {cv2.__version__} and scikit-image: percent that agree",
        caption=f"scores agree within {_TOLERANCE}; stable: the pairs on which OpenCV agrees with itself when its "
        "vector instructions are switched off",
    )
    table.add_column("pairs of")
    table.add_column("preset")
    for header in ("pairs", "status", "score", "score, stable", "OpenCV itself", "batched", "mean (OpenCV)"):
        table.add_column(header, justify="right")
    for row in rows:
        shares = (row.status, row.within, row.of_stable, row.itself, row.batched)
        means = f"{row.mean:.4f} ({row.mean_opencv:.4f})"
        table.add_row(row.case, row.preset, f"{row.pairs:,}", *(f"{share:.2f}" for share in shares), means)
    return table


if __name__ == "__main__":
    main()
