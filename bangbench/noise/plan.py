"""What a noise evolution is made of: models and data opened and found to fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from bangbench.core.device import choose_device
from bangbench.core.errors import BenchError, UsageError
from bangbench.core.spec import fingerprint_of
from bangbench.data.dataset import Dataset, data_info
from bangbench.data.sources import open_source
from bangbench.nets.classifier import Classifier
from bangbench.nets.models import Model, open_model
from bangbench.nets.references import check_own, given_by
from bangbench.noise.arithmetic import check_arithmetic
from bangbench.noise.cells import Outline
from bangbench.noise.count import Noise
from bangbench.noise.spec import NoiseSpec
from bangbench.store.layout import versus_name
from bangbench.store.records import DataInfo

#: Counted up whenever the same settings could count other copies: what an earlier version left is not used.
VERSION = 2


class Plan(NamedTuple):
    """A spec with its defaults filled in, its models and data opened and found to fit."""

    spec: NoiseSpec
    device: torch.device
    models: tuple[Model, ...]
    stages: tuple[int, ...]
    test: Dataset
    data: DataInfo
    noise: Noise
    settings: dict[str, Any]
    key: str

    @property
    def name(self) -> str:
        """Return the name of the results."""
        return versus_name([model.name for model in self.models])

    def outline(self, chosen: NDArray[np.int64]) -> Outline:
        """Return what is counted on the images whose test indices are chosen."""
        per_class = np.bincount(self.test.labels[chosen], minlength=len(self.test.class_names))
        counts, spec = tuple(per_class.tolist()), self.spec
        return Outline(len(self.models), self.stages, self.noise, counts, spec.precision, spec.arithmetic)

    @property
    def classifiers(self) -> list[Classifier]:
        """Return the first model at each stage, then the others in their order."""
        return [model.stage_classifier(stage) for model in self.models for stage in self.stages]


def make_plan(spec: NoiseSpec) -> Plan:
    """Open the models and the data, check that they belong together, and derive the key of the run."""
    device = choose_device(spec.device)
    check_arithmetic(spec.arithmetic, device)
    given = given_by(spec)
    check_own(given, spec.models, spec.root)
    models = tuple(
        open_model(reference, spec.root, device, spec.data_dir, spec.data, given) for reference in spec.models
    )
    _check_names(models)
    stages = _common_stages(models)
    source_text = _data_of(spec, models)
    source = open_source(source_text, spec.data_dir)
    test = source.load("test")
    _check_fit(models, test, source_text)
    data = data_info(test, source.name, source_text)
    noise = Noise(spec.sigmas(test.images.shape[1]), spec.draws, spec.seed, spec.clip)
    settings = spec.settings() | {"sigma": list(noise.sigmas), "data": source_text}
    settings["version"] = VERSION
    for place, model in enumerate(models, start=1):
        settings |= model.own_net(f"net_{place}")
    identities = [[model.identity(), model.stages_fingerprint()] for model in models]
    key = fingerprint_of({**settings, "identities": identities, "images": test.fingerprint})
    return Plan(spec, device, models, stages, test, data, noise, settings, key)


def stages_of(model: Model) -> tuple[int, ...]:
    """Return the iterations a model can be had at: its snapshots, or its last iteration (0 if unknown) alone."""
    return model.stages or (model.info.iterations or 0,)


def _check_names(models: Sequence[Model]) -> None:
    """Raise `UsageError` for two models of one name, which a table could not tell apart."""
    for name, count in Counter(model.name for model in models).items():
        if count > 1:
            raise UsageError(
                f"expected models of different names, found {count} called {name}; give each once, and copies of one "
                "net in files or folders of different names"
            )


def _common_stages(models: Sequence[Model]) -> tuple[int, ...]:
    every = {model.name: stages_of(model) for model in models}
    union = {stage for stages in every.values() for stage in stages}
    lacking = [
        f"{name} has no stage {', '.join(map(str, missing[:5]))}{', ...' if len(missing) > 5 else ''}"
        for name, stages in every.items()
        if (missing := sorted(union - {*stages}))
    ]
    if not lacking:
        return stages_of(models[0])
    raise BenchError(
        f"expected the same stages of all models, found that {' and '.join(lacking)}; "
        "train them alike (the same --iterations and --stages)"
    )


def _data_of(spec: NoiseSpec, models: Sequence[Model]) -> str:
    known = {model.data: model.name for model in models if model.data is not None}
    if spec.data is not None:
        return spec.data
    if not known:
        raise UsageError("no model says what images it was trained on: add --data")
    if len(known) > 1:
        trained = ", ".join(f"{name} was trained on {data}" for data, name in known.items())
        raise UsageError(
            f"{trained}: models beside each other are trained alike; add --data to say which images to use"
        )
    return next(iter(known))


def _check_fit(models: Sequence[Model], test: Dataset, source: str) -> None:
    takes = {model.name: (model.info.input_shape, model.info.classes) for model in models}
    found = (test.images.shape[1:], len(test.class_names))
    wrong = [
        f"{name} takes images of shape {shape} in {classes} classes"
        for name, (shape, classes) in takes.items()
        if (shape, classes) != found
    ]
    if wrong:
        raise BenchError(
            f"the test images of {source} have shape {found[0]} and {found[1]} classes, but {' and '.join(wrong)}; "
            "choose models and --data that belong together"
        )
