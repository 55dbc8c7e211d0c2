"""Jobs handed to submitit, which runs them on this machine as it would under Slurm."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import submitit

from bangbench.core import executor_slurm
from bangbench.core.errors import BenchError, UsageError
from bangbench.core.executor import Job, Needs, run_jobs
from bangbench.core.executor_remote import pack, perform_there
from bangbench.core.executor_slurm import Resumable, SlurmExecutor, parse_options
from bangbench.core.progress import SILENT

HERE = {"cluster": "local"}

# submitit leaves the pipes of its local processes to the garbage collector
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_jobs_end_with_their_results_and_say_their_lines(
    functions: Any, notes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BANGBENCH_DATA", "/the/data")
    monkeypatch.chdir(tmp_path)
    executor = SlurmExecutor(tmp_path, Needs(), HERE, at_once=2)
    jobs = [Job(f"job {number}", functions.tell, number) for number in range(3)]
    assert run_jobs(jobs, executor, "all", notes) == [0, 2, 4]
    assert {f"{number}: /the/data in {tmp_path}" for number in range(3)} <= set(notes.notes)
    assert executor.slots == 2


def test_a_job_that_dies_brings_the_file_that_says_why(
    functions: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitit.core.core.Job, "_results_timeout_s", 1)  # for a file system that is late
    with pytest.raises(BenchError, match=r"^the Slurm job \d+ working on dies ended without a result \(.*log\.err\)"):
        run_jobs([Job("dies", functions.die, None)], SlurmExecutor(tmp_path, Needs(), HERE), "all", SILENT)


def test_an_error_is_raised_as_it_is_and_the_other_jobs_end(functions: Any, tmp_path: Path) -> None:
    jobs = [Job("waits", functions.wait, tmp_path), Job("refuses", functions.refuse, tmp_path)]
    with pytest.raises(UsageError, match=r"^expected something else; change it$"):
        run_jobs(jobs, SlurmExecutor(tmp_path, Needs(), HERE), "all", SILENT)
    (mark,) = tmp_path.glob("waits.*")
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.suffix[1:]), 0)


def test_a_machine_without_the_root_says_so_before_it_begins(functions: Any, tmp_path: Path) -> None:
    parcel = pack(0, Job("job", functions.tell, 1), tmp_path / "elsewhere")
    error = perform_there(parcel).error
    assert error is not None
    assert f"does not see {tmp_path}/elsewhere; choose a --root" in str(error)


def test_a_job_whose_time_is_over_is_the_same_when_it_begins_again(functions: Any, tmp_path: Path) -> None:
    parcel = pack(0, Job("job", functions.tell, 1), tmp_path)
    again = Resumable().checkpoint(parcel)
    assert isinstance(again.function, Resumable)
    assert again.args == (parcel,)


@pytest.mark.parametrize(
    ("needs", "options", "expected"),
    [
        (Needs(), {}, {"cpus_per_task": 1, "timeout_min": 1440}),
        (Needs(cores=2, memory=3.5, gpus=1.0), {}, {"cpus_per_task": 2, "mem_gb": 3.5, "gpus_per_node": 1}),
        (Needs(), {"partition": "gpu", "time": "60"}, {"slurm_partition": "gpu", "slurm_time": 60}),
        (Needs(), {"reservation": "mine"}, {"slurm_additional_parameters": {"reservation": "mine"}}),
        (Needs(gpus=0.125), {"gres": "shard:1"}, {"slurm_gres": "shard:1"}),
    ],
)
def test_needs_and_options_become_settings_of_sbatch(
    needs: Needs, options: dict[str, str], expected: dict[str, Any]
) -> None:
    made = executor_slurm.parameters(needs, options)
    assert {name: made.get(name) for name in expected} == expected
    assert ("timeout_min" in made) == ("time" not in options)
    assert ("gpus_per_node" in made) == ("gpus_per_node" in expected)


def test_parts_of_a_card_are_refused_where_the_cluster_has_none() -> None:
    with pytest.raises(UsageError, match=r"Slurm gives whole GPUs, found --gpus-per-job 0\.5"):
        executor_slurm.parameters(Needs(gpus=0.5), {})


@pytest.mark.parametrize("item", ["partition", "=gpu", "partition="])
def test_an_option_without_a_value_is_refused(item: str) -> None:
    with pytest.raises(UsageError, match="--slurm: expected KEY=VALUE"):
        parse_options([item])


def test_a_machine_without_slurm_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--executor slurm: .*try --slurm cluster=local"):
        SlurmExecutor(tmp_path, Needs(), {})


@pytest.mark.slow
def test_the_records_are_byte_for_byte_those_of_this_machine(study: Any) -> None:
    study.play("slurm", executor="slurm", slurm=("cluster=local",), only=("R-s1",))
    left, local = study.left("slurm"), study.left("local")
    assert set(left) == {name for name in local if name.split("/")[2] == "R-s1"}
    assert [name for name in left if left[name] != local[name]] == []
