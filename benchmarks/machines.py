"""`python -m benchmarks.machines`: what is the same bits on other CPUs, and how far the rest moves.

Computes everything in a process of its own for each setting of `SETTINGS`, which make one CPU compute as others do, and
compares each with the first. The authors' nets are read from BANGBENCH_DATA/authors, MNIST from BANGBENCH_DATA.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from bangbench.attacks.base import Means, make_attack
from bangbench.attacks.judged import run_attack
from bangbench.core.provenance import collect_provenance
from bangbench.data.sources import data_directory, open_source
from bangbench.metrics.pass_score import pass_score
from bangbench.nets.gradients import image_gradient, loss_vanishes, unmasked_margin
from bangbench.nets.models import open_model
from bangbench.nets.predict import logits_of
from bangbench.noise.count import Images, Noise, count_flips
from bangbench.store.files import write_json
from bangbench.training.run import train
from bangbench.training.spec import TrainSpec

#: What a process is told, by what it then computes with.
SETTINGS: dict[str, dict[str, str]] = {
    "as the machine is": {},
    "AVX2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "NUMBA_CPU_NAME": "generic",
    },
    "SSE": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "NUMBA_CPU_NAME": "generic",
    },
}
#: (attack, budget in grey levels or None, images).
_ATTACKS = (
    *(("fgs", None, 10_000), ("fgs-unmasked", None, 1000), ("hc1", None, 500), ("hc1-unmasked", None, 500)),
    *(("pgd", 51, 500), ("apgd", 51, 500), ("square", 51, 500)),
)
_MODELS = ("lenet", "lenet_bang")
_BATCHES = (1, 64, 500)


def main() -> None:
    """Run every setting, compare, print, and write the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.machines")
    parser.add_argument("--out", type=Path, default=None, help="write the comparison to this JSON file")
    parser.add_argument("--measure", type=Path, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        torch.set_num_threads(1)
        np.savez(arguments.measure, **measure())
        return
    found = {name: _in_a_process(changes) for name, changes in SETTINGS.items()}
    first = found["as the machine is"]
    result = {name: compared(first, other) for name, other in found.items()}
    Console(width=120).print_json(json.dumps(result))
    if arguments.out is not None:
        write_json(
            arguments.out,
            {
                "schema": 1,
                "provenance": collect_provenance("cpu").model_dump(mode="json"),
                "settings": SETTINGS,
                "result": result,
            },
        )


def _in_a_process(changes: dict[str, str]) -> dict[str, NDArray[Any]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.npz"
        command = [sys.executable, "-m", "benchmarks.machines", "--measure", str(path)]
        subprocess.run(command, check=True, env={**os.environ, **changes})
        with np.load(path) as archive:
            return dict(archive)


def measure() -> dict[str, NDArray[Any]]:
    """Return everything that is compared, by name."""
    found: dict[str, NDArray[Any]] = {}
    data = open_source("mnist", None).load("test")
    for name in _MODELS:
        path = data_directory(None) / "authors" / f"{name}.caffemodel.h5"
        classifier = open_model(str(path), Path(), torch.device("cpu")).classifier
        images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
        logits = logits_of(classifier, images)
        right = logits.argmax(1) == labels
        found[f"{name}: logits"] = logits.numpy()
        found[f"{name}: blank images"] = loss_vanishes(logits, labels)[right].numpy()
        images, labels = images[right].float(), labels[right]
        found |= {
            f"{name}: {what}": value for what, value in _gradients(classifier, images[:500], labels[:500]).items()
        }
        for attack, budget, count in _ATTACKS:
            found |= {
                f"{name}: {what}": value
                for what, value in _attack(classifier, attack, budget, images[:count], labels[:count]).items()
            }
        some = Images(images[:50].to(torch.uint8), labels[:50], np.arange(50))
        counts = count_flips([classifier], some, Noise((60.0, 100.0), 100, 0, True), 256)
        found[f"{name}: flipped noisy copies of 10,000"] = np.asarray(counts.flipped)
    return found | _trained()


def _gradients(classifier: Any, images: torch.Tensor, labels: torch.Tensor) -> dict[str, NDArray[Any]]:
    """Return image gradients, and how many rows of logits or gradients have other bits in other batches."""
    found: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    for size in _BATCHES:
        parts = [
            image_gradient(classifier, some, lambda logits, own=own: unmasked_margin(logits, own))  # type: ignore[misc]
            for some, own in zip(images.split(size), labels.split(size), strict=True)
        ]
        found[size] = (torch.cat([part[0] for part in parts]).flatten(1), torch.cat([part[1] for part in parts]))
    moved = [
        int(
            torch.stack([(one != other).any(1) for one, other in zip(found[size], found[500], strict=True)])
            .any(0)
            .sum()
        )
        for size in _BATCHES
    ]
    return {"image gradients": found[500][0].numpy(), "rows moved in batches of 1, 64, 500": np.array(moved)}


def _attack(
    classifier: Any, name: str, budget: int | None, images: torch.Tensor, labels: torch.Tensor
) -> dict[str, NDArray[Any]]:
    means = Means(torch.Generator().manual_seed(0), 256)
    budgets = () if budget is None else (budget,)
    judged = run_attack(make_attack(name), name, classifier, images, labels, means, 0, budgets)
    adversarial = judged.flips.adversarial
    found = {f"{name} flipped": judged.flipped.numpy(), f"{name} adversarial images": adversarial.numpy()}
    if name == "fgs-unmasked":
        scores = pass_score(adversarial[:200].numpy(), images[:200].to(torch.uint8).numpy())
        found["PASS of 200 pairs"] = scores.score
    return found


def _trained() -> dict[str, NDArray[Any]]:
    """Return the weights of short trainings, as a hash and as numbers."""
    found: dict[str, NDArray[Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for method in ("regular", "bang"):
            train(TrainSpec(name=method, root=Path(folder), method=method, iterations=300, device="cpu"))
            content = (Path(folder) / "models" / method / "weights.safetensors").read_bytes()
            found[f"weights after 300 steps, {method}"] = np.frombuffer(hashlib.sha256(content).digest(), np.uint8)
    return found


def compared(first: dict[str, NDArray[Any]], other: dict[str, NDArray[Any]]) -> dict[str, dict[str, Any]]:
    """Return for each quantity whether it is the same bits, and what differs where it is not."""
    return {name: _difference(first[name], other[name]) for name in first}


def _difference(first: NDArray[Any], other: NDArray[Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"equal": bool(np.array_equal(first, other, equal_nan=first.dtype.kind == "f"))}
    if first.dtype == np.bool_:
        row |= {"count": int(other.sum()), "of": len(other), "differing": int((first != other).sum())}
    elif first.dtype.kind == "f" and not row["equal"]:
        row["largest difference, share of the largest"] = float(np.abs(first - other).max() / np.abs(first).max())
    elif first.ndim == 4 and not row["equal"]:
        row["images that differ"] = int((first != other).reshape(len(first), -1).any(1).sum())
    elif first.dtype.kind == "i":
        row["values"] = other.tolist()
    return row


if __name__ == "__main__":
    main()
