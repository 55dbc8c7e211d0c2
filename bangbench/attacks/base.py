"""What an attack is, what it is given and what it gives back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from bangbench.attacks.registry import ATTACKS
from bangbench.attacks.spec import Strength
from bangbench.core.errors import BenchError
from bangbench.core.spec import make_settings
from bangbench.nets.classifier import Classifier

#: What an attack cannot do without: gradients with respect to the image; another model to copy from.
Need = Literal["gradients", "source"]

#: Settings by strength: the defaults where none are given, None where an audit of that strength leaves an attack out.
ByStrength = Mapping[Strength, Mapping[str, Any] | None]


class AttackSettings(BaseModel):
    """Base of an attack's settings; a setting that the attack does not have is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Means(NamedTuple):
    """What an attack may use beside the classifier.

    generator: a CPU generator, so that every device draws the same numbers; batch_size: images per forward pass,
    which must not change a result; source: another model, for attacks that transfer; budget: the largest L_inf
    distance in grey levels, None for an attack that has no bound.
    """

    generator: torch.Generator
    batch_size: int
    source: Classifier | None = None
    budget: int | None = None


class Direction(NamedTuple):
    """tensor: float32 (N, C, H, W), the change per step in grey levels.

    blank: bool (N,), True where there is no direction and the attempt fails; gradient_max: float32 (N,), the largest
    absolute entry of the gradient that the direction comes from.
    """

    tensor: Tensor
    blank: Tensor
    gradient_max: Tensor

    def rows(self, chosen: Tensor) -> Direction:
        """Return the directions of some images: indices or a mask."""
        return Direction(*(part[chosen] for part in self))


class Flips(NamedTuple):
    """adversarial: uint8 (N, C, H, W), the original where none was found; found: bool (N,).

    scale: float32 (N,), the step along a line or the budget at which an image was flipped, NaN where none was;
    forwards: number of images that went through a classifier; blank: bool (N,), where the attack had no direction to
    follow; gradient_max: float32 (N,), the largest entry of the gradient that a direction came from, NaN where there
    was no direction.
    """

    adversarial: Tensor
    scale: Tensor
    found: Tensor
    forwards: int
    blank: Tensor
    gradient_max: Tensor


class Attack(ABC):
    """An attack: finds, for images that a classifier gets right, images that it gets wrong.

    version: counted up whenever the same settings could give other results: results of another version are not used;
    norm: in which its distances are measured; bounded: it stays inside a ball and takes a budget; needs: what it
    cannot do without; unmasked_twin: the name of the attack that computes the same with nothing masked; nested: a
    larger ball cannot make it fail more often but by chance; strengths: the settings that an audit of a given strength
    runs it with, its defaults where none are given, and None where such an audit leaves it out; on_survivors: the
    strengths at which an audit runs it only on images that all other attacks leave; cost: roughly how many forward
    passes it takes for one image, by which an audit orders attacks.
    """

    Settings: ClassVar[type[AttackSettings]] = AttackSettings
    version: ClassVar[int] = 1
    norm: ClassVar[Literal["linf"]] = "linf"
    bounded: ClassVar[bool] = True
    needs: ClassVar[frozenset[Need]] = frozenset({"gradients"})
    unmasked_twin: ClassVar[str | None] = None
    nested: ClassVar[bool] = True
    strengths: ClassVar[ByStrength] = {}
    on_survivors: ClassVar[frozenset[Strength]] = frozenset()
    cost: ClassVar[int] = 100

    def __init__(self, settings: AttackSettings | None = None) -> None:
        self.settings = self.Settings() if settings is None else settings

    @abstractmethod
    def run(self, classifier: Classifier, images: Tensor, labels: Tensor, means: Means) -> Flips:
        """Attack images float32 (N, C, H, W), whole grey levels, with labels int64 (N,).

        The classifier is in eval mode. What is returned is judged again by the bench: an image that is farther away
        than the budget or is classified as its label does not count. The global random state stays as it is.
        """


def checked(flips: Any, name: str, images: Tensor) -> Flips:
    """Return what the attack `name` gave back for images (N, C, H, W); `BenchError` unless it is as promised."""
    wanted = {
        "adversarial": (tuple(images.shape), torch.uint8),
        "scale": (tuple(images.shape[:1]), torch.float32),
        "found": (tuple(images.shape[:1]), torch.bool),
        "blank": (tuple(images.shape[:1]), torch.bool),
        "gradient_max": (tuple(images.shape[:1]), torch.float32),
    }
    promise = f"attack '{name}': Attack.run must return bangbench.attacks.base.Flips"
    if not isinstance(flips, Flips):
        raise BenchError(f"{promise}, found {type(flips).__name__}")
    for field, (shape, dtype) in wanted.items():
        value = getattr(flips, field)
        if not isinstance(value, Tensor) or (tuple(value.shape), value.dtype) != (shape, dtype):
            what = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
            raise BenchError(f"{promise} with {field} of shape {shape} and {dtype}, found {what}")
    return flips


def make_attack(name: str, given: Mapping[str, Any] | None = None) -> Attack:
    """Return the attack `name` with the settings given; `UsageError` for one it does not have or out of range."""
    kind = ATTACKS.load(name)
    return kind(make_settings(f"attack '{name}'", kind.Settings, given or {}))
