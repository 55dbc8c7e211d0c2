"""No file breaks a reader: hand-made bombs, and 300 damaged inputs (5,000 by `make fuzz`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess

CAMPAIGN = Path(__file__).with_name("campaign.py")


def run(*arguments: str) -> CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, str(CAMPAIGN), *arguments]
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)


def test_every_bomb_is_refused_in_one_line_that_names_what_is_wrong() -> None:
    done = run("--bombs")
    assert done.returncode == 0, done.stderr
    ends = json.loads(done.stdout)
    assert len(ends) > 70
    wrong = {
        name: end
        for name, end in ends.items()
        if end["complaint"] or end["expected"] not in end["said"] or (end["status"] == 0) != end["taken"]
    }
    assert wrong == {}


def test_damaged_inputs_are_taken_or_refused_in_one_line() -> None:
    done = run("--inputs", "300", "--seed", "0")
    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stdout + done.stderr
