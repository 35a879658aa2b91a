"""The addresses of DNS servers."""

from ipaddress import ip_address

from triosmtp.config.parser import Value
from triosmtp.config.types.option_type import BadValueError, OptionType, Warn, list_of, quote, text_of

__all__ = ["DNS_SERVERS", "DNSServer"]

DNSServer = tuple[str, int]
"""Address and port of a DNS server."""

_EXPECTED = "an address, with a port if it is not 53: 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:53"


def _read(value: Value, _warn: Warn) -> DNSServer:
    text = text_of(value, _EXPECTED)
    address, port = text, "53"
    if text.startswith("["):
        address, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") if rest else port
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    try:
        if not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
            raise ValueError
        return str(ip_address(address)), int(port)
    except ValueError:
        raise BadValueError(value.place, f"expected {_EXPECTED}, found {quote(text)}") from None


def _write(value: object) -> str:
    assert isinstance(value, tuple)
    address, port = value
    return quote(f"[{address}]:{port}" if ":" in address else f"{address}:{port}")


DNS_SERVERS: OptionType[tuple[DNSServer, ...]] = list_of(
    OptionType("address of a DNS server", _read, _write), "list of DNS servers"
)
