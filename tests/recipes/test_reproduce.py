"""Playing a recipe: what is done is not done again, and a change redoes what depends on it and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from bangbench.attacks.fgs import Fgs
from bangbench.attacks.spec import AttackSpec
from bangbench.core import device
from bangbench.core.errors import BenchError, UsageError
from bangbench.core.progress import SILENT, Progress, Silent
from bangbench.recipes import run, tasks
from bangbench.recipes.run import Played, reproduce
from bangbench.recipes.spec import ReproduceSpec
from bangbench.reporting.run import ReportResult, report
from bangbench.store.records import AttackRecord, read_record

NET = """
from torch import nn


def make(input_shape, classes):
    return nn.Sequential(nn.Conv2d(1, 2, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(50, classes))
"""

RECIPE = """
title = "A small experiment"

[train]
net = "{folder}/net.py:make"
data = "npz:{folder}/blobs.npz"
iterations = 20
stages = 10
batch_size = 8
learning_rate = 0.1

[attack]
attack = ["fgs", "hc1"]

[noise]
models = ["R0", "B1"]
sigma = [40, 80]
draws = 2
per_class = 2

[[model]]
id = "R0"
method = "regular"

[[model]]
id = "B1"
method = "bang"
beta = 1.0
epsilon = 0.8
"""


class Study(NamedTuple):
    """A recipe file and the root it is played in."""

    recipe: Path
    root: Path

    def play(self, progress: Progress = SILENT, **changes: object) -> Played:
        """Play the recipe in this process, one model at a time."""
        settings = {"recipe": str(self.recipe), "root": self.root, "device": "cpu", "jobs": 1}
        return reproduce(ReproduceSpec.model_validate({**settings, **changes}), progress)

    def edit(self, old: str, new: str) -> None:
        """Change the recipe."""
        text = self.recipe.read_text()
        assert text.count(old) == 1
        self.recipe.write_text(text.replace(old, new))

    def contents(self) -> dict[str, bytes]:
        """Return every file of models/ and results/ except the report, by path."""
        files = [path for top in ("models", "results") for path in (self.root / top).rglob("*") if path.is_file()]
        named = {path.relative_to(self.root).as_posix(): path.read_bytes() for path in files}
        return {name: content for name, content in named.items() if not name.startswith("results/report/")}


def blobs(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images uint8 (N, 12, 12) of three classes: a bright square at a place of its own, under noise."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = generator.integers(0, 60, (count, 12, 12))
    for image, label in zip(images, labels, strict=True):
        image[4 * label : 4 * label + 4, 3:9] += 150
    return images.astype(np.uint8), labels


def make_study(folder: Path) -> Study:
    """Write a recipe with its net and its images to `folder`."""
    (folder / "net.py").write_text(NET)
    (train_images, train_labels), (test_images, test_labels) = blobs(60, 0), blobs(24, 1)
    np.savez(
        folder / "blobs.npz",
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
    )
    (folder / "small.toml").write_text(RECIPE.format(folder=folder))
    return Study(folder / "small.toml", folder / "root")


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Return a study that has not been played."""
    return make_study(tmp_path)


class Work(Silent):
    """A progress that keeps the label of everything that is computed."""

    def __init__(self) -> None:
        self.labels: list[str] = []
        self.notes: list[str] = []

    def start(self, label: str, total: int, done: int = 0, unit: str = "it") -> None:
        self.labels.append(label)

    def note(self, text: str) -> None:
        self.notes.append(text)


TRAINING = ["small/R0", "small/B1"]
ATTACKS = ["small/R0 fgs", "small/R0 hc1", "small/B1 fgs", "small/B1 hc1"]
NOISE = ["choosing images", "small/R0-vs-B1"]


def computed(study: Study, **changes: object) -> set[str]:
    """Play the recipe and return what this computed, except the report, which is always written again."""
    work = Work()
    study.play(work, **changes)
    assert len(work.labels) == len(set(work.labels))
    return set(work.labels) - {"report"}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute with one thread, which suits tiny nets, and draw no figures."""
    monkeypatch.setattr(device, "available_cores", lambda: 1)
    monkeypatch.setattr(run, "report", lambda *_: ReportResult((), (), (), ()))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Return a study that was played once, to be copied."""
    study = make_study(tmp_path_factory.mktemp("finished"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(device, "available_cores", lambda: 1)
        assert computed(study) == {*TRAINING, *ATTACKS, *NOISE}
    return study


@pytest.fixture
def played(finished: Study, tmp_path: Path, quick: None) -> Study:
    """Return a study after everything was computed once."""
    shutil.copytree(finished.root, tmp_path / "root")
    shutil.copy(finished.recipe, tmp_path / "small.toml")
    return Study(tmp_path / "small.toml", tmp_path / "root")


def test_a_recipe_trains_attacks_measures_noise_and_writes_the_report(
    played: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "report", report)
    shutil.rmtree(played.root / "results/report")
    work = Work()
    result = played.play(work)
    assert [task.card.model.name for task in result.models] == TRAINING
    assert [[record.attack for record in task.attacks] for task in result.models] == [["fgs", "hc1"]] * 2
    assert result.noise is not None
    assert result.noise.summary is not None
    assert result.noise.summary.draws == 2
    assert result.report.problems == result.report.unfinished == ()
    assert result.report.files
    assert all(path.is_file() for path in result.report.files)
    assert f"small/R0: {result.models[0].card.accuracy:.2f} % after 20 iterations" in work.notes


def test_what_is_done_is_not_done_again(played: Study) -> None:
    before = played.contents()
    assert computed(played) == set()
    assert played.contents() == before


def test_replacing_other_draws_redoes_only_the_noise(played: Study) -> None:
    before = played.contents()
    assert computed(played, draws=3, overwrite=True) == set(NOISE)
    changed = {name for name, content in played.contents().items() if before.get(name) != content}
    assert changed == {"results/small/R0-vs-B1/noise.json", "results/small/R0-vs-B1/noise.parquet"}


def test_replacing_another_limit_redoes_only_the_attacks_and_only_once(played: Study) -> None:
    assert computed(played, limit=12, overwrite=True) == set(ATTACKS)
    assert computed(played, limit=12, overwrite=True) == set()


def refusal(study: Study, **changes: object) -> list[str]:
    """Play the recipe, which must be refused before anything is computed or touched; return the lines that say why."""
    before, work = study.contents(), Work()
    with pytest.raises(BenchError) as caught:
        study.play(work, **changes)
    assert work.labels == []
    assert study.contents() == before
    first, *lines, last = str(caught.value).replace(f"{study.root}/", "").splitlines()
    assert first == "finished work of other settings is in the way:"
    assert "--overwrite" in last
    assert "--name" in last
    return [line.strip() for line in lines]


def test_finished_work_of_other_settings_is_kept_and_what_differs_is_named(played: Study) -> None:
    assert refusal(played, limit=12) == [
        "results/small/R0: fgs.json, hc1.json (limit: None -> 12)",
        "results/small/B1: fgs.json, hc1.json (limit: None -> 12)",
    ]
    assert refusal(played, draws=3) == ["results/small/R0-vs-B1: noise.json (draws: 2 -> 3)"]
    assert refusal(played, iterations=10, only=("B1",)) == [
        "models/small/B1: model.json (iterations: 20 -> 10)",
        "results/small/B1: fgs.json, hc1.json (measured on a model in the way)",
    ]
    played.edit("beta = 1.0", "beta = 0.5")
    assert refusal(played) == [
        "models/small/B1: model.json (method_settings.beta: 1.0 -> 0.5)",
        "results/small/B1: fgs.json, hc1.json (measured on a model in the way)",
        "results/small/R0-vs-B1: noise.json (measured on a model in the way)",
    ]


def test_work_in_the_way_is_found_before_the_missing_is_computed(played: Study) -> None:
    shutil.rmtree(played.root / "models/small/R0")
    assert refusal(played, limit=12)[0] == "results/small/R0: fgs.json, hc1.json (limit: None -> 12)"
    assert refusal(played, draws=3) == ["results/small/R0-vs-B1: noise.json (draws: 2 -> 3)"]


def test_a_measurement_of_other_stages_or_weights_is_in_the_way(played: Study) -> None:
    shutil.rmtree(played.root / "models/small/R0/stages")
    shutil.rmtree(played.root / "models/small/B1/stages")
    assert refusal(played) == ["results/small/R0-vs-B1: noise.json (the data or the weights are not the same)"]
    path = played.root / "results/small/B1/hc1.json"
    path.write_text(path.read_text().replace(read_record(path, AttackRecord).key, "0" * 64))
    assert refusal(played, noise=False) == ["results/small/B1: hc1.json (the data or the weights are not the same)"]


def test_another_budget_of_an_audit_is_in_the_way(played: Study) -> None:
    played.edit('[[model]]\nid = "R0"', f'{AUDIT}[[model]]\nid = "R0"')
    assert computed(played, only=("R0",), noise=False) == {"small/R0 audit"}
    played.edit('budget = ["0.1"]', 'budget = ["0.2"]')
    assert refusal(played, only=("R0",)) == ["results/small/R0: audit.json (budget: [25] -> [51])"]
    assert computed(played, only=("R0",), overwrite=True) == {"small/R0 audit"}


def test_an_attack_of_another_version_is_in_the_way(played: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fgs, "version", Fgs.version + 1)
    assert refusal(played, only=("B1",), noise=False) == [
        f"results/small/B1: fgs.json (version: {Fgs.version - 1} -> {Fgs.version})"
    ]


def test_damaged_records_are_in_the_way(played: Study) -> None:
    (played.root / "models/small/R0/weights.safetensors").write_bytes(b"others")
    (played.root / "results/small/B1/fgs.json").write_text("{")
    lines = refusal(played)
    assert "its SHA-256 differs" in lines[0]
    assert "results/small/B1/fgs.json: cannot be read as JSON" in lines[2]
    assert {"small/R0", "small/B1 fgs"} <= computed(played, overwrite=True)


def test_what_was_never_finished_is_replaced_and_that_is_said(played: Study) -> None:
    class Interrupted(Work):
        def start(self, label: str, total: int, done: int = 0, unit: str = "it") -> None:
            if label == "small/B1 fgs":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        played.play(Interrupted(), limit=12, overwrite=True)
    work = Work()
    assert refusal(played)[0] == "results/small/R0: fgs.json, hc1.json (limit: 12 -> None)"
    played.play(work, only=("B1",), noise=False)
    assert work.labels == ["small/B1 fgs"]
    path = played.root / "results/small/B1/fgs.json"
    assert work.notes[0] == f"{path}: never finished, made with other settings (limit: 12 -> None); replaced"


def test_a_run_under_another_name_lies_beside_the_first(played: Study) -> None:
    before, work = played.contents(), Work()
    result = played.play(work, name="short", limit=12)
    assert [task.card.model.name for task in result.models] == ["short/R0", "short/B1"]
    assert {"short/R0", "short/B1 hc1", "short/R0-vs-B1"} <= set(work.labels)
    after = played.contents()
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[1] for name in set(after) - set(before)} == {"short"}
    assert computed(played, name="short", limit=12) == set()


@pytest.mark.parametrize("name", ["a/b", "../up", "", "report"])
def test_a_name_that_is_no_folder_is_refused(study: Study, name: str) -> None:
    with pytest.raises((ValidationError, UsageError)):
        study.play(name=name)


def test_adding_an_attack_runs_only_that_attack(played: Study) -> None:
    played.edit('attack = ["fgs", "hc1"]', 'attack = ["fgs", "hc1", "fgs-unmasked"]')
    assert computed(played) == {"small/R0 fgs-unmasked", "small/B1 fgs-unmasked"}


def test_replacing_one_model_redoes_it_its_attacks_and_the_noise(played: Study) -> None:
    played.edit("beta = 1.0", "beta = 0.5")
    assert computed(played, overwrite=True) == {"small/B1", "small/B1 fgs", "small/B1 hc1", *NOISE}


def test_replacing_what_all_models_share_redoes_everything(played: Study) -> None:
    assert computed(played, iterations=10, overwrite=True) == {*TRAINING, *ATTACKS, *NOISE}


def test_an_attack_whose_record_was_deleted_is_run_again(played: Study) -> None:
    before = played.contents()
    (played.root / "results/small/R0/hc1.json").unlink()
    assert computed(played) == {"small/R0 hc1"}
    assert played.contents()["results/small/R0/hc1.parquet"] == before["results/small/R0/hc1.parquet"]


@pytest.mark.usefixtures("quick")
def test_only_the_models_asked_for_are_played(study: Study) -> None:
    assert computed(study, only=("B1",)) == {"small/B1", "small/B1 fgs", "small/B1 hc1"}
    assert not (study.root / "models/small/R0").exists()


@pytest.mark.usefixtures("quick")
def test_the_noise_can_be_left_out(study: Study) -> None:
    assert computed(study, noise=False) == {*TRAINING, *ATTACKS}


AUDIT = '[audit]\nagainst = "R0"\nbudget = ["0.1"]\nlimit = 6\n\n'


def test_a_recipe_may_audit_its_models_once_each(played: Study) -> None:
    played.edit('[[model]]\nid = "R0"', f'{AUDIT}[[model]]\nid = "R0"')
    assert computed(played, audit=False) == set()
    work = Work()
    result = played.play(work)
    assert work.labels == ["small/R0 audit", "small/B1 audit"]
    assert [record.model.name for record in result.audits] == TRAINING
    assert [record.against.name if record.against else None for record in result.audits] == [None, "small/R0"]
    assert {record.summary.images for record in result.audits if record.summary} == {6}
    assert computed(played) == set()


def test_a_model_is_audited_alone_where_the_regular_one_is_not_played(played: Study) -> None:
    played.edit('[[model]]\nid = "R0"', f'{AUDIT}[[model]]\nid = "R0"')
    (record,) = played.play(only=("B1",)).audits
    assert record.against is None
    assert record.spec["limit"] == 6


def test_an_unknown_model_is_refused_before_anything_is_computed(study: Study) -> None:
    with pytest.raises(UsageError, match=r"unknown model of small 'B0': did you mean '(R0|B1)'\?"):
        study.play(only=("R0", "B0"))
    assert not study.root.exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("stages = 10", "stagess = 10", r"recipe small: unknown setting 'stagess': did you mean 'stages'\?"),
        ("batch_size = 8", "batch_size = 0", r"recipe small: batch_size: expected at least 1"),
        ("sigma = [40, 80]", "sigma = [-1]", r"recipe small: sigma: .*expected grey levels above 0, found -1"),
        ('attack = ["fgs", "hc1"]', "limit = 0", r"recipe small: limit: expected at least 1"),
        ('attack = ["fgs", "hc1"]', 'attack = ["fsg"]', r"unknown attack 'fsg': did you mean 'fgs'\?"),
        ("beta = 1.0", "beta = -1.0", r"method 'bang': beta: expected more than 0"),
        ("beta = 1.0", "gamma = 1.0", r"recipe small: unknown setting 'gamma'"),
        ('method = "bang"', 'method = "bnag"', r"unknown method 'bnag': did you mean 'bang'\?"),
    ],
)
def test_a_mistake_in_a_recipe_is_found_before_anything_is_computed(
    study: Study, old: str, new: str, message: str
) -> None:
    study.edit(old, new)
    with pytest.raises(BenchError, match=message):
        study.play()
    assert not study.root.exists()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("jobs", [1, 2])
def test_models_compute_with_one_thread_however_many_are_worked_on(
    study: Study, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    specs: list[AttackSpec] = []
    card = SimpleNamespace(model=SimpleNamespace(name="R0", iterations=1), accuracy=1.0)
    monkeypatch.setattr(tasks, "train", lambda *_: card)
    monkeypatch.setattr(tasks, "attack", lambda spec, _: specs.append(spec) or [])
    study.play(jobs=jobs, only=("R0",))
    assert [spec.workers for spec in specs] == [1]


@pytest.mark.slow
def test_two_jobs_give_the_same_bytes_as_one(finished: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "report", lambda *_: ReportResult((), (), (), ()))
    other, work = Study(finished.recipe, tmp_path / "root"), Work()
    played = other.play(work, jobs=2)
    assert [result.card.model.name for result in played.models] == TRAINING
    assert work.labels == ["small", *NOISE]
    assert {"small/R0: done", "small/B1: done"} <= set(work.notes)
    first, second = finished.contents(), other.contents()
    assert set(first) == set(second)
    compared = [name for name in first if name.endswith((".safetensors", ".parquet"))]
    assert len(compared) == 2 * 3 + 2 * 2 + 1
    assert [name for name in compared if first[name] != second[name]] == []
