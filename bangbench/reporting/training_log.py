"""The course of a model's training, read from models/NAME/log.csv."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from bangbench.core.errors import BenchError
from bangbench.store.layout import LOG, model_folder

_FIELDS = ("iteration", "loss", "rate", "training_accuracy", "test_accuracy")


class TrainingLog(NamedTuple):
    """One entry per stage: iteration, mean loss since the stage before, learning rate, accuracies in percent."""

    iteration: tuple[float, ...]
    loss: tuple[float, ...]
    rate: tuple[float, ...]
    training_accuracy: tuple[float, ...]
    test_accuracy: tuple[float, ...]


def read_training_log(root: Path, name: str) -> TrainingLog | None:
    """Return the log of a model trained under `root`, or None where there is none; `BenchError` for a damaged one."""
    path = model_folder(root, name) / LOG
    if not path.is_file():
        return None
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            lines = list(csv.DictReader(stream))
        return TrainingLog(*(tuple(float(line[field]) for line in lines) for field in _FIELDS))
    except (KeyError, TypeError, ValueError, OSError, csv.Error) as error:
        raise BenchError(f"{path}: not a training log ({error!r}); train the model again to have its curves") from error
