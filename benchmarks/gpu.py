"""`python -m benchmarks.gpu [--device cuda] [--quick] [--out FILE]`: what one card does in a second, as one JSON file.

Steps of training in a plain loop as tutorials have it and in bangbench, several models at once on one card, attacks,
PASS, and noise. Everything runs on a processor too: `--quick --device cpu` is how the script itself is tested.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from bangbench.attacks.run import attack
from bangbench.attacks.spec import AttackSpec
from bangbench.core.device import choose_device, describe_device
from bangbench.core.executor import Job, Needs, run_jobs
from bangbench.core.executor_choice import visible_cards
from bangbench.core.executor_local import LocalExecutor
from bangbench.core.progress import SILENT
from bangbench.core.provenance import collect_provenance
from bangbench.data.dataset import Dataset
from bangbench.data.sources import open_source
from bangbench.metrics.pass_score import pass_scores_all
from bangbench.nets.catalogue import build_net, net_definition
from bangbench.nets.classifier import Classifier
from bangbench.nets.predict import batch_size_for, to_device
from bangbench.noise.count import Images, Noise, count_flips
from bangbench.store.files import write_json
from bangbench.store.records import ModelCard
from bangbench.training.run import train
from bangbench.training.spec import TrainSpec
from benchmarks.inputs import colour_images, grey_images


class Size(NamedTuple):
    """How much of everything is done."""

    steps: int
    models: tuple[int, ...]
    images: int
    draws: int
    noisy: int


FULL = Size(steps=2000, models=(1, 8, 16), images=10_000, draws=1000, noisy=200)
QUICK = Size(steps=2, models=(2,), images=20, draws=5, noisy=4)


class Row(NamedTuple):
    """One measurement: how much was done in how many seconds."""

    name: str
    amount: int
    unit: str
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Return the row with its rate."""
        return self._asdict() | {"per_second": self.amount / self.seconds}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print one line a row, and write the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu")
    parser.add_argument("--quick", action="store_true", help="as little as possible: does the script run?")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="the file (default: gpu.json)")
    options = parser.parse_args(arguments)
    device = choose_device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(device, QUICK if options.quick else FULL, Path(folder))
    where = describe_device(device)
    found = {"schema": 1, "device": where, "rows": [row.as_json() for row in rows]}
    write_json(options.out, found | {"provenance": json.loads(collect_provenance(where).model_dump_json())})


def measure(device: torch.device, size: Size, folder: Path) -> list[Row]:
    """Return all rows; every kind of work is done once before it is timed."""
    name, grey = ("digits", open_source("digits", None).load("train")) if size == QUICK else grey_images()
    rows: list[Row] = []
    for net, data, text in (("lenet", grey, name), ("cifar10-quick", colour_images(2000), "")):
        rows += _loops(net, data, device, size)
        if text:
            rows += _trainings(net, text, device, size, folder)
    rows += _attacks(name, device, size, folder)
    rows += [_noise(grey, device, size), _pass(grey, device, size)]
    for row in rows:
        print(f"{row.name}: {row.amount / row.seconds:,.0f} {row.unit}/s")  # noqa: T201
    return rows


def _timed(work: Callable[[], object], device: torch.device) -> float:
    work()
    _wait(device)
    begin = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - begin


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _loops(net: str, data: Dataset, device: torch.device, size: Size) -> list[Row]:
    """Return steps a second of a loop as tutorials write it, images on the device already."""
    definition = net_definition(net)
    batch = definition.solver.batch_size
    built = build_net(definition, data.images.shape[1:], 10, 0).to(device)
    pixels = to_device(data.images, device).float() / 255.0
    labels = to_device(data.labels, device)
    optimizer = torch.optim.SGD(built.parameters(), lr=0.01, momentum=0.9)

    def loop() -> None:
        for step in range(size.steps):
            first = step * batch % (len(labels) - batch + 1)
            optimizer.zero_grad()
            logits = built(pixels[first : first + batch])
            torch.nn.functional.cross_entropy(logits, labels[first : first + batch]).backward()
            optimizer.step()

    return [Row(f"{net}: plain loop", size.steps, "steps", _timed(loop, device))]


def _trainings(net: str, data: str, device: torch.device, size: Size, folder: Path) -> list[Row]:
    """Return steps a second of bangbench, and of several models at once in processes of their own."""
    rows = []
    for method in ("regular", "bang"):
        card = train(_spec(f"{method}-alone", net, data, method, device, size, folder))
        rows.append(Row(f"{net}: bangbench, {method}", size.steps, "steps", card.seconds or 0.0))
    cards = visible_cards() if device.type == "cuda" else ()
    for count in size.models:
        names = [f"at-once-{count}-{place}" for place in range(count)]
        specs = [_spec(name, net, data, "regular", device, size, folder) for name in names]
        executor = LocalExecutor(count, Needs(gpus=1 / count if cards else 0.0), cards[:1])
        begin = time.perf_counter()
        run_jobs([Job(spec.name, _train, spec) for spec in specs], executor, "", SILENT)
        seconds = time.perf_counter() - begin
        label = f"{net}: {count} models at once, start of processes included"
        rows.append(Row(label, count * size.steps, "steps", seconds))
    return rows


def _train(spec: TrainSpec, progress: object) -> ModelCard:
    return train(spec)


def _spec(name: str, net: str, data: str, method: str, device: torch.device, size: Size, folder: Path) -> TrainSpec:
    steps = {"iterations": size.steps, "stages": size.steps}
    return TrainSpec(name=name, net=net, data=data, method=method, root=folder, device=str(device), **steps)


def _attacks(data: str, device: torch.device, size: Size, folder: Path) -> list[Row]:
    rows = []
    images = min(size.images, len(open_source(data, None).load("test").labels))
    for name in ("fgs", "hc1"):
        usual = {"model": "regular-alone", "attack": (name,), "device": str(device), "root": folder, "limit": images}
        begin = time.perf_counter()
        attack(AttackSpec(**usual))
        rows.append(Row(f"{name}, PASS included", images, "images", time.perf_counter() - begin))
    return rows


def _noise(data: Dataset, device: torch.device, size: Size) -> Row:
    definition = net_definition("lenet")
    net = build_net(definition, data.images.shape[1:], 10, 0)
    classifier = Classifier(net, definition.preprocessing, None, definition.channels_last).to(device).eval()
    chosen = np.arange(size.noisy)
    images = Images(to_device(data.images[chosen], device), to_device(data.labels[chosen], device), chosen)
    noise = Noise((20.0, 40.0, 60.0, 80.0, 100.0), size.draws, 0, clip=True)
    count = size.noisy * size.draws * len(noise.sigmas)
    seconds = _timed(lambda: count_flips([classifier], images, noise, batch_size_for(device)), device)
    return Row("noise: LeNet, five levels", count, "forward passes", seconds)


def _pass(data: Dataset, device: torch.device, size: Size) -> Row:
    originals = data.images[: size.images]
    random = np.random.default_rng(0)
    moved = np.clip(originals.astype(np.int64) + random.integers(-20, 21, originals.shape), 0, 255).astype(np.uint8)
    seconds = _timed(lambda: pass_scores_all(moved, originals, device=device), device)
    return Row("PASS, both presets", len(originals), "pairs", seconds)


if __name__ == "__main__":
    main()
