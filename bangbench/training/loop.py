"""The training loop: one screen, read top to bottom."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from bangbench.core.errors import BenchError
from bangbench.core.progress import Progress
from bangbench.nets.classifier import Classifier
from bangbench.nets.predict import accuracy_percent
from bangbench.nets.weights import save_state
from bangbench.store.files import write_text
from bangbench.store.layout import LOG, RESUME, stage_file
from bangbench.training.batches import Batches
from bangbench.training.memory import keep_freed_memory
from bangbench.training.methods.base import Method
from bangbench.training.snapshot import LogRow, Snapshot, save_snapshot
from bangbench.training.solver import Solver

#: Test images in a forward pass for each image of a training batch, which takes the memory of a backward pass, too.
_EVALUATED_AT_ONCE = 4
#: Points by which the accuracy in training may exceed that on the test images without a word.
_GAP = 10.0


class Run(NamedTuple):
    """Everything a training needs; `test` is images uint8 (N, C, H, W) and labels (N,) on the device."""

    key: str
    folder: Path
    device: torch.device
    classifier: Classifier
    method: Method
    solver: Solver
    rate: Callable[[int], float]
    batches: Batches
    test: tuple[Tensor, Tensor]
    iterations: int
    stages: int


class Meter:
    """Sums of loss and of correct samples, kept on the device: reading them every step would make the device wait."""

    def __init__(self, device: torch.device) -> None:
        self._loss = torch.zeros((), device=device)
        self._correct = torch.zeros((), dtype=torch.int64, device=device)
        self._samples = self._steps = 0

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Count one batch."""
        self._loss += loss.detach()
        self._correct += (logits.detach().argmax(1) == labels).sum()
        self._samples += len(labels)
        self._steps += 1

    def read(self) -> tuple[float, float]:
        """Return mean loss and accuracy (percent) since the last reading, and begin anew."""
        result = float(self._loss) / self._steps, 100.0 * int(self._correct) / self._samples
        self._loss.zero_()
        self._correct.zero_()
        self._samples = self._steps = 0
        return result


def train_steps(run: Run, begin: int, log: list[LogRow], progress: Progress) -> list[LogRow]:
    """Train from iteration `begin` to the end; at every stage keep a snapshot and extend the log."""
    meter, started, earlier = Meter(run.device), time.perf_counter(), log[-1].seconds if log else 0.0
    run.classifier.train()
    for warning in run.method.warnings(run.classifier):
        progress.note(warning)
    keep_freed_memory()
    for iteration in range(begin, run.iterations):
        train_step(run, iteration, meter)
        progress.advance()
        done = iteration + 1
        if done % run.stages == 0 or done == run.iterations:
            loss, accuracy = meter.read()
            if not (math.isfinite(loss) and weights_are_finite(run.classifier)):
                raise BenchError(f"training diverged before iteration {done} (loss {loss}); lower the learning rate")
            test_accuracy = accuracy_percent(run.classifier, *run.test, _EVALUATED_AT_ONCE * run.batches.size)
            seconds = earlier + time.perf_counter() - started
            log.append(LogRow(done, loss, run.rate(iteration), accuracy, test_accuracy, seconds))
            keep_stage(run, done, log)
    for note in gap_notes(log):
        progress.note(note)
    return log


def gap_notes(log: list[LogRow]) -> tuple[str, ...]:
    """Return a note where the last stage's batches were answered far better in training than test images are."""
    last = log[-1]
    if last.training_accuracy - last.test_accuracy <= _GAP:
        return ()
    return (
        f"accuracy {last.training_accuracy:.1f} % on the last batches of training, in training mode, but "
        f"{last.test_accuracy:.1f} % on the test images: the net has learned its training images by heart, or answers "
        "otherwise outside training mode, as one on batch statistics does",
    )


def train_step(run: Run, iteration: int, meter: Meter) -> None:
    """Do one step: read a batch, forward, backward, update, count; nothing of it waits for the device."""
    images, labels = run.batches.at(iteration)
    run.method.begin_step(iteration)
    objective = run.method.objective(run.classifier, images, labels)
    objective.loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    run.method.after_backward(run.classifier)
    run.solver.step(run.rate(iteration), run.method.gradient_scale)
    run.solver.clear_gradients()
    counted = labels if objective.labels is None else objective.labels
    meter.add(objective.loss, objective.logits, counted)


def weights_are_finite(classifier: Classifier) -> bool:
    """Return whether no weight is NaN or infinite: the last step of a stage shows in no loss of that stage."""
    return all(bool(value.isfinite().all()) for value in classifier.parameters())


def keep_stage(run: Run, iteration: int, log: list[LogRow]) -> None:
    """Write the stage's weights, the log, and last the snapshot from which an interrupted run goes on."""
    net = run.classifier.net.state_dict()
    save_state(stage_file(run.folder, iteration), net)
    write_text(run.folder / LOG, log_text(log))
    snapshot = Snapshot(iteration, net, run.solver.state(), run.method.state(), log)
    save_snapshot(run.folder / RESUME, run.key, snapshot, run.device)


def log_text(log: list[LogRow]) -> str:
    """Return log.csv: one line per stage."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(LogRow._fields)
    writer.writerows(log)
    return stream.getvalue()
