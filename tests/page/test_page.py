"""The status page in a real browser, and `triosmtp top` in a terminal of its own, beside real sessions."""

import json
import os
import pty
import re
import select
import signal
import smtplib
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from attrs import define
from chromium import PATIENCE, browser, picture, text, wait
from selenium.webdriver.common.by import By

from triosmtp.testing import Authority

TOKEN = "a-token-of-some-length"
EVIL = "<img src=x onerror=document.title=1><script>document.title=1"
CONF = """
Deliver_To = "discard:"
Relay_Domains = ( "example.com" )
TLS_Certificate = "{folder}/server.pem"
TLS_Key = "{folder}/server.key"
TLS_Client_CA = "{folder}/ca.pem"
Status_Listener {{ Listen "127.0.0.1:0" {{ {token} }} }}
ESMTP_Listener {{ Listen "127.0.0.1:0" {{ SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" ) }} }}
"""


@define
class Site:
    """A server that runs."""

    folder: Path
    process: subprocess.Popen[str]
    authority: Authority
    mail: int = 0
    status: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.status}/"

    def session(self, certificate: str = "client") -> smtplib.SMTP:
        """Begin a session over TLS, and keep it."""
        context = ssl.create_default_context(cafile=self.folder / "ca.pem")
        context.load_cert_chain(self.folder / f"{certificate}.pem", self.folder / f"{certificate}.key")
        smtp = smtplib.SMTP("127.0.0.1", self.mail, timeout=PATIENCE)
        smtp.starttls(context=context)
        smtp.ehlo()
        return smtp

    def top(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "triosmtp", "top", "--control", str(self.folder / "control"), *arguments]


@contextmanager
def serving(folder: Path, token: str = "") -> Iterator[Site]:
    authority = Authority.create()
    soon = datetime.now(UTC) + timedelta(days=5)
    names = ["localhost", "mx.example.com"]
    authority.issue("localhost", dns=names, ip=["127.0.0.1"], not_after=soon).write(folder, "server")
    authority.issue("client", dns=["client.example"], usage=["client"]).write(folder, "client")
    Authority.create("stranger").issue(EVIL, usage=["client"]).write(folder, "stranger")
    (folder / "ca.pem").write_bytes(authority.certificate_pem)
    (folder / "my.conf").write_text(CONF.format(folder=folder, token=token))
    command = [sys.executable, "-m", "triosmtp", "serve", "-c", str(folder / "my.conf")]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [*command, "--control", str(folder / "control")], stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        site = Site(folder, process, authority)
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Listen"):
                site.mail = int(line.rpartition(" ")[2])
            elif line.startswith("Status Listen"):
                site.status = int(line.rpartition(" ")[2])
            elif line.startswith("Control"):
                break
        try:
            yield site
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)
    assert "Traceback" not in (folder / "log").read_text()


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
        evil.sendmail("a@example.org", ["b@example.com"], "Subject: x\r\n\r\n")
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            evil.sendmail("a@example.org", ["b@elsewhere.example"], "")
        wait(driver, lambda: "CN=client" in text(driver, "sessions") and "script" in text(driver, "sessions"))
        assert "verified" in text(driver, "sessions")
        assert text(driver, "sessions-total") == "2"
        wait(driver, lambda: "relaying denied" in text(driver, "refusals"))
        assert "1" in text(driver, "n-messages")
        assert "TLSv1.3: 2" in text(driver, "legend")
        assert re.search(r"verified\s+1\s+failed\s+1", text(driver, "outcomes"))
        # A certificate that is renewed shows itself, and what cannot be used is told.
        site.authority.issue("localhost", dns=["new.example"], ip=["127.0.0.1"]).write(tmp_path, "server")
        wait(driver, lambda: "new.example" in text(driver, "certificates"))
        assert "taken" in text(driver, "reloads")
        (tmp_path / "server.pem").write_text("junk")
        wait(driver, lambda: "NOT taken" in text(driver, "reloads") and "Not in force" in text(driver, "problems"))
        # By keyboard: the filter, and the details of a session.
        driver.find_element(By.ID, "filter").send_keys("CN=client")
        wait(driver, lambda: text(driver, "sessions-total") == "1 of 2")
        driver.switch_to.active_element.send_keys("\ue004")
        driver.switch_to.active_element.send_keys(" ")
        wait(
            driver,
            lambda: "tls_client_cert_fingerprint_sha256" in text(driver, "sessions"),
        )
        driver.find_element(By.ID, "filter").clear()
        driver.find_element(By.ID, "filter").send_keys("x\ue003")
        wait(driver, lambda: text(driver, "sessions-total") == "2")
        for width in (1200, 380):
            for dark in (False, True):
                picture(driver, "page", width, dark=dark)
        assert driver.title == "triosmtp"
        assert not driver.find_elements(By.CSS_SELECTOR, "main script, main img")
        assert driver.execute("getLog", {"type": "browser"})["value"] == []
        good.quit()
        evil.quit()
        wait(driver, lambda: text(driver, "sessions-total") == "0")
        site.process.send_signal(signal.SIGTERM)
        wait(driver, lambda: "connection lost" in text(driver, "state"))


def test_nobody_looks_without_the_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text(f"{TOKEN}\n")
    with serving(tmp_path, f'Token_File = "{token}"') as site, browser(tmp_path) as driver:
        driver.get(site.url)
        assert driver.current_url.endswith("/login")
        driver.find_element(By.ID, "token").send_keys("wrong\n")
        wait(driver, lambda: not driver.find_element(By.ID, "token").get_attribute("value"))
        picture(driver, "login", 380, dark=True)
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
                urllib.request.urlopen(request, timeout=PATIENCE)
            assert refused.value.code in {401, 421}
            refused.value.close()
        driver.find_element(By.CSS_SELECTOR, "#logout button").click()
        wait(driver, lambda: driver.current_url.endswith("/login"))
        driver.get(site.url)
        assert driver.current_url.endswith("/login")


def test_top_in_a_terminal(tmp_path: Path) -> None:
    with serving(tmp_path) as site:
        subprocess.run(site.top("--once"), check=True, capture_output=True)  # from now on it is watched
        with site.session("stranger") as evil:
            evil.docmd("VRFY", "\x1b[2Jx")
            once = subprocess.run(site.top("--once"), check=True, capture_output=True, text=True).stdout
            assert "localhost" in once
            assert "SOON" in once
            assert re.search(r"127\.0\.0\.1:\d+ .*TLSv1\.3 ", once)
            assert "\x1b" not in once
            main, worker = pty.openpty()
            environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
            process = subprocess.Popen(
                site.top("--interval", "0.2"), stdin=worker, stdout=worker, stderr=worker, env=environment
            )
            os.close(worker)
            screen = read_until(main, lambda seen: seen.count("\x1b[H") >= 3)
            frame = screen.split("\x1b[H")[-2]
            assert frame.count("\r\n") <= 23
            shown = [re.sub(r"\x1b\[[?0-9]*[A-Za-z]", "", line).strip("\r") for line in frame.split("\r\n")]
            assert max(map(len, shown)) <= 80, shown
            assert "\x1b[2J" not in screen
            os.write(main, b"/nobody-of-that-name\r")
            read_until(main, lambda seen: "filter: nobody-of-that-name\x1b" in seen)
            os.write(main, b"q")
            rest = read_until(main, lambda seen: "\x1b[?1049l" in seen)
            assert rest.endswith("\x1b[?1049l")
            assert process.wait(PATIENCE) == 0
            os.close(main)
    done = subprocess.run(site.top("--once"), check=False, capture_output=True, text=True)
    assert done.returncode == 69
    assert "is it running?" in done.stderr


def read_until(terminal: int, enough: Callable[[str], bool]) -> str:
    seen, end = "", time.monotonic() + PATIENCE
    while not enough(seen):
        assert select.select([terminal], [], [], max(0.0, end - time.monotonic()))[0], seen
        seen += os.read(terminal, 65536).decode("utf-8", "replace")
    return seen


def test_every_file_of_the_page_is_in_the_wheel() -> None:
    """What is packaged is what lies in the package."""
    static = Path(__file__).parents[2] / "triosmtp" / "daemon" / "status" / "static"
    assert {each.name for each in static.iterdir()} == {"page.html", "page.css", "page.js", "login.html"}
    ignore = Path(static.parents[3] / ".gitignore").read_text()
    assert "static" not in ignore
    assert not any(re.search(r"https?://(?!www\.w3\.org)", each.read_text()) for each in static.iterdir())
