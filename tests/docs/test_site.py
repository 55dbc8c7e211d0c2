"""The site: every command and option has its place on it, what it shows of recipes is valid, and it builds."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bangbench.attacks.spec import AttackSpec
from bangbench.auditing.spec import AuditSpec
from bangbench.noise.spec import NoiseSpec
from bangbench.recipes.recipe import load_recipe
from bangbench.training.spec import TrainSpec

ROOT = Path(__file__).parents[2]


def test_every_command_is_on_the_page_of_commands_with_its_options() -> None:
    page = runpy.run_path(str(ROOT / "docs/make_command_page.py"))["page"]()
    for command in ("train", "import", "attack", "audit", "explain", "show", "data fetch", "reproduce", "methods"):
        assert f"\n## bangbench {command}\n" in page
    attack = page.partition("## bangbench attack\n")[2].partition("\n## ")[0]
    for option in ("`MODEL`", "`--attack`", "`--budget`", "`--norm`", "`--name`", "(default: fgs fgs-unmasked hc1"):
        assert option in attack


def test_the_recipe_on_the_page_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = re.search(r"```toml\n(.*?)```", (ROOT / "docs/recipes.md").read_text(encoding="utf-8"), re.DOTALL)
    assert text is not None
    (tmp_path / "mine.toml").write_text(text[1], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    recipe, shared = load_recipe("mine.toml"), tomllib.loads(text[1])
    for model in recipe.model:
        TrainSpec(**{**shared["train"], **model.settings(), "name": recipe.model_name(model.id)})
    AttackSpec(model="x", **shared["attack"])
    AuditSpec(model="x", **shared["audit"])
    NoiseSpec(**shared["noise"])


def test_links_between_pages_lead_somewhere() -> None:
    for page in (ROOT / "docs").glob("*.md"):
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target and not target.startswith("_generated"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    pytest.importorskip("furo")
    pytest.importorskip("myst_nb")
    words = ["-W", "--keep-going", "--quiet", "-b", "html", str(ROOT / "docs"), str(tmp_path)]
    done = subprocess.run([sys.executable, "-m", "sphinx", *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for page in ("models", "protocol", "api", "_generated/commands"):
        assert (tmp_path / f"{page}.html").is_file()
