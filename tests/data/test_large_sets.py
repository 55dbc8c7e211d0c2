"""Images that do not fit into memory are attacked all the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("large_set.py")
GIGABYTE = 10**9
pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")


def attacked(folder: Path, count: int, side: int, first: int) -> dict[str, int]:
    """Return what attacking so many images took; `first` of them are of the class that the net sees everywhere."""
    words = [sys.executable, str(PROGRAM), str(folder)]
    words += [f"--count={count}", f"--side={side}", f"--first={first}"]
    environment = {**os.environ, "BANGBENCH_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    assert found["images"] == count
    assert found["flipped"] > 0
    return found


def test_memory_does_not_grow_with_the_set(tmp_path: Path) -> None:
    count, side = 6000, 64
    found = attacked(tmp_path, count, side, first=40)
    size = 3 * side * side * count
    assert (tmp_path / "cache").is_dir()
    assert found["all"] - found["few"] < size / 2


@pytest.mark.large
def test_fifty_thousand_large_images_take_less_than_two_gigabytes(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    if free < 20 * GIGABYTE:
        pytest.skip(f"20 GB of disk are needed, {free / GIGABYTE:.0f} GB are free")
    try:
        found = attacked(tmp_path, 50_000, 224, first=5000)
        assert found["all"] < 2 * GIGABYTE
    finally:
        shutil.rmtree(tmp_path)
