"""Short commands import what they need: most of what they took was the import of the server."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from OpenSSL import SSL

from triosmtp.auth import SCHEMES
from triosmtp.cli import PASSWORD_SCHEMES
from triosmtp.version import openssl_version

HEAVY = {
    "OpenSSL", "anyio", "argon2", "asyncio", "cryptography", "scramp", "ssl", "starlette", "prometheus_client", "trio",
    "trio_websocket", "watchfiles", "triosmtp.auth", "triosmtp.control.console_commands", "triosmtp.delivery",
    "triosmtp.event", "triosmtp.policy", "triosmtp.server", "triosmtp.smtp", "triosmtp.tls",
}  # fmt: skip
CONFIG = {"triosmtp.config"}


def imported(folder: Path, *words: str, status: int = 0, text: str = "") -> set[str]:
    """Run a command and return the names of all modules that it imported."""
    conf = folder / "test.conf"
    conf.write_text(
        'ESMTP_Listener { Listen "127.0.0.1:2525" { } }\nControl_Listener { Listen "/nowhere/control" { } }\n' + text
    )
    command = [sys.executable, "-X", "importtime", "-m", "triosmtp", *(word.format(conf=conf) for word in words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stderr
    return set(re.findall(r"^import time:.*\| +(\S+)$", done.stderr, re.MULTILINE))


@pytest.mark.parametrize(
    ("words", "status", "allowed"),
    [
        (["--version"], 0, {"cryptography"}),  # which knows the version of OpenSSL
        (["--help"], 0, set()),
        (["reload", "--control", "/nowhere/control"], 69, set()),
        (["reload", "-c", "{conf}"], 69, CONFIG),
        (["console", "--control", "/nowhere/control", "show", "version"], 69, set()),
        (["console", "--control", "/nowhere/control"], 0, set()),
        (["top", "--once", "--control", "/nowhere/control"], 69, set()),
        (["tls", "show", "--running", "--control", "/nowhere/control"], 69, set()),
        (["config", "show", "-c", "{conf}"], 0, CONFIG),
        (["config", "showrecurse", "-c", "{conf}"], 0, CONFIG),
        (["config", "get", "-c", "{conf}", "Idle_Time"], 1, CONFIG),
        (["config", "eval", "-c", "{conf}", "ESMTP_Listener", "Idle_Time"], 0, CONFIG),
        (["config", "options"], 0, CONFIG),
        (["passwd", "--list", "/nowhere/passwords"], 0, {"argon2", "scramp", "ssl", "triosmtp.auth"}),
        (["examples", "/dev/null"], 73, set()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_imports_nothing_heavy(tmp_path: Path, words: list[str], status: int, allowed: set[str]) -> None:
    found = imported(tmp_path, *words, status=status)
    assert "triosmtp.cli" in found
    assert found & ((HEAVY | CONFIG) - allowed) == set()


SERVING = {
    "anyio", "starlette", "prometheus_client", "trio_websocket", "watchfiles", "triosmtp.policy_service.hub",
    "triosmtp.status.listener", "triosmtp.sockets.listener", "triosmtp.server.server", "triosmtp.server.session.driver",
    "triosmtp.tls.watcher",
}  # fmt: skip


def test_check_imports_what_the_configuration_names_and_nothing_that_serves(tmp_path: Path) -> None:
    found = imported(tmp_path, "check", "-c", "{conf}", status=78)
    assert "triosmtp.server.profile" in found
    assert found & SERVING == set()
    policy = tmp_path / "policy"
    policy.mkdir()
    text = 'Policy = "websocket:x"\nPolicy_Listener { Listen "127.0.0.1:2526" { } }\n'
    assert "triosmtp.policy_service.hub" in imported(policy, "check", "-c", "{conf}", status=78, text=text)


def test_the_words_of_the_command_line_are_those_of_the_modules_that_it_does_not_import() -> None:
    assert (*SCHEMES, "cleartext") == PASSWORD_SCHEMES
    assert openssl_version() == SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode("ascii")
