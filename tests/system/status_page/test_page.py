"""The status page in a real browser, beside real sessions."""

import json
import re
import signal
import smtplib
import socket
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest
from chromium import TIMEOUT, assert_fits, browser, picture, resize, text, texts, wait
from page_server import BROKEN, EVIL, MAIL, PROXIED, serving
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

TOKEN = "a-token-of-some-length"


def test_what_an_operator_sees(tmp_path: Path) -> None:
    with serving(tmp_path) as site, browser(tmp_path) as driver:
        driver.get(site.url)
        wait(driver, lambda: text(driver, "state") == "serving")
        assert "localhost" in text(driver, "certificates")
        assert "soon" in text(driver, "certificates")
        assert "no chain sent" in text(driver, "certificates")
        assert "None." in text(driver, "sessions")
        good, evil = site.session(), site.session("stranger")
        evil.docmd("RCPT", f"TO:<{EVIL[:30]}")
        evil.docmd("MAIL", "FROM:<a@b.example>")
        for long in ("x" * 300, "(<" * 150, "9." * 150):
            evil.docmd("VRFY", long)
            evil.docmd("RCPT", f'TO:<"{long[:60]}"@{"y" * 60}.{"z" * 60}.example>')
        evil.rset()
        evil.sendmail("a@example.org", ["b@example.com"], "Subject: x\r\n\r\n")
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            evil.sendmail("a@example.org", ["b@elsewhere.example"], "")
        wait(driver, lambda: "CN=client" in text(driver, "sessions") and "script" in text(driver, "sessions"))
        assert "verified" in text(driver, "sessions")
        assert text(driver, "sessions-total") == "2"
        wait(driver, lambda: "relaying denied" in text(driver, "refusals"))
        assert "1" in text(driver, "n-messages")
        assert "TLSv1.3: 2" in text(driver, "handshakes-chart")
        assert "accepted: 1" in text(driver, "messages-chart")
        assert re.search(r"verified\s+1\s+failed\s+1", text(driver, "outcomes"))
        # A certificate that is renewed shows itself, and a file that cannot be used is reported.
        site.authority.issue("localhost", dns=["new.example"], ip=["127.0.0.1"]).write(tmp_path, "server")
        wait(driver, lambda: "new.example" in text(driver, "certificates"))
        assert "taken" in text(driver, "reloads")
        (tmp_path / "server.pem").write_text("junk")
        wait(driver, lambda: "NOT taken" in text(driver, "reloads") and "Not in force" in text(driver, "problems"))
        assert re.search(
            r"server\.pem.*\s+In force instead: CN=localhost, valid until .*, read at ", text(driver, "problems")
        )
        (tmp_path / "my.conf").write_text("Nonsense = 1")
        site.process.send_signal(signal.SIGHUP)
        said = r"configuration .*my\.conf: .*Nonsense.*\s+In force instead: the configuration before, read at "
        wait(driver, lambda: re.search(said, text(driver, "problems")))
        # By keyboard: the filter, and the details of a session.
        driver.find_element(By.ID, "filter").send_keys("CN=client")
        wait(driver, lambda: text(driver, "sessions-total") == "1 of 2")
        press(driver, "\ue004")
        press(driver, " ")
        wait(
            driver,
            lambda: "tls_client_cert_fingerprint_sha256" in text(driver, "sessions"),
        )
        driver.find_element(By.ID, "filter").clear()
        driver.find_element(By.ID, "filter").send_keys("x\ue003")
        wait(driver, lambda: text(driver, "sessions-total") == "2")
        for width in (1280, 390):
            for dark in (False, True):
                picture(driver, "page", width, dark=dark)
        assert driver.title == f"triosmtp on {socket.gethostname()}"
        assert not driver.find_elements(By.CSS_SELECTOR, "main script, main img")
        assert driver.execute("getLog", {"type": "browser"})["value"] == []
        good.quit()
        evil.quit()
        wait(driver, lambda: text(driver, "sessions-total") == "0")
        site.process.send_signal(signal.SIGTERM)
        wait(driver, lambda: "connection lost" in text(driver, "state"))
        site.process.wait(60)  # a second signal would end the drain


def test_much_of_everything_is_folded_and_counted(tmp_path: Path) -> None:
    names = [f"mx{number}.a-longer-name-of-a-host.example.org" for number in range(38)]
    more = "Max_Command_Errors = 0 Max_Refused_Recipients = 0 Workers = 2"
    with serving(tmp_path, more=more, names=names) as site, browser(tmp_path) as driver, ExitStack() as open_sessions:
        driver.get(site.url)
        wait(driver, lambda: text(driver, "state") == "serving")
        for number in range(40):
            site.refuse(f"192.0.2.{number}" if number % 2 else f"2001:db8::{number}", 25)
        with site.session("stranger", BROKEN) as smtp, pytest.raises(smtplib.SMTPDataError, match="Mailbox full"):
            smtp.sendmail("a@sender.example", ["b@example.com", "c@example.com"], "Subject: x")
        for number in range(3):
            open_sessions.enter_context(site.session("stranger" if number % 2 else "client"))
        wait(driver, lambda: text(driver, "n-undelivered") == "1" and text(driver, "sessions-total") == "3")
        # All 1,000 are counted, and those of the delivery; what repeats is one line.
        assert text(driver, "n-refused") == "1,001"
        assert "refused: 1,001" in text(driver, "messages-chart")
        assert re.search(r"rcptto 550 relay\s+1,000", text(driver, "refusal-kinds"))
        rows = texts(driver, "#refusals tr")
        assert len(rows) == 16
        assert rows[-1] == "25 more"
        last = next(row for row in rows if "192.0.2.39:40000" in row)  # two workers: the first row may be another's
        for part in (
            "× 25",
            f"at {PROXIED}",
            "rcptto",
            "from <newsletter@lists.sender.example>",
            "no TLS",
        ):
            assert part in last, last
        assert "to <number24.with.a.long.local.part@elsewhere.example>" in last
        failures = text(driver, "deliveries")
        for part in (
            "from <a@sender.example>",
            "to <b@example.com>, <c@example.com>",
            "452 Mailbox full",
            f"at {BROKEN}",
        ):
            assert part in failures, failures
        # Figures of each Listen.
        listens = {each.split()[0]: each.split()[1:] for each in texts(driver, "#listens tr")}
        assert listens == {
            MAIL: ["3", "0", "0", "3", "0", "0", "0"],
            PROXIED: ["0", "0", "1,000", "0", "0", "0", "1,000"],
            BROKEN: ["0", "0", "1", "1", "0", "0", "1"],
        }
        assert len(texts(driver, "#workers tr")) == 2
        assert text(driver, "workers-total") == "2 ready, 0 died"
        # The process, the metrics and the time axis.
        assert f"on {socket.gethostname()}" in text(driver, "host")
        assert re.match(r"version \S+, up \d+ (s|min)", text(driver, "process"))
        assert driver.find_element(By.LINK_TEXT, "Metrics").get_attribute("href") == f"{site.url}metrics"
        axis = texts(driver, "#messages-chart .axis")[0].split()
        assert re.fullmatch(r"(\d\d:\d\d:\d\d ){4}now", " ".join(axis))
        driver.find_element(By.CSS_SELECTOR, "#range input[value=last_day]").click()
        assert re.fullmatch(r"(\d\d:\d\d\s){4}now", texts(driver, "#messages-chart .axis")[0])
        assert "refused: 1,001" in text(driver, "messages-chart")
        names_fold_and_stay_open(driver)
        for width in (1280, 390):
            for dark in (False, True):
                picture(driver, "much", width, dark=dark)


def press(driver: webdriver.Chrome, key: str) -> None:
    """Press a key, with any element in focus."""
    ActionChains(driver).send_keys(key).perform()


NOTHING = """
Deliver_To = "discard:"
Status_Listener {{ Listen "127.0.0.1:0" {{ }} }}
ESMTP_Listener {{ Listen "127.0.0.1:0" {{ Relay_Domains = ( "example.com" ) }} }}
"""


def test_none_of_anything(tmp_path: Path) -> None:
    with serving(tmp_path, conf=NOTHING) as site, browser(tmp_path) as driver:
        driver.get(site.url)
        wait(driver, lambda: text(driver, "state") == "serving")
        for name, said in (
            ("certificates", "No certificate: TLS is not offered."), ("sessions", "None."), ("refusals", "None."),
            ("deliveries", "None."), ("policy", "No group has been asked."), ("groups", "none"), ("failures", "none"),
            ("reloads", "none since this server is watched"), ("problems", ""), ("n-refused", "0"),
            ("n-undelivered", "0"),
        ):  # fmt: skip
            assert text(driver, name) == said, name
        assert not driver.find_element(By.ID, "workers-section").is_displayed()
        assert "accepted: 0" in text(driver, "messages-chart")
        for width in (1280, 390):
            for dark in (False, True):
                picture(driver, "nothing", width, dark=dark)
        assert driver.execute("getLog", {"type": "browser"})["value"] == []


def names_fold_and_stay_open(driver: webdriver.Chrome) -> None:
    names = text(driver, "certificates")
    assert "mx0.a-longer" in names
    assert "mx1.a-longer" not in names
    assert "38 more" in names
    script = "const it = document.querySelector('#certificates button'); it.focus(); return it.ariaExpanded"
    assert driver.execute_script(script) == "false"
    press(driver, " ")
    assert "mx37.a-longer-name-of-a-host.example.org" in text(driver, "certificates")
    clock = text(driver, "clock")
    wait(driver, lambda: text(driver, "clock") != clock)
    assert "mx37.a-longer-name-of-a-host.example.org" in text(driver, "certificates")
    assert driver.execute_script("return document.activeElement.innerText") == "fewer"
    resize(driver, 390)
    assert_fits(driver)
    press(driver, " ")
    assert "mx37" not in text(driver, "certificates")


def test_nobody_looks_without_the_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text(f"{TOKEN}\n")
    with serving(tmp_path, f'Token_File = "{token}"') as site, browser(tmp_path) as driver:
        driver.get(site.url)
        assert driver.current_url.endswith("/login")
        driver.find_element(By.ID, "token").send_keys("wrong\n")
        wait(driver, lambda: text(driver, "problem") == "Wrong token.")
        picture(driver, "login", 390, dark=True)
        driver.find_element(By.ID, "token").send_keys(f"{TOKEN}\n")
        wait(driver, lambda: driver.current_url == site.url and text(driver, "state") == "serving")
        cookie = driver.get_cookies()[0]
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert TOKEN not in json.dumps(driver.get_cookies())
        for headers in (
            {},
            {"Cookie": "triosmtp_status=x"},
            {"Cookie": f"{cookie['name']}={cookie['value']}", "Host": "evil.example"},
        ):
            request = urllib.request.Request(f"{site.url}events", headers=headers)
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request, timeout=TIMEOUT)
            assert refused.value.code in {401, 421}
            refused.value.close()
        driver.find_element(By.CSS_SELECTOR, "#logout button").click()
        wait(driver, lambda: driver.current_url.endswith("/login"))
        driver.get(site.url)
        assert driver.current_url.endswith("/login")
        # A page that is open when its login ends, as in another tab, asks for the token.
        driver.find_element(By.ID, "token").send_keys(f"{TOKEN}\n")
        wait(driver, lambda: driver.current_url == site.url and text(driver, "state") == "serving")
        driver.execute_script("fetch('/logout', {method: 'POST'})")
        wait(driver, lambda: driver.current_url.endswith("/login"))


def test_every_file_of_the_page_is_in_the_wheel() -> None:
    """The packaged files are the files of the package."""
    static = Path(__file__).parents[3] / "triosmtp" / "status" / "static"
    assert {each.name for each in static.iterdir()} == {"page.html", "page.css", "page.js", "login.html"}
    ignore = Path(static.parents[2] / ".gitignore").read_text()
    assert "static" not in ignore
    assert not any(re.search(r"https?://(?!www\.w3\.org)", each.read_text()) for each in static.iterdir())
