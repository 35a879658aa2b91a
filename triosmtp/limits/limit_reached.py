"""The limits that can refuse a connection, a handshake, a message or an attempt to authenticate."""

from enum import Enum

__all__ = ["LimitReached"]


class LimitReached(Enum):
    """A limit that was reached.  The value is the name of its option, as events and the log show it."""

    CONNECTION_RATE_PER_PEER = "Connection_Rate_Per_Peer"
    CONNECTIONS_PER_PEER = "Connections_Per_Peer"
    LISTENER_SESSIONS = "Listener_Sessions"
    SERVICE_SESSIONS = "Service_Sessions"
    TLS_HANDSHAKES_MAX = "TLS_Handshakes_Max"
    TLS_HANDSHAKES_PER_PEER = "TLS_Handshakes_Per_Peer"
    SPOOL_MAX_SIZE = "Spool_Max_Size"
    SPOOL_MIN_FREE = "Spool_Min_Free"
    SPOOL_FILE_SYSTEM = "the file system of the spool is full"
    PROXY_PROTOCOL_TIMEOUT = "Proxy_Protocol_Timeout"
    WORKERS = "Workers"
    """No worker had capacity for the connection in time."""
