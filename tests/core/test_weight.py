"""What a clone weighs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST, LARGEST_PAGE = 50_000_000, 3_000_000
PAGE = "results/report/report.html"


def test_the_tracked_files_weigh_less_than_fifty_megabytes_and_the_page_less_than_three() -> None:
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, check=False)
    names = [name for name in listed.stdout.decode().split("\0") if name]
    if listed.returncode != 0 or not names:
        pytest.skip("not a git repository")
    sizes = {name: path.stat().st_size for name in names if (path := ROOT / name).is_file()}
    heaviest = sorted(sizes, key=lambda name: -sizes[name])[:5]
    assert sum(sizes.values()) < MOST, f"{sum(sizes.values()) / 1e6:.1f} MB; the heaviest: {', '.join(heaviest)}"
    assert sizes.get(PAGE, 0) < LARGEST_PAGE
