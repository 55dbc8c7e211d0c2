"""Opening trained models by name and by folder, their stages, and everything that can be wrong with them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from bangbench.core.errors import BenchError, UsageError
from bangbench.nets.models import open_model
from bangbench.nets.weights import load_state, save_state
from bangbench.training.run import train
from bangbench.training.spec import TrainSpec

CPU = torch.device("cpu")


def test_a_model_is_opened_by_its_name(trained_root, small_data):
    model = open_model("other/second", trained_root, CPU)
    assert (model.name, model.info.net, model.data, model.stages) == ("other/second", "lenet", small_data, (1, 2))
    weights = load_state(trained_root / "models/other/second/weights.safetensors")
    for key, value in model.classifier.net.state_dict().items():
        assert torch.equal(value, weights[key])
    assert not model.classifier.training
    assert not any(value.requires_grad for value in model.classifier.parameters())


def test_a_model_is_opened_by_its_folder(trained_root, tmp_path):
    inside = open_model(str(trained_root / "models/other/second"), trained_root, CPU)
    assert inside.name == "other/second"
    shutil.copytree(trained_root / "models/first", tmp_path / "elsewhere")
    assert open_model(str(tmp_path / "elsewhere"), trained_root, CPU).name == "elsewhere"


def test_an_unknown_name_suggests_the_nearest(trained_root):
    with pytest.raises(UsageError, match="unknown model 'frist': did you mean 'first'"):
        open_model("frist", trained_root, CPU)
    with pytest.raises(UsageError, match="unknown model 'xyz': known: first, other/second"):
        open_model("xyz", trained_root, CPU)
    with pytest.raises(UsageError, match="unknown model 'xyz': known: none"):
        open_model("xyz", trained_root / "empty", CPU)


def test_stages_are_opened_with_their_own_weights(trained_root):
    model = open_model("first", trained_root, CPU)
    early, late = (model.stage_classifier(stage).net.conv1.weight for stage in model.stages)
    assert not torch.equal(early, late)
    assert torch.equal(late, model.classifier.net.conv1.weight)
    saved = load_state(trained_root / "models/first/stages/000001.safetensors")["conv1.weight"]
    assert torch.equal(early, saved)


def test_stages_that_were_not_copied_are_left_out(trained_root):
    (trained_root / "models/first/stages/000001.safetensors").unlink()
    assert open_model("first", trained_root, CPU).stages == (2,)
    shutil.rmtree(trained_root / "models/first/stages")
    model = open_model("first", trained_root, CPU)
    assert model.stages == ()
    assert model.stages_fingerprint() == model.info.weights_sha256


def test_the_stages_fingerprint_follows_their_weights(trained_root):
    model = open_model("first", trained_root, CPU)
    before = model.stages_fingerprint()
    path = trained_root / "models/first/stages/000001.safetensors"
    save_state(path, {key: value + 1 for key, value in load_state(path).items()})
    assert model.stages_fingerprint() != before


def test_an_unfinished_model_is_refused(trained_root):
    path = trained_root / "models/first/model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "started"}))
    with pytest.raises(BenchError, match="model 'first' is not finished; run its training again"):
        open_model("first", trained_root, CPU)


def test_weights_that_changed_after_training_are_refused(trained_root):
    path = trained_root / "models/first/weights.safetensors"
    save_state(path, {key: value + 1 for key, value in load_state(path).items()})
    with pytest.raises(
        BenchError, match=r"weights\.safetensors is not the file that model\.json describes .*--overwrite"
    ):
        open_model("first", trained_root, CPU)


def test_weights_that_are_gone_are_named(trained_root):
    (trained_root / "models/first/weights.safetensors").unlink()
    with pytest.raises(BenchError, match=r"weights\.safetensors does not exist; train the model again or copy"):
        open_model("first", trained_root, CPU)


def test_a_damaged_stage_is_refused(trained_root):
    path = trained_root / "models/first/stages/000001.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    model = open_model("first", trained_root, CPU)
    with pytest.raises(BenchError, match=r"000001\.safetensors: not a whole safetensors file"):
        model.stage_classifier(1)


def test_the_mean_image_travels_with_the_model(tmp_path):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(6) % 2
    np.savez(tmp_path / "d.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    data = f"npz:{tmp_path / 'd.npz'}"
    train(TrainSpec(name="q", net="cifar10-quick", data=data, iterations=1, batch_size=3, root=tmp_path, device="cpu"))
    (tmp_path / "d.npz").unlink()
    model = open_model("q", tmp_path, CPU)
    expected = images.astype(np.float64).mean(0).transpose(2, 0, 1)
    np.testing.assert_allclose(model.classifier.mean.numpy(), expected, rtol=1e-6)
