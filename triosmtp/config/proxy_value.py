"""The value of Proxy_Protocol: networks, and the word for Unix sockets."""

from ipaddress import IPv4Address, IPv6Address

from attrs import frozen

from triosmtp.config.parser import Items, Scalar, Value
from triosmtp.config.value import NETWORKS, Network, Type, Warn

__all__ = ["PROXIES", "Proxies"]

_UNIX = "unix"


@frozen(slots=True)
class Proxies:
    """The peers that must say whom they speak for."""

    networks: tuple[Network, ...] = ()
    unix: bool = False
    """Whether those of Unix sockets, who have no address, are among them."""

    def __contains__(self, peer: IPv4Address | IPv6Address | None) -> bool:
        if peer is None:
            return self.unix
        return any(peer in network for network in self.networks)


def _read(value: Value, warn: Warn) -> Proxies:
    networks: list[Network] = []
    unix = False
    for each in value.values if isinstance(value, Items) else (value,):
        if isinstance(each, Scalar) and each.text.lower() == _UNIX:
            unix = True
        else:
            networks += NETWORKS.read(each, warn)
    return Proxies(tuple(networks), unix)


def _write(value: object) -> str:
    if not isinstance(value, Proxies):
        raise TypeError(f"not a list of proxies: {value!r}")
    items = [*(f'"{network}"' for network in value.networks), *([f'"{_UNIX}"'] if value.unix else ())]
    return f"( {' '.join(items)} )" if items else "( )"


PROXIES: Type[Proxies] = Type("list of CIDR blocks, or unix", _read, _write)
