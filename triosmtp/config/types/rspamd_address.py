"""The address of rspamd in Policy, as ``rspamd:http://127.0.0.1:11333``."""

import re
from ipaddress import ip_address

from attrs import frozen

from triosmtp.config.types.policy_grammar import forms_of

__all__ = ["RspamdAddress", "parse_rspamd_address"]

_URL = re.compile(
    r"rspamd:(https?)://(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::([0-9]{1,5}))?((?:/[A-Za-z0-9._~-]+)*)/?"
).fullmatch
_PORTS = {"http": 80, "https": 443}


@frozen(slots=True)
class RspamdAddress:
    """The URL before ``/checkv2``."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def is_readable(self) -> bool:
        """Whether others can read what is sent there: it is not TLS, and leaves this host."""
        if self.scheme == "https":
            return False
        try:
            return not ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() != "localhost"  # RFC 6761, section 6.3

    @property
    def url(self) -> str:
        """The URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    def __str__(self) -> str:
        return f"rspamd:{self.url}"


def parse_rspamd_address(text: str) -> RspamdAddress:
    """Read an address.

    :raises ValueError: if ``text`` is none; the text says what was expected.  It never holds user information.
    """
    if "@" in text:
        raise ValueError("no user name or password stands in the address of rspamd: use Password_File of a Filter")
    match = _URL(text)
    port = 0 if match is None else int(match[4] or _PORTS[match[1]])
    if match is None or not 0 < port < 65536:
        raise ValueError(f'expected {forms_of(("rspamd",))}, found "{text}"')
    host = match[3] or str(ip_address(match[2]))
    return RspamdAddress(match[1], host, port, match[5])
