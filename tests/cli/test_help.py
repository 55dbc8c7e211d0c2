"""What the program says about itself, and that it says so at once."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

from bangbench import __version__

Invoke = Callable[..., CompletedProcess[str]]

COMMANDS = ["train", "attack", "audit", "noise-eval", "report", "reproduce", "status", "pass", "models", "methods"]
COMMANDS += ["data list", "data fetch", "data verify"]
HEAVY = ("torch", "cv2", "scipy", "sklearn", "skimage", "pyarrow", "matplotlib")


def test_help_imports_nothing_heavy() -> None:
    program = f"""
import sys
from typer.testing import CliRunner
from bangbench.cli.main import app
for words in {[*COMMANDS, "data", ""]!r}:
    assert CliRunner().invoke(app, [*words.split(), "--help"]).exit_code == 0, words
print(sorted(set({HEAVY!r}) & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_explains_its_options_and_ends_with_an_example(
    bangbench: Invoke, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = bangbench(*command.split(), "--help")
    assert result.returncode == 0
    text = " ".join(result.stdout.split())
    assert f"Example: bangbench {command}" in text
    for option in ("--json", "--quiet", "--debug", "-h"):
        assert option in text
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_of_every_command_uses_options_that_exist(
    bangbench: Invoke, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = bangbench(*command.split(), "--help").stdout
    before, _, example = text.partition("Example: ")
    assert set(re.findall(r"--[a-z-]+", example)) <= set(re.findall(r"--[a-z-]+", before))


def test_paragraphs_of_the_help_fill_their_lines(bangbench: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = [line.strip() for line in bangbench("attack", "--help").stdout.splitlines()]
    paragraph = lines[lines.index(next(line for line in lines if line.startswith("fgs and hc1"))) :]
    paragraph = paragraph[: paragraph.index("")]
    assert all(len(line) > 60 for line in paragraph[:-1])


def test_the_program_without_a_command_shows_its_help(bangbench: Invoke) -> None:
    assert "Start with: bangbench reproduce demo" in bangbench().stdout
    for command in ("train", "attack", "data"):
        assert "Usage: bangbench" in bangbench(command).stdout


def test_the_version_is_shown(bangbench: Invoke) -> None:
    result = bangbench("--version")
    assert (result.returncode, result.stdout) == (0, f"bangbench {__version__}\n")


def test_an_unknown_command_brings_the_closest_one(bangbench: Invoke) -> None:
    result = bangbench("attak", "R0")
    assert result.returncode == 2
    assert "No such command 'attak'. Did you mean 'attack'" in result.stderr


def test_defaults_are_shown_as_they_are_typed(bangbench: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert "[default: fgs, fgs-unmasked, hc1, hc1-unmasked]" in bangbench("attack", "--help").stdout
    assert "[default: lenet]" in bangbench("train", "--help").stdout


@pytest.mark.parametrize("command", ["attack", "audit"])
def test_a_command_s_own_options_come_before_those_it_shares_with_others(
    bangbench: Invoke, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    lines = bangbench(command, "--help").stdout.splitlines()
    options = [match[1] for line in lines if (match := re.match(r"│ (--[a-z-]+)", line))]
    order = [options.index(name) for name in ("--against", "--budget", "--data", "--batch-size", "--root", "--json")]
    assert max(order[:2]) < min(order[2:])
    assert order[2:] == sorted(order[2:])
    assert {"--seed", "--limit", "--weights", "--device", "--overwrite", "--quiet", "--debug"} <= set(options)


def test_the_help_of_audit_says_what_its_options_mean(bangbench: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = " ".join(bangbench("audit", "--help").stdout.split())
    assert "Exit with status 1 unless every verdict is sound." in text
    assert "L_inf budget as a share of the range, 0.3 or 8/255 (default: 0.1 0.2 0.3; colour 2 4 8/255)." in text
    assert "[default: 1000]" in text
