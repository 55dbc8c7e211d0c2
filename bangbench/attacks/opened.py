"""A model with the images it is looked at on."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from bangbench.attacks.spec import ModelSpec
from bangbench.core.device import choose_device, describe_device
from bangbench.core.errors import BenchError, UsageError
from bangbench.data.dataset import Dataset, data_info
from bangbench.data.sources import load_first, open_source
from bangbench.nets.models import Given, Model, check_model, is_own_net, open_model
from bangbench.nets.norms import doubtful, twice
from bangbench.nets.outputs import PLAIN
from bangbench.nets.predict import batch_size_for
from bangbench.store.records import DataInfo, Preprocessing


class Opened(NamedTuple):
    """A model, its test images (the first `limit`), and where they are computed."""

    model: Model
    data: Dataset
    info: DataInfo
    device: torch.device
    batch_size: int

    def notes(self) -> list[str]:
        """Return what a user should know of how the model is read: its output, and a doubtful mean or std."""
        info, output = self.model.info, self.model.classifier.output
        taken = None if output == PLAIN else f"{info.name}: its logits are {output}"
        doubt = doubtful(info.preprocessing) or twice(info.preprocessing, self.model.classifier.net)
        doubt = doubt if self.model.folder is None else None
        return [note for note in (taken, doubt) if note is not None]

    @property
    def device_name(self) -> str:
        """Return the device's name for the record."""
        return describe_device(self.device)


def open_with_images(spec: ModelSpec) -> Opened:
    """Open the model and the data of a spec.

    Raises `UsageError` for a model without data and for settings that belong to a user's own net, `BenchError` for
    images or classes that the model does not take.
    """
    device = choose_device(spec.device)
    given = _given(spec)
    _check_own(spec)
    model = open_model(spec.model, spec.root, device, spec.data_dir, spec.data, given)
    text = spec.data or model.data
    if text is None:
        raise UsageError(f"model '{spec.model}' does not say which images it takes: add --data")
    source = open_source(text, spec.data_dir)
    data = load_first(source, "test", spec.limit)
    check_fit(model, data, source.name)
    batch_size = spec.batch_size or batch_size_for(device, data.images[:1].size)
    return Opened(model, data, data_info(data, source.name, text), device, batch_size)


def check_resolved(spec: ModelSpec) -> None:
    """Raise the error of a device, a model or data that is not there, before anything is read or computed.

    `open_with_images` raises it as well, for one spec after the other.
    """
    choose_device(spec.device)
    _check_own(spec)
    given = _given(spec)
    check_model(spec.model, spec.root, given)
    against = getattr(spec, "against", None)
    if against is not None:
        check_model(against, spec.root, given._replace(weights=None))
    if spec.data is not None:
        open_source(spec.data, spec.data_dir)


def _check_own(spec: ModelSpec) -> None:
    """Raise `UsageError` for settings of a user's own net where there is none."""
    own_nets = [is_own_net(reference or "") for reference in (spec.model, getattr(spec, "against", None))]
    if (spec.weights and not own_nets[0]) or (_own_preprocessing(spec) and not any(own_nets)):
        raise UsageError("--weights, --input-scale, --mean and --std go with a module:factory model only")
    if spec.name is not None and not own_nets[0]:
        raise UsageError(f"--name goes with a net of your own; the results of '{spec.model}' have its name")


def _given(spec: ModelSpec) -> Given:
    own = Preprocessing(**_own_preprocessing(spec))
    return Given(spec.weights, own, spec.random_weights, spec.trust_code, spec.name)


def _own_preprocessing(spec: ModelSpec) -> dict[str, Any]:
    return spec.model_dump(include={"input_scale", "mean", "std"}, exclude_none=True)


def check_fit(model: Model, data: Dataset, name: str) -> None:
    """Raise `BenchError` unless the model takes these images and has their classes."""
    if data.images.shape[1:] != model.info.input_shape:
        raise BenchError(
            f"model '{model.name}' takes images {model.info.input_shape}, {name} has {data.images.shape[1:]}; "
            "choose the data it was trained on with --data"
        )
    if len(data.class_names) != model.info.classes:
        raise BenchError(f"model '{model.name}' has {model.info.classes} classes, {name} has {len(data.class_names)}")


def open_source_model(reference: str, spec: ModelSpec, opened: Opened) -> Model:
    """Return the model whose adversarial images are tried on the opened one; `BenchError` where it takes others.

    A user's own net is given the preprocessing of the spec, and weights of its own (``factory@FILE``).
    """
    given = _given(spec)._replace(weights=None, name=None)
    model = open_model(reference, spec.root, opened.device, spec.data_dir, spec.data, given)
    check_fit(model, opened.data, opened.info.name)
    return model
