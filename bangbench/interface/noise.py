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
from bangbench.nets.predict import batch_size_for, predict
from bangbench.noise.count import Images as Chosen
from bangbench.noise.count import Noise, count_flips
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
    noisy copies that are classified otherwise than as the label, of `summary.draws` each.
    """

    models: tuple[str, ...]
    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    flipped: NDArray[np.int32]
    summary: NoiseSummary
    notes: tuple[str, ...]

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per model and sigma (grey levels): flipped copies in percent, with a 95 % interval."""
        import pandas as pd

        percent = 100.0 * self.flipped / self.summary.draws
        low, high = (ends.clip(0.0, 100.0) for ends in t_interval_ends(percent))
        rows = [
            (name, sigma, percent[model, place].mean(), low[model, place], high[model, place], len(self.indices))
            for model, name in enumerate(self.models)
            for place, sigma in enumerate(self.summary.sigmas)
        ]
        return pd.DataFrame(rows, columns=["model", "sigma", "flipped_percent", "low", "high", "images"])

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
            "draws": self.summary.draws,
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
            f"{self.summary.draws:,} draws each",
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
    given = {"sigma": sigmas, "draws": draws, "per_class": per_class, "seed": seed, "clip": clip}
    if not models:
        raise UsageError("models: expected at least one, by its name, found none")
    spec = make_settings("noise_eval", NoiseSpec, {**given, "models": ("first", "others"), "batch_size": batch_size})
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
    correct = np.stack([(predict(one, pixels, spec.batch_size) == labels).cpu().numpy() for one in classifiers])
    if not correct.all(axis=0).any():
        raise UsageError(
            "expected an image that all models classify correctly, found none; are the images as they take them?"
        )
    chosen = select_images(correct, batch.labels, spec.per_class)
    noise = Noise(spec.sigmas(batch.pixels.shape[1]), spec.draws, spec.seed, spec.clip)
    images = Chosen(pixels[chosen], labels[chosen], chosen)
    forwards = len(classifiers) * len(noise.sigmas) * len(chosen) * noise.draws
    progress.start("noise", forwards, unit="img")
    try:
        size = spec.batch_size or batch_size_for(device, batch.pixels[:1].size)
        flipped = count_flips(classifiers, images, noise, size, progress).flipped
    finally:
        progress.finish()
    percent = 100.0 * flipped.sum(axis=-1) / (len(chosen) * noise.draws)
    summary = NoiseSummary(
        stages=(0,),
        sigmas=noise.sigmas,
        draws=noise.draws,
        images=len(chosen),
        images_per_class=tuple(np.bincount(batch.labels[chosen], minlength=subjects[0].classes).tolist()),
        flipped_percent=percent[:, None, :].tolist(),
        forwards=forwards,
        seconds=time.perf_counter() - begin,
    )
    names = tuple(subject.name for subject in subjects)
    return Noisy(names, chosen, batch.labels[chosen], flipped, summary, batch.notes)
