"""The settings of one next hop as values."""

from pathlib import Path
from socket import gethostname
from typing import Literal, TypeAlias

from attrs import field, frozen

from triosmtp.tls.client_context import ClientTLSSettings
from triosmtp.tls.server_identity import VerifyMode

__all__ = ["HopAddress", "HopSettings", "HopTimeouts", "TLSMode", "own_name"]

TLSMode: TypeAlias = Literal["no", "ifavailable", "required"]


@frozen(slots=True, kw_only=True)
class HopAddress:
    """One address of a next hop: a Unix socket, or host and port."""

    path: str = ""
    host: str = ""
    port: int = 0
    lmtp: bool = False
    """Whether it speaks LMTP (RFC 2033)."""
    implicit_tls: bool = False
    """Whether TLS begins with the first byte (RFC 8314), instead of STARTTLS."""
    tls: TLSMode = "no"
    tls_name: str = ""
    """The name that its certificate must have."""

    def __str__(self) -> str:
        scheme = "smtps" if self.implicit_tls else "lmtp" if self.lmtp else "smtp"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}:{self.path}" if self.path else f"{scheme}://{host}:{self.port}"


@frozen(slots=True, kw_only=True)
class HopTimeouts:
    """Seconds for each step, by the options of the same names."""

    connect: float = 10.0
    ehlo: float = 60.0
    mail: float = 60.0
    rcpt: float = 60.0
    body: float = 300.0
    idle: float = 30.0


@frozen(slots=True, kw_only=True)
class HopSettings:
    """The settings of one next hop."""

    name: str
    """Its name in logs."""
    addresses: tuple[HopAddress, ...]
    """Tried in this order; one that failed is tried last for a while."""
    tls_verify: VerifyMode = "host"
    tls_fingerprints: tuple[tuple[str, str], ...] = ()
    """Kind (``sha256`` or ``spki``) and digits of certificates, one of which the hop must show."""
    tls_files: ClientTLSSettings = field(factory=ClientTLSSettings)
    ehlo_hostname: str = ""
    """Our name for EHLO; empty: the name of this host."""
    timeouts: HopTimeouts = field(factory=HopTimeouts)
    max_connections: int = 20
    """Connections at once; 0: unlimited."""
    max_deliveries: int = 100
    """Messages for each connection; 0: unlimited."""
    xclient: bool = False
    auth_user: str = ""
    auth_password_file: Path | None = None


def own_name() -> str:
    """Return the name of this host for EHLO, or a substitute if it is not a valid name."""
    name = gethostname()
    return name if name.isascii() and name.replace("-", "").replace(".", "").isalnum() else "localhost"
