"""The documentation as a browser shows it.  `nox -s docs` runs these tests, with the site that it has built."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from chromium import browser, resize, text, wait
from selenium import webdriver
from selenium.webdriver.common.by import By

from triosmtp.config import OPTIONS

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if "TRIOSMTP_SITE" in os.environ:
        return Path(os.environ["TRIOSMTP_SITE"]).absolute()
    for name in ("sphinx", "furo", "myst_parser", "sphinx_copybutton", "sphinxcontrib_trio"):
        pytest.importorskip(name)
    folder = tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", DOCS, folder], check=True)
    return folder


def shown(driver: webdriver.Chrome, selector: str) -> list[str]:
    return [each.text for each in driver.find_elements(By.CSS_SELECTOR, selector) if each.is_displayed()]


def test_options_are_grouped_and_can_be_searched(site: Path, tmp_path: Path) -> None:
    with browser(tmp_path) as driver:
        driver.get((site / "options.html").as_uri())
        resize(driver, 1280)
        names = [each.removesuffix("¶") for each in shown(driver, "dl.confval > dt")]
        assert sorted(names) == sorted(option.name for option in OPTIONS.values())
        titles = shown(driver, "article h2")
        assert len(titles) > 8
        assert any(title.startswith("TLS and certificates") for title in titles)
        assert text(driver, "option-count") == f"{len(OPTIONS)} options"
        field = driver.find_element(By.ID, "option-query")
        field.send_keys("REVOKED tls_client")
        wait(driver, lambda: "TLS_Client_CRL" in "".join(shown(driver, "dl.confval > dt")))
        assert len(shown(driver, "dl.confval > dt")) < 4
        assert len(shown(driver, "article h2")) == 1
        field.send_keys(" nothing-of-that-kind")
        assert shown(driver, "dl.confval > dt") == []
        assert text(driver, "option-count") == f"0 of {len(OPTIONS)} options"
        field.clear()
        field.send_keys(" ")
        assert len(shown(driver, "dl.confval > dt")) == len(OPTIONS)


def test_the_start_page_says_what_it_is_and_what_is_shown_can_be_copied(site: Path, tmp_path: Path) -> None:
    with browser(tmp_path) as driver:
        driver.get((site / "index.html").as_uri())
        resize(driver, 390)
        assert driver.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0
        first = driver.find_element(By.CSS_SELECTOR, "article p").text
        assert "receives mail by SMTP" in first
        blocks = driver.find_elements(By.CSS_SELECTOR, "div.highlight pre")
        assert "triosmtp serve" in blocks[0].text
        assert len(driver.find_elements(By.CSS_SELECTOR, "button.copybtn")) == len(blocks) > 0
        assert driver.find_elements(By.CSS_SELECTOR, 'a[href="changelog.html"]')
        driver.get((site / "changelog.html").as_uri())
        assert "0.1.0" in driver.find_element(By.CSS_SELECTOR, "article").text
