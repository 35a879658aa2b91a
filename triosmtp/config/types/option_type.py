"""The types of option values: how each is read from the syntax tree, and how it is written again."""

import re
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

from attrs import frozen

from triosmtp.config.lexer import needs_quotes
from triosmtp.config.parser import Dictionary, Items, Scalar, Value
from triosmtp.config.source import Place
from triosmtp.config.suggestion import nearest, suggest
from triosmtp.domain import DomainError, domain_key, name_key, pattern_key

__all__ = [
    "AUTO_LIMIT",
    "BOOLEAN",
    "DOMAIN",
    "DOMAIN_PATTERNS",
    "FILE_MODE",
    "HOSTNAME",
    "LIMIT",
    "NETWORKS",
    "PATH",
    "SECONDS",
    "TEXT",
    "VARIABLES",
    "WORKERS",
    "BadValueError",
    "Network",
    "OptionType",
    "Warn",
    "bad_value",
    "choice",
    "list_of",
    "parse_network",
    "plain_seconds",
    "quote",
    "text_of",
]

T_co = TypeVar("T_co", covariant=True)
_T = TypeVar("_T")
_S = TypeVar("_S", bound=str)

Network: TypeAlias = IPv4Network | IPv6Network
Warn: TypeAlias = Callable[[Place, str], None]
"""The function that a converter calls with a warning about a value that it accepts."""


class BadValueError(Exception):
    """A value that its option does not take."""

    def __init__(self, place: Place, message: str) -> None:
        self.place = place
        self.message = message
        super().__init__(message)


@frozen(slots=True)
class OptionType(Generic[T_co]):
    """A type of option values.

    ``read`` converts, and raises :class:`BadValueError`; ``write`` returns the text that reads as the same value again.
    ``absent`` is the text for None: a word that ``read`` accepts, or ``unset`` if no value can be written.
    """

    name: str
    read: Callable[[Value, Warn], T_co]
    write: Callable[[object], str]
    absent: str = "unset"


def text_of(value: Value, expected: str) -> str:
    """Return the text of a scalar.

    :raises BadValueError: for a list or dictionary.
    """
    if isinstance(value, Scalar):
        return value.text
    raise BadValueError(
        value.place, f"expected {expected}, found a {'list' if isinstance(value, Items) else 'dictionary'}"
    )


def quote(text: str) -> str:
    """Write a string in double quotes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _bare(value: object) -> str:
    text = str(value)
    return quote(text) if needs_quotes(text) else text


def _quoted(value: object) -> str:
    return quote(str(value))


def bad_value(value: Value, expected: str) -> BadValueError:
    """Return the error that states what was expected and what was found."""
    found = value.text if isinstance(value, Scalar) else ""
    return BadValueError(value.place, f"expected {expected}, found {quote(found)}")


# Booleans, numbers

_TRUE = {"true", "on", "enabled", "yes", "1"}
_FALSE = {"false", "off", "disabled", "no", "0"}
_UNITS = {"ms": 0.001, "s sec second": 1, "m min minute": 60, "h hour": 3600, "d day": 86400, "w week": 604800}
_TIMES = {name: seconds for names, seconds in _UNITS.items() for name in names.split()}
_SIZES = {"": 1 << 0, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_WITH_UNIT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([A-Za-z]+)")


def plain_seconds(text: str) -> str | None:
    """Return what ``5m`` is in seconds, as it is to be written; None if it is no time with a unit."""
    match = _WITH_UNIT.fullmatch(text)
    unit = match[2].lower() if match else ""
    factor = _TIMES.get(unit) or _TIMES.get(unit.removesuffix("s"))
    return None if match is None or factor is None else f"{float(match[1]) * factor:.15g}"


def _plain_size(text: str) -> str | None:
    """Return what ``10M`` is in bytes, as it is to be written; None if it is no size with a unit."""
    match = _WITH_UNIT.fullmatch(text)
    unit = re.sub(r"i?b(ytes)?$", "", match[2].lower()) if match else ""
    return str(int(float(match[1]) * _SIZES[unit])) if match is not None and unit in _SIZES else None


def _write_instead(*plain: str | None) -> str:
    """Return the part of an error message that says what to write: numbers have no unit."""
    found = list(dict.fromkeys(each for each in plain if each is not None))
    hint = ", without a unit or a separator"
    return f"{hint}: write {' or '.join(found)}" if found else hint


def _read_boolean(value: Value, _warn: Warn) -> bool:
    expected = "true or false (or on/off, enabled/disabled, yes/no, 1/0)"
    word = text_of(value, expected).lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise bad_value(value, expected)


def _read_limit(value: Value, _warn: Warn) -> int:
    expected = "a whole number, 0 or more"
    text = text_of(value, expected)
    if re.fullmatch(r"[0-9]+", text) is None:
        seconds = plain_seconds(text)
        whole = seconds if seconds is not None and seconds.isdigit() and not text.endswith("M") else None
        plain = _plain_size(text), None if whole is None else f"{whole} for seconds"
        raise bad_value(value, expected + (_write_instead(*plain) if text[:1].isdigit() else ""))
    if len(text.lstrip("0")) > 15:
        raise BadValueError(value.place, "expected a number of at most 15 digits")
    return int(text)


def _read_auto_limit(value: Value, warn: Warn) -> int | None:
    if text_of(value, "a whole number, 0 or more, or auto").lower() == "auto":
        return None
    return _read_limit(value, warn)


def _read_workers(value: Value, _warn: Warn) -> int | None:
    expected = "a whole number from 1 to 512, or auto"
    text = text_of(value, expected)
    if text.lower() == "auto":
        return None
    if re.fullmatch(r"[0-9]{1,3}", text) is None or not 1 <= int(text) <= 512:
        raise bad_value(value, expected)
    return int(text)


def _read_seconds(value: Value, _warn: Warn) -> float:
    expected = "a number of seconds, more than 0"
    text = text_of(value, expected)
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) is None:
        raise bad_value(value, expected + (_write_instead(plain_seconds(text)) if text[:1].isdigit() else ""))
    if float(text) == 0:
        raise bad_value(value, expected)
    return float(text)


def _read_file_mode(value: Value, _warn: Warn) -> int:
    expected = "a file mode in octal with a leading 0, such as 0660"
    text = text_of(value, expected)
    if re.fullmatch(r"0o?[0-7]{1,4}", text) is None or int(text.replace("o", ""), 8) > 0o777:
        raise bad_value(value, expected)
    return int(text.replace("o", ""), 8)


BOOLEAN = OptionType("boolean", _read_boolean, lambda value: "true" if value else "false")
LIMIT = OptionType("whole number", _read_limit, str)
AUTO_LIMIT: "OptionType[int | None]" = OptionType("whole number or auto", _read_auto_limit, str, absent="auto")
WORKERS = OptionType("number of processes", _read_workers, str, absent="auto")
SECONDS = OptionType("seconds", _read_seconds, lambda value: f"{value:.9f}".rstrip("0").rstrip("."))
FILE_MODE = OptionType("file mode", _read_file_mode, lambda value: f"0{value:o}")

# Strings


def _read_text(value: Value, _warn: Warn) -> str:
    return text_of(value, "a string")


def _read_path(value: Value, _warn: Warn) -> Path:
    expected = "the path of a file or folder"
    text = text_of(value, expected)
    if not text:
        raise bad_value(value, expected)
    folder = value.place.source.folder
    return Path(text) if folder is None else folder / text


def _read_hostname(value: Value, _warn: Warn) -> str:
    expected = "a host name, such as mx.example.org"
    text = text_of(value, expected)
    try:
        key = domain_key(text)
    except DomainError as error:
        raise bad_value(value, expected) from error
    return text if text.isascii() else key  # it stands in replies and header fields


def _read_domain(value: Value, _warn: Warn) -> str:
    expected = "a domain, such as example.org"
    text = text_of(value, expected)
    try:
        name_key(text)
    except DomainError as error:
        raise bad_value(value, expected) from error
    return text


def _read_domain_pattern(value: Value, _warn: Warn) -> str:
    expected = "a domain, with a wildcard only at its left end: example.org, *.example.org or *example.org"
    text = text_of(value, expected)
    try:
        return pattern_key(text)
    except DomainError as error:
        raise BadValueError(value.place, f"expected {expected}, found {quote(text)} ({error})") from error


TEXT = OptionType("string", _read_text, _quoted)
PATH = OptionType("path", _read_path, _quoted)
HOSTNAME = OptionType("host name", _read_hostname, _quoted)
DOMAIN = OptionType("domain", _read_domain, _quoted)


def choice(values: tuple[_S, ...]) -> OptionType[_S]:
    """Return the type of a word of ``values``, in any case."""
    expected = ", ".join(values[:-1]) + f" or {values[-1]}"

    def read(value: Value, _warn: Warn) -> _S:
        text = text_of(value, expected)
        for known in values:
            if known == text.lower():
                return known
        raise BadValueError(value.place, f"expected {expected}, found {quote(text)}{suggest(nearest(text, values))}")

    return OptionType(" | ".join(values), read, _bare)


# Networks


def parse_network(text: str) -> tuple[Network, bool]:
    """Return the network that a CIDR block or address names, and whether it was written with bits beyond its mask.

    An IPv4-mapped IPv6 network is the IPv4 network: that is what such a peer is compared as.

    :raises ValueError: if it is none.
    """
    try:
        network = ip_network(text, strict=False)
    except ValueError as error:
        if text.startswith("["):
            raise ValueError(f"IPv6 addresses are not bracketed here, found {quote(text)}") from error
        expected = "an address or a CIDR block, such as 192.0.2.0/24 or 2001:db8::/32"
        raise ValueError(f"expected {expected}, found {quote(text)}") from error
    address = text.partition("/")[0]
    exact = address == str(network.network_address) or ip_network(address) == ip_network(network.network_address)
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - 96)), not exact
    return network, not exact


def _read_network(value: Value, warn: Warn) -> Network:
    text = text_of(value, "an address or a CIDR block")
    try:
        network, loose = parse_network(text)
    except ValueError as error:
        raise BadValueError(value.place, str(error)) from error
    if loose:
        warn(value.place, f"{text} means {network}: write that if it is meant")
    return network


NETWORK = OptionType("CIDR block", _read_network, _quoted)

# Lists, dictionaries


def list_of(item: OptionType[_T], name: str) -> OptionType[tuple[_T, ...]]:
    """Return the type of a list; a single value is a list of one."""

    def read(value: Value, warn: Warn) -> tuple[_T, ...]:
        values = value.values if isinstance(value, Items) else (value,)
        return tuple(item.read(each, warn) for each in values)

    def write(value: object) -> str:
        if not isinstance(value, tuple):
            raise TypeError(f"not a tuple: {value!r}")
        return f"( {' '.join(map(item.write, value))} )" if value else "( )"

    return OptionType(name, read, write)


def _read_variables(value: Value, _warn: Warn) -> Mapping[str, str]:
    if not isinstance(value, Dictionary):
        raise BadValueError(value.place, 'expected a dictionary: [ key = "value" … ]')
    variables = {}
    for key, content in value.entries:
        if key.text.lower() == "tls" or key.text.lower().startswith("tls_"):
            raise BadValueError(
                key.place, f"{key.text}: tls and every tls_… variable is written by the TLS engine alone"
            )
        variables[key.text] = text_of(content, f"a string for {key.text}")
    return variables


def _write_variables(value: object) -> str:
    if not isinstance(value, Mapping):
        raise TypeError(f"not a mapping: {value!r}")
    entries = [f"{_bare(key)} = {quote(content)}" for key, content in value.items()]
    return f"[ {'  '.join(entries)} ]" if entries else "[ ]"


NETWORKS = list_of(NETWORK, "list of CIDR blocks")
DOMAIN_PATTERNS = list_of(OptionType("domain pattern", _read_domain_pattern, _quoted), "list of domains")
VARIABLES = OptionType("dictionary", _read_variables, _write_variables)
