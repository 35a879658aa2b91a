"""Checks of TLS that involve several statements: options that need others, and lists of files that must match."""

import re
from collections.abc import Callable, Iterable, Iterator

from triosmtp.config.option import LISTEN, PEER
from triosmtp.config.options import OPTIONS, Settings
from triosmtp.config.resolution import ScopeChain
from triosmtp.config.source import Place
from triosmtp.config.types.server_name import ServerName

__all__ = ["PAIRED", "idle_settings", "pairing_errors", "suite_errors", "tls_errors", "tls_warnings"]


PAIRED = ("tls_key", "tls_key_password_file", "tls_ocsp_response")
"""The options whose files pair with those of TLS_Certificate."""
_OFFERING = '; it takes a TLS_Certificate, and "STARTTLS" in SMTP_Extensions'


def tls_errors(where: str, chain: ScopeChain, settings: Settings, *, named: bool) -> Iterator[tuple[str, str]]:
    """Return field and message of options that conflict for the connections of ``where``.

    A Listen that is ``named`` has Server_Names: their certificates are no substitute for its own, which clients
    that ask for no name, or for another one, receive.
    """
    starttls = "STARTTLS" in settings.smtp_extensions
    no_certificate = f"needs a TLS_Certificate, and none is in force for {where}"
    if named:
        no_certificate += " (those of its Server_Names are for clients that ask for these names alone)"
    if settings.use_ssl and not settings.tls_certificate:
        yield "use_ssl", f"TLS from the first byte {no_certificate}"
    if settings.use_ssl and starttls and _set_here(chain):
        position = settings.places["use_ssl"].position
        yield "smtp_extensions", f"STARTTLS excludes Use_SSL, which is set for {where} at {position}"
    if starttls and not settings.use_ssl and not settings.tls_certificate and not _unset_by_peer(chain):
        yield "smtp_extensions", f"STARTTLS {no_certificate}"
    if settings.require_tls and not _has_tls(settings):
        yield "require_tls", f"nobody could come in: STARTTLS is not offered for {where}{_OFFERING}"
    if settings.tls_verify_mode == "require" and settings.tls_client_ca is None and not settings.grants_by_fingerprint:
        needed = "a TLS_Client_CA, or fingerprints in TLS_Relay_Clients with TLS_Verified_Peer_Can_Relay"
        yield "tls_verify_mode", f"require needs {needed}, and none is in force for {where}"
    yield from _demand_errors(where, settings)
    yield from suite_errors(where, settings)
    yield from pairing_errors(where, settings)


def _demand_errors(where: str, settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield field and message if nobody could meet TLS_Require_Verified or TLS_Require_Verified_From."""
    if settings.tls_require_verified and not _has_tls(settings):
        yield "tls_require_verified", f"nobody could send: STARTTLS is not offered for {where}{_OFFERING}"
    for field in ("tls_require_verified", "tls_require_verified_from"):
        if not getattr(settings, field):
            continue
        if settings.tls_client_ca is None and not settings.grants_by_fingerprint:
            needed = "a TLS_Client_CA, or sha256: or spki: fingerprints in TLS_Relay_Clients"
            yield field, f"needs {needed}, and none is in force for {where}"
        elif settings.tls_verify_mode == "none":
            position = settings.places["tls_verify_mode"].position
            yield field, f"TLS_Verify_Mode = none ({position}): no client is asked for a certificate for {where}"


def _has_tls(settings: Settings) -> bool:
    return settings.use_ssl or settings.offers_starttls


def tls_warnings(where: str, settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield field and message of each TLS option that protects less than its name suggests, for ``where``."""
    if settings.tls_verify_mode == "require" and not (
        settings.require_tls or settings.use_ssl or settings.tls_require_verified
    ):
        why = f"require refuses no client that stays in plaintext, and TLS is not required for {where}"
        yield "tls_verify_mode", f"{why}: set Require_TLS"
    for field, whose in (("require_tls_for", "for"), ("require_tls_from", "of"), ("tls_require_verified_from", "of")):
        if getattr(settings, field) and not _has_tls(settings):
            yield field, f"no mail {whose} these domains can come in: STARTTLS is not offered for {where}{_OFFERING}"
    if settings.tls_client_purpose == "client-or-server" and settings.tls_client_ca is not None:
        rights = " and ".join(_rights_of_servers(settings))
        if rights:
            yield "tls_client_purpose", f"with client-or-server {rights}, web servers included, for {where}"


def _rights_of_servers(settings: Settings) -> Iterator[str]:
    """Yield what the server of a name may do because its certificate bears that name."""
    if settings.tls_verified_peer_can_relay and not settings.tls_relay_clients:
        yield "every server that TLS_Client_CA vouches for may relay"
    if settings.tls_verified_peer_can_relay and any(each.kind == "dns" for each in settings.tls_relay_clients):
        yield "a dns: entry of TLS_Relay_Clients lets every server of that name relay"
    if settings.tls_require_verified:
        yield "TLS_Require_Verified lets in every server that TLS_Client_CA vouches for"
    external = settings.authexternalparameters
    if external is not None and external.map in {"dns", "subject_cn"}:
        yield "every server may authenticate by AUTH EXTERNAL as its name"


def suite_errors(where: str, settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield field and message if the suites of TLS 1.3 are named twice."""
    if settings.tlsv13_ciphersuites is not None and re.search(r"(^|[:, ])TLS_", settings.tls_ciphers):
        position = settings.places["tls_ciphers"].position
        yield "tlsv13_ciphersuites", f"TLS_Ciphers names suites of TLS 1.3, too, for {where} ({position})"


def pairing_errors(where: str, held: Settings | ServerName) -> Iterator[tuple[str, str]]:
    """Return field and message of each list of files that does not pair with those of TLS_Certificate."""
    certificates = len(held.tls_certificate)
    if not certificates:
        return
    position = held.places["tls_certificate"].position
    partners = f"{_files(certificates)} of TLS_Certificate that {'is' if certificates == 1 else 'are'} in force"
    pair = f"cannot pair with the {partners} for {where} ({position})"
    keys, passwords, responses = len(held.tls_key), len(held.tls_key_password_file), len(held.tls_ocsp_response)
    if keys not in {0, certificates}:
        yield "tls_key", f"{_files(keys)} {pair}: one for each, or none where each holds its key"
    if passwords not in {0, 1, certificates}:
        yield "tls_key_password_file", f"{_files(passwords)} {pair}: one for all keys, or one for each"
    if responses not in {0, certificates}:
        yield "tls_ocsp_response", f"{_files(responses)} {pair}: one for each, or none"


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


# Settings without effect


def _lets_relay(settings: Settings) -> bool:
    return settings.tls_verified_peer_can_relay or not settings.tls_relay_clients or settings.grants_by_fingerprint


def _names_can_hold(settings: Settings) -> bool:
    named = any(not client.by_fingerprint for client in settings.tls_relay_clients)
    return not named or not settings.tls_verified_peer_can_relay or settings.tls_client_ca is not None


def _lists_count(settings: Settings) -> bool:
    return settings.tls_client_ca is not None or settings.grants_by_fingerprint or not settings.tls_client_crl


def _purpose_counts(settings: Settings) -> bool:
    return settings.tls_client_ca is not None or settings.tls_client_purpose == "client"


_NEEDS: tuple[tuple[str, Callable[[Settings], bool], str], ...] = (
    ("tls_relay_clients", _lets_relay, "has no effect: TLS_Verified_Peer_Can_Relay is not true where this holds"),
    (
        "tls_relay_clients",
        _names_can_hold,
        "dns: and email: entries have no effect without a TLS_Client_CA, by which no certificate can be verified here",
    ),
    (
        "tls_client_crl",
        _lists_count,
        "has no effect without a TLS_Client_CA, or fingerprints in TLS_Relay_Clients",
    ),
    ("tls_client_purpose", _purpose_counts, "has no effect without a TLS_Client_CA"),
)


def idle_settings(variants: Iterable[Settings]) -> Iterator[tuple[Place, str]]:
    """Return place and message of each value that applies to some connections, and has no effect for any.

    ``variants`` are those of every Listen.
    """
    holding: dict[tuple[str, Place], list[Settings]] = {}
    for settings in variants:
        for field in {field for field, _, _ in _NEEDS} & settings.places.keys():
            holding.setdefault((field, settings.places[field]), []).append(settings)
    for (field, place), found in holding.items():
        for needing, is_met, message in _NEEDS:
            if field == needing and not any(map(is_met, found)):
                yield place, f"{OPTIONS[field].name}: {message}"


# The blocks that set the values


def _block_of(chain: ScopeChain, field: str) -> int | None:
    return next((index for index, block in enumerate(chain) if field in block.assignments), None)


def _set_here(chain: ScopeChain) -> bool:
    """Return whether STARTTLS is set on the Listen or its Peer, and not after the block that sets Use_SSL."""
    starttls = _block_of(chain, "smtp_extensions")
    use_ssl = _block_of(chain, "use_ssl")
    last = next(index for index, block in enumerate(chain) if block.kind == LISTEN)
    return starttls is not None and use_ssl is not None and starttls <= min(use_ssl, last)


def _unset_by_peer(chain: ScopeChain) -> bool:
    index = _block_of(chain, "tls_certificate")
    return index is not None and chain[index].kind == PEER
