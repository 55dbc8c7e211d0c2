"""Where a number comes from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import bangbench
from bangbench.core import provenance
from bangbench.core.provenance import collect_provenance, command_line

CHECKOUT = Path(bangbench.__file__).parents[1]


@pytest.mark.parametrize(
    "program", ["/home/me/.venv/bin/bangbench", "bangbench", "/opt/lib/bangbench/__main__.py", "C:/bangbench.exe"]
)
def test_the_command_reads_as_typed_without_the_path_of_the_program(program: str) -> None:
    assert command_line([program, "attack", "R0", "--data", "npz:my file.npz"]) == (
        "bangbench attack R0 --data 'npz:my file.npz'"
    )


def test_a_script_is_named_without_its_folder() -> None:
    assert command_line(["/home/me/study.py", "x"]) == "study.py x"


def test_provenance_names_versions_device_and_processor() -> None:
    found = collect_provenance("cpu")
    assert found.bangbench == bangbench.__version__
    assert found.device == "cpu"
    assert found.cores >= 1
    assert found.processor
    assert {"torch", "numpy", "scipy", "scikit-image"} <= set(found.packages)
    assert found.python == ".".join(map(str, sys.version_info[:3]))


@pytest.mark.skipif(not (CHECKOUT / ".git").exists(), reason="bangbench does not run from a checkout")
def test_the_commit_is_that_of_the_checkout_wherever_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["git", "-C", str(CHECKOUT), "rev-parse", "HEAD"]
    expected = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    monkeypatch.chdir(tmp_path)
    found = collect_provenance("cpu")
    assert found.commit == expected
    assert found.dirty in (True, False)


def test_an_installed_package_has_no_commit_even_inside_another_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".git").mkdir()
    package = tmp_path / "site-packages" / "bangbench" / "core"
    package.mkdir(parents=True)
    monkeypatch.setattr(provenance, "__file__", str(package / "provenance.py"))
    found = collect_provenance("cpu")
    assert (found.commit, found.dirty) == (None, None)


def test_a_machine_without_git_measures_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert collect_provenance("cpu").commit is None
