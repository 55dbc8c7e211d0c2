"""A page in headless Chromium; without the browser, its driver or selenium, these tests are skipped."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bangbench.reporting import ReportSpec
from bangbench.reporting.run import report

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

_Records = runpy.run_path(str(Path(__file__).parent.parent / "reporting" / "conftest.py"))["Records"]


@pytest.fixture(scope="session")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return report.html with four models beside the paper's, an audit, and figures."""
    records = _Records(tmp_path_factory.mktemp("page"))
    for row, rate in RATES.items():
        records.attack(f"table1/{row}", "fgs", rate=rate, flipped=round(99.16 * rate))
        records.attack(f"table1/{row}", "fgs-unmasked", rate=99.9)
    records.audit("table1/B1")
    records.audit("table1/R0")
    records.noise("table1/R0", "table1/B1", stages=(500, 1000), sigmas=(10.0, 50.0))
    report(ReportSpec(root=records.root, format=("html",)))
    return records.root / "results" / "report" / "report.html"


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
