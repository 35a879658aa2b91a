"""Connections that are passed to a worker, with both ends in one process."""

import os
import resource
import socket
from ipaddress import ip_address

import pytest

from triosmtp.config import TCPAddress, UnixAddress
from triosmtp.sockets.peer import Peer, peer_from_sockaddr
from triosmtp.workers.handoff import (
    Handoff,
    connections_pair,
    discard_connection,
    receive_connection,
    send_connection,
)


@pytest.mark.parametrize(
    "peer",
    [
        peer_from_sockaddr(("192.0.2.1", 1024)),
        peer_from_sockaddr(("::ffff:192.0.2.1", 1)),
        peer_from_sockaddr(("2001:db8::1", 65535)),
        peer_from_sockaddr(("fe80::1%lo", 25)),
        peer_from_sockaddr(""),
        Peer("192.0.2.7:25", ip_address("192.0.2.7"), 25, "198.51.100.1:25", {"proxy_protocol": "2", "x": "\u00e4"}),
        Peer("unix", None, announced={"proxy_protocol": "1"}),
    ],
    ids=lambda peer: peer.text,
)
@pytest.mark.parametrize(
    "key", [TCPAddress(None, 25, False), UnixAddress("/run/mail", 0o660), ("127.0.0.1:0", "ESMTP_Listener")], ids=repr
)
def test_the_worker_receives_what_the_supervisor_knows(peer: Peer, key: object) -> None:
    ours, theirs = connections_pair()
    accepted, other = socket.socketpair()
    with ours, theirs, accepted, other:
        handoff = Handoff(1 << 40, 7, key, peer)
        assert send_connection(ours, handoff, accepted)
        received = receive_connection(theirs)
        assert received is not None
        assert received[0] == handoff
        assert received[1] is not None
        with received[1] as sock:
            assert not sock.getblocking()


def test_a_connection_is_passed_whole_or_not_at_all() -> None:
    ours, theirs = connections_pair()
    pairs = []
    while True:
        pair = socket.socketpair()
        pairs.append(pair)
        if not send_connection(ours, Handoff(len(pairs), 1, ("127.0.0.1", 25), Peer("p", None)), pair[0]):
            break
    assert len(pairs) > 20
    taken = 0
    while (received := receive_connection(theirs)) is not None:
        handoff, sock = received
        assert sock is not None
        taken += 1
        assert handoff.number == taken
        sock.send(b"%d" % handoff.number)
        assert pairs[taken - 1][1].recv(10) == b"%d" % taken
        sock.close()
    assert taken == len(pairs) - 1
    theirs.close()
    with pytest.raises(OSError, match="Broken pipe"):
        send_connection(ours, Handoff(0, 1, None, Peer("p", None)), pairs[0][0])
    ours.close()
    for one, other in pairs:
        one.close()
        other.close()


def test_a_connection_without_a_descriptor_for_it_waits() -> None:
    ours, theirs = connections_pair()
    accepted, peer = socket.socketpair()
    for number in (1, 2):
        assert send_connection(ours, Handoff(number, 1, None, Peer("p", None)), accepted)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(ours.fileno())
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        for _ in range(2):
            received = receive_connection(theirs)
            assert received is not None
            assert (received[0].number, received[1]) == (1, None)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    received = receive_connection(theirs)
    assert received is not None
    assert received[0].number == 1
    assert received[1] is not None
    received[1].send(b"x")
    assert peer.recv(10) == b"x"
    received[1].close()
    discard_connection(theirs)
    assert receive_connection(theirs) is None
    accepted.close()
    assert peer.recv(10) == b"", "nothing refers to it any more"
    for sock in (ours, theirs, peer):
        sock.close()
