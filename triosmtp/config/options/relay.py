"""Who may relay, and which recipients exist."""

from pathlib import Path

from attrs import frozen

from triosmtp.config.option import WITH_DOMAIN, option
from triosmtp.config.types.specification import RECIPIENT_FILES
from triosmtp.config.types.value import BOOLEAN, DOMAIN_PATTERNS, NETWORKS, Network

__all__ = ["RelayOptions"]


@frozen(slots=False, kw_only=True)
class RelayOptions:
    """Who may relay."""

    relay_domains: tuple[str, ...] = option(
        "Relay_Domains",
        DOMAIN_PATTERNS,
        (),
        "Domains that mail is accepted for: example.org itself, *.example.org all below it, *example.org both.",
    )
    known_recipients: tuple[Path, ...] = option(
        "Known_Recipients",
        RECIPIENT_FILES,
        (),
        'Files ("file:/path") of the recipients that exist in Relay_Domains: lines user@example.org, @example.org or '
        "user+*@example.org; others are answered 550 5.1.1, postmaster apart. Empty: everybody exists.",
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
        "Open_Relay", BOOLEAN, False, "Whether whoever this holds for may relay: keep it to a Peer that is trusted."
    )
    relay_for_sending_domains: tuple[str, ...] = option(
        "Relay_For_Sending_Domains",
        DOMAIN_PATTERNS,
        (),
        "Domains whose senders may relay. Senders are the client's claim: keep it to a Peer that is trusted.",
    )
    allow_untrusted_routing: bool = option(
        "Allow_Untrusted_Routing",
        BOOLEAN,
        False,
        "Whether clients that may not relay may name a route in a recipient of Relay_Domains: user%host@example.org, "
        'host!user@example.org, "user@host"@example.org, @host:user@example.org. A server behind this one may act on '
        "it.",
    )
