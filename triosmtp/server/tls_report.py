"""A report of TLS contexts for the operator: who shares a context, what it presents, how many sessions use it.

The console and the workers report the contexts of a running server, ``triosmtp tls`` those of a configuration.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from socket import gethostname
from typing import TYPE_CHECKING, Any, Final

import trio
from attrs import Factory, frozen

from triosmtp.config import Config, Listen, ServerName, Settings, TCPAddress
from triosmtp.server.tls_contexts import tls_settings
from triosmtp.tls import Material, ServerCertificate, ServerContext, TLSSettings
from triosmtp.tls.key_exchange_groups import CLIENT_KEY_CURVES, can_set_groups

if TYPE_CHECKING:
    from triosmtp.server.service import Service

__all__ = [
    "ContextGroup",
    "ContextUse",
    "TLSReport",
    "certificate_row",
    "certificate_rows",
    "context_lines",
    "group_contexts",
    "tls_report",
]

_MAX_ANCHORS: Final = 10


@frozen(slots=True)
class ContextUse:
    """Connections of one kind: to a Listen, from one of its Peers."""

    where: str
    settings: Settings
    server_names: tuple[ServerName, ...]
    port: int | None = None
    """The TCP port that clients connect to; None if it is not known, or there is none."""

    @property
    def host(self) -> str:
        """The name in the banner."""
        return self.settings.banner_hostname or gethostname()


@frozen(slots=True)
class ContextGroup:
    """All connections that share one context."""

    tls: TLSSettings
    uses: list[ContextUse] = Factory(list)


@frozen(slots=True)
class TLSReport:
    """The contexts of a running server, as text and as plain values for JSON."""

    text: str
    contexts: list[dict[str, Any]]


def group_contexts(config: Config) -> tuple[list[ContextGroup], list[str]]:
    """Return the connections of ``config`` grouped by the context that they share, and the connections without TLS."""
    groups: dict[TLSSettings, ContextGroup] = {}
    without: list[str] = []
    for listen in config.listens:
        names = config.server_names(listen)
        for where, settings in _variants(config, listen):
            tls = tls_settings(settings, names)
            if tls is None:
                without.append(where)
            else:
                use = ContextUse(where, settings, names, _public_port(listen))
                groups.setdefault(tls, ContextGroup(tls)).uses.append(use)
    return list(groups.values()), without


def _public_port(listen: Listen) -> int | None:
    """Return the port of a Listen; None for port 0, Unix sockets, and loopback."""
    address = listen.address
    if not isinstance(address, TCPAddress) or (address.host is not None and ip_address(address.host).is_loopback):
        return None
    return address.port or None


def _variants(config: Config, listen: Listen) -> Iterator[tuple[str, Settings]]:
    for chain, settings in config.resolver(listen.block).variants().items():
        peer = next((block for block in chain if block.kind == "Peer"), None)
        yield f'Listen "{listen.name}"' + (f" {peer}" if peer else ""), settings


# A running server


async def tls_report(service: "Service") -> TLSReport:
    """Report the contexts in force, and contexts that sessions still use."""
    used = [session.context for session in tuple(service.running) if session.context is not None]
    in_force = service.contexts.contexts()
    uses = [(each, each.sessions, each in in_force) for each in dict.fromkeys((*in_force, *used))]
    return await trio.to_thread.run_sync(_report, service.config, uses)


def _report(config: Config, uses: Iterable[tuple[ServerContext, int, bool]]) -> TLSReport:
    """Report contexts, each with the number of its sessions and whether it is in force.  Blocks."""
    groups = {group.tls: group for group in group_contexts(config)[0]}
    now = datetime.now(UTC)
    lines: list[str] = []
    rows: list[dict[str, Any]] = []
    for number, (context, sessions, in_force) in enumerate(uses, 1):
        group = groups.get(context.material.settings)
        age = round((now - context.loaded_at).total_seconds())
        lines.append(f"Context {number}" + ("" if in_force else " (replaced: for sessions that began with it)"))
        lines.append(f"  loaded      {context.loaded_at:%Y-%m-%d %H:%M:%S} UTC, {age} s ago")
        lines.append(f"  generation  {context.generation}")
        lines.append(f"  sessions    {sessions}")
        lines += context_lines(group, context)
        rows.append(
            {
                "in_force": in_force,
                "generation": context.generation,
                "loaded_at": context.loaded_at.isoformat(timespec="seconds"),
                "age": age,
                "sessions": sessions,
                "used_by": [] if group is None else [use.where for use in group.uses],
                "ciphers": {protocol: list(names) for protocol, names in context.ciphers().items()},
                "certificates": certificate_rows(context.material),
                "client_ca": [each.facts.subject for each in context.material.authorities],
            }
        )
    return TLSReport("\n".join(lines), rows)


def certificate_rows(material: Material) -> list[dict[str, Any]]:
    """Return the server's certificates of one context as plain values.  Blocks."""
    rows = [certificate_row(each) for each in material.certificates]
    rows += [certificate_row(each, name) for name, group in material.server_names.items() for each in group]
    return rows


def certificate_row(material: ServerCertificate, server_name: str | None = None) -> dict[str, Any]:
    """Return one certificate of the server as plain values; ``server_name`` is the Server_Name that it belongs to."""
    facts = material.leaf
    return {
        "file": str(material.paths.certificate),
        "server_name": server_name,
        "key": material.key_type,
        "subject": facts.subject,
        "issuer": facts.issuer,
        "chain": [each.facts.subject for each in material.chain[1:]],
        "names": list(facts.sans),
        "fingerprint_sha256": facts.fingerprint_sha256,
        "not_before": None if facts.not_before is None else facts.not_before.isoformat(),
        "not_after": None if facts.not_after is None else facts.not_after.isoformat(),
    }


# Text


def context_lines(group: ContextGroup | None, context: ServerContext) -> Iterator[str]:
    """Yield the lines that describe a context; ``group`` is None if nothing in force uses it.  Blocks."""
    material = context.material
    tls = material.settings
    for number, use in enumerate([] if group is None else group.uses):
        yield f"  {'' if number else 'used by':7}     {use.where}"
    yield f"  protocols   {' '.join(tls.protocols)}"
    for protocol, suites in context.ciphers().items():
        yield f"  {protocol}     {' '.join(suites) or 'no cipher suite'}"
    yield f"  groups      {_groups(tls)}"
    yield f"  clients     {_clients(material)}"
    yield from _anchor_lines(material)
    yield from _identity_lines("the Listen's own", material.certificates)
    for name, certificates in material.server_names.items():
        yield from _identity_lines(f'Server_Name "{name}"', certificates)
    for warning in context.warnings:
        yield f"  warning     {warning}"


def _clients(material: Material) -> str:
    tls = material.settings
    if not tls.request_certificate:
        return "are asked for no certificate"
    if tls.client_ca is None:
        return "are asked for a certificate, to identify it by its fingerprint; none ever verifies"
    parts = [
        f"are asked for a certificate of {_count(len(material.authorities), 'authority', 'authorities')}",
        f'in "{tls.client_ca}" ({_size(tls.client_ca)})',
        "whose names are sent" if tls.send_client_ca_names else "whose names are not sent",
        f"depth {tls.verify_depth}",
    ]
    if tls.client_purpose != "client":
        parts.append(f"purpose {tls.client_purpose}")
    if material.revocations:
        parts.append(_count(len(material.revocations), "revocation list", "revocation lists"))
    return ", ".join(parts)


def _groups(tls: TLSSettings) -> str:
    if tls.groups:
        return " ".join(tls.groups)
    if tls.request_certificate and can_set_groups():
        return f"OpenSSL's own; for keys of clients {' '.join(CLIENT_KEY_CURVES)}, as far as OpenSSL has them"
    return "OpenSSL's own"


def _anchor_lines(material: Material) -> Iterator[str]:
    """Yield the authorities at which chains end although they are no roots."""
    anchors = [each for each in material.authorities if material.unfinished and not each.is_self_issued]
    for each in anchors[:_MAX_ANCHORS]:
        yield f"  anchor      {each.subject}, no root, issued by {each.facts.issuer}"
    if len(anchors) > _MAX_ANCHORS:
        yield f"  anchor      and {len(anchors) - _MAX_ANCHORS} more that are no roots"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _size(path: Path) -> str:
    try:
        return f"{path.stat().st_size} bytes"
    except OSError:
        return "removed since"


def _time(time: datetime | None) -> str:
    return "unreadable" if time is None else f"{time:%Y-%m-%d %H:%M}"


def _identity_lines(title: str, certificates: Iterable[ServerCertificate]) -> Iterator[str]:
    for material in certificates:
        identity = material.paths
        yield f'  certificate "{identity.certificate}" ({title}), key {material.key_type} in "{identity.key_place[1]}"'
        for number, certificate in enumerate(material.chain, 1):
            facts = certificate.facts
            yield f"    {number}  {certificate.subject}  ({certificate.key_name()})"
            if facts.sans:
                yield f"       names      {' '.join(facts.sans)}"
            yield f"       issued by  {facts.issuer}"
            yield f"       valid      {_time(facts.not_before)} to {_time(facts.not_after)} UTC"
        if identity.ocsp_response is not None:
            yield f'    OCSP response "{identity.ocsp_response}"'
