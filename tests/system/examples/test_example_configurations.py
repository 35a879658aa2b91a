"""The examples that are configurations with a policy: served as their comments say, met by the clients that they name.

Only the port is another one, so that tests may run beside each other.
"""

import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from example_process import EXAMPLES, Program, commands, running, shell

from triosmtp.daemon import embedded_default


@pytest.fixture
def certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder with what `triosmtp serve` makes."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    return embedded_default.write_embedded_default().parent


@contextmanager
def serving(folder: Path) -> Iterator[int]:
    conf = folder / "triosmtp.conf"
    text = conf.read_text()
    assert text.count('"127.0.0.1:2525"') == 1
    conf.write_text(text.replace('"127.0.0.1:2525"', '"127.0.0.1:0"'))
    with running("-m", "triosmtp", "serve", "-c", str(conf)) as program:
        yield program.port()
        stop(program)


def stop(program: Program) -> None:
    program.signal(signal.SIGTERM)


def copy(example: str, certificates: Path, folder: Path) -> Path:
    shutil.copytree(EXAMPLES / example, folder / example, ignore=shutil.ignore_patterns("__pycache__"))
    for file in certificates.iterdir():
        if file.suffix in {".pem", ".key"}:
            shutil.copy(file, folder / example)
    return folder / example


def mails(folder: Path) -> int:
    return len(list((folder / "Maildir" / "new").glob("*")))


def test_reject_unverified(certificates: Path, tmp_path: Path) -> None:
    folder = copy("reject_unverified", certificates, tmp_path)
    verified, outsider = commands(folder / "triosmtp.conf", "swaks")
    with serving(folder) as port:
        done = shell(verified.replace("2525", str(port)), folder)
        assert done.returncode == 0, done.stdout
        assert mails(folder) == 1
        done = shell(outsider.replace("2525", str(port)), folder)
        assert "550 5.7.1 Your TLS client certificate could not be verified" in done.stdout
        assert done.stdout.rstrip().endswith("=== Connection closed with remote host.")
        assert "<~  221 " in done.stdout
        done = shell(
            outsider.replace("2525", str(port)).split(" -tls ")[0] + " -f me@example.org -t a@example.com", folder
        )
        assert "530 5.7.0 Must issue a STARTTLS command first" in done.stdout
    assert mails(folder) == 1


def test_client_certificate(certificates: Path, tmp_path: Path) -> None:
    folder = copy("client_certificate", certificates, tmp_path)
    [fingerprint] = commands(folder / "partners.py", "openssl")
    partners = folder / "partners.json"
    known = json.loads(partners.read_text())
    [placeholder] = known
    acme = shell(fingerprint.replace("partner.pem", "client.pem"), folder).stdout.split()[0]
    # A second one, whom no authority vouches for: the key says enough.
    other = shell(fingerprint.replace("partner.pem", "untrusted.pem"), folder).stdout.split()[0]
    other_entry = {"name": "other", "domains": ["other.example"]}
    partners.write_text(json.dumps({acme: known[placeholder], other: other_entry}))

    as_partner, as_unknown_client = commands(folder / "triosmtp.conf", "swaks")
    with serving(folder) as port:
        as_partner, as_unknown_client = (
            command.replace("2525", str(port)) for command in (as_partner, as_unknown_client)
        )
        done = shell(as_partner, folder)
        assert done.returncode == 0, done.stdout
        done = shell(as_partner.replace("acme.example", "bank.example"), folder)
        assert "550 5.7.1 acme does not send for this domain" in done.stdout
        done = shell(as_partner.replace("me@acme.example", "'<>'"), folder)
        assert done.returncode == 0, done.stdout
        as_other = as_partner.replace("client.", "untrusted.").replace("acme.example", "other.example")
        done = shell(as_other, folder)
        assert done.returncode == 0, done.stdout
        done = shell(as_unknown_client, folder)
        assert "550 5.7.1 relaying denied" in done.stdout
        done = shell(as_unknown_client.replace("anywhere.example", "example.com"), folder)
        assert done.returncode == 0, done.stdout
    assert mails(folder) == 4
