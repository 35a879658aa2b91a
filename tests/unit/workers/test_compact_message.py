"""Frequent messages as tuples: what comes out is what went in."""

import pickle
from datetime import UTC, datetime

from attrs import evolve, fields

from triosmtp.event import Connected, Disconnected, MessageAccepted, SessionInfo, TLSEstablished, TLSFailed
from triosmtp.variables import TLSInfo
from triosmtp.workers.compact_message import FIRST_NUMBER, compact, expand
from triosmtp.workers.worker_messages import ConnectionClosed, HandshakeEnded

SESSION = SessionInfo(id="s", peer="192.0.2.1:4711", local="192.0.2.2:25", listener="l")
TLS = TLSInfo(
    protocol="TLSv1.3", cipher="c", cipher_algbits=256, cipher_usebits=128, group="g", verified=True,
    client_certificate=b"\x30", client_sans=("dns:a", "dns:b"), client_not_after=datetime(2030, 1, 1, tzinfo=UTC),
    handshake_seconds=0.25,
)  # fmt: skip
ACCEPTED = MessageAccepted(
    session=SESSION, message="s-1", sender="", recipients=("a@x", "b@x"), size=7, seconds=0.5, tls=TLS,
    variables={"tls": "on"}, message_variables={"k": "v"}, delivery_seconds=0.1, discarded_by="p", helo="h",
)  # fmt: skip
FREQUENT = [
    Connected(session=SESSION, variables={"a": "b"}),
    TLSEstablished(session=SESSION, tls=TLS),
    ACCEPTED,
    evolve(ACCEPTED, tls=None, session=evolve(SESSION, peer="unix")),
    Disconnected(session=SESSION, reason="quit", seconds=1.5, messages=2, commands={"QUIT": 1}, detail="d"),
    ConnectionClosed(17),
]
OTHERS = [
    (0, 1, "a request"),
    (1, 5, "an answer", None),
    HandshakeEnded("s"),
    TLSFailed(session=SESSION, reason="r", detail=""),
]


def transferred(messages: list[object]) -> list[object]:
    received: list[object] = pickle.loads(pickle.dumps(compact(messages)))
    return expand(received)


def test_every_message_arrives_equal_and_in_order() -> None:
    mixed = [each for pair in zip(FREQUENT, [*OTHERS, *OTHERS], strict=False) for each in pair]
    assert transferred(mixed) == mixed
    assert list(map(type, transferred(mixed))) == list(map(type, mixed))


def test_frequent_messages_need_no_class() -> None:
    small = compact(FREQUENT)
    assert all(type(each) is tuple and each[0] >= FIRST_NUMBER for each in small)
    assert b"triosmtp" not in pickle.dumps(small)


def test_a_shared_value_stays_one_object() -> None:
    connected, established, accepted, *_ = transferred([*FREQUENT])
    assert isinstance(connected, Connected)
    assert isinstance(established, TLSEstablished)
    assert isinstance(accepted, MessageAccepted)
    assert connected.session is established.session is accepted.session
    assert established.tls is accepted.tls


def test_a_frozen_value_that_arrived_has_every_field() -> None:
    [event] = transferred([TLSEstablished(session=SESSION, tls=TLS)])
    assert isinstance(event, TLSEstablished)
    tls = event.tls
    assert {each.name: getattr(tls, each.name) for each in fields(TLSInfo)} == vars(TLS)
    assert hash(tls) == hash(TLS)
