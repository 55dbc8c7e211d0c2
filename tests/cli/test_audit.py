"""`bangbench audit` from end to end: the verdict that is printed, what scripts can rely on, and what it leaves."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from bangbench.auditing.claims import all_claims, line_attacks
from bangbench.auditing.reasons import REASONS
from bangbench.cli.main import app
from bangbench.core.provenance import Provenance
from bangbench.data.digits import Digits
from bangbench.store.audits import VERDICTS, Outcome
from bangbench.store.tables import read_table

Invoke = Callable[..., CompletedProcess[str]]

DOCS = Path(__file__).parents[2] / "docs/audit.md"
NETS = """
from torch import nn


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(784, 10)

    def forward(self, images):
        return self.layer(images.flatten(1))


class Large(Linear):
    def forward(self, images):
        return 1e4 * super().forward(images)
"""
QUICK = ("--strength", "quick", "--workers", "1")
SETTINGS = ("--data", "digits", "--limit", "40", "--budget", "0.1", *QUICK)
#: The same weights in two nets; results are named after the files of the weights.
SOUND = ("audit", "nets.py:Linear", "--weights", "sound.safetensors", *SETTINGS)
MASKED = ("audit", "nets.py:Large", "--weights", "large.safetensors", *SETTINGS)
#: Trained nets for smaller images, in the directory of the other commands' tests.
BOTH = ("audit", "B1", "R0", "--against", "R0", "--limit", "9", "--budget", "0.2", *QUICK)


def means_of_the_classes() -> dict[str, torch.Tensor]:
    """Return weights with which the class is the one whose mean image is closest."""
    data = Digits(Path()).load("train")
    images, labels = torch.from_numpy(data.images).flatten(1) / 255.0, torch.from_numpy(data.labels)
    means = torch.stack([images[labels == label].mean(0) for label in range(10)])
    return {"layer.weight": means, "layer.bias": -means.square().sum(1) / 2.0}


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, CompletedProcess[str]]]:
    """Return a directory in which both audits were made, and what they printed."""
    folder = tmp_path_factory.mktemp("audited")
    (folder / "nets.py").write_text(NETS)
    printed = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for words in (SOUND, MASKED):
            save_file(means_of_the_classes(), words[3])
            result = CliRunner().invoke(app, list(words))
            printed[words[3].split(".")[0]] = CompletedProcess(words, result.exit_code, result.stdout, result.stderr)
    return folder, printed


@pytest.fixture
def there(
    audited: tuple[Path, dict[str, CompletedProcess[str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Return the working directory: a copy of `audited`."""
    shutil.copytree(audited[0], tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def documented(heading: str) -> set[str]:
    """Return the words in code in the first cells of the first table below a heading of the page about audits."""
    table = DOCS.read_text(encoding="utf-8").partition(f"{heading}\n")[2].partition("\n|")[2].partition("\n\n")[0]
    cells = [row.split("|")[0] for row in f"|{table}".replace("\n|", "\n").lstrip("|").splitlines()]
    return {word for cell in cells for word in re.findall(r"`([^`]+)`", cell)}


def rows_of(text: str, first: str) -> list[str]:
    """Return the lines of a table's rows whose first words are these."""
    return [line.strip() for line in text.splitlines() if line.strip().startswith(first)]


def test_a_sound_model_is_called_sound_claim_by_claim(audited: tuple[Path, dict[str, CompletedProcess[str]]]) -> None:
    result = audited[1]["sound"]
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    number = r"\d+\.\d"
    assert re.fullmatch(
        rf"sound: robust accuracy {number} % \[{number}, {number}\] within 25/255 \(clean {number} %, n = 40\); the "
        "numbers can be trusted",
        lines[0],
    )
    assert re.fullmatch(r"digits, 40 images, \d+ correct \(\d+\.\d\d %\), all of them attacked; \d+ s", lines[1])
    assert re.fullmatch(r"fgs +100\.00 +\d+\.\d +sound", rows_of(result.stdout, "fgs ")[0])
    assert re.fullmatch(r"worst-case, L∞ ≤ 25 \(quick\) +\d+\.\d\d +- +sound", rows_of(result.stdout, "worst-case,")[0])
    assert not re.search(r"(?<!un)masked|suspect", result.stdout)


def test_a_masked_model_is_called_masked_with_reasons_evidence_and_advice(
    audited: tuple[Path, dict[str, CompletedProcess[str]]],
) -> None:
    result = audited[1]["large"]
    assert result.returncode == 0, result.stderr
    first = result.stdout.splitlines()[0]
    assert first.startswith("large: robust accuracy ")
    assert first.endswith("; this worst case can be trusted, not so the rates of fgs (at worst masked)")
    assert re.fullmatch(r"fgs +0\.00 +- +masked +fgs-masked, logit-scale", rows_of(result.stdout, "fgs ")[0])
    assert re.fullmatch(r"fgs-unmasked +100\.00 +\d+\.\d +sound", rows_of(result.stdout, "fgs-unmasked ")[0])
    (finding,) = rows_of(result.stdout, "masked fgs-masked [fgs]: ")
    assert "FGS flips 0.00 % of" in finding
    assert REASONS["fgs-masked"].advice in result.stdout
    assert "bangbench explain" in result.stdout


def test_rates_within_the_budget_are_shown_in_grey_levels_and_as_a_share(
    audited: tuple[Path, dict[str, CompletedProcess[str]]],
) -> None:
    text = audited[1]["large"].stdout
    assert rows_of(text, "Attack ")[0].endswith("25 (0.098)")
    assert rows_of(text, "fgs ")[1].split() == ["fgs", "0.00"]
    assert float(rows_of(text, "worst case per image")[0].split()[-1]) >= float(rows_of(text, "pgd ")[0].split()[-1])


def test_progress_is_on_stderr_and_a_finished_audit_is_read(there: Path, bangbench: Invoke, audited: Any) -> None:
    first = audited[1]["large"]
    assert "large audit: 100 %" in first.stderr
    again = bangbench(*MASKED)
    assert (again.returncode, again.stdout, again.stderr) == (0, first.stdout, "")


def test_json_holds_what_the_page_promises(there: Path, bangbench: Invoke) -> None:
    result = bangbench(*MASKED, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    value = json.loads(result.stdout, parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    assert set(value) == {"schema", "models"}
    assert value["schema"] == 1
    model = value["models"]["large"]
    summary = json.loads((there / "results/large/audit.json").read_text())["summary"]
    assert model == {"data": "digits", "against": None, **summary}
    assert {"verdict", "claims", "budgets", "checks"} <= set(model)
    assert (model["verdict"], model["reasons"]) == ("masked", ["fgs-masked", "logit-scale"])
    assert {claim["verdict"] for claim in model["claims"]} <= set(VERDICTS)
    assert {check["outcome"] for check in model["checks"]} <= set(get_args(Outcome))
    assert [within["budget"] for within in model["budgets"]] == [25]
    verdicts = {claim["claim"]: claim["verdict"] for claim in model["claims"]}
    assert [claim for claim, verdict in verdicts.items() if verdict != "sound"] == ["fgs"]


def test_the_page_names_every_claim_outcome_check_and_option(there: Path, bangbench: Invoke) -> None:
    model = json.loads(bangbench(*MASKED, "--json").stdout)["models"]["large"]
    assert documented("### Claims and verdicts") == set(all_claims())
    assert {claim["claim"] for claim in model["claims"]} == set(all_claims()) - {"transfer", "apgd-t"}
    assert {check["code"] for check in model["checks"]} == set(REASONS)
    outcomes = DOCS.read_text(encoding="utf-8").partition("comes out as one of these:\n")[2]
    first_cells = " ".join(re.findall(r"^\| (`[^|]+)\|", outcomes, re.M))
    assert set(re.findall(r"`([a-z-]+)`", first_cells)) >= set(get_args(Outcome))
    options = {word.split()[0] for word in documented("## Run it")}
    assert options == {"--budget", "--limit", "--strength", "--strict", "--seed", "--json"}


def test_every_rate_can_be_counted_again_from_the_rows(there: Path, bangbench: Invoke) -> None:
    model = json.loads(bangbench(*MASKED, "--json").stdout)["models"]["large"]
    table = read_table(there / "results/large/audit.parquet").to_pandas()
    assert len(table) == model["images"] == 40
    assert int(table["attacked"].sum()) == model["correct"]
    assert 100 * (table["prediction"] == table["label"]).mean() == pytest.approx(model["accuracy"])
    (within,) = model["budgets"]
    fallen = {name: table[f"{name}_linf"] <= 25 for name in line_attacks()}
    others = within["flipped"].keys() - fallen.keys()
    fallen |= {name: table[f"{name}_within_25"].fillna(False).astype(bool) for name in others}
    assert {name: int(flipped.sum()) for name, flipped in fallen.items()} == within["flipped"]
    assert sum(map(any, zip(*fallen.values(), strict=True))) == within["worst_case"]
    assert within["rate"] == pytest.approx(100 * within["worst_case"] / model["correct"])
    assert within["robust_accuracy"] == pytest.approx(100 * (model["correct"] - within["worst_case"]) / 40)


def test_a_record_says_where_it_comes_from(there: Path) -> None:
    record = json.loads((there / "results/sound/audit.json").read_text())
    assert (record["status"], record["kind"], record["model"]["net"]) == ("done", "audit", "nets.py:Linear")
    assert (record["spec"]["budget"], record["spec"]["limit"], record["spec"]["seed"]) == ([25], 40, 0)
    Provenance.model_validate(record["provenance"])
    assert {path.name for path in (there / "results/sound").iterdir()} == {"audit.json", "audit.parquet"}


@pytest.mark.parametrize("extra", [(), ("--json",), ("--quiet",)], ids=str)
def test_strict_ends_with_status_1_where_a_model_is_not_sound(
    there: Path, bangbench: Invoke, extra: tuple[str, ...]
) -> None:
    plain, strict = bangbench(*MASKED, *extra), bangbench(*MASKED, *extra, "--strict")
    assert (plain.returncode, strict.returncode) == (0, 1)
    assert strict.stdout == plain.stdout
    assert (plain.stderr, strict.stderr) == ("", "bangbench: not sound: large\n")


def test_strict_ends_with_status_0_where_all_models_are_sound(there: Path, bangbench: Invoke) -> None:
    strict = bangbench(*SOUND, "--strict")
    assert (strict.returncode, strict.stderr) == (0, "")


def test_quiet_prints_nothing(there: Path, bangbench: Invoke) -> None:
    again = bangbench(*SOUND, "--quiet")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    anew = bangbench(*SOUND, "--quiet", "--root", "new", "--limit", 4)
    assert (anew.returncode, anew.stdout, anew.stderr) == (0, "", "")
    assert (there / "new/results/sound/audit.json").is_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--budget", "0.2"), "budget: [25] -> [25, 51]"),
        (("--limit", "39"), "limit: 40 -> 39"),
        (("--seed", "1"), "seed: 0 -> 1"),
        (("--input-scale", "256"), "input_scale: None -> 256.0"),
    ],
    ids=str,
)
def test_an_audit_with_other_settings_is_protected(
    there: Path, bangbench: Invoke, change: tuple[str, ...], message: str
) -> None:
    before = (there / "results/large/audit.json").read_bytes()
    result = bangbench(*MASKED, *change)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"bangbench: results/large/audit.json was made with other settings ({message}); choose another name or root, "
        "or pass --overwrite\n"
    )
    assert (there / "results/large/audit.json").read_bytes() == before


def test_an_audit_whose_rows_are_lost_is_made_again(there: Path, bangbench: Invoke) -> None:
    rows = there / "results/sound/audit.parquet"
    before = rows.read_bytes()
    rows.unlink()
    assert bangbench(*SOUND, "--quiet").returncode == 0
    assert rows.read_bytes() == before


def test_several_models_are_audited_one_after_the_other_against_the_regular_one(here: Path, bangbench: Invoke) -> None:
    result = bangbench(*BOTH, "--json")
    assert result.returncode == 0, result.stderr
    models = json.loads(result.stdout)["models"]
    assert list(models) == ["B1", "R0"]
    assert (models["B1"]["data"], models["B1"]["images"], models["B1"]["against"]) == ("blobs", 9, "R0")
    assert "transfer" in {claim["claim"] for claim in models["B1"]["claims"]}
    assert models["R0"]["against"] is None  # a model is no other model than itself
    reason = next(check for check in models["R0"]["checks"] if check["code"] == "transfer-beats-direct")
    assert (reason["outcome"], reason["evidence"]) == (
        "not-run",
        "The regular model to compare with is this model itself.",
    )
    text = bangbench(*BOTH).stdout
    assert 0 <= text.index("B1: ") < text.index("R0: ")
    assert ", against R0; " in text
    assert text.count("Claim ") == 2
