"""Options that look at who is connecting: its name, lists in the DNS, greylisting."""

# ruff: noqa: RUF009 - the calls declare fields, once, as attrs.field does

from pathlib import Path

from attrs import frozen

from triosmtp.config.option import GLOBAL, option
from triosmtp.config.types.dns_server import DNS_SERVERS, DNSServer
from triosmtp.config.types.dnsbl_site import ALLOW_THRESHOLD, DNSBL_SITES, DNSBLSite
from triosmtp.config.types.option_type import BOOLEAN, LIMIT, PATH, SECONDS

__all__ = ["ClientOptions"]


@frozen(slots=False, kw_only=True)
class ClientOptions:
    """Checks of the client."""

    client_name: bool = option(
        "Client_Name",
        BOOLEAN,
        False,
        "Whether the name of the client is looked up in the DNS, and confirmed by an address of that name: for "
        "Received, variables and filters.",
    )
    dns_servers: tuple[DNSServer, ...] = option(
        "DNS_Servers",
        DNS_SERVERS,
        (),
        "DNS servers, tried in order; unset: those of /etc/resolv.conf.",
        scopes=(GLOBAL,),
    )
    dns_timeout: float = option(
        "DNS_Timeout", SECONDS, 5.0, "Seconds to find the name of a client, and again for all lists together."
    )
    dnsbl_sites: tuple[DNSBLSite, ...] = option(
        "DNSBL_Sites",
        DNSBL_SITES,
        (),
        "Lists in the DNS that are asked about the client's address at RCPT, in the form of Postfix's "
        "postscreen_dnsbl_sites: domain=127.0.0.[2..11]*weight. A negative weight is that of a list of good clients.",
    )
    dnsbl_threshold: int = option(
        "DNSBL_Threshold", LIMIT, 1, "Sum of the weights of the listings from which RCPT is answered 554."
    )
    dnsbl_allow_threshold: int = option(
        "DNSBL_Allow_Threshold",
        ALLOW_THRESHOLD,
        0,
        "Sum of the weights, below 0, at which and below which a client is not greylisted. 0: none.",
    )
    greylist: bool = option(
        "Greylist",
        BOOLEAN,
        False,
        "Whether RCPT is answered 450 until the same client, sender and recipient come again after Greylist_Delay.",
    )
    greylist_delay: float = option(
        "Greylist_Delay", SECONDS, 300.0, "Seconds after which a greylisted message is accepted."
    )
    greylist_file: Path | None = option(
        "Greylist_File",
        PATH,
        None,
        "SQLite file of greylisting; unset: greylist.sqlite in the state folder. With a Limits_Store it is not used: "
        "all nodes remember together.",
        scopes=(GLOBAL,),
    )
