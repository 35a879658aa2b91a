"""The address of a stream: its servers, its name, the subject, and what it must be able to do."""

from typing import TypeAlias

from attrs import evolve, frozen

from triosmtp.config import TargetAddress, TargetSettings

__all__ = ["Server", "StreamAddress", "show_servers", "stream_address"]

Server: TypeAlias = tuple[str, int]
"""The host and port of a server."""


@frozen(slots=True, kw_only=True)
class StreamAddress:
    """A stream of JetStream, and the subject under which messages are published there.

    The subject of a message is ``subject``, a dot and the id of the message.
    """

    servers: tuple[Server, ...]
    stream: str
    subject: str
    replicas: int = 3
    """The replicas that the stream must have at least."""
    bucket: str
    """The object bucket for messages above the maximum payload."""
    deadline: float = 30.0
    """The seconds in which a message must be acknowledged."""

    def __str__(self) -> str:
        return f"{show_servers(self.servers)}/{self.stream}/{self.subject}"


def show_servers(servers: tuple[Server, ...]) -> str:
    """Return the servers as in an address."""
    return str(TargetAddress("nats", hosts=servers))


def stream_address(target: TargetSettings) -> StreamAddress:
    """Return the stream of a target whose scheme is ``nats``."""
    address, settings = target.addresses[0], target.settings
    _, stream, subject = address.path.split("/", 2)
    query = dict(each.split("=") for each in filter(None, address.query.split("&")))
    found = StreamAddress(
        servers=address.hosts,
        stream=stream,
        subject=subject,
        replicas=int(query.get("replicas", "3")),
        bucket=query.get("bucket", stream),
    )
    if "body_timeout" not in settings.places:
        return found
    return evolve(found, deadline=settings.body_timeout)
