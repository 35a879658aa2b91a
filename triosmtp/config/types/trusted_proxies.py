"""The value of Proxy_Protocol: networks, and the word for Unix sockets."""

from ipaddress import IPv4Address, IPv6Address

from attrs import frozen

from triosmtp.config.parser import Items, Scalar, Value
from triosmtp.config.types.option_type import BOOLEAN, NETWORKS, BadValueError, Network, OptionType, Warn, quote

__all__ = ["PROXIES", "TrustedProxies"]

_UNIX = "unix"
_WHY = {
    True: "would let every client pretend to be another one: list the proxies instead, as in "
    'Proxy_Protocol = ( "192.0.2.1" "10.1.0.0/16" )',
    False: "stands alone, not in a list",
}
"""Why a boolean is refused: Momentum's option is one, and trusts all who connect."""


@frozen(slots=True)
class TrustedProxies:
    """The peers that must announce their clients."""

    networks: tuple[Network, ...] = ()
    unix: bool = False
    """Whether those of Unix sockets, who have no address, are among them."""

    def __contains__(self, peer: IPv4Address | IPv6Address | None) -> bool:
        if peer is None:
            return self.unix
        return any(peer in network for network in self.networks)


def _read(value: Value, warn: Warn) -> TrustedProxies:
    if _boolean(value) is False:
        return TrustedProxies()
    networks: list[Network] = []
    unix = False
    for each in value.values if isinstance(value, Items) else (value,):
        if isinstance(each, Scalar) and each.text.lower() == _UNIX:
            unix = True
        elif isinstance(each, Scalar) and _boolean(each) is not None:
            raise BadValueError(each.place, f"{quote(each.text)} {_WHY[_boolean(each) is True]}")
        else:
            networks += NETWORKS.read(each, warn)
    return TrustedProxies(tuple(networks), unix)


def _boolean(value: Value) -> bool | None:
    """Return the boolean that Momentum has here; None if the value is not one."""
    try:
        return BOOLEAN.read(value, lambda _place, _text: None)
    except BadValueError:
        return None


def _write(value: object) -> str:
    if not isinstance(value, TrustedProxies):
        raise TypeError(f"not a list of proxies: {value!r}")
    items = [*(f'"{network}"' for network in value.networks), *([f'"{_UNIX}"'] if value.unix else ())]
    return f"( {' '.join(items)} )" if items else "( )"


PROXIES: OptionType[TrustedProxies] = OptionType("list of CIDR blocks, or unix", _read, _write)
