"""Jobs on a Ray cluster of several machines, one of which is lost; the machines are raylets on this one."""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bangbench.core.errors import BenchError, UsageError
from bangbench.core.executor import PER_JOB, Job, Needs, run_jobs
from bangbench.core.executor_ray import RayExecutor, ray_executor
from bangbench.core.progress import SILENT
from bangbench.noise import rounds

pytestmark = [
    # Ray leaves files and sockets of its own to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore:Tip.*:FutureWarning"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a cluster of a head that does no work and three machines of one core, connected to."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 80 * 2**20}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})
    for _ in range(3):
        made.add_node(num_cpus=1, wait=False, **small)
    made.wait_for_nodes()
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture(scope="module")
def executor(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayExecutor]:
    """Return an executor with a root of its own."""
    with ray_executor(tmp_path_factory.mktemp("root"), Needs()) as made:
        yield made


def test_jobs_get_the_data_folder_the_folder_and_the_modules_of_the_driver(
    executor: RayExecutor, functions: Any, notes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BANGBENCH_DATA", "/the/data")
    monkeypatch.chdir(tmp_path)
    notes.moved = 0
    monkeypatch.setattr(notes, "advance", lambda count=1: setattr(notes, "moved", notes.moved + count), raising=False)
    jobs = [Job(f"job {number}", functions.tell, number) for number in range(4)]
    assert run_jobs(jobs, executor, "all", notes) == [0, 2, 4, 6]
    assert notes.moved == 4 * PER_JOB
    assert {f"{number}: /the/data in {tmp_path}" for number in range(4)} <= set(notes.notes)
    assert executor.slots == 3
    assert list((executor.root / ".jobs").iterdir()) == []


def test_an_error_is_raised_as_it_is_and_the_other_jobs_end(
    executor: RayExecutor, functions: Any, tmp_path: Path
) -> None:
    jobs = [Job("waits", functions.wait, tmp_path), Job("refuses", functions.refuse, tmp_path)]
    with pytest.raises(UsageError, match=r"^expected something else; change it$"):
        run_jobs(jobs, executor, "all", SILENT)
    (mark,) = tmp_path.glob("waits.*")
    assert has_ended(int(mark.suffix[1:]))


def has_ended(process: int) -> bool:
    """Return whether a process is gone, or a zombie, waiting a little for it."""
    for _ in range(200):
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def test_a_job_whose_process_dies_every_time_is_given_up(executor: RayExecutor, functions: Any, notes: Any) -> None:
    with pytest.raises(BenchError, match=r"^the process working on dies was lost 4 times .*run the command again"):
        run_jobs([Job("dies", functions.die, None)], executor, "all", notes)
    again = f"dies: begun again on {platform.node()}, the process before is lost"
    assert notes.notes == [again] * 3


def test_needs_that_no_machine_meets_are_refused_at_once(cluster: Any, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"no machine .* has 1 cores, 0\.5 GPUs for a job; they have: .*1 cores, 0 G"):  # noqa: SIM117
        with ray_executor(tmp_path, Needs(gpus=0.5)):
            pass


def test_machines_that_have_other_versions_are_named_before_work_begins(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"bangbench": "9.9", "Python": "3.11", "torch": "1", "numpy": "1"}
    monkeypatch.setattr("bangbench.core.executor_remote.versions", lambda: found)
    with pytest.raises(BenchError, match=rf"{platform.node()} has bangbench .* instead of 9\.9, .*the same versions"):  # noqa: SIM117
        with ray_executor(tmp_path, Needs()):
            pass


def machine_of(process: int, cluster: Any) -> Any:
    """Return the machine that a job's process belongs to: its raylet is the parent."""
    parent = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    raylets = {node.all_processes["raylet"][0].process.pid: node for node in cluster.worker_nodes}
    return raylets[parent]


@pytest.mark.slow
def test_a_lost_machine_changes_no_byte_of_the_records(
    cluster: Any, study: Any, notes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = study.root("ray")
    # the noise is shared among the machines that are left, too
    monkeypatch.setattr(rounds, "_IN_PROCESS_FORWARDS", 0)
    monkeypatch.setattr(rounds, "_count_chunks", lambda *_: pytest.fail("counted in this process"))

    def lose_a_machine() -> None:
        found: list[Path] = []
        while not found:
            time.sleep(0.02)
            found = list(root.glob("models/small/*/stages/000020.safetensors"))
        trains = json.loads((found[0].parents[1] / ".lock-holder").read_text())["pid"]
        cluster.remove_node(machine_of(trains, cluster), allow_graceful=False)

    losing = threading.Thread(target=lose_a_machine, daemon=True)
    losing.start()
    played = study.play("ray", notes, executor="ray")
    losing.join()
    assert [note for note in notes.notes if "begun again" in note]
    assert [result.card.model.name for result in played.models] == ["small/R", "small/R-s1", "small/R-s2"]
    left, local = study.left("ray"), study.left("local")
    assert set(left) == set(local)
    assert [name for name in local if left[name] != local[name]] == []
