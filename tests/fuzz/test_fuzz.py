"""No file breaks a reader: hand-made bombs, and 300 damaged inputs (5,000 by `make fuzz`), in one process for both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

CAMPAIGN = Path(__file__).with_name("campaign.py")


def test_every_bomb_is_refused_in_one_line_that_names_it_and_damaged_inputs_are_taken_or_refused() -> None:
    words = [sys.executable, str(CAMPAIGN), "--bombs", "--inputs", "300", "--seed", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told, *damaged = done.stdout.splitlines()
    assert len(damaged) == 1
    ends = json.loads(told)
    assert len(ends) > 80
    wrong = {
        name: end
        for name, end in ends.items()
        if end["complaint"] or end["expected"] not in end["said"] or (end["status"] == 0) != end["taken"]
    }
    assert wrong == {}
