"""How the site is built: ``make docs``; nothing is fetched, and every warning is an error."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import make_command_page  # noqa: E402  # it lies beside this file

import bangbench  # noqa: E402

project = "bangbench"
author = "the authors of bangbench"
version = release = bangbench.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
# the picture in architecture.md is drawn by whoever knows mermaid, and shown as its text elsewhere
suppress_warnings = ["misc.highlighting_failure"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
# notebooks are shown with the output that they were saved with; the tests run them
nb_execution_mode = "off"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "separated"
# names of types that a signature mentions only for the type checker
autodoc_mock_imports: list[str] = []

html_theme = "furo"
html_title = f"bangbench {version}"
html_show_sphinx = False
html_copy_source = False

# what lies outside this folder, and what the program says of itself, becomes pages before the build
GENERATED = HERE / "_generated"
shutil.rmtree(GENERATED, ignore_errors=True)
GENERATED.mkdir()
(GENERATED / "commands.md").write_text(make_command_page.page(), encoding="utf-8")
if (HERE.parent / "notebooks").is_dir():
    shutil.copytree(HERE.parent / "notebooks", GENERATED / "notebooks", ignore=shutil.ignore_patterns(".ipynb_*"))


def setup(app: object) -> None:
    """Let docstrings that list settings, a line each, show a list."""
    app.connect("autodoc-process-docstring", _as_list)  # type: ignore[attr-defined]


def _as_list(app: object, what: str, name: str, found: object, options: object, lines: list[str]) -> None:
    """Turn the lines ``setting: meaning`` below ``Settings:`` into a list, in place."""
    if "Settings:" not in lines:
        return
    place = lines.index("Settings:") + 1
    listed = [
        re.sub(r"^(\w+): ", r"- ``\1``: ", line) if line[:1].strip() else line.strip() and f"  {line.strip()}"
        for line in lines[place:]
    ]
    lines[place:] = ["", *listed]
