"""Whole audits, from the spec to the record, of models with a planted fault and of sound ones."""

from __future__ import annotations

import copy
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

from bangbench.audit.run import audit
from bangbench.audit.spec import AuditSpec
from bangbench.data.sources import open_source

NETS = Path(__file__).with_name("planted_nets.py")
Sound, Linear = (runpy.run_path(str(NETS))[name] for name in ("Sound", "Linear"))


def digits(split):
    data = open_source("digits", None).load(split)
    return torch.from_numpy(data.images).float() / 255.0, torch.from_numpy(data.labels)


def trained(net, loss, epochs=8, rate=3e-3):
    images, _ = digits("train")
    optimizer = torch.optim.Adam(net.parameters(), rate)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            loss(net(images[rows]), rows).backward()
            optimizer.step()
    return net


def attacked(net, images, labels, budget, steps=5):
    """Return the images moved to where the loss is large, inside the budget (share of the range)."""
    moved = images + budget * (2 * torch.rand_like(images) - 1)
    for _ in range(steps):
        moved = moved.clamp(0, 1).requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(net(moved), labels), moved)
        moved = (moved.detach() + budget / 3 * gradient.sign()).clamp(images - budget, images + budget)
    return moved.clamp(0, 1).detach()


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Weight files: the layers of all planted nets, a linear net, a distilled one, an adversarially trained one."""
    folder = tmp_path_factory.mktemp("weights")
    images, labels = digits("train")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        sound = trained(Sound(), lambda logits, rows: cross_entropy(logits, labels[rows]))
        linear = trained(Linear(), lambda logits, rows: cross_entropy(logits, labels[rows]))
        temperature = 50.0
        teacher = trained(Sound(), lambda logits, rows: cross_entropy(logits / temperature, labels[rows]), rate=1e-2)
        soft = (teacher(images) / temperature).softmax(1).detach()
        distilled = trained(Sound(), lambda logits, rows: cross_entropy(logits / temperature, soft[rows]), rate=1e-2)
        robust = copy.deepcopy(sound)
        trained(
            robust,
            lambda _, rows: cross_entropy(robust(attacked(robust, images[rows], labels[rows], 0.1)), labels[rows]),
        )
    for name, net in {"sound": sound, "linear": linear, "distilled": distilled, "robust": robust}.items():
        save_file(net.state_dict(), folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def audited(weights, tmp_path):
    def run(net, state="sound", **settings):
        settings = {"limit": 40, "budget": ("0.1",), "workers": 1, **settings}
        spec = AuditSpec(
            model=f"{NETS}:{net}",
            weights=weights / f"{state}.safetensors",
            data="digits",
            root=tmp_path / f"{net}-{state}",
            **settings,
        )
        return audit(spec)

    return run


def alarms(record):
    return {check.code for check in record.summary.checks if check.outcome in ("suspect", "masked")}


FAULTS = {
    "LargeLogits": {"fgs-masked", "logit-scale"},
    "LowLogits": {"hot-cold-sign", "logit-offset"},
    "Probabilities": {"probabilities"},
    "DropoutLeftOn": {"random-outputs"},
    "DropoutLayerLeftOn": {"random-outputs", "train-mode"},
    "SixteenLevels": {"shattered-gradient", "margin-gradient-gone"},
    "NoiseLayer": {"random-outputs"},
    "Detached": {"no-gradient"},
    "BatchNormLeftOn": {"batch-dependent", "train-mode"},
    "SometimesNan": {"bad-outputs"},
}


@pytest.mark.parametrize("net", FAULTS)
def test_a_planted_fault_is_found_and_named(audited, net):
    record = audited(net)
    assert alarms(record) >= FAULTS[net]
    assert record.summary.verdict in ("suspect", "masked")
    assert set(record.summary.reasons) & FAULTS[net]


def test_a_distilled_net_is_masked_by_the_size_of_its_logits(audited):
    record = audited("Sound", "distilled")
    assert alarms(record) >= {"fgs-masked", "logit-scale"}
    assert record.summary.claim("fgs").verdict == "masked"
    assert record.summary.claim("pgd").verdict == "sound"


def test_a_wrong_input_scale_is_found(audited):
    record = audited("Sound", input_scale=25500.0)
    assert "input-scale" in alarms(record)


@pytest.mark.parametrize(("net", "state"), [("Sound", "sound"), ("Linear", "linear"), ("Sound", "robust")])
def test_sound_nets_raise_no_alarm(audited, net, state):
    record = audited(net, state)
    assert alarms(record) == set()
    assert record.summary.verdict == "sound"
    assert record.summary.reasons == ()


def test_true_robustness_is_told_from_masking(audited):
    regular, robust, masked = audited("Sound"), audited("Sound", "robust"), audited("LargeLogits")
    rates = {
        name: record.summary.budgets[-1].rate
        for name, record in {"regular": regular, "robust": robust, "masked": masked}.items()
    }
    assert rates["robust"] < rates["regular"] - 20
    assert abs(rates["masked"] - rates["regular"]) < 10
    assert masked.summary.claim("fgs").rate < regular.summary.claim("fgs").rate - 50
    assert np.isfinite(robust.summary.seconds)
