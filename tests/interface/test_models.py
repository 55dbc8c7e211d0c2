"""A model is taken as it is, whatever it returns, and given back as it was."""

from __future__ import annotations

import random
import warnings
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import bangbench as bb
from bangbench.core.errors import UsageError
from bangbench.interface.inputs import read_batch
from bangbench.interface.models import borrowed
from bangbench.store.audits import VERDICTS
from bangbench.store.records import Preprocessing

QUICK = {"budget": "8/255", "strength": "quick", "progress": False}


class Returning(nn.Module):
    """Returns what `wrap` makes of the logits."""

    def __init__(self, net: nn.Module, wrap) -> None:
        super().__init__()
        self.net, self.wrap = net, wrap

    def forward(self, images):
        return self.wrap(self.net(images))


@pytest.mark.parametrize(
    ("wrap", "name"),
    [
        (lambda logits: (logits, logits.sum()), r"output\[0\]"),
        (lambda logits: {"loss": logits.sum(), "logits": logits}, r'output\["logits"\]'),
        (lambda logits: SimpleNamespace(logits=logits, aux=None), r"output\.logits"),
    ],
)
def test_logits_are_found_in_tuples_mappings_and_objects_and_named(model, images, labels, wrap, name):
    plain = bb.attack(model, images, labels, "fgs", progress=False)
    found = bb.attack(Returning(model, wrap), images, labels, "fgs", progress=False)
    np.testing.assert_array_equal(found.linf, plain.linf)
    assert any(name.replace("\\", "") in note for note in found.notes)
    assert plain.notes == ()


@pytest.mark.parametrize(
    ("wrap", "says"),
    [
        (lambda logits: {"scale": 2.0}, "found a mapping of scale; wrap it in a Module"),
        (lambda logits: None, "expected logits .N, K., found NoneType"),
        (lambda logits: logits[:, 0], "labels: expected 0 to 1, as the model has logits for, found 0 to 9"),
        (lambda logits: logits.reshape(-1, 2, 5), r"found \(2, 2, 5\)"),
        (lambda logits: logits @ torch.ones(3), r"fails on images \(1, 28, 28\): RuntimeError: .*; pass images as it"),
        (lambda logits: logits[:, :4], "labels: expected 0 to 3, as the model has logits for, found 0 to 9"),
    ],
)
def test_other_outputs_are_refused(model, images, labels, wrap, says):
    with pytest.raises(UsageError, match=says):
        bb.attack(Returning(model, wrap), images, labels, "fgs", progress=False)


@pytest.mark.parametrize("given", [lambda images: images, "table1/B1", None])
def test_what_is_no_module_is_refused(given, images, labels):
    with pytest.raises(UsageError, match=r"model: expected a torch.nn.Module, found (function|str|NoneType)"):
        bb.audit(given, images, labels, **QUICK)


class Noisy(nn.Module):
    """Has everything that could be left changed: modes, gradients, frozen weights, buffers, hooks, random numbers."""

    def __init__(self, net: nn.Sequential) -> None:
        super().__init__()
        self.net, self.drop, self.norm = net, nn.Dropout(0.5), nn.BatchNorm2d(1)
        self.net[1].bias.requires_grad_(False)
        self.net[1].weight.grad = torch.ones_like(self.net[1].weight)
        self.norm.eval()
        self.register_forward_hook(lambda *_: None)

    def forward(self, images):
        random.random(), np.random.rand()
        return self.net(self.norm(images)) + 1e-7 * torch.rand(1)


def state_of(net: nn.Module) -> dict[str, object]:
    return {
        "modes": [module.training for module in net.modules()],
        "frozen": [value.requires_grad for value in net.parameters()],
        "gradients": [None if value.grad is None else value.grad.sum().item() for value in net.parameters()],
        "values": [value.double().sum().item() for value in net.state_dict().values()],
        "hooks": [len(module._forward_hooks) + len(module._backward_hooks) for module in net.modules()],
        "random": (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()),
    }


def test_a_model_and_the_random_generators_are_left_as_they_were(model, images, labels, tmp_path):
    net = Noisy(model).train()
    net.norm.eval()
    before = state_of(net)
    bb.attack(net, images, labels, "fgs", progress=False)
    bb.noise_eval({"net": net}, images, labels, sigma=50, draws=2, progress=False)
    bb.audit(net, images[:8], labels[:8], **QUICK)
    with pytest.raises(UsageError):
        bb.attack(net, images, labels + 30, "fgs", progress=False)
    assert state_of(net) == before


def test_normalisation_outside_the_model_is_told_by_name(model, images, labels):
    expected = bb.attack(model, images, labels, "fgs", progress=False)
    shifted = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    weight, bias = model[1].weight.detach(), model[1].bias.detach()
    shifted[1].load_state_dict({"weight": 0.5 * weight, "bias": bias + 0.25 * weight.sum(1)})
    found = bb.attack(shifted, images, labels, "fgs", mean=0.25, std=0.5, progress=False)
    np.testing.assert_array_equal(found.success, expected.success)
    np.testing.assert_allclose(found.linf, expected.linf, atol=1.0)
    grey = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    grey[1].load_state_dict({"weight": weight / 255, "bias": bias})
    found = bb.attack(grey, images, labels, "fgs", input_scale=1.0, progress=False)
    np.testing.assert_array_equal(found.success, expected.success)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"mean": (0.1, 0.2, 0.3)}, "mean: expected 1 value, for grey images, found 3"),
        ({"std": 0.0}, "std: expected numbers above 0"),
        ({"input_scale": 0.0}, "input_scale: expected a number above 0, found 0.0"),
    ],
)
def test_a_normalisation_that_cannot_be_is_refused(model, images, labels, given, says):
    with pytest.raises(UsageError, match=says):
        bb.attack(model, images, labels, "fgs", progress=False, **given)


def test_a_net_in_float64_is_taken_as_one_in_float32(model, images, labels):
    expected = bb.attack(model, images, labels, "fgs", progress=False)
    found = bb.attack(model.double(), images, labels, "fgs", progress=False)
    np.testing.assert_array_equal(found.success, expected.success)
    assert model[1].weight.dtype == torch.float64


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_a_net_in_half_precision_is_attacked_and_audited(model, images, labels, kind):
    found = bb.audit(model.to(kind), images, labels, **QUICK)
    assert found.record.model.weights_sha256 is not None
    assert found.verdict in VERDICTS
    assert model[1].weight.dtype == kind


def test_a_model_that_gets_next_to_nothing_right_is_asked_about_its_images(steady, images, labels):
    assert not any("otherwise" in note for note in bb.audit(steady, images[:10], labels[:10], **QUICK).notes)
    found = bb.audit(steady, images[:10], (labels[:10] + 1) % 10, **QUICK)
    assert any("the model takes its images otherwise; see mean=, std=" in note for note in found.notes)


class Counting(nn.Module):
    """Counts its calls in a buffer, and draws noise from NumPy's generator."""

    def __init__(self, net: nn.Module, noise: float = 0.0) -> None:
        super().__init__()
        self.net, self.noise = net, noise
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, images):
        self.calls += 1
        drawn = torch.from_numpy(np.random.normal(0.0, 1.0, tuple(images.shape))).to(images)
        return self.net(images + self.noise * drawn)


def switches():
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    return cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic


@contextmanager
def set_otherwise():
    """Set what a user may have set, and put it back."""
    cuda, cudnn, before = torch.backends.cuda, torch.backends.cudnn, switches()
    cuda.matmul.allow_tf32 = cudnn.allow_tf32 = cudnn.benchmark = True
    cudnn.deterministic = False
    try:
        yield
    finally:
        cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = before


def test_buffers_and_the_arithmetic_are_left_as_they_were(model, images, labels):
    net = Counting(model)
    with set_otherwise():
        before = switches()
        bb.attack(net, images, labels, "fgs", progress=False)
        assert switches() == before == (True, True, True, False)
    assert net.calls == 0


def test_a_net_that_draws_from_numpy_is_seeded(model, images, labels):
    found = []
    for state in (1, 2):
        np.random.seed(state)
        found.append(bb.attack(Counting(model, 0.05), images, labels, "uniform-noise", budget="0.1", progress=False))
    assert torch.equal(torch.as_tensor(found[0].adversarial), torch.as_tensor(found[1].adversarial))


@contextmanager
def double_by_default():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("around", [double_by_default, torch.inference_mode], ids=["float64", "inference"])
@pytest.mark.parametrize("attack", ["fgs", "pgd", "apgd", "square"])
def test_what_holds_around_a_call_does_not_reach_into_it(model, images, labels, around, attack):
    options = {} if attack == "fgs" else {"budget": "8/255"}
    expected = bb.attack(model, images, labels, attack, progress=False, **options)
    with around():
        found = bb.attack(model, images, labels, attack, progress=False, **options)
    np.testing.assert_array_equal(found.success, expected.success)


def test_a_frozen_program_has_no_mode_and_is_attacked_all_the_same(model, images, labels):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript by torch
        frozen = torch.jit.freeze(torch.jit.trace(model.eval(), images[:8]))
    expected = bb.attack(model, images, labels, "fgs", progress=False)
    np.testing.assert_array_equal(bb.attack(frozen, images, labels, "fgs", progress=False).success, expected.success)


def test_images_are_sent_where_the_net_is(model, images, labels):
    with borrowed(
        model.to("meta"), read_batch(images, labels), Preprocessing(mean=(0.5,), std=(0.5,)), None
    ) as subject:
        assert subject.device.type == subject.classifier.device.type == subject.classifier.mean.device.type == "meta"
