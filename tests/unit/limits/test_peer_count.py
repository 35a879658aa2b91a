"""Counts by peer: windows of time, bounded tables, and the connections of one peer."""

from ipaddress import ip_address

from triosmtp.limits.peer_count import PeerCounts, PeerTable, peer_key

ONE, OTHER = ip_address("192.0.2.1"), ip_address("192.0.2.2")


def test_one_ipv6_network_of_64_bits_is_one_peer() -> None:
    assert peer_key(ip_address("2001:db8::1")) == peer_key(ip_address("2001:db8:0:0:ffff::1"))
    assert peer_key(ip_address("2001:db8::1")) != peer_key(ip_address("2001:db8:0:1::1"))
    assert peer_key(ONE) != peer_key(OTHER)


def test_a_window_begins_with_its_first_event() -> None:
    table = PeerTable()
    assert [table.count(ONE, (2, 60), now) for now in (0, 59, 59.9, 60, 61, 62)] == [
        True, True, False, True, True, False,
    ]  # fmt: skip
    assert table.count(OTHER, (2, 60), 59)


def test_a_full_table_forgets_the_peer_that_was_counted_longest_ago() -> None:
    table = PeerTable(2)
    peers = [ip_address(f"192.0.2.{number}") for number in range(3)]
    assert all(table.count(peer, (1, 60), 0) for peer in peers)
    assert not table.count(peers[2], (1, 60), 1)
    assert not table.count(peers[1], (1, 60), 1)
    assert table.count(peers[0], (1, 60), 1), "it was forgotten"


def test_an_event_that_is_undone_does_not_count() -> None:
    counts = PeerCounts()
    assert counts.count("option", ONE, (1, 60), 0)
    assert not counts.count("option", ONE, (1, 60), 0)
    counts.uncount("option", ONE)
    assert counts.count("option", ONE, (1, 60), 0)
    assert counts.count("another option", ONE, (1, 60), 0)


def test_a_peer_without_an_address_has_no_limit() -> None:
    counts = PeerCounts()
    assert all(counts.count("option", None, (1, 60), 0) for _ in range(3))
    assert all(counts.count("option", ONE, None, 0) for _ in range(3))


def test_the_connections_of_a_peer_are_limited_until_one_ends() -> None:
    counts, key = PeerCounts(), peer_key(ONE)
    assert [counts.connect(key, 2) for _ in range(3)] == [True, True, False]
    counts.disconnect(key)
    assert counts.connect(key, 2)
    assert counts.connect(key, 0), "0 is no limit"
    for _ in range(3):
        counts.disconnect(key)
    assert not counts._connections
