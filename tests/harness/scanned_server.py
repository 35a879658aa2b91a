"""`triosmtp serve` in a process of its own, with one port for STARTTLS and one for TLS from the first byte."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from attrs import frozen
from cryptography import x509
from serve_process import REPOSITORY, run_cleanly

from triosmtp.testing import Authority

CONFIGURATION = """
Relay_Domains = ( "example.com" )
Deliver_To = "discard:"
Spool_Directory = "{folder}/spool"
{everywhere}
ESMTP_Listener {{
  SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" )
  {options}
  Listen "127.0.0.1:0" {{ {in_listen} }}
  Listen "127.0.0.2:0" {{ Use_SSL = true {in_listen} }}
}}
"""
BOTH = """
  TLS_Certificate = ( "{folder}/rsa.pem" "{folder}/ecdsa.pem" )
  TLS_Key = ( "{folder}/rsa.key" "{folder}/ecdsa.key" )
"""
ONLY_RSA = """
  TLS_Certificate = "{folder}/rsa.pem"
  TLS_Key = "{folder}/rsa.key"
"""
ONLY_ECDSA = ONLY_RSA.replace("rsa.", "ecdsa.")


@cache
def authority() -> Authority:
    return Authority.create("Scanned Root")


def write_certificates(folder: Path) -> None:
    """Write what `BOTH` names, as a public authority issues it: with a place for revocations, which nobody asks."""
    place = x509.DistributionPoint([x509.UniformResourceIdentifier("http://crl.example.org/ca.crl")], None, None, None)
    revocations = x509.CRLDistributionPoints([place])
    (folder / "ca.pem").write_bytes(authority().certificate_pem)
    authority().issue("localhost", dns=["localhost"], key_type="RSA-2048", extensions=[(revocations, False)]).write(
        folder, "rsa"
    )
    authority().issue("localhost", dns=["localhost"], extensions=[(revocations, False)]).write(folder, "ecdsa")


@frozen
class Port:
    """Where to scan, and how."""

    host: str
    number: int
    starttls: bool

    def __str__(self) -> str:
        return f"{self.host}:{self.number}"


@frozen
class ScannedServer:
    """Its two ports."""

    starttls: Port
    tls: Port

    @property
    def ports(self) -> tuple[Port, Port]:
        return self.starttls, self.tls


@contextmanager
def serving(
    folder: Path, options: str = "", *, identity: str = BOTH, everywhere: str = "", in_listen: str = ""
) -> Iterator[ScannedServer]:
    """Serve with these options until the block is left; the log must hold no traceback then.

    `{folder}` in them is the folder; certificates are written there, if there are none.
    """
    if not (folder / "rsa.pem").exists():
        write_certificates(folder)
    parts = [each.replace("{folder}", str(folder)) for each in (everywhere, identity + options, in_listen)]
    configuration = folder / "triosmtp.conf"
    configuration.write_text(
        CONFIGURATION.format(folder=folder, everywhere=parts[0], options=parts[1], in_listen=parts[2])
    )
    with run_cleanly(
        "-c", str(configuration), log=folder / "log", control=folder / "control", cwd=REPOSITORY
    ) as server:
        ports = server.port('Listen "127.0.0.1:0"'), server.port('Listen "127.0.0.2:0"')
        yield ScannedServer(Port("127.0.0.1", ports[0], True), Port("127.0.0.2", ports[1], False))
