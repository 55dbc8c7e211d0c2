"""The models that an audit is tried on, broken ones and clean ones, with what has to be found in each."""

from __future__ import annotations

import copy
import runpy
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

from bangbench.auditing.run import audit
from bangbench.auditing.spec import AuditSpec
from bangbench.data.sources import open_source
from bangbench.store.audits import AuditRecord

NETS = Path(__file__).with_name("planted_nets.py")
Sound, Linear = (runpy.run_path(str(NETS))[name] for name in ("Sound", "Linear"))


class Planted(NamedTuple):
    """A model: what it is, its net and weights, the codes that must be found; none in a clean one.

    state: the name of its weights, None for those that the factory gives it; settings: of the audit.
    """

    what: str
    net: str
    codes: tuple[str, ...] = ()
    state: str | None = "sound"
    settings: Mapping[str, Any] = MappingProxyType({})


#: Every pass of a random net is eight: fewer images will do.
FEW = {"limit": 12}

BROKEN = (
    Planted("random weights", "Sound", ("chance-accuracy",), None),
    Planted("class 3 for every image", "Constant", ("chance-accuracy", "constant-predictions")),
    Planted("images divided by 100 more", "Sound", ("input-scale",), settings={"input_scale": 25500.0}),
    Planted("test images known by heart", "ByHeart", ("knows-test-images",)),
    Planted("answers from the last input", "Remembers", ("depends-on-history",)),
    Planted("other answers to every second call", "Counts", ("depends-on-history",)),
    Planted("gradient reversed for three classes", "ReversedForThree", ("wrong-gradient",)),
    Planted("gradient wrong in float32 alone", "WrongInFloat32", ("wrong-gradient",)),
    Planted("logits times 10,000", "LargeLogits", ("fgs-masked", "logit-scale")),
    Planted("defensive distillation", "Sound", ("fgs-masked", "logit-scale"), "distilled"),
    Planted("logits minus 1,000", "LowLogits", ("hot-cold-sign", "logit-offset")),
    Planted("softmax at the end", "Probabilities", ("probabilities",)),
    Planted("random factors", "DropoutLeftOn", ("random-outputs",), settings=FEW),
    Planted("dropout that eval() leaves on", "DropoutLayerLeftOn", ("random-outputs", "train-mode"), settings=FEW),
    Planted("noise on the images", "NoiseLayer", ("random-outputs",), settings=FEW),
    Planted("statistics of the batch", "BatchNormLeftOn", ("batch-dependent", "train-mode")),
    Planted("16 grey levels", "SixteenLevels", ("shattered-gradient", "margin-gradient-gone")),
    Planted("no gradient", "Detached", ("no-gradient",)),
    Planted("NaN on some images", "SometimesNan", ("bad-outputs",)),
)

CLEAN = (
    Planted("convolutions", "Sound"),
    Planted("a linear net", "Linear", state="linear"),
    Planted("adversarial training", "Sound", state="robust"),
    Planted("16 grey levels, gradient passed through", "StraightThrough", settings={"budget": ("0.3",)}),
    Planted("bfloat16", "Half"),
    Planted("last digits that depend on the batch", "LastDigits"),
)


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


def write_weights(folder: Path) -> None:
    """Write the layers of all planted nets, a linear net, a distilled one, an adversarially trained one."""
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


def audited(model: Planted, weights: Path, root: Path) -> AuditRecord:
    """Audit a planted model, quickly, with the weights that `write_weights` left."""
    usual = {"limit": 40, "budget": ("0.1",), "workers": 1, "strength": "quick", "data": "digits"}
    given = {"random_weights": True} if model.state is None else {"weights": weights / f"{model.state}.safetensors"}
    root = root / f"{model.net}-{model.state}-{len(model.settings)}"
    return audit(AuditSpec(model=f"{NETS}:{model.net}", root=root, **{**usual, **given, **model.settings}))


def alarms(record: AuditRecord) -> tuple[str, ...]:
    """Return the codes of what speaks against some claim, in order."""
    return tuple(check.code for check in record.summary.checks if check.outcome in ("suspect", "masked"))
