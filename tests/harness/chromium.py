"""Chromium without a window, as tests of pages use it."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.support.wait import WebDriverWait

TIMEOUT = 30
_CUT = """
const found = [];
const range = document.createRange();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node = walker.nextNode(); node; node = walker.nextNode()) {
  if (!node.parentElement.checkVisibility() || node.parentElement.closest("script, style")) continue;
  for (const word of node.data.matchAll(/[\\p{L}\\p{N}]+/gu)) {
    if (word[0].length > 24) continue;
    range.setStart(node, word.index);
    range.setEnd(node, word.index + word[0].length);
    const tops = [...range.getClientRects()].filter((each) => each.width > 0).map((each) => Math.round(each.top));
    if (new Set(tops).size > 1) found.push(word[0]);
  }
}
return found;
"""
_WIDE = """
return [...document.querySelectorAll("body, body *")].filter((each) => each.checkVisibility() && !each.closest("svg")
  && getComputedStyle(each).display !== "inline" && !["INPUT", "PROGRESS"].includes(each.tagName)
  && (each.scrollWidth > each.clientWidth + 1 || each.getBoundingClientRect().right > innerWidth + 1))
  .map((each) => `${each.tagName} ${each.id} ${each.className} ${each.scrollWidth} > ${each.clientWidth}`);
"""


@contextmanager
def browser(folder: Path) -> Iterator[webdriver.Chrome]:
    """Run the browser with a profile in ``folder``."""
    if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is not installed")
        pytest.skip("chromium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in (
        "headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", "disable-dev-shm-usage", f"user-data-dir={folder}/profile",
    ):  # fmt: skip
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
    try:
        yield driver
    finally:
        driver.quit()


def wait(driver: webdriver.Chrome, what: Callable[[], object]) -> None:
    """Wait until ``what()`` is true; elements may be replaced meanwhile."""
    gone = [StaleElementReferenceException, NoSuchElementException]
    WebDriverWait(driver, TIMEOUT, 0.1, ignored_exceptions=gone).until(lambda _: what())


def text(driver: webdriver.Chrome, name: str) -> str:
    """Return the text of an element as it is shown."""
    found = texts(driver, f"#{name}")
    if not found:
        raise NoSuchElementException(name)
    return found[0]


def texts(driver: webdriver.Chrome, selector: str) -> list[str]:
    """Return the texts of all elements of a kind at one moment, as they are shown."""
    found: list[str] = driver.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map((each) => each.innerText.trim())", selector
    )
    return found


def resize(driver: webdriver.Chrome, width: int, height: int = 900, *, dark: bool = False) -> None:
    """Show the page in a window of that width, light or dark; narrow ones are of telephones."""
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    size: dict[str, Any] = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def assert_fits(driver: webdriver.Chrome) -> None:
    """Assert that nothing scrolls sideways and no word is cut in two; words of more than 24 letters may be."""
    wide = driver.execute_script(_WIDE)
    assert wide == [], wide
    cut = driver.execute_script(_CUT)
    assert cut == [], cut


def picture(driver: webdriver.Chrome, name: str, width: int, *, dark: bool) -> None:
    """Assert that the page fits at that width; save how it looks, if a folder for that is named."""
    resize(driver, width, dark=dark)
    assert_fits(driver)
    folder = os.environ.get("TRIOSMTP_SCREENSHOTS")
    if folder:
        resize(driver, width, driver.execute_script("return document.documentElement.scrollHeight"), dark=dark)
        driver.save_screenshot(f"{folder}/{name}-{width}-{'dark' if dark else 'light'}.png")
