"""The noise evolution against the bare forward pass of the same net on a batch that is ready, and in bfloat16."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from bangbench.nets.catalogue import build_net, net_definition
from bangbench.nets.classifier import Classifier
from bangbench.nets.predict import batch_size_for
from bangbench.noise.count import COMPARED_DRAWS, Images, Noise, count_flips
from bangbench.noise.spec import COLOUR_SIGMAS, GREY_SIGMAS, Arithmetic
from benchmarks.compare import Comparison, Work, compare, fastest

_DRAWS, _CLASSIFIERS = 250, 2
#: bfloat16 is slow where the processor has no instructions for it: fewer levels of noise do.
_REDUCED_SIGMAS = 2
#: The bare forward pass gets the fastest of these; larger batches leave the cache.
_BATCH_SIZES = (50, 100, 250, 500)


def comparisons() -> list[Comparison]:
    """Compare on one thread, for as many images: two classifiers, ten sigmas, so that a noise tensor serves 20 passes.

    The share of the time that is not the forward pass itself is to stay below a tenth: a ratio of at least 0.9.
    bfloat16 is compared without the draws that it computes in float32 as well; there is no limit to that ratio.
    """
    torch.set_num_threads(1)
    cases = [("lenet", (1, 28, 28), GREY_SIGMAS), ("cifar10-quick", (3, 32, 32), COLOUR_SIGMAS)]
    return [comparison for case in cases for comparison in _of_net(*case)]


def _of_net(net: str, shape: tuple[int, int, int], sigmas: tuple[float, ...]) -> list[Comparison]:
    classifiers = [_classifier(net, shape, seed) for seed in range(_CLASSIFIERS)]
    evolution = partial(_evolution, classifiers, _image(shape))
    forwards, few = _DRAWS * _CLASSIFIERS * len(sigmas), sigmas[-_REDUCED_SIGMAS:]
    bare_passes = {f"batch {size}": _forward(classifiers[0], shape, size, forwards) for size in _BATCH_SIZES}
    setting, bare = fastest(bare_passes)
    peer, reduced = f"bare forward pass, {setting}", f"noise evolution in bfloat16, {net}"
    return [
        compare(
            f"noise evolution, {net}, {forwards:,} forward passes",
            evolution(sigmas, "float32"),
            peer,
            bare,
            runs=5,
            at_least=0.9,
        ),
        compare(reduced, evolution(few, "bfloat16"), "in float32", evolution(few, "float32"), runs=5),
    ]


def _evolution(
    classifiers: list[Classifier], images: Images, sigmas: tuple[float, ...], arithmetic: Arithmetic
) -> Work:
    noise = Noise(sigmas, _DRAWS, seed=0, clip=True, first=COMPARED_DRAWS)
    batch_size = batch_size_for(torch.device("cpu"))
    return lambda: count_flips(classifiers, images, noise, batch_size, arithmetic=arithmetic)


def _forward(classifier: Classifier, shape: tuple[int, int, int], size: int, forwards: int) -> Work:
    batch = torch.randint(256, (size, *shape), generator=torch.Generator().manual_seed(0)).to(torch.float32)

    @torch.inference_mode()
    def work() -> None:
        for _ in range(forwards // size):
            classifier(batch)

    return work


def _classifier(net: str, shape: tuple[int, int, int], seed: int) -> Classifier:
    definition = net_definition(net)
    mean = torch.full(shape, 120.0) if definition.preprocessing.mean_image else None
    built = build_net(definition, shape, 10, seed)
    return Classifier(built, definition.preprocessing, mean, definition.channels_last).eval()


def _image(shape: tuple[int, int, int]) -> Images:
    pixels = torch.randint(256, (1, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return Images(pixels, torch.zeros(1, dtype=torch.int64), np.arange(1))
