"""What ``triosmtp serve`` runs without a configuration: a set-up on loopback, in one folder, to try and to copy."""

from pathlib import Path
from shlex import quote
from textwrap import dedent
from typing import Final

from triosmtp.state import make_directory, state_directory
from triosmtp.tls import Authority, write_development_set

__all__ = ["how_to_try", "prepare"]

_CONFIGURATION: Final = """\
# The embedded default of `triosmtp serve`: loopback only, development certificates. A place to start your own from.

Deliver_To = "maildir:{folder}/Maildir"
Spool_Directory = "{folder}/spool"
Relay_Domains = ( "example.com" "example.org" "localhost" )

ESMTP_Listener {{
  TLS_Certificate = "{folder}/server.pem"
  TLS_Key = "{folder}/server.key"
  TLS_Client_CA = "{folder}/ca.pem"
  Banner_Hostname = "localhost"

  Listen "127.0.0.1:2525" {{
    SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" )
  }}
  Listen "127.0.0.1:2465" {{
    Use_SSL = true
    SMTP_Extensions = ( "ENHANCEDSTATUSCODES" )
  }}
}}
"""


def prepare() -> Path:
    """Make the folder with certificates and configuration where it is not there yet; give the configuration's path.

    :raises OSError: where the folder cannot be written.
    """
    folder = state_directory() / "embedded"
    make_directory(folder)
    _write_certificates(folder)
    path = folder / "triosmtp.conf"
    if not path.exists():
        path.write_text(_CONFIGURATION.format(folder=folder), encoding="utf-8")
    return path


def _write_certificates(folder: Path) -> None:
    """Write a development CA, a server and a client certificate of it, and a stranger's, where they are missing."""
    write_development_set(folder)
    if not all((folder / name).is_file() for name in ("stranger.pem", "stranger.key")):
        stranger = Authority.create("a stranger's CA")
        stranger.issue("stranger.example", dns=["stranger.example"], usage=["client"]).write(folder, "stranger")


def how_to_try(path: Path) -> str:
    """Give the commands that show what the embedded default does."""
    folder = path.parent
    ca, client, client_key = (quote(str(folder / name)) for name in ("ca.pem", "client.pem", "client.key"))
    return dedent(f"""\
        triosmtp runs on its embedded default; everything of it is in {folder}
          configuration  {path}
          mail arrives   {folder}/Maildir/new

        Try it, from another terminal:
          STARTTLS:            openssl s_client -quiet -crlf -starttls smtp -connect 127.0.0.1:2525 -CAfile {ca}
          TLS from the start:  openssl s_client -quiet -crlf -connect 127.0.0.1:2465 -CAfile {ca}
          send a message:      printf 'Subject: hello\\r\\n\\r\\nHello.\\r\\n' | curl -sS --ssl-reqd --cacert {ca} \\
                                 --mail-from me@example.org --mail-rcpt you@example.com -T - smtp://localhost:2525
          with a certificate:  swaks -s localhost:2525 -tls --tls-cert {client} --tls-key {client_key} \\
                                 -f me@example.org -t you@example.com
                                 (stranger.pem and stranger.key are of no authority that the server knows: watch its
                                 log)
          your own:            cp {quote(str(path))} my.conf && triosmtp check -c my.conf
                                 (then stop this one, and: triosmtp serve -c my.conf)
        """)
