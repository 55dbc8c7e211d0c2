"""The same on every device: what a GPU trains and measures is what the processor does, within rounding.

Every test runs on the processor as well, where it holds trivially, so that it cannot rot where no GPU is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bangbench.attacks.registry import ATTACKS
from bangbench.attacks.run import attack
from bangbench.attacks.spec import AttackSpec
from bangbench.core.device import choose_device
from bangbench.core.errors import OutOfMemoryError
from bangbench.core.progress import Silent
from bangbench.nets.classifier import Classifier
from bangbench.nets.models import open_model
from bangbench.nets.predict import predict
from bangbench.noise.count import Images, Noise, count_flips
from bangbench.store.layout import model_folder
from bangbench.store.records import Preprocessing
from bangbench.store.tables import read_table
from bangbench.training.run import train
from bangbench.training.spec import TrainSpec

#: How far apart the weights of two devices may be after 16 steps, relative to the largest: sums are added in another
#: order, and training carries the difference on.
_RELATIVE = 2e-3

#: The share of images on which two devices may disagree about an attack: those where two logits almost agree.
_DISAGREE = 0.05

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")],
    ),
]
on_devices = pytest.mark.parametrize("device", DEVICES)


class Trained(NamedTuple):
    """A root with the models of a module, all trained on the processor."""

    root: Path

    def spec(self, name: str, **changes: Any) -> TrainSpec:
        """Return the spec of a small training."""
        usual = {"net": "lenet", "data": "digits", "iterations": 16, "stages": 8, "device": "cpu"}
        return TrainSpec(name=name, root=self.root, **(usual | changes))

    def weights(self, name: str) -> dict[str, torch.Tensor]:
        """Return a model's weights."""
        return load_file(model_folder(self.root, name) / "weights.safetensors")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Return a root with one regular and one BANG model."""
    made = Trained(tmp_path_factory.mktemp("gpu"))
    train(made.spec("R"))
    train(made.spec("B", method="bang", beta=1.0, epsilon=0.815))
    return made


@on_devices
@pytest.mark.parametrize(("name", "method"), [("R", {}), ("B", {"method": "bang", "beta": 1.0, "epsilon": 0.815})])
def test_training_is_that_of_the_processor_and_repeats_bit_for_bit(
    trained: Trained, device: str, name: str, method: dict[str, Any]
) -> None:
    first, second = f"{name}-{device}-1", f"{name}-{device}-2"
    for again in (first, second):
        train(trained.spec(again, device=device, **method))
    one, other, expected = trained.weights(first), trained.weights(second), trained.weights(name)
    for key, value in expected.items():
        assert torch.equal(one[key], other[key])
        assert (one[key] - value).abs().max() <= _RELATIVE * value.abs().max()


class Interrupted(Silent):
    """A progress that interrupts training half-way."""

    def __init__(self) -> None:
        self.steps = 0

    def advance(self, count: int = 1) -> None:
        self.steps += count
        if self.steps > 12:
            raise KeyboardInterrupt


@on_devices
def test_a_training_that_goes_on_ends_with_the_same_bits(trained: Trained, device: str) -> None:
    whole, parts = (trained.spec(f"{device}-{part}", device=device) for part in ("whole", "parts"))
    train(whole)
    with pytest.raises(KeyboardInterrupt):
        train(parts, Interrupted())
    train(parts)
    first, second = trained.weights(whole.name), trained.weights(parts.name)
    assert [key for key in first if not torch.equal(first[key], second[key])] == []


@on_devices
@pytest.mark.parametrize("name", [name for name in ATTACKS.names() if name != "transfer"])
def test_every_attack_finds_what_it_finds_on_the_processor(
    trained: Trained, device: str, name: str, tmp_path: Path
) -> None:
    model = str(model_folder(trained.root, "R"))
    bounded = ATTACKS.load(name).bounded
    common = {"model": model, "limit": 24, "attack": (name,), "workers": 1} | ({"budget": ("0.2",)} if bounded else {})
    rows = []
    for where in dict.fromkeys(("cpu", device)):
        (record,) = attack(AttackSpec(root=tmp_path / where, device=where, **common))
        assert record.status == "done"
        table = next((tmp_path / where).rglob("*.parquet"))
        rows.append(np.array(read_table(table)["flipped"].to_pylist(), dtype=bool))
    assert (rows[0] != rows[-1]).mean() <= _DISAGREE


@on_devices
def test_noise_flips_what_it_flips_on_the_processor(trained: Trained, device: str) -> None:
    random = np.random.default_rng(0)
    pixels = torch.from_numpy(random.integers(0, 256, (12, 1, 28, 28), dtype=np.uint8))
    counts = []
    for where in ("cpu", device):
        found = choose_device(where)
        classifier = open_model(str(model_folder(trained.root, "R")), trained.root, found).classifier
        labels = predict(classifier, pixels.to(found))
        images = Images(pixels.to(found), labels, np.arange(12))
        counts.append(count_flips([classifier], images, Noise((40.0,), 50, 0, clip=True), 64).flipped)
    assert np.abs(counts[0] - counts[1]).sum() <= _DISAGREE * counts[0].size * 50


@on_devices
def test_float32_is_float32(device: str) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    found = choose_device(device)
    random = torch.Generator().manual_seed(0)
    images = 255 * torch.rand(64, 8, 16, 16, generator=random)
    net = torch.nn.Sequential(torch.nn.Conv2d(8, 16, 5), torch.nn.Flatten(), torch.nn.Linear(16 * 12 * 12, 10))
    classifier = Classifier(net, Preprocessing()).eval()
    exact = classifier.double()(images.double())
    with torch.no_grad():
        logits = classifier.float().to(found)(images.to(found)).cpu()
    # TF32 keeps ten bits: its errors would be a hundred times as large
    assert ((logits - exact).abs() / exact.abs().max()).max() < 1e-5


@on_devices
def test_an_end_of_memory_says_what_to_try(device: str) -> None:
    class Greedy(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.new_empty((2**48,)).view(len(images), -1)

    classifier = Classifier(Greedy(), Preprocessing()).to(device).eval()
    with pytest.raises(OutOfMemoryError, match="out of memory with 16 images at once: try --batch-size 8"):
        classifier(torch.zeros(16, 1, 4, 4, device=device))
