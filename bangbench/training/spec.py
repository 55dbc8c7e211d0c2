"""What `bangbench train` was asked to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from bangbench.core.spec import Spec, numbers_given
from bangbench.nets.norms import with_norm
from bangbench.store.layout import check_name

Positive = Annotated[int, Field(ge=1)]


class TrainSpec(Spec):
    """One model to train. Settings left at None are the net's own (LeNet and CIFAR-10 quick: Caffe's)."""

    #: What sets up the method is kept together, with the method's own defaults, apart from the settings of the run.
    #: Epochs are kept as the iterations that they come to.
    circumstances: ClassVar[frozenset[str]] = Spec.circumstances | {
        "name",
        "beta",
        "epsilon",
        "ratio",
        "option",
        "epochs",
        "norm",
    }
    filled_in: ClassVar[frozenset[str]] = frozenset(
        {"iterations", "batch_size", "learning_rate", "rate_policy", "weight_decay", "stages"}
    )
    #: Settings of which a record says nothing where they are not used, as records did before there were any.
    unsaid: ClassVar[frozenset[str]] = frozenset({"solver", "shift", "flip"})

    name: str = Field(description="Name of the model: its folder under models/, such as R0 or table1/R0.")
    net: str = Field("lenet", description="Registered net, or your own: package.module:factory or file.py:factory.")
    data: str = Field("mnist", description="digits, mnist, cifar10, npz:FILE, folder:DIR or folder:FILE.zip.")
    method: str = Field("regular", description="Training method.")
    beta: float | None = Field(None, description="BANG: factor of the whole gradient.")
    epsilon: float | None = Field(None, description="BANG: how far gradients are balanced, 0 to 1.")
    ratio: float | None = Field(None, description="BANG: epsilon of misclassified samples, relative to the others'.")
    option: tuple[str, ...] = Field(
        (), description="KEY=VALUE, a setting of the method; `bangbench methods NAME` lists them."
    )
    seed: int = Field(0, ge=0, description="Seed of the initial weights, dropout and shuffling.")
    iterations: Positive | None = Field(None, description="Solver steps.")
    epochs: Positive | None = Field(None, description="Passes over the training images, instead of --iterations.")
    batch_size: Positive | None = Field(None, description="Images per step.")
    learning_rate: float | None = Field(None, gt=0, description="Base learning rate.")
    rate_policy: str | None = Field(
        None,
        description="inv(GAMMA, POWER), steps(ITERATION, ...), constant(), cosine() or triangle(PEAK_AT), whose rate "
        "rises from 0 until that share of the run, such as 0.4, and falls to 0.",
    )
    solver: str = Field("caffe", description="caffe (Caffe's SGD), or sgd, adam, adamw as in torch.optim.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum; Adam's beta_1.")
    weight_decay: float | None = Field(None, ge=0, description="Weight decay, on weights and biases.")
    stages: Positive | None = Field(None, description="Keep a snapshot every so many iterations.")
    shuffle: bool = Field(False, description="Shuffle each epoch instead of reading in file order.")
    shift: int = Field(0, ge=0, description="Move each training image by up to so many pixels, anew in every step.")
    flip: bool = Field(False, description="Mirror half of the training images, left to right, anew in every step.")
    train_images: Positive | None = Field(None, description="Train on the first so many images only.")
    input_scale: float | None = Field(None, gt=0, description="Divide grey levels by this before the net.")
    mean: tuple[float, ...] | None = Field(None, description="Per-channel mean after scaling.")
    std: tuple[float, ...] | None = Field(None, description="Per-channel standard deviation after scaling.")
    norm: str | None = Field(None, description="Mean and std of imagenet, cifar10, mnist or half, after scaling.")
    threads: Positive = Field(1, description="CPU threads; the weights are the same bits only for the same number.")

    _check_name = field_validator("name")(check_name)
    _fill_in_norm = model_validator(mode="before")(with_norm)

    def settings(self) -> dict[str, Any]:
        """Return what was asked for, as JSON values, without the circumstances of this machine."""
        unused = {name for name in self.unsaid if getattr(self, name) == type(self).model_fields[name].default}
        return {name: value for name, value in super().settings().items() if name not in unused}

    def beside(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a card as they are asked for now, as far as that is known without net and data."""
        now = super().beside(before)
        if own := before.get("method_settings"):
            now["method_settings"] = numbers_given(self.method_settings(), own)
        return now

    def method_settings(self) -> dict[str, Any]:
        """Return the method's settings that were given."""
        return self._named() | dict(item.split("=", 1) for item in self.option)

    def _named(self) -> dict[str, Any]:
        named = {"beta": self.beta, "epsilon": self.epsilon, "ratio": self.ratio}
        return {name: value for name, value in named.items() if value is not None}

    @model_validator(mode="after")
    def _check_given_once(self) -> Self:
        names = Counter([*self._named(), *(item.partition("=")[0] for item in self.option)])
        if twice := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"{', '.join(twice)}: given more than once; leave all but one out")
        return self

    @field_validator("option")
    @classmethod
    def _check_option(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for item in value:
            if "=" not in item:
                raise ValueError(f"expected KEY=VALUE, found '{item}'")
        return value
