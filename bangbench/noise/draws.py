"""Common random numbers: the noise of a draw is a function of (seed, image, draw) and of nothing else."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator, Philox
from numpy.typing import NDArray

from bangbench.core.seeds import derive_seed


def draws(seed: int, image_index: int, first: int, count: int, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return standard normal noise for the draws first .. first + count - 1 of one image, (count, C, H, W).

    image_index: the image's place in the test split. Draw d is the same whatever `first` and `count` are; every level
    of noise, stage and model uses the same one, and every device, since it is made on the CPU. The generator is
    counter-based (Philox, Salmon et al. 2011): seed and image are its key and the draw is the second word of its
    counter, so that a draw has 2^64 blocks of its own and no two draws share one.
    """
    noise = np.empty((count, *shape), dtype=np.float32)
    bits = Philox(key=np.array([derive_seed(seed, "noise"), image_index], dtype=np.uint64))
    generator, state = Generator(bits), bits.state
    for place in range(count):
        # Assigning the state also empties the generator's buffers; a new generator would cost three times as much.
        state["state"]["counter"][1] = first + place
        bits.state = state
        generator.standard_normal(out=noise[place], dtype=np.float32)
    return noise
