"""What a training method is, and the registry of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.nn.functional import cross_entropy

from bangbench.core.errors import BenchError
from bangbench.core.registry import Registry
from bangbench.core.spec import make_settings
from bangbench.nets.classifier import Classifier

METHODS: Registry[type[Method]] = Registry(
    "method",
    "bangbench.methods",
    {
        "regular": "bangbench.training.methods.base:Regular",
        "bang": "bangbench.training.methods.bang:Bang",
        "pgd-at": "bangbench.training.methods.pgd_at:PgdAdversarialTraining",
        "fgs-at": "bangbench.training.methods.fgs_at:FgsAdversarialTraining",
    },
)


class MethodSettings(BaseModel):
    """Base of a method's settings; a setting the method does not have is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Objective(NamedTuple):
    """The loss to minimise (a scalar, the mean over the batch) and the logits (N, K) it was computed from."""

    loss: Tensor
    logits: Tensor


class Method:
    """The base of every method, with the hooks of regular training: override those that differ.

    gradient_scale: how many times too large the gradients are that `objective` leads to; the solver divides by it.
    trained_on: the names of the attacks whose images the net is shown, () where it sees clean images only; None where
    the method does not say, so that an audit cannot tell whether an attack was seen in training.
    """

    gradient_scale: ClassVar[float] = 1.0
    trained_on: ClassVar[tuple[str, ...] | None] = None
    Settings: ClassVar[type[MethodSettings]] = MethodSettings

    def __init__(self, settings: MethodSettings) -> None:
        self.settings = settings

    def prepare(self, classifier: Classifier) -> None:
        """Change the net before the first step; `release` must undo it."""

    def warnings(self, classifier: Classifier) -> tuple[str, ...]:
        """Return what a user should know of this net under this method; the net is in training mode."""
        return ()

    def begin_step(self, iteration: int) -> None:
        """Learn which solver step comes next, counted from 0; after an interruption the count goes on."""

    def objective(self, classifier: Classifier, images: Tensor, labels: Tensor) -> Objective:
        """Return loss and logits of a batch: images float32 (N, C, H, W) in grey levels, labels int64 (N,)."""
        logits = classifier(images)
        return Objective(cross_entropy(logits, labels), logits)

    def after_backward(self, classifier: Classifier) -> None:
        """Change the gradients before the solver uses them."""

    def release(self, classifier: Classifier) -> None:
        """Leave a plain net behind."""


class Regular(Method):
    """Regular training."""

    trained_on = ()


def attacks_shown(name: str) -> tuple[str, ...] | None:
    """Return the attacks whose images the method `name` shows the net; None where that is not known here.

    A method speaks for itself only: what it inherits from another method is nobody's word about its own objective.
    """
    try:
        shown: tuple[str, ...] | None = vars(METHODS.load(name)).get("trained_on")
    except BenchError:  # a method of a package that is not here, or cannot be imported, says nothing
        return None
    return shown


def make_method(name: str, given: Mapping[str, Any]) -> Method:
    """Return the method `name` with the settings given; `UsageError` for one it does not have or out of range."""
    kind = METHODS.load(name)
    return kind(make_settings(f"method '{name}'", kind.Settings, given))
