"""The fixtures of the pytest plugin."""

import tomllib
from pathlib import Path

from pytest_run import pytest_of

ROOT = Path(__file__).parents[2]


PLAIN = """
import smtplib, sys
import pytest

def test_nothing_is_imported():
    assert "triosmtp.pytest_plugin" in sys.modules
    imported = {name for name in sys.modules if name.startswith("triosmtp.")}
    assert imported - {"triosmtp.lazy_import"} == {"triosmtp.pytest_plugin"}
    assert not {"trio", "pytest_trio", "OpenSSL", "attrs"} & set(sys.modules)
"""
FIXTURES = """
import smtplib
import pytest

class Test:
    @pytest.fixture
    def smtp_server_options(self):
        return "Max_Message_Size = 100"

    @pytest.fixture
    def smtp_server_users(self):
        return {"joe": "secret"}

    def test_overridden(self, smtp_server):
        with smtplib.SMTP(smtp_server.hostname, smtp_server.port) as client:
            client.login("joe", "secret")
            with pytest.raises(smtplib.SMTPSenderRefused):
                client.sendmail("a@example.org", ["b@x.example"], "x" * 200)

def test_plain(smtp_server):
    with smtplib.SMTP(smtp_server.hostname, smtp_server.port) as client:
        client.sendmail("a@example.org", ["b@x.example"], "Subject: x\\r\\n\\r\\n")
    (message,) = smtp_server.messages
    assert message.sender == "a@example.org"

def test_tls(smtp_server_tls):
    certificate = smtp_server_tls.authority.issue("client", dns=["client.example"])
    with smtplib.SMTP("localhost", smtp_server_tls.port) as client:
        client.starttls(context=smtp_server_tls.client_context(certificate))
        client.login("user", smtp_server_tls.users["user"])
        client.sendmail("a@example.org", ["b@x.example"], "Subject: x\\r\\n\\r\\n")
    assert smtp_server_tls.messages[0].variables["tls_client_verified"] == "yes"
    assert [type(event).__name__ for event in smtp_server_tls.events][:2] == ["Connected", "TLSEstablished"]

def test_no_trio_plugin(request):
    assert not request.config.pluginmanager.hasplugin("trio")
"""


def test_the_plugin_imports_nothing_until_a_fixture_is_requested(tmp_path: Path) -> None:
    (tmp_path / "test_plain.py").write_text(PLAIN)
    # The other plugins of this environment import attrs and more of their own accord.
    done = pytest_of(tmp_path, "-p", "triosmtp.pytest_plugin", "-p", "no:hypothesispytest", "-p", "no:anyio")
    assert "1 passed" in done.stdout, done.stdout


def test_the_fixtures(tmp_path: Path) -> None:
    (tmp_path / "test_fixtures.py").write_text(FIXTURES)
    done = pytest_of(tmp_path, "-p", "triosmtp.pytest_plugin", "-W", "error")
    assert "4 passed" in done.stdout, done.stdout
    assert "triosmtp" not in done.stderr


def test_the_package_announces_the_plugin() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["pytest11"] == {"triosmtp.pytest_plugin": "triosmtp.pytest_plugin"}
