"""Write the reason codes and their sources into docs/audit.md, from `bangbench.auditing.reasons`.

``python docs/make_audit_page.py`` brings the page up to date, ``--check`` only says whether it is, ``--models`` audits
the planted models of the tests as well, which takes minutes, and writes what became of them. What stands between a pair
of marks is written here; all else on the page is written by hand and stays.
"""

from __future__ import annotations

import argparse
import re
import runpy
import tempfile
from pathlib import Path
from typing import get_args

from bangbench.auditing.reasons import REASONS, SOURCES, Group, Reason

PAGE = Path(__file__).with_name("audit.md")

#: The models that the audit is tried on.
MODELS = Path(__file__).parents[1] / "tests/auditing/planted_set.py"

#: What a reader should know of a group before its codes.
GROUPS: dict[str, str] = {
    "preflight": "Before anything is attacked: is this the model that was meant, does it give the same answer twice, "
    "and can its gradient be followed at all? A problem here makes every number after it one about something else.",
    "vanishing": "How much of the loss and of its gradient float32 leaves to an attack. A loss that is exactly 0 is no "
    "fault of the model; it is a fault of every attack that climbs that loss.",
    "masked against unmasked": "The same attack twice: as it is, and with what may hide the gradient taken away, by a "
    "change that leaves every prediction as it was. Where the rate moves, it was measuring the arithmetic.",
    "stronger attacks": "What the attacks along a line flip, beside the worst case over all attacks within the same "
    "distance.",
    "consistency": "Attacks have an order: many steps beat one, gradients beat guessing, a direct attack beats a "
    "borrowed one, a larger ball holds the smaller. Where the order is upside down, an attack has failed.",
    "hygiene": "Whether the evaluation itself was clean: stored images, budgets, counts, and enough of them.",
}


def section_of_codes() -> str:
    """Return an overview of all codes, then every group with its codes."""
    rows = [f"| [{_capital(group)}](#{_anchor(group)}) | {_links(group)} |" for group in get_args(Group)]
    overview = "\n".join(["| group | codes |", "|---|---|", *rows])
    return "\n\n".join([overview, *map(_group, get_args(Group))])


def section_of_sources() -> str:
    """Return the list of sources, papers with their links."""
    return "\n".join(f"- **{key}**: {_with_link(text)}" for key, text in SOURCES.items())


def section_of_models() -> str:
    """Audit the planted models, and return a table of them with what was found."""
    planted = runpy.run_path(str(MODELS))
    rows, caught, false = [], 0, 0
    with tempfile.TemporaryDirectory() as folder:
        planted["write_weights"](Path(folder))
        for model in (*planted["BROKEN"], *planted["CLEAN"]):
            record = planted["audited"](model, Path(folder), Path(folder))
            codes, verdict = planted["alarms"](record), record.summary.verdict
            caught += bool(set(codes) & set(model.codes)) and verdict != "sound"
            false += not model.codes and verdict != "sound"
            kind = "broken" if model.codes else "clean"
            rows.append(
                f"| {model.what} | {kind} | {', '.join(f'[{code}](#{code})' for code in codes) or '-'} | {verdict} |"
            )
    broken, clean = len(planted["BROKEN"]), len(planted["CLEAN"])
    total = f"{caught} of {broken} broken models caught, {false} false alarms on {clean} clean ones"
    return "\n".join(
        [
            f"{total} (40 digits, one budget, strength quick).",
            "",
            "| model | | found | verdict |",
            "|---|---|---|---|",
            *rows,
        ]
    )


def _group(group: str) -> str:
    members = [_entry(reason) for reason in REASONS.values() if reason.group == group]
    return "\n\n".join([f"### {_capital(group)}", GROUPS[group], *members])


def _entry(reason: Reason) -> str:
    sources = "; ".join(map(_source, reason.sources))
    return (
        f"#### `{reason.code}`\n\n"
        f"- **Checked:** {reason.check}\n"
        f"- **What it means:** {reason.meaning}\n"
        f"- **What to do:** {reason.advice}\n"
        f"- **Source:** {sources}"
    )


def _links(group: str) -> str:
    codes = [reason.code for reason in REASONS.values() if reason.group == group]
    return ", ".join(f"[{code}](#{code})" for code in codes)


def _source(key: str) -> str:
    """Return a paper's key, linked, or what else a source is."""
    link = _link(SOURCES[key])
    return f"[{key}]({link})" if link else SOURCES[key]


def _link(text: str) -> str | None:
    found = re.search(r"arXiv (\d{4}\.\d{5})", text)
    return f"https://arxiv.org/abs/{found[1]}" if found else None


def _with_link(text: str) -> str:
    return re.sub(r"arXiv (\d{4}\.\d{5})", r"[arXiv \1](https://arxiv.org/abs/\1)", text)


def _anchor(heading: str) -> str:
    return heading.replace(" ", "-")


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def up_to_date(page: str, models: str | None = None) -> str:
    """Return the page with the sections between its marks written anew; `SystemExit` where a mark is missing.

    models: what became of the planted models; None leaves what stands there.
    """
    sections = {"reason codes": section_of_codes(), "sources": section_of_sources()}
    for name, section in (sections | ({"planted models": models} if models is not None else {})).items():
        begin, end = f"<!-- {name}: written by docs/make_audit_page.py -->", f"<!-- end of {name} -->"
        if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
            raise SystemExit(f"{PAGE.name}: expected the marks '{begin}' and '{end}' once each, in this order")
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n\n{section}\n\n{end}{rest.partition(end)[2]}"
    return page


def main() -> None:
    """Write the page, or with ``--check`` exit with status 1 and a message where it is out of date."""
    parser = argparse.ArgumentParser(description="Bring the reason codes in docs/audit.md up to date.")
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    parser.add_argument("--models", action="store_true", help="audit the planted models, too")
    given = parser.parse_args()
    only_check = given.check
    models = section_of_models() if given.models else None
    page = PAGE.read_text(encoding="utf-8")
    wanted = up_to_date(page, models)
    if page == wanted:
        return
    if only_check:
        raise SystemExit(f"{PAGE.name} is out of date; run: python docs/{Path(__file__).name}")
    PAGE.write_text(wanted, encoding="utf-8")


if __name__ == "__main__":
    main()
