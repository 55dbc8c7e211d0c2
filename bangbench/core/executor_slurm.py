"""The executor on a Slurm cluster, through submitit: one array of jobs, which Slurm starts as it has room."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bangbench.core.errors import BenchError, UsageError
from bangbench.core.executor import Message, Needs
from bangbench.core.executor_remote import JOBS, Parcel, RemoteExecutor, perform_there

#: Jobs that shared work is cut into where the user does not say how many run at once.
_USUAL = 16

#: Minutes that a job may take unless ``time`` is given: a net on a CPU, with room to spare.
_MINUTES = 24 * 60

_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_TO_END = 10.0


class SlurmExecutor(RemoteExecutor):
    """Runs jobs as jobs of Slurm; what they print is kept in ``ROOT/.jobs/slurm``.

    options: settings of sbatch by name, such as partition, account, time (minutes); ``cluster=local`` tries all on this
    machine instead. Raises `UsageError` where submitit or Slurm is missing and for an option without a value.
    """

    def __init__(self, root: Path, needs: Needs, options: Mapping[str, str], at_once: int | None = None) -> None:
        super().__init__(root, at_once)
        self._submitit = _load_submitit()
        given = dict(options)
        cluster = given.pop("cluster", "slurm")
        try:
            self._executor = self._submitit.AutoExecutor(self.root / JOBS / "slurm", cluster=cluster)
        except (RuntimeError, ValueError) as error:
            raise UsageError(
                f"--executor slurm: {error}; run it where sbatch is, or try --slurm cluster=local"
            ) from error
        self._executor.update_parameters(**parameters(needs, given))

    @property
    def slots(self) -> int:
        """Return how many jobs shared work is cut into."""
        return self._at_once or _USUAL

    def begin(self, parcels: Sequence[Parcel]) -> Sequence[Any]:
        """Hand jobs to Slurm, as one array."""
        with self._executor.batch():
            return [self._executor.submit(Resumable(), parcel) for parcel in parcels]

    def ended(self, handles: dict[int, Any]) -> list[Message]:
        """Return the ends of jobs."""
        ends = [self._end_of(number, job) for number, job in handles.items() if job.done()]
        if not ends:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        return ends

    def stop(self, handles: Sequence[Any]) -> None:
        """Cancel jobs, and wait for the end of those that still run."""
        left = [job for job in handles if not job.done()]
        for job in left:
            job.cancel(check=False)
        until = time.monotonic() + _SECONDS_TO_END
        while left and time.monotonic() < until:
            time.sleep(0.1)
            left = [job for job in left if not job.done()]

    def _end_of(self, number: int, job: Any) -> Message:
        failures = self._submitit.core.utils
        try:
            message: Message = job.result()
            return message
        except (failures.UncompletedJobError, failures.FailedJobError) as error:
            told = BenchError(
                f"the Slurm job {job.job_id} working on {self.label(number)} ended without a result ({job.state}; see "
                f"{job.paths.stderr}); run the command again to go on"
            )
            told.__cause__ = error
            return Message(number, ended=True, error=told, trace=str(error))


class Resumable:
    """Does a job; where Slurm takes its machine away or its time is over, Slurm starts it again, and it goes on."""

    def __call__(self, parcel: Parcel) -> Message:
        """Do the job."""
        return perform_there(parcel)

    def checkpoint(self, parcel: Parcel) -> Any:
        """Return what Slurm is to start again."""
        return _load_submitit().helpers.DelayedSubmission(self, parcel)


def parse_options(items: Sequence[str]) -> dict[str, str]:
    """Return ``KEY=VALUE`` items by key; `UsageError` for one without a value."""
    options = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not (name and equals and value):
            raise UsageError(f"--slurm: expected KEY=VALUE, such as partition=gpu, found '{item}'")
        options[name.replace("-", "_")] = value
    return options


def parameters(needs: Needs, options: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters of submitit: its own by name, any other setting of sbatch as an additional one."""
    if needs.gpus % 1 and "gres" not in options:
        raise UsageError(
            f"Slurm gives whole GPUs, found --gpus-per-job {needs.gpus:g}; use 1, or --slurm gres=shard:1 where the "
            "cluster shares its cards"
        )
    parameters: dict[str, Any] = {"name": "bangbench", "cpus_per_task": needs.cores, "timeout_min": _MINUTES}
    if needs.memory is not None:
        parameters["mem_gb"] = needs.memory
    if needs.gpus and "gres" not in options:
        parameters["gpus_per_node"] = int(needs.gpus)
    known = _load_submitit().slurm.slurm.SlurmExecutor._valid_parameters()
    if "time" in options:
        del parameters["timeout_min"]
    numbers = {name: int(value) if value.isdigit() else value for name, value in options.items()}
    parameters |= {f"slurm_{name}": value for name, value in numbers.items() if name in known}
    others = {name: value for name, value in numbers.items() if name not in known}
    return parameters | ({"slurm_additional_parameters": others} if others else {})


def _load_submitit() -> Any:
    try:
        import submitit
        import submitit.slurm.slurm
    except ImportError as error:
        raise UsageError("--executor slurm needs submitit: pip install 'bangbench[slurm]'") from error
    with suppress(AttributeError):
        submitit.core.logger.get_logger().setLevel("WARNING")
    return submitit
