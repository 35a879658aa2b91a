"""Limits."""

from attrs import frozen

from triosmtp.config.option import option
from triosmtp.config.types.tls_value import RATE
from triosmtp.config.types.value import AUTO_LIMIT, LIMIT, SECONDS

__all__ = ["LimitOptions"]


@frozen(slots=False, kw_only=True)
class LimitOptions:
    """Limits."""

    idle_time: float = option(
        "Idle_Time",
        SECONDS,
        300.0,
        "Seconds that a client has for each command, and between two pieces of a message.",
    )
    listener_sessions: int = option(
        "Listener_Sessions", LIMIT, 0, "Sessions at once on one Listen; beyond it 421. 0: unlimited."
    )
    service_sessions: int = option(
        "Service_Sessions", LIMIT, 0, "Sessions at once on all Listens together; beyond it 421. 0: unlimited."
    )
    max_message_size: int = option(
        "Max_Message_Size", LIMIT, 52428800, "Size of a message in bytes; beyond it 552. 0: unlimited."
    )
    max_receptions_per_connection: int = option(
        "Max_Receptions_Per_Connection", LIMIT, 0, "Messages in one connection; beyond it 421. 0: unlimited."
    )
    max_recipients_per_connection: int = option(
        "Max_Recipients_Per_Connection", LIMIT, 0, "Recipients in one connection; beyond it 421. 0: unlimited."
    )
    max_recipients_per_message: int = option(
        "Max_Recipients_Per_Message", LIMIT, 1000, "Recipients of one message; beyond it 452. 0: unlimited."
    )
    max_command_errors: int = option(
        "Max_Command_Errors",
        LIMIT,
        20,
        "Bad commands, and refused commands and messages, since the connection began or a message was taken; beyond it "
        "421. 0: unlimited.",
    )
    max_junk_commands: int = option(
        "Max_Junk_Commands",
        LIMIT,
        100,
        "Commands that do nothing for a message (NOOP, RSET, VRFY, HELP, EHLO, AUTH), or that a limit refuses, since "
        "the connection began or a message was taken; beyond it 421. 0: unlimited.",
    )
    max_refused_recipients: int = option(
        "Max_Refused_Recipients",
        LIMIT,
        100,
        "Recipients that were refused, likewise; beyond it 421. 0: unlimited.",
    )
    max_session_time: int = option(
        "Max_Session_Time", LIMIT, 86400, "Seconds that a connection may last; beyond it 421. 0: unlimited."
    )
    min_data_rate: int = option(
        "Min_Data_Rate",
        LIMIT,
        64,
        "Bytes a second that a message must arrive with while it arrives, over 30 seconds; below it 421. 0: any. A "
        "pause above 5 seconds is not counted: each may last Idle_Time, and those of one message three times that and "
        "what its bytes would take at this rate.",
    )
    connections_per_peer: int | None = option(
        "Connections_Per_Peer",
        AUTO_LIMIT,
        None,
        "Connections at once from one address; beyond it 421. 0: unlimited. auto: 50, and any number for loopback, for "
        "Relay_Hosts, and for proxies and peers that speak for others (Proxy_Protocol, XCLIENT, XREMOTEIP).",
    )
    connection_rate_per_peer: tuple[int, float] | None = option(
        "Connection_Rate_Per_Peer", RATE, None, 'Connections from one address, as "n/seconds"; beyond it 421.'
    )
    inbound_throttle_messages: tuple[int, float] | None = option(
        "Inbound_Throttle_Messages",
        RATE,
        None,
        'Messages from one address, as "n/seconds", such as "3/60"; beyond it MAIL is answered 450.',
    )
    recipient_rate_per_peer: tuple[int, float] | None = option(
        "Recipient_Rate_Per_Peer",
        RATE,
        None,
        'Recipients from one address, as "n/seconds"; beyond it RCPT is answered 450.',
    )
    banner_delay: int = option(
        "Banner_Delay",
        LIMIT,
        0,
        "Seconds that the banner waits; a client that speaks before it is answered 554. 0: at once.",
    )
