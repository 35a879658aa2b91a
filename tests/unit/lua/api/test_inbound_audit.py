"""Counts of connections, messages and refusals, by network."""

from ipaddress import ip_network
from typing import Any

import pytest

from triosmtp.event import Connected, Disconnected, MessageAccepted, MessageRefused, Refused
from triosmtp.lua.api import inbound_audit
from triosmtp.lua.api.inbound_audit import AuditError, InboundAudit, Kind
from triosmtp.session_info import SessionInfo


def event(kind: type, peer: str) -> Any:
    info = SessionInfo(id="A", peer=peer, local="127.0.0.1:25", listener=":25")
    fields = {name: None for name in kind.__annotations__ if name not in {"variables", "message_variables", "session"}}
    return kind(session=info, **{name: value for name, value in fields.items() if name != "helo"})


def count(audit: InboundAudit, kind: Kind, network: str, last: int = 0) -> int:
    return audit.count("60,2", kind, ip_network(network), 0, last)


def test_events_are_counted_by_the_address_of_the_peer() -> None:
    now = 0.0
    audit = InboundAudit(lambda: now)
    before = audit.is_used
    audit(event(Connected, "192.0.2.1:1000"))  # nobody asked yet
    audit.open("60,2")
    assert (before, audit.is_used) == (False, True)
    for kind, peer in (
        (Connected, "192.0.2.1:1000"),
        (Connected, "192.0.2.9:1000"),
        (Connected, "[2001:db8::1]:1000"),
        (Connected, "unix"),
        (MessageAccepted, "192.0.2.1:1000"),
        (MessageRefused, "192.0.2.1:1000"),
        (Refused, "192.0.2.1:1000"),
        (Disconnected, "192.0.2.1:1000"),
    ):
        audit(event(kind, peer))
    assert count(audit, "connections", "192.0.2.1/32") == 1
    assert count(audit, "connections", "192.0.2.0/24") == 2
    assert count(audit, "connections", "2001:db8::/32") == 1
    assert count(audit, "receptions", "192.0.2.0/24") == 1
    assert count(audit, "rejections", "192.0.2.0/24") == 2
    now = 61.0
    assert count(audit, "connections", "192.0.2.0/24") == 0
    assert count(audit, "connections", "192.0.2.0/24", 1) == 2


@pytest.mark.parametrize("monitor", ["", "60", "x,y", "60,0", "0,1", "60,1,1"])
def test_a_monitor_is_checked(monitor: str) -> None:
    with pytest.raises(AuditError, match="is not a monitor"):
        InboundAudit().open(monitor)


def test_monitors_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbound_audit, "_MAX_MONITORS", 1)
    audit = InboundAudit()
    audit.open("60,1")
    audit.open("60,1")
    with pytest.raises(AuditError, match="more than 1"):
        audit.open("60,2")
