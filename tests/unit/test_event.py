"""Events: keyword arguments, frozen, and one identity of a session."""

import pickle
from datetime import UTC, datetime
from typing import Any, get_args

import attrs
import pytest

from triosmtp import event
from triosmtp.event import Connected, Disconnected, MessageAccepted, PeerAnnounced, ServerEvent, SessionInfo
from triosmtp.testing import open_memory_server
from triosmtp.variables import TLSInfo

CONF = """
Relay_Domains = ( "example.com" )
ESMTP_Listener { Listen ":25" { Peer "192.0.2.1" { SMTP_Extensions = ( "XREMOTEIP" ) } } }
"""
VALUES: dict[object, Any] = {
    str: "text",
    int: 1,
    float: 1.5,
    bool: True,
    str | None: None,
    datetime: datetime(2026, 1, 1, tzinfo=UTC),
    SessionInfo: SessionInfo(id="s", peer="192.0.2.1:1024", local="192.0.2.2:25", listener=":25"),
    TLSInfo: TLSInfo(protocol="TLSv1.3", cipher="c", cipher_algbits=1, cipher_usebits=1),
}
KINDS = [*get_args(ServerEvent), SessionInfo]


def make(kind: type[Any]) -> Any:
    return kind(**{each.name: VALUES.get(each.type, ()) for each in attrs.fields(attrs.resolve_types(kind))})


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_is_made_with_keywords_frozen_and_the_same_in_another_process(kind: type[Any]) -> None:
    made = make(kind)
    with pytest.raises(TypeError, match="positional"):
        kind(*attrs.astuple(made, recurse=False))
    for each in attrs.fields(kind):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(made, each.name, None)
    assert pickle.loads(pickle.dumps(made)) == made
    assert type(pickle.loads(pickle.dumps(made))) is kind


def test_every_event_of_the_module_is_in_the_union() -> None:
    classes = {each for each in vars(event).values() if isinstance(each, type) and each.__module__ == event.__name__}
    assert classes - {SessionInfo} == set(get_args(ServerEvent))


async def test_the_events_of_a_session_share_what_they_say_of_it_until_a_peer_is_announced() -> None:
    async with open_memory_server(CONF) as server:
        client = server.connect(peer="192.0.2.1")
        await client.read()
        for command in ("EHLO c", "MAIL FROM:<a@example.net>", "RCPT TO:<b@example.com>", "DATA"):
            await client.command(command)
        assert (await client.command("x\r\n.")).code == 250
        await client.command("XREMOTEIP 203.0.113.7")
        await client.command("QUIT")
        await client.read_eof()
    [connected, accepted, announced, ended] = server.events
    assert isinstance(connected, Connected) and isinstance(accepted, MessageAccepted)  # noqa: PT018 - for mypy
    assert isinstance(announced, PeerAnnounced) and isinstance(ended, Disconnected)  # noqa: PT018
    assert accepted.session is connected.session
    assert ended.session is announced.session
    assert connected.session == SessionInfo(
        id=announced.session.id, peer="192.0.2.1:1024", local=connected.session.local, listener=":25"
    )
    assert announced.session.peer == "203.0.113.7:0"
