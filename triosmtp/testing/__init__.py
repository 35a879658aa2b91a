"""For tests of triosmtp, and of programs that use it: servers, a scripted client, certificates, a recording policy.

``memory_server.py`` is a server on memory streams, and ``controller.py`` a server in a thread.  ``scripted_client.py``
is a client that sends exactly what a test says.  ``recording_policy.py`` is a policy that records its questions.
"""

from triosmtp.testing.controller import Controller
from triosmtp.testing.memory_server import MemoryServer, ReceivedMessage, open_memory_server
from triosmtp.testing.recording_policy import RecordingPolicy
from triosmtp.testing.scripted_client import Answer, ScriptedClient
from triosmtp.x509.authority import Authority, Credential

__all__ = [
    "Answer",
    "Authority",
    "Controller",
    "Credential",
    "MemoryServer",
    "ReceivedMessage",
    "RecordingPolicy",
    "ScriptedClient",
    "open_memory_server",
]
