"""A user's own net, as ``file.py:factory`` or ``package.module:factory``: what is accepted and what is refused."""

from __future__ import annotations

import re

import pytest
import torch

from bangbench.core.errors import BenchError, UsageError
from bangbench.nets.models import open_model
from bangbench.nets.weights import save_state
from bangbench.store.records import Preprocessing

CPU = torch.device("cpu")
PLAIN = "nn.Sequential(nn.Flatten(), nn.Linear(256, 3))"


@pytest.mark.parametrize(
    "factory",
    [
        f"def make():\n    return {PLAIN}",
        "def make(classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(256, classes))",
        "def make(num_classes=10):\n    return nn.Sequential(nn.Flatten(), nn.Linear(256, num_classes))",
        "def make(input_shape, classes):\n    C, H, W = input_shape\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(C * H * W, classes))",
        "class make(nn.Module):\n    def __init__(self, classes):\n        super().__init__()\n"
        "        self.line = nn.Linear(256, classes)\n\n    def forward(self, images):\n"
        "        return self.line(images.flatten(1))",
    ],
)
def test_a_factory_takes_what_it_names(net_file, open_own, factory):
    path = net_file(factory)
    model = open_own(f"{path}:make")
    assert (model.name, model.info.net, model.info.parameters) == ("make", f"{path}:make", 771)
    assert (model.info.classes, model.info.input_shape, model.stages) == (3, (1, 16, 16), ())
    assert model.classifier(torch.zeros(2, 1, 16, 16)).shape == (2, 3)


def test_a_module_is_found_from_the_working_directory(tmp_path, monkeypatch, open_own):
    (tmp_path / "ownnets").mkdir()
    (tmp_path / "ownnets/flat.py").write_text(f"from torch import nn\n\ndef make():\n    return {PLAIN}\n")
    monkeypatch.chdir(tmp_path)
    assert open_own("ownnets.flat:make").info.net == "ownnets.flat:make"


def test_a_file_may_hold_dataclasses(net_file, open_own):
    path = net_file(
        "from dataclasses import dataclass\n\n@dataclass\nclass Sizes:\n    classes: 'int' = 3\n\n"
        "def make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(256, Sizes().classes))"
    )
    assert open_own(f"{path}:make").info.classes == 3


def test_initial_weights_are_the_same_each_time_and_the_global_generator_is_left_alone(net_file, open_own):
    reference = f"{net_file(f'def make():{chr(10)}    return {PLAIN}')}:make"
    before = torch.get_rng_state()
    first, second = open_own(reference), open_own(reference)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.classifier.net[1].weight, second.classifier.net[1].weight)
    assert first.stages_fingerprint() == second.stages_fingerprint() != ""


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_and_preprocessing_are_the_users(net_file, open_own, tmp_path, suffix):
    path, weights = net_file(f"def make():\n    return {PLAIN}"), tmp_path / f"best.v2{suffix}"
    state = {"1.weight": torch.randn(3, 256), "1.bias": torch.randn(3)}
    if suffix == ".pt":
        torch.save(state, weights)
    else:
        save_state(weights, state)
    preprocessing = Preprocessing(input_scale=10.0, mean=(0.5,), std=(2.0,))
    model = open_own(f"{path}:make", weights=weights, preprocessing=preprocessing)
    images = torch.randint(256, (4, 1, 16, 16)).float()
    expected = ((images / 10 - 0.5) / 2).flatten(1) @ state["1.weight"].T + state["1.bias"]
    torch.testing.assert_close(model.classifier(images), expected, rtol=1e-4, atol=1e-3)
    assert model.name == f"{tmp_path.name}-best"


def test_weights_without_any_tensor_are_not_taken_for_the_initial_ones(net_file, open_own, tmp_path):
    save_state(tmp_path / "empty.safetensors", {})
    path = net_file(f"def make():\n    return {PLAIN}")
    with pytest.raises(BenchError, match=r"missing: 1\.weight, 1\.bias; the file holds no weights"):
        open_own(f"{path}:make", weights=tmp_path / "empty.safetensors")


def test_nan_weights_are_refused(net_file, open_own, tmp_path):
    state = {"1.weight": torch.full((3, 256), float("nan")), "1.bias": torch.zeros(3)}
    save_state(tmp_path / "nan.safetensors", state)
    path = net_file(f"def make():\n    return {PLAIN}")
    with pytest.raises(BenchError, match=r"nan\.safetensors: the weights do not fit: 1\.weight holds NaN"):
        open_own(f"{path}:make", weights=tmp_path / "nan.safetensors")


def net_with(forward: str) -> str:
    return f"class make(nn.Module):\n    def forward(self, images):\n        {forward}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (net_with("return images.flatten(1)[:, :4]"), "expected logits of shape (3, 3) for 3 images, found (3, 4)"),
        (
            net_with("return images.mean((1, 2, 3))"),
            "expected logits of shape (3, 3) for 3 images, found (3, 2) (the output, one logit: above",
        ),
        (
            net_with("return (images, images)"),
            "expected logits of shape (3, 3) for 3 images, found (3, 1, 16, 16) (output[0])",
        ),
        (net_with("return images.flatten(1)[:2, :3]"), "expected logits of shape (3, 3) for 3 images, found (2, 3)"),
        (net_with("return images.flatten(1)[:1, :3]"), "expected logits of shape (3, 3) for 3 images, found (1, 3)"),
        (net_with("return images.flatten(1)[1:, :3]"), "expected logits of shape (3, 3) for 3 images, found"),
        (net_with("return images.flatten(1)[:, :3].repeat(2, 1)"), "expected logits of shape (3, 3) for 3 images"),
        (net_with("return images.flatten(1)[:, :3] / 0 * 0"), "its logits are NaN or infinite on plain images"),
        (net_with("return torch.tensor([[1.0, 2.0, 3.0]]).repeat(len(images), 1)"), "the net ignores its input"),
        (
            net_with("raise RuntimeError('no such kernel\\nmore')"),
            "fails on images of shape (1, 16, 16): RuntimeError: no",
        ),
        (net_with("return {}['key']"), "fails on images of shape (1, 16, 16): KeyError: 'key'"),
        (net_with("raise ValueError"), "fails on images of shape (1, 16, 16): ValueError"),
        (
            "def make():\n    return nn.Conv2d(3, 3, 5)",
            "fails on images of shape (1, 16, 16): RuntimeError: Given groups=1",
        ),
        ("def make():\n    return 'a net'", "expected the factory to return a torch.nn.Module, found str"),
        ("def make():\n    return nn.Linear", "expected the factory to return a torch.nn.Module, found type"),
        ("def make(width):\n    pass", "its factory, given nothing, fails: TypeError: make() missing 1 required"),
        ("def make(classes):\n    return 1 / 0", "its factory, given classes, fails: ZeroDivisionError"),
    ],
)
def test_a_net_that_cannot_serve_is_refused(net_file, open_own, text, message):
    with pytest.raises(BenchError, match=re.escape(message)):
        open_own(f"{net_file(text)}:make")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def other():\n    pass", "has no function or class 'make'"),
        ("make = 3", "has no function or class 'make'"),
        ("import there_is_no_such_module", "cannot be imported: ModuleNotFoundError: No module named"),
        ("def make(:", "cannot be imported: SyntaxError"),
    ],
)
def test_a_file_without_a_usable_factory_is_refused(net_file, open_own, text, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        open_own(f"{net_file(text)}:make")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("there/is/none.py:make", "net file there/is/none.py does not exist"),
        ("no_such_package.nets:make", "net module 'no_such_package.nets' cannot be imported: ModuleNotFoundError"),
        (":make", "net module '' cannot be imported"),
    ],
)
def test_a_place_that_does_not_exist_is_named(open_own, reference, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        open_own(reference)


def test_a_factory_needs_data_to_know_its_images(net_file, tmp_path):
    path = net_file(f"def make():\n    return {PLAIN}")
    with pytest.raises(UsageError, match="does not say what images it takes: add --data"):
        open_model(f"{path}:make", tmp_path, CPU)
