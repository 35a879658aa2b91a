"""The command ``triosmtp probe``: show the TLS of an SMTP server, and what triosmtp would record about this client.

The server is not trusted: every read is bounded, every step has a deadline, and nothing it says reaches the terminal
unescaped.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from socket import gethostname
from typing import Any, Final, Literal, Protocol, TypeAlias

import trio
from attrs import asdict, define, field, frozen

from triosmtp.domain import DomainError, name_key
from triosmtp.errors import HandshakeError, TrioSMTPError
from triosmtp.smtp.reply_parser import MAX_REPLY_LINE, ReceivedReply, ReplyError, ReplyParser
from triosmtp.tls import MaterialError
from triosmtp.tls.chain_findings import key_type, load_authorities, tlsa_data
from triosmtp.tls.cipher import algorithm_bits
from triosmtp.tls.pem import PrivateKey, pem_certificates, pem_key, read_file
from triosmtp.tls.probe_client import ObservedServer, ObservingClient, observing_context
from triosmtp.tls.server_identity import matches_host
from triosmtp.variables import NO_CERTIFICATE, TLSInfo
from triosmtp.x509.certificate import certificate_facts, printable
from triosmtp.x509.loaded_certificate import LoadedCertificate

__all__ = ["ClientCredential", "ProbeError", "Report", "load_credential", "probe", "probe_command"]

Mode: TypeAlias = Literal["starttls", "tls"]

_PORTS: Final[dict[Mode, int]] = {"starttls": 25, "tls": 465}
_WIDTH: Final = 16  # of the names in the printed report

_STEP: Final = 15.0
"""Seconds that each step may take: connecting, one reply, the handshake."""
_DATE: Final = "%Y-%m-%dT%H:%M:%SZ"
_UNKNOWABLE: Final = ("tls_client_verified", "tls_client_verify_error")
"""Variables that depend on the authorities of the server, if a certificate is presented."""

_VOUCHED: Final = "yes where its TLS_Client_CA vouches for the certificate, else no"
_VERIFIED: Final[dict[str | None, str]] = {
    None: _VOUCHED,
    "client": _VOUCHED,
    "both": _VOUCHED,
    "server": "yes where its TLS_Client_CA vouches for it and TLS_Client_Purpose is client-or-server, else no",
    "any": "no: the certificate lists neither clientAuth nor serverAuth",
    "none": "no: the certificate lists neither clientAuth nor serverAuth",
}
"""The result on a server for a certificate, by its extended key usage (``tls_client_eku``)."""


class ProbeError(TrioSMTPError):
    """The server does not do what was asked of it; the text says what it did."""


@frozen(slots=True, kw_only=True)
class Certificate:
    """One certificate of the server's chain."""

    subject: str | None
    issuer: str | None
    sans: tuple[str, ...]
    not_before: str | None
    not_after: str | None
    key_type: str
    fingerprint_sha256: str


@define(slots=True, kw_only=True)
class Report:
    """The findings up to the end, or up to ``error``.  Every string is printable."""

    host: str
    port: int
    mode: Mode
    banner: str | None = None
    extensions: list[str] = field(factory=list)
    """What EHLO was answered with in plaintext (under ``tls``: nothing is)."""
    protocol: str | None = None
    cipher: str | None = None
    cipher_bits: int | None = None
    group: str | None = None
    extensions_tls: list[str] = field(factory=list)
    """The reply to EHLO under TLS."""
    chain: list[Certificate] = field(factory=list)
    verified: bool = False
    """Whether the chain leads to an authority of this system, and the certificate is for this host."""
    verify_error: str | None = None
    stapled: bool = False
    client_authorities: int = 0
    tlsa: str | None = None
    variables: dict[str, str] = field(factory=dict)
    """The variables that triosmtp would set for this client, except those that depend on its TLS_Client_CA."""
    expiry_error: str | None = None
    """Which certificate expires too soon, if that was asked."""
    error: str | None = None


class Stream(Protocol):
    """The stream of a dialogue."""

    async def send_all(self, data: bytes) -> None:
        """Send."""

    async def receive_some(self) -> bytes | bytearray:
        """Receive."""


@frozen(slots=True, kw_only=True)
class ClientCredential:
    """The file of ``--cert``: certificates, and their key if the file holds it."""

    chain: tuple[LoadedCertificate, ...] = ()
    key: PrivateKey | None = field(default=None, repr=False)


class _Dialogue:
    """Commands and replies over a stream."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._parser = ReplyParser()

    @property
    def has_more(self) -> bool:
        """Whether octets are there behind the latest reply."""
        return self._parser.has_more

    async def read(self, what: str) -> ReceivedReply:
        """Read one reply; ``what`` it is to."""
        with trio.move_on_after(_STEP):
            try:
                while (reply := self._parser.next_reply()) is None:
                    self._parser.receive_data(await self._receive(what))
            except ReplyError as error:
                raise ProbeError(f"{what}: {error}") from None
            return reply
        raise ProbeError(f"{what}: no reply within {_STEP:g} s")

    async def _receive(self, what: str) -> bytes | bytearray:
        try:
            data = await self._stream.receive_some()
        except trio.BrokenResourceError as error:
            raise ProbeError(f"{what}: the server ended the connection: {error}") from None
        if not data:
            raise ProbeError(f"{what}: the server closed the connection")
        return data

    async def command(self, line: str) -> ReceivedReply:
        """Send a command and read its reply."""
        with suppress(trio.BrokenResourceError), trio.move_on_after(_STEP):  # what the server said last is still read
            await self._stream.send_all(line.encode("ascii") + b"\r\n")
        return await self.read(line.partition(" ")[0])

    async def hello(self) -> list[str]:
        """Send EHLO; return the extensions."""
        reply = await self.command(f"EHLO {_own_name()}")
        if reply.code != 250:
            raise ProbeError(f"EHLO: {_words(reply)}")
        return [_shown(line.encode()) for line in reply.lines[1:]]


def load_credential(path: Path) -> ClientCredential:
    """Read the certificate to be presented, and its key if the file holds one too.

    :raises ProbeError: if that is not possible.
    """
    try:
        data = read_file("TLS_Certificate", path, {})
        key = pem_key("TLS_Certificate", path, data, None) if b"PRIVATE KEY-----" in data else None
        return ClientCredential(chain=pem_certificates("TLS_Certificate", path, data), key=key)
    except MaterialError as error:
        raise ProbeError(f"--cert {path}: {error.reason}") from error


async def probe(
    host: str,
    port: int,
    mode: Mode,
    credential: ClientCredential | None = None,
    authorities: tuple[LoadedCertificate, ...] | None = None,
) -> Report:
    """Look at a server.  Never raises for what the server does: the report says how far it went.

    ``authorities`` are the only ones that its chain may lead to; None: those of this system.
    """
    report = Report(host=_shown(host.encode()), port=port, mode=mode)
    try:
        await _look(report, host, credential or ClientCredential(), authorities)
    except ProbeError as error:
        report.error = str(error)
    except HandshakeError as error:
        report.error = f"handshake: {_shown(str(error).encode())}"
    except (OSError, trio.BrokenResourceError) as error:
        report.error = f"connection: {_shown(_why(error).encode())}"
    return report


def _why(error: BaseException) -> str:
    """Return why no connection was made: trio's own message names only the address."""
    causes = error.__cause__.exceptions if isinstance(error.__cause__, BaseExceptionGroup) else (error.__cause__,)
    reasons = [os.strerror(each.errno).lower() for each in causes if isinstance(each, OSError) and each.errno]
    return ", ".join(dict.fromkeys(reasons)) or getattr(error, "strerror", None) or str(error)


async def _look(
    report: Report, host: str, credential: ClientCredential, authorities: tuple[LoadedCertificate, ...] | None
) -> None:
    transport: trio.SocketStream | None = None
    with trio.move_on_after(_STEP):
        transport = await trio.open_tcp_stream(host, report.port)
    if transport is None:
        raise ProbeError(f"connection: none within {_STEP:g} s")
    try:
        if report.mode == "starttls":
            plain = _Dialogue(transport)
            await _greet(plain, report)
            report.extensions = await plain.hello()
            reply = await plain.command("STARTTLS")
            if reply.code != 220:
                raise ProbeError(f"STARTTLS: {_words(reply)}")
            if plain.has_more:  # to treat that as encrypted would let an attacker on the way speak
                raise ProbeError("STARTTLS: the server sent more behind its 220, in plaintext")
        client = await _handshake(transport, report, host, credential, authorities)
        secure = _Dialogue(client)
        if report.mode == "tls":
            await _greet(secure, report)
        report.extensions_tls = await secure.hello()
        with suppress(ProbeError):
            await secure.command("QUIT")
    finally:
        await trio.aclose_forcefully(transport)


async def _greet(dialogue: _Dialogue, report: Report) -> None:
    reply = await dialogue.read("banner")
    report.banner = _words(reply)
    if reply.code != 220:
        raise ProbeError(f"banner: {report.banner}")


async def _handshake(
    transport: trio.abc.Stream,
    report: Report,
    host: str,
    credential: ClientCredential,
    authorities: tuple[LoadedCertificate, ...] | None,
) -> ObservingClient:
    try:
        context = await trio.to_thread.run_sync(observing_context, credential.chain, credential.key, authorities)
    except ValueError as error:
        raise ProbeError(f"--cert: {error}") from error
    name = None if _is_address(host) else host.rstrip(".")
    client = ObservingClient(transport, context, name)
    with trio.move_on_after(_STEP) as scope:
        seen = await client.observe()
    if scope.cancelled_caught:
        raise ProbeError(f"handshake: not done within {_STEP:g} s")
    _fill(report, seen, host)
    report.variables = _variables(seen, name, credential)
    return client


def _fill(report: Report, seen: ObservedServer, host: str) -> None:
    report.protocol, report.cipher, report.cipher_bits = seen.protocol, seen.cipher, seen.cipher_bits
    report.group, report.stapled, report.client_authorities = seen.group, seen.stapled, seen.client_authorities
    report.chain = [_certificate(der) for der in seen.chain]
    report.verify_error = seen.verify_error
    if seen.chain:
        leaf = seen.chain[0]
        with suppress(ValueError):
            owner = "" if _is_address(host) else f"_{report.port}._tcp.{report.host.rstrip('.')}. IN TLSA "
            report.tlsa = owner + tlsa_data(leaf)
        if report.verify_error is None and not matches_host(leaf, host):
            report.verify_error = f"the certificate is not for {report.host}"
    report.verified = report.verify_error is None


def _certificate(der: bytes) -> Certificate:
    facts = certificate_facts(der)
    return Certificate(
        subject=facts.subject,
        issuer=facts.issuer,
        sans=facts.sans,
        not_before=None if facts.not_before is None else f"{facts.not_before:{_DATE}}",
        not_after=None if facts.not_after is None else f"{facts.not_after:{_DATE}}",
        key_type=key_type(der),
        fingerprint_sha256=facts.fingerprint_sha256,
    )


def _variables(seen: ObservedServer, name: str | None, credential: ClientCredential) -> dict[str, str]:
    """Return what triosmtp would write of this handshake: the same code fills it."""
    client: dict[str, Any] = {"verify_error": NO_CERTIFICATE}
    if credential.chain:
        der = credential.chain[0].der
        facts = asdict(certificate_facts(der), recurse=False)
        client = {"client_certificate": der, **{f"client_{name}": value for name, value in facts.items()}}
    info = TLSInfo(
        protocol=seen.protocol,
        cipher=seen.cipher,
        cipher_algbits=algorithm_bits().get(seen.cipher, seen.cipher_bits),
        cipher_usebits=seen.cipher_bits,
        group=seen.group,
        sni=name,
        **client,
    )
    values = info.variables()
    return values if not credential.chain else {key: value for key, value in values.items() if key not in _UNKNOWABLE}


def _words(reply: ReceivedReply) -> str:
    return f"{reply.code} {' '.join(_shown(line.encode()) for line in reply.lines)}"


def _shown(data: bytes) -> str:
    return printable(data.decode("utf-8", "backslashreplace"), MAX_REPLY_LINE)


def _own_name() -> str:
    """Return our name for EHLO, or a substitute if the machine's name is not valid."""
    name = gethostname()
    return name if name.isascii() and name.replace("-", "").replace(".", "").isalnum() else "localhost"


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


# The command


def probe_command(
    target: str,
    mode: Mode | None,
    certificate: str | None,
    *,
    bundle: str | None = None,
    days: int | None = None,
    as_json: bool = False,
) -> int:
    """Look at ``HOST[:PORT]`` and print what was found.

    Without a mode it is TLS from the first byte on port 465, and STARTTLS on any other.  ``bundle`` holds the only
    authorities; without it those of the system are known.

    Return the exit status: 0 if TLS was started, with any certificate unless a check was requested; 1 if it was not; 64
    if the arguments are wrong.  It is 2 if the chain does not verify by ``bundle`` or expires within ``days``.
    """
    try:
        host, port, mode = _target(target, mode)
        credential = None if certificate is None else load_credential(Path(certificate))
        authorities = None if bundle is None else _load_bundle(Path(bundle))
    except ProbeError as error:
        print(f"triosmtp: {error}", file=sys.stderr)
        return 64
    report = trio.run(probe, host, port, mode, credential, authorities)
    if report.protocol is not None and days is not None:
        report.expiry_error = _expiry_error(report, days)
    print(json.dumps(asdict(report), indent=2) if as_json else "\n".join(_lines(report, credential)))
    if report.protocol is None:
        return 1
    return 2 if report.expiry_error is not None or (bundle is not None and not report.verified) else 0


def _load_bundle(path: Path) -> tuple[LoadedCertificate, ...]:
    try:
        return load_authorities(path)
    except OSError as error:
        raise ProbeError(f"--ca {path}: {error.strerror}") from error
    except ValueError as error:
        raise ProbeError(f"--ca {path}: {error}") from error


def _expiry_error(report: Report, days: int) -> str | None:
    """Return which certificate of the chain expires first, if that is within ``days``."""
    dates = [(each.not_after or "", each.subject or "without a subject") for each in report.chain]
    first, subject = min(dates, default=("", "none"))
    if not first:
        return f"no date of expiry can be read ({subject})"
    left = datetime.strptime(first, _DATE).replace(tzinfo=UTC) - datetime.now(UTC)
    if left > timedelta(days=days):
        return None
    return f"{subject}: " + ("expired on" if left < timedelta(0) else f"{left.days} days left, until") + f" {first}"


def _target(text: str, mode: Mode | None) -> tuple[str, int, Mode]:
    host, port_text = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ProbeError(f"expected HOST or HOST:PORT, with an IPv6 address in brackets, found {text!r}")
        port_text = rest[1:]
    elif text.count(":") == 1:
        host, _, port_text = text.partition(":")
    try:
        host = host if _is_address(host) else name_key(host.removesuffix("."))
    except DomainError:
        host = ""
    if not host or (text.endswith(":") and not _is_address(text)):
        raise ProbeError(f"expected HOST or HOST:PORT, found {text!r}")
    if port_text and not (port_text.isascii() and port_text.isdigit() and 0 < int(port_text[:6]) < 65536):
        raise ProbeError(f"expected a port from 1 to 65535, found {port_text!r}")
    if mode is None:
        mode = "tls" if port_text == str(_PORTS["tls"]) else "starttls"
    return host, int(port_text) if port_text else _PORTS[mode], mode


def _lines(report: Report, credential: ClientCredential | None) -> Iterator[str]:
    start = "TLS from the first byte" if report.mode == "tls" else "STARTTLS"
    yield f"{report.host} port {report.port}, {start}"
    yield from _rows(
        {
            "banner": report.banner,
            "EHLO": ", ".join(report.extensions),
            "EHLO under TLS": ", ".join(report.extensions_tls),
        }
    )
    if report.protocol is not None:
        yield from _rows(
            {
                "protocol": report.protocol,
                "cipher": f"{report.cipher} ({report.cipher_bits} bits)",
                "group": report.group or "none",
                "verified": "yes" if report.verified else f"no: {report.verify_error}",
                "expires": report.expiry_error,
                "OCSP response": "stapled" if report.stapled else "none",
                "client CAs named": str(report.client_authorities),
                "TLSA": report.tlsa,
            }
        )
    for number, certificate in enumerate(report.chain, 1):
        yield f"  certificate {number}: {certificate.subject or 'without a subject'}"
        yield from _rows(
            {
                "  names": ", ".join(certificate.sans),
                "  issued by": certificate.issuer,
                "  valid": f"{certificate.not_before} to {certificate.not_after}",
                "  key": certificate.key_type,
                "  SHA-256": certificate.fingerprint_sha256,
            }
        )
    if report.variables:
        yield "  what triosmtp would record about this client:"
        yield from (f"    {key} = {value}" for key, value in report.variables.items())
        if credential is not None:
            yield f"    tls_client_verified = {_VERIFIED[report.variables.get('tls_client_eku')]}"
    if report.error is not None:
        yield f"  failed at {report.error}"


def _rows(rows: dict[str, str | None]) -> Iterator[str]:
    return (f"  {name:<{_WIDTH}}  {value}" for name, value in rows.items() if value)
