"""For tests, ours and yours: a server on memory streams, a scripted client, certificates, a recording policy."""

from triosmtp.testing.controller import Controller
from triosmtp.testing.recording_policy import RecordingPolicy
from triosmtp.testing.scripted_client import Answer, Client
from triosmtp.testing.server import MemoryServer, ReceivedMessage, open_memory_server
from triosmtp.x509.authority import Authority, Credential

__all__ = [
    "Answer",
    "Authority",
    "Client",
    "Controller",
    "Credential",
    "MemoryServer",
    "ReceivedMessage",
    "RecordingPolicy",
    "open_memory_server",
]
