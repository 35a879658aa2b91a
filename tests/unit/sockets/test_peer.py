"""The other end of a connection, by the addresses of the kernel."""

import socket
from ipaddress import ip_address

import pytest

from triosmtp.sockets.peer import local_address_of, peer_from_sockaddr


@pytest.mark.parametrize(
    ("sockaddr", "text", "address"),
    [
        (("192.0.2.7", 53211), "192.0.2.7:53211", "192.0.2.7"),
        (("2001:db8::7", 53211, 0, 0), "[2001:db8::7]:53211", "2001:db8::7"),
        (("::ffff:192.0.2.7", 53211, 0, 0), "192.0.2.7:53211", "192.0.2.7"),
        (("::ffff:c000:207", 53211, 0, 0), "[::ffff:c000:207]:53211", "::ffff:c000:207"),
        (("fe80::1%lo", 53211, 0, 1), "[fe80::1%lo]:53211", "fe80::1"),
    ],
)
def test_the_address_of_a_tcp_peer(sockaddr: object, text: str, address: str) -> None:
    peer = peer_from_sockaddr(sockaddr)
    assert (peer.text, peer.address, peer.port) == (text, ip_address(address), 53211)


@pytest.mark.parametrize("sockaddr", ["", "/run/x", b"\0abstract", None])
def test_a_peer_without_an_ip_address_is_unix(sockaddr: object) -> None:
    peer = peer_from_sockaddr(sockaddr)
    assert (peer.text, peer.address, peer.port) == ("unix", None, None)


def test_an_ipv4_connection_to_an_ipv6_socket_has_an_ipv4_address() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 socket can accept IPv4 connections here")
    with (
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener,
        socket.create_connection(("127.0.0.1", listener.getsockname()[1])),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockname()[0] == "::ffff:127.0.0.1"
        assert local_address_of(accepted) == ip_address("127.0.0.1")
