"""The small card that a notebook shows of an audit."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from bangbench.store.audits import AuditSummary, Verdict

#: Dark enough on white, and light enough on black, to be read at 4.5 to 1; the word says the same as the colour.
_COLOURS: dict[Verdict, str] = {
    "sound": "#1a7f37",
    "inconclusive": "#6e56cf",
    "suspect": "#9a6700",
    "masked": "#c9252d",
}
_CELL = "padding:1px 12px 1px 0;text-align:"


def audit_card(headline: str, summary: AuditSummary, notes: Sequence[str]) -> str:
    """Return HTML: the answer, one row per claim, and what to know of it."""
    rows = "".join(
        f'<tr><td style="{_CELL}left">{escape(claim.claim)}</td>'
        f'<td style="{_CELL}right">{"-" if claim.rate is None else f"{claim.rate:.1f}"}</td>'
        f'<td style="{_CELL}left">{_word(claim.verdict)}</td>'
        f'<td style="{_CELL}left">{escape(", ".join(claim.reasons))}</td></tr>'
        for claim in summary.claims
    )
    head = "".join(
        f'<th style="{_CELL}{side}" scope="col">{title}</th>'
        for title, side in (("claim", "left"), ("rate (%)", "right"), ("verdict", "left"), ("reasons", "left"))
    )
    said = "".join(f"<div><small>{escape(note)}</small></div>" for note in notes)
    return (
        f'<div style="border:1px solid {_COLOURS[summary.verdict]};border-left-width:6px;padding:6px 12px;'
        f'max-width:52em"><div>{_word(summary.verdict)} &nbsp;<b>{escape(headline)}</b></div>'
        f"<details><summary>{len(summary.claims)} claims</summary><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></details>{said}</div>"
    )


def _word(verdict: Verdict) -> str:
    return f'<span style="color:{_COLOURS[verdict]};font-weight:600">{verdict}</span>'
