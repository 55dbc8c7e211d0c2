"""What a model is beside its weights: the code of its net, and what it answers."""

from __future__ import annotations

import copy
import hashlib
import importlib
import math
from pathlib import Path

import torch
from torch import Tensor

from bangbench.core.seeds import default_seeds, derive_seed
from bangbench.nets.classifier import Classifier
from bangbench.nets.references import PROGRAMS, loader_of
from bangbench.nets.registry import NETS
from bangbench.store.files import sha256_of

#: Images that a model is asked about, and the share of its largest logit by which an answer counts as another one: in
#: float64, where machines agree far better than that, and in float32.
_PROBES, _SHARES = 8, {torch.float64: 1e-7, torch.float32: 1e-3}


def code_of(net: str) -> str | None:
    """Return the SHA-256 of the source that defines a net; None for the bench's own and where there is no source.

    net: a registered name, ``library:NAME``, or a user's ``package.module:factory`` or ``file.py:factory``, which has
    been loaded.
    """
    loader = loader_of(net)
    if loader is not None:
        return sha256_of(Path(net.partition(":")[2])) if loader in PROGRAMS else None
    place = (net if ":" in net else NETS.target(net)).rpartition(":")[0]
    if place.split(".")[0] == "bangbench":
        return None
    source = place if place.endswith(".py") else getattr(importlib.import_module(place), "__file__", None)
    if source is None or not Path(source).is_file():
        return None
    return hashlib.sha256(Path(source).read_bytes()).hexdigest()


@torch.no_grad()
def behaviour_of(classifier: Classifier, input_shape: tuple[int, int, int]) -> str:
    """Return a hash of the logits of fixed images, the same on every machine; ``random`` where they change.

    In float64 and rounded, so that last bits do not matter; in float32, rounded further, for a net that cannot be
    computed in float64.
    """
    device = classifier.device
    generator = torch.Generator().manual_seed(derive_seed(0, "behaviour"))
    # smooth images and noisy ones: a net may look at edges alone, or average them away; in float64, so that last bits
    # decide no grey level
    coarse = torch.rand((_PROBES, *input_shape[:1], 4, 4), generator=generator, dtype=torch.float64)
    images = torch.nn.functional.interpolate(coarse, size=input_shape[1:], mode="bilinear")
    images[1::2] = (images[1::2] + torch.rand(images[1::2].shape, generator=generator, dtype=torch.float64)) / 2.0
    images = (255.0 * images).round().float()
    with default_seeds(derive_seed(0, "behaviour"), device):
        logits = _precise_logits(classifier, images.to(device))
        if not torch.equal(logits, _precise_logits(classifier, images.to(device))):
            return "random"
    # to a power of two, which is hashed too: logits times a factor are other answers
    exponent = math.frexp(_SHARES[logits.dtype] * float(logits.abs().max()))[1]
    rounded = (logits.double() / 2.0**exponent).round().to(torch.int64).cpu().numpy()
    return hashlib.sha256(f"{exponent} ".encode() + rounded.tobytes()).hexdigest()


def _precise_logits(classifier: Classifier, images: Tensor) -> Tensor:
    try:
        logits: Tensor = copy.deepcopy(classifier).double()(images.double())
    except Exception:  # whatever a net of one's own raises when it is copied or converted
        logits = classifier(images)
    return logits if logits.dtype == torch.float64 else logits.float()
