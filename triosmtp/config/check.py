"""Checks of a whole configuration: errors that involve several statements.  They read no file that it names."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path

from triosmtp.config.auth_check import check_auth_services
from triosmtp.config.configuration import Config, Listen, server_name_of
from triosmtp.config.consumer_check import check_consumers
from triosmtp.config.delivery_check import check_deliveries
from triosmtp.config.filter_check import check_filters
from triosmtp.config.option import ESMTP_LISTENER, LISTEN, LOG, PATHWAY_GROUP, PATHWAY_SCOPE, PEER, SERVER_NAME
from triosmtp.config.options import OPTIONS, Settings
from triosmtp.config.resolution import ScopeChain, pathways_of
from triosmtp.config.scope import Block, Reader, build
from triosmtp.config.script_check import check_scripts
from triosmtp.config.source import Place, Problems, Source, TooManyProblemsError
from triosmtp.config.suggestion import nearest, suggest
from triosmtp.config.tls_check import PAIRED, idle_settings, pairing_errors, suite_errors, tls_errors, tls_warnings
from triosmtp.config.types.listen_address import TCPAddress
from triosmtp.config.types.option_type import quote
from triosmtp.config.types.smtp_types import TRUSTED_PEER_EXTENSIONS
from triosmtp.errors import ConfigError, Problem, Severity

__all__ = ["examine", "make_config"]


def make_config(source: Source, read: Reader) -> Config:
    """Read ``source``, following its includes by ``read``, and check the whole.

    :raises ConfigError: with every problem found, in the order of the files.
    """
    config, found = examine(source, read)
    if config is None or any(problem.severity is Severity.ERROR for problem in found):
        raise ConfigError(found)
    return config


def examine(source: Source, read: Reader) -> tuple[Config | None, tuple[Problem, ...]]:
    """Return every problem of ``source``, in the order of the files, and what could be read of it.

    Each block says what is unknown there because of an error.  Errors that may only follow from that are not reported.
    """
    problems = Problems()
    config: Config | None = None
    try:
        config = Config(source, build(source, problems, read))
        _check_pathways(config.root, problems)
        check_filters(config.root, problems)
        check_deliveries(config, problems)
        check_consumers(config, problems)
        check_scripts(config.root, problems)
        check_auth_services(config.root, problems)
        _check_listens(config, problems, source)
        _check_logs(config, problems)
    except TooManyProblemsError:
        pass
    found = problems.in_order()
    if config is not None:
        config.warnings = found
    return config, found


_ANY_TLS = frozenset(
    {field for field in OPTIONS if field.startswith("tls_")} | {"use_ssl", "smtp_extensions", "require_tls"}
)
_PAIRING = {field: frozenset({field, "tls_certificate"}) for field in PAIRED}
_CONSULTED: Mapping[str, frozenset[str]] = {
    **_PAIRING,
    "use_ssl": frozenset({"use_ssl", "tls_certificate"}),
    "smtp_extensions": frozenset({"smtp_extensions", "use_ssl", "tls_certificate"}),
    "require_tls": frozenset({"require_tls", "use_ssl", "smtp_extensions", "tls_certificate"}),
    "tls_verify_mode": frozenset({"tls_verify_mode", "tls_client_ca", "tls_relay_clients", "require_tls", "use_ssl"})
    | {"tls_verified_peer_can_relay"},
}
"""The options that an error of an option may follow from: if one is unknown, the error is not reported."""


def _unknown(chain: Iterable[Block]) -> set[str]:
    return {each for block in chain for each in block.unknown}


def _is_known(unknown: set[str], field: str) -> bool:
    return "*" not in unknown and unknown.isdisjoint(_CONSULTED.get(field, _ANY_TLS))


# Pathways


def _check_pathways(root: Block, problems: Problems) -> None:
    known = pathways_of(root)
    if _unknown((root, *root.of_kind(PATHWAY_GROUP))).isdisjoint({"*", "pathway", "pathway_group"}):
        _check_pathway_names(root, known, problems)
    for group in root.of_kind(PATHWAY_GROUP):
        for pathway in group.of_kind(PATHWAY_SCOPE):
            first = known[pathway.instance or ""]
            if first is not pathway and first.place is not None and pathway.place is not None:
                message = f"{pathway} stands in {first.parent} too, at {first.place.position}"
                problems.error(pathway.place, message)


def _check_pathway_names(block: Block, known: dict[str, Block], problems: Problems) -> None:
    assignment = block.assignments.get("pathway")
    if assignment is not None and assignment.value not in known:
        name = str(assignment.value)
        if name == "default":  # Momentum has one, whether it stands in the file or not
            problems.warn(assignment.place, 'there is no Pathway "default": no options are taken from it')
        else:
            problems.error(assignment.place, f"there is no Pathway {quote(name)}{suggest(nearest(name, known))}")
    for child in block.children.values():
        _check_pathway_names(child, known, problems)


# Listens


def _check_listens(config: Config, problems: Problems, source: Source) -> None:
    listeners = config.root.of_kind(ESMTP_LISTENER)
    disabled = [block for each in listeners for block in each.of_kind(LISTEN)]
    lost = _unknown((config.root, *listeners, *disabled)) & {"*", "listen", "esmtp_listener", "enable"}
    if not config.listens and not lost and not config.consumers:
        places = [block.place for block in disabled if block.place is not None]
        expected = 'expected ESMTP_Listener { Listen ":25" { … } }'
        problems.error(places[0] if places else Place(source, 0), f"no Listen is enabled: {expected}")
    _check_addresses(config, problems)
    for listen in config.policy_listens:
        if not _unknown(config.resolver(listen.block).chain(None)):
            _check_policy_listen(listen, config.resolve(listen, None), problems)
    for listen in config.status_listens:
        if (
            not _unknown(config.resolver(listen.block).chain(None))
            and config.resolve(listen, None).token_file is None
            and not _is_local_only(listen)
        ):
            why = "is not on a loopback address: it needs a Token_File"
            problems.error(listen.place, f"Listen {quote(listen.name)} {why}")
    in_force: list[Settings] = []
    for listen in config.listens:
        variants = config.resolver(listen.block).variants()
        in_force += variants.values()
        _check_server_names(listen, problems)
        _check_variants(listen, variants, problems)
    for place, message in () if problems.has_errors else idle_settings(in_force):
        problems.warn(place, message)


def _check_variants(listen: Listen, variants: Mapping[ScopeChain, Settings], problems: Problems) -> None:
    reported: set[tuple[str, Place]] = set()

    def report(add: Callable[[Place, str], None], found: Iterable[tuple[str, str]], settings: Settings) -> None:
        for field, message in found:
            place = settings.places[field]
            # It is not reported again for the Peers that inherit it.
            if (field, place) not in reported and _is_known(unknown, field):
                reported.add((field, place))
                add(place, f"{OPTIONS[field].name}: {message}")

    named = bool(listen.block.of_kind(SERVER_NAME))
    for chain, settings in variants.items():
        where, unknown = _call(listen, chain), _unknown(chain)
        report(problems.warn, _misplaced_trust(listen, chain, settings), settings)
        report(problems.error, tls_errors(where, chain, settings, named=named), settings)
        report(problems.warn, tls_warnings(where, settings), settings)


def _misplaced_trust(listen: Listen, chain: ScopeChain, settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield field and message of each option by which every client may announce another one."""
    if _is_local_only(listen):
        return
    trusted = [each for each in TRUSTED_PEER_EXTENSIONS if each in settings.smtp_extensions]
    peer = next((block.network for block in chain if block.kind == PEER), None)
    if trusted and (peer is None or peer.prefixlen == 0):
        risk = "offered to every client, and any client could claim any address"
        yield "smtp_extensions", f"{', '.join(trusted)} is {risk}: list it in a trusted Peer"
    if any(network.prefixlen == 0 for network in settings.proxy_protocol.networks):
        yield "proxy_protocol", "every client could claim any address: list only the proxies"


def _check_logs(config: Config, problems: Problems) -> None:
    paths: dict[Path, str] = {}
    unknown = {block.instance for block in config.root.of_kind(LOG) if block.unknown}
    for log in config.logs:
        to_file = log.name not in {"stderr", "syslog"}
        if log.name == "stderr" and log.path is not None:
            problems.error(log.place, 'Log "stderr" has no Path: it goes where stderr of the process goes')
        elif to_file and log.path is None and log.name not in unknown:
            problems.error(log.place, f"Log {quote(log.name)} needs a Path")
        elif to_file and log.format != "auto" and log.path is not None:
            problems.warn(log.place, f"Format has no effect in Log {quote(log.name)}: it has Momentum's form")
        if log.name != "syslog" and log.facility != "mail":
            problems.warn(log.place, f'Facility has no effect in Log {quote(log.name)}: it is for Log "syslog"')
        if log.path is not None and paths.setdefault(log.path, log.name) != log.name:
            problems.error(log.place, f"Log {quote(log.name)} has the Path of Log {quote(paths[log.path])}")


def _every_listen(config: Config) -> tuple[Listen, ...]:
    return (*config.listens, *config.control_listens, *config.policy_listens, *config.status_listens)


def _is_local_only(listen: Listen) -> bool:
    """Return whether only processes of this host can reach it."""
    address = listen.address
    if not isinstance(address, TCPAddress):
        return True
    return address.host is not None and ip_address(address.host).is_loopback


def _check_addresses(config: Config, problems: Problems) -> None:
    seen: dict[object, Listen] = {}
    for listen in _every_listen(config):
        other = seen.setdefault(listen.key, listen)
        if other is not listen:
            listen_is = f"Listen {quote(listen.name)} is the address of Listen {quote(other.name)}"
            problems.error(listen.place, f"{listen_is} at {other.position} too")
    _check_overlaps(config, list(seen.values()), problems)
    for listen in config.listens:
        wildcard = config.wildcard_of(listen)
        if wildcard is not None:
            _check_sheltered(config, listen, wildcard, problems)


def _check_overlaps(config: Config, listens: list[Listen], problems: Problems) -> None:
    """Find ports that are asked for on all addresses and on one of them: the kernel assigns them to one socket.

    Listens for mail may share that socket.
    """
    for number, listen in enumerate(listens):
        for other in listens[:number]:
            one, another = listen.address, other.address
            if not (isinstance(one, TCPAddress) and isinstance(another, TCPAddress) and one.overlaps(another)):
                continue
            if config.wildcard_of(listen) is not other and config.wildcard_of(other) is not listen:
                listen_and = f"Listen {quote(listen.name)} and Listen {quote(other.name)} at {other.position}"
                problems.error(listen.place, f"{listen_and} overlap: one of them is for all addresses")


_OF_THE_SOCKET = ("listen_backlog", "tcp_recv_buffer_size", "tcp_send_buffer_size")


def _check_sheltered(config: Config, listen: Listen, wildcard: Listen, problems: Problems) -> None:
    """Warn of what only a socket of its own would have."""
    settings, in_force = config.resolve(listen, None), config.resolve(wildcard, None)
    for field in _OF_THE_SOCKET:
        place = settings.places.get(field)
        if place is not None and getattr(settings, field) != getattr(in_force, field):
            socket = f"its connections come by the socket of Listen {quote(wildcard.name)} at {wildcard.position}"
            problems.warn(place, f"{OPTIONS[field].name} has no effect for Listen {quote(listen.name)}: {socket}")


def _check_policy_listen(listen: Listen, settings: Settings, problems: Problems) -> None:
    """Check that policy clients must authenticate, and that nobody can read their connections."""
    where = f"Listen {quote(listen.name)}"
    for field, message in (*suite_errors(where, settings), *pairing_errors(where, settings)):
        problems.error(settings.places[field], f"{OPTIONS[field].name}: {message}")
    if settings.tls_client_ca is not None and not settings.tls_certificate:
        problems.error(
            settings.places["tls_client_ca"], "TLS_Client_CA: needs a TLS_Certificate in the Policy_Listener"
        )
    if not isinstance(listen.address, TCPAddress):
        return
    if not (_is_local_only(listen) or settings.tls_certificate):
        why = "is public, and has no TLS_Certificate: policy clients would be overheard"
        problems.error(listen.place, f"Listen {quote(listen.name)} {why}")
    certified = settings.tls_client_ca is not None and settings.tls_verify_mode != "none"
    if settings.token_file is None and settings.admin_token_file is None and not certified:
        needed = "a Token_File, or a TLS_Client_CA for certificates of policy clients"
        problems.error(listen.place, f"Listen {quote(listen.name)} needs {needed}")


def _check_server_names(listen: Listen, problems: Problems) -> None:
    seen: dict[str, Block] = {}
    for block in listen.block.of_kind(SERVER_NAME):
        if block.place is None or block.server_name is None or block.unknown:
            continue
        other = seen.setdefault(block.server_name, block)
        if other is not block and other.place is not None:
            problems.error(block.place, f"{block} is the name of {other} at {other.place.position} too")
        server_name = server_name_of(block)
        if not server_name.tls_certificate:
            problems.error(block.place, f"{block} needs a TLS_Certificate of its own: nothing in it is inherited")
        for field, message in pairing_errors(str(block), server_name):
            problems.error(server_name.places[field], f"{OPTIONS[field].name}: {message}")


def _call(listen: Listen, chain: ScopeChain) -> str:
    peer = next((block for block in chain if block.kind == PEER), None)
    return f"Listen {quote(listen.name)}" + (f", {peer}" if peer else "")
