"""`triosmtp serve` in a process of its own with the stanza that operators paste, and what arrived there."""

import json
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.message import Message
from email.parser import BytesParser
from pathlib import Path

from attrs import frozen
from serve_process import REPOSITORY, run_cleanly

STANZA = """\
ESMTP_Listener {
  Listen ":25" {
    TLS_Certificate = "/path/to/cert.pem"
    TLS_Key = "/path/to/key.pem"
    TLS_Client_CA = "/path/to/clientca.bundle"
    TLS_Ciphers = "DEFAULT"
    TLS_Verify_Mode = "require"
    SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" )
  }
}
"""

_RECORDER = """\
    import json
    from pathlib import Path

    from triosmtp import DONE, Policy

    RECORDS = Path(__file__).with_name("records")


    class Recorder(Policy):
        async def validate_data_spool(self, session, message):
            with RECORDS.open("a") as records:
                print(json.dumps([dict(session.variables), dict(session.message_variables)]), file=records)


    class Waiver(Policy):
        async def validate_mailfrom(self, session, sender, parameters):
            return DONE
    """


@frozen
class Letter:
    """A message to send; `text` has the line ends of a Unix file."""

    sender: str
    recipient: str
    text: str = "Subject: interop\n\nfirst line\n.a line that begins with a dot\nlast line\n"


@frozen
class StanzaServer:
    """A running server; configuration, policies, records, Maildir and log lie in `folder`."""

    folder: Path
    port: int
    log: Path

    def records(self, sender: str) -> list[dict[str, str]]:
        """Return the connection variables that policy saw with each message of that sender."""
        path = self.folder / "records"
        lines = path.read_text().splitlines() if path.exists() else []
        seen = [json.loads(line) for line in lines]
        return [connection for connection, message in seen if message["mailfrom_string"] == sender]

    def mail(self, sender: str) -> list[Message]:
        """Return the messages of that sender in the Maildir."""
        new = self.folder / "Maildir" / "new"
        files = sorted(new.iterdir()) if new.exists() else []
        parsed = [BytesParser().parsebytes(file.read_bytes()) for file in files]
        return [message for message in parsed if message["Return-Path"] == f"<{sender}>"]


def stanza(folder: Path) -> str:
    """Return the stanza with its four changes: the port, and the three paths."""
    text = STANZA
    for old, new in {
        ":25": ":0",
        "/path/to/cert.pem": str(folder / "server.pem"),
        "/path/to/key.pem": str(folder / "server.key"),
        "/path/to/clientca.bundle": str(folder / "ca.pem"),
    }.items():
        assert text.count(f'"{old}"') == 1
        text = text.replace(f'"{old}"', f'"{new}"')
    return text


@contextmanager
def serving(folder: Path, certificates: Path, policies: str, edit: Mapping[str, str] = {}) -> Iterator[StanzaServer]:
    """Serve the stanza out of `folder` until the block is left; then it must end in good order, without a traceback.

    `policies` are of the module `recorder`; `edit` maps text of the stanza to what stands in its place.
    """
    text = stanza(certificates)
    for old, new in edit.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    (folder / "recorder.py").write_text(textwrap.dedent(_RECORDER))
    (folder / "stanza.conf").write_text(
        f'Relay_Domains = ( "example.com" "*.example.com" )\nDeliver_To = "maildir:{folder}/Maildir"\n'
        f'Spool_Directory = "{folder}/spool"\nPolicy = ( {policies} )\n{text}'
    )
    with run_conf(folder / "stanza.conf") as server:
        yield server


@contextmanager
def run_conf(conf: Path) -> Iterator[StanzaServer]:
    """Run `triosmtp serve -c conf`, whose one Listen is on any port, until the block is left."""
    log = conf.with_name("log")
    with run_cleanly("-c", str(conf), log=log, control=conf.with_name("control"), cwd=REPOSITORY) as server:
        yield StanzaServer(conf.parent, server.port(), log)
