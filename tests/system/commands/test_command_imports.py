"""Short commands import what they need: most of what they took was the import of the server."""

import subprocess
import sys
from pathlib import Path

import pytest
from OpenSSL import SSL

from triosmtp.auth import SCHEMES
from triosmtp.cli import PASSWORD_SCHEMES
from triosmtp.version import openssl_version
from triosmtp.x509.authority import write_development_set

HEAVY = {
    "OpenSSL", "anyio", "argon2", "asyncio", "cryptography", "scramp", "ssl", "starlette", "prometheus_client", "trio",
    "trio_websocket", "watchfiles", "triosmtp.auth", "triosmtp.control.console_commands", "triosmtp.delivery",
    "triosmtp.event", "triosmtp.policy", "triosmtp.server", "triosmtp.smtp", "triosmtp.tls",
}  # fmt: skip
CONFIG = {"triosmtp.config"}
RUN = """
import sys
from triosmtp.cli import main
try:
    sys.exit(main())
finally:
    print("MODULES", *sys.modules, sep="\\n", file=sys.stderr)
"""


def imported(folder: Path, *words: str, status: int = 0, text: str = "") -> set[str]:
    """Run a command and return the names of all modules that it imported."""
    conf = folder / "test.conf"
    conf.write_text(
        'ESMTP_Listener { Listen "127.0.0.1:2525" { } }\nControl_Listener { Listen "/nowhere/control" { } }\n' + text
    )
    command = [sys.executable, "-c", RUN, *(word.format(conf=conf) for word in words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stderr
    return set(done.stderr.partition("MODULES\n")[2].splitlines())


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
    "anyio", "starlette", "prometheus_client", "trio_websocket", "watchfiles", "triosmtp.logs.event_log",
    "triosmtp.policy_service.hub", "triosmtp.server.server", "triosmtp.server.service",
    "triosmtp.server.session.driver", "triosmtp.sockets.listener", "triosmtp.status.status_listener",
    "triosmtp.tls.handshake", "triosmtp.tls.certificate_renewal",
}  # fmt: skip
OF_AUTH = {"argon2", "scramp"}
OF_TLS = {"OpenSSL", "cryptography"}
UNUSED = {
    "cryptography.x509.name", "triosmtp.auth.mechanism", "triosmtp.delivery.target_watch", "triosmtp.event",
    "triosmtp.message.message", "triosmtp.server.auth_service", "triosmtp.smtp.protocol_event", "trio._core",
}  # fmt: skip
CERTIFICATE = 'TLS_Certificate = "/nowhere/server.pem"\n'
PASSWORDS = 'SMTP_Extensions = ( "AUTH PLAIN" )\nAuthPlainParameters = [ uri = "file:///nowhere/passwords" ]\n'
POLICY = 'Policy = "websocket:x"\nPolicy_Listener { Listen "127.0.0.1:2526" { } }\n'
LOG = 'Log "syslog" { }\n'


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("", set()),
        (CERTIFICATE, OF_TLS),
        (PASSWORDS, OF_AUTH),
        (POLICY, {"triosmtp.policy_service.hub"}),
        (LOG, {"triosmtp.logs.event_log"}),
    ],
    ids=["plain", "TLS", "AUTH", "policy", "syslog"],
)
def test_check_imports_what_the_configuration_needs(tmp_path: Path, text: str, needed: set[str]) -> None:
    found = imported(tmp_path, "check", "-c", "{conf}", status=78, text=text)
    assert "triosmtp.server.profile" in found
    if "triosmtp.policy_service.hub" in needed:
        assert needed <= found
    else:
        assert found & (SERVING | OF_AUTH | OF_TLS) == needed


def test_check_of_a_valid_tls_configuration_imports_neither_trio_nor_what_sessions_use(tmp_path: Path) -> None:
    write_development_set(tmp_path)
    text = f'TLS_Certificate = "{tmp_path}/server.pem"\nTLS_Key = "{tmp_path}/server.key"\n'
    found = imported(
        tmp_path, "check", "-c", "{conf}", status=78, text=text + f'Deliver_To = "maildir:{tmp_path}/mail"\n'
    )
    assert {"triosmtp.tls.context", "triosmtp.delivery.maildir"} <= found
    assert found & (SERVING | OF_AUTH | UNUSED) == set()


@pytest.mark.parametrize("command", ["show", "check"])
def test_tls_commands_import_nothing_that_serves(tmp_path: Path, command: str) -> None:
    found = imported(tmp_path, "tls", command, "-c", "{conf}")
    assert "triosmtp.server.tls_report" in found
    assert found & (SERVING | OF_AUTH) == set()


def test_the_words_of_the_command_line_are_those_of_the_modules_that_it_does_not_import() -> None:
    assert (*SCHEMES, "cleartext") == PASSWORD_SCHEMES
    assert openssl_version() == SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode("ascii")
