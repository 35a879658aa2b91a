"""The view that policies have of a session: header fields, the reference of its events, and what TLS proves."""

from functools import partial

import pytest

from triosmtp.policy import Session
from triosmtp.variables import TLSInfo

VERIFIED = TLSInfo(
    protocol="TLSv1.3",
    cipher="c",
    cipher_algbits=256,
    cipher_usebits=256,
    sni="mx.example.org",
    verified=True,
    client_certificate=b"der",
    client_subject="CN=relay",
    client_subject_cn="relay",
    client_fingerprint_sha256="0" * 64,
    client_sans=("dns:relay.example",),
)


def make_session(tls: TLSInfo | None = None) -> Session:
    """Return a session outside of a transaction."""
    return Session(id="s", listener=":25", peer="192.0.2.1:1", peer_address=None, local="192.0.2.2:25", tls=tls)


def test_a_header_field_belongs_to_the_message_under_way_or_to_all_messages() -> None:
    session = make_session()
    session.add_header("X-All", "1")
    session.in_transaction = True
    session.add_header("X-One", "2")
    session.in_transaction = False
    session.add_header("X-All", "3")
    assert session.headers == [("X-All", "1"), ("X-All", "3")]
    assert session.message_headers == [("X-One", "2")]


@pytest.mark.parametrize("name", ["", "X Y", "X:", "X\r\nY", "X\n", "Ä", "\x7f", "x" * 77])
def test_a_name_that_is_not_of_a_header_field_is_refused(name: str) -> None:
    session = make_session()
    with pytest.raises(ValueError, match="is not the name of a header field"):
        session.add_header(name, "v")
    assert session.headers == session.message_headers == []


@pytest.mark.parametrize("name", ["X", "!", "~", "x" * 76, "9-A_b"])
def test_each_name_of_rfc_5322_is_accepted(name: str) -> None:
    session = make_session()
    session.add_header(name, "v")
    assert session.headers == [(name, "v")]


def test_its_events_share_one_reference_until_the_peer_changes() -> None:
    session = make_session()
    first = session.info
    session.peer = "203.0.113.9:2"
    assert session.info is first
    session.renew_info()
    assert (session.info.id, session.info.peer, session.info.local) == ("s", "203.0.113.9:2", "192.0.2.2:25")
    assert first.peer == "192.0.2.1:1"


def test_a_certificate_proves_nothing_about_a_client_that_its_owner_announced() -> None:
    session = make_session(VERIFIED)
    assert session.tls is VERIFIED
    session.is_proxied = True
    tls = session.tls
    assert tls is not None
    assert not tls.verified
    assert (tls.protocol, tls.sni) == ("TLSv1.3", "mx.example.org")
    assert not any(name.startswith(("tls_client_cert", "ccert")) for name in tls.variables())
    assert session.connection_tls is VERIFIED
    assert make_session().tls is None


def test_what_a_policy_holds_for_it_is_released_once_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    session, released = make_session(), list[str]()
    session.call_at_end(partial(released.append, "first"))
    session.call_at_end(lambda: released.remove("missing"))
    session.call_at_end(partial(released.append, "last"))
    session.release()
    session.release()
    assert released == ["last", "first"]
    assert "not in list" in caplog.text
    make_session().release()
