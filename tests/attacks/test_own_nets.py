"""A user's own net from a file, with weights and scaling; images for which PASS is not defined."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bangbench.attacks.run import attack
from bangbench.attacks.spec import AttackSpec
from bangbench.core.errors import BenchError, UsageError
from bangbench.data.dataset import make_dataset
from bangbench.data.sources import SOURCES
from bangbench.store.tables import read_table

NET_FILE = '''
import torch
from torch import nn


def own(input_shape, classes):
    channels, height, width = input_shape
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, classes))


class Brightness(nn.Module):
    """No weights at all: class 1 where the image is bright."""

    def forward(self, images):
        mean = images.flatten(1).mean(1)
        return torch.stack([0.5 - mean, mean - 0.5], 1)
'''


@pytest.fixture
def net_file(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(NET_FILE)
    return path


@pytest.fixture
def two_tone(tmp_path):
    """Dark and bright images of 12x12 pixels, classes 0 and 1."""
    return write_npz(tmp_path / "tones.npz", side=12)


def write_npz(path, side):
    images = np.random.default_rng(0).integers(0, 60, (8, side, side)).astype(np.uint8)
    images[1::2] += 150
    labels = np.arange(8) % 2
    np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    return f"npz:{path}"


def bright(inputs, slope=1.0):
    """Weights for `own` that tell bright from dark images when grey levels are divided by 100."""
    weight = torch.full((2, inputs), slope / inputs)
    weight[0].neg_()
    return {"1.weight": weight, "1.bias": torch.tensor([slope, -slope])}


def spec_of(root, net_file, data, **settings):
    fixed = {"attack": ("fgs", "hc1"), "device": "cpu", "workers": 1, "input_scale": 100.0, "random_weights": True}
    return AttackSpec(**{"model": f"{net_file}:own", "root": root, "data": data, **fixed, **settings})


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_an_own_net_is_attacked_under_the_name_of_its_weights(net_file, two_tone, tmp_path, suffix):
    path = tmp_path / f"bright.{suffix}"
    save_file(bright(144), path) if suffix == "safetensors" else torch.save(bright(144), path)
    fgs, hc1 = attack(spec_of(tmp_path, net_file, two_tone, weights=path))
    assert (fgs.model.name, fgs.summary.accuracy, fgs.summary.rate) == ("bright", 100.0, 100.0)
    table = read_table(tmp_path / "results/bright/fgs.parquet").to_pandas()
    images = np.load(tmp_path / "tones.npz")["test_images"].reshape(8, -1)
    # the boundary is a mean of 100 grey levels, which every pixel moves towards
    assert table["scale"].to_numpy() == pytest.approx(np.ceil(np.abs(images.mean(1) - 100)), abs=1)
    assert hc1.model.preprocessing.input_scale == 100.0
    assert table["pass"].notna().all()


def test_without_weights_the_factory_names_the_results(net_file, two_tone, tmp_path):
    fgs, _ = attack(spec_of(tmp_path, net_file, two_tone))
    assert fgs.model.name == "own"
    assert fgs.model.weights_sha256


def test_a_factory_without_weights_is_refused_unless_that_is_meant(net_file, two_tone, tmp_path):
    path = tmp_path / "bright.safetensors"
    save_file(bright(144), path)
    for asked in ({}, {"weights": path, "attack": ("transfer",), "against": f"{net_file}:own", "budget": ("0.5",)}):
        with pytest.raises(UsageError, match=r"without weights: .* add --weights FILE .* or --random-weights"):
            attack(spec_of(tmp_path, net_file, two_tone, random_weights=False, **asked))
    assert not list(tmp_path.rglob("*.json"))


def test_a_source_of_adversarial_images_has_weights_of_its_own(net_file, two_tone, tmp_path):
    for name, slope in (("bright", 1.0), ("dark", -1.0)):
        save_file(bright(144, slope), tmp_path / f"{name}.safetensors")
    asked = {"attack": ("transfer",), "budget": ("0.6",), "random_weights": False, "limit": 2}
    source = f"{net_file}:own@{tmp_path}/bright.safetensors"
    (record,) = attack(spec_of(tmp_path, net_file, two_tone, model=source, against=source, **asked))
    assert (record.model.name, record.model.net) == ("bright", f"{net_file}:own")
    assert (record.summary.correct, record.summary.rate) == (2, 100.0)
    with pytest.raises(UsageError, match=r"names its weights; leave --weights .*dark.safetensors out"):
        attack(spec_of(tmp_path, net_file, two_tone, model=source, weights=tmp_path / "dark.safetensors"))


def test_results_of_other_weights_are_protected(net_file, two_tone, tmp_path):
    path = tmp_path / "bright.safetensors"
    save_file(bright(144), path)
    attack(spec_of(tmp_path, net_file, two_tone, weights=path))
    save_file(bright(144, slope=2.0), path)
    with pytest.raises(BenchError, match="the data or the weights are not the same"):
        attack(spec_of(tmp_path, net_file, two_tone, weights=path))
    fgs, _ = attack(spec_of(tmp_path, net_file, two_tone, weights=path, overwrite=True))
    assert fgs.status == "done"


def test_other_scaling_is_named_as_the_difference(net_file, two_tone, tmp_path):
    attack(spec_of(tmp_path, net_file, two_tone))
    with pytest.raises(BenchError, match=r"other settings \(input_scale: 100.0 -> 50.0\)"):
        attack(spec_of(tmp_path, net_file, two_tone, input_scale=50.0))


def test_weights_of_another_net_are_refused(net_file, two_tone, tmp_path):
    path = tmp_path / "large.safetensors"
    save_file(bright(784), path)
    with pytest.raises(BenchError, match=r"large.safetensors: .*1.weight is \(2, 784\), expected \(2, 144\)"):
        attack(spec_of(tmp_path, net_file, two_tone, weights=path))
    assert not (tmp_path / "results").exists()


def test_an_own_net_without_data_is_asked_for_it(net_file, tmp_path):
    with pytest.raises(UsageError, match="does not say what images it takes: add --data"):
        attack(spec_of(tmp_path, net_file, None))


def test_a_net_without_weights_can_be_attacked(net_file, two_tone, tmp_path):
    model = f"{net_file}:Brightness"
    fgs, hc1 = attack(spec_of(tmp_path, net_file, two_tone, model=model, input_scale=200.0))
    assert (fgs.summary.rate, hc1.summary.rate) == (100.0, 100.0)


def check_pass_is_left_out(root, records, note, progress):
    assert [text for text in progress.notes if "PASS" in text] == [note]
    for record in records:
        assert record.summary.rate == 100.0
        assert record.summary.pass_definition.mean is None
        assert record.summary.unaligned.mean is None
        assert record.summary.linf.mean > 0
        table = read_table(root / f"results/own/{record.attack}.parquet")
        for name in ("pass", "pass_paper", "ssim", "ecc_status", "ecc_status_paper"):
            assert table[name].null_count == len(table)
        assert table["linf"].null_count == 0


def own_weights(tmp_path, inputs):
    path = tmp_path / "own.safetensors"
    save_file(bright(inputs), path)
    return path


def test_for_images_smaller_than_the_window_pass_is_left_out_with_a_note(net_file, tools, tmp_path):
    data, progress = write_npz(tmp_path / "small.npz", side=8), tools.recorder()
    records = attack(spec_of(tmp_path, net_file, data, weights=own_weights(tmp_path, 64)), progress)
    note = (
        "PASS is left out: expected images of at least 11x11 pixels (SSIM's window), found 8x8 with 1 channel(s); "
        "enlarge them, or check that the axes are (channels, height, width)"
    )
    check_pass_is_left_out(tmp_path, records, note, progress)


class TwoChannels:
    """A source of images that are neither grey nor colour."""

    name = "two-channels"

    def __init__(self, data_dir):
        del data_dir

    def load(self, split):
        images = np.random.default_rng(0).integers(0, 60, (8, 2, 12, 12)).astype(np.uint8)
        images[1::2] += 150
        return make_dataset(images, np.arange(8) % 2, ("dark", "bright"), split)


def test_for_two_channels_pass_is_left_out_with_a_note(net_file, tools, tmp_path, monkeypatch):
    monkeypatch.setattr(SOURCES, "load", lambda name: TwoChannels)
    monkeypatch.setattr(SOURCES, "check", lambda name: None)
    progress = tools.recorder()
    spec = spec_of(tmp_path, net_file, "two-channels", weights=own_weights(tmp_path, 288))
    note = (
        "PASS is left out: expected 1 (grey) or 3 (RGB) channels, found 2; drop an alpha channel, or check that the "
        "axes are (channels, height, width)"
    )
    check_pass_is_left_out(tmp_path, attack(spec, progress), note, progress)
