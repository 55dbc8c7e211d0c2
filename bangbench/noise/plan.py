"""What a noise evolution is made of: models and data opened and found to fit."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from bangbench.core.device import choose_device
from bangbench.core.errors import BenchError, UsageError
from bangbench.core.spec import fingerprint_of
from bangbench.data.dataset import Dataset, data_info
from bangbench.data.sources import open_source
from bangbench.nets.classifier import Classifier
from bangbench.nets.models import Given, Model, open_model
from bangbench.noise.arithmetic import check_arithmetic
from bangbench.noise.count import Noise
from bangbench.noise.spec import NoiseSpec
from bangbench.store.layout import pair_name
from bangbench.store.records import DataInfo, Preprocessing

#: Counted up whenever the same settings could count other copies: what an earlier version left is not used.
VERSION = 2


class Plan(NamedTuple):
    """A spec with its defaults filled in, its models and data opened and found to fit."""

    spec: NoiseSpec
    device: torch.device
    regular: Model
    bang: Model
    stages: tuple[int, ...]
    test: Dataset
    data: DataInfo
    noise: Noise
    settings: dict[str, Any]
    key: str

    @property
    def pair(self) -> str:
        """Return the name of the results."""
        return pair_name(self.regular.name, self.bang.name)

    @property
    def classifiers(self) -> list[Classifier]:
        """Return the regular model at each stage, then the BANG model."""
        return [model.stage_classifier(stage) for model in (self.regular, self.bang) for stage in self.stages]


def make_plan(spec: NoiseSpec) -> Plan:
    """Open the models and the data, check that they belong together, and derive the key of the run."""
    device = choose_device(spec.device)
    check_arithmetic(spec.arithmetic, device)
    preprocessing = spec.model_dump(include={"input_scale", "mean", "std"}, exclude_none=True)
    given = Given(None, Preprocessing(**preprocessing), spec.random_weights)
    regular, bang = (
        open_model(reference, spec.root, device, spec.data_dir, spec.data, given)
        for reference in (spec.regular, spec.bang)
    )
    if preprocessing and ":" not in regular.info.net + bang.info.net:
        raise UsageError("--input-scale, --mean and --std go with a module:factory model only")
    stages = _common_stages(regular, bang)
    source_text = _data_of(spec, regular, bang)
    source = open_source(source_text, spec.data_dir)
    test = source.load("test")
    _check_fit(regular, bang, test, source_text)
    data = data_info(test, source.name, source_text)
    noise = Noise(spec.sigmas(test.images.shape[1]), spec.draws, spec.seed, spec.clip)
    settings = spec.settings() | {"sigma": list(noise.sigmas), "data": source_text}
    settings |= {"version": VERSION} | regular.own_net("regular_net") | bang.own_net("bang_net")
    models = [[model.identity(), model.stages_fingerprint()] for model in (regular, bang)]
    key = fingerprint_of({**settings, "models": models, "images": test.fingerprint})
    return Plan(spec, device, regular, bang, stages, test, data, noise, settings, key)


def stages_of(model: Model) -> tuple[int, ...]:
    """Return the iterations a model can be had at: its snapshots, or its last iteration (0 if unknown) alone."""
    return model.stages or (model.info.iterations or 0,)


def _common_stages(regular: Model, bang: Model) -> tuple[int, ...]:
    first, second = stages_of(regular), stages_of(bang)
    if first == second:
        return first
    lacking = [
        f"{one.name} has no stage {', '.join(map(str, missing[:5]))}{', ...' if len(missing) > 5 else ''}"
        for one, missing in ((regular, sorted({*second} - {*first})), (bang, sorted({*first} - {*second})))
        if missing
    ]
    raise BenchError(
        f"expected the same stages of both models, found that {' and '.join(lacking)}; "
        "train the pair alike (the same --iterations and --stages)"
    )


def _data_of(spec: NoiseSpec, regular: Model, bang: Model) -> str:
    known = sorted({text for text in (regular.data, bang.data) if text is not None})
    if spec.data is not None:
        return spec.data
    if not known:
        raise UsageError("neither model says what images it was trained on: add --data")
    if len(known) > 1:
        raise UsageError(
            f"{regular.name} was trained on {regular.data}, {bang.name} on {bang.data}: a pair is trained alike; "
            "add --data to say which images to use"
        )
    return known[0]


def _check_fit(regular: Model, bang: Model, test: Dataset, source: str) -> None:
    takes = {model.name: (model.info.input_shape, model.info.classes) for model in (regular, bang)}
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
