"""Wrong uses of every kind: each ends in one line that says what to do, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from torch import nn

Invoke = Callable[..., CompletedProcess[str]]

OWN = ("net.py:make", "--data", "npz:blobs.npz")
TRAIN = ("train", "X", "--net", "net.py:make", "--data", "npz:blobs.npz")
ATTACK = ("attack", "R0", "--attack")
IMPORT = ("import", "X", "--net", "net.py:make", "--data", "npz:blobs.npz")


@pytest.fixture
def cluttered(here: Path) -> Path:
    """Return the working directory with what people have lying around, and hand to commands."""
    net = nn.Sequential(nn.Conv2d(1, 2, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(50, 3))
    torch.save(net, here / "whole.pt")
    torch.save(net.state_dict(), here / "state.pt")
    torch.save({"epoch": 3, "lr": 0.1}, here / "empty.pt")
    torch.save(net[3:].state_dict(), here / "part.pt")
    torch.save(nn.Sequential(*net[:3], nn.Linear(50, 10)).state_dict(), here / "ten.pt")
    (here / "cut.pt").write_bytes((here / "state.pt").read_bytes()[:300])
    (here / "cut.safetensors").write_bytes(b"\x10")
    np.savez(here / "other.npz", x=np.zeros(3))
    (here / "broken.py").write_text("import nothing_of_this_name\n")
    (here / "notes.txt").write_text("not a model\n")
    (here / "bad.toml").write_text('title = "x"\nmodel = 3\n')
    return here


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        # words
        (("atack", "R0"), "Did you mean 'attack'"),
        (("attack", "R0", "--lr", "3"), "no option --lr here"),
        ((*TRAIN, "--lr", "0.1"), "no option --lr here: did you mean --learning-rate?"),
        (("attack", "R0", "--dataset", "mnist"), "no option --dataset here: did you mean --data?"),
        (("attack", "R0", "--n", "10"), "no option --n here: did you mean --limit?"),
        ((*ATTACK, "pgd", "--eps", "8/255"), "no option --eps here: did you mean --budget?"),
        (("attack", "R0", "--gpu"), "no option --gpu here: did you mean --device?"),
        (("attack", *OWN, "--checkpoint", "state.pt"), "no option --checkpoint here: did you mean --weights?"),
        (("attack", "R0", "--limit"), "Option '--limit' requires an argument"),
        (("attack", "R0", "--limit", "ten"), "--limit: expected a whole number, found 'ten'"),
        (("attack", "R0", "--limit", "2.5"), "--limit: expected a whole number, found '2.5'"),
        (("audit", "R0", "--strength", "max"), "--strength"),
        (("data", "lst"), "No such command 'lst'"),
        # models
        (("attack", "r0"), "unknown model 'r0': did you mean 'R0'?"),
        (("attack", "R0", "R9"), "unknown model 'R9'"),
        (("attack", "notes.txt"), "unknown model 'notes.txt'"),
        (("attack", "whole.pt", "--data", "npz:blobs.npz"), "'whole.pt' holds weights and no net: name the net"),
        (("audit", "state.pt"), "FILE.py:FACTORY --weights state.pt"),
        (("attack", "none.caffemodel.h5"), "none.caffemodel.h5 does not exist"),
        (("attack", "none.py:make", "--data", "npz:blobs.npz"), "none.py does not exist"),
        (("attack", "net.py:mak", "--data", "npz:blobs.npz"), "net.py has no function or class 'mak'"),
        (("attack", "broken.py:make", "--data", "npz:blobs.npz"), "broken.py cannot be imported"),
        (("attack", *OWN), "is given without weights"),
        (("attack", "net.py:make", "--weights", "state.pt"), "does not say what images it takes: add --data"),
        (("noise-eval", "R0", "net.py:make@state.pt"), "does not say what images it takes: add --data"),
        (("attack", "timm:", "--data", "npz:blobs.npz"), "'timm:' names no model: write timm:NAME"),
        (("attack", "R0", "--name", "mine"), "--name goes with a net of your own"),
        (("attack", "R0", "B1", "--name", "mine"), "--name goes with one model"),
        (("attack", *OWN, "--weights", "state.pt", "--name", "R0"), "--name R0: a model of this name is there already"),
        ((*TRAIN, "--method", "bang", "--option", "epsilon=0.5", "--epsilon", "0.6"), "epsilon: given more than once"),
        # weights
        (("attack", *OWN, "--weights", "none.pt"), "none.pt does not exist"),
        (("attack", *OWN, "--weights", "whole.pt"), "whose code is never run"),
        (("attack", *OWN, "--weights", "empty.pt"), "expected a state dict (name -> tensor), found dict of epoch, lr"),
        (("attack", *OWN, "--weights", "part.pt"), "the weights do not fit: missing:"),
        (("attack", *OWN, "--weights", "ten.pt"), "trained for 10 classes, the data has 3"),
        (("attack", *OWN, "--weights", "cut.pt"), "truncated"),
        (("attack", *OWN, "--weights", "cut.safetensors"), "not a whole safetensors file"),
        (("attack", "R0", "--weights", "state.pt"), "go with a module:factory model only"),
        (
            ("attack", *OWN, "--weights", "state.pt", "--norm", "cifar"),
            "--norm: expected imagenet, cifar10",
        ),
        (("attack", *OWN, "--weights", "state.pt", "--norm", "mnist", "--mean", "0.1"), "leave these out"),
        (
            ("attack", *OWN, "--weights", "state.pt", "--mean", "0.4;0.5"),
            "--mean: expected a number, found '0.4;0.5'",
        ),
        (("attack", *OWN, "--weights", "state.pt", "--std", "0"), "std: expected numbers above 0, found 0.0"),
        (
            ("attack", *OWN, "--weights", "state.pt", "--mean", "0.1,0.2"),
            "mean: expected 1 value, for grey",
        ),
        # data
        (("attack", "R0", "--data", "imagenet"), "unknown data source 'imagenet'"),
        (("attack", "R0", "--data", "nzp:blobs.npz"), "did you mean 'npz'?"),
        (("attack", "R0", "--data", "npz:none.npz"), "'npz:none.npz' was not found"),
        (("attack", "R0", "--data", "npz:other.npz"), "other.npz"),
        (("attack", "R0", "--data", "folder:notes.txt"), "notes.txt"),
        # attacks and settings
        ((*ATTACK, "fgsn"), "unknown attack 'fgsn': did you mean 'fgs'?"),
        ((*ATTACK, "pgd", "--budget", "8"), "found '8'"),
        ((*ATTACK, "pgd", "--budget", "0"), "found '0'"),
        ((*ATTACK, "pgd", "--option", "stepsize=1"), "none of pgd has the setting 'stepsize'"),
        ((*ATTACK, "pgd", "--option", "steps=many"), "steps: expected a whole number, found 'many'"),
        ((*TRAIN, "--method", "bang", "--epsilon", "2"), "epsilon: expected at most 1"),
        ((*TRAIN, "--solver", "adagrad"), "adagrad"),
        # others
        ((*IMPORT, "--weights", "none.pt"), "none.pt"),
        (("import", "X/Y/Z", *IMPORT[2:]), "'X/Y/Z' cannot be a name"),
        (("show", "R0", "fgs"), "unknown model with results 'R0'"),
        (("show", "net.py:make@state.pt", "fgs"), "unknown model with results 'state'"),
        (("attack", "R0", "--data", "npz:"), "'npz:' names no file: write npz:PATH"),
        (("attack", "R0", "--data", "npz:blobs.npz", "--resize", "8"), "resize and crop go with folder: only"),
        (("attack", "R0", "--crop", "8"), "--crop goes with --resize"),
        (("attack", "R0", "--mean", "0.5"), "--mean and --std go with a module:factory model only"),
        (("audit", "R0", "--against", "R7"), "unknown model 'R7'"),
        (("audit", "R0", "--budget", "nan"), "found 'nan'"),
        (("attack", "R0", "--device", "cuda:x"), "unknown device 'cuda:x'"),
        (("noise-eval", "R0"), "expected two models or more"),
        (("noise-eval", "R0", "B1", "--norm", "half"), "--mean and --std go with a module:factory model only"),
        (("noise-eval", "R0", "R0"), "expected models of different names"),
        (("noise-eval", "R0", "B1", "--sigma", "-3"), "expected grey levels above 0, found -3"),
        ((*TRAIN, "--norm", "cifar"), "--norm: expected imagenet, cifar10"),
        ((*TRAIN, "--norm", "imagenet"), "mean: expected 1 value, for grey images, found 3"),
        ((*TRAIN, "--iterations", "0"), "--iterations: expected at least 1"),
        ((*TRAIN, "--rate-policy", "linear()"), "linear"),
        ((*TRAIN, "--method", "bnag"), "did you mean 'bang'?"),
        (("report", "R7"), "found no results"),
        (("reproduce", "tabel1"), "did you mean 'table1'?"),
        (("explain", "fgs-maskd"), "unknown reason code 'fgs-maskd': did you mean 'fgs-masked'?"),
        (("reproduce", "bad.toml"), "recipe bad.toml: "),
        (("pass", "notes.txt", "notes.txt"), "notes.txt"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_use_ends_in_one_clear_line(
    cluttered: Path, bangbench: Invoke, arguments: tuple[str, ...], message: str
) -> None:
    before = sorted(cluttered.rglob("*.json"))
    result = bangbench(*arguments)
    assert result.returncode in (1, 2)
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("bangbench: ")
    assert message in lines[0]
    for raw in ("Traceback", "unexpected", "Input should", "validation error", "Error(s) in loading", "size mismatch"):
        assert raw not in lines[0]
    assert sorted(cluttered.rglob("*.json")) == before


@pytest.mark.parametrize("arguments", [("--attack", "FGS"), ("--attack", "Fgs-Unmasked", "--attack", "FGSM")])
def test_names_of_attacks_do_not_mind_capitals(here: Path, bangbench: Invoke, arguments: tuple[str, ...]) -> None:
    assert bangbench("attack", "R0", "--limit", 3, *arguments, "--quiet").returncode == 0
    wanted = {word.lower() for word in arguments[1::2]}
    assert {path.stem for path in (here / "results/R0").glob("*.json")} == wanted


def test_names_of_methods_nets_and_data_do_not_mind_capitals(here: Path, bangbench: Invoke, alike: list[str]) -> None:
    result = bangbench("train", "X", *alike[:-2], "--method", "BANG", "--epsilon", "0.5", "--json", "--quiet")
    assert result.returncode == 0, result.stderr
    assert '"method": "bang"' in result.stdout
    refused = bangbench("train", "Y", "--data", "MNIST", "--net", "LeNet", "--data-dir", "none")
    assert refused.stderr.startswith("bangbench: mnist: expected train-images")


def test_all_models_are_looked_for_before_the_first_is_attacked(here: Path, bangbench: Invoke) -> None:
    for command in ("attack", "audit"):
        result = bangbench(command, "R0", "B2", "--limit", 3)
        assert result.returncode == 2
        assert "unknown model 'B2': did you mean 'B1'?" in result.stderr
    assert not (here / "results").exists()


def test_wrong_names_are_told_without_importing_torch(here: Path) -> None:
    wrong = [
        ("attack", "none"),
        ("audit", "R0", "--against", "none"),
        ("noise-eval", "R0", "none"),
        ("attack", "net.py:make"),
        ("attack", "R0", "--attack", "fsg"),
        ("train", "X", "--data", "none"),
        ("train", "X", "--net", "lenett"),
        ("train", "X", "--method", "bangg"),
        ("train", "X", "--solver", "adamm"),
        ("import", "X", "--net", "lenett", "--data", "none"),
        ("import", "X", "--net", "net.py:make", "--data", "none"),
    ]
    program = f"""
import sys
from typer.testing import CliRunner
from bangbench.cli.main import app
for words in {wrong!r}:
    assert CliRunner().invoke(app, words).exit_code == 2, words
    assert "torch" not in sys.modules, words
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_mean_beyond_the_scale_is_told_whatever_the_command(here: Path, bangbench: Invoke, alike: list[str]) -> None:
    beyond = ("--mean", "125", "--std", "60")
    assert "--mean 125 is beyond the scale" in bangbench("train", "X", *alike, "--iterations", "2", *beyond).stderr
    for name in ("one", "two"):
        (here / f"{name}.safetensors").write_bytes((here / "models/R0/weights.safetensors").read_bytes())
    own = [f"net.py:make@{name}.safetensors" for name in ("one", "two")]
    told = bangbench("noise-eval", *own, "--data", "npz:blobs.npz", "--draws", "1", "--per-class", "1", *beyond)
    assert "--mean 125 is beyond the scale" in told.stderr
