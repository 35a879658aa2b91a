"""Proxies: peers that announce their clients."""

# ruff: noqa: RUF009 - the calls declare fields, once, as attrs.field does

from attrs import frozen

from triosmtp.config.option import option
from triosmtp.config.types.proxy_value import PROXIES, Proxies
from triosmtp.config.types.value import SECONDS

__all__ = ["PeerOptions"]


@frozen(slots=False, kw_only=True)
class PeerOptions:
    """Proxies: peers that announce their clients."""

    proxy_protocol: Proxies = option(
        "Proxy_Protocol",
        PROXIES,
        Proxies(),
        "Addresses and CIDR blocks of proxies, and unix for clients of a Unix socket: each of their connections must "
        "begin with a PROXY header, version 1 or 2, and counts as that of the announced client.",
    )
    proxy_protocol_timeout: float = option(
        "Proxy_Protocol_Timeout", SECONDS, 5.0, "Seconds within which the whole PROXY header must arrive."
    )
