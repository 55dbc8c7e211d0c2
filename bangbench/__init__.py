"""bangbench: measure how robust image classifiers are, and whether their gradients are still there.

>>> import bangbench as bb
>>> found = bb.audit(model, images, labels)       # any nn.Module; float images in [0, 1] or uint8, (N, C, H, W)
>>> found.verdict, found.robust_accuracy("8/255")

Everything is imported when it is first used: ``import bangbench`` takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bangbench.attacks.registry import ATTACKS as ATTACKS
    from bangbench.data.sources import SOURCES as DATASETS
    from bangbench.interface.attack import attack as attack
    from bangbench.interface.audit import audit as audit
    from bangbench.interface.models import load_model as load_model
    from bangbench.interface.noise import noise_eval as noise_eval
    from bangbench.interface.scores import pass_score as pass_score
    from bangbench.interface.train import train as train
    from bangbench.nets.registry import NETS as NETS
    from bangbench.reporting.frames import read as read
    from bangbench.training.methods.registry import METHODS as METHODS

__version__ = "0.1.0"

#: Where what is offered lies. No subpackage has one of these names: importing it would hide the function.
_PLACES = {
    "ATTACKS": "bangbench.attacks.registry:ATTACKS",
    "DATASETS": "bangbench.data.sources:SOURCES",
    "METHODS": "bangbench.training.methods.registry:METHODS",
    "NETS": "bangbench.nets.registry:NETS",
    "attack": "bangbench.interface.attack:attack",
    "audit": "bangbench.interface.audit:audit",
    "load_model": "bangbench.interface.models:load_model",
    "noise_eval": "bangbench.interface.noise:noise_eval",
    "pass_score": "bangbench.interface.scores:pass_score",
    "read": "bangbench.reporting.frames:read",
    "train": "bangbench.interface.train:train",
}

__all__ = [  # noqa: RUF022  # as a reader meets them
    "audit",
    "attack",
    "noise_eval",
    "pass_score",
    "train",
    "load_model",
    "read",
    "ATTACKS",
    "METHODS",
    "NETS",
    "DATASETS",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'bangbench' has no attribute '{name}'")
    module, _, attribute = _PLACES[name].partition(":")
    return globals().setdefault(name, getattr(import_module(module), attribute))


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
