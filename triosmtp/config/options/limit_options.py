"""Options that limit connections, sessions and messages."""

# ruff: noqa: RUF009 - the calls declare fields, once, as attrs.field does

from pathlib import Path

from attrs import frozen

from triosmtp.config.option import GLOBAL, option
from triosmtp.config.types.limits_store import LIMITS_STORE
from triosmtp.config.types.option_type import AUTO_LIMIT, LIMIT, PATH, SECONDS
from triosmtp.config.types.tls_types import RATE

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
        "Listener_Sessions", LIMIT, 0, "Parallel sessions on one Listen; beyond it 421. 0: unlimited."
    )
    service_sessions: int = option(
        "Service_Sessions", LIMIT, 0, "Parallel sessions on all Listens together; beyond it 421. 0: unlimited."
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
        "Bad commands, and refused commands and messages, since the start of the connection or the last accepted "
        "message; beyond it 421. 0: unlimited.",
    )
    max_junk_commands: int = option(
        "Max_Junk_Commands",
        LIMIT,
        100,
        "Commands without progress (NOOP, RSET, VRFY, HELP, EHLO, AUTH), and commands that a limit refuses, since the "
        "start of the connection or the last accepted message; beyond it 421. 0: unlimited.",
    )
    max_refused_recipients: int = option(
        "Max_Refused_Recipients",
        LIMIT,
        100,
        "Refused recipients since the start of the connection or the last accepted message; beyond it 421. 0: "
        "unlimited.",
    )
    max_session_time: int = option(
        "Max_Session_Time", LIMIT, 86400, "Seconds that a connection may last; beyond it 421. 0: unlimited."
    )
    min_data_rate: int = option(
        "Min_Data_Rate",
        LIMIT,
        64,
        "Minimum bytes per second of a message while it arrives, over 30 seconds; below it 421. 0: any. A pause above "
        "5 seconds is not counted. Each may last Idle_Time; those of one message together three times that, plus the "
        "time for its bytes at this rate.",
    )
    connections_per_peer: int | None = option(
        "Connections_Per_Peer",
        AUTO_LIMIT,
        None,
        "Parallel connections from one address; beyond it 421. 0: unlimited. auto: 50, but unlimited for loopback, "
        "for Relay_Hosts, and for trusted proxies and peers (Proxy_Protocol, XCLIENT, XREMOTEIP).",
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
        "Seconds that the banner waits; a client that sends before it is answered 554. 0: no delay.",
    )
    limits_store: str | None = option(
        "Limits_Store",
        LIMITS_STORE,
        None,
        "Redis in which all nodes count together: redis://host:port/db, rediss:// (TLS) or unix:///path. It counts "
        "Connection_Rate_Per_Peer, TLS_Handshakes_Per_Peer, Inbound_Throttle_Messages, Recipient_Rate_Per_Peer and "
        "Auth_Failure_Rate_Per_Peer. Without an answer in time, the node counts by itself for 10 seconds.",
        scopes=(GLOBAL,),
        reloadable=False,
    )
    limits_store_timeout: float = option(
        "Limits_Store_Timeout",
        SECONDS,
        0.05,
        "Seconds that the Limits_Store has for an answer.",
        scopes=(GLOBAL,),
        reloadable=False,
    )
    limits_store_password_file: Path | None = option(
        "Limits_Store_Password_File",
        PATH,
        None,
        "File that contains only the password of the Limits_Store.",
        scopes=(GLOBAL,),
        reloadable=False,
    )
