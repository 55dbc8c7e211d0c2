"""The reason codes: complete, sourced, used by the checks, and explained on a page that is up to date."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest

import bangbench.auditing
from bangbench.auditing.reasons import REASONS, SOURCES, Group, Reason

AUDIT = Path(bangbench.auditing.__file__).parent
DOCS = Path(__file__).parents[2] / "docs"
SCRIPT = DOCS / "make_audit_page.py"
PAGE = DOCS / "audit.md"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    """Return the script that writes the page, as a module."""
    spec = importlib.util.spec_from_file_location("make_audit_page", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Yield name and syntax tree of every file of the audit that makes checks."""
    for path in sorted(AUDIT.glob("*.py")):
        if path.name != "reasons.py":
            yield path.name, ast.parse(path.read_text(encoding="utf-8"))


def codes_given_to_found(tree: ast.AST) -> Iterator[str]:
    """Yield the string literals that a file gives to `found` as a code, those of a choice among them."""
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] == "found":
            given = [*call.args[:1], *(keyword.value for keyword in call.keywords if keyword.arg == "code")]
            for node in given:
                yield from (leaf.value for leaf in choices(node) if isinstance(leaf.value, str))


def choices(node: ast.expr) -> Iterator[ast.Constant]:
    """Yield the constants that an expression may be."""
    if isinstance(node, ast.Constant):
        yield node
    elif isinstance(node, ast.IfExp):
        yield from choices(node.body)
        yield from choices(node.orelse)


def strings(tree: ast.AST) -> set[str]:
    """Return every string literal of a file."""
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_every_code_that_a_check_names_is_known() -> None:
    unknown = {(name, code) for name, tree in trees() for code in codes_given_to_found(tree) if code not in REASONS}
    assert not unknown


def test_every_code_is_used_by_a_check() -> None:
    used = set().union(*(strings(tree) for _, tree in trees()))
    assert not set(REASONS) - used, "no check in bangbench/auditing names these codes"


def test_the_search_for_codes_sees_how_they_are_given() -> None:
    text = 'found("one", "a", "two"); subject.found("three" if x else "four", "a"); found(outcome="a", code="five")'
    assert set(codes_given_to_found(ast.parse(text))) == {"one", "three", "four", "five"}


@pytest.mark.parametrize("reason", REASONS.values(), ids=list(REASONS))
def test_every_code_has_a_check_a_meaning_an_advice_and_known_sources(reason: Reason) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", reason.code)
    assert REASONS[reason.code] is reason
    assert reason.group in get_args(Group)
    for text in (reason.check, reason.meaning, reason.advice):
        assert re.fullmatch(r"[A-Z]\S* .*\.", text), text
        assert "  " not in text
        assert "|" not in text
    assert reason.sources
    assert set(reason.sources) <= set(SOURCES)


def test_no_two_codes_say_the_same() -> None:
    for field in ("code", "check", "meaning"):
        texts = [getattr(reason, field) for reason in REASONS.values()]
        assert len(set(texts)) == len(texts), field


def test_codes_of_a_group_stand_together_in_the_order_of_the_groups() -> None:
    groups = [reason.group for reason in REASONS.values()]
    assert groups == sorted(groups, key=get_args(Group).index)
    assert set(groups) == set(get_args(Group))


def test_every_source_is_cited_and_every_paper_has_an_arxiv_number() -> None:
    assert {key for reason in REASONS.values() for key in reason.sources} == set(SOURCES)
    for key, text in SOURCES.items():
        assert key == "protocol" or re.search(r"arXiv \d{4}\.\d{5}$", text), key


def test_the_page_is_up_to_date(maker: ModuleType) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert maker.up_to_date(page) == page, "run: python docs/make_audit_page.py"


def anchors(page: str) -> list[str]:
    """Return the anchors that GitHub gives the headings."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_every_code_has_a_heading_and_every_link_on_the_page_leads_to_one() -> None:
    page = PAGE.read_text(encoding="utf-8")
    places = anchors(page)
    assert len(set(places)) == len(places)
    assert set(REASONS) <= set(places)
    assert set(re.findall(r"\]\(#([^)]*)\)", page)) <= set(places)
    for code in REASONS:
        assert page.count(f"#### `{code}`\n") == 1


def test_the_page_explains_every_code_and_links_every_paper() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for reason in REASONS.values():
        part = page.split(f"#### `{reason.code}`\n")[1].split("\n#")[0]
        for text in (reason.check, reason.meaning, reason.advice):
            assert text in part
        for key in reason.sources:
            assert (f"[{key}](https://arxiv.org/abs/" in part) or SOURCES[key] in part
    for text in SOURCES.values():
        for number in re.findall(r"arXiv (\S+)$", text):
            assert f"[arXiv {number}](https://arxiv.org/abs/{number})" in page


def test_the_checklist_names_every_code_that_rests_on_it() -> None:
    page = PAGE.read_text(encoding="utf-8")
    checklist = page.split("## Carlini et al.'s checklist\n")[1].split("\n## ")[0]
    named = set(re.findall(r"\]\(#([^)]*)\)", checklist))
    assert {reason.code for reason in REASONS.values() if "Carlini 2019" in reason.sources} <= named <= set(REASONS)


def test_the_page_names_every_claim_outcome_and_verdict() -> None:
    from bangbench.auditing.claims import all_claims
    from bangbench.store.audits import VERDICTS, Outcome

    page = PAGE.read_text(encoding="utf-8")
    reading = page.split("### Claims and verdicts\n")[1].split("\n### ")[0]
    for name in (*all_claims(), *get_args(Outcome)):
        assert f"`{name}`" in reading, name
    for verdict in VERDICTS:
        assert f"- **{verdict}**: " in reading


def test_the_page_names_options_that_the_command_has() -> None:
    from bangbench.auditing.spec import AuditSpec

    page = PAGE.read_text(encoding="utf-8")
    options = set(re.findall(r"^\| `--([a-z]+)", page, re.MULTILINE))
    assert {"budget", "limit", "strict", "seed", "json"} <= options
    assert options - {"json"} <= set(AuditSpec.model_fields)


@pytest.fixture
def copy_of_docs(tmp_path: Path) -> Path:
    """Return a copy of script and page."""
    for path in (SCRIPT, PAGE):
        shutil.copy(path, tmp_path)
    return tmp_path


def run_script(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the script of a folder in a process in which torch cannot be imported."""
    code = (
        "import runpy, sys; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    words = [sys.executable, "-c", code, str(folder / SCRIPT.name), *options]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_the_script_checks_and_mends_the_page_without_torch(copy_of_docs: Path) -> None:
    page = copy_of_docs / PAGE.name
    wanted = page.read_text(encoding="utf-8")
    done = run_script(copy_of_docs, "--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    stale = wanted.replace(REASONS["fgs-masked"].meaning, "Nothing to see here.")
    page.write_text(stale, encoding="utf-8")
    refused = run_script(copy_of_docs, "--check")
    assert refused.returncode == 1
    assert refused.stderr.strip() == "audit.md is out of date; run: python docs/make_audit_page.py"
    assert page.read_text(encoding="utf-8") == stale

    assert run_script(copy_of_docs).returncode == 0
    assert page.read_text(encoding="utf-8") == wanted


def test_what_is_written_by_hand_stays(maker: ModuleType) -> None:
    page = PAGE.read_text(encoding="utf-8").replace("# The audit\n", "# The audit\n\nBy hand.\n")
    assert maker.up_to_date(page) == page


@pytest.mark.parametrize(
    "mark", ["<!-- end of sources -->", "<!-- reason codes: written by docs/make_audit_page.py -->"]
)
def test_a_page_without_its_marks_is_refused(maker: ModuleType, mark: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    for broken in (page.replace(mark, ""), f"{page}\n{mark}\n"):
        with pytest.raises(SystemExit, match=re.escape("once each, in this order")):
            maker.up_to_date(broken)
