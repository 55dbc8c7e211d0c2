"""Damaged inputs and disks that cannot be written to: one message, status 1, nothing half-written."""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file

from bangbench.core.errors import BenchError
from bangbench.store.chunks import Chunks
from bangbench.store.tables import write_table

Run = Callable[..., CompletedProcess[str]]

TRAIN_LENET = ("train", "L", "--data", "digits", "--iterations", 2, "--batch-size", 8, "--quiet")


def refusal_of(result: CompletedProcess[str]) -> str:
    """Return the one message of a run that failed."""
    assert result.returncode == 1
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("bangbench: ")]
    assert len(lines) == 1
    return lines[0].removeprefix("bangbench: ")


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def write_mnist(folder: Path, name: str, content: bytes) -> None:
    (folder / "mnist").mkdir(exist_ok=True)
    (folder / "mnist" / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    """Return a data directory with 20 images in MNIST's format."""
    for prefix in ("train", "t10k"):
        images = np.random.default_rng(0).integers(0, 256, 20 * 28 * 28, dtype=np.uint8)
        write_mnist(tmp_path, f"{prefix}-images-idx3-ubyte", struct.pack(">4I", 2051, 20, 28, 28) + images.tobytes())
        write_mnist(tmp_path, f"{prefix}-labels-idx1-ubyte", struct.pack(">2I", 2049, 20) + bytes(range(10)) * 2)
    return tmp_path


@pytest.mark.parametrize("how", ["archive", "content"])
def test_a_truncated_mnist_file_is_refused_before_training_starts(
    here: Path, bangbench: Run, mnist: Path, how: str
) -> None:
    path = mnist / "mnist/train-images-idx3-ubyte.gz"
    content = path.read_bytes()
    path.write_bytes(content[:-1000] if how == "archive" else gzip.compress(gzip.decompress(content)[:-1000]))
    message = refusal_of(bangbench("train", "X", "--data", "mnist", "--data-dir", mnist))
    assert "train-images-idx3-ubyte.gz" in message
    assert not (here / "models/X").exists()


def test_the_same_files_whole_are_accepted(here: Path, bangbench: Run, mnist: Path) -> None:
    result = bangbench("train", "X", "--data", "mnist", "--data-dir", mnist, "--iterations", 1, "--batch-size", 4)
    assert result.returncode == 0, result.stderr


def put_nan_into(folder: Path) -> None:
    state = load_file(folder / "weights.safetensors")
    name = next(iter(state))
    state[name].view(-1)[3] = torch.nan
    save_file(state, folder / "weights.safetensors")


def test_a_checkpoint_with_nan_is_refused_by_its_checksum(here: Path, bangbench: Run) -> None:
    put_nan_into(here / "models/R0")
    message = refusal_of(bangbench("attack", "R0"))
    assert "models/R0/weights.safetensors is not the file that model.json describes (its SHA-256 differs)" in message
    assert not (here / "results").exists()


def test_a_checkpoint_with_nan_is_refused_even_where_its_checksum_is_right(here: Path, bangbench: Run) -> None:
    folder = here / "models/R0"
    put_nan_into(folder)
    card = json.loads((folder / "model.json").read_text())
    card["model"]["weights_sha256"] = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    (folder / "model.json").write_text(json.dumps(card))
    for command in (("attack", "R0"), ("noise-eval", "R0", "B1")):
        message = refusal_of(bangbench(*command))
        assert "models/R0" in message
        assert "holds NaN or infinite values" in message
    assert not (here / "results").exists()


@pytest.mark.parametrize("size", [0, 5, -10])
def test_a_truncated_checkpoint_is_refused(here: Path, bangbench: Run, size: int) -> None:
    path = here / "models/R0/weights.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    assert "models/R0/weights.safetensors" in refusal_of(bangbench("attack", "R0"))
    assert not (here / "results").exists()


def test_a_damaged_snapshot_of_an_unfinished_training_is_named(here: Path, bangbench: Run) -> None:
    (here / "models/L").mkdir()
    (here / "models/L/resume.safetensors").write_bytes(b"half a snapshot")
    message = refusal_of(bangbench(*TRAIN_LENET))
    assert "models/L/resume.safetensors: not a whole snapshot" in message
    assert message.endswith("delete it to start again")


def test_a_damaged_chunk_is_computed_again(here: Path, bangbench: Run, undisturbed: Callable[..., Path]) -> None:
    command = ("noise-eval", "R0", "B1", "--sigma", 60, "--draws", 2, "--per-class", 5)
    other = undisturbed(*command)
    assert bangbench(*command, "--quiet").returncode == 0
    folder = here / "results/R0-vs-B1"
    (folder / "noise.parquet").write_bytes((folder / "noise.parquet").read_bytes()[:-40])
    (folder / "noise.json").unlink()
    (folder / ".chunks-noise").mkdir()
    (folder / ".chunks-noise/000000-x.npz").write_bytes(b"PK half")
    assert bangbench(*command, "--quiet").returncode == 0
    assert (folder / "noise.parquet").read_bytes() == (other / "results/R0-vs-B1/noise.parquet").read_bytes()
    assert files_in(folder) == ["noise.json", "noise.parquet"]


@pytest.mark.parametrize("command", [("attack", "R0"), ("noise-eval", "R0", "B1"), TRAIN_LENET])
def test_a_file_in_place_of_a_folder_is_named_before_work_starts(
    here: Path, bangbench: Run, command: tuple[object, ...]
) -> None:
    place = here / ("models/L" if command[0] == "train" else "results")
    place.write_text("in the way")
    message = refusal_of(bangbench(*command))
    assert "a file stands where a folder is needed; choose another name or --root" in message
    assert place.read_text() == "in the way"


def test_a_full_disk_ends_training_and_the_same_command_goes_on_with_room(
    here: Path, bangbench: Run, small_disk: Path
) -> None:
    message = refusal_of(bangbench(*TRAIN_LENET, "--root", small_disk))
    assert message.startswith(f"cannot write {small_disk}/models/L/")
    assert message.endswith("the disk is full; free some space and run the command again, finished parts are kept")
    assert files_in(small_disk) == ["models/L/model.json"]
    assert json.loads((small_disk / "models/L/model.json").read_text())["status"] == "started"
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    assert bangbench(*TRAIN_LENET, "--root", small_disk).returncode == 0
    assert json.loads((small_disk / "models/L/model.json").read_text())["status"] == "done"
    assert "models/L/weights.safetensors" in files_in(small_disk)


def test_a_full_disk_leaves_neither_half_a_table_nor_half_a_chunk(small_disk: Path) -> None:
    values = np.random.default_rng(0).random(400_000)
    with pytest.raises(BenchError, match="the disk is full"):
        write_table(small_disk / "fgs.parquet", {"x": values}, pa.schema([("x", pa.float64())]))
    with pytest.raises(BenchError, match="the disk is full"):
        Chunks(small_disk / "chunks", "k" * 32).write(0, {"x": values})
    assert files_in(small_disk) == []


def test_a_read_only_disk_is_refused_before_work_starts(here: Path, bangbench: Run, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    message = refusal_of(bangbench(*TRAIN_LENET, "--root", small_disk))
    assert message.endswith("Read-only file system; the file system is read-only; choose another directory")
