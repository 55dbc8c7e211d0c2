"""From the text after --data to a source, and where its files are looked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bangbench.core.errors import BenchError, UsageError
from bangbench.data.sources import SOURCES, data_directory, open_source


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty directory without BANGBENCH_DATA."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("BANGBENCH_DATA", raising=False)
    return folder


def write_npz(path: Path, level: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images, labels = np.full((2, 4, 4), level, np.uint8), np.array([0, 1])
    np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    return path


@pytest.mark.parametrize("name", ["digits", "mnist", "cifar10"])
def test_every_builtin_name_opens_a_source_of_that_name(name: str, tmp_path: Path) -> None:
    assert open_source(name, tmp_path).name == name
    assert name in SOURCES.names()


def test_the_data_directory_is_the_argument_then_the_environment_then_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert data_directory(None).name == "bangbench"
    monkeypatch.setenv("BANGBENCH_DATA", str(tmp_path / "environment"))
    assert data_directory(None) == tmp_path / "environment"
    assert data_directory(tmp_path / "argument") == tmp_path / "argument"


def test_a_file_is_found_in_the_working_directory_before_the_data_directory(
    tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BANGBENCH_DATA", str(tmp_path / "data"))
    write_npz(tmp_path / "data" / "small.npz", 7)
    source = open_source("npz:small.npz", None)
    assert source.name == "small"
    assert source.load("test").images.max() == 7
    write_npz(elsewhere / "small.npz", 9)
    assert open_source("npz:small.npz", None).load("test").images.max() == 9


def test_folders_and_archives_are_named_by_their_stem(image_folder: Path) -> None:
    assert open_source("folder:insects", image_folder.parent).name == "insects"
    assert open_source(f"folder:{image_folder}", None).load("test").images.shape == (10, 1, 6, 8)
    (image_folder.parent / "cifar10-jpeg.zip").write_bytes(b"")
    assert open_source("folder:cifar10-jpeg.zip", image_folder.parent).name == "cifar10-jpeg"


def test_a_missing_file_names_both_places(tmp_path: Path, elsewhere: Path) -> None:
    with pytest.raises(BenchError) as caught:
        open_source("npz:none.npz", tmp_path)
    assert str(caught.value) == (
        f"'npz:none.npz' was not found: expected it at {elsewhere / 'none.npz'} or {tmp_path / 'none.npz'}"
        "; check the path, or set --data-dir or BANGBENCH_DATA"
    )
    with pytest.raises(BenchError, match="expected it at /nowhere/x; check the path"):
        open_source("folder:/nowhere/x", tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("minst", "unknown data source 'minst': did you mean 'mnist'\\?"),
        ("zzzz", "unknown data source 'zzzz': known: cifar10, digits, mnist"),
        ("nzp:x.npz", "unknown prefix of a data source 'nzp': did you mean 'npz'\\?"),
        ("npz:", "'npz:' names no file: write npz:PATH"),
        ("flowers.npz", "'flowers.npz' is no data source by itself: did you mean 'npz:flowers.npz'\\?"),
        ("flowers.zip", "did you mean 'folder:flowers.zip'\\?"),
    ],
)
def test_a_wrong_request_says_what_was_probably_meant(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        open_source(text, tmp_path)


def test_the_data_package_imports_no_torch() -> None:
    program = (
        "import sys; import bangbench.data.fetch, bangbench.data.sources as s; from pathlib import Path; "
        "[s.open_source(name, Path('.')) for name in s.SOURCES.names()]; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, cwd=Path.cwd()).returncode == 0
