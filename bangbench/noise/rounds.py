"""Counting the flipped draws of all images round by round, each in chunks that an interruption leaves behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bangbench.core.device import cpu_threads
from bangbench.core.progress import Progress
from bangbench.core.shares import Share, Work, processes_for, share_out
from bangbench.core.spec import fingerprint_of
from bangbench.nets.classifier import Classifier
from bangbench.nets.predict import batch_size_for, to_device
from bangbench.noise.cells import Stretch, Total, count_cells
from bangbench.noise.count import Counts, Images, count_flips
from bangbench.noise.plan import Plan, make_plan
from bangbench.noise.spec import NoiseSpec
from bangbench.store.chunks import Chunks

#: Images per chunk: what an interruption can lose. Independent of the batch size, so that either may change.
CHUNK_IMAGES = 10

#: Noisy copies that a chunk of a short round has at least, which takes more images: fewer make slow batches.
_CHUNK_COPIES = 500

#: Forward passes that are over sooner in this process than others, which take seconds, are started.
_IN_PROCESS_FORWARDS = 100_000


class Round(NamedTuple):
    """Draws first .. first + draws - 1 of every image, for the cells that are still open, (classifiers, sigmas).

    place: counted from 0; chunk_images: images per chunk.
    """

    place: int
    first: int
    draws: int
    cells: NDArray[np.bool_]
    chunk_images: int

    @property
    def forwards_per_image(self) -> int:
        """Return how often one image goes through a net."""
        return int(self.cells.sum()) * self.draws


class Opening(NamedTuple):
    """What a process needs to work on one round over the images `chosen`: a chunk of theirs is a piece."""

    spec: NoiseSpec
    chosen: NDArray[np.int64]
    round: Round
    chunks: Chunks

    @property
    def numbers(self) -> tuple[int, ...]:
        """Return the numbers of the round's chunks: no round has more chunks than images."""
        count = len(range(0, len(self.chosen), self.round.chunk_images))
        return tuple(self.round.place * len(self.chosen) + part for part in range(count))

    def indices(self, number: int) -> NDArray[np.int64]:
        """Return the test indices of one chunk."""
        first = (number - self.round.place * len(self.chosen)) * self.round.chunk_images
        return self.chosen[first : first + self.round.chunk_images]


def open_chunks(plan: Plan, chosen: NDArray[np.int64], folder: Path) -> Chunks:
    """Return the chunks of a run in `folder`, those that an earlier one of the same settings left among them."""
    looks = plan.outline(chosen).looks()
    rounds = [] if looks is None else [_CHUNK_COPIES, *looks]
    return Chunks(folder, fingerprint_of([plan.key, CHUNK_IMAGES, chosen.tolist(), *rounds]))


def count_rounds(
    plan: Plan, classifiers: Sequence[Classifier], chosen: NDArray[np.int64], chunks: Chunks, progress: Progress
) -> Total:
    """Count flipped draws round by round; computes the chunks that are not there yet."""

    def count(stretch: Stretch) -> Counts:
        opening = Opening(plan.spec, chosen, _round(plan, stretch), chunks)
        return _count_round(plan, classifiers, opening, progress)

    return count_cells(plan.outline(chosen), count)


@contextmanager
def open_work(opening: Opening) -> Iterator[Work]:
    """Open models and images of a noise evolution in a process of its own, which computes with one thread."""
    plan = make_plan(opening.spec)
    with cpu_threads(1):
        yield Work(plan.key, partial(_count_chunks, plan, plan.classifiers, opening))


def _round(plan: Plan, stretch: Stretch) -> Round:
    """Return a round: short ones have more images per chunk."""
    least = 1 if plan.spec.precision is None else -(-_CHUNK_COPIES // stretch.draws)
    return Round(*stretch, max(CHUNK_IMAGES, least))


def _count_round(plan: Plan, classifiers: Sequence[Classifier], opening: Opening, progress: Progress) -> Counts:
    """Return the counts of a round; computes the chunks that are not there yet."""
    this, chunks, images = opening.round, opening.chunks, len(opening.chosen)
    pending = tuple(number for number in opening.numbers if not chunks.done(number))
    left = sum(len(opening.indices(number)) for number in pending)
    if left < images and (left or plan.spec.precision is None):
        progress.note(f"going on: {images - left} of {images} images are done")
    forwards = left * this.forwards_per_image
    processes = processes_for(len(pending), forwards, _IN_PROCESS_FORWARDS, plan.spec.workers, plan.device.type)
    if processes > 1:
        share_out(Share(open_work, opening, plan.key, plan.name, pending), processes, _label(plan, this), progress)
    else:
        _count_chunks(plan, classifiers, opening, pending, progress, done=images - left)
    parts = [chunks.read(number) for number in opening.numbers]
    return Counts(**{name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]})


def _count_chunks(
    plan: Plan,
    classifiers: Sequence[Classifier],
    opening: Opening,
    pending: Sequence[int],
    progress: Progress,
    done: int = 0,
) -> None:
    """Count the pending chunks; `done` images were finished by an earlier run."""
    this = opening.round
    total = done + sum(len(opening.indices(number)) for number in pending)
    per_image = this.forwards_per_image
    progress.start(_label(plan, this), total * per_image, done * per_image, unit="img")
    batch_size = plan.spec.batch_size or batch_size_for(plan.device, plan.test.images[:1].size)
    noise = plan.noise._replace(first=this.first, draws=this.draws)
    try:
        for number in pending:
            images = _images(plan, opening.indices(number))
            counts = count_flips(classifiers, images, noise, batch_size, progress, this.cells, plan.spec.arithmetic)
            arrays = {name: values for name, values in counts._asdict().items() if values is not None}
            opening.chunks.write(number, arrays)
    finally:
        progress.finish()


def _label(plan: Plan, this: Round) -> str:
    """Return what the bar of a round is called."""
    if plan.spec.precision is None:
        return plan.name
    draws = f"draws {this.first + 1} to {this.first + this.draws}"
    return f"{plan.name}, {draws}, {int(this.cells.sum())} of {this.cells.size} cells"


def _images(plan: Plan, indices: NDArray[np.int64]) -> Images:
    return Images(
        to_device(plan.test.images[indices], plan.device), to_device(plan.test.labels[indices], plan.device), indices
    )
