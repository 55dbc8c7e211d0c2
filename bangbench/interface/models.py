"""A user's net as the bench's classifier, and everything about it left as it was found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from bangbench.core.device import choose_device, exact_arithmetic_inside
from bangbench.core.errors import UsageError
from bangbench.core.seeds import default_seeds
from bangbench.interface.inputs import Batch
from bangbench.nets.classifier import Classifier
from bangbench.nets.identity import behaviour_of
from bangbench.nets.models import open_model, state_fingerprint
from bangbench.nets.norms import check_preprocessing, doubtful, twice
from bangbench.nets.outputs import PLAIN, WRAP, logits_in
from bangbench.nets.predict import left_as_found
from bangbench.store.layout import CARD, LOG
from bangbench.store.records import ModelCard, ModelInfo, Preprocessing, read_record

if TYPE_CHECKING:
    import pandas as pd


class Model(NamedTuple):
    """A model of the bench: trained by it, or one that it can open.

    classifier: grey levels float32 (N, C, H, W) in [0, 255] -> logits (N, K), in eval mode and frozen; card, log: what
    is known of its training, None where it was trained elsewhere; log: one row per stage.
    """

    name: str
    info: ModelInfo
    classifier: Classifier
    card: ModelCard | None
    log: pd.DataFrame | None

    def __repr__(self) -> str:
        how = self.info.method or "a method that is not known"
        accuracy = f", test accuracy {self.card.accuracy:.2f} %" if self.card and self.card.accuracy else ""
        return f"{self.name}: {self.info.net}, {self.info.parameters:,} parameters, trained by {how}{accuracy}"


class Subject(NamedTuple):
    """A user's model, ready to be looked at: `classifier` takes grey levels.

    notes: what a reader should know of how it is read: its output, a doubtful mean or std; classes: K of the logits
    (N, K).
    """

    name: str
    classifier: Classifier
    info: ModelInfo | None
    notes: tuple[str, ...]
    classes: int
    device: torch.device

    def described(self, batch: Batch, own: Preprocessing) -> ModelInfo:
        """Return what a record says of the model."""
        if self.info is not None:
            return self.info
        net = self.classifier.net.net if isinstance(self.classifier.net, _Logits) else self.classifier.net
        channels, height, width = batch.pixels.shape[1:]
        return ModelInfo(
            name=self.name,
            net=f"{type(net).__module__}:{type(net).__qualname__}",
            parameters=sum(value.numel() for value in net.parameters()),
            classes=self.classes,
            input_shape=(channels, height, width),
            preprocessing=own,
            weights_sha256=state_fingerprint(net),
            behaviour=behaviour_of(self.classifier, (channels, height, width)),
        )


def load_model(
    name: str,
    *,
    root: str | Path = ".",
    data_dir: str | Path | None = None,
    data: str | None = None,
    device: str = "auto",
) -> Model:
    """Return a model under ROOT/models, of a folder, or of one of the authors' `.caffemodel.h5` files.

    Raises `UsageError` for a model that does not exist, `BenchError` for one that is unfinished or damaged.
    """
    directory = None if data_dir is None else Path(data_dir)
    opened = open_model(name, Path(root), choose_device(device), directory, data)
    if opened.folder is None:
        return Model(opened.name, opened.info, opened.classifier, None, None)
    card = read_record(opened.folder / CARD, ModelCard)
    return Model(opened.name, opened.info, opened.classifier, card, _log(opened.folder / LOG))


def _log(path: Path) -> pd.DataFrame | None:
    import pandas as pd

    return pd.read_csv(path) if path.is_file() else None


@contextmanager
def borrowed(model: nn.Module | Model, batch: Batch, own: Preprocessing | None, name: str | None) -> Iterator[Subject]:
    """Lend a model to the bench, in eval mode and frozen, and give it back as it was, random generators included.

    own: how grey levels become its input; None: images in [0, 1]. Raises `UsageError` for what is no model, or takes
    other images, or gives no logits of at least as many classes as there are labels.
    """
    with ExitStack() as stack:
        # before anything is made: a classifier switches inexact arithmetic off, and tensors have the default type
        for kept in (exact_arithmetic_inside(), torch.inference_mode(False), _single_precision()):
            stack.enter_context(kept)
        classifier = _classifier(model, batch, own)
        net = classifier.net
        stack.enter_context(_left_alone(classifier))
        device = next((value.device for value in (*net.parameters(), *net.buffers())), torch.device("cpu"))
        stack.enter_context(default_seeds(0, device))
        for buffer in ("mean", "std", "_where"):
            setattr(classifier, buffer, None if (value := getattr(classifier, buffer)) is None else value.to(device))
        classes, output = _probe(classifier, batch, device)
        info = model.info if isinstance(model, Model) else None
        known = name or (info.name if info else type(model).__name__)
        taken = None if output == PLAIN else f"the logits are {output}"
        notes = tuple(note for note in (taken, _doubt(own or Preprocessing(), net)) if note is not None)
        yield Subject(known, classifier, info, notes, classes, device)


def _classifier(model: object, batch: Batch, own: Preprocessing | None) -> Classifier:
    if isinstance(model, Model | Classifier):
        if own is not None:
            raise UsageError("input_scale, mean and std: a model of the bench has its own; leave them out")
        return model.classifier if isinstance(model, Model) else model
    if isinstance(model, nn.Module):
        check_preprocessing(own or Preprocessing(), batch.pixels.shape[1])
        return Classifier(_Logits(model), own or Preprocessing())
    raise UsageError(
        f"model: expected a torch.nn.Module, found {_type(model)}; wrap it in a Module whose forward "
        "takes images (N, C, H, W)"
    )


def _doubt(own: Preprocessing, net: nn.Module) -> str | None:
    """Return what looks wrong about how a net of the user's is given its images, in the words of Python."""
    found = doubtful(own) or twice(own, net)
    return found and found.replace("--input-scale", "input_scale").replace("--", "")


class _Logits(nn.Module):
    """A user's net with images in its own precision, and of its output the logits, in that of the images."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.output = PLAIN

    def forward(self, images: Tensor) -> Tensor:
        kind = next((value.dtype for value in self.net.parameters() if value.is_floating_point()), images.dtype)
        logits, self.output = logits_in(self.net(images.to(kind)))
        return logits.to(images.dtype)


def _probe(classifier: Classifier, batch: Batch, device: torch.device) -> tuple[int, str]:
    """Return how many classes the model has, and what of its output the logits are."""
    images = torch.from_numpy(batch.pixels[:2]).to(device, torch.float32)
    shape = tuple(images.shape[1:])
    try:
        with torch.no_grad():
            seen = classifier(images)
    except UsageError:
        raise
    except Exception as error:  # the net is the user's own code
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        raise UsageError(f"model: fails on images {shape}: {reason}; pass images as it takes them") from error
    if not isinstance(seen, Tensor) or seen.ndim != 2 or len(seen) != len(images) or seen.shape[1] < 2:
        found = tuple(seen.shape) if isinstance(seen, Tensor) else _type(seen)
        raise UsageError(f"model: expected logits (N, K) of K > 1 classes, found {found} for N = {len(images)}; {WRAP}")
    low, high = int(batch.labels.min()), int(batch.labels.max())
    if low < 0 or high >= seen.shape[1]:
        raise UsageError(
            f"labels: expected 0 to {seen.shape[1] - 1}, as the model has logits for, found {low} to {high}"
        )
    return seen.shape[1], classifier.net.output if isinstance(classifier.net, _Logits) else PLAIN


def preprocessing(
    input_scale: float | None, mean: float | tuple[float, ...] | None, std: float | tuple[float, ...] | None
) -> Preprocessing | None:
    """Return how grey levels become a net's input, (x / input_scale - mean) / std; None where nothing is given."""
    given = {"input_scale": input_scale, "mean": _values(mean), "std": _values(std)}
    stated = {name: value for name, value in given.items() if value is not None}
    return Preprocessing.model_validate(stated) if stated else None


def _values(given: Any) -> tuple[float, ...] | None:
    return None if given is None else tuple(float(value) for value in np.atleast_1d(np.asarray(given, np.float64)))


@contextmanager
def _left_alone(classifier: Classifier) -> Iterator[None]:
    """Put a net into eval mode and freeze it; put back modes, buffers, and what parameters have of gradients.

    A program that was exported or frozen refuses to be told of modes, and stays in the one that it was made in.
    """
    grads = [(value, value.requires_grad, value.grad) for value in classifier.parameters()]
    with left_as_found(classifier):
        try:
            for module in classifier.modules():
                module.training = False
            with suppress(NotImplementedError, AttributeError):
                classifier.net.eval()  # which a net of one's own may do otherwise
            for value, _, _ in grads:
                value.requires_grad_(False)
            yield
        finally:
            for value, requires_grad, grad in grads:
                value.requires_grad_(requires_grad)
                value.grad = grad


@contextmanager
def _single_precision() -> Iterator[None]:
    """Make float32 the type of new tensors inside the block, whatever it is outside."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _type(value: object) -> str:
    return type(value).__name__
