"""The commands ``triosmtp tls``: the contexts of a configuration, faults that clients would meet, DANE records."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from triosmtp.config import Config, ServerName, Settings, problem_at
from triosmtp.domain import DomainError, name_key
from triosmtp.errors import ConfigError, Problem, QueryError, Severity
from triosmtp.server.tls_contexts import material_problem, material_problems
from triosmtp.server.tls_report import ContextGroup, ContextUse, context_lines, group_contexts
from triosmtp.tls import Material, MaterialError, ServerCertificate, build_context, load_material
from triosmtp.tls.chain_findings import (
    Authorities,
    chain_findings,
    load_authorities,
    tlsa_data,
    tlsa_data_of_pem,
)
from triosmtp.tls.context import select_name
from triosmtp.tls.server_identity import matches_name

__all__ = ["tls_check", "tls_show", "tls_tlsa"]

_OURS: Final = {"TLS_Certificate", "TLS_Key", "TLS_Key_Password_File", "TLS_OCSP_Response"}
"""A warning about these files is an error here: clients see the fault, or other users can read the key."""


# show


def tls_show(config: Config) -> int:
    """Print every context with the connections that use it.

    :raises ConfigError: if a file cannot be used.
    """
    groups, without = group_contexts(config)
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


# check


def tls_check(config: Config, bundle: str | None = None) -> int:
    """Print faults that clients would meet; return the exit status, 1 if one of them is an error.

    ``bundle`` holds the only authorities that clients know.  Without it, clients know those of this system and others.

    :raises ConfigError: if the bundle cannot be used.
    """
    known = _authorities(bundle)
    problems: dict[Problem, None] = {}
    for group in group_contexts(config)[0]:
        problems |= dict.fromkeys(_group_problems(group, known))
    for problem in problems:
        print(problem, file=sys.stderr)
    errors = sum(problem.severity is Severity.ERROR for problem in problems)
    if errors:
        print(f"{errors} {'error' if errors == 1 else 'errors'} in TLS")
        return 1
    print("TLS valid")
    return 0


def _authorities(bundle: str | None) -> Authorities:
    try:
        return Authorities.of(load_authorities(None if bundle is None else Path(bundle)), complete=bundle is not None)
    except OSError as error:
        raise ConfigError([Problem(Severity.ERROR, f'--ca: "{bundle}": {error.strerror}')]) from error
    except ValueError as error:
        raise ConfigError([Problem(Severity.ERROR, f'--ca: "{bundle}": {error}')]) from error


def _group_problems(group: ContextGroup, known: Authorities) -> Iterator[Problem]:
    use = group.uses[0]
    try:
        material = load_material(group.tls)
        context = build_context(material)
    except MaterialError as error:
        yield from material_problems(use.settings, use.server_names, error)
        return
    for warning in context.warnings:
        severity = Severity.ERROR if warning.option in _OURS else Severity.WARNING
        yield material_problem(use.settings, use.server_names, warning, severity)
    if not known.complete:
        known = known.joined_by(material.authorities)
    for identity in material.certificates:
        yield from _chain_problems(use.settings, identity, known)
        for each in group.uses:
            yield from _name_problems(each, identity)
    for scope in use.server_names:
        for identity in material.server_names[scope.name]:
            yield from _chain_problems(scope, identity, known)
            if not matches_name(identity.chain[0].der, scope.name):
                text = f'"{identity.paths.certificate}" is not for its Server_Name, {scope.name}'
                yield problem_at(scope, "tls_certificate", text)


def _chain_problems(scope: Settings | ServerName, material: ServerCertificate, known: Authorities) -> Iterator[Problem]:
    for finding in chain_findings(material.chain, known):
        text = f'"{material.paths.certificate}": {finding.text}'
        yield problem_at(scope, "tls_certificate", text, finding.severity)


def _name_problems(use: ContextUse, material: ServerCertificate) -> Iterator[Problem]:
    if matches_name(material.chain[0].der, use.host):
        return
    path = material.paths.certificate
    if use.settings.banner_hostname is None:
        text = f'"{path}" is not for {use.host}, the host name in the banner'
        yield problem_at(use.settings, "tls_certificate", text, Severity.WARNING)
    else:
        text = f'"{path}" is not for {use.host}, the Banner_Hostname'
        yield problem_at(use.settings, "tls_certificate", text)


# tlsa


def tls_tlsa(
    config: Config, hosts: Iterable[str] = (), next_keys: Iterable[str] = (), *, port: int | None = None
) -> int:
    """Print TLSA records 3 1 1 (RFC 7672) of every certificate in force and of future keys.

    ``hosts`` are the names in MX records; the default is each Banner_Hostname and Server_Name.  ``port`` stands for the
    ports of the Listens.

    :raises ConfigError: if a file cannot be used.
    :raises QueryError: if no host or no port is known, or a host is no domain name.
    """
    records = _records(config, [_host(each) for each in hosts], port)
    if not records:
        text = "no Listen with a certificate has a TCP port that other hosts reach"
        raise QueryError(f"{text}: set the port that clients connect to with --port")
    for next_key in next_keys:
        data = _next(Path(next_key))
        for found in records.values():
            found.setdefault(data, f'next: "{next_key}"')
    for (host, known), found in records.items():
        for data, origin in found.items():
            print(f"_{known}._tcp.{host}. IN TLSA {data} ; {origin}")
    return 0


def _records(config: Config, asked: Iterable[str], port: int | None) -> dict[tuple[str, int], dict[str, str]]:
    """Return, by host and port, each record's data with its origin."""
    records: dict[tuple[str, int], dict[str, str]] = {}
    for group in group_contexts(config)[0]:
        use = group.uses[0]
        try:
            material = load_material(group.tls)
        except MaterialError as error:
            raise ConfigError(material_problems(use.settings, use.server_names, error)) from error
        for each in group.uses:
            served, known = _served(each, material, asked), port or each.port
            if known is None:
                continue
            for host, certificates in served.items():
                _record(records.setdefault((host, known), {}), certificates)
    return records


def _served(use: ContextUse, material: Material, asked: Iterable[str]) -> dict[str, tuple[ServerCertificate, ...]]:
    """Return the certificates by host: of the hosts ``asked`` for, by default of each host in the configuration."""
    named = material.server_names
    if asked:
        return {host: select_name(host.encode(), named.get) or material.certificates for host in asked}
    if use.settings.banner_hostname is None:
        text = f"{use.where} has no Banner_Hostname: name the host of the MX record"
        raise QueryError(f"{text}: triosmtp tls tlsa -c FILE mx.example.org")
    own = {_host(use.settings.banner_hostname): material.certificates}
    return own | {name: each for name, each in named.items() if not name.startswith("*.")}  # a record belongs to a host


def _host(text: str) -> str:
    try:
        return name_key(text.removesuffix("."))
    except DomainError as error:
        raise QueryError(f"expected the name of a host, such as mx.example.org, found {text!r}: {error}") from None


def _record(found: dict[str, str], certificates: Iterable[ServerCertificate]) -> None:
    for material in certificates:
        found.setdefault(
            tlsa_data(material.chain[0].der),
            f'"{material.paths.certificate}" {material.key_type}',
        )


def _next(path: Path) -> str:
    try:
        return tlsa_data_of_pem(path.read_bytes())
    except OSError as error:
        raise ConfigError([Problem(Severity.ERROR, f'--next: "{path}": {error.strerror}')]) from error
    except ValueError as error:
        raise ConfigError([Problem(Severity.ERROR, f'--next: "{path}": {error}')]) from error
