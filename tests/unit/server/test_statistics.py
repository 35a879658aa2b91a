"""The counters of a server, by its events."""

from triosmtp.event import (
    ConnectionRefused,
    MessageAccepted,
    MessageRefused,
    ServerEvent,
    SessionInfo,
    TLSEstablished,
    TLSFailed,
)
from triosmtp.server.statistics import Statistics
from triosmtp.variables import TLSInfo

SESSION = SessionInfo(id="s", peer="192.0.2.1:5")
TLS = TLSInfo(protocol="TLSv1.3", cipher="c", cipher_algbits=1, cipher_usebits=1)
ACCEPTED = MessageAccepted(
    session=SESSION, message="m", sender="", recipients=("a@example.org",), size=700, seconds=0.1, tls=None
)
REFUSED = MessageRefused(
    session=SESSION, message="m", sender="", recipients=(), size=900, code=550, enhanced=None, text="no",
    decided_by="policy", reason="", tls=None,
)  # fmt: skip
COUNTED: tuple[tuple[ServerEvent, int, dict[str, int]], ...] = (
    (ACCEPTED, 2, {"messages_accepted": 2, "bytes_accepted": 1400}),
    (REFUSED, 3, {"messages_refused": 3}),
    (TLSEstablished(session=SESSION, tls=TLS), 4, {"handshakes": 4}),
    (TLSFailed(session=SESSION, reason="r", detail="d"), 5, {"handshakes_failed": 5}),
    (ConnectionRefused(peer="192.0.2.1", listener=":25", reason="r"), 6, {"connections_refused": 6}),
)


def test_each_event_has_its_counter_and_changes_no_other() -> None:
    for event, times, expected in COUNTED:
        statistics = Statistics()
        subscription = statistics.subscription()
        for _ in range(times):
            subscription.observer(event)
        assert statistics == Statistics(**expected)


def test_the_subscription_names_the_events_that_are_counted_and_no_other() -> None:
    assert set(Statistics().subscription().kinds) == {type(event) for event, _, _ in COUNTED}
