"""A model with the images it is looked at on."""

from __future__ import annotations

from typing import NamedTuple

import torch

from bangbench.attacks.spec import ModelSpec, models_in
from bangbench.core.device import choose_device, describe_device
from bangbench.core.errors import BenchError, UsageError
from bangbench.data.dataset import Dataset, data_info
from bangbench.data.sources import load_first, open_source
from bangbench.nets.models import Model, open_model
from bangbench.nets.predict import batch_size_for
from bangbench.nets.references import check_own, given_by
from bangbench.store.records import DataInfo


class Opened(NamedTuple):
    """A model, its test images (the first `limit`), and where they are computed."""

    model: Model
    data: Dataset
    info: DataInfo
    device: torch.device
    batch_size: int

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
    given = given_by(spec)
    check_own(given, models_in(spec), spec.root)
    model = open_model(spec.model, spec.root, device, spec.data_dir, spec.data, given)
    text = spec.data or model.data
    if text is None:
        raise UsageError(f"model '{spec.model}' does not say which images it takes: add --data")
    source = open_source(text, spec.data_dir)
    data = load_first(source, "test", spec.limit)
    check_fit(model, data, source.name)
    batch_size = spec.batch_size or batch_size_for(device, data.images[:1].size)
    return Opened(model, data, data_info(data, source.name, text), device, batch_size)


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
    given = given_by(spec)._replace(weights=None, name=None)
    model = open_model(reference, spec.root, opened.device, spec.data_dir, spec.data, given)
    check_fit(model, opened.data, opened.info.name)
    return model
