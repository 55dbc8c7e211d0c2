"""Twenty disturbed runs of every kind end in the bytes of an undisturbed one (200 by `make chaos`)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_whatever_happens_to_a_command_the_next_run_ends_in_the_same_bytes() -> None:
    words = [sys.executable, str(Path(__file__).with_name("chaos.py")), "--rounds", "20", "--seed", "0"]
    # a whole recipe takes longer than all of these, and is killed in test_signals.py
    words += ["--commands", "train", "attack", "noise", "audit", "grid"]
    done = subprocess.run(
        words, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "20 rounds of seed 0: 0 failures\n"), done.stderr
