"""Where the jobs of a command run: on this machine, on a Ray cluster, or on a Slurm cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field, model_validator

from bangbench.core.device import available_cores, choose_device
from bangbench.core.errors import UsageError
from bangbench.core.executor import Executor, Needs, using
from bangbench.core.executor_local import LocalExecutor
from bangbench.core.progress import SILENT, Progress
from bangbench.core.spec import Spec

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


class PlacedSpec(Spec):
    """Base of the specs whose work can be shared out among processes, here or on a cluster.

    Raises `UsageError` for options that do not go together.
    """

    circumstances: ClassVar[frozenset[str]] = Spec.circumstances | {
        *("executor", "address", "slurm", "gpus_per_job", "memory_per_job")
    }

    executor: ExecutorName = Field("local", description="Where the work is shared out: this machine, or a cluster.")
    address: str | None = Field(
        None, description="Ray cluster to use: HOST:PORT or auto (default: one started on this machine)."
    )
    slurm: tuple[str, ...] = Field(
        (), description="KEY=VALUE, a setting of sbatch such as partition=gpu; may be given several times."
    )
    gpus_per_job: float | None = Field(
        None, gt=0, description="Share of a GPU that a process needs, such as 0.125 (default: 1; on a cluster 0)."
    )
    memory_per_job: float | None = Field(None, gt=0, description="GiB of memory that a process needs on a cluster.")

    @model_validator(mode="after")
    def _go_together(self) -> PlacedSpec:
        _check(self.placement(None))
        return self

    def placement(self, jobs: int | None) -> Choice:
        """Return where the work is to be done, by at most so many processes at once (None: all there is room for)."""
        return Choice(
            self.executor, jobs, self.gpus_per_job, self.memory_per_job, self.address, self.slurm, self.device
        )


@contextmanager
def placed(spec: PlacedSpec, jobs: int | None, progress: Progress = SILENT) -> Iterator[None]:
    """Let what is shared out inside the block be done where `spec` asks for it; errors as in `open_executor`.

    A spec that asks for nothing leaves it where it is: in the executor of the command around it, or on this machine.
    """
    choice = spec.placement(jobs)
    if choice.name == "local" and choice.gpus is None:
        yield
        return
    with open_executor(choice, spec.root, progress) as executor, using(executor):
        yield


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
