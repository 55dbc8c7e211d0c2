"""A net that answers the same image differently is judged by what it answers on average, not by one lucky pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bangbench.attacks.expected import expected, expected_answers
from bangbench.attacks.run import attack
from bangbench.attacks.spec import AttackSpec
from bangbench.nets.classifier import Classifier
from bangbench.store.records import Preprocessing
from bangbench.store.tables import read_table

NETS = '''
import torch
from torch import nn


class Bright(nn.Module):
    """Class 1 where the image is bright; with noise on its brightness."""

    noise = 0.0

    def forward(self, images):
        mean = images.flatten(1).mean(1)
        mean = mean + self.noise * torch.randn_like(mean)
        return torch.stack([0.5 - mean, mean - 0.5], 1)


class Wavering(Bright):
    noise = 0.1
'''


@pytest.fixture
def spec(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    images = np.random.default_rng(0).integers(0, 60, (24, 12, 12)).astype(np.uint8)
    images[1::2] += 150
    labels = np.arange(24) % 2
    np.savez(tmp_path / "tones.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)

    def make(name, root, **settings):
        fixed = {"attack": ("fgs",), "data": f"npz:{tmp_path}/tones.npz", "device": "cpu", "workers": 1}
        model = f"{tmp_path}/nets.py:{name}"
        return AttackSpec(model=model, root=tmp_path / root, random_weights=True, **{**fixed, **settings})

    return make


def rows_of(spec, name="fgs"):
    return read_table(spec.root / f"results/{spec.model.rpartition(':')[2]}/{name}.parquet").to_pandas()


def test_a_flip_is_one_of_the_expected_prediction(spec):
    wavering = spec("Wavering", "random")
    (record,) = attack(wavering)
    rows, flipped = rows_of(wavering), rows_of(wavering)["flipped"]
    assert (record.spec["passes"], record.spec["judging_passes"]) == (8, 32)
    assert flipped.any()
    # on the way to the boundary a single pass flips long before half of them do
    assert (rows["flipped_share"][flipped] >= 0.4).all()
    assert (rows["flipped_share"][flipped] < 1.0).any()
    assert rows["flipped_share"][~flipped].isna().all()


def test_what_was_drawn_before_changes_nothing(spec):
    found = []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            again = spec("Wavering", f"after {seed}", attack=("hc1", "pgd"), budget=("0.6",))
            attack(again)
            found.append([rows_of(again, name) for name in ("hc1", "pgd")])
    for first, second in zip(*found, strict=True):
        assert first.equals(second)


def test_a_net_that_is_not_random_has_no_share(spec):
    steady = spec("Bright", "steady")
    (record,) = attack(steady)
    assert "passes" not in record.spec
    assert "flipped_share" not in rows_of(steady)


class Coin(torch.nn.Module):
    """Class 0 in three passes of four, by a margin; class 1 in the fourth."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        heads = torch.rand(len(images), 1) < 0.75
        return torch.where(heads, torch.tensor([[1.0, -1.0]]), torch.tensor([[-1.0, 1.0]]))


def test_the_share_is_that_of_the_passes():
    classifier, images = Classifier(Coin(), Preprocessing(input_scale=1.0)).eval(), torch.zeros(200, 1, 2, 2)
    averaged = expected(classifier, images, seed=0, batch_size=64)
    assert averaged.draws > 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        predictions, share = expected_answers(averaged, images, torch.zeros(200, dtype=torch.int64), 64)
    assert share is not None
    assert float(share.mean()) == pytest.approx(0.25, abs=0.02)
    # of 32 passes with a quarter against it, 16 or more are against it once in a thousand images
    assert int(predictions.sum()) <= 2
