"""The values of the TLS options: files, protocol versions, ciphers, clients that may relay, rates."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

from attrs import frozen

from triosmtp.config.parser import Items, Scalar, Value
from triosmtp.config.suggestion import nearest, suggest
from triosmtp.config.types.option_type import (
    LIMIT,
    PATH,
    SECONDS,
    TEXT,
    BadValueError,
    OptionType,
    Warn,
    bad_value,
    list_of,
    plain_seconds,
    quote,
    text_of,
)
from triosmtp.domain import DomainError, name_key, pattern_key

__all__ = [
    "CIPHERS", "DEPTH", "FILES", "FINGERPRINT", "GROUPS", "PROTOCOLS", "RATE", "RELAY_CLIENTS", "SUITES", "RelayClient",
]  # fmt: skip

# Files


def _is_none(value: Value) -> bool:
    return isinstance(value, Scalar) and value.text.lower() == "none"


_PATHS = list_of(PATH, "path, list of paths, or none")


def _read_files(value: Value, warn: Warn) -> tuple[Path, ...]:
    if _is_none(value):
        return ()
    for each in value.values if isinstance(value, Items) else ():
        if _is_none(each):
            raise BadValueError(each.place, "none stands alone, not in a list; a file of that name is ./none")
    return _PATHS.read(value, warn)


def _write_files(value: object) -> str:
    if not isinstance(value, tuple):
        raise TypeError(f"not a tuple: {value!r}")
    if len(value) == 1:
        return PATH.write(value[0])
    return _PATHS.write(value) if value else "none"


FILES: OptionType[tuple[Path, ...]] = OptionType(_PATHS.name, _read_files, _write_files)

# Protocols

_VERSIONS = ("TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3")
_CURRENT = _VERSIONS[2:]
_REMOVABLE = ("SSLv2", "SSLv3")
_PROTOCOL_NAMES = ("ALL", *_REMOVABLE, *_VERSIONS)
_PROTOCOLS_EXPECTED = "+base[:+-name…], such as +ALL or +TLSv1.2:+TLSv1.3"


def _read_protocols(value: Value, warn: Warn) -> tuple[str, ...]:
    text = text_of(value, _PROTOCOLS_EXPECTED)
    chosen: set[str] = set()
    for index, part in enumerate(text.split(":")):
        sign, name = part.strip()[:1], part.strip()[1:]
        if sign != "+" and (sign != "-" or not index):
            raise bad_value(value, _PROTOCOLS_EXPECTED)
        chosen = _apply(value, sign, name, chosen)
    found = tuple(version for version in _VERSIONS if version in chosen)
    if not found:
        raise BadValueError(value.place, f"{quote(text)} leaves no version of TLS")
    _warn_of_versions(found, value, warn)
    return found


def _apply(value: Value, sign: str, name: str, chosen: set[str]) -> set[str]:
    known = next((each for each in _PROTOCOL_NAMES if each.lower() == name.lower()), None)
    if known is None:
        expected = ", ".join(_PROTOCOL_NAMES[:-1]) + f" or {_PROTOCOL_NAMES[-1]}"
        close = suggest(nearest(name, _PROTOCOL_NAMES))
        raise BadValueError(value.place, f"expected {expected}, found {quote(name)}{close}")
    if sign == "-":
        return set() if known == "ALL" else chosen - {known}
    if known in _REMOVABLE:
        raise BadValueError(
            value.place, f"{known} can be removed, never added: it is broken, and OpenSSL has it no more"
        )
    return chosen | (set(_CURRENT) if known == "ALL" else {known})


def _warn_of_versions(found: tuple[str, ...], value: Value, warn: Warn) -> None:
    old = [version for version in found if version not in _CURRENT]
    if old:
        lowered = "and OpenSSL's security level is lowered to 0 for every connection that this holds for"
        warn(
            value.place,
            f"TLS_Protocols: {' and '.join(old)} {'are' if old[1:] else 'is'} obsolete (RFC 8996), {lowered}",
        )
    between = _VERSIONS[_VERSIONS.index(found[0]) : _VERSIONS.index(found[-1])]
    missing = [version for version in between if version not in found]
    if missing:
        gap = f"{' and '.join(missing)} missing between {found[0]} and {found[-1]}"
        warn(value.place, f"TLS_Protocols: {gap}: such a gap keeps out clients that would agree on another version")


def _write_protocols(value: object) -> str:
    if not isinstance(value, tuple):
        raise TypeError(f"not a tuple: {value!r}")
    return quote("+ALL" if value == _CURRENT else ":".join(f"+{version}" for version in value))


PROTOCOLS: OptionType[tuple[str, ...]] = OptionType("protocol versions", _read_protocols, _write_protocols)

# Ciphers

_GNUTLS = re.compile(
    r"(NORMAL|PERFORMANCE|PFS|LEGACY|NONE|SECURE\d*)(:.*)?|.*[+!-](VERS|MAC|KX|CIPHER|COMP|SIGN|GROUP)-.*"
)


def _read_ciphers(value: Value, _warn: Warn) -> str:
    text = text_of(value, "an OpenSSL cipher list").strip()
    if not text:
        raise BadValueError(value.place, "expected an OpenSSL cipher list, such as DEFAULT")
    if _GNUTLS.fullmatch(text.upper()):
        message = f"{quote(text)} is a GnuTLS priority string: expected an OpenSSL cipher list, such as DEFAULT"
        raise BadValueError(value.place, message)
    return text


CIPHERS = OptionType("cipher list", _read_ciphers, TEXT.write)


def _read_suites(value: Value, _warn: Warn) -> str:
    expected = "suites of TLS 1.3, such as TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
    suites = _read_names(value, expected)
    wrong = next((each for each in suites if not each.startswith("TLS_")), None)
    if wrong is not None:
        where = "a suite of TLS 1.2 belongs into TLS_Ciphers"
        raise BadValueError(value.place, f"expected {expected}, found {quote(wrong)}: {where}")
    return ":".join(suites)


def _read_groups(value: Value, _warn: Warn) -> tuple[str, ...]:
    return _read_names(value, "names of groups, such as X25519:P-256")


def _read_names(value: Value, expected: str) -> tuple[str, ...]:
    names = tuple(text_of(value, expected).strip().split(":"))
    if not all(map(_NAME.fullmatch, names)):
        raise bad_value(value, expected)
    return names


def _write_groups(value: object) -> str:
    if not isinstance(value, tuple):
        raise TypeError(f"not a tuple: {value!r}")
    return quote(":".join(value)) if value else "unset"


_NAME = re.compile(r"[A-Za-z0-9_-]+")  # OpenSSL's marks, such as ? and /, are not passed on
SUITES: OptionType[str] = OptionType("suites of TLS 1.3", _read_suites, TEXT.write)
GROUPS: OptionType[tuple[str, ...]] = OptionType("names of groups", _read_groups, _write_groups)

# Clients that may relay

RelayKind: TypeAlias = Literal["sha256", "spki", "dns", "email"]


@frozen(slots=True)
class RelayClient:
    """One entry of TLS_Relay_Clients.

    ``value`` has the form in which it is compared.  For ``sha256`` (of the certificate) and ``spki`` (of its public
    key) it is 64 hexadecimal digits in lower case.  For ``dns`` it is a domain in lower case, as A-labels, or a pattern
    as in Relay_Domains.  For ``email`` it is an address with such a domain.
    """

    kind: RelayKind
    value: str

    @property
    def by_fingerprint(self) -> bool:
        """Whether the certificate need not verify, because only one client has its key."""
        return self.kind in {"sha256", "spki"}

    def __str__(self) -> str:
        """Return the form in a file."""
        return f"{self.kind}:{self.value}"


def _fingerprint(text: str) -> str:
    digits = text.replace(":", "").lower()
    if re.fullmatch(r"[0-9a-f]{64}", digits) is None or not re.fullmatch(r"[^:]*|..(?::..){31}", text):
        found = f"found {len(digits)} of them" if re.fullmatch(r"[0-9a-f]*", digits) else f"found {quote(text)}"
        raise ValueError(f"expected 64 hexadecimal digits (SHA-256; a colon after every two is tolerated), {found}")
    return digits


def _dns_pattern(text: str) -> str:
    expected = "expected a domain, with a wildcard only at its left end: mx.example.org, *.example.org"
    if text == "*" or text.startswith("["):  # neither is a name that a certificate has
        raise ValueError(f"{expected}, found {quote(text)}")
    try:
        return pattern_key(text)
    except DomainError as error:
        raise ValueError(f"{expected}, found {quote(text)} ({error})") from error


def _email(text: str) -> str:
    local, _, domain = text.rpartition("@")
    try:
        if not re.fullmatch(r"[^\s@*\x00-\x1f\x7f]+", local):
            raise ValueError("not a local part")
        return f"{local}@{name_key(domain)}"
    except ValueError as error:
        raise ValueError(f"expected a mail address, such as relay@example.org, found {quote(text)}") from error


_KINDS: dict[RelayKind, Callable[[str], str]] = {
    "sha256": _fingerprint,
    "spki": _fingerprint,
    "dns": _dns_pattern,
    "email": _email,
}


def _read_relay_client(value: Value, _warn: Warn) -> RelayClient:
    expected = "sha256:…, spki:…, dns:… or email:…"
    text = text_of(value, expected)
    name, colon, rest = text.partition(":")
    kind = next((each for each in _KINDS if colon and each == name.lower()), None)
    if kind is None:
        close = suggest(nearest(f"{name}:", [f"{each}:" for each in _KINDS]))
        raise BadValueError(value.place, f"expected {expected}, found {quote(text)}{close}")
    try:
        return RelayClient(kind, _KINDS[kind](rest))
    except ValueError as error:
        raise BadValueError(value.place, f"{kind}: {error}") from error


def _read_fingerprint(value: Value, warn: Warn) -> RelayClient:
    expected = "sha256:… of a certificate, or spki:… of its public key"
    text = text_of(value, expected)
    if text.partition(":")[0].lower() not in {"sha256", "spki"}:
        raise BadValueError(value.place, f"expected {expected}, found {quote(text)}")
    return _read_relay_client(value, warn)


FINGERPRINT: OptionType[RelayClient] = OptionType("fingerprint", _read_fingerprint, lambda value: quote(str(value)))
_RELAY_CLIENTS = list_of(
    OptionType("client", _read_relay_client, lambda value: quote(str(value))), "list of clients, by their certificates"
)


def _read_relay_clients(value: Value, warn: Warn) -> tuple[RelayClient, ...]:
    clients = _RELAY_CLIENTS.read(value, warn)
    if not clients:
        warn(
            value.place,
            "TLS_Relay_Clients: an empty list restricts nothing: every client whose certificate verifies may relay",
        )
    return clients


RELAY_CLIENTS = OptionType(_RELAY_CLIENTS.name, _read_relay_clients, _RELAY_CLIENTS.write)

# Numbers

_MOST_DEPTH = 100  # OpenSSL's own bound


def _read_depth(value: Value, warn: Warn) -> int:
    depth = LIMIT.read(value, warn)
    if depth > _MOST_DEPTH:
        raise bad_value(value, f"a whole number from 0 to {_MOST_DEPTH}")
    return depth


def _read_rate(value: Value, warn: Warn) -> tuple[int, float] | None:
    expected = 'n/seconds, such as "20/60", or off'
    text = text_of(value, expected)
    if text.lower() == "off":
        return None
    match = re.fullmatch(r"0*([1-9][0-9]{0,8})/(.*)", text)
    if match is None:
        count = re.fullmatch(r"0*([1-9][0-9]{0,8})", text)
        raise bad_value(value, expected + (f': write "{count[1]}/60" for {count[1]} a minute' if count else ""))
    try:
        return int(match[1]), SECONDS.read(Scalar(match[2], value.place), warn)
    except BadValueError as error:
        seconds = plain_seconds(match[2]) or plain_seconds(f"1{match[2]}")  # `3/60s`, `3/min`
        raise bad_value(value, expected + (f': write "{match[1]}/{seconds}"' if seconds else "")) from error


def _write_rate(value: object) -> str:
    if not isinstance(value, tuple):
        raise TypeError(f"not a tuple: {value!r}")
    count, seconds = value
    return quote(f"{count}/{SECONDS.write(seconds)}")


DEPTH: OptionType[int] = OptionType("whole number up to 100", _read_depth, str)
RATE: OptionType[tuple[int, float] | None] = OptionType("n/seconds or off", _read_rate, _write_rate, absent="off")
