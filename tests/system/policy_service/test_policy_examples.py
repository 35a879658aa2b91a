"""The deciders of examples/policy_service, and the tutorial's steps, with swaks and a certificate that fails."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from policy_server import ENVIRONMENT, Program, running
from serve_process import REPOSITORY

from triosmtp.daemon import embedded_default

EXAMPLE = REPOSITORY / "examples" / "policy_service"
MUST = os.environ.get("CI") == "true"


def need(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing and MUST:
        pytest.fail(f"{missing} must be here")
    if missing:
        pytest.skip(f"{missing} are missing")


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which `npm install` was run, as the example demands."""
    need("node", "npm")
    folder = tmp_path_factory.mktemp("npm")
    shutil.copy(EXAMPLE / "package.json", folder)
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=folder, check=True, timeout=120)
    return folder / "node_modules"


class Site:
    """A copy of the example, served on other ports, as the tutorial sets it up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.policy_port = self.port = 0

    def swaks(self, certificate: str | None, *, tls: bool = True) -> tuple[int, str]:
        more = ["--tls-cert", f"certificates/{certificate}.pem", "--tls-key", f"certificates/{certificate}.key"]
        done = subprocess.run(
            ["swaks", "--server", f"127.0.0.1:{self.port}", *(["--tls"] if tls else []),
             *(more if certificate else []), "--from", "a@example.org", "--to", "you@example.com"],
            cwd=self.folder, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        return done.returncode, done.stdout

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.policy_port}/"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    need("swaks")
    folder = tmp_path / "site"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    made = embedded_default.write_embedded_default().parent
    (folder / "certificates").mkdir()
    for file in made.iterdir():
        if file.suffix in {".pem", ".key"}:
            shutil.copy(file, folder / "certificates")
    subprocess.run(tutorial_step("umask"), shell=True, cwd=folder, check=True, executable="/bin/bash")
    conf = folder / "triosmtp.conf"
    conf.write_text(conf.read_text().replace("127.0.0.1:2525", "127.0.0.1:0").replace("127.0.0.1:8025", "127.0.0.1:0"))
    found = Site(folder)
    command = [
        sys.executable,
        "-m",
        "triosmtp",
        "serve",
        "-c",
        "triosmtp.conf",
        "--control",
        str(tmp_path / "control"),
    ]
    with running(command, folder, "serve") as server:
        found.port = int(server.until(r"^Listen .* port (\d+)")[1])
        found.policy_port = int(server.until(r'^Policy Listen "127.* port (\d+)')[1])
        yield found


def tutorial_step(word: str) -> str:
    """Return the command of the tutorial that contains a word."""
    text = (REPOSITORY / "docs" / "policy-tutorial.md").read_text()
    (found,) = [
        block for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if word in block
    ]  # each step is a block of its own
    assert isinstance(found, str)
    return found.strip()


def judged(site: Site, decider: Program) -> None:
    decider.until("ready")
    code, output = site.swaks("untrusted")
    assert code != 0
    assert "550 5.7.1 A valid client certificate is required: " in output
    code, output = site.swaks(None)
    assert "550 5.7.1 A valid client certificate is required: no certificate presented" in output
    code, output = site.swaks(None, tls=False)
    assert code != 0
    assert "530 5.7.0 Must issue a STARTTLS command first" in output
    code, output = site.swaks("client")
    assert code == 0, output


def test_the_tutorials_certificates_are_those_that_serve_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    made = {path.name for path in embedded_default.write_embedded_default().parent.iterdir()}
    text = (EXAMPLE / "triosmtp.conf").read_text() + (REPOSITORY / "docs" / "policy-tutorial.md").read_text()
    named = set(re.findall(r"certificates/([a-z_-]+\.(?:pem|key))", text))
    assert named
    assert named <= made


def test_with_the_client_library(site: Site) -> None:
    with running([sys.executable, "partners_trio.py", site.url, "token"], site.folder, "decider") as decider:
        judged(site, decider)


def test_with_asyncio(site: Site) -> None:
    with running([sys.executable, "partners_asyncio.py", site.url, "token"], site.folder, "decider") as decider:
        judged(site, decider)


def test_attachments_by_the_unix_socket(site: Site) -> None:
    program = site.folder / "setup.exe"
    program.write_bytes(b"MZ" + b"x" * 100_000)
    command = [sys.executable, "attachments_trio.py", f"unix:{site.folder}/policy.sock"]
    with running(command, site.folder, "decider") as decider:
        decider.until("ready")
        for attached, expected in (("token", "250 2.0.0 Ok"), ("setup.exe", "550 5.7.1 Programs are not accepted")):
            done = subprocess.run(
                ["swaks", "--server", f"127.0.0.1:{site.port}", "--from", "a@example.org", "--to", "you@example.com",
                 "--attach-type", "application/octet-stream", "--attach", f"@{attached}"],
                cwd=site.folder, capture_output=True, text=True, check=False, timeout=60,
            )  # fmt: skip
            assert expected in done.stdout, done.stdout[-2000:]


def test_with_node(site: Site, modules: Path) -> None:
    (site.folder / "node_modules").symlink_to(modules)
    assert "node partners.mjs" in tutorial_step("npm install")
    with running(["node", "partners.mjs", site.url, "token"], site.folder, "decider") as decider:
        judged(site, decider)


def test_with_a_shell(site: Site, modules: Path) -> None:
    need("jq")
    (site.folder / "node_modules").symlink_to(modules)
    command = ["./partners.sh", "node", "lines.mjs", site.url, "token"]
    with running(command, site.folder, "decider") as decider:
        judged(site, decider)


def test_in_shadow_first(site: Site, modules: Path) -> None:
    (site.folder / "node_modules").symlink_to(modules)
    conf = site.folder / "triosmtp.conf"
    assert 'Policy = ( "websocket:partners" )' in conf.read_text()
    with running(["node", "partners.mjs", site.url, "token", "shadow"], site.folder, "decider") as decider:
        decider.until("ready")
        _, output = site.swaks("untrusted")
        assert "451 4.3.0" in output  # a decider in shadow does not count, so the group's fallback stands
        report = [sys.executable, "-m", "triosmtp", "policy", "report", "--url", site.url, "--token-file", "token"]
        done = subprocess.run(report, cwd=site.folder, env=ENVIRONMENT, capture_output=True, text=True, check=True)
        assert "partners/partners-node in shadow" in done.stdout
