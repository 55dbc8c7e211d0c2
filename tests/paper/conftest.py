"""The synthetic records of the report's tests."""

from __future__ import annotations

import runpy
from pathlib import Path

_shared = runpy.run_path(str(Path(__file__).parent.parent / "reporting" / "conftest.py"))
records = _shared["records"]
