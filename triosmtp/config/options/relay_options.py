"""Options of relaying, and of recipients that exist."""

from pathlib import Path

from attrs import frozen

from triosmtp.config.option import WITH_DOMAIN, option
from triosmtp.config.types.option_type import BOOLEAN, DOMAIN_PATTERNS, NETWORKS, Network
from triosmtp.config.types.policy_types import RECIPIENT_FILES

__all__ = ["RelayOptions"]


@frozen(slots=False, kw_only=True)
class RelayOptions:
    """Relaying, and the recipients that exist."""

    relay_domains: tuple[str, ...] = option(
        "Relay_Domains",
        DOMAIN_PATTERNS,
        (),
        "Domains whose mail is accepted: example.org itself, *.example.org all below it, *example.org both.",
    )
    known_recipients: tuple[Path, ...] = option(
        "Known_Recipients",
        RECIPIENT_FILES,
        (),
        'Files ("file:/path") of the recipients that exist in Relay_Domains: lines user@example.org, @example.org or '
        "user+*@example.org. Others, except postmaster, are answered 550 5.1.1. Empty: all recipients exist.",
        scopes=WITH_DOMAIN,
    )
    recipients_fold_case: bool = option(
        "Recipients_Fold_Case",
        BOOLEAN,
        False,
        "Whether local parts are compared with those of Known_Recipients without regard to case.",
        scopes=WITH_DOMAIN,
    )
    relay_hosts: tuple[Network, ...] = option(
        "Relay_Hosts", NETWORKS, (), "Addresses and CIDR blocks of the clients that may relay; IPv6 without brackets."
    )
    open_relay: bool = option(
        "Open_Relay", BOOLEAN, False, "Whether every client in this scope may relay: use it only in a trusted Peer."
    )
    relay_for_sending_domains: tuple[str, ...] = option(
        "Relay_For_Sending_Domains",
        DOMAIN_PATTERNS,
        (),
        "Domains whose senders may relay. The sender is the client's claim: use it only in a trusted Peer.",
    )
    allow_untrusted_routing: bool = option(
        "Allow_Untrusted_Routing",
        BOOLEAN,
        False,
        "Whether clients that may not relay may use a route in a recipient of Relay_Domains: user%host@example.org, "
        'host!user@example.org, "user@host"@example.org, @host:user@example.org. A server behind this one may follow '
        "it.",
    )
