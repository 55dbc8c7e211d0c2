"""Whole training steps against the loop that a user would write, as the tutorials do."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from bangbench.core.device import cpu_threads
from bangbench.data.dataset import Dataset
from bangbench.nets.catalogue import build_net, net_definition
from bangbench.training.memory import keep_freed_memory
from benchmarks.compare import Comparison, Work, compare, fastest
from benchmarks.inputs import grey_images, training_run
from benchmarks.training_step import steps_of

#: So many steps that the batches which idle workers prepare beforehand, two each, hardly count.
_STEPS, _RUNS, _LIMIT = 40, 5, 1.3
_BATCH = 64
#: On the machine's cores beside the one that trains.
_WORKERS = (0, 1, 2)


class Images(TorchDataset[tuple[Tensor, int]]):
    """Images uint8 and labels; each image is made float32 in [0, 1] when it is asked for, as ToTensor does."""

    def __init__(self, data: Dataset) -> None:
        self._images, self._labels = torch.from_numpy(data.images), data.labels.tolist()

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._images[index].to(torch.float32).div(255), self._labels[index]


def comparisons() -> list[Comparison]:
    """Compare regular training on one thread; the loader gets the best number of worker processes."""
    keep_freed_memory()
    name, data = grey_images()
    with cpu_threads(1):
        own = steps_of(training_run("lenet", data, "regular"), _STEPS)
        works = {f"{count} loader workers": tutorial_steps(data, count, _STEPS) for count in _WORKERS}
        setting, peer = fastest(works)
        operation = f"{_STEPS} training steps, lenet, batch {_BATCH}, {name}, 1 thread"
        return [compare(operation, own, f"loop of the tutorials, {setting}", peer, _RUNS, at_least=_LIMIT)]


def tutorial_steps(data: Dataset, workers: int, count: int) -> Work:
    """Return a function that does the next `count` steps with DataLoader, autograd and torch's SGD."""
    net = build_net(net_definition("lenet"), (1, 28, 28), 10, 0).train()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=0.0005)
    loader = DataLoader(Images(data), _BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    batches = _for_ever(loader)

    def work() -> None:
        running = 0.0
        for images, labels in itertools.islice(batches, count):
            optimiser.zero_grad()
            loss = cross_entropy(net(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimiser.step()
            running += loss.item()

    return work


def _for_ever(loader: DataLoader[tuple[Tensor, int]]) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from loader
