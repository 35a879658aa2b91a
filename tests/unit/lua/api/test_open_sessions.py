"""The open sessions by network."""

from ipaddress import ip_address, ip_network

import pytest

from triosmtp.event import Connected, Disconnected, PeerAnnounced
from triosmtp.lua.api import open_sessions
from triosmtp.lua.api.open_sessions import OpenSessions
from triosmtp.session_info import SessionInfo


def info(session: str, peer: str) -> SessionInfo:
    return SessionInfo(id=session, peer=peer, local="127.0.0.1:25", listener=":25")


def count(sessions: OpenSessions, network: str) -> int:
    return sessions.count(ip_network(network))


def test_sessions_are_counted_as_they_begin_and_end() -> None:
    sessions = OpenSessions()
    sessions.begin([("a", ip_address("192.0.2.1")), ("u", None)])
    assert (len(sessions), count(sessions, "192.0.2.0/24"), count(sessions, "192.0.2.1/32")) == (2, 1, 1)
    sessions(Connected(session=info("b", "192.0.2.9:1")))
    sessions(Connected(session=info("c", "[2001:db8::1]:1")))
    sessions(Connected(session=info("d", "unix")))
    assert (len(sessions), count(sessions, "192.0.2.0/24"), count(sessions, "192.0.2.1/32")) == (5, 2, 1)
    assert (count(sessions, "2001:db8::/32"), count(sessions, "0.0.0.0/0"), count(sessions, "10.0.0.0/8")) == (1, 2, 0)
    sessions(PeerAnnounced(session=info("b", "10.1.1.1:1"), real_peer="192.0.2.9:1", by="XCLIENT"))
    assert (len(sessions), count(sessions, "192.0.2.0/24"), count(sessions, "10.0.0.0/8")) == (5, 1, 1)
    for session in ("b", "a", "a", "unknown"):
        sessions(Disconnected(session=info(session, "10.1.1.1:1"), reason="quit", seconds=1.0, messages=0))
    assert (len(sessions), count(sessions, "192.0.2.0/24"), count(sessions, "10.0.0.0/8")) == (3, 0, 0)


def test_tables_are_bounded_and_right_when_they_are_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_sessions, "_MAX_TABLES", 2)
    sessions = OpenSessions()
    sessions.begin([("a", ip_address("192.0.2.1")), ("b", ip_address("192.0.3.1"))])
    for _ in range(2):
        assert [count(sessions, each) for each in ("192.0.2.0/23", "192.0.2.0/24", "192.0.0.0/8")] == [2, 1, 2]
