"""The page: it answers first, holds every number, and keeps what others wrote as text."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from bangbench.reporting import ReportSpec
from bangbench.reporting.facts import limits, models_table
from bangbench.reporting.frames import frames_of
from bangbench.reporting.render import to_csv
from bangbench.reporting.run import report

ATTACKS = ("fgs", "fgs-unmasked", "hc1")


class Reader(HTMLParser):
    """Ids, links into the page, texts by tag, and the numbers of cells."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.values: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.tags: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.tags.append(tag)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given["href"] or ""] if (given.get("href") or "").startswith("#") else []
        self.values += [given["data-value"] or ""] if "data-value" in given else []
        self.images += [given] if tag == "img" else []


def page(records: Any, **spec: Any) -> str:
    report(ReportSpec(root=records.root, format=("html",), **spec))
    return (records.root / "results/report/report.html").read_text(encoding="utf-8")


def texts(html: str, pattern: str) -> list[str]:
    return [re.sub(r"<[^>]+>", "", found).strip() for found in re.findall(pattern, html, re.DOTALL)]


@pytest.fixture
def measured(records: Any) -> Any:
    for name in ("table1/R0", "table1/B1"):
        for attack in ATTACKS:
            records.attack(name, attack)
    records.audit("table1/B1", against="table1/R0", strength="quick")
    records.noise("table1/R0", "table1/B1", stages=(500, 1000), sigmas=(10.0, 50.0))
    return records


def test_the_answer_comes_first_with_one_line_a_model(measured: Any) -> None:
    html = page(measured)
    first = html.partition('<section aria-labelledby="page-why">')[0]
    lines = texts(first, r"<tr id=.*?</tr>")

    assert 'class="said">None of the 1 audited models holds' in first
    assert [line.split()[0] for line in lines] == ["B1", "R0"]
    assert "attacks masked (quick)" in lines[0]
    assert "not audited" in lines[1]
    assert "0.5 [0.2, 1.2]" in lines[0], "within the largest budget 5 of 1,000 images hold"
    assert "<polyline" in first
    assert html.index("page-why") < html.index("The paper beside the measured") < html.index("What was run")


def test_the_number_of_every_cell_is_the_one_in_the_csv(measured: Any) -> None:
    html = page(measured)
    shown = {float(value) for value in Reader(html).values}
    for table in report(ReportSpec(root=measured.root, format=("csv",))).tables:
        for row in csv.DictReader(io.StringIO(to_csv(table))):
            for column in table.columns:
                first = next((row[field] for field in column.fields if row.get(field)), "")
                if re.fullmatch(r"-?[0-9.]+", first):
                    assert float(f"{float(first):.10g}") in shown, table.name


def test_reasons_are_the_strongest_and_the_rest_is_folded(measured: Any) -> None:
    html = page(measured)
    why = html.partition('id="page-why"')[2].partition('class="experiment"')[0]

    assert texts(why, r"<ol class=\"reasons\">.*?</ol>") == ["fgs-masked It is so on 966 of 990 images."]
    assert "Advice on it." in why.partition("<details")[2]
    assert "99.00 % as given" in why


def test_what_a_check_means_is_said_once_for_all_models(measured: Any) -> None:
    measured.audit("table1/B2", strength="quick")
    html = page(measured)
    why, _, meanings = html.partition('id="page-why"')[2].partition('id="page-checks"')

    told = {code: place for place, code in re.findall(r'<dt id="([\w-]+)">([\w-]+)</dt>', meanings)}
    assert html.count("Advice on it.") == len(told)
    assert why.count(f'href="#{told["fgs-masked"]}"') == 2


def test_evidence_that_several_models_share_is_said_once(measured: Any) -> None:
    measured.audit("table1/B2", strength="quick")
    html = page(measured)

    assert html.count("99.00 % as given") == 1
    assert html.count('Passed <a href="#page-alike">as on other models</a>: input-scale.') == 2
    assert "(2 models)" in html.partition('id="page-alike"')[2]


def test_what_is_long_is_folded_and_every_link_has_its_place(measured: Any) -> None:
    html = page(measured)
    found = Reader(html)

    assert len(found.ids) == len(set(found.ids))
    assert {link[1:] for link in found.links} <= set(found.ids)
    for table in report(ReportSpec(root=measured.root, format=("csv",))).tables:
        assert f"table-{table.name}" in found.ids
    assert html.count('<details class="fold"><summary>What the numbers mean') >= 5


def test_figures_stand_once_with_words_and_size(measured: Any) -> None:
    html = page(measured)
    images = Reader(html).images

    assert len(images) == len(list((measured.root / "results/report/figures").glob("*.png"))) > 2
    assert all(len(image["alt"] or "") > 20 and image["width"] and image["height"] for image in images)
    assert len({image["src"] for image in images}) == len(images)


def test_nothing_is_loaded_from_elsewhere_and_the_same_records_give_the_same_page(measured: Any) -> None:
    html = page(measured)

    assert not re.findall(r'(?:src|href)="(?:https?:)?//', html)
    assert page(measured) == html
    assert "script-src &#39;sha256-" in html
    assert " style=" not in html


def test_hostile_names_stay_text(records: Any) -> None:
    hostile = '"><script>alert(1)</script>'
    records.attack("t/R0", "fgs", method_settings={"note": hostile}, net=hostile)
    records.attack("t/R0", "hc1").write_text(hostile)
    html = page(records)

    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html


def test_two_models_compared_are_a_section_of_their_own(records: Any) -> None:
    for name in ("t/R0", "t/B1"):
        records.images(name, "fgs", [4.0, 9.0])
    html = page(records, compare=("t/R0", "t/B1"))

    section = html.partition('id="page-compare"')[2].partition("</section>")[0]
    assert "on the same 2 test images" in section
    assert "<table" in section
    assert 'id="page-compare"' not in page(records)


@pytest.mark.parametrize("kind", ["attack", "audit", "noise"])
def test_whatever_alone_was_measured_makes_a_page(records: Any, kind: str) -> None:
    if kind == "noise":
        records.noise("t/R0", "u/R0", stages=(500,))
    else:
        getattr(records, kind)("t/R0", *(["fgs"] if kind == "attack" else []))
    html = page(records)

    assert "R0" in html.partition("</table>")[0]
    assert ">u/R0<" in html or kind != "noise"


def test_what_could_not_be_used_is_said_at_the_top(measured: Any) -> None:
    measured.attack("table1/B1", "hc1").write_text("{")
    measured.attack("table1/B2", "fgs", status="started")
    html = page(measured)

    assert "2 records could not be used or are unfinished." in html.partition("<table")[0]
    assert "cannot be read as JSON" in html
    assert "without numbers here: table1/B2 fgs." in html


def test_limits_name_few_images_seeds_missing_attacks_and_audits(records: Any) -> None:
    records.attack("t/R0", "fgs")
    records.attack("t/R1", "fgs")
    records.attack("t/R1", "hc1")
    records.card("t/R0")
    records.audit("t/R0")
    experiment = records.experiment()
    found = " ".join(limits(experiment))

    assert "Measured on the first 1000 test images only, not on the full test split: R0 audit." in found
    assert "Trained from one seed only: R0." in found
    assert "no model.json of their weights: R1." in found
    assert "Not run on R0: hc1." in found
    assert "Not audited: R1. Whether" in found
    assert "to tell: bangbench audit t/R1 --against t/R0" in found
    table = models_table(experiment, frames_of([experiment]))
    assert table is not None
    assert table.frame["audit_seconds"].tolist() == [210.4, None]
    assert frames_of([experiment]).models["training_seconds"].isna().all()


def colours(theme: int) -> dict[str, str]:
    """Return the colours of style.css by name, of the light (0) or the dark (1) theme."""
    css = files("bangbench.reporting").joinpath("static", "style.css").read_text(encoding="utf-8")
    found = re.findall(r"--(\w+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\);", css)
    return {name: both[theme] for name, *both in found}


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1])
def test_words_stand_out_from_their_ground(theme: int) -> None:
    found = colours(theme)
    for words, ground in product(("text", "dim", "accent", "masked", "suspect", "sound"), ("paper", "tint", "callout")):
        assert contrast(found[words], found[ground]) >= 4.5, f"{words} on {ground}"


def test_dark_is_dark() -> None:
    assert luminance(colours(1)["paper"]) < 0.05 < luminance(colours(0)["paper"])


def test_the_styles_and_the_script_are_in_the_package() -> None:
    names = {Path(str(path)).name for path in files("bangbench.reporting").joinpath("static").iterdir()}
    assert {"style.css", "answer.css", "parts.css", "print.css", "script.js", "template.html.j2"} <= names
