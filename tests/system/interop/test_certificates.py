"""Every client, with every kind of certificate, over both versions of TLS: the session goes on, and policy knows which.

The server is the stanza as it is pasted, in a process of its own; the clients are the programs that people use.
"""

import smtplib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from mail_client import CLIENTS, Errand, Identity, Outcome, Version
from private_postfix import Postfix, Route, running_postfix
from stanza_server import Letter, StanzaServer, serving

from triosmtp.x509.authority import Authority, Credential

VERSIONS: Final[tuple[Version, ...]] = ("TLSv1.2", "TLSv1.3")
CA_NAME: Final = "interop CA"
EXPECTED_ERROR: Final = {
    "good": None,
    "expired": "certificate has expired",
    "self-signed": "self-signed certificate",
    "foreign": "unable to get local issuer certificate",
    # The same two, but with the name of the server's own authority on them.
    "impostor": "self-signed certificate",
    "foreign-impostor": "unable to get local issuer certificate",
    "none": "no certificate presented",
}
PRESENTED: Final = tuple(kind for kind in EXPECTED_ERROR if kind != "none")
WITHHELD: Final = ("self-signed", "foreign")
"""What GnuTLS, and so msmtp, does not present: the server names its authorities, and no such name stands on these."""
CASES: Final = [(client, kind) for client in CLIENTS for kind in PRESENTED if client != "msmtp" or kind not in WITHHELD]
REFUSAL: Final = "550 5.7.1 A client certificate is required"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ca.pem, the server's certificate, and one of each kind for a client."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = Authority.create(CA_NAME)
    (folder / "ca.pem").write_bytes(authority.certificate_pem)
    authority.issue("localhost", dns=["localhost"], usage=["server"]).write(folder, "server")
    yesterday = datetime.now(UTC) - timedelta(days=1)
    for kind, credential in {
        "good": authority.issue("good.client.example", usage=["client"]),
        "expired": authority.issue("expired.client.example", usage=["client"], not_after=yesterday),
        "self-signed": self_signed("self-signed.client.example"),
        "foreign": Authority.create("stranger's CA").issue("foreign.client.example", usage=["client"]),
        "impostor": self_signed(CA_NAME),
        "foreign-impostor": Authority.create(CA_NAME).issue("foreign-impostor.client.example", usage=["client"]),
    }.items():
        credential.write(folder, kind)
    return folder


@pytest.fixture(scope="module")
def server(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StanzaServer]:
    """Yield the stanza with a policy that records."""
    with serving(tmp_path_factory.mktemp("stanza"), certificates, '"python:recorder:Recorder"') as server:
        yield server


@pytest.fixture(scope="module")
def waiving_server(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StanzaServer]:
    """Yield the same with a policy behind it that waives the demand for a certificate."""
    policies = '"python:recorder:Recorder" "python:recorder:Waiver"'
    with serving(tmp_path_factory.mktemp("waiving"), certificates, policies) as server:
        yield server


@pytest.fixture(scope="module")
def implicit_server(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StanzaServer]:
    """Yield the same with TLS from the first byte."""
    edit = {'SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" )': "Use_SSL = true"}
    folder = tmp_path_factory.mktemp("implicit")
    with serving(folder, certificates, '"python:recorder:Recorder"', edit) as server:
        yield server


@pytest.fixture(scope="module")
def postfix(certificates: Path, server: StanzaServer, waiving_server: StanzaServer) -> Iterator[Postfix]:
    """Yield a Postfix with a route for each certificate and version, two for those without a certificate."""
    routes = []
    for version in VERSIONS:
        for kind in (*PRESENTED, "none"):
            routes.append(Route(f"{kind}-{version}.example.com", server.port, identity(certificates, kind), version))
        routes.append(Route(f"waived-{version}.example.com", waiving_server.port, None, version))
    with running_postfix(certificates / "ca.pem", routes) as running:
        yield running


def self_signed(name: str) -> Credential:
    lone = Authority.create(name)
    return Credential((lone.certificate,), lone.key)


def subject(kind: str) -> str | None:
    names = {"none": None, "impostor": f"CN={CA_NAME}"}
    return names.get(kind, f"CN={kind}.client.example")


def identity(certificates: Path, kind: str) -> Identity | None:
    if kind == "none":
        return None
    return Identity(certificates / f"{kind}.pem", certificates / f"{kind}.key")


def errand(
    server: StanzaServer, certificates: Path, kind: str, version: Version, folder: Path, *, implicit: bool = False
) -> Errand:
    letter = Letter(f"{folder.name}@example.org", "you@example.com")
    ca = certificates / "ca.pem"
    return Errand(server.port, ca, letter, identity(certificates, kind), version, folder, implicit)


def assert_arrived(server: StanzaServer, letter: Letter, kind: str, version: Version) -> None:
    """Return the message lies in the Maildir, whole, and the variables tell what the client was."""
    [message] = server.mail(letter.sender)
    assert message["Delivered-To"] == letter.recipient
    assert message["Subject"] == "interop"
    assert str(message.get_payload()).splitlines() == letter.text.splitlines()[2:]
    [seen] = server.records(letter.sender)
    verified = kind == "good"
    assert seen["tls"] == "on"
    assert seen["tls_protocol"] == version
    assert seen["tls_client_verified"] == ("yes" if verified else "no")
    assert seen.get("tls_client_verify_error") == EXPECTED_ERROR[kind]
    assert seen.get("tls_client_cert_subject") == subject(kind)
    assert version.removeprefix("TLSv") in message["Received"]


def assert_refused(server: StanzaServer, letter: Letter, outcome: Outcome) -> None:
    assert not outcome.sent
    assert REFUSAL in outcome.output
    assert server.mail(letter.sender) == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("client", "kind"), CASES)
def test_with_a_certificate(
    client: str, kind: str, version: Version, server: StanzaServer, certificates: Path, tmp_path: Path
) -> None:
    task = errand(server, certificates, kind, version, tmp_path)
    outcome = CLIENTS[client](task)
    assert outcome.sent, outcome.output
    assert_arrived(server, task.letter, kind, version)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("client", CLIENTS)
def test_without_a_certificate_mail_is_refused(
    client: str, version: Version, server: StanzaServer, certificates: Path, tmp_path: Path
) -> None:
    task = errand(server, certificates, "none", version, tmp_path)
    assert_refused(server, task.letter, CLIENTS[client](task))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("client", CLIENTS)
def test_without_a_certificate_a_policy_may_take_the_mail(
    client: str, version: Version, waiving_server: StanzaServer, certificates: Path, tmp_path: Path
) -> None:
    task = errand(waiving_server, certificates, "none", version, tmp_path)
    outcome = CLIENTS[client](task)
    assert outcome.sent, outcome.output
    assert_arrived(waiving_server, task.letter, "none", version)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", WITHHELD)
def test_msmtp_with_a_certificate_that_it_keeps_to_itself(
    kind: str, version: Version, server: StanzaServer, waiving_server: StanzaServer, certificates: Path, tmp_path: Path
) -> None:
    task = errand(server, certificates, kind, version, tmp_path)
    assert_refused(server, task.letter, CLIENTS["msmtp"](task))
    task = errand(waiving_server, certificates, kind, version, tmp_path)
    outcome = CLIENTS["msmtp"](task)
    assert outcome.sent, outcome.output
    assert_arrived(waiving_server, task.letter, "none", version)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", PRESENTED)
def test_postfix_with_a_certificate(kind: str, version: Version, postfix: Postfix, server: StanzaServer) -> None:
    letter = Letter(f"postfix-{kind}-{version}@example.org", f"you@{kind}-{version}.example.com")
    outcome = postfix.send(letter)
    assert outcome.sent, outcome.output
    assert_arrived(server, letter, kind, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_postfix_without_a_certificate(
    version: Version, postfix: Postfix, server: StanzaServer, waiving_server: StanzaServer
) -> None:
    refused = Letter(f"postfix-none-{version}@example.org", f"you@none-{version}.example.com")
    outcome = postfix.send(refused)
    assert_refused(server, refused, outcome)
    assert "status=bounced" in outcome.output
    waived = Letter(f"postfix-waived-{version}@example.org", f"you@waived-{version}.example.com")
    outcome = postfix.send(waived)
    assert outcome.sent, outcome.output
    assert_arrived(waiving_server, waived, "none", version)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["good", "expired"])
@pytest.mark.parametrize("client", CLIENTS)
def test_tls_from_the_first_byte(
    client: str, kind: str, version: Version, implicit_server: StanzaServer, certificates: Path, tmp_path: Path
) -> None:
    task = errand(implicit_server, certificates, kind, version, tmp_path, implicit=True)
    outcome = CLIENTS[client](task)
    assert outcome.sent, outcome.output
    assert_arrived(implicit_server, task.letter, kind, version)


def test_require_does_not_affect_a_session_without_tls(server: StanzaServer, tmp_path: Path) -> None:
    letter = Letter(f"{tmp_path.name}@example.org", "you@example.com")
    with smtplib.SMTP("localhost", server.port) as client:
        client.sendmail(letter.sender, [letter.recipient], letter.text)
    [seen] = server.records(letter.sender)
    assert not {name for name in seen if name.startswith("tls")}
