"""Models of other libraries, written ``library:NAME``: each loader is a few lines, its library an extra.

A loader is ``load(name, pretrained) -> Loaded``; packages add more under the entry point ``bangbench.loaders``. What is
in the library's own cache needs no network.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from bangbench.core.errors import BenchError, UsageError
from bangbench.nets.references import LOADERS, library_of
from bangbench.store.records import Preprocessing


class Loaded(NamedTuple):
    """A net, how images in grey levels become its input, and the names of its classes where they are known."""

    net: nn.Module
    preprocessing: Preprocessing = Preprocessing()
    labels: tuple[str, ...] | None = None


#: (name, whether with its weights or only the architecture) -> the model.
Loader = Callable[[str, bool], Loaded]


def load(reference: str, pretrained: bool = True) -> Loaded:
    """Return the model that ``library:NAME`` names, in eval mode.

    pretrained: with its weights, else the architecture alone. `UsageError` where the library is not installed,
    `BenchError` where there is no such model, or its weights are neither here nor to be had.
    """
    prefix, name = library_of(reference)
    loader = LOADERS.load(prefix)
    try:
        loaded = loader(name, pretrained)
    except BenchError:
        raise
    except Exception as error:  # other libraries raise anything
        reason = (str(error).strip().splitlines() or [""])[0][:300]
        raise BenchError(
            f"model '{reference}' cannot be loaded: {type(error).__name__}: {reason}; check the name, and without a "
            "network fetch it once where there is one: its library keeps it in a cache, which can be copied"
        ) from error
    return loaded._replace(net=loaded.net.eval())


def from_timm(name: str, pretrained: bool) -> Loaded:
    """Return a model of timm, whose configuration gives mean and std."""
    timm = _library("timm", "timm")
    net = timm.create_model(name, pretrained=pretrained)
    config = timm.data.resolve_model_data_config(net)
    return Loaded(net, _preprocessing(config["mean"], config["std"]))


def from_torchvision(name: str, pretrained: bool) -> Loaded:
    """Return a model of torchvision with its default weights, whose transforms give mean and std."""
    models = _library("torchvision.models", "torchvision")
    weights = models.get_model_weights(name).DEFAULT
    transforms = weights.transforms()
    labels = tuple(weights.meta["categories"]) if "categories" in weights.meta else None
    net = models.get_model(name, weights=weights if pretrained else None)
    return Loaded(net, _preprocessing(transforms.mean, transforms.std), labels)


def from_transformers(name: str, pretrained: bool) -> Loaded:
    """Return an image classifier of the Hugging Face hub, or of a local folder; its processor gives mean and std."""
    transformers = _library("transformers", "hf")
    kind = transformers.AutoModelForImageClassification
    # code of a repository is never run, and nobody is asked on the terminal whether it may be
    config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
    net = kind.from_pretrained(name, trust_remote_code=False) if pretrained else kind.from_config(config)
    labels = tuple(str(config.id2label[place]) for place in range(len(config.id2label)))
    return Loaded(net, _of_processor(transformers, name), labels)


def _of_processor(transformers: Any, name: str) -> Preprocessing:
    """Return what the image processor of a repository does to grey levels."""
    found, _ = transformers.ImageProcessingMixin.get_image_processor_dict(name)
    if not found.get("do_rescale", True):
        raise BenchError(f"model 'hf:{name}': its processor does not scale images to [0, 1]; wrap it in a factory")
    if not found.get("do_normalize", True):
        return Preprocessing()
    return _preprocessing(found.get("image_mean"), found.get("image_std"))


def from_robustbench(name: str, pretrained: bool) -> Loaded:
    """Return a model of RobustBench's zoo, written ID/DATASET/NORM; it takes images in [0, 1]."""
    parts = name.split("/")
    if len(parts) != 3:
        raise UsageError(f"'robustbench:{name}': expected robustbench:ID/DATASET/NORM, such as Standard/cifar10/Linf")
    identifier, dataset, norm = parts
    utils = _library("robustbench.utils", "robustbench")
    return Loaded(utils.load_model(model_name=identifier, dataset=dataset, threat_model=norm))


def from_torchscript(name: str, pretrained: bool) -> Loaded:
    """Return the net in a TorchScript file, with its own code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that there is a successor is no news to who has a file
        return Loaded(_Program(torch.jit.load(name, map_location="cpu").eval()))  # type: ignore[no-untyped-call]


def from_export(name: str, pretrained: bool) -> Loaded:
    """Return the net in a file of torch.export, with its own code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own, about how it reads the file
        return Loaded(_Program(torch.export.load(name).module()))


class _Program(nn.Module):
    """A net with code of its own, in eval mode as it was written: what was exported refuses to be told of modes."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> _Program:
        """Leave the program as it was exported."""
        self.training = mode
        return self

    def forward(self, images: torch.Tensor) -> Any:
        """Return what the program returns."""
        return self.net(images)


def _library(module: str, extra: str) -> Any:
    """Import a library that is an extra; `UsageError` says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"{extra}: models need a library that cannot be imported ({error}); pip install 'bangbench[{extra}]'"
        ) from error


def _preprocessing(mean: Sequence[float] | None, std: Sequence[float] | None) -> Preprocessing:
    given: Mapping[str, Any] = {"mean": mean, "std": std}
    return Preprocessing(**{name: tuple(map(float, values)) for name, values in given.items() if values is not None})
