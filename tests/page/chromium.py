"""Chromium without a window, as tests of pages use it."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

PATIENCE = 30
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
    """Wait until ``what()`` is true."""
    WebDriverWait(driver, PATIENCE, 0.1).until(lambda _: what())


def text(driver: webdriver.Chrome, name: str) -> str:
    """Return the text of an element as it is shown."""
    return driver.find_element(By.ID, name).text


def resize(driver: webdriver.Chrome, width: int, height: int = 900, *, dark: bool = False) -> None:
    """Show the page in a window of that width, light or dark; narrow ones are of telephones."""
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    size: dict[str, Any] = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def assert_fits(driver: webdriver.Chrome) -> None:
    """Assert that nothing scrolls sideways."""
    wide = driver.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 0, driver.execute_script(_WIDE)


def picture(driver: webdriver.Chrome, name: str, width: int, *, dark: bool) -> None:
    """Assert that the page fits at that width; save how it looks, if a folder for that is named."""
    resize(driver, width, dark=dark)
    assert_fits(driver)
    folder = os.environ.get("TRIOSMTP_SCREENSHOTS")
    if folder:
        resize(driver, width, driver.execute_script("return document.documentElement.scrollHeight"), dark=dark)
        driver.save_screenshot(f"{folder}/{name}-{width}-{'dark' if dark else 'light'}.png")
