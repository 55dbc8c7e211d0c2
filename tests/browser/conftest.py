"""A page in headless Chromium; without the browser, its driver or selenium, these tests are skipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bangbench.core.provenance import Provenance
from bangbench.reporting.collect import FoundAttack
from bangbench.reporting.figures import style
from bangbench.reporting.groups import Group, ModelResults
from bangbench.reporting.masking_rows import masking_table
from bangbench.reporting.page.build import PageChapter, PageContent, PageFigure, build_page
from bangbench.reporting.plot import Plot, Section
from bangbench.reporting.rows import paper_table
from bangbench.store.records import (
    AttackRecord,
    AttackSummary,
    DataInfo,
    LinfSummary,
    ModelInfo,
    Moments,
    Preprocessing,
)

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
#: Rates under FGS in percent; chosen so that the order by rate is none of the order by name.
RATES = {"R0": 92.92, "R1": 94.22, "B0": 3.87, "B1": 2.46}

DATA = DataInfo(name="mnist", source="mnist", fingerprint="c" * 64, images=10000, class_names=("0", "1"))
PROVENANCE = Provenance(
    bangbench="0.1.0",
    commit="ab" * 20,
    dirty=False,
    python="3.11.9",
    packages={"numpy": "2.0.0"},
    system="Linux x86_64",
    processor="a processor",
    cores=2,
    device="cpu",
    command="bangbench reproduce table1",
)


@pytest.fixture(scope="session")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return report.html with four models beside the paper's, a drawing and pixels."""
    models = tuple(ModelResults(f"table1/{row}", _model(row), _attacks(row)) for row in RATES)
    group = Group("table1", DATA, models, (), ())
    tables = tuple(table for table in (paper_table(group), masking_table(group)) if table is not None)
    folder = tmp_path_factory.mktemp("page")
    figures = (_figure(folder, "curves", "robustness", "svg"), _figure(folder, "gallery", "examples", "png"))
    chapter = PageChapter(group, tables, figures, ("bangbench reproduce table1", "bangbench report"))
    content = PageContent("A report", (chapter,), ("A problem.",), (), ("table1.csv",), "0.1.0")
    path = folder / "report.html"
    path.write_text(build_page(content), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a browser of its own, which logs its console and every request."""
    pytest.importorskip("selenium", reason="needs selenium: pip install selenium")
    missing = [str(program) for program in (CHROMIUM, DRIVER) if not program.exists()]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}: apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(switch)
    downloads = str(tmp_path_factory.mktemp("downloads"))
    options.add_experimental_option("prefs", {"download.default_directory": downloads})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    driver.downloads = Path(downloads)
    yield driver
    driver.quit()


def _model(row: str) -> ModelInfo:
    bang = row.startswith("B")
    return ModelInfo(
        name=f"table1/{row}",
        net="lenet",
        parameters=431080,
        classes=10,
        input_shape=(1, 28, 28),
        preprocessing=Preprocessing(input_scale=256.0),
        method="bang" if bang else "regular",
        method_settings={"beta": 1.0, "epsilon": 0.815, "ratio": 1.0} if bang else {},
        seed=0,
        iterations=10000,
        data="mnist",
        weights_sha256="ab" * 32,
    )


def _attacks(row: str) -> dict[str, FoundAttack]:
    rates = {"fgs": RATES[row], "fgs-unmasked": 99.9}
    return {attack: _found(row, attack, rate) for attack, rate in rates.items()}


def _found(row: str, attack: str, rate: float) -> FoundAttack:
    scores = Moments(mean=0.4217, std=0.1041)
    summary = AttackSummary(
        accuracy=99.1,
        images=10000,
        correct=9910,
        flipped=round(99.1 * rate),
        rate=rate,
        rate_interval=(rate - 0.1, rate + 0.1),
        blank=100 - rate,
        linf=LinfSummary(mean=38.43, std=14.82, median_censored=39.0 if rate > 50 else None),
        l2=Moments(mean=500.0, std=100.0),
        pass_definition=scores,
        pass_paper=scores,
        unaligned=scores,
        ecc_failures={"definition": 0, "paper": 0},
        unverified=0,
        forwards=1000,
        seconds=12.5,
    )
    record = AttackRecord(
        schema=1,
        status="done",
        key="k",
        spec={"limit": None},
        provenance=PROVENANCE,
        attack=attack,
        model=_model(row),
        data=DATA,
        summary=summary,
    )
    return FoundAttack(f"table1/{row}", Path(f"{attack}.json"), record, summary)


def _figure(folder: Path, name: str, section: Section, kind: str) -> PageFigure:
    figure = style.new_figure(style.COLUMN if kind == "svg" else style.PAGE, 3)
    axes = figure.subplots()
    axes.plot(np.linspace(0, 255, 50), np.linspace(100, 0, 50), color=style.colour(0))
    axes.set_xlabel("L∞ (grey levels)")
    path = folder / f"{name}.{kind}"
    style.save_figure(figure, path)
    plot = Plot(name, section, f"The {name}", "n = 10,000 images.", "A falling line.", style.new_figure)  # type: ignore[arg-type]
    media_type = "image/svg+xml" if kind == "svg" else "image/png"
    return PageFigure(plot, path.read_bytes(), media_type, (f"{name}.{kind}",))
