"""Where the jobs of a command run: on this machine, on a Ray cluster, or on a Slurm cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from bangbench.core.device import available_cores, choose_device
from bangbench.core.errors import UsageError
from bangbench.core.executor import Executor, Needs
from bangbench.core.executor_local import LocalExecutor
from bangbench.core.progress import SILENT, Progress

ExecutorName = Literal["local", "ray", "slurm"]


class Choice(NamedTuple):
    """What a user asks for.

    jobs: at once (None: as many as there is room for); gpus, memory (GiB): what a job needs; address: of a Ray
    cluster; slurm: settings of sbatch as KEY=VALUE; device: as `choose_device` takes it, on the machines.
    """

    name: ExecutorName = "local"
    jobs: int | None = None
    gpus: float | None = None
    memory: float | None = None
    address: str | None = None
    slurm: tuple[str, ...] = ()
    device: str = "auto"


@contextmanager
def open_executor(choice: Choice, root: Path, progress: Progress = SILENT) -> Iterator[Executor | None]:
    """Open the executor, which ends with the block; None where everything is best done in this process.

    Raises `UsageError` for options that do not go together and for what is not installed, `BenchError` for a cluster
    that cannot be reached or used.
    """
    _check(choice)
    needs = Needs(memory=choice.memory, gpus=choice.gpus or 0.0)
    if choice.name == "ray":
        from bangbench.core.executor_ray import ray_executor

        with ray_executor(root, needs, choice.address, choice.jobs, progress) as executor:
            yield executor
    elif choice.name == "slurm":
        from bangbench.core.executor_slurm import SlurmExecutor, parse_options

        yield SlurmExecutor(root, needs, parse_options(choice.slurm), choice.jobs)
    else:
        yield _local(choice)


def _check(choice: Choice) -> None:
    if choice.address is not None and choice.name != "ray":
        raise UsageError("--address goes with --executor ray only")
    if choice.slurm and choice.name != "slurm":
        raise UsageError("--slurm goes with --executor slurm only")
    if choice.memory is not None and choice.name == "local":
        raise UsageError("--memory-per-job goes with --executor ray or slurm; on one machine use fewer --jobs")
    if choice.gpus is not None and choice.gpus > 1 and choice.gpus % 1:
        raise UsageError(f"--gpus-per-job: expected at most 1, or a whole number, found {choice.gpus:g}")


def _local(choice: Choice) -> LocalExecutor | None:
    """Return an executor for one job a core or, on GPUs, as many as their parts; None for one job at a time."""
    device = choose_device(choice.device)
    if device.type != "cuda" or ":" in choice.device:
        if choice.gpus:
            raise UsageError(f"--gpus-per-job spreads over CUDA cards, found device '{device}'")
        jobs = choice.jobs or (available_cores() if device.type == "cpu" else 1)
        return LocalExecutor(jobs) if jobs > 1 else None
    cards, gpus = visible_cards(), choice.gpus or 1.0
    room = int(len(cards) / gpus + 1e-9)
    if not room:
        raise UsageError(f"--gpus-per-job {gpus:g}: this machine has {len(cards)}")
    jobs = choice.jobs or room
    return LocalExecutor(jobs, Needs(gpus=gpus), cards) if jobs > 1 else None


def visible_cards() -> tuple[str, ...]:
    """Return the CUDA devices that this process sees, as CUDA_VISIBLE_DEVICES lists them."""
    import torch

    count = torch.cuda.device_count()
    named = [card.strip() for card in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if card.strip()]
    return tuple(named[:count]) if named else tuple(map(str, range(count)))
