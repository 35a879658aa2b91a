"""The embedded default of ``triosmtp serve``: a configuration on loopback, in one folder, to try and to copy."""

from pathlib import Path
from shlex import quote
from textwrap import dedent
from typing import Final

from triosmtp.filesystem import make_directory, state_directory
from triosmtp.x509.authority import Authority, write_development_set

__all__ = ["usage_hints", "write_embedded_default"]

_CONFIGURATION: Final = """\
# The embedded default of `triosmtp serve`: loopback only, development certificates. Copy it to begin your own.

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


def write_embedded_default() -> Path:
    """Write certificates and configuration if they are missing; return the path of the configuration.

    :raises OSError: if the folder cannot be written.
    """
    folder = state_directory() / "embedded"
    make_directory(folder)
    _write_certificates(folder)
    path = folder / "triosmtp.conf"
    if not path.exists():
        path.write_text(_CONFIGURATION.format(folder=folder), encoding="utf-8")
    return path


def _write_certificates(folder: Path) -> None:
    """Write a development CA, its server and client certificates, and one of an unknown CA, if they are missing."""
    write_development_set(folder)
    if not all((folder / name).is_file() for name in ("untrusted.pem", "untrusted.key")):
        authority = Authority.create("an untrusted CA")
        authority.issue("untrusted.example", dns=["untrusted.example"], usage=["client"]).write(folder, "untrusted")


def usage_hints(path: Path) -> str:
    """Return commands that try the embedded default."""
    folder = path.parent
    ca, client, client_key = (quote(str(folder / name)) for name in ("ca.pem", "client.pem", "client.key"))
    return dedent(f"""\
        triosmtp runs with its embedded default configuration, in {folder}
          configuration  {path}
          mail goes to   {folder}/Maildir/new

        Try it, from another terminal:
          STARTTLS:            openssl s_client -quiet -crlf -starttls smtp -connect 127.0.0.1:2525 -CAfile {ca}
          TLS from the start:  openssl s_client -quiet -crlf -connect 127.0.0.1:2465 -CAfile {ca}
          send a message:      printf 'Subject: hello\\r\\n\\r\\nHello.\\r\\n' | curl -sS --ssl-reqd --cacert {ca} \\
                                 --mail-from me@example.org --mail-rcpt you@example.com -T - smtp://localhost:2525
          with a certificate:  swaks -s localhost:2525 -tls --tls-cert {client} --tls-key {client_key} \\
                                 -f me@example.org -t you@example.com
                                 (untrusted.pem and untrusted.key are from an authority that the server does not
                                 trust: see its log)
          your own:            cp {quote(str(path))} my.conf && triosmtp check -c my.conf
                                 (then stop this server, and run: triosmtp serve -c my.conf)
        """)
