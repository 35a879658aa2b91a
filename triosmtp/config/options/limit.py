"""Limits."""

from attrs import frozen

from triosmtp.config.option import option
from triosmtp.config.value import LIMIT, SECONDS

__all__ = ["LimitOptions"]


@frozen(slots=False, kw_only=True)
class LimitOptions:
    """Limits."""

    idle_time: float = option(
        "Idle_Time", SECONDS, 300.0, "Seconds without a byte from the client after which the connection is closed."
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
        "Max_Command_Errors", LIMIT, 20, "Bad commands in one connection; beyond it 421. 0: unlimited."
    )
