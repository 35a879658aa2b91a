"""The limits of TLS handshakes: at once, of one peer, and within a time."""

from ipaddress import ip_address

from triosmtp.limits.handshake_limiter import HandshakeLimiter
from triosmtp.limits.limit_reached import LimitReached

MAX, PER_PEER = LimitReached.TLS_HANDSHAKES_MAX, LimitReached.TLS_HANDSHAKES_PER_PEER
A, B = ip_address("192.0.2.1"), ip_address("192.0.2.2")


def test_so_many_at_once() -> None:
    limiter = HandshakeLimiter(2)
    assert [limiter.admit(session, A, None, 0) for session in "abc"] == [None, None, MAX]
    limiter.release("a")
    limiter.release("a")
    limiter.release("never entered")
    assert limiter.under_way == 1
    assert [limiter.admit(session, A, None, 0) for session in "cd"] == [None, MAX]


def test_one_peer_has_a_tenth_and_at_least_ten() -> None:
    for limit, share in ((500, 50), (109, 10), (20, 10)):
        limiter = HandshakeLimiter(limit)
        told = [limiter.admit(f"a{number}", A, None, 0) for number in range(share + 1)]
        assert told == [None] * share + [MAX]
        assert limiter.admit("b", B, None, 0) is None
        limiter.release("a3")
        limiter.release("a3")
        assert [limiter.admit(session, A, None, 0) for session in ("again", "more")] == [None, MAX]
    assert {limiter.admit(f"unix{number}", None, None, 0) for number in range(limit - share - 1)} == {None}
    assert limiter.admit("one more", None, None, 0) == MAX


def test_the_share_of_an_ipv6_network_is_that_of_one_peer() -> None:
    limiter = HandshakeLimiter(500)
    told = [limiter.admit(f"s{number}", ip_address(f"2001:db8::{number:x}"), None, 0) for number in range(51)]
    assert told == [None] * 50 + [MAX]
    assert limiter.admit("next", ip_address("2001:db8:0:1::1"), None, 0) is None


def test_nothing_is_kept_of_peers_that_left() -> None:
    limiter = HandshakeLimiter(500)
    for number in range(100):
        limiter.admit(f"s{number}", ip_address(f"192.0.2.{number}"), None, 0)
        limiter.admit(f"s{number}", ip_address(f"192.0.2.{number}"), None, 0)  # the session's second counts once
    assert limiter.under_way == 100
    for number in range(100):
        limiter.release(f"s{number}")
    assert (limiter.under_way, dict(limiter._under_way_of)) == (0, {})


def test_zero_is_any_number() -> None:
    limiter = HandshakeLimiter(0)
    assert {limiter.admit(str(number), A, None, 0) for number in range(1000)} == {None}


def test_so_many_from_one_peer_in_a_window_that_opens_with_the_first() -> None:
    limiter = HandshakeLimiter(0)
    per_peer = (2, 10.0)
    assert [limiter.admit("x", A, per_peer, now) for now in (0, 9, 9.9)] == [None, None, PER_PEER]
    assert limiter.admit("x", B, per_peer, 9.9) is None
    assert [limiter.admit("x", A, per_peer, now) for now in (10, 11, 12)] == [None, None, PER_PEER]


def test_an_immediate_refusal_does_not_count_for_the_peer() -> None:
    limiter = HandshakeLimiter(1)
    assert limiter.admit("a", A, (1, 10.0), 0) is None
    assert limiter.admit("b", B, (1, 10.0), 0) == MAX
    limiter.release("a")
    assert limiter.admit("b", B, (1, 10.0), 0) is None


def test_all_of_an_ipv6_network_is_one_peer_and_a_unix_socket_is_none() -> None:
    limiter = HandshakeLimiter(0)
    addresses = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"]
    told = [limiter.admit("x", ip_address(address), (1, 10.0), 0) for address in addresses]
    assert told == [None, PER_PEER, None]
    assert {limiter.admit("x", None, (1, 10.0), 0) for _ in range(3)} == {None}


def test_the_table_of_peers_is_bounded() -> None:
    limiter = HandshakeLimiter(0, max_peers=3)
    for last in range(1, 5):
        limiter.admit("x", ip_address(f"192.0.2.{last}"), (1, 10.0), 0)
    assert len(limiter._peers._windows) == 3
    assert limiter.admit("x", ip_address("192.0.2.4"), (1, 10.0), 0) == PER_PEER
    assert limiter.admit("x", ip_address("192.0.2.1"), (1, 10.0), 0) is None  # forgotten
