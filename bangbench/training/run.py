"""`train`: from a spec to a model on disk."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import JsonValue

from bangbench.core.device import choose_device, cpu_threads, describe_device
from bangbench.core.errors import BenchError, UsageError
from bangbench.core.locks import folder_lock
from bangbench.core.progress import SILENT, Progress
from bangbench.core.provenance import collect_provenance
from bangbench.core.seeds import default_seeds, derive_seed
from bangbench.core.spec import Overwrite, fingerprint_of
from bangbench.data.dataset import Dataset, data_info
from bangbench.data.sources import open_source
from bangbench.nets.catalogue import build_net, check_classifier, net_definition
from bangbench.nets.classifier import Classifier
from bangbench.nets.definition import NetDefinition, SolverSettings
from bangbench.nets.models import mean_image_of, open_model
from bangbench.nets.norms import check_preprocessing, doubtful
from bangbench.nets.predict import to_device
from bangbench.nets.transforms import transformed
from bangbench.nets.trust import remember_code
from bangbench.nets.weights import apply_state, save_state
from bangbench.store.files import check_writable, sha256_of
from bangbench.store.layout import CARD, PREPROCESSING, RESUME, WEIGHTS, model_folder
from bangbench.store.records import ModelCard, ModelInfo, Preprocessing, write_record
from bangbench.store.reuse import finished_record, may_replace_finished
from bangbench.training.augmentation import Augmentation
from bangbench.training.batches import Batches
from bangbench.training.loop import Run, gap_notes, train_steps
from bangbench.training.methods.base import Method, RunView, changes_the_net, make_method
from bangbench.training.rates import Rate, rate_policy
from bangbench.training.registry import SOLVERS
from bangbench.training.snapshot import LogRow, load_snapshot
from bangbench.training.spec import TrainSpec


class Plan(NamedTuple):
    """A spec with every default filled in and its inputs opened."""

    spec: TrainSpec
    definition: NetDefinition
    solver: SolverSettings
    preprocessing: Preprocessing
    method: Method
    train: Dataset
    test: Dataset
    data_name: str
    settings: dict[str, Any]
    key: str

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Return (C, H, W)."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width


def train(spec: TrainSpec, progress: Progress = SILENT) -> ModelCard:
    """Train the model that `spec` describes, or go on with it, or return it if it is there; the last iteration counts.

    Raises `UsageError` for unknown names and settings, `BenchError` for unusable data, a folder that holds another
    model or is written to by another command, a net that cannot be trained, and a loss that is no longer finite.
    """
    device = choose_device(spec.device)
    plan = make_plan(spec)
    for note in (remember_code(spec.net), doubtful(plan.preprocessing)):
        if note is not None:
            progress.note(note)
    folder = model_folder(spec.root, spec.name)
    finished = finished_model(plan)
    if finished is not None:
        return finished
    with folder_lock(folder, spec.patience, progress):
        finished = finished_model(plan)  # another command may have trained it in the meantime
        if finished is not None:
            return finished
        check_writable(folder, alone=True)
        with cpu_threads(spec.threads), default_seeds(derive_seed(spec.seed, "layers"), device):
            return _train_plan(plan, folder, device, progress)


def finished_model(plan: Plan) -> ModelCard | None:
    """Return the card of the model where it is trained as planned, and its weights are there; None if it is to be.

    Raises `BenchError` for another model in the way that may not be replaced.
    """
    folder, overwrite = model_folder(plan.spec.root, plan.spec.name), plan.spec.overwrite
    card = finished_record(folder / CARD, ModelCard, plan.key, plan.settings, overwrite)
    return card if card is not None and _weights_are_there(folder / WEIGHTS, card, overwrite) else None


def _weights_are_there(path: Path, card: ModelCard, overwrite: Overwrite) -> bool:
    if not path.is_file():
        return False
    if sha256_of(path) == card.model.weights_sha256:
        return True
    if may_replace_finished(overwrite):
        return False
    raise BenchError(
        f"{path} is not the file that {CARD} describes (its SHA-256 differs); copy the right one there, or pass "
        "--overwrite to train the model again"
    )


def make_plan(spec: TrainSpec) -> Plan:
    """Fill in the defaults of net and method, open the data, and derive the key of the run."""
    definition = net_definition(spec.net)
    given = spec.model_dump(include=set(SolverSettings._fields), exclude_none=True)
    solver = definition.solver._replace(**given)
    _rate_of(solver)
    SOLVERS.check(spec.solver)
    method = make_method(spec.method, {**definition.method_defaults.get(spec.method, {}), **spec.method_settings()})
    source = open_source(spec.data, spec.data_dir)
    training_data = source.load("train").first(spec.train_images)
    solver = solver._replace(iterations=_iterations(spec, solver, len(training_data.images)))
    preprocessing = _preprocessing(spec, definition, training_data.images.shape[1])
    settings = spec.settings() | solver._asdict()
    # nested: a method may call a setting of its own as it likes
    settings |= {"method_settings": _settings_of(method), "preprocessing": preprocessing.model_dump(mode="json")}
    read = _models_read(spec, method)
    settings |= {"method_models": read} if read else {}
    key = fingerprint_of({**settings, "train": training_data.fingerprint})
    return Plan(
        spec, definition, solver, preprocessing, method, training_data, source.load("test"), source.name, settings, key
    )


def _rate_of(solver: SolverSettings) -> Rate:
    return rate_policy(solver.rate_policy, solver.learning_rate, solver.iterations)


def _iterations(spec: TrainSpec, solver: SolverSettings, images: int) -> int:
    """Return the solver steps of the run; an epoch that is not a whole number of batches is rounded up at the end."""
    if spec.epochs is None:
        return solver.iterations
    if spec.iterations is not None:
        raise UsageError(f"--epochs {spec.epochs} and --iterations {spec.iterations} say the same thing; give one")
    return -(-spec.epochs * images // solver.batch_size)


def _models_read(spec: TrainSpec, method: Method) -> dict[str, str | None]:
    """Return the weights' fingerprints of the models that the method reads, by name."""
    device = torch.device("cpu")
    return {name: open_model(name, spec.root, device, spec.data_dir).info.weights_sha256 for name in method.models}


def _settings_of(method: Method) -> dict[str, JsonValue]:
    return method.settings.model_dump(mode="json")


def _preprocessing(spec: TrainSpec, definition: NetDefinition, channels: int) -> Preprocessing:
    given = spec.model_dump(include={"input_scale", "mean", "std"}, exclude_none=True)
    check_preprocessing(Preprocessing(**given), channels)
    if "mean" in given:
        given["mean_image"] = False
    return definition.preprocessing.model_copy(update=given)


def _train_plan(plan: Plan, folder: Path, device: torch.device, progress: Progress) -> ModelCard:
    classifier = _new_classifier(plan).to(device)
    check_classifier(classifier, plan.input_shape, len(plan.train.class_names), f"net '{plan.spec.net}'")
    run = _make_run(plan, folder, device, classifier)
    if not run.solver.parameters:
        raise BenchError(f"net '{plan.spec.net}' cannot be trained: it has no parameters, or all are frozen")
    plan.method.begin_run(_view(plan, run))
    begin, log = _go_on(run, progress)
    if begin == 0:
        (folder / RESUME).unlink(missing_ok=True)  # another run's, which cannot be gone on with without its stages
        shutil.rmtree(folder / "stages", ignore_errors=True)
    card = _card(plan, classifier, describe_device(device))
    write_record(folder / CARD, card)
    progress.start(plan.spec.name, plan.solver.iterations, begin)
    plan.method.prepare(classifier)
    try:
        log = train_steps(run, begin, log, progress)
    finally:
        plan.method.release(classifier)
        progress.finish()
    return _finish(run, card, log)


def _new_classifier(plan: Plan) -> Classifier:
    net = build_net(plan.definition, plan.input_shape, len(plan.train.class_names), plan.spec.seed)
    net = transformed(plan.method, net, plan.input_shape, len(plan.train.class_names), plan.spec.seed)
    mean_image = mean_image_of(plan.train) if plan.preprocessing.mean_image else None
    return Classifier(net, plan.preprocessing, mean_image, plan.definition.channels_last, plan.method.draws)


def _view(plan: Plan, run: Run) -> RunView:
    def opened(name: str) -> Classifier:
        model = open_model(name, plan.spec.root, run.device, plan.spec.data_dir)
        if (model.info.input_shape, model.info.classes) != (plan.input_shape, len(plan.train.class_names)):
            raise BenchError(f"model '{name}' takes other images than {plan.data_name}'s, or has other classes")
        return model.classifier

    batches, solver = run.batches, plan.solver
    parts = (batches.images, batches.labels, plan.spec.seed, solver.iterations, solver.batch_size)
    return RunView(run.classifier.eval(), *parts, opened)


def _make_run(plan: Plan, folder: Path, device: torch.device, classifier: Classifier) -> Run:
    shuffle_seed = plan.spec.seed if plan.spec.shuffle else None
    augmentation = Augmentation(plan.spec.shift, plan.spec.flip, plan.spec.seed)
    return Run(
        key=plan.key,
        folder=folder,
        device=device,
        classifier=classifier,
        method=plan.method,
        solver=SOLVERS.load(plan.spec.solver)(classifier.net, plan.spec.momentum, plan.solver.weight_decay),
        rate=_rate_of(plan.solver),
        batches=Batches(plan.train, plan.solver.batch_size, device, shuffle_seed, augmentation),
        test=(to_device(plan.test.images, device), to_device(plan.test.labels, device)),
        iterations=plan.solver.iterations,
        stages=plan.solver.stages,
    )


def _go_on(run: Run, progress: Progress) -> tuple[int, list[LogRow]]:
    """Restore the last snapshot of an interrupted run; return its iteration and log."""
    snapshot = load_snapshot(run.folder / RESUME, run.key, run.device)
    if snapshot is None:
        return 0, []
    apply_state(run.classifier.net, snapshot.net, str(run.folder / RESUME))
    run.solver.load_state(snapshot.solver)
    run.method.load_state(snapshot.method)
    progress.note(f"{run.folder}: going on from iteration {snapshot.iteration}")
    return snapshot.iteration, snapshot.log


def _card(plan: Plan, classifier: Classifier, device: str) -> ModelCard:
    info = ModelInfo(
        name=plan.spec.name,
        net=plan.spec.net,
        parameters=sum(value.numel() for value in classifier.parameters()),
        classes=len(plan.train.class_names),
        input_shape=plan.input_shape,
        preprocessing=plan.preprocessing,
        method=plan.spec.method,
        method_settings=_settings_of(plan.method),
        seed=plan.spec.seed,
        iterations=plan.solver.iterations,
        data=plan.data_name,
        transformed=changes_the_net(plan.method),
    )
    data = data_info(plan.train, plan.data_name, plan.spec.data)
    return ModelCard(
        schema=1,
        status="started",
        key=plan.key,
        spec=plan.settings,
        provenance=collect_provenance(device),
        model=info,
        train_data=data,
        paper=plan.method.paper or None,
    )


def _finish(run: Run, card: ModelCard, log: list[LogRow]) -> ModelCard:
    save_state(run.folder / WEIGHTS, run.classifier.net.state_dict())
    if run.classifier.mean is not None and card.model.preprocessing.mean_image:
        save_state(run.folder / PREPROCESSING, {"mean": run.classifier.mean})
    last = log[-1]
    done = card.model_copy(
        update={
            "status": "done",
            "model": card.model.model_copy(update={"weights_sha256": sha256_of(run.folder / WEIGHTS)}),
            "stages": tuple(row.iteration for row in log),
            "train_accuracy": last.training_accuracy,
            "accuracy": last.test_accuracy,
            "seconds": last.seconds,
            "notes": (*run.method.warnings(run.classifier), *gap_notes(log)),
        }
    )
    write_record(run.folder / CARD, done)
    (run.folder / RESUME).unlink(missing_ok=True)
    return done
