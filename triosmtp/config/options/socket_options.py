"""Options of listening sockets, and the Pathway of a connection."""

from collections.abc import Mapping

from attrs import frozen

from triosmtp.config.option import CONTROL, LISTENERS, PATHWAY_GROUP, PATHWAY_SCOPE, PEER, STATUS, WITH_POLICY, option
from triosmtp.config.types.option_type import BOOLEAN, FILE_MODE, LIMIT, VARIABLES
from triosmtp.config.types.policy_types import PATHWAY

__all__ = ["SocketOptions"]


@frozen(slots=False, kw_only=True)
class SocketOptions:
    """Listening sockets, and the Pathway of a connection."""

    enable: bool = option(
        "Enable",
        BOOLEAN,
        True,
        "Whether the socket is opened; false on the listener or on the Listen leaves it unbound.",
        scopes=LISTENERS,
    )
    file_mode: int = option(
        "File_Mode",
        FILE_MODE,
        0o660,
        "Mode of a Unix socket, in octal with a leading 0.",
        scopes=(*WITH_POLICY, *CONTROL, *STATUS),
        idle_in=(PEER,),
    )
    listen_backlog: int = option(
        "Listen_Backlog",
        LIMIT,
        500,
        "Connections that the kernel queues until they are accepted.",
        scopes=(*WITH_POLICY, *STATUS),
        idle_in=(PEER,),
    )
    tcp_recv_buffer_size: int = option(
        "TCP_Recv_Buffer_Size", LIMIT, 0, "Receive buffer of a socket in bytes; 0: the kernel decides.", idle_in=(PEER,)
    )
    tcp_send_buffer_size: int = option(
        "TCP_Send_Buffer_Size", LIMIT, 0, "Send buffer of a socket in bytes; 0: the kernel decides.", idle_in=(PEER,)
    )
    disable_nagle_algorithm: bool = option(
        "Disable_Nagle_Algorithm", BOOLEAN, True, "Whether replies are sent immediately (TCP_NODELAY).", idle_in=(PEER,)
    )

    pathway: str | None = option(
        "Pathway",
        PATHWAY,
        None,
        "The Pathway whose options apply after those of the listener, and before the global ones.",
        idle_in=(PATHWAY_SCOPE, PATHWAY_GROUP),
    )
    context: Mapping[str, str] = option(
        "Context", VARIABLES, {}, "Variables that every connection begins with; tls and tls_… cannot be set."
    )
