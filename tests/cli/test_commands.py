"""Every command from end to end in a small working directory: what it prints, where, and what it leaves."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import cv2
import numpy as np
import pytest
from rich.console import Console

from bangbench.cli.output import Output
from bangbench.store.tables import read_table

Invoke = Callable[..., CompletedProcess[str]]

ATTACK = ("attack", "R0", "B1", "--attack", "fgs", "--attack", "fgs-unmasked", "--limit", 9)
NOISE = ("noise-eval", "R0", "B1", "--sigma", 40, "--draws", 2, "--per-class", 2)
RECIPE = """
title = "One model"
[train]
net = "net.py:make"
data = "npz:blobs.npz"
iterations = 4
[attack]
attack = ["fgs"]
limit = 6
[[model]]
id = "R0"
method = "regular"
"""


def json_of(result: CompletedProcess[str]) -> dict[str, Any]:
    """Return the one JSON object that a run printed on stdout."""
    assert result.returncode == 0, result.stderr
    value: dict[str, Any] = json.loads(result.stdout)
    assert value["schema"] == 1
    return value


def test_training_tells_the_accuracy_and_where_the_model_is(here: Path, bangbench: Invoke, alike: list[str]) -> None:
    result = bangbench("train", "study/R0", *alike)
    assert result.returncode == 0
    assert result.stdout.startswith("study/R0: ")
    assert result.stdout.rstrip().endswith("kept in models/study/R0")
    assert " % test accuracy after 20 iterations in " in result.stdout
    assert (here / "models/study/R0/weights.safetensors").is_file()


def test_training_prints_its_card_as_json(here: Path, bangbench: Invoke, alike: list[str]) -> None:
    value = json_of(bangbench("train", "X", *alike, "--json"))
    assert value == json.loads((here / "models/X/model.json").read_text())
    assert value["status"] == "done"
    assert value["stages"] == [10, 20]


def test_attack_prints_json_of_exactly_the_documented_shape(here: Path, bangbench: Invoke) -> None:
    value = json_of(bangbench(*ATTACK, "--json"))
    assert set(value) == {"schema", "models"}
    assert list(value["models"]) == ["R0", "B1"]
    for name, model in value["models"].items():
        assert set(model) == {"data", "accuracy", "images", "correct", "attacks"}
        assert (model["data"], model["images"]) == ("blobs", 9)
        assert model["accuracy"] == pytest.approx(100 * model["correct"] / 9)
        assert list(model["attacks"]) == ["fgs", "fgs-unmasked"]
        for attack, found in model["attacks"].items():
            documented = {"flipped", "rate", "rate_interval", "blank", "linf", "pass", "pass_paper", "forwards"}
            assert set(found) == documented | {"seconds", "l2", "unaligned", "ecc_failures", "unverified"}
            assert set(found["linf"]) == {"mean", "std", "median_censored"}
            for moments in ("pass", "pass_paper", "l2", "unaligned"):
                assert set(found[moments]) == {"mean", "std"}
            table = read_table(here / f"results/{name}/{attack}.parquet")
            assert found["flipped"] == sum(table["flipped"].to_pylist()) > 0
            assert found["rate"] == pytest.approx(100 * found["flipped"] / model["correct"])
            assert found["rate_interval"][0] < found["rate"] <= found["rate_interval"][1]


def test_attack_prints_a_table_for_each_model(here: Path, bangbench: Invoke) -> None:
    result = bangbench(*ATTACK)
    assert result.returncode == 0
    assert "R0 on blobs: 9 images, " in result.stdout
    assert "B1 on blobs: 9 images, " in result.stdout
    assert result.stdout.count("fgs-unmasked") == 2


def test_attack_tells_the_budget_that_a_rate_belongs_to(here: Path, bangbench: Invoke) -> None:
    words = ("attack", "R0", "--attack", "fgs", "--attack", "pgd", "--attack", "gaussian-noise", "--limit", 9)
    words += ("--budget", 0.2, "--budget", "25/255", "--seed", 4)
    attacks = json_of(bangbench(*words, "--json"))["models"]["R0"]["attacks"]
    assert (attacks["pgd"]["budget"], attacks["gaussian-noise"]["budget"]) == ([25, 51], [25, 51])
    assert "budget" not in attacks["fgs"]
    scales = read_table(here / "results/R0/pgd.parquet")["scale"].to_pylist()
    assert attacks["pgd"]["flipped"] == sum(scale is not None and scale <= 51 for scale in scales)
    lines = [line.split() for line in bangbench(*words).stdout.splitlines()]
    assert ["pgd", "L∞", "≤", "51"] in [line[:4] for line in lines]
    assert ["fgs", f"{attacks['fgs']['rate']:.2f}"] in [line[:2] for line in lines]


@pytest.mark.parametrize("columns", [80, 100, 120])
def test_a_narrow_terminal_cuts_nothing_off(
    here: Path, bangbench: Invoke, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("attack", "R0", "--attack", "fgs-unmasked", "--attack", "gaussian-noise", "--limit", 9)
    monkeypatch.setattr(Output, "console", lambda _: Console(width=columns))
    text = bangbench(*words).stdout
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= columns
    assert "L∞ ≤ 76" in text


def test_without_a_terminal_progress_is_plain_lines_on_stderr(here: Path, bangbench: Invoke) -> None:
    result = bangbench(*ATTACK)
    assert "\r" not in result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("R0 fgs: 100 %, 9 of 9, ")
    assert lines[0].endswith("image/s")


def test_noise_eval_prints_its_record_as_json_and_a_table(here: Path, bangbench: Invoke) -> None:
    value = json_of(bangbench(*NOISE, "--json"))
    assert value == json.loads((here / "results/R0-vs-B1/noise.json").read_text())
    assert value["summary"]["stages"] == [10, 20]
    result = bangbench(*NOISE)
    assert result.returncode == 0
    assert "R0 and B1 at iteration 20: noisy copies not classified correctly" in " ".join(result.stdout.split())
    assert "sigma (grey levels)" in result.stdout


def test_report_prints_its_files_as_json_or_the_tables(here: Path, bangbench: Invoke) -> None:
    assert bangbench(*ATTACK, "--quiet").returncode == 0
    value = json_of(bangbench("report", "--format", "md", "--json"))
    assert value["problems"] == []
    assert value["files"]
    assert all(Path(file).is_file() for file in value["files"])
    result = bangbench("report", "--format", "md", "--out", "tables")
    assert result.returncode == 0
    assert f"{len(value['files'])} files in tables" in result.stdout
    assert "R0" in result.stdout
    assert "95 % Wilson interval" not in result.stdout
    details = bangbench("report", "--format", "md", "--out", "tables", "--details")
    assert "95 % Wilson interval" in details.stdout


def test_the_report_and_the_terminal_tell_one_difference_under_noise(here: Path, bangbench: Invoke) -> None:
    printed = bangbench(*NOISE[:3], "--sigma", 60, "--sigma", 120, "--draws", 20, "--per-class", 3).stdout
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if line.startswith("│")]
    assert bangbench("report", "--format", "csv", "--quiet").returncode == 0
    (path,) = (here / "results/report").glob("*-noise.csv")
    with path.open() as file:
        reported = [row["difference_points"] for row in csv.DictReader(file) if row["model"] == "B1"]
    assert [float(row[-1]) for row in rows] == [round(float(value), 2) for value in reported]
    assert any(float(value) for value in reported)


def test_report_without_names_takes_everything_and_makes_a_page_with_figures(here: Path, bangbench: Invoke) -> None:
    assert bangbench(*ATTACK, "--quiet").returncode == 0
    result = bangbench("report")
    assert result.returncode == 0
    assert "R0 " in result.stdout
    assert "B1 " in result.stdout
    assert "the page: results/report/report.html" in result.stdout
    page = (here / "results/report/report.html").read_text()
    figures = {path.stem for path in (here / "results/report/figures").glob("*.png")}
    assert {"models-blobs-robustness", "models-blobs-margins"} <= figures
    assert page.count("<img") == len(figures)
    assert 'href="../R0/fgs.parquet"' in page
    shutil.copytree("results/report", "elsewhere")  # figures that are there already are not drawn again
    assert bangbench("report", "--format", "html", "--out", "elsewhere").returncode == 0
    assert "fgs.parquet" not in (here / "elsewhere/report.html").read_text()


def test_two_models_are_compared_in_one_paragraph(here: Path, bangbench: Invoke) -> None:
    assert bangbench(*ATTACK, "--quiet").returncode == 0
    result = bangbench("report", "--compare", "R0", "B1")
    assert result.returncode == 0
    told = result.stdout.splitlines()[0]
    assert told.startswith("R0 and B1 on the same")
    value = json_of(bangbench("report", "--compare", "R0", "B1", "--json"))
    assert value["compared"] == ["R0", "B1"]
    assert value["text"] == told
    assert 'id="page-compare"' in (here / "results/report/report.html").read_text()


def test_the_paper_is_checked_only_where_it_says_something(here: Path, bangbench: Invoke, alike: list[str]) -> None:
    assert bangbench("attack", "R0", "--attack", "fgs", "--quiet").returncode == 0
    assert bangbench("train", "table1/R0", *alike, "--quiet").returncode == 0
    assert bangbench("attack", "table1/R0", "--attack", "fgs", "--quiet").returncode == 0
    result = bangbench("report", "--against", "paper")
    assert result.returncode == 1  # it has the name of a row and nothing else of it
    assert "none of these results stands for a row of the paper" in result.stderr
    path = here / "results/table1/R0/fgs.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"model": record["model"] | {"published": "table1/R0"}}))
    claims = json_of(bangbench("report", "--against", "paper", "--json"))["claims"]
    assert [table["name"] for table in claims] == ["table1-claims"]
    assert {row["verdict"] for row in claims[0]["rows"]} <= {"other data", "not measured"}


def test_models_are_listed(here: Path, bangbench: Invoke) -> None:
    value = json_of(bangbench("models", "--json"))
    assert list(value["models"]) == ["B1", "R0"]
    assert value["models"]["B1"]["method_settings"] == {"beta": 1.0, "epsilon": 0.8, "ratio": 1.0}
    result = bangbench("models")
    assert result.returncode == 0
    assert "net.py:make" in result.stdout
    assert "beta 1, epsilon 0.8, ratio 1" in result.stdout


def test_where_there_are_no_models_the_list_says_how_to_get_one(tmp_path: Path, bangbench: Invoke) -> None:
    result = bangbench("models", "--root", tmp_path)
    assert result.returncode == 0
    assert result.stdout == f"no models in {tmp_path / 'models'} yet; train one: bangbench train NAME --data digits\n"
    assert json_of(bangbench("models", "--root", tmp_path, "--json"))["models"] == {}


def test_reproduce_plays_a_recipe_and_prints_json(here: Path, bangbench: Invoke) -> None:
    (here / "one.toml").write_text(RECIPE)
    value = json_of(bangbench("reproduce", "one.toml", "--jobs", 1, "--json"))
    assert set(value) == {"schema", "models", "noise", "verdicts"}
    assert (value["noise"], value["verdicts"]) == (None, {})
    assert list(value["models"]["one/R0"]["attacks"]) == ["fgs"]
    result = bangbench("reproduce", "one.toml", "--jobs", 1)
    assert result.returncode == 0
    assert "files in results/report" in result.stdout
    assert result.stdout.splitlines()[-4:-2] == ["next:", "  bangbench report one/R0"]


def test_data_are_listed_in_an_empty_directory(tmp_path: Path, bangbench: Invoke) -> None:
    sources = {
        source["name"]: source
        for source in json_of(bangbench("data", "list", "--data-dir", tmp_path, "--json"))["sources"]
    }
    assert set(sources) >= {"digits", "mnist", "cifar10"}
    assert sources["digits"]["present"]
    assert not sources["mnist"]["present"]
    assert sources["mnist"]["how"] == "bangbench data fetch mnist"
    result = bangbench("data", "list", "--data-dir", tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "bangbench data fetch cifar10" in result.stdout


def test_verifying_data_that_are_not_there_names_every_file(tmp_path: Path, bangbench: Invoke) -> None:
    result = bangbench("data", "verify", "mnist", "--data-dir", tmp_path)
    assert (result.returncode, result.stderr) == (1, "")
    lines = result.stdout.splitlines()
    assert len(lines) == 4
    assert all(
        line.startswith("WRONG ") and line.endswith("missing; run 'bangbench data fetch mnist'") for line in lines
    )
    result = bangbench("data", "verify", "cifar10", "--data-dir", tmp_path, "--json")
    assert result.returncode == 1
    assert [file["ok"] for file in json.loads(result.stdout)["files"]] == [False]


@pytest.mark.parametrize(
    "arguments",
    [ATTACK, NOISE, ("models",), ("data", "list"), ("pass", "a.png", "a.png"), ("reproduce", "one.toml", "--jobs", 1)],
    ids=lambda arguments: arguments[0],
)
def test_quiet_commands_are_silent(here: Path, bangbench: Invoke, arguments: tuple[object, ...]) -> None:
    (here / "one.toml").write_text(RECIPE)
    cv2.imwrite("a.png", np.zeros((16, 16), np.uint8))
    result = bangbench(*arguments, "--quiet")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_json_leaves_stderr_to_progress_alone(here: Path, bangbench: Invoke) -> None:
    result = bangbench(*ATTACK, "--json", "--quiet")
    assert json_of(result)["models"]
    assert result.stderr == ""


def test_pass_scores_two_images(tmp_path: Path, bangbench: Invoke) -> None:
    original = np.zeros((20, 20, 3), np.uint8)
    original[5:15, 5:15] = (10, 120, 250)
    adversarial = original.copy()
    adversarial[8, 8] += 5
    for name, image in (("o.png", original), ("a.png", adversarial)):
        cv2.imwrite(str(tmp_path / name), image)
    result = bangbench("pass", tmp_path / "o.png", tmp_path / "a.png")
    assert result.returncode == 0
    assert result.stdout.startswith("0: PASS 0.99")
    assert result.stdout.rstrip().endswith("L_inf 5")
    pair = json_of(bangbench("pass", tmp_path / "o.png", tmp_path / "a.png", "--json"))["pairs"][0]
    assert set(pair) == {"pair", "pass_definition", "pass_paper", "ssim", "status", "status_paper", "linf", "l2"}
    assert (pair["linf"], pair["status"]) == (5.0, "aligned")


def test_pass_scores_two_stacks(tmp_path: Path, bangbench: Invoke) -> None:
    stack = np.random.default_rng(0).integers(0, 200, (3, 16, 16), dtype=np.uint8)
    np.save(tmp_path / "o.npy", stack)
    np.savez(tmp_path / "a.npz", adversarial=stack[:, None] + np.uint8(7), index=np.arange(3))
    result = bangbench("pass", tmp_path / "o.npy", tmp_path / "a.npz", "--workers", 1)
    assert result.returncode == 0
    assert [line[:2] for line in result.stdout.splitlines()] == ["0:", "1:", "2:"]
    assert all(line.endswith("L_inf 7") for line in result.stdout.splitlines())


def test_pass_refuses_images_of_different_sizes(tmp_path: Path, bangbench: Invoke) -> None:
    for name, side in (("o.png", 16), ("a.png", 20)):
        cv2.imwrite(str(tmp_path / name), np.zeros((side, side), np.uint8))
    result = bangbench("pass", tmp_path / "o.png", tmp_path / "a.png")
    assert (result.returncode, result.stdout) == (1, "")
    assert "found (1, 1, 20, 20) and (1, 1, 16, 16)" in result.stderr


def test_a_module_factory_with_its_own_scaling_can_be_attacked(here: Path, bangbench: Invoke) -> None:
    arguments = ("attack", "net.py:make", "--data", "npz:blobs.npz", "--attack", "fgs-unmasked", "--limit", 9)
    own = ("--weights", "models/R0/weights.safetensors", "--input-scale", 255, "--mean", 0.0, "--std", 1.0)
    value = json_of(bangbench(*arguments, *own, "--json"))
    assert list(value["models"]) == ["R0-weights"]
    same = json_of(bangbench("attack", "R0", "--attack", "fgs-unmasked", "--limit", 9, "--json"))["models"]["R0"]
    assert value["models"]["R0-weights"]["correct"] == same["correct"]
    assert value["models"]["R0-weights"]["attacks"]["fgs-unmasked"]["linf"] == same["attacks"]["fgs-unmasked"]["linf"]
