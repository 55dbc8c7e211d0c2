"""The page in a browser: offline, sortable, in both themes, on a phone and on paper."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

_FIRST_COLUMN = """
const table = document.querySelector("#table-table1 table");
return [...table.tBodies].map((unit) => [...unit.rows].map((row) => row.cells[0].textContent));
"""
_HEADER = """
const table = document.querySelector("#table-table1 table");
return [...table.tHead.rows[0].cells].find((cell) => cell.textContent === arguments[0]);
"""
_UNFOLD = "document.querySelectorAll('details').forEach((part) => (part.open = true))"


@pytest.fixture
def page(browser: Any, page_file: Path) -> Any:
    """Return the browser with the page freshly opened, its logs emptied before."""
    browser.get_log("browser")
    browser.get_log("performance")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [_scheme("light")]})
    browser.get(page_file.as_uri())
    browser.execute_script(_UNFOLD)
    return browser


def _scheme(name: str) -> dict[str, str]:
    return {"name": "prefers-color-scheme", "value": name}


def _measured(page: Any) -> list[str]:
    """Return the models in the order of the main table, having seen that each kept its other rows."""
    units = page.execute_script(_FIRST_COLUMN)
    assert all(unit[-2:] == ["published", "difference"] for unit in units)
    return [unit[0] for unit in units]


def _ground(page: Any) -> str:
    return str(page.execute_script("return getComputedStyle(document.body).backgroundColor"))


def _wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_it_opens_without_a_word_of_complaint_and_asks_no_one(page: Any) -> None:
    assert page.execute_script("return [...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert page.execute_script("return getComputedStyle(document.body).fontVariantNumeric !== undefined")
    requests = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [
        message["params"]["request"]["url"] for message in requests if message["method"] == "Network.requestWillBeSent"
    ]
    assert asked
    assert not [address[:80] for address in asked if not address.startswith(("file:", "data:"))]
    assert page.get_log("browser") == []


def test_a_column_is_sorted_by_click_and_by_key(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    assert _measured(page) == ["R0", "R1", "B0", "B1"]
    header = page.execute_script(_HEADER, "FGS rate (%)")
    button = header.find_element("tag name", "button")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()
    assert _measured(page) == ["B1", "B0", "R0", "R1"]
    assert header.get_attribute("aria-sort") == "ascending"
    button.send_keys(Keys.ENTER)
    assert _measured(page) == ["R1", "R0", "B0", "B1"]
    assert header.get_attribute("aria-sort") == "descending"
    other = page.execute_script(_HEADER, "ID")
    other.find_element("tag name", "button").send_keys(Keys.SPACE)
    assert _measured(page) == ["B0", "B1", "R0", "R1"]
    assert header.get_attribute("aria-sort") is None
    beta = page.execute_script(_HEADER, "β").find_element("tag name", "button")
    for _ in range(2):
        beta.send_keys(Keys.ENTER)
        assert _measured(page)[2:] == ["R0", "R1"], "a missing number comes last in both directions"


def test_the_theme_follows_the_system_until_it_is_chosen(page: Any) -> None:
    light = _ground(page)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [_scheme("dark")]})
    dark = _ground(page)
    assert dark != light
    button = page.find_element("id", "theme")
    _wait_for(lambda: button.get_attribute("aria-pressed") == "true")
    button.click()
    assert (_ground(page), button.get_attribute("aria-pressed")) == (light, "false")
    button.click()
    assert (_ground(page), button.get_attribute("aria-pressed")) == (dark, "true")
    frame = "return getComputedStyle(document.querySelector('.frame')).backgroundColor"
    assert page.execute_script(frame) == "rgb(255, 255, 255)"
    page.execute_script("localStorage.clear()")


def test_a_figure_is_saved(page: Any) -> None:
    button = page.find_element("css selector", "[data-save]")
    name = f"{button.get_attribute('data-name')}.png"
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()
    _wait_for((page.downloads / name).exists)
    assert (page.downloads / name).read_bytes().startswith(b"\x89PNG")
    assert not [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"]


def test_models_are_filtered_by_name_and_verdict(page: Any) -> None:
    def shown() -> list[str]:
        rows = page.find_elements("css selector", ".standings tbody tr")
        return [row.find_element("tag name", "th").text for row in rows if row.is_displayed()]

    everyone, field = shown(), page.find_element("id", "filter")
    assert set(everyone) == {"R0", "R1", "B0", "B1"}
    for words, left in (("b1", ["B1"]), ("not audited", ["R1", "B0"]), ("table1/R trusted", ["R0"]), ("none", [])):
        field.clear()
        field.send_keys(words)
        assert sorted(shown()) == sorted(left)
    assert page.find_element("css selector", ".filter .found").text == "0 of 4 models"
    field.clear()
    field.send_keys(" ")
    assert shown() == everyone


def test_a_link_opens_what_is_folded(page: Any) -> None:
    page.refresh()
    section = page.find_element("id", "table1-noise")
    assert section.get_attribute("open") is None
    page.execute_script("location.hash = 'table-table1-noise'")
    _wait_for(lambda: section.get_attribute("open") is not None)


@pytest.mark.parametrize(("width", "height"), [(1400, 800), (768, 1024), (390, 844)])
def test_the_first_screen_answers_without_scrolling(page: Any, width: int, height: int) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.execute_script("scrollTo(0, 0)")
    bottom = "return document.querySelector('.standings:last-of-type').getBoundingClientRect().bottom"
    assert page.execute_script(bottom) < height
    for selector in (".said", ".standings .badge", ".standings .robust.last", ".standings .fgs"):
        assert page.find_element("css selector", selector).is_displayed()
    inside = "const box = document.querySelector('.standings'); return [box.scrollWidth, box.clientWidth]"
    wide, room = page.execute_script(inside)
    assert wide <= room


def test_a_command_is_copied_or_selected(page: Any) -> None:
    button = page.find_element("css selector", "[data-copy]")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()
    status = page.find_element("id", "status")
    _wait_for(lambda: status.get_attribute("textContent") != "")
    selected = page.execute_script("return getSelection().toString()")
    assert button.text == "Copied" or selected == "bangbench reproduce table1"


def test_the_first_tab_leads_past_the_contents(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    page.find_element("tag name", "body").send_keys(Keys.TAB)
    assert page.switch_to.active_element.text == "Skip to the content"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1400])
def test_nothing_but_tables_scrolls_sideways(page: Any, width: int, scheme: str, tmp_path: Path) -> None:
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [_scheme(scheme)]})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    wide = page.execute_script("return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide[0] == wide[1] <= width
    if width < 500:
        tables = page.execute_script("return [...document.querySelectorAll('.scroll')].map((t) => t.scrollWidth)")
        assert max(tables) > width
    picture = page.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
    path = tmp_path / f"{scheme}-{width}.png"
    path.write_bytes(base64.b64decode(picture["data"]))
    assert path.stat().st_size > 10_000


def test_it_prints_with_its_headers_and_without_its_buttons(page: Any, tmp_path: Path) -> None:
    printed = base64.b64decode(page.execute_cdp_cmd("Page.printToPDF", {})["data"])
    (tmp_path / "page.pdf").write_bytes(printed)
    assert printed.startswith(b"%PDF")
    assert len(printed) > 10_000
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": [_scheme("dark")]})
    assert _ground(page) == "rgb(255, 255, 255)"
    seen = "return arguments[0].checkVisibility()"
    assert page.execute_script(seen, page.execute_script(_HEADER, "FGS rate (%)").find_element("tag name", "button"))
    assert not page.execute_script(seen, page.find_element("id", "theme"))
    assert not page.execute_script(seen, page.find_element("tag name", "nav"))
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_without_the_script_everything_can_be_read(page: Any) -> None:
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.refresh()
        assert [cell.text for cell in page.find_elements("css selector", "thead th")][:2] == ["table1", "The numbers"]
        assert not [button for button in page.find_elements("tag name", "button") if button.is_displayed()]
    finally:
        page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
