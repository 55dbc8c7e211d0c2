"""Results of other settings are told before torch is imported and before the model or the images are there at all."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from bangbench.nets.references import Given, results_name

Invoke = Callable[..., CompletedProcess[str]]

ATTACK = ("attack", "R0", "--limit", "6", "--attack", "pgd", "--budget", "0.1", "--option", "steps=3")
NOISE = ("noise-eval", "R0", "B1", "--sigma", "20", "--draws", "2", "--per-class", "2")
OWN = ("attack", "net.py:make", "--data", "npz:blobs.npz", "--weights", "mine.safetensors", "--attack", "fgs")
#: What was run, what is added to it, and the setting that differs.
AGAIN = [
    (ATTACK, ("--limit", "7"), "limit: 6 -> 7"),
    (ATTACK, ("--budget", "0.2"), "budget: [25] -> [25, 51]"),
    (ATTACK, ("--option", "steps=4"), "attack_settings.steps: 3 -> 4"),
    (NOISE, ("--draws", "3"), "draws: 2 -> 3"),
    (NOISE, ("--sigma", "30"), "sigma: [20.0] -> [20.0, 30.0]"),
    (OWN, ("--mean", "0.5"), "mean: None -> [0.5]"),
]


def refused_without_torch(words: list[tuple[str, ...]]) -> list[str]:
    """Run commands in one process; return what each that is refused says, as long as torch is not imported."""
    program = f"""
import sys
from typer.testing import CliRunner
from bangbench.cli.main import app
for words in {words!r}:
    result = CliRunner().invoke(app, words)
    print(result.exit_code, "torch" in sys.modules, result.stderr.strip())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert all(line.startswith("1 False bangbench: ") for line in done.stdout.splitlines()), done.stdout
    return done.stdout.splitlines()


def test_settings_that_differ_are_told_from_the_words_alone(here: Path, bangbench: Invoke, alike: list[str]) -> None:
    (here / "mine.safetensors").write_bytes((here / "models/R0/weights.safetensors").read_bytes())
    for words in {first for first, _, _ in AGAIN}:
        assert bangbench(*words, "--quiet").returncode == 0
    audit = ("audit", "R0", "--limit", "3", "--strength", "quick", "--budget", "0.1")
    assert bangbench(*audit, "--quiet").returncode == 0
    more = [
        (audit, ("--budget", "0.2"), "budget: [25] -> [25, 51]"),
        (audit[:2], ("--strength", "quick", "--budget", "0.1"), "limit: 3 -> 1000"),
        (("train", "R0", *alike), ("--seed", "1"), "seed: 0 -> 1"),
        (("train", "B1", *alike, "--method", "bang", "--beta", "1.5"), (), "method_settings.beta: 1.0 -> 1.5"),
        (("train", "R0", *alike), ("--norm", "half"), "mean: None -> [0.5], std: None -> [0.5]"),
    ]
    told = [(words + added, message) for words, added, message in AGAIN + more]
    for path in [*here.glob("models/*/*.safetensors"), here / "blobs.npz"]:
        path.write_bytes(b"")  # they lie there, and nobody looks into them
    for line, (_, message) in zip(refused_without_torch([words for words, _ in told]), told, strict=True):
        assert f"was made with other settings ({message}); choose another name or root, or pass --overwrite" in line


def test_what_only_model_and_data_tell_is_left_to_them(here: Path, bangbench: Invoke, alike: list[str]) -> None:
    for words in (("attack", "R0", "--limit", "6", "--attack", "pgd"), NOISE[:3] + NOISE[5:], ("train", "R0", *alike)):
        assert bangbench(*words, "--quiet").returncode == 0
        assert bangbench(*words, "--quiet").returncode == 0
    assert bangbench(*ATTACK, "--limit", "7", "--overwrite", "--quiet").returncode == 0
    refused = bangbench("train", "R0", *alike, "--option", "strength=1")
    assert "method 'regular' has no setting 'strength'" in refused.stderr


@pytest.mark.parametrize(
    ("reference", "given", "name"),
    [
        ("R0", Given(), "R0"),
        ("models/R0", Given(), "R0"),
        ("net.py:make", Given(weights=Path("run7/best.pt")), "run7-best"),
        ("net.py:make@run7/best.pt", Given(), "run7-best"),
        ("net.py:make@run7/best.pt", Given(name="mine"), "mine"),
        ("timm:resnet18.a1_in1k", Given(), "resnet18.a1_in1k"),
        ("nets/lenet_bang.caffemodel.h5", Given(), "lenet_bang"),
    ],
)
def test_the_results_of_a_model_have_one_name(here: Path, reference: str, given: Given, name: str) -> None:
    assert results_name(reference, Path(), given) == name
