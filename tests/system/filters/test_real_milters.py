"""Debian's rspamd, OpenDKIM, OpenDMARC and clamav-milter, asked by `triosmtp serve`."""

import os
import re
import signal
import smtplib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from attrs import define
from filter_site import filter_folder, message, started_tls
from milter_daemons import AUTHSERV_ID, GTUBE, MILTERS, VIRUS, Daemon, clamd
from policy_server import Program, running
from serve_process import COMMAND

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the milters are started as root")

CONF = """
Relay_Domains = ( "example.com" )
Deliver_To = "maildir:mail"
Banner_Hostname = "{id}"
TLS_Certificate = "server.pem"
TLS_Key = "server.key"
TLS_Client_CA = "ca.pem"
SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" )
Policy_Timeout = 0.5
Policy_Fallback_Phases = [ "connect" = "continue" ]
{filters}
ESMTP_Listener {{ {listens} }}
"""
LISTENS = {
    "rspamd": ("rspamd",),
    "dkim": ("dkim",),
    "mark": ("dkim", "dmarc"),
    "clamav": ("clamav",),
    "all": tuple(MILTERS),
}
BODY = b"From: a@example.org\r\nTo: you@example.com\r\nDate: Mon, 30 Nov 2026 00:00:00 +0000\r\n%b\r\nhello\r\n"


@define
class Site:
    """A server with a Listen for each chain of milters."""

    folder: Path
    daemons: dict[str, Daemon]
    program: Program
    places: dict[str, tuple[str, int]]
    """The address and port of each Listen."""

    def send(self, chain: str, certificate: str | None = None, body: bytes = BODY % b"") -> str:
        """Send one message; return the reply."""
        host, port = self.places[chain]
        return message(port, self.folder, certificate, body=body, host=host)

    def deliver(self, chain: str, certificate: str | None = None, body: bytes = BODY % b"") -> str:
        """Send one message; return it as it was delivered."""
        for each in (self.folder / "mail" / "new").glob("*"):
            each.unlink()
        reply = self.send(chain, certificate, body)
        assert reply.startswith("250"), reply
        (path,) = (self.folder / "mail" / "new").iterdir()
        return path.read_text()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with filter_folder() as folder, ExitStack() as stack:
        daemons = {}
        for make in (clamd, *MILTERS.values()):
            daemon = make(folder)
            daemons[daemon.socket.name] = daemon
            stack.callback(daemon.kill)
            daemon.start()
        filters = " ".join(f'Filter "{name}" {{ Connect_To = "milter:unix:{name}" }}' for name in MILTERS)
        listens, addresses = "", {}
        for number, (chain, names) in enumerate(LISTENS.items(), 1):
            addresses[chain] = f"127.0.0.{number}:0"
            policy = " ".join(f'"filter:{name}"' for name in names)
            listens += f'Listen "{addresses[chain]}" {{ Policy = ( {policy} ) }}\n'
        (folder / "t.conf").write_text(CONF.format(id=AUTHSERV_ID, filters=filters, listens=listens))
        command = [*COMMAND, "serve", "-c", str(folder / "t.conf"), "--control", str(folder / "control")]
        program = stack.enter_context(running(command, folder, "serve"))
        places = {}
        for chain, address in addresses.items():
            port = int(program.until(rf'^Listen "{re.escape(address)}": .* port (\d+)')[1])
            places[chain] = address.partition(":")[0], port
        program.until("^Control socket")
        yield Site(folder, daemons, program, places)


CERTIFICATES = [None, "", "good", "bad"]


@pytest.mark.parametrize("certificate", CERTIFICATES)
def test_rspamd_sees_the_facts_of_tls_and_changes_the_header(site: Site, certificate: str | None) -> None:
    found = site.deliver("rspamd", certificate, BODY % b"X-Remove: a\r\nX-Remove: b\r\n")
    version = "none" if certificate is None else "TLSv1.3"
    issuer = "client CA" if certificate == "good" else "none"
    assert f"X-Facts: tls={version} issuer={issuer} user=nil helo=client.example.org\n" in found
    assert "X-Remove" not in found
    assert found.index("Received:") < found.index("From: a@") < found.index("X-Facts:")


def test_rspamd_refuses_in_its_own_words(site: Site) -> None:
    assert site.send("rspamd", body=BODY % b"" + GTUBE + b"\r\n") == "554 5.7.1 Gtube pattern"


@pytest.mark.parametrize("certificate", CERTIFICATES)
def test_opendkim_signs_what_a_verified_client_sends(site: Site, certificate: str | None) -> None:
    found = site.deliver("dkim", certificate)
    assert ("DKIM-Signature:" in found) is (certificate == "good")
    assert ("dkim=none" in found) is (certificate != "good")


def test_opendmarc_reads_the_result_of_opendkim_and_no_forged_one(site: Site) -> None:
    signed = site.deliver("dkim", "good")
    body = signed[signed.index("DKIM-Signature:") :].replace("\n", "\r\n").encode()
    forged = f"Authentication-Results: {AUTHSERV_ID}; dkim=pass header.d=forged.example\r\n".encode()
    found = site.deliver("mark", "bad", forged + body)
    assert re.search(rf"Authentication-Results: {AUTHSERV_ID};\s+dkim=pass", found)
    assert re.search(rf"Authentication-Results: {AUTHSERV_ID}; dmarc=\w+ .*header\.from=example\.org", found)
    assert "forged.example" not in found
    # Ours is on top, above our Received; those of the milters are below it.
    ours, received = found.index("x-client-cert=fail"), found.index("Received:")
    assert ours < received < min(found.index("dkim=pass"), found.index("dmarc="))


@pytest.mark.parametrize("certificate", CERTIFICATES)
def test_clamav_finds_what_its_signature_finds(site: Site, certificate: str | None) -> None:
    assert "\nX-Virus-Status: Clean\n" in site.deliver("clamav", certificate)
    reply = site.send("clamav", certificate, BODY % b"" + VIRUS + b"\r\n")
    assert reply == "550 5.7.1 Infected by Test.Virus.UNOFFICIAL"


def test_all_of_them_change_one_message(site: Site) -> None:
    found = site.deliver("all", "good")
    assert all(name in found for name in ("X-Facts:", "DKIM-Signature:", "dmarc=", "X-Virus-Status:"))
    assert found.endswith("\n\nhello\n")


CHAINS = {"rspamd": "rspamd", "dkim": "dkim", "dmarc": "mark", "clamav": "clamav"}


@pytest.mark.parametrize("name", list(MILTERS))
def test_a_milter_that_is_killed_in_a_message_is_the_fallback_until_it_is_back(site: Site, name: str) -> None:
    daemon, (host, port) = site.daemons[name], site.places[CHAINS[name]]
    with smtplib.SMTP(host, port, timeout=30) as client:
        started_tls(client, site.folder, "good")
        assert client.docmd("MAIL FROM:<a@example.org>")[0] == 250
        assert client.docmd("RCPT TO:<you@example.com>")[0] == 250
        daemon.kill()
        try:
            code = client.docmd("DATA")[0]
            if code == 354:  # the milter does not want DATA
                client.send(BODY % b"" + b".\r\n")
                code = client.getreply()[0]
            assert code == 451
            assert client.docmd("MAIL FROM:<a@example.org>")[0] == 451
        finally:
            daemon.start()
        assert client.sendmail("a@example.org", ["you@example.com"], BODY % b"") == {}
    assert f"group=filter:{name} " in site.program.log


@pytest.mark.parametrize("name", list(MILTERS))
def test_a_milter_that_hangs_is_the_fallback_until_it_goes_on(site: Site, name: str) -> None:
    daemon, chain = site.daemons[name], CHAINS[name]
    daemon.signal(signal.SIGSTOP)
    try:
        assert site.send(chain, "good").startswith("451 4.3.0 Local error")
    finally:
        daemon.signal(signal.SIGCONT)
    assert site.send(chain, "good").startswith("250")
    assert re.search(rf'group=filter:{name} .*failure="timed out after 0\.5 s', site.program.log)
