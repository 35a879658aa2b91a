"""The example policy, met by real programs: it refuses at MAIL FROM, and the session ends with QUIT in good order."""

import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mail_client import Errand, Identity, Version, s_client, send_by_swaks
from serve_process import REPOSITORY
from stanza_server import Letter, StanzaServer, run_conf

from triosmtp.x509.authority import Authority

REFUSAL = "550 5.7.1 Your TLS client certificate could not be verified"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StanzaServer]:
    """Yield the example as it is, beside certificates of its own; only the port is a free one."""
    folder = tmp_path_factory.mktemp("example") / "reject_unverified"
    shutil.copytree(REPOSITORY / "examples" / "reject_unverified", folder)
    authority = Authority.create()
    (folder / "ca.pem").write_bytes(authority.certificate_pem)
    authority.issue("localhost", dns=["localhost"], usage=["server"]).write(folder, "server")
    authority.issue("good.client.example", usage=["client"]).write(folder, "good")
    yesterday = datetime.now(UTC) - timedelta(days=1)
    authority.issue("expired.client.example", usage=["client"], not_after=yesterday).write(folder, "expired")
    conf = folder / "triosmtp.conf"
    conf.write_text(conf.read_text().replace('"127.0.0.1:2525"', '"127.0.0.1:0"'))
    with run_conf(conf) as server:
        yield server


def errand(server: StanzaServer, kind: str, version: Version, folder: Path) -> Errand:
    identity = None if kind == "none" else Identity(server.folder / f"{kind}.pem", server.folder / f"{kind}.key")
    letter = Letter(f"{folder.name}@example.org", "you@example.com")
    return Errand(server.port, server.folder / "ca.pem", letter, identity, version, folder)


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("kind", ["expired", "none"])
def test_the_same_session_goes_on_and_can_quit(
    kind: str, version: Version, server: StanzaServer, tmp_path: Path
) -> None:
    with s_client(errand(server, kind, version, tmp_path)) as session:
        assert session.say("EHLO client.example").startswith("250 ")
        assert session.say("MAIL FROM:<me@example.org>") == REFUSAL
        assert session.say("NOOP") == "250 2.0.0 Ok"
        assert session.say("RCPT TO:<you@example.com>").startswith("503 ")
        assert session.say("MAIL FROM:<other@example.org>") == REFUSAL
        session.quit()


@pytest.mark.parametrize("kind", ["expired", "none"])
def test_swaks_is_refused_and_quits(kind: str, server: StanzaServer, tmp_path: Path) -> None:
    outcome = send_by_swaks(errand(server, kind, "TLSv1.3", tmp_path))
    assert not outcome.sent
    said = re.findall(r"^ ?(?:~>|<~\*?|<\*\*) (.*)$", outcome.output, re.MULTILINE)
    assert [line.strip() for line in said[-3:-2]] == [REFUSAL], outcome.output
    assert said[-2].strip() == "QUIT"
    assert said[-1].strip().startswith("221 ")


def test_mail_with_a_verified_certificate_arrives(server: StanzaServer, tmp_path: Path) -> None:
    task = errand(server, "good", "TLSv1.3", tmp_path)
    outcome = send_by_swaks(task)
    assert outcome.sent, outcome.output
    [message] = server.mail(task.letter.sender)
    assert message["Subject"] == "interop"


def test_the_log_says_why(server: StanzaServer, tmp_path: Path) -> None:
    send_by_swaks(errand(server, "expired", "TLSv1.3", tmp_path))
    lines = [line for line in server.log.read_text().splitlines() if " refused " in line and tmp_path.name in line]
    assert len(lines) == 1
    assert "decided_by=python:RequireVerified" in lines[0]
    assert "certificate has expired" in lines[0]
