"""One model of a grid: trained, attacked, met with noise, and then only its summaries are kept."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from bangbench.attacks.opened import open_with_images
from bangbench.attacks.registry import ATTACKS
from bangbench.attacks.run import ENGINE, attack
from bangbench.attacks.spec import AttackSpec
from bangbench.core.device import choose_device, cpu_threads, describe_device
from bangbench.core.locks import HOLDER, LOCK, folder_lock
from bangbench.core.progress import Progress
from bangbench.core.provenance import collect_provenance
from bangbench.core.spec import fingerprint_of
from bangbench.data.sources import open_source
from bangbench.nets.catalogue import net_definition
from bangbench.nets.definition import SolverSettings
from bangbench.nets.predict import predict, to_device
from bangbench.noise.count import Images, Noise, count_flips
from bangbench.noise.select import select_images
from bangbench.recipes.recipe import NoiseAt
from bangbench.store.cells import CellNoise, CellRecord, cell_path
from bangbench.store.layout import CARD, CELL, model_folder
from bangbench.store.records import AttackRecord, ModelCard, ModelInfo, find_record, write_record
from bangbench.store.reuse import finished_record
from bangbench.training.methods.base import make_method
from bangbench.training.run import train
from bangbench.training.spec import TrainSpec

#: Counted up whenever a cell of the same settings could hold other numbers.
VERSION = 1


class Cell(NamedTuple):
    """A model of a grid: how it is trained, attacked and met with noise, and where it lies on the axes.

    keep_weights: keep models/NAME as well.
    """

    train: TrainSpec
    attacks: tuple[AttackSpec, ...]
    noise: NoiseAt | None
    place: dict[str, Any]
    keep_weights: bool

    @property
    def name(self) -> str:
        """Return the model's name."""
        return self.train.name

    @property
    def attack_names(self) -> list[str]:
        """Return the attacks, in order."""
        return [name for spec in self.attacks for name in dict.fromkeys(spec.attack)]

    def settings(self) -> dict[str, Any]:
        """Return what decides the numbers, but for the images."""
        definition = net_definition(self.train.net)
        given = {**definition.method_defaults.get(self.train.method, {}), **self.train.method_settings()}
        method = make_method(self.train.method, given)
        chosen = self.train.model_dump(include=set(SolverSettings._fields), exclude_none=True)
        filled = definition.solver._replace(**chosen)._asdict()
        filled |= {"method_settings": method.settings.model_dump(mode="json")}
        attacks = {
            name: {**spec.settings(), **spec.model_dump(mode="json", include={"budget", "option", "against"})}
            | {"version": ATTACKS.load(name).version}
            for spec in self.attacks
            for name in spec.attack
        }
        noise = self.noise.model_dump(mode="json") if self.noise is not None else None
        return {
            "version": VERSION,
            "engine": ENGINE,
            "train": self.train.settings() | filled,
            "attacks": attacks,
            "noise_at": noise,
        }


def finished_cell(cell: Cell) -> CellRecord | None:
    """Return the record of a cell that is done, with or without its weights; None for one that is to be done.

    Raises `BenchError` for a finished one of other settings that may not be replaced.
    """
    settings = cell.settings()
    path, kind = cell_path(cell.train.root, cell.name), CellRecord
    return finished_record(path, kind, _key(cell, settings), settings, cell.train.overwrite)


def play_cell(cell: Cell, progress: Progress) -> CellRecord:
    """Train and measure one model of a grid, or go on with it, or return its record if it is there."""
    root, path = cell.train.root, cell_path(cell.train.root, cell.name)
    with folder_lock(path.parent, cell.train.patience, progress):
        finished = finished_cell(cell)
        if finished is not None:
            return finished
        theirs = _model_before(path, model_folder(root, cell.name) / CARD)
        settings = cell.settings()
        record = CellRecord(
            schema=1,
            status="started",
            key=_key(cell, settings),
            spec=settings,
            provenance=collect_provenance(describe_device(choose_device(cell.train.device))),
            place=cell.place,
            seed=cell.train.seed,
            model=theirs,
        )
        write_record(path, record)
        card = train(cell.train, progress)
        progress.note(f"{cell.name}: {card.accuracy:.2f} % after {card.model.iterations} iterations")
        measured = [found for spec in cell.attacks for found in attack(spec, progress)]
        done = _completed(record, card, measured, _noise(cell, progress))
        # the record last: a cell that is done is never looked at again
        _keep_summaries(path.parent, model_folder(root, cell.name), cell.keep_weights or theirs is not None)
        write_record(path, done)
        return done


def _model_before(path: Path, card: Path) -> ModelInfo | None:
    """Return the model that was there before the grid began with this cell, and is not the grid's to remove.

    An interrupted cell's record remembers it.
    """
    if path.exists():
        begun = find_record(path, CellRecord)
        return begun.model if begun is not None and begun.status == "started" else None
    found = find_record(card, ModelCard) if card.exists() else None
    return found.model if found is not None and found.status == "done" else None


def _key(cell: Cell, settings: dict[str, Any]) -> str:
    data = _fingerprints(cell.train.data, cell.train.data_dir)
    return fingerprint_of({**settings, "data": data})


@cache
def _fingerprints(data: str, data_dir: Path | None) -> tuple[str, str]:
    """Return those of the training and of the test images, which every cell has in common."""
    source = open_source(data, data_dir)
    return source.load("train").fingerprint, source.load("test").fingerprint


def _completed(
    record: CellRecord, card: ModelCard, measured: list[AttackRecord], noise: CellNoise | None
) -> CellRecord:
    return record.model_copy(
        update={
            "status": "done",
            "model": card.model,
            "train_data": card.train_data,
            "data": measured[0].data if measured else None,
            "train_accuracy": card.train_accuracy,
            "accuracy": card.accuracy,
            "seconds": card.seconds,
            "notes": card.notes,
            "attacks": {found.attack: found.summary for found in measured if found.summary is not None},
            "noise": noise,
        }
    )


def _noise(cell: Cell, progress: Progress) -> CellNoise | None:
    """Return how many noisy copies of the first correct images of each class are classified otherwise."""
    if cell.noise is None:
        return None
    opened = open_with_images(AttackSpec(**_model_of(cell)))
    classifier, data, device = opened.model.classifier, opened.data, opened.device
    with cpu_threads(1):
        pixels, labels = to_device(data.images, device), to_device(data.labels, device)
        correct = (predict(classifier, pixels, opened.batch_size) == labels).cpu().numpy()
        chosen = select_images(correct[None], data.labels, cell.noise.per_class)
        if not len(chosen):
            return CellNoise(sigma=cell.noise.sigma, draws=cell.noise.draws, images=0, flipped_percent=100.0)
        images = Images(to_device(data.images[chosen], device), to_device(data.labels[chosen], device), chosen)
        noise = Noise((cell.noise.sigma,), cell.noise.draws, 0, clip=True)
        progress.start(f"{cell.name} noise", len(chosen) * cell.noise.draws, unit="img")
        try:
            flipped = count_flips([classifier], images, noise, opened.batch_size, progress).flipped
        finally:
            progress.finish()
    share = 100.0 * float(flipped.sum()) / (len(chosen) * cell.noise.draws)
    return CellNoise(sigma=cell.noise.sigma, draws=cell.noise.draws, images=len(chosen), flipped_percent=share)


def _model_of(cell: Cell) -> dict[str, Any]:
    spec = cell.train
    return {"model": spec.name, "root": spec.root, "data_dir": spec.data_dir, "device": spec.device}


def _keep_summaries(results: Path, model: Path, keep_weights: bool) -> None:
    """Remove rows, pictures and, unless they are to be kept, the weights of a cell whose record is written."""
    for path in results.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in (CELL, LOCK, HOLDER):
            path.unlink()
    if not keep_weights:
        shutil.rmtree(model, ignore_errors=True)
