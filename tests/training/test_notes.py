"""What a training has to say about its net: samples coupled by batch statistics, and an accuracy that does not last."""

from __future__ import annotations

import json

import pytest

from bangbench.core.progress import Silent
from bangbench.training.loop import gap_notes
from bangbench.training.run import train
from bangbench.training.snapshot import LogRow

NET = """
from torch import nn


class Frozen(nn.BatchNorm2d):
    def train(self, mode=True):
        return super().train(False)


def make(normalise):
    return nn.Sequential(nn.Conv2d(1, 4, 5, stride=3), normalise, nn.ReLU(), nn.Flatten(), nn.Linear(256, 10))


def batch():
    return make(nn.BatchNorm2d(4))


def frozen():
    return make(Frozen(4))


def group():
    return make(nn.GroupNorm(2, 4))
"""


class Notes(Silent):
    def __init__(self):
        self.texts = []

    def note(self, text):
        self.texts.append(text)


@pytest.mark.parametrize(
    ("net", "method", "coupled"),
    [("batch", "bang", True), ("batch", "regular", False), ("frozen", "bang", False), ("group", "bang", False)],
)
def test_bang_on_batch_statistics_is_warned_of_and_the_card_says_so(spec_of, tmp_path, net, method, coupled):
    (tmp_path / "nets.py").write_text(NET)
    progress = Notes()
    card = train(spec_of(net=f"{tmp_path / 'nets.py'}:{net}", method=method, iterations=2), progress)
    said = [text for text in progress.texts if "statistics of the batch" in text]
    assert len(said) == coupled
    assert [text for text in card.notes if "statistics of the batch" in text] == said
    assert all("but 1 normalises" in text for text in said)  # the layer's name
    written = json.loads((tmp_path / "models/T/model.json").read_text())
    assert written["notes"] == list(card.notes)


@pytest.mark.parametrize(("training", "test", "count"), [(99.0, 9.9, 1), (99.0, 89.0, 0), (60.0, 95.0, 0)])
def test_an_accuracy_that_is_lost_outside_training_is_noted(training, test, count):
    log = [LogRow(1, 1.0, 0.1, 99.0, 9.0, 1.0), LogRow(2, 1.0, 0.1, training, test, 2.0)]
    notes = gap_notes(log)
    assert len(notes) == count
    assert all(f"{training:.1f} %" in note and f"{test:.1f} %" in note for note in notes)


def test_the_gap_is_told_at_the_end_and_kept(spec_of):
    progress = Notes()
    card = train(spec_of(train_images=16, iterations=60, stages=60, learning_rate=0.05), progress)
    assert card.train_accuracy > card.accuracy + 10.0
    assert (
        list(card.notes) == progress.texts == list(gap_notes([LogRow(60, 0, 0, card.train_accuracy, card.accuracy, 0)]))
    )
