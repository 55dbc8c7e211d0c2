"""Interrupted and repeated runs: the same bytes, no work twice, nothing lost to other settings."""

from __future__ import annotations

import numpy as np
import pytest

from bangbench.attacks import run
from bangbench.attacks.run import attack
from bangbench.attacks.spec import AttackSpec
from bangbench.core.errors import BenchError
from bangbench.core.executor import perform, using
from bangbench.core.progress import SILENT
from bangbench.core.shares import Share, compute_share
from bangbench.store.chunks import Chunks
from bangbench.store.examples import read_examples
from bangbench.store.records import AttackRecord, read_record

NAME = "fgs-unmasked"
FOLDER = "results/tiny"


@pytest.fixture
def spec_of(trained, monkeypatch):
    """Small settings on the trained model, in chunks of 4 images."""
    monkeypatch.setattr(run, "CHUNK", 4)

    def make(root, **settings):
        small = {"attack": (NAME,), "limit": 10, "device": "cpu", "workers": 1, "save_images": True}
        return AttackSpec(**{"model": str(trained.root / "models/tiny"), "root": root, **small, **settings})

    return make


@pytest.fixture
def computed(monkeypatch):
    """The first index of every chunk that was computed."""
    starts, compute = [], run.attack_chunk

    def noted(target, images, labels, first):
        starts.append(first)
        return compute(target, images, labels, first)

    monkeypatch.setattr(run, "attack_chunk", noted)
    return starts


def interrupted(spec, tools, limit=4):
    with pytest.raises(KeyboardInterrupt):
        attack(spec, tools.recorder(limit))


def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(spec_of, computed, tools, tmp_path):
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    (reference,) = attack(spec_of(whole))
    computed.clear()
    interrupted(spec_of(halved), tools)
    assert computed == [0, 4]
    progress = tools.recorder()
    (record,) = attack(spec_of(halved), progress)
    assert computed == [0, 4, 8]
    assert progress.stretches == [(f"tiny {NAME}", 10, 8)]
    for ending in (".parquet", ".npz", "-examples.npz"):
        file = f"{FOLDER}/{NAME}{ending}"
        assert (halved / file).read_bytes() == (whole / file).read_bytes()
    assert record.summary.model_copy(update={"seconds": 0}) == reference.summary.model_copy(update={"seconds": 0})


def test_an_interrupted_run_leaves_a_started_record_and_no_table(spec_of, tools, tmp_path):
    interrupted(spec_of(tmp_path), tools)
    record = read_record(tmp_path / FOLDER / f"{NAME}.json", AttackRecord)
    assert (record.status, record.summary) == ("started", None)
    assert {path.name for path in (tmp_path / FOLDER).iterdir()} == {f"{NAME}.json", f".chunks-{NAME}"}
    attack(spec_of(tmp_path))
    assert not (tmp_path / FOLDER / f".chunks-{NAME}").exists()


def test_a_damaged_chunk_is_computed_again(spec_of, computed, tools, tmp_path):
    (reference,) = attack(spec_of(tmp_path / "whole"))
    computed.clear()
    interrupted(spec_of(tmp_path), tools)
    first = min((tmp_path / FOLDER / f".chunks-{NAME}").glob("*.npz"))
    first.write_bytes(first.read_bytes()[:200])
    (record,) = attack(spec_of(tmp_path))
    assert computed == [0, 4, 0, 8]
    assert record.summary.linf == reference.summary.linf


def test_a_finished_run_is_returned_without_computing(spec_of, computed, tmp_path):
    first = attack(spec_of(tmp_path))
    computed.clear()
    assert attack(spec_of(tmp_path)) == first
    assert attack(spec_of(tmp_path, batch_size=3)) == first
    assert computed == []


def test_another_attack_is_added_beside_the_finished_one(spec_of, computed, tmp_path):
    attack(spec_of(tmp_path))
    computed.clear()
    records = attack(spec_of(tmp_path, attack=(NAME, "fgs")))
    assert [record.attack for record in records] == [NAME, "fgs"]
    assert computed == [0, 4, 8]


def test_results_of_other_settings_are_protected(spec_of, tmp_path):
    attack(spec_of(tmp_path))
    before = {path.name: path.read_bytes() for path in (tmp_path / FOLDER).iterdir()}
    with pytest.raises(BenchError) as caught:
        attack(spec_of(tmp_path, limit=6))
    assert str(caught.value) == (
        f"{tmp_path / FOLDER / NAME}.json was made with other settings (limit: 10 -> 6); "
        "choose another name or root, or pass --overwrite"
    )
    assert {path.name: path.read_bytes() for path in (tmp_path / FOLDER).iterdir()} == before


def test_overwriting_replaces_all_that_other_settings_left(spec_of, tools, tmp_path):
    attack(spec_of(tmp_path))
    interrupted(spec_of(tmp_path, limit=9, overwrite=True), tools)
    (record,) = attack(spec_of(tmp_path, limit=6, save_images=False, overwrite=True))
    assert record.summary.images == 6
    left = {path.name for path in (tmp_path / FOLDER).iterdir()}
    assert left == {f"{NAME}{ending}" for ending in (".json", ".parquet", "-examples.npz")}
    examples = read_examples(tmp_path / FOLDER / f"{NAME}-examples.npz")
    assert examples.indices.max() < 6


def test_an_overwritten_run_that_is_interrupted_leaves_nothing_of_the_old_one(spec_of, tools, tmp_path):
    attack(spec_of(tmp_path))
    interrupted(spec_of(tmp_path, limit=9, overwrite=True), tools)
    assert {path.name for path in (tmp_path / FOLDER).iterdir()} == {f"{NAME}.json", f".chunks-{NAME}"}


@pytest.mark.parametrize("ending", [".parquet", ".npz"])
def test_a_finished_record_without_its_rows_or_images_is_measured_again(spec_of, computed, tmp_path, ending):
    attack(spec_of(tmp_path))
    computed.clear()
    lost = tmp_path / FOLDER / f"{NAME}{ending}"
    before = lost.read_bytes()
    lost.unlink()
    attack(spec_of(tmp_path))
    assert computed == [0, 4, 8]
    assert lost.read_bytes() == before


def test_a_finished_record_without_examples_stays_valid(spec_of, computed, tmp_path):
    first = attack(spec_of(tmp_path))
    computed.clear()
    (tmp_path / FOLDER / f"{NAME}-examples.npz").unlink()
    assert attack(spec_of(tmp_path)) == first
    assert computed == []


def test_images_that_were_not_asked_for_are_not_missed(spec_of, computed, tmp_path):
    first = attack(spec_of(tmp_path, save_images=False))
    computed.clear()
    assert not (tmp_path / FOLDER / f"{NAME}.npz").exists()
    assert attack(spec_of(tmp_path, save_images=False)) == first
    assert computed == []


def test_chunks_of_another_format_are_computed_again(spec_of, computed, tools, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(run, "CHUNK_FORMAT", 1)
        interrupted(spec_of(tmp_path), tools)
    computed.clear()
    (record,) = attack(spec_of(tmp_path))
    assert computed == [0, 4, 8]
    assert record.status == "done"


def test_results_on_other_images_are_protected(spec_of, digits, tmp_path):
    def write(shift):
        images = np.roll(digits.images[:10, 0], shift, axis=2)
        path = tmp_path / "own.npz"
        labels = np.arange(10)
        np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
        return f"npz:{path}"

    attack(spec_of(tmp_path, data=write(0)))
    with pytest.raises(BenchError, match=r"the data or the weights are not the same\); choose another name or root"):
        attack(spec_of(tmp_path, data=write(1)))


#: Tells dark from bright images.
NET = """
import torch
from torch import nn


class Brightness(nn.Module):
    def forward(self, images):
        mean = images.flatten(1).mean(1)
        return torch.stack([0.5 - mean, mean - 0.5], 1)
"""


@pytest.fixture(scope="module")
def brightness(tmp_path_factory):
    """A net's file and more images than one chunk holds, too small for PASS; the spec's settings."""
    folder = tmp_path_factory.mktemp("brightness")
    (folder / "net.py").write_text(NET)
    images = np.random.default_rng(0).integers(0, 160, (run.CHUNK + 20, 8, 8)).astype(np.uint8)
    images[1::2] += 90
    labels = (images.mean((1, 2)) > 127.5).astype(int)
    np.savez(folder / "many.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    return {"model": f"{folder}/net.py:Brightness", "data": f"npz:{folder}/many.npz", "device": "cpu"}


def check_same(first, second, roots):
    assert first.key == second.key
    assert first.summary.model_copy(update={"seconds": 0}) == second.summary.model_copy(update={"seconds": 0})
    one, other = (root / f"results/Brightness/{first.attack}.parquet" for root in roots)
    assert one.read_bytes() == other.read_bytes()


def test_processes_find_what_one_process_finds(brightness, computed, tmp_path, monkeypatch):
    common = {**brightness, "attack": ("uniform-noise",), "budget": ("0.1",)}
    (alone,) = attack(AttackSpec(**common, root=tmp_path / "alone", workers=1))
    assert computed
    computed.clear()
    monkeypatch.setattr(run, "_IN_PROCESS_IMAGES", 0)
    (shared,) = attack(AttackSpec(**common, root=tmp_path / "shared", workers=2))
    assert not computed
    check_same(alone, shared, (tmp_path / "alone", tmp_path / "shared"))


class OneByOne:
    """An executor that does one job after the other, in this process."""

    slots = 2

    def submit(self, jobs):
        self.left = list(enumerate(jobs))

    def next_message(self):
        number, job = self.left.pop(0)
        return perform(number, job, lambda message: None)

    def cancel(self):
        pass


def test_shares_of_an_attack_are_given_its_settings_and_those_of_no_other(brightness, tmp_path, monkeypatch):
    common = {**brightness, "attack": ("fgs", "uniform-noise", "pgd"), "budget": ("0.1",)}
    common |= {"option": ("uniform-noise.draws=3", "steps=5", "largest_steps=5")}
    alone = attack(AttackSpec(**common, root=tmp_path / "alone", workers=1))
    monkeypatch.setattr(run, "_IN_PROCESS_IMAGES", 0)
    with using(OneByOne()):
        shared = attack(AttackSpec(**common, root=tmp_path / "shared", workers=2))
    for first, second in zip(alone, shared, strict=True):
        check_same(first, second, (tmp_path / "alone", tmp_path / "shared"))


def test_a_share_of_another_run_is_refused(trained, tmp_path):
    spec = AttackSpec(model=str(trained.root / "models/tiny"), attack=(NAME,), root=tmp_path, device="cpu")
    opening = run.Opening(spec, Chunks(tmp_path / "chunks", "another"))
    with pytest.raises(BenchError, match="tiny or its data was changed meanwhile; run the command again"):
        compute_share(Share(run.open_work, opening, "another", "tiny", (0,)), SILENT)
