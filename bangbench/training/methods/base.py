"""What a training method is.

A method is one file: a class derived from `Method`, its settings derived from `MethodSettings`, and a line in
`registry.METHODS`. Most override `objective` alone::

    class NoiseSettings(base.MethodSettings):
        sigma: float = Field(0.1, ge=0.0, description="Standard deviation of the noise; 1 is the grey-level range.")


    class Noise(base.Method):
        # its docstring: what it trains on; the file's: the equation, the paper, whose code was read
        Settings: ClassVar[type[base.MethodSettings]] = NoiseSettings
        settings: NoiseSettings
        paper = "Someone 2020, arXiv ..."
        trained_on = ()

        def objective(self, classifier, images, labels):
            noisy = (images + 255.0 * self.settings.sigma * torch.randn_like(images)).clamp(0.0, 255.0)
            logits = classifier(noisy)
            return base.Objective(cross_entropy(logits, labels), logits)

What a method is given, and keeps to:

- Images are grey levels, float32 (N, C, H, W) in [0, 255]; a radius of 0.3 is 76.5. The classifier scales them.
- Random numbers come from torch's default generators, which are in the snapshot (on the device: `randn_like` and the
  like); nothing else may differ between a run and one that was interrupted. What a method remembers from step to step
  is in `state`.
- In a step the classifier is in training mode. Adversarial images are crafted in ``with evaluated(classifier)``
  (`nets.predict`) unless the paper crafts in training mode, and with `image_gradient` and `unmasked_margin`
  (`nets.gradients`), which leave no gradients behind on the weights; `methods.crafting` has the usual attacks.
- `image_gradient` keeps no graph: for second derivatives call `torch.autograd.grad(..., create_graph=True)`.
- The logits of the `Objective` are only counted against the labels, for the log.

The hooks, in the order in which they are called: `transform` (the net is built), `begin_run` (data and models are
there), `load_state` (after an interruption), `prepare`; then for every step `begin_step`, `objective`, `backward`,
`after_backward`, and the solver's step; `state` at every stage; `release` at the end. When a saved model is opened:
`transform` alone, then its weights are loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bangbench.core.errors import BenchError
from bangbench.core.spec import make_settings
from bangbench.nets.classifier import Classifier
from bangbench.training.methods.registry import METHODS


class MethodSettings(BaseModel):
    """Base of a method's settings; a setting the method does not have is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Objective(NamedTuple):
    """The loss to minimise (a scalar, the mean over the batch) and the logits (N, K) it was computed from.

    labels: int64 (N,), what the logits are counted against where that is not the labels of the batch.
    """

    loss: Tensor
    logits: Tensor
    labels: Tensor | None = None


class RunView(NamedTuple):
    """What a method may look at before the first step.

    classifier: in eval mode; images: uint8 (N, C, H, W), all of the training set, on the device, with labels (N,);
    iterations: solver steps of the whole run, of batch_size images each; open_model: name of one of `Method.models` ->
    its classifier, in eval mode and frozen.
    """

    classifier: Classifier
    images: Tensor
    labels: Tensor
    seed: int
    iterations: int
    batch_size: int
    open_model: Callable[[str], Classifier]


class Method:
    """The base of every method, with the hooks of regular training: override those that differ.

    paper: author and year, where it is published; inspired: the paper leaves open so much that this is no more than
    inspired by it; gradient_scale: how many times too large the gradients are that `objective` leads to; the solver
    divides by it; trained_on: the names of the attacks whose images the net is shown, () where it sees clean images
    only; None where the method does not say, so that an audit cannot tell whether an attack was seen in training.
    """

    paper: ClassVar[str] = ""
    inspired: ClassVar[bool] = False
    gradient_scale: ClassVar[float] = 1.0
    trained_on: ClassVar[tuple[str, ...] | None] = None
    Settings: ClassVar[type[MethodSettings]] = MethodSettings

    def __init__(self, settings: MethodSettings) -> None:
        self.settings = settings

    @property
    def cost(self) -> float:
        """Return roughly how many regular steps one step costs (a forward pass 0.35, an image's gradient 0.8)."""
        return 1.0

    @property
    def draws(self) -> int:
        """Return how many passes a prediction averages: more than 1 where the net is random in eval mode."""
        return 1

    @property
    def models(self) -> tuple[str, ...]:
        """Return the names of the bench's models that the method reads; their weights belong to the run's key."""
        return ()

    def transform(
        self, net: nn.Module, shape: tuple[int, int, int], classes: int, generator: torch.Generator
    ) -> nn.Module:
        """Return the net to train and to keep: `net`, changed for good (layers, heads, hooks), or another one.

        shape: (C, H, W) of the images. A function of its arguments alone: it is called again when the model is opened.
        Initial weights come from `generator` or torch's default one, which is seeded here. What the weights' file must
        hold is a parameter or a buffer.
        """
        return net

    def begin_run(self, run: RunView) -> None:
        """Look at data and models before the first step; after an interruption it is called again, before `load_state`.

        Afterwards weights, buffers and random generators are those of the snapshot.
        """

    def state(self) -> dict[str, Tensor]:
        """Return what the method remembers from step to step, for the snapshot."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on with the state of an interrupted run; the tensors lie on the CPU."""

    def prepare(self, classifier: Classifier) -> None:
        """Change the net before the first step, until `release` undoes it."""

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
        """Change the gradients before the solver uses them, or the weights back to what the solver should change."""

    def release(self, classifier: Classifier) -> None:
        """Undo `prepare`; what `transform` made of the net stays."""


class Regular(Method):
    """Regular training: J = CE(f(x), y)."""

    paper = "the usual training"
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


def changes_the_net(method: Method) -> bool:
    """Return whether a saved model can be opened only with this method."""
    return type(method).transform is not Method.transform or method.draws > 1
