"""A record is an answer only to the question it was asked: the same code, behaviour, version and seed."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from bangbench.attacks import run
from bangbench.attacks.fgs import FgsUnmasked
from bangbench.attacks.run import attack
from bangbench.attacks.spec import AttackSpec
from bangbench.core.errors import BenchError
from bangbench.store.records import AttackRecord, read_record
from bangbench.store.tables import read_table

#: Tells dark from bright images, so sure that a softmax gives exactly 1 and 0, and has no gradient.
SURE = """
import torch
from torch import nn


class Sure(nn.Module):
    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(400.0))

    def forward(self, images):
        mean = images.flatten(1).mean(1)
        logits = self.slope * torch.stack([0.5 - mean, mean - 0.5], 1)
        return logits.softmax(1)
"""

#: The same weights, and noise of its own on every pass, dropout that is never switched off.
NOISY = """
import torch
from torch import nn


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(4.0))

    def forward(self, images):
        mean = nn.functional.dropout(images.flatten(1), 0.5, training=True).mean(1)
        return self.slope * torch.stack([0.5 - mean, mean - 0.5], 1)
"""


@pytest.fixture
def tones(tmp_path):
    """Dark and bright images of 8x8 pixels, too small for PASS, classes 0 and 1."""
    images = np.random.default_rng(0).integers(0, 60, (20, 8, 8)).astype(np.uint8) + 50
    images[1::2] += 90
    labels = np.arange(20) % 2
    path = tmp_path / "tones.npz"
    np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    return f"npz:{path}"


@pytest.fixture
def spec_of(tmp_path, tones):
    """Attack the net in one file, which a test may write anew."""

    def make(text, name, place="here", **settings):
        (tmp_path / "net.py").write_text(text)
        fixed = {
            "model": f"{tmp_path}/net.py:{name}",
            "data": tones,
            "attack": ("fgs-unmasked",),
            "workers": 1,
            "random_weights": True,
        }
        return AttackSpec(root=tmp_path / place, **{**fixed, "device": "cpu", **settings})

    return make


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


EDITS = {
    "its softmax is removed": SURE.replace("return logits.softmax(1)", "return logits"),
    "a comment is added": f"{SURE}# nothing else\n",
}


@pytest.mark.parametrize("edited", EDITS.values(), ids=EDITS)
def test_the_results_of_a_net_whose_code_was_edited_are_no_answer(spec_of, edited):
    (before,) = attack(spec_of(SURE, "Sure"))
    with pytest.raises(BenchError) as caught:
        attack(spec_of(edited, "Sure"))
    assert f"made with other settings (net_code: {sha(SURE)} -> {sha(edited)})" in str(caught.value)
    (after,) = attack(spec_of(edited, "Sure", overwrite=True))
    assert after.model.weights_sha256 == before.model.weights_sha256
    assert after.spec["net_code"] == after.model.code_sha256 == sha(edited)
    masked = "softmax" in edited
    assert (after.model.behaviour == before.model.behaviour) == masked
    assert (before.summary.blank, after.summary.blank) == (100.0, 100.0 if masked else 0.0)
    assert (before.summary.rate, after.summary.rate) == (0.0, 0.0 if masked else 100.0)
    assert attack(spec_of(edited, "Sure")) == [after]


def test_a_source_whose_code_was_edited_makes_another_run(spec_of, tmp_path):
    (tmp_path / "source.py").write_text(SURE)
    settings = {"attack": ("transfer",), "against": f"{tmp_path}/source.py:Sure", "budget": ("0.3",)}
    attack(spec_of(NOISY.replace("training=True", "training=False"), "Noisy", **settings))
    (tmp_path / "source.py").write_text(EDITS["its softmax is removed"])
    with pytest.raises(
        BenchError, match=r"against_identity\.code: .* against_identity\.behaviour: .* against_net_code"
    ):
        attack(spec_of(NOISY.replace("training=True", "training=False"), "Noisy", **settings))


@pytest.mark.parametrize(
    ("owner", "name"), [(FgsUnmasked, "version"), (run, "ENGINE")], ids=["the attack's", "the engine's"]
)
def test_the_results_of_another_version_are_no_answer(spec_of, monkeypatch, owner, name):
    attack(spec_of(SURE, "Sure"))
    before = getattr(owner, name)
    monkeypatch.setattr(owner, name, 99)
    with pytest.raises(BenchError, match=rf"made with other settings \({name.lower()}: {before} -> 99\)"):
        attack(spec_of(SURE, "Sure"))
    (after,) = attack(spec_of(SURE, "Sure", overwrite=True))
    assert after.spec[name.lower()] == 99


def test_the_chunks_of_an_interrupted_run_of_another_version_are_not_used(spec_of, tools, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "CHUNK", 5)
    with pytest.raises(KeyboardInterrupt):
        attack(spec_of(SURE, "Sure"), tools.recorder(9))
    monkeypatch.setattr(FgsUnmasked, "version", 99)
    progress = tools.recorder()
    (record,) = attack(spec_of(SURE, "Sure", overwrite="unfinished"), progress)
    assert progress.stretches == [("Sure fgs-unmasked", 20, 0)]
    assert read_record(tmp_path / "here/results/Sure/fgs-unmasked.json", AttackRecord) == record


def test_overwriting_computes_again_though_nothing_is_different(spec_of, monkeypatch):
    (first,) = attack(spec_of(SURE, "Sure"))
    computed, compute = [], run.attack_chunk
    monkeypatch.setattr(run, "attack_chunk", lambda *given: computed.append(given) or compute(*given))
    assert attack(spec_of(SURE, "Sure")) == [first]
    assert not computed
    (again,) = attack(spec_of(SURE, "Sure", overwrite=True))
    assert computed
    assert again.key == first.key


RANDOM = ("fgs-unmasked", "hc1", "pgd", "apgd-ce", "square", "uniform-noise")


def test_a_net_that_draws_noise_on_every_pass_gives_the_same_rows_with_the_same_seed_and_others_with_another(
    spec_of, tmp_path
):
    common = {"attack": RANDOM, "budget": ("0.1", "0.2"), "option": ("iterations=10", "queries=50")}
    for place, seed in (("one", 1), ("two", 1), ("three", 2)):
        records = attack(spec_of(NOISY, "Noisy", place, seed=seed, **common))
        assert [record.model.behaviour for record in records] == ["random"] * len(RANDOM)
        assert {record.spec["seed"] for record in records} == {seed}
    for name in RANDOM:
        one, two, three = (
            read_table(tmp_path / f"{place}/results/Noisy/{name}.parquet") for place in ("one", "two", "three")
        )
        assert one.equals(two)
        assert not one.equals(three)
        assert any(one["flipped"].to_pylist()) or name == "uniform-noise"
