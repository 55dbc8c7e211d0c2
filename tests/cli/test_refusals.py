"""Wrong requests: one message that helps, the right exit status, and never a traceback."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import typer.main

from bangbench.cli.main import main
from bangbench.cli.streams import Terminated
from bangbench.nets import models

Invoke = Callable[..., CompletedProcess[str]]

TRAIN = ("train", "X", "--data", "npz:blobs.npz")


def message_of(result: CompletedProcess[str]) -> str:
    """Return the one message of a run that was refused."""
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("bangbench: ")
    assert result.stderr.count("bangbench: ") == 1
    return result.stderr.removeprefix("bangbench: ").strip()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("attack", "R00"), "unknown model 'R00': did you mean 'R0'?"),
        (("noise-eval", "R0", "BB1"), "unknown model 'BB1': did you mean 'B1'?"),
        (("attack", "R0", "--attack", "fsg"), "unknown attack 'fsg': did you mean 'fgs'?"),
        (("attack", "R0", "--data", "digit"), "unknown data source 'digit': did you mean 'digits'?"),
        (("attack", "R0", "--data", "blobs.npz"), "'blobs.npz' is no data source by itself: did you mean 'npz:bl"),
        (("attack", "R0", "--device", "gpu"), "unknown device 'gpu': known: auto, cpu, cuda, cuda:N, mps"),
        (("attack", "R0", "--limit", "0"), "--limit: expected at least 1"),
        (("attack", "R0", "--attack", "fgs", "--budget", "0.3"), "--budget goes with attacks inside a ball only: apgd"),
        (("attack", "R0", "--attack", "pgd", "--budget", "30"), "found '30'"),
        (("attack", "R0", "--attack", "pgd", "--against", "B1"), "--against goes with --attack transfer only"),
        (("attack", "R0", "--attack", "transfer"), "--attack transfer needs the model whose adversarial images it"),
        (("attack", "R0", "--attack", "transfer", "--against", "B2"), "unknown model 'B2': did you mean 'B1'"),
        (("attack", "R0", "--seed", "-1"), "--seed: expected at least 0"),
        (("audit", "R00"), "unknown model 'R00': did you mean 'R0'?"),
        (("audit", "R0", "--against", "B11"), "unknown model 'B11': did you mean 'B1'?"),
        (("audit", "R0", "--budget", "76"), "expected a budget as a share of the grey-level range, such as 0.3 or"),
        (("audit", "R0", "--budget", "0.1", "--budget", "much"), "found 'much'"),
        (("audit", "R0", "--data", "digit"), "unknown data source 'digit': did you mean 'digits'?"),
        (("audit", "R0", "--limit", "0"), "--limit: expected at least 1"),
        (("audit", "R0", "--workers", "0"), "--workers: expected at least 1"),
        (("audit", "R0", "--input-scale", "1"), "--weights, --input-scale, --mean and --std go with a module:fac"),
        (("audit", "net.py:make"), "model 'net.py:make' does not say what images it takes: add --data"),
        (("attack", "R0", "--mean", "0.5"), "--weights, --input-scale, --mean and --std go with a module:factory"),
        ((*TRAIN, "--net", "lenett"), "unknown net 'lenett': did you mean 'lenet'?"),
        ((*TRAIN, "--method", "bnag"), "unknown method 'bnag': did you mean 'bang'?"),
        ((*TRAIN, "--method", "bang", "--beta", "-1"), "beta: expected more than 0"),
        ((*TRAIN, "--beta", "1"), "method 'regular' has no setting 'beta'"),
        ((*TRAIN, "--option", "gamma"), "--option: expected KEY=VALUE, found 'gamma'"),
        ((*TRAIN, "--momentum", "1.5"), "--momentum: expected less than 1"),
        ((*TRAIN, "--batch-size", "0"), "--batch-size: expected at least 1"),
        (("train", "../X"), "'../X' cannot be a name: use letters, digits"),
        (("train", "report"), "'report' cannot be a name"),
        (("noise-eval", "R0", "B1", "--sigma", "-3"), "--sigma: expected grey levels above 0, found -3.0"),
        (("report", "R00"), "unknown model with results 'R00'"),
        (("report", "--format", "docx"), "--format: expected 'md', 'tex'"),
        (("reproduce", "tabel1"), "unknown recipe 'tabel1': did you mean 'table1'?"),
        (("reproduce", "demo", "--only", "R1"), "unknown model of demo 'R1': did you mean"),
        (("data", "verify", "mnits"), "unknown data source 'mnits': did you mean 'mnist'?"),
        (("data", "fetch", "digits"), "'digits' has no files that could be downloaded"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_request_ends_with_status_2_and_a_message_that_helps(
    here: Path, bangbench: Invoke, arguments: tuple[str, ...], message: str
) -> None:
    if arguments[0] == "report":
        assert bangbench("attack", "R0", "--attack", "fgs", "--limit", 3, "--quiet").returncode == 0
    before = sorted(here.rglob("*"))
    result = bangbench(*arguments)
    assert message in message_of(result)
    assert result.returncode == 2
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("attack", "R0", "--data", "npz:none.npz"), "'npz:none.npz' was not found: expected it at "),
        (("attack", "R0", "--data", "digits"), "model 'R0' takes images (1, 12, 12), digits has (1, 28, 28)"),
        (("audit", "R0", "--data", "npz:none.npz"), "'npz:none.npz' was not found: expected it at "),
        (("audit", "R0", "--data", "digits"), "model 'R0' takes images (1, 12, 12), digits has (1, 28, 28)"),
        (("audit", "net.py:make", "--data", "mnist"), "mnist: expected t10k-images-idx3-ubyte or t10k-images-idx3-"),
        (("train", "X"), "mnist: expected train-images-idx3-ubyte or train-images-idx3-ubyte.gz in "),
        (("report",), "found no results; measure something first, for example: bangbench attack MODEL"),
        (("reproduce", "none.toml"), "recipe none.toml does not exist"),
        (
            ("train", "R0", "--net", "net.py:make", "--data", "npz:blobs.npz"),
            "was made with other settings (iterations: 20 -> 10000, batch_size",
        ),
        (("attack", "R0", "--root", "net.py"), "unknown model 'R0'"),
        (("train", "X", "--net", "net.py:make", "--data", "npz:blobs.npz", "--root", "net.py"), "net.py"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_done_ends_with_a_message_that_says_why(
    here: Path, bangbench: Invoke, arguments: tuple[str, ...], message: str
) -> None:
    result = bangbench(*arguments, "--data-dir", "data") if arguments[0] != "report" else bangbench(*arguments)
    assert message in message_of(result)
    assert result.returncode == (2 if "unknown" in message else 1)


def test_a_value_that_is_no_number_is_refused_by_its_option(bangbench: Invoke) -> None:
    result = bangbench("train", "X", "--iterations", "many")
    assert result.returncode == 2
    assert "--iterations" in result.stderr


def test_an_error_nobody_expected_is_one_line_and_points_to_debug(
    here: Path, bangbench: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(models, "read_record", stumble)
    result = bangbench("attack", "R0")
    assert message_of(result) == "unexpected ZeroDivisionError: by nothing (--debug shows where)"
    assert result.returncode == 1


def test_debug_shows_where_an_error_comes_from(here: Path, bangbench: Invoke) -> None:
    result = bangbench("attack", "R00", "--debug")
    assert result.returncode == 2
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.rstrip().endswith("bangbench: unknown model 'R00': did you mean 'R0'?")


def test_an_interruption_ends_with_130_and_says_how_to_go_on(
    here: Path, bangbench: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "read_record", interrupt)
    result = bangbench("attack", "R0")
    assert message_of(result) == "interrupted; what was finished is kept, run the same command again to go on"
    assert result.returncode == 130


@pytest.mark.parametrize(
    ("how", "said", "status"), [(KeyboardInterrupt, "interrupted", 130), (Terminated, "terminated", 143)]
)
def test_an_interruption_before_the_command_begins_is_told_like_one(
    how: type[KeyboardInterrupt],
    said: str,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(*_: object) -> None:
        raise how

    monkeypatch.setattr(typer.main, "get_command", interrupt)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as end:
            main()
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert (end.value.code, capsys.readouterr().err) == (status, f"bangbench: {said}\n")


def test_a_damaged_card_is_named_and_the_other_models_are_listed(here: Path, bangbench: Invoke) -> None:
    (here / "models/B1/model.json").write_text('{"schema": 1')
    result = bangbench("models")
    assert result.returncode == 1
    assert "R0" in result.stdout
    assert "B1" not in result.stdout
    assert result.stderr.startswith("bangbench: models/B1/model.json: cannot be read as JSON")
    assert result.stderr.count("bangbench: ") == 1


def test_a_damaged_record_is_named_and_the_report_is_made_without_it(here: Path, bangbench: Invoke) -> None:
    assert bangbench("attack", "R0", "B1", "--attack", "fgs", "--limit", 6, "--quiet").returncode == 0
    (here / "results/B1/fgs.json").write_text("{")
    result = bangbench("report", "--format", "csv")
    assert result.returncode == 1
    assert "\nbangbench: results/B1/fgs.json: cannot be read as JSON" in result.stderr
    assert "unexpected" not in result.stderr
    tables = list((here / "results/report").glob("*.csv"))
    assert tables
    assert all("R0" in path.read_text() and "B1" not in path.read_text() for path in tables)


def test_weights_that_are_not_those_of_the_card_are_refused(here: Path, bangbench: Invoke) -> None:
    (here / "models/R0/weights.safetensors").write_bytes((here / "models/B1/weights.safetensors").read_bytes())
    result = bangbench("attack", "R0")
    assert "models/R0/weights.safetensors is not the file that model.json describes" in message_of(result)
    assert result.returncode == 1
    assert not (here / "results").exists()


def test_an_unfinished_model_is_refused(here: Path, bangbench: Invoke) -> None:
    card = json.loads((here / "models/R0/model.json").read_text())
    (here / "models/R0/model.json").write_text(json.dumps({**card, "status": "started"}))
    result = bangbench("attack", "R0")
    assert message_of(result) == "model 'R0' is not finished; run its training again to go on with it"
    assert result.returncode == 1
