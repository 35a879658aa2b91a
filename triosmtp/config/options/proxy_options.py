"""Options of trusted proxies: peers that announce their clients."""

# ruff: noqa: RUF009 - the calls declare fields, once, as attrs.field does

from attrs import frozen

from triosmtp.config.option import option
from triosmtp.config.types.option_type import SECONDS
from triosmtp.config.types.trusted_proxies import PROXIES, TrustedProxies

__all__ = ["ProxyOptions"]


@frozen(slots=False, kw_only=True)
class ProxyOptions:
    """TrustedProxies: peers that announce their clients."""

    proxy_protocol: TrustedProxies = option(
        "Proxy_Protocol",
        PROXIES,
        TrustedProxies(),
        "Addresses and CIDR blocks of proxies, and unix for clients of a Unix socket: each of their connections must "
        "begin with a PROXY header, version 1 or 2, and counts as that of the announced client.",
    )
    proxy_protocol_timeout: float = option(
        "Proxy_Protocol_Timeout", SECONDS, 5.0, "Seconds within which the whole PROXY header must arrive."
    )
