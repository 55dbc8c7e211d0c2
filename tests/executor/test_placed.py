"""Attacks, audits and noise evolutions whose work is shared out on a cluster: the files are those of this machine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bangbench.attacks import run as attacking
from bangbench.attacks.run import attack
from bangbench.attacks.spec import AttackSpec
from bangbench.auditing import run as auditing
from bangbench.auditing.run import audit
from bangbench.auditing.spec import AuditSpec
from bangbench.core.errors import UsageError
from bangbench.core.executor_slurm import SlurmExecutor
from bangbench.noise import rounds
from bangbench.noise.run import evolve
from bangbench.noise.spec import NoiseSpec

# submitit leaves the pipes of its local processes to the garbage collector
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

CLUSTER: dict[str, Any] = {"executor": "slurm", "slurm": ("cluster=local",), "workers": 2}


@pytest.fixture
def handed_over(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Share out whatever there is to do; return how many jobs each batch on the cluster has."""
    for module, least in ((attacking, "_IN_PROCESS_IMAGES"), (auditing, "_IN_PROCESS_PIXELS")):
        monkeypatch.setattr(module, least, 0)
    monkeypatch.setattr(rounds, "_IN_PROCESS_FORWARDS", 0)
    batches: list[int] = []
    submit = SlurmExecutor.submit
    monkeypatch.setattr(SlurmExecutor, "submit", lambda self, jobs: (batches.append(len(jobs)), submit(self, jobs))[1])
    return batches


def many_images(folder: Path) -> str:
    """Write 1,100 test images; return what the data are called."""
    generator = np.random.default_rng(1)
    images = generator.integers(0, 256, (1100, 12, 12)).astype(np.uint8)
    labels = np.arange(1100) % 3
    np.savez(
        folder / "many.npz",
        train_images=images[:3],
        train_labels=labels[:3],
        test_images=images,
        test_labels=labels,
    )
    return f"npz:{folder / 'many.npz'}"


def test_an_attack_on_a_cluster_leaves_the_rows_of_this_machine(
    study: Any, handed_over: list[int], tmp_path: Path
) -> None:
    given = {"data": many_images(tmp_path), "device": "cpu", "attack": ("fgs",), "trust_code": True}
    model = str(study.root("local") / "models/small/R")
    rows = []
    for root, place in (("here", {"workers": 1}), ("there", CLUSTER)):
        settings = {"model": model, "root": tmp_path / root, **given, **place}
        (record,) = attack(AttackSpec.model_validate(settings))
        rows.append(next((tmp_path / root).rglob("fgs.parquet")).read_bytes())
        assert "executor" not in record.spec
    assert rows[0] == rows[1]
    assert handed_over == [2]

    attack(AttackSpec.model_validate(settings))
    assert handed_over == [2], "what is done needs no cluster"


def test_an_audit_and_a_noise_evolution_are_shared_out_on_a_cluster(
    study: Any, handed_over: list[int], tmp_path: Path
) -> None:
    root = shutil.copytree(study.root("local"), tmp_path / "root")  # what others compare with stays as it is
    given = {"root": root, "device": "cpu", "overwrite": True, "trust_code": True}
    audits = AuditSpec.model_validate({"model": "small/R", "strength": "quick", "budget": ("0.1",), **given})
    noise = {"models": ("small/R", "small/R-s1"), "sigma": (40.0,), "draws": 4, "per_class": 6, **given}
    alike = []
    for place in ({"workers": 1}, CLUSTER):
        audited = audit(audits.model_copy(update=place)).summary
        evolved = evolve(NoiseSpec.model_validate({**noise, **place})).summary
        assert audited is not None
        assert evolved is not None
        alike.append((audited.model_copy(update={"seconds": 0.0}), evolved.model_copy(update={"seconds": 0.0})))
    assert alike[0] == alike[1]
    assert len(handed_over) == 2
    assert min(handed_over) > 1


def test_options_that_do_not_go_together_are_refused_before_anything_is_opened() -> None:
    with pytest.raises(UsageError, match="--slurm goes with --executor slurm only"):
        AttackSpec(model="nothing", slurm=("partition=gpu",))
