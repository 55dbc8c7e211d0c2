"""The executor on a Ray cluster: jobs run where their needs are met, and elsewhere again when their machine is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bangbench.core.device import available_cores
from bangbench.core.errors import BenchError, UsageError
from bangbench.core.executor import Job, Message, Needs
from bangbench.core.executor_remote import Parcel, RemoteExecutor, obstacles, pack, perform_there
from bangbench.core.progress import SILENT, Progress

#: How often a job whose machine or process is lost is tried again.
_TRIES = 3

#: Bytes of a local cluster's object store: the least that Ray takes, since nothing is put there.
_OBJECT_STORE = 100 * 2**20

_SECONDS_TO_ANSWER = 120.0


class RayExecutor(RemoteExecutor):
    """Runs jobs on the cluster that this process is connected to."""

    def __init__(self, root: Path, needs: Needs, at_once: int | None = None) -> None:
        super().__init__(root, at_once)
        self._ray, self._needs = _load_ray(), needs

    @property
    def slots(self) -> int:
        """Return how many jobs the cluster has room for."""
        have = self._ray.cluster_resources()
        room = [have.get(name, 0.0) / needed for name, needed in _resources(self._needs).items() if needed]
        fitting = max(1, int(min(room, default=1.0) + 1e-9))
        return fitting if self._at_once is None else min(fitting, self._at_once)

    def begin(self, parcels: Sequence[Parcel]) -> Sequence[Any]:
        """Begin jobs, each in a process of its own."""
        needs = self._needs
        remote = self._ray.remote(max_calls=1)(perform_there).options(
            num_cpus=needs.cores,
            num_gpus=needs.gpus,
            memory=None if needs.memory is None else int(needs.memory * 2**30),
            max_retries=_TRIES,
        )
        return [remote.remote(parcel) for parcel in parcels]

    def ended(self, handles: dict[int, Any]) -> list[Message]:
        """Return the ends of jobs."""
        numbers = {handle: number for number, handle in handles.items()}
        ready, _ = self._ray.wait(list(numbers), num_returns=1, timeout=0.5) if numbers else ([], [])
        return [self._end_of(numbers[handle], handle) for handle in ready]

    def stop(self, handles: Sequence[Any]) -> None:
        """End jobs and their processes."""
        for handle in handles:
            self._ray.cancel(handle, force=True)

    def _end_of(self, number: int, handle: Any) -> Message:
        try:
            message: Message = self._ray.get(handle)
            return message
        except self._ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[0]
            told = BenchError(
                f"the process working on {self.label(number)} was lost {_TRIES + 1} times ({type(error).__name__}: "
                f"{reason}); run the command again to go on, or ask for more with --memory-per-job"
            )
            return Message(number, ended=True, error=told)

    def check(self, progress: Progress = SILENT) -> None:
        """Make sure that every machine which may get a job sees the root and has the same versions.

        Raises `BenchError` with what is wrong, machine by machine, and for needs that no machine meets.
        """
        alive = [node for node in self._ray.nodes() if node["Alive"]]
        able = [node for node in alive if _meets(node["Resources"], _resources(self._needs))]
        if not able:
            most = ", ".join(sorted({_offer(node) for node in alive}))
            raise BenchError(f"no machine of the Ray cluster has {_wish(self._needs)} for a job; they have: {most}")
        wrong = [problem for problem in self._look_around(able) if problem]
        if wrong:
            raise BenchError("\n".join(("machines of the Ray cluster cannot do the work:", *sorted(set(wrong)))))
        progress.note(f"Ray: {len(able)} machine{'s' if len(able) > 1 else ''}, {self.slots} jobs at once")

    def _look_around(self, nodes: Sequence[Any]) -> list[str]:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.submit([])  # makes the folder that they have to see
        folder = self._folder or self.root
        parcel = pack(0, Job("look", _nothing, None), folder)
        look = self._ray.remote(max_calls=1)(obstacles)
        asked = {}
        for node in nodes:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            handle = look.options(num_cpus=0, scheduling_strategy=there, max_retries=0).remote(parcel)
            asked[handle] = node["NodeManagerHostname"]
        try:
            ready, silent = self._ray.wait(list(asked), num_returns=len(asked), timeout=_SECONDS_TO_ANSWER)
            return [self._answer(handle, asked[handle]) for handle in ready] + [
                f"{asked[handle]} did not answer within {_SECONDS_TO_ANSWER:.0f} seconds" for handle in silent
            ]
        finally:
            self.cancel()

    def _answer(self, handle: Any, host: str) -> str:
        try:
            return str(self._ray.get(handle))
        except Exception as error:  # whatever it is, it says what the machine lacks
            return f"{host}: {type(error).__name__}: {str(error).strip().splitlines()[-1]}; is bangbench installed?"


@contextmanager
def ray_executor(
    root: Path, needs: Needs, address: str | None = None, at_once: int | None = None, progress: Progress = SILENT
) -> Iterator[RayExecutor]:
    """Connect to the cluster at `address` (HOST:PORT or auto), or start one on this machine; part with it afterwards.

    A connection that this process has already is used and kept. Raises `UsageError` where Ray is not installed,
    `BenchError` where no cluster answers and for machines that cannot do the work.
    """
    ray = _load_ray()
    connected = ray.is_initialized()
    if not connected:
        _connect(ray, address)
    try:
        executor = RayExecutor(root, needs, at_once)
        executor.check(progress)
        yield executor
    finally:
        if not connected:
            ray.shutdown()


def _connect(ray: Any, address: str | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        here = {"num_cpus": available_cores(), "object_store_memory": _OBJECT_STORE, "include_dashboard": False}
        ray.init(address="local", **(quiet | here))
        return
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BenchError(
            f"no Ray cluster answers at '{address}': {reason}; start one (ray start --head) or leave --address out"
        ) from error


def _load_ray() -> Any:
    # read when Ray is imported: nothing is reported, and a job without a card sees none
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    try:
        import ray
    except ImportError as error:
        raise UsageError("--executor ray needs Ray: pip install 'bangbench[ray]'") from error
    return ray


def _nothing(argument: object, progress: Progress) -> None:
    """Do nothing: the job of those who only look whether one could be done."""


def _resources(needs: Needs) -> dict[str, float]:
    memory = 0.0 if needs.memory is None else needs.memory * 2**30
    return {"CPU": float(needs.cores), "GPU": needs.gpus, "memory": memory}


def _meets(have: dict[str, float], needed: dict[str, float]) -> bool:
    return all(have.get(name, 0.0) >= amount for name, amount in needed.items())


def _offer(node: Any) -> str:
    have = node["Resources"]
    return f"{have.get('CPU', 0):g} cores, {have.get('GPU', 0):g} GPUs, {have.get('memory', 0) / 2**30:.0f} GiB"


def _wish(needs: Needs) -> str:
    memory = "" if needs.memory is None else f", {needs.memory:g} GiB"
    return f"{needs.cores} cores, {needs.gpus:g} GPUs{memory}"
