"""The page, read as text: its numbers, its links, what is left out, its colours."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Callable
from functools import partial
from html.parser import HTMLParser
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from matplotlib.figure import Figure

from bangbench.reporting.audit_rows import budget_table, verdict_sentences, verdict_table
from bangbench.reporting.bench_rows import bench_table
from bangbench.reporting.chapter import chapter_of
from bangbench.reporting.collect import collect
from bangbench.reporting.figures import style
from bangbench.reporting.groups import Group, group_records
from bangbench.reporting.masking_rows import masking_sentences, masking_table
from bangbench.reporting.noise_rows import noise_table
from bangbench.reporting.page.build import PageChapter, PageContent, PageFigure, build_page
from bangbench.reporting.page.facts import models_table, owners, runs_of
from bangbench.reporting.page.limits import limits
from bangbench.reporting.plot import Plot, Section
from bangbench.reporting.render import to_csv
from bangbench.reporting.rows import paper_table
from bangbench.reporting.table import Column, Row, Table, cell_text, printed_columns, text
from bangbench.store.records import Preprocessing

ATTACKS = ("fgs", "fgs-unmasked", "hc1", "hc1-unmasked")
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
DRAWING = b'<svg xmlns="http://www.w3.org/2000/svg" width="331.2pt" height="216pt" viewBox="0 0 331 216"></svg>'
EMPTY = frozenset({"meta", "link", "img", "br", "input"})


class Element(NamedTuple):
    """One element: its tag, its attributes, and the text inside it with that of the elements in it."""

    tag: str
    attributes: dict[str, str | None]
    words: list[str]
    inside: tuple[str, ...]

    @property
    def text(self) -> str:
        return "".join(self.words).strip()


class Reader(HTMLParser):
    """Collects all elements in order, and notices tags that do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.open: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs), [], tuple(outer.tag for outer in self.open))
        self.elements.append(element)
        if tag not in EMPTY:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1].tag == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.words.append(data)


def read(html: str) -> list[Element]:
    reader = Reader()
    reader.feed(html)
    assert not reader.open
    return reader.elements


def texts(html: str, tag: str) -> list[str]:
    return [element.text for element in read(html) if element.tag == tag]


def tables_in(html: str) -> dict[str, list[list[Element]]]:
    """Return the rows of every table, by its caption."""
    found: dict[str, list[list[Element]]] = {}
    rows: list[list[Element]] = []
    for element in read(html):
        if element.tag == "caption":
            rows = found.setdefault(element.text, [])
        elif element.tag == "tr":
            rows.append([])
        elif element.tag in {"td", "th"}:
            rows[-1].append(element)
    return found


def empty_figure() -> Figure:
    return style.new_figure(1, 1)


def figure(name: str, section: Section, embedded: bytes = DRAWING, **changes: str) -> PageFigure:
    told = {"title": f"Title of {name}", "caption": f"Caption of {name}", "alternative": f"Words for {name}"} | changes
    kind = "image/png" if embedded is PIXEL else "image/svg+xml"
    return PageFigure(Plot(name=name, section=section, draw=partial(empty_figure), **told), embedded, kind, ())


def groups_under(root: Path) -> tuple[Group, ...]:
    return group_records(collect(root, ())).groups


def tables_of(group: Group) -> tuple[Table, ...]:
    attacks = [paper_table(group), bench_table(group), masking_table(group)] if group.models else []
    return tuple(table for table in (*attacks, noise_table(group)) if table is not None)


def page(
    root: Path,
    figures: tuple[PageFigure, ...] = (),
    tables: Callable[[Group], tuple[Table, ...]] = tables_of,
    **more: Any,
) -> str:
    """Return the page of everything under `root`; `more` replaces fields of the content."""
    chapters = tuple(
        PageChapter(group, tables(group), figures, ("bangbench reproduce table1",)) for group in groups_under(root)
    )
    given: dict[str, Any] = {
        "title": "A title",
        "chapters": chapters,
        "problems": (),
        "unfinished": (),
        "downloads": (),
        "generated_with": "0.1.0",
    }
    return build_page(PageContent(**(given | more)))


@pytest.fixture
def measured(records: Any) -> Path:
    """Two models under four attacks, and their noise evolution."""
    for model in ("R0", "B1"):
        for attack in ATTACKS:
            records.attack(f"table1/{model}", attack)
    records.noise("table1/R0", "table1/B1", draws=20)
    root: Path = records.root
    return root


def csv_rows(table: Table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(to_csv(table))))


def check_numbers(shown: list[list[Element]], table: Table) -> int:
    """Compare every cell with the table's text and its CSV; returns the number of cells with numbers."""
    columns = [table.columns[index] for index in printed_columns(table)]
    body = [row for row in shown[1:] if row[0].text != "difference"]
    assert [cell.text for cell in shown[0]] == [column.header for column in columns]
    assert len(body) == len(table.rows)
    compared = 0
    for cells, row, line in zip(body, table.rows, csv_rows(table), strict=True):
        for cell, index in zip(cells, printed_columns(table), strict=True):
            column = table.columns[index]
            assert cell.text == cell_text(column, row.cells[index])
            if "data-value" in cell.attributes:
                assert cell.attributes["data-value"] == " ".join(line[field] for field in column.fields)
                compared += 1
            else:
                assert all(isinstance(value, str) or value is None for value in row.cells[index])
    return compared


def test_every_number_is_the_one_in_the_csv_to_the_digit(measured: Path) -> None:
    (group,) = groups_under(measured)
    shown = tables_in(page(measured))
    title = "table1: lenet on mnist, 10,000 test images"
    assert check_numbers(shown[title], paper_table(group)) > 20
    assert check_numbers(shown["The bench's own columns"], bench_table(group)) > 40
    masking, noise = masking_table(group), noise_table(group)
    assert masking is not None
    assert noise is not None
    assert check_numbers(shown["Masked against unmasked"], masking) > 10
    assert check_numbers(shown["Gaussian noise at the last stage"], noise) > 10


def test_differences_are_measured_minus_published_before_rounding(measured: Path) -> None:
    shown = tables_in(page(measured))["table1: lenet on mnist, 10,000 test images"]
    assert [row[0].text for row in shown] == ["ID", "R0", "published", "difference", "B1", "published", "difference"]
    header = [cell.text for cell in shown[0]]
    difference = dict(zip(header, shown[6], strict=True))
    assert difference["FGS rate (%)"].text == "0.00"
    assert difference["FGS rate (%)"].attributes["data-value"] == str(1.683128 - 1.68)
    assert difference["FGS L∞"].text == "-0.05"
    assert difference["FGS L∞"].attributes["data-value"] == str(5.4731 - 5.52)
    assert difference["HC1 rate (%)"].text == "+1.01"
    assert difference["β"].text == ""
    assert "Difference: measured minus published" in page(measured)


def test_a_measured_row_and_its_published_one_form_a_unit(measured: Path) -> None:
    table = page(measured).partition("<caption><span>table1: lenet")[2].partition("</table>")[0]
    units = re.findall(r"<tbody>(.*?)</tbody>", table, flags=re.DOTALL)
    assert [re.findall(r'<tr class="(\w+)"', unit) for unit in units] == [["measured", "published", "difference"]] * 2


def test_nothing_is_loaded_from_elsewhere_and_the_same_content_gives_the_same_page(measured: Path) -> None:
    figures = figure("a", "noise"), figure("b", "examples", PIXEL)
    html = page(measured, figures, downloads=("table1.csv",))
    assert html == page(measured, figures, downloads=("table1.csv",))
    elements = read(html)
    loaded = [element.attributes.get("src") or "" for element in elements]
    loaded += [element.attributes.get("href") or "" for element in elements if element.tag == "link"]
    assert all(source.startswith("data:") for source in loaded if source)
    assert sum(source.startswith("data:image/") for source in loaded) == 2
    links = [element.attributes["href"] or "" for element in elements if element.tag == "a"]
    assert not [link for link in links if ":" in link or link.startswith("//")]
    assert "http" not in re.sub(r'src="data:[^"]*"', "", html).replace("http-equiv", "")
    assert not re.search(r"url\(|@import|@font-face", html)


def test_the_policy_allows_this_script_and_style_only(measured: Path) -> None:
    elements = read(page(measured))
    policy = next(e.attributes["content"] or "" for e in elements if "http-equiv" in e.attributes)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not [e for e in elements if "style" in e.attributes or any(name.startswith("on") for name in e.attributes)]


def test_hostile_names_stay_text(measured: Path) -> None:
    evil = '"><script>alert(1)</script>'
    column = Column(evil, None, ("evil",), text, "left")
    table = Table("table1-evil", evil, (column,), (Row("measured", ((evil,),)),), (evil,))
    html = page(
        measured,
        (figure(evil, "noise", title=evil, caption=evil, alternative=evil),),
        tables=lambda group: (*tables_of(group), table),
        title=evil,
        problems=(evil,),
        unfinished=(evil,),
        downloads=(f"{evil}.csv", "javascript:alert(1).csv"),
        generated_with=evil,
    )
    assert html.count("<script>") == 1
    assert [e.attributes["alt"] for e in read(html) if e.tag == "img"] == [evil]
    assert evil in texts(html, "td") + texts(html, "th")
    assert 'href="javascript%3Aalert%281%29.csv"' in html


def test_hostile_group_names_stay_text_and_ids_stay_unique(measured: Path) -> None:
    (group,) = groups_under(measured)
    renamed = [group._replace(name=name) for name in ("<script>x", "script-x", "main", "main-noise", "x-figure-f")]
    chapters = tuple(PageChapter(item, tables_of(item), (figure("f", "noise"),), ()) for item in renamed)
    elements = read(page(measured, chapters=chapters))
    ids = [element.attributes["id"] for element in elements if "id" in element.attributes]
    assert len(set(ids)) == len(ids)
    targets = {(e.attributes["href"] or "")[1:] for e in elements if e.tag == "a"}
    assert targets <= set(ids)
    assert len([e for e in elements if e.tag == "script"]) == 1


def test_images_have_words_and_size_and_headers_a_scope(measured: Path) -> None:
    elements = read(page(measured, (figure("a", "noise"), figure("b", "examples", PIXEL))))
    images = [element.attributes for element in elements if element.tag == "img"]
    assert [image["alt"] for image in images] == ["Words for a", "Words for b"]
    assert (images[0]["width"], images[0]["height"]) == ("442", "288")
    saves = [(e.attributes["data-name"], e.attributes["data-save"]) for e in elements if "data-save" in e.attributes]
    assert saves == [("a", "svg"), ("a", "png"), ("b", "png")], "only a drawing can be saved as SVG"
    for element in elements:
        if element.tag == "th":
            assert element.attributes["scope"] == ("col" if "thead" in element.inside else "row")
    assert len([e for e in elements if e.tag == "caption"]) == len([e for e in elements if e.tag == "table"])


def test_sections_come_in_order_and_the_contents_name_them(measured: Path) -> None:
    figures = tuple(
        figure(name, name) for name in ("training", "settings", "examples", "noise", "masking", "robustness")
    )
    html = page(measured, figures, downloads=("table1.csv", "figures/noise.svg"))
    expected = "What was run, Measured beside published, Masked against unmasked, Robustness curves, Gaussian noise"
    assert texts(html, "h3") == [*expected.split(", "), "Example images", "Settings and training"]
    assert texts(html, "h2")[1:] == ["Limits and warnings", "How to reproduce", "Downloads"]
    contents = [e.text for e in read(html) if e.tag == "a" and "nav" in e.inside]
    assert contents == ["table1", *texts(html, "h3"), *texts(html, "h2")[1:]]
    assert html.index("Title of settings") < html.index("Title of training")


def test_one_model_with_one_attack_has_no_empty_sections(records: Any) -> None:
    records.attack("mine", "fgs", data="photos")
    records.card("mine")
    html = page(records.root, chapters=tuple(
        PageChapter(group, tables_of(group), (), ()) for group in groups_under(records.root)
    ))  # fmt: skip
    assert texts(html, "h3") == ["What was run", "Accuracy, rates and distances"]
    assert texts(html, "h2")[1:] == ["Limits and warnings"]
    assert "difference" not in [row[0].text for table in tables_in(html).values() for row in table]
    assert "Trained from one seed only: mine." in html
    records.attack("mine-again", "fgs", data="photos", seed=1, weights_sha256="cd" * 32)
    records.card("mine-again", seed=1, weights_sha256="cd" * 32)
    assert "one seed only" not in page(records.root)


def test_a_noise_evolution_alone_names_its_models(records: Any) -> None:
    records.noise("R0", "B1")
    html = page(records.root)
    assert texts(html, "h3") == ["What was run", "Gaussian noise"]
    assert [row[0].text for row in tables_in(html)["The models"]] == ["Model", "R0", "B1"]


def test_models_of_the_same_name_in_two_folders_are_kept_apart(records: Any) -> None:
    records.attack("table1/R0", "fgs")
    records.noise("table1/R0", "demo/R0")
    (group,) = groups_under(records.root)
    rows = [[cell[0] for cell in row.cells] for row in models_table(group).rows]
    assert [(row[0], row[-1]) for row in rows] == [("table1/R0", "E1"), ("demo/R0", None)]
    assert owners(runs_of(group)) == "table1/R0: fgs; table1/R0 vs demo/R0: noise"
    assert "all test images" not in " ".join(models_table(group).notes)


def test_nothing_measured_makes_a_page_all_the_same(tmp_path: Path) -> None:
    html = build_page(PageContent("Empty", (), ("A record is damaged.",), ("table1/R0 fgs",), (), "0.1.0"))
    assert texts(html, "h2") == ["Limits and warnings"]
    assert texts(html, "li")[-2:] == [
        "A record is damaged.",
        "Started but not finished, so without numbers here: table1/R0 fgs.",
    ]


def test_other_attacks_and_unknown_tables_are_shown(records: Any) -> None:
    records.attack("R0", "fgs")
    records.attack("R0", "acme-attack", seconds=1234.56)
    extra = Table("models-mnist-more", "More", (Column("N", None, ("n",), text),), (Row("measured", ((3,),)),), ())
    html = page(records.root, tables=lambda group: (*tables_of(group), extra))
    shown = tables_in(html)
    models = dict(zip([cell.text for cell in shown["The models"][0]], shown["The models"][1], strict=True))
    assert models["acme-attack (s)"].text == "1,234.6"
    assert models["acme-attack (s)"].attributes["data-value"] == "1234.56"
    assert [cell.attributes["data-value"] for cell in shown["More"][1]] == ["3"]


def test_masking_is_said_above_its_table(measured: Path) -> None:
    (group,) = groups_under(measured)
    table = masking_table(group)
    assert table is not None
    html = page(measured)
    callouts = [e.text for e in read(html) if e.attributes.get("class") == "callout"]
    assert callouts == list(masking_sentences(group)) == list(table.notes[1:3])
    assert "vanished float32 gradients, not resisted." in " ".join(texts(html, "strong"))
    assert not set(callouts) & set(texts(html, "li"))
    assert table.notes[3] in texts(html, "li"), "other notes stay below"


def test_limits_are_whole_sentences(measured: Path) -> None:
    chapters = []
    for group in groups_under(measured):
        models = list(group.models)
        found = models[0].attacks["fgs"]
        dirty = found.record.provenance.model_copy(update={"commit": "ab" * 20, "dirty": True, "packages": {}})
        record = found.record.model_copy(update={"provenance": dirty, "spec": {"limit": 500}})
        attacks = {**models[0].attacks, "fgs": found._replace(record=record)}
        del attacks["hc1"]
        models[0] = models[0]._replace(attacks=attacks)
        chapters.append(PageChapter(group._replace(models=tuple(models)), (), (), ("bangbench 'a b' <c> && \"d\"",)))
    html = page(measured, chapters=tuple(chapters))
    said = texts(html, "li")
    assert texts(html, "code") == ["bangbench 'a b' <c> && \"d\""], "commands are given exactly"
    assert "Measured on the first 500 test images only, not on the full test split: R0 fgs." in said
    assert "The noise evolution of R0 vs B1 has 20 noisy copies of each image; the paper has 1,000." in said
    assert "Not run on R0: hc1." in said
    assert any(line.endswith("the commit alone does not reproduce it: R0: fgs.") for line in said)
    assert any(line.startswith("The runs were made with different commits: abababab") for line in said)
    assert any(line.startswith("The runs were made with different versions: bangbench 0.1.0") for line in said)


def seed_limits(records: Any) -> list[str]:
    """Return the sentences about how the models were trained."""
    (group,) = groups_under(records.root)
    return [line for line in limits(group) if "rained" in line]


def test_two_copies_of_the_same_seed_are_one_seed(records: Any) -> None:
    for name in ("t/R0", "t/copy"):
        records.attack(name, "fgs", seed=0, weights_sha256="00" * 32)
        records.card(name, seed=0, weights_sha256="00" * 32)
    (line,) = seed_limits(records)
    assert line.startswith("Trained from one seed only: R0, copy. ")

    records.attack("t/R1", "fgs", seed=1, weights_sha256="01" * 32)
    records.card("t/R1", seed=1, weights_sha256="01" * 32)
    assert seed_limits(records) == []


@pytest.mark.parametrize(
    "changes", [{"preprocessing": Preprocessing(input_scale=255.0)}, {"spec": {"learning_rate": 0.1}}], ids=str
)
def test_models_that_are_trained_in_another_way_are_no_second_seed(records: Any, changes: dict[str, Any]) -> None:
    for seed, other in enumerate(({}, changes)):
        records.attack(f"t/R{seed}", "fgs", seed=seed, weights_sha256=f"{seed:02x}" * 32)
        records.card(f"t/R{seed}", seed=seed, weights_sha256=f"{seed:02x}" * 32, **other)
    (line,) = seed_limits(records)
    assert line.startswith("Trained from one seed only: R0, R1. ")


def test_of_models_of_unknown_training_nothing_is_said_about_seeds(records: Any) -> None:
    records.attack("t/theirs", "fgs", method=None, seed=None, method_settings={})
    (line,) = seed_limits(records)
    assert line.startswith("How theirs was trained is not known")

    records.attack("t/ours", "fgs", weights_sha256="01" * 32)
    records.card("t/ours", weights_sha256="02" * 32)
    (line,) = seed_limits(records)
    assert line.startswith("How ours and theirs were trained is not known")


def test_the_training_of_models_with_a_noise_evolution_alone_is_known_by_their_cards(records: Any) -> None:
    records.noise("t/R0", "t/B1")
    assert seed_limits(records)[0].startswith("How R0 and B1 were trained is not known")

    for name in ("t/R0", "t/B1"):
        records.card(name)
    (line,) = seed_limits(records)
    assert line.startswith("Trained from one seed only: R0, B1. ")


def test_a_table_links_its_own_files(measured: Path) -> None:
    html = page(measured, downloads=("table1.csv", "table1.md", "table1-bench.csv", "figures/table1.svg"))
    tables = html.partition('id="page-downloads"')[0]
    assert tables.count('href="table1.csv"') == 1
    assert tables.count('href="table1-bench.csv"') == 1
    assert html.count('href="figures/table1.svg"') == 1


def colours(selector: str) -> dict[str, str]:
    """Return the custom properties of a block of style.css."""
    css = files("bangbench.reporting.page").joinpath("style.css").read_text(encoding="utf-8")
    block = css.partition(f"{selector} {{")[2].partition("}")[0]
    return dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", block))


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("selector", [":root", ':root[data-theme="dark"]'])
def test_words_stand_out_from_their_ground(selector: str) -> None:
    found = colours(selector)
    for words, ground in product(("text", "dim", "accent", "masked", "suspect", "sound"), ("paper", "tint", "callout")):
        assert contrast(found[words], found[ground]) >= 4.5, f"{words} on {ground}"


def test_dark_is_dark_whether_chosen_or_the_systems() -> None:
    chosen = colours(':root[data-theme="dark"]')
    assert chosen == colours(':root:not([data-theme="light"])')
    assert luminance(chosen["paper"]) < 0.05 < luminance(colours(":root")["paper"])
    assert chosen["figure"] == "#ffffff"


def audited_page(records: Any, **more: Any) -> str:
    """Return the page of R0, sound, and B1, masked, with all tables."""
    for name in ("table1/R0", "table1/B1"):
        for attack in ATTACKS:
            records.attack(name, attack)
        records.audit(name, against="table1/R0" if name != "table1/R0" else None)
    return page(records.root, (figure("table1-audit", "audit"),), lambda group: chapter_of(group).all_tables, **more)


def test_the_audit_comes_first_and_says_above_its_tables_what_is_masked(records: Any) -> None:
    html = audited_page(records, downloads=("table1-findings.csv",))
    (group,) = groups_under(records.root)
    assert texts(html, "h3")[:3] == [
        "What was run", "Audit: robust, or are its gradients gone?", "Measured beside published",
    ]  # fmt: skip
    callouts = [e.text for e in read(html) if e.attributes.get("class") == "callout"]
    assert callouts[:2] == list(verdict_sentences(group))
    assert "these rates are no robustness" in " ".join(texts(html, "strong"))
    section = html.partition("gradients gone?</h3>")[2].partition("Measured beside published</h3>")[0]
    assert "Title of table1-audit" in section
    assert 'href="table1-findings.csv"' in section
    verdicts, budgets = verdict_table(group), budget_table(group)
    assert verdicts is not None
    assert budgets is not None
    assert check_numbers(tables_in(html)["Verdicts of the audit"], verdicts) > 10
    assert check_numbers(tables_in(html)["Flipped within an L∞ budget, in percent"], budgets) > 20
    assert "What the audit found" not in tables_in(html), "the findings are text"


def test_findings_are_told_in_full_and_passed_checks_in_short(records: Any) -> None:
    html = audited_page(records)
    assert texts(html, "h4") == ["R0: sound", "B1: masked"]
    findings = [" ".join(e.text.split()) for e in read(html) if e.attributes.get("class") == "finding"]
    assert findings[1] == (
        "fgs-masked masked fgs It is so on 966 of 990 images. Meaning of it. What to do: Advice on it. "
        "Images: 966: 0, 1, 2, ... Source: protocol, Croce 2020"
    )
    assert len(findings) == 3
    assert texts(html, "summary") == ["2 checks passed", "1 check passed"]
    assert texts(html, "dt") == ["input-scale", "fgs-masked", "input-scale"]
    assert texts(html, "dd")[0] == "99.00 % as given, at most 98.10 % otherwise."


def test_a_rate_and_its_verdict_share_a_cell_that_is_still_a_number(records: Any) -> None:
    html = audited_page(records)
    (group,) = groups_under(records.root)
    shown = tables_in(html)["table1: lenet on mnist, 10,000 test images"]
    assert check_numbers(shown, paper_table(group)) > 20
    assert [row[0].text for row in shown[4:]] == ["B1", "unmasked", "published", "difference"]
    place = [cell.text for cell in shown[0]].index("FGS rate (%)")
    cell = shown[4][place]
    assert (cell.text, cell.attributes["data-value"]) == ("1.68 [masked]", "1.683128 masked")
    assert (cell.attributes["class"] or "").split() == ["right", "masked"]
    assert shown[7][place].text == "0.00", "the difference is that of the measured rate"
    assert "[masked]" in texts(html, "span")


def test_models_without_an_audit_are_among_the_limits(records: Any) -> None:
    records.attack("t/R0", "fgs")
    records.attack("t/R1", "fgs")
    records.audit("t/R0")
    (group,) = groups_under(records.root)
    (line,) = [line for line in limits(group) if line.startswith("Not audited")]
    assert line.startswith("Not audited: R1. Whether")
    assert line.endswith("to tell: bangbench audit t/R1 --against t/R0")
    assert "R0 audit" in next(line for line in limits(group) if line.startswith("Measured on the first 1000"))
    models = models_table(group)
    place = [column.header for column in models.columns].index("Audit (s)")
    assert [row.cells[place] for row in models.rows] == [(210.4,), (None,)]
