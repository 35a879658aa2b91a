"""Who is measured: for each server, its command line for a scenario, and which scenarios it takes part in."""

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from bench.client import Credentials
from bench.credential import make_credentials
from bench.process import Server, free_port, run_server
from bench.scenario import Scenario, Security

__all__ = ["RIVALS", "Rival", "open_rival"]


@frozen(slots=True)
class Rival:
    """One server.  ``command`` makes its command line from scenario, port, credentials, and a folder for its files."""

    name: str
    title: str
    takes: frozenset[Security]
    command: Callable[[Scenario, int, Credentials, Path], list[str]]


_EVERYTHING: frozenset[Security] = frozenset({"plain", "starttls", "client-certificate"})

_POLICY = '''"""What a local policy costs is part of the figure."""

from triosmtp import Policy


class Accept(Policy):
    async def validate_mailfrom(self, session, sender, parameters):
        session.message_variables["seen"] = "yes"
'''

_CONFIGURATION = """
Relay_Domains = ( "example.com" )
Deliver_To = "discard:"
Spool_Directory = "{folder}"
Policy = ( "python:bench_policy:Accept" )
ESMTP_Listener {{
  Listen "127.0.0.1:{port}" {{
    {tls}
  }}
}}
"""


def _aiosmtpd(scenario: Scenario, port: int, credentials: Credentials, _folder: Path) -> list[str]:
    command = [sys.executable, "-m", "bench.rival_aiosmtpd", str(port)]
    if scenario.security != "plain":
        command += [str(credentials.server_certificate), str(credentials.server_key)]
    if scenario.security == "client-certificate":
        command.append(str(credentials.authority))
    return command


def _bare(scenario: Scenario, port: int, credentials: Credentials, folder: Path) -> list[str]:
    aiosmtpd = _aiosmtpd(scenario, port, credentials, folder)  # it takes the same arguments
    return [sys.executable, "-m", "bench.bare_trio", *aiosmtpd[3:]]


def _bare_sslstream(scenario: Scenario, port: int, credentials: Credentials, folder: Path) -> list[str]:
    return [*_bare(scenario, port, credentials, folder), "--sslstream"]


def _triosmtp(scenario: Scenario, port: int, credentials: Credentials, folder: Path) -> list[str]:
    tls = []
    if scenario.security != "plain":
        tls = [
            f'TLS_Certificate = "{credentials.server_certificate}"',
            f'TLS_Key = "{credentials.server_key}"',
            'SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" )',
        ]
    if scenario.security == "client-certificate":
        tls += [f'TLS_Client_CA = "{credentials.authority}"', 'TLS_Verify_Mode = "require"']
    (folder / "bench_policy.py").write_text(_POLICY)
    configuration = folder / "bench.conf"
    configuration.write_text(_CONFIGURATION.format(folder=folder, port=port, tls="\n    ".join(tls)))
    return [sys.executable, "-m", "triosmtp", "serve", "-c", str(configuration)]


RIVALS = {
    rival.name: rival
    for rival in (
        Rival("aiosmtpd", "aiosmtpd 1.4.6 on uvloop", _EVERYTHING, _aiosmtpd),
        Rival("bare", "bare Trio over our transport and TLS engine, no SMTP to speak of", _EVERYTHING, _bare),
        Rival(
            "bare-sslstream",
            "the same, but trio.SSLStream does its handshake by itself",
            _EVERYTHING - {"plain"},
            _bare_sslstream,
        ),
        Rival("triosmtp", "triosmtp serve", _EVERYTHING, _triosmtp),
    )
}


@contextmanager
def open_rival(rival: Rival, scenario: Scenario) -> Iterator[tuple[Server, Credentials]]:
    """Start a rival with certificates and a folder of its own; stop it at the end.

    :raises SystemExit: if it or its load failed, with the reason and what the server printed.
    """
    with tempfile.TemporaryDirectory(prefix="triosmtp-bench-") as name:
        folder = Path(name)
        credentials = make_credentials(folder)
        port = free_port()
        output = folder / "output"
        command = rival.command(scenario, port, credentials, folder)
        try:
            with output.open("wb") as log, run_server(command, port, log) as server:
                yield server, credentials
        except (RuntimeError, OSError) as error:
            printed = output.read_text(errors="replace")
            raise SystemExit(f"{scenario.name} {rival.name}: {error}\n{printed}") from error
