"""Opening a model, whatever it is given as: a trained one, a folder, a Caffe file, a user's own factory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from bangbench.core.errors import BenchError, UsageError
from bangbench.core.spec import fingerprint_of
from bangbench.data.dataset import Dataset
from bangbench.data.sources import load_first, open_source
from bangbench.nets.caffe_hdf5 import read_caffe_model
from bangbench.nets.catalogue import build_net, check_classifier, net_definition
from bangbench.nets.classifier import Classifier
from bangbench.nets.identity import behaviour_of, code_of
from bangbench.nets.loaders import Loaded, load
from bangbench.nets.norms import check_preprocessing, doubtful, twice
from bangbench.nets.outputs import PLAIN
from bangbench.nets.references import (
    PROGRAMS,
    Given,
    is_own_net,
    loader_of,
    own_data,
    own_name,
    results_name,
    with_own_weights,
)
from bangbench.nets.transforms import transform_of, transformed
from bangbench.nets.trust import check_code
from bangbench.nets.weights import apply_state, check_tensor, load_state, tensor_bytes
from bangbench.store.files import sha256_of
from bangbench.store.layout import CARD, PREPROCESSING, WEIGHTS, find_model, stage_file
from bangbench.store.records import ModelCard, ModelInfo, Preprocessing, read_record


class Place(NamedTuple):
    """Where models and data are looked for, and where they are computed."""

    root: Path
    device: torch.device
    data_dir: Path | None = None
    data: str | None = None


class Model(NamedTuple):
    """An opened model: `name` is that of its results, `data` what it was trained on, `folder` its own if it has one."""

    name: str
    info: ModelInfo
    classifier: Classifier
    data: str | None
    stages: tuple[int, ...]
    folder: Path | None
    rebuild: Callable[[dict[str, Tensor]], Classifier]

    def identity(self) -> dict[str, str | None]:
        """Return what decides a model's answers, for the key of a result: its weights, its net's code, its answers.

        The same weights may be given to nets that compute other things with them, and a net's code may be edited.
        """
        info = self.info
        return {"weights": info.weights_sha256, "code": info.code_sha256, "behaviour": info.behaviour}

    def notes(self) -> list[str]:
        """Return what a user should know of how the model is read: its output, and a doubtful mean or std."""
        info, output = self.info, self.classifier.output
        taken = None if output == PLAIN else f"{info.name}: its logits are {output}"
        doubt = doubtful(info.preprocessing) or twice(info.preprocessing, self.classifier.net)
        doubt = doubt if self.folder is None else None
        return [note for note in (taken, doubt) if note is not None]

    def own_net(self, name: str) -> dict[str, str | None]:
        """Return what a record's settings say of a net that is not the bench's own, under `name`."""
        if self.info.code_sha256 is None and ":" not in self.info.net:
            return {}
        return {name: self.info.net, f"{name}_code": self.info.code_sha256}

    def stage_classifier(self, iteration: int) -> Classifier:
        """Return the classifier as it was at one stage, in eval mode; a model without stages is as it is."""
        if self.folder is None or iteration not in self.stages:
            return self.classifier
        return self.rebuild(load_state(stage_file(self.folder, iteration)))

    def stages_fingerprint(self) -> str:
        """Return a hash of the weights of all stages, or of the final ones where there are no stages."""
        if self.folder is None or not self.stages:
            return self.info.weights_sha256 or ""
        return fingerprint_of([sha256_of(stage_file(self.folder, stage)) for stage in self.stages])


def open_model(
    reference: str,
    root: Path,
    device: torch.device,
    data_dir: Path | None = None,
    data: str | None = None,
    given: Given | None = None,
) -> Model:
    """Return the model that `reference` names, on `device` and in eval mode.

    reference: a name under ROOT/models, a folder with model.json, a `.caffemodel.h5` file, another library's
    ``library:NAME`` (`loaders`), a file of TorchScript or torch.export, or a user's ``package.module:factory``
    (``file.py:factory``) with the weights of `given` or of ``factory@FILE``; images and classes of the last three come
    from `data`. Raises `UsageError` for a model that does not exist and for a factory without weights, `BenchError` for
    one that is unfinished or damaged.
    """
    place = Place(root, device, data_dir, data)
    given = given or Given()
    if reference.endswith(".h5"):
        return _open_caffe(Path(reference), place)
    if is_own_net(reference):
        return open_own_net(reference, given, place)
    return _open_folder(find_model(reference, root), reference, place, given.trust_code)


def mean_image_of(data: Dataset) -> Tensor:
    """Return the mean over the images, float32 (C, H, W), in grey levels."""
    return torch.from_numpy(data.images.mean(axis=0, dtype=np.float64).astype(np.float32))


def _open_folder(folder: Path, reference: str, place: Place, trust_code: bool) -> Model:
    card = read_record(folder / CARD, ModelCard)
    check_code(card.model.net, folder / CARD, trust_code)
    if card.status != "done":
        raise BenchError(f"model '{reference}' is not finished; run its training again to go on with it")
    _check_weights_file(folder / WEIGHTS, card)
    mean_image = _mean_image(folder / PREPROCESSING, card.model) if card.model.preprocessing.mean_image else None
    rebuild = _rebuilder(card.model, mean_image, place.device, str(folder))
    classifier = rebuild(load_state(folder / WEIGHTS))
    stages = tuple(stage for stage in card.stages if stage_file(folder, stage).is_file())
    info = _identified(card.model, classifier)
    name = results_name(reference, place.root, Given())
    return Model(name, info, classifier, card.train_data.source, stages, folder, rebuild)


def _mean_image(path: Path, info: ModelInfo) -> Tensor:
    return check_tensor("mean", load_state(path), torch.empty(info.input_shape, device="meta"), str(path))


def _check_weights_file(path: Path, card: ModelCard) -> None:
    if not path.is_file():
        raise BenchError(f"{path} does not exist; train the model again or copy its weights there")
    if card.model.weights_sha256 != sha256_of(path):
        raise BenchError(
            f"{path} is not the file that {CARD} describes (its SHA-256 differs); copy the right one there, or "
            "train the model again with --overwrite"
        )


def _open_caffe(path: Path, place: Place) -> Model:
    caffe = read_caffe_model(path)
    definition = net_definition(caffe.known.net)
    input_shape = (3, 32, 32) if caffe.known.net == "cifar10-quick" else (1, 28, 28)
    source = place.data or caffe.known.data
    released = caffe.released
    info = ModelInfo(
        name=results_name(str(path), place.root, Given()),
        net=caffe.known.net,
        parameters=sum(value.numel() for value in caffe.state.values()),
        classes=10,
        input_shape=input_shape,
        preprocessing=definition.preprocessing,
        method=released.method if released else None,
        method_settings=released.settings if released else {},
        published=released.published if released else None,
        weights_sha256=caffe.sha256,
    )
    needs_mean = definition.preprocessing.mean_image
    mean_image = mean_image_of(open_source(source, place.data_dir).load("train")) if needs_mean else None
    rebuild = _rebuilder(info, mean_image, place.device, str(path))
    classifier = rebuild(caffe.state)
    return Model(info.name, _identified(info, classifier), classifier, source, (), None, rebuild)


def open_own_net(reference: str, given: Given, place: Place) -> Model:
    """Return the model of a net and of weights from elsewhere; the net may be a registered one, too.

    Raises `UsageError` where weights or data are not said, `BenchError` where they do not fit each other.
    """
    reference, given = with_own_weights(reference, given)
    data = own_data(reference, place.data)
    images = load_first(open_source(data, place.data_dir), "test", 1)
    channels, height, width = images.images.shape[1:]
    check_preprocessing(given.preprocessing, channels)
    loaded = _loaded(reference, given, (channels, height, width), images.class_names)
    state = load_state(given.weights) if given.weights else None
    net, library = loaded.net, loader_of(reference)
    if state is None and net.state_dict() and not given.random_weights and library is None:
        raise UsageError(
            f"model '{reference}' is given without weights: the factory's own weights, random ones unless it loads "
            f"others, would be used as they are; add --weights FILE (or write {reference}@FILE), or --random-weights "
            "if that is meant"
        )
    info = ModelInfo(
        name=own_name(reference, given),
        net=reference,
        parameters=sum(value.numel() for value in net.parameters()),
        classes=len(images.class_names),
        input_shape=(channels, height, width),
        preprocessing=loaded.preprocessing if given.preprocessing == Preprocessing() else given.preprocessing,
        weights_sha256=sha256_of(given.weights) if given.weights else state_fingerprint(net),
    )
    rebuild = _rebuilder(info, None, place.device, str(given.weights or reference))
    weights = net.state_dict() if state is None else state
    classifier = rebuild(weights)
    return Model(info.name, _identified(info, classifier), classifier, data, (), None, rebuild)


def _loaded(reference: str, given: Given, shape: tuple[int, int, int], class_names: tuple[str, ...]) -> Loaded:
    """Return the net of a factory or of another library, before the weights that are given."""
    library = loader_of(reference)
    if library is None:
        definition = net_definition(reference)
        if definition.preprocessing.mean_image:
            raise BenchError(f"net '{reference}' subtracts its training set's mean image, which weights do not hold")
        return Loaded(build_net(definition, shape, len(class_names), seed=0), definition.preprocessing)
    if library in PROGRAMS and not given.trust_code:
        file = reference.partition(":")[2]
        raise BenchError(
            f"{file} is a net with code of its own, which opening it would run: pass --trust-code if you "
            "trust who wrote it"
        )
    loaded = load(reference, pretrained=given.weights is None)
    if loaded.labels is not None and loaded.labels != class_names and sorted(loaded.labels) == sorted(class_names):
        raise BenchError(
            f"model '{reference}' has the data's classes in another order ({', '.join(loaded.labels[:4])}, ...); give "
            "the data in that order, or reorder the logits in a factory of your own"
        )
    return loaded


def _identified(info: ModelInfo, classifier: Classifier) -> ModelInfo:
    """Return what is known of a model with what its net is now, which may have been edited since it was trained."""
    answers = behaviour_of(classifier, info.input_shape)
    return info.model_copy(update={"code_sha256": code_of(info.net), "behaviour": answers})


def _rebuilder(
    info: ModelInfo, mean_image: Tensor | None, device: torch.device, where: str
) -> Callable[[dict[str, Tensor]], Classifier]:
    """Return state dict -> classifier of this model's kind, checked, in eval mode, on `device`."""
    definition, method = net_definition(info.net), transform_of(info)

    def rebuild(state: dict[str, Tensor]) -> Classifier:
        net = build_net(definition, info.input_shape, info.classes, seed=0)
        if method is not None:
            net = transformed(method, net, info.input_shape, info.classes, info.seed)
        apply_state(net, state, where)
        draws = 1 if method is None else method.draws
        classifier = Classifier(net, info.preprocessing, mean_image, definition.channels_last, draws).to(device).eval()
        check_classifier(classifier, info.input_shape, info.classes, where)
        return classifier.requires_grad_(False)

    return rebuild


def state_fingerprint(net: nn.Module) -> str:
    """Return the SHA-256 of a net's weights and buffers with their names."""
    digest = hashlib.sha256()
    for name, value in net.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor_bytes(value))
    return digest.hexdigest()
