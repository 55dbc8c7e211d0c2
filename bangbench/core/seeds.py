"""Seeds: one explicit number per use, never the clock, never a global left changed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed for one purpose, so that two uses of the same user seed never share a stream."""
    text = "/".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def torch_generator(seed: int, *purpose: str | int) -> torch.Generator:
    """Return a CPU generator seeded for one purpose."""
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, *purpose))


@contextmanager
def default_seeds(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the default generators of torch, Python and NumPy inside the block and restore them after it.

    Layers draw their dropout masks from the default generator and take no other, a user's own layers among them, which
    may as well draw from Python's or NumPy's.
    """
    import numpy as np
    import torch

    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
