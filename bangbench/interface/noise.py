"""`noise_eval`: how often Gaussian noise flips models that get the same images right, without a disk."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bangbench.core.errors import UsageError
from bangbench.core.progress import Progress
from bangbench.core.spec import make_settings
from bangbench.core.statistics import t_interval_ends
from bangbench.interface.describe import HERE, described_by
from bangbench.interface.inputs import Batch, Images, Labels, read_batch
from bangbench.interface.models import Model, Subject, borrowed, preprocessing
from bangbench.interface.progress import bar
from bangbench.nets.predict import answered, batch_size_for, logits_of
from bangbench.noise.cells import Outline, Stretch, count_cells, summarise
from bangbench.noise.count import Counts, Noise, count_flips
from bangbench.noise.count import Images as Chosen
from bangbench.noise.select import select_images
from bangbench.noise.spec import NoiseSpec
from bangbench.store.records import NoiseSummary

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class Noisy:
    """How often noise flips models; the first is the reference.

    indices, labels: int64 (N,), places and classes of the images that take part; flipped: int32 (models, sigmas, N),
    noisy copies that are classified otherwise than as the label, of `draws` of each image, int64 (models, sigmas).
    """

    models: tuple[str, ...]
    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    flipped: NDArray[np.int32]
    draws: NDArray[np.int64]
    summary: NoiseSummary
    notes: tuple[str, ...]

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per model and sigma (grey levels): flipped copies in percent, with a 95 % interval.

        The interval is of the mean over images; with a precision, of the drawing, for all rows together.
        """
        import pandas as pd

        percent = 100.0 * self.flipped / self.draws[..., None]
        low, high = (ends.clip(0.0, 100.0) for ends in t_interval_ends(percent))
        if self.summary.flipped_interval is not None:
            low, high = np.moveaxis(np.array(self.summary.flipped_interval)[:, 0], -1, 0)
        model, sigma = np.indices(self.draws.shape).reshape(2, -1)
        columns = {
            "model": np.array(self.models)[model],
            "sigma": np.array(self.summary.sigmas)[sigma],
            "flipped_percent": percent.mean(axis=-1).ravel(),
            "low": low.ravel(),
            "high": high.ravel(),
            "images": len(self.indices),
            "draws": self.draws.ravel(),
        }
        return pd.DataFrame(columns)

    @property
    def images(self) -> pd.DataFrame:
        """Return one row per model, sigma (grey levels) and image: its index, label, draws and flipped copies."""
        import pandas as pd

        model, sigma, image = np.indices(self.flipped.shape).reshape(3, -1)
        columns = {
            "model": np.array(self.models)[model],
            "sigma": np.array(self.summary.sigmas)[sigma],
            "index": self.indices[image],
            "label": self.labels[image],
            "draws": self.draws[model, sigma],
            "flipped": self.flipped.ravel(),
        }
        return pd.DataFrame(columns)

    def plot(self) -> Figure:
        """Return a figure: flipped copies of each model against sigma."""
        from bangbench.interface.plots import noise_figure

        return noise_figure(self.models, self.summary)

    def __repr__(self) -> str:
        width = max(map(len, self.models))
        head = " ".join(f"{f'σ = {sigma:g}':>9}" for sigma in self.summary.sigmas)  # noqa: RUF001
        lines = [
            f"noisy copies not classified correctly (%), {self.summary.images:,} images, "
            f"{'' if self.summary.precision is None else 'up to '}{self.summary.draws:,} draws each",
            f"  {'':{width}}  {head}",
            *(
                f"  {name:{width}}  {' '.join(f'{value:9.2f}' for value in surface[-1])}"
                for name, surface in zip(self.models, self.summary.flipped_percent, strict=True)
            ),
            *(f"  note: {note}" for note in self.notes),
        ]
        return "\n".join(lines)


@described_by(NoiseSpec, HERE)
def noise_eval(
    models: Mapping[str, nn.Module | Model],
    images: Images,
    labels: Labels = None,
    *,
    sigma: float | Sequence[float] | None = None,
    draws: int = 1000,
    precision: float | None = None,
    per_class: int = 100,
    seed: int = 0,
    clip: bool = True,
    batch_size: int | None = None,
    input_scale: float | None = None,
    mean: float | tuple[float, ...] | None = None,
    std: float | tuple[float, ...] | None = None,
    progress: bool = True,
) -> Noisy:
    """Count noisy copies that models get wrong, of the images that all of them get right without noise.

    models: by name, the first the reference; images and labels as `audit` takes them. Every model sees the same noise.

    Raises `UsageError` for images, labels or models of another form, and where no image is right in all models.
    """
    sigmas = None if sigma is None else tuple(np.atleast_1d(np.asarray(sigma, np.float64)).tolist())
    given = {
        "sigma": sigmas,
        "draws": draws,
        "precision": precision,
        "per_class": per_class,
        "seed": seed,
        "clip": clip,
    }
    if not isinstance(models, Mapping) or not models:
        found = "none" if isinstance(models, Mapping) else type(models).__name__
        raise UsageError(f"models: expected at least one by its name, {{'name': model, ...}}, found {found}")
    spec = make_settings(
        "noise_eval",
        NoiseSpec,
        {**given, "seed": seed, "clip": clip, "batch_size": batch_size, "models": ("first", "others")},
    )
    batch, own = read_batch(images, labels), preprocessing(input_scale, mean, std)
    with ExitStack() as stack:
        subjects = [
            stack.enter_context(borrowed(model, batch, None if isinstance(model, Model) else own, name))
            for name, model in models.items()
        ]
        return _counted(subjects, batch, spec, bar(progress))


def _counted(subjects: Sequence[Subject], batch: Batch, spec: NoiseSpec, progress: Progress) -> Noisy:
    begin, device = time.perf_counter(), subjects[0].device
    pixels, labels = torch.from_numpy(batch.pixels).to(device), torch.from_numpy(batch.labels).to(device)
    if any(subject.device != device for subject in subjects):
        raise UsageError(f"models: expected all on {device}, found {', '.join(str(one.device) for one in subjects)}")
    classifiers = [subject.classifier for subject in subjects]
    correct = np.stack([answered(logits_of(one, pixels, spec.batch_size), labels).cpu().numpy() for one in classifiers])
    if not correct.all(axis=0).any():
        raise UsageError(
            "expected an image that all models classify correctly, found none; are the images as they take them?"
        )
    chosen = select_images(correct, batch.labels, spec.per_class)
    noise = Noise(spec.sigmas(batch.pixels.shape[1]), spec.draws, spec.seed, spec.clip)
    per_class = np.bincount(batch.labels[chosen], minlength=subjects[0].classes)
    outline = Outline(len(subjects), (0,), noise, tuple(per_class.tolist()), spec.precision)
    images = Chosen(pixels[chosen], labels[chosen], chosen)
    size = spec.batch_size or batch_size_for(device, batch.pixels[:1].size)

    def count(this: Stretch) -> Counts:
        progress.start("noise", int(this.cells.sum()) * this.draws * len(chosen), unit="img")
        try:
            own = noise._replace(first=this.first, draws=this.draws)
            return count_flips(classifiers, images, own, size, progress, this.cells)
        finally:
            progress.finish()

    counted = count_cells(outline, count)
    summary = summarise(outline, counted, time.perf_counter() - begin)
    names = tuple(subject.name for subject in subjects)
    notes = (f"{subject.name}: {note}" for subject in subjects for note in subject.notes)
    return Noisy(names, chosen, batch.labels[chosen], counted.flipped, counted.draws, summary, (*batch.notes, *notes))
