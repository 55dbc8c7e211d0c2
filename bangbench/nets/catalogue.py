"""Nets by name: the registered ones, and a user's own as ``package.module:factory`` or ``file.py:factory``."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from bangbench.core.errors import BenchError, UsageError
from bangbench.core.seeds import default_seeds, derive_seed
from bangbench.nets.classifier import Classifier
from bangbench.nets.definition import NetDefinition, SolverSettings
from bangbench.nets.loaders import load
from bangbench.nets.outputs import PLAIN
from bangbench.nets.references import loader_of
from bangbench.nets.registry import NETS
from bangbench.store.records import Preprocessing


def net_definition(name: str) -> NetDefinition:
    """Return the definition of a registered net, of another library's, or of a user's factory named with a colon."""
    if loader_of(name) is not None:
        return NetDefinition(lambda *_: load(name, pretrained=False).net, Preprocessing(), SolverSettings())
    if ":" in name:
        return NetDefinition(_user_build(name), Preprocessing(), SolverSettings())
    return NETS.load(name)


def build_net(definition: NetDefinition, input_shape: tuple[int, int, int], classes: int, seed: int) -> nn.Module:
    """Return a net with the initial weights that `seed` gives."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "weights"))
    return definition.build(input_shape, classes, generator)


def check_classifier(classifier: Classifier, input_shape: tuple[int, int, int], classes: int, what: str) -> None:
    """Raise `BenchError` unless the classifier gives finite logits (N, classes) that depend on its input.

    Three probe images are used: black, white, and a fixed random one.
    """
    device = classifier.device
    random = torch.rand(input_shape, generator=torch.Generator().manual_seed(0)) * 255
    probe = torch.stack([torch.zeros(input_shape), torch.full(input_shape, 255.0), random]).to(device)
    classifier.eval()
    try:
        with torch.no_grad():
            logits = classifier(probe)
    except BenchError as error:
        raise BenchError(f"{what}: {error}") from error
    except Exception as error:  # the net is the user's own code
        raise BenchError(f"{what}: fails on images of shape {input_shape}: {_reason(error)}") from error
    if not isinstance(logits, torch.Tensor) or logits.shape != (3, classes):
        shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        taken = "" if classifier.output == PLAIN else f" ({classifier.output})"
        raise BenchError(f"{what}: expected logits of shape (3, {classes}) for 3 images, found {shape}{taken}")
    if not bool(logits.isfinite().all()):
        raise BenchError(f"{what}: its logits are NaN or infinite on plain images; are the weights whole?")
    if bool((logits == logits[0]).all()):
        raise BenchError(f"{what}: black, white and random images get the same logits; the net ignores its input")


def _user_build(name: str) -> Callable[[tuple[int, int, int], int, torch.Generator], nn.Module]:
    factory = _user_factory(name)

    def build(input_shape: tuple[int, int, int], classes: int, generator: torch.Generator) -> nn.Module:
        known = {"input_shape": input_shape, "classes": classes, "num_classes": classes}
        accepted = {key: value for key, value in known.items() if key in inspect.signature(factory).parameters}
        with default_seeds(generator.initial_seed(), torch.device("cpu")):
            net = _call_factory(factory, accepted, name)
        if not isinstance(net, nn.Module):
            raise BenchError(
                f"net '{name}': expected the factory to return a torch.nn.Module, found {type(net).__name__}"
            )
        return net

    return build


def _call_factory(factory: Callable[..., Any], arguments: dict[str, Any], name: str) -> Any:
    try:
        return factory(**arguments)
    except BenchError:
        raise
    except Exception as error:  # the factory is the user's own code
        given = ", ".join(arguments) or "nothing"
        raise BenchError(
            f"net '{name}': its factory, given {given}, fails: {_reason(error)}; it may take input_shape, classes or "
            "num_classes"
        ) from error


def _reason(error: Exception) -> str:
    """Return the kind of an error and the first line of what it says."""
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])


def _user_factory(name: str) -> Callable[..., Any]:
    place, _, attribute = name.rpartition(":")
    module = _module_from_file(Path(place)) if place.endswith(".py") else _module_by_name(place)
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise UsageError(f"net '{name}': {place} has no function or class '{attribute}'")
    return factory  # type: ignore[no-any-return]  # the module is the user's own


def _module_by_name(place: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(place)
    except Exception as error:  # the module is the user's own code
        raise UsageError(f"net module '{place}' cannot be imported: {_reason(error)}") from error
    finally:
        sys.path.pop(0)


def _module_from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"net file {path} does not exist")
    spec = importlib.util.spec_from_file_location(f"bangbench_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"net file {path} cannot be read as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickles look their module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the file is the user's own code
        raise UsageError(f"net file {path} cannot be imported: {_reason(error)}") from error
    return module
