"""The checks of a whole configuration: what no statement shows alone.  They look at no file."""

from collections.abc import Iterator

from triosmtp.config.address import TCPAddress
from triosmtp.config.configuration import Config, Listen, address_key
from triosmtp.config.options import ESMTP_LISTENER, LISTEN, OPTIONS, PATHWAY_GROUP, PATHWAY_SCOPE, PEER, Settings
from triosmtp.config.resolution import Chain, pathways_of
from triosmtp.config.scope import Block, Reader, build
from triosmtp.config.source import Place, Problems, Source, TooManyProblemsError
from triosmtp.config.suggestion import nearest, suggest
from triosmtp.config.value import quote
from triosmtp.errors import ConfigError

__all__ = ["make_config"]


def make_config(source: Source, read: Reader) -> Config:
    """Read ``source``, following its includes by ``read``, and check the whole.

    :raises ConfigError: with every problem found, in the order of the files.
    """
    problems = Problems()
    config: Config | None = None
    try:
        root = build(source, problems, read)
        _check_pathways(root, problems)
        if not problems.has_errors:  # what is wrong in one place would be told again and again as missing in others
            config = Config(source, root)
            _check_listens(config, problems, source)
    except TooManyProblemsError:
        pass
    found = problems.in_order()
    if config is None or problems.has_errors:
        raise ConfigError(found)
    config.warnings = found
    return config


# Pathways


def _check_pathways(root: Block, problems: Problems) -> None:
    known = pathways_of(root)
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
        problems.error(assignment.place, f"there is no Pathway {quote(name)}{suggest(nearest(name, known))}")
    for child in block.children.values():
        _check_pathway_names(child, known, problems)


# Listens


def _check_listens(config: Config, problems: Problems, source: Source) -> None:
    if not config.listens:
        disabled = [block for each in config.root.of_kind(ESMTP_LISTENER) for block in each.of_kind(LISTEN)]
        places = [block.place for block in disabled if block.place is not None]
        expected = 'expected ESMTP_Listener { Listen ":25" { … } }'
        problems.error(places[0] if places else Place(source, 0), f"no Listen is enabled: {expected}")
    seen: dict[object, Listen] = {}
    for listen in config.listens:
        address = listen.address
        key = listen.name if isinstance(address, TCPAddress) and address.port == 0 else address_key(address)
        other = seen.setdefault(key, listen)
        if other is not listen:
            listen_is = f"Listen {quote(listen.name)} is the address of Listen {quote(other.name)}"
            problems.error(listen.place, f"{listen_is} at {other.position} too")
        told: set[tuple[str, Place]] = set()
        for chain, settings in config.resolver(listen.block).variants().items():
            where = _call(listen, chain)
            for field, message in _tls_errors(where, chain, settings):
                place = settings.places[field]
                if (field, place) not in told:  # the Peers that inherit it are not told again
                    told.add((field, place))
                    problems.error(place, f"{OPTIONS[field].name}: {message}")


def _call(listen: Listen, chain: Chain) -> str:
    peer = next((block for block in chain if block.kind == PEER), None)
    return f"Listen {quote(listen.name)}" + (f", {peer}" if peer else "")


def _tls_errors(where: str, chain: Chain, settings: Settings) -> Iterator[tuple[str, str]]:
    """Give field and message of whatever does not fit together for these connections."""
    starttls = "STARTTLS" in settings.smtp_extensions
    no_certificate = f"needs a TLS_Certificate, and none is in force for {where}"
    if settings.use_ssl and not settings.tls_certificate:
        yield "use_ssl", f"TLS from the first byte {no_certificate}"
    if settings.use_ssl and starttls and _set_here(chain):
        position = settings.places["use_ssl"].position
        yield "smtp_extensions", f"STARTTLS excludes Use_SSL, which is set for {where} at {position}"
    if starttls and not settings.use_ssl and not settings.tls_certificate and not _unset_by_peer(chain):
        yield "smtp_extensions", f"STARTTLS {no_certificate}"
    if settings.tls_verify_mode == "require" and settings.tls_client_ca is None:
        yield "tls_verify_mode", f"require needs a TLS_Client_CA, and none is in force for {where}"


def _block_of(chain: Chain, field: str) -> int | None:
    return next((index for index, block in enumerate(chain) if field in block.assignments), None)


def _set_here(chain: Chain) -> bool:
    """Whether STARTTLS is set on the Listen itself, or a Peer of it, and not behind where Use_SSL is set."""
    starttls = _block_of(chain, "smtp_extensions")
    use_ssl = _block_of(chain, "use_ssl")
    last = next(index for index, block in enumerate(chain) if block.kind == LISTEN)
    return starttls is not None and use_ssl is not None and starttls <= min(use_ssl, last)


def _unset_by_peer(chain: Chain) -> bool:
    index = _block_of(chain, "tls_certificate")
    return index is not None and chain[index].kind == PEER
