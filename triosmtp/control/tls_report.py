"""The commands ``triosmtp tls``: what a configuration means in TLS, what clients would stumble over, DANE records."""

import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from socket import gethostname
from typing import Final

from attrs import Factory, frozen

from triosmtp.config import Config, Listen, ServerName, Settings, TCPAddress, problem_at
from triosmtp.domain import DomainError, name_key
from triosmtp.errors import ConfigError, Problem, QueryError
from triosmtp.server.profile import material_problem, material_problems, tls_settings
from triosmtp.tls import (
    IdentityMaterial,
    Material,
    MaterialError,
    ServerContext,
    TLSSettings,
    build_context,
    load_material,
)
from triosmtp.tls.context import select_name
from triosmtp.tls.group import CURVES_OF_CLIENTS, can_set_groups
from triosmtp.tls.inspection import (
    Authorities,
    chain_findings,
    load_authorities,
    matches_name,
    tlsa_data,
    tlsa_data_of_pem,
)

__all__ = ["context_groups", "context_lines", "tls_check", "tls_show", "tls_tlsa"]

_OURS: Final = {"TLS_Certificate", "TLS_Key", "TLS_Key_Password_File", "TLS_OCSP_Response"}
"""What is warned of in these files is an error here: clients see it, or strangers read the key."""

_MAX_ANCHORS: Final = 10


@frozen(slots=True)
class _Use:
    """Connections of one kind: to a Listen, from a Peer of it."""

    where: str
    settings: Settings
    server_names: tuple[ServerName, ...]
    port: int | None = None
    """The TCP port that others connect to; None if it is not known, or there is none."""

    @property
    def host(self) -> str:
        """The name in the banner."""
        return self.settings.banner_hostname or gethostname()


@frozen(slots=True)
class Group:
    """All connections that share one context."""

    tls: TLSSettings
    uses: list[_Use] = Factory(list)


def context_groups(config: Config) -> tuple[list[Group], list[str]]:
    """Give what shares a context; and the connections without TLS."""
    groups: dict[TLSSettings, Group] = {}
    without: list[str] = []
    for listen in config.listens:
        names = config.server_names(listen)
        for where, settings in _variants(config, listen):
            tls = tls_settings(settings, names)
            if tls is None:
                without.append(where)
            else:
                groups.setdefault(tls, Group(tls)).uses.append(_Use(where, settings, names, _public_port(listen)))
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


# show


def tls_show(config: Config) -> int:
    """Print every context with the connections that use it.

    :raises ConfigError: where material cannot be used.
    """
    groups, without = context_groups(config)
    for number, group in enumerate(groups, 1):
        use = group.uses[0]
        try:
            context = build_context(load_material(group.tls))
        except MaterialError as error:
            raise ConfigError(material_problems(use.settings, use.server_names, error)) from error
        print(f"Context {number}")
        print("\n".join(context_lines(group, context)))
    if without:
        print(f"Without TLS\n  used by     {', '.join(without)}")
    return 0


def context_lines(group: Group | None, context: ServerContext) -> Iterator[str]:
    """Give what there is to say of a context, which nothing in force uses where ``group`` is None.  Blocks."""
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
    yield from _identity_lines("the Listen's own", material.identities)
    for name, identities in material.server_names.items():
        yield from _identity_lines(f'Server_Name "{name}"', identities)
    for warning in context.warnings:
        yield f"  warning     {warning}"


def _clients(material: Material) -> str:
    tls = material.settings
    if not tls.request_certificate:
        return "are asked for no certificate"
    if tls.client_ca is None:
        return "are asked for a certificate, to know it by its fingerprint; none ever verifies"
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
        return f"OpenSSL's own; for keys of clients {' '.join(CURVES_OF_CLIENTS)}, as far as OpenSSL has them"
    return "OpenSSL's own"


def _anchor_lines(material: Material) -> Iterator[str]:
    """Name the authorities that chains end at though they are no roots."""
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
        return "gone since"


def _time(time: datetime | None) -> str:
    return "unreadable" if time is None else f"{time:%Y-%m-%d %H:%M}"


def _identity_lines(title: str, identities: Iterable[IdentityMaterial]) -> Iterator[str]:
    for material in identities:
        identity = material.identity
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


# check


def tls_check(config: Config, bundle: str | None = None) -> int:
    """Print what clients would stumble over; give the exit status, 1 where there is an error among it.

    ``bundle`` holds the only authorities that clients know; without it, the system's are taken for some of them.

    :raises ConfigError: where the bundle cannot be used.
    """
    known = _authorities(bundle)
    problems: dict[Problem, None] = {}
    for group in context_groups(config)[0]:
        problems |= dict.fromkeys(_group_problems(group, known))
    for problem in problems:
        print(problem, file=sys.stderr)
    errors = sum(problem.severity == "error" for problem in problems)
    if errors:
        print(f"{_count(errors, 'error', 'errors')} in TLS")
        return 1
    print("TLS valid")
    return 0


def _authorities(bundle: str | None) -> Authorities:
    try:
        return Authorities.of(load_authorities(None if bundle is None else Path(bundle)), complete=bundle is not None)
    except OSError as error:
        raise ConfigError([Problem("error", f'--ca: "{bundle}": {error.strerror}')]) from error
    except ValueError as error:
        raise ConfigError([Problem("error", f'--ca: "{bundle}": {error}')]) from error


def _group_problems(group: Group, known: Authorities) -> Iterator[Problem]:
    use = group.uses[0]
    try:
        material = load_material(group.tls)
        context = build_context(material)
    except MaterialError as error:
        yield from material_problems(use.settings, use.server_names, error)
        return
    for warning in context.warnings:
        severity = "error" if warning.option in _OURS else "warning"
        yield material_problem(use.settings, use.server_names, warning, severity)
    if not known.complete:
        known = known.joined_by(material.authorities)
    for identity in material.identities:
        yield from _chain_problems(use.settings, identity, known)
        for each in group.uses:
            yield from _name_problems(each, identity)
    for scope in use.server_names:
        for identity in material.server_names[scope.name]:
            yield from _chain_problems(scope, identity, known)
            if not matches_name(identity.chain[0].der, scope.name):
                text = f'"{identity.identity.certificate}" is not for its Server_Name, {scope.name}'
                yield problem_at(scope, "tls_certificate", text)


def _chain_problems(scope: Settings | ServerName, material: IdentityMaterial, known: Authorities) -> Iterator[Problem]:
    for finding in chain_findings(material.chain, known):
        text = f'"{material.identity.certificate}": {finding.text}'
        yield problem_at(scope, "tls_certificate", text, finding.severity)


def _name_problems(use: _Use, material: IdentityMaterial) -> Iterator[Problem]:
    if matches_name(material.chain[0].der, use.host):
        return
    path = material.identity.certificate
    if use.settings.banner_hostname is None:
        text = f'"{path}" is not for {use.host}, the name of this machine that the banner says'
        yield problem_at(use.settings, "tls_certificate", text, "warning")
    else:
        text = f'"{path}" is not for {use.host}, the Banner_Hostname'
        yield problem_at(use.settings, "tls_certificate", text)


# tlsa


def tls_tlsa(
    config: Config, hosts: Iterable[str] = (), next_keys: Iterable[str] = (), *, port: int | None = None
) -> int:
    """Print TLSA records 3 1 1 (RFC 7672) of every certificate in force and of keys to come.

    ``hosts`` are the names that MX records have; without them those are taken that the configuration tells: each
    Banner_Hostname and Server_Name.  The ports are those of the Listens, unless ``port`` says otherwise.

    :raises ConfigError: if a file cannot be used.
    :raises QueryError: if no host or no port is known, or a host is no domain name.
    """
    records = _records(config, [_host(each) for each in hosts], port)
    if not records:
        text = "no Listen with a certificate has a TCP port that other hosts reach"
        raise QueryError(f"{text}: --port says which one clients connect to")
    for next_key in next_keys:
        data = _next(Path(next_key))
        for found in records.values():
            found.setdefault(data, f'next: "{next_key}"')
    for (host, known), found in records.items():
        for data, origin in found.items():
            print(f"_{known}._tcp.{host}. IN TLSA {data} ; {origin}")
    return 0


def _records(config: Config, asked: Iterable[str], port: int | None) -> dict[tuple[str, int], dict[str, str]]:
    """Return, by host and port, each record's data with where it comes from."""
    records: dict[tuple[str, int], dict[str, str]] = {}
    for group in context_groups(config)[0]:
        use = group.uses[0]
        try:
            material = load_material(group.tls)
        except MaterialError as error:
            raise ConfigError(material_problems(use.settings, use.server_names, error)) from error
        for each in group.uses:
            served, known = _served(each, material, asked), port or each.port
            if known is None:
                continue
            for host, identities in served.items():
                _record(records.setdefault((host, known), {}), identities)
    return records


def _served(use: _Use, material: Material, asked: Iterable[str]) -> dict[str, tuple[IdentityMaterial, ...]]:
    """Return what each host that is asked for, or else each that the configuration tells, shows its clients."""
    named = material.server_names
    if asked:
        return {host: select_name(host.encode(), named.get) or material.identities for host in asked}
    if use.settings.banner_hostname is None:
        text = f"{use.where} has no Banner_Hostname: say for which host the records are, as the MX record names it"
        raise QueryError(f"{text}: triosmtp tls tlsa -c FILE mx.example.org")
    own = {_host(use.settings.banner_hostname): material.identities}
    return own | {name: each for name, each in named.items() if not name.startswith("*.")}  # a record belongs to a host


def _host(text: str) -> str:
    try:
        return name_key(text.removesuffix("."))
    except DomainError as error:
        raise QueryError(f"expected the name of a host, such as mx.example.org, found {text!r}: {error}") from None


def _record(found: dict[str, str], identities: Iterable[IdentityMaterial]) -> None:
    for material in identities:
        found.setdefault(
            tlsa_data(material.chain[0].der),
            f'"{material.identity.certificate}" {material.key_type}',
        )


def _next(path: Path) -> str:
    try:
        return tlsa_data_of_pem(path.read_bytes())
    except OSError as error:
        raise ConfigError([Problem("error", f'--next: "{path}": {error.strerror}')]) from error
    except ValueError as error:
        raise ConfigError([Problem("error", f'--next: "{path}": {error}')]) from error
