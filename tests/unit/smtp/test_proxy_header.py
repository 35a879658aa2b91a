"""The PROXY header: its content, its end, and malformed ones."""

import random
import struct
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triosmtp.smtp.proxy_header import (
    MAX_PROXY_HEADER_SIZE,
    MIN_PROXY_HEADER_SIZE,
    ProxyHeader,
    ProxyHeaderError,
    _crc32c,
    parse_proxy_header,
)

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
FOUR = ip_address("192.0.2.1").packed + ip_address("198.51.100.2").packed + struct.pack("!HH", 4000, 25)
SIX = ip_address("2001:db8::1").packed + ip_address("2001:db8::2").packed + struct.pack("!HH", 4000, 25)


def binary(family: int, body: bytes, command: int = 0x21) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def fed(stream: bytes, step: int = 0) -> tuple[ProxyHeader, bytes]:
    """Read as the server does: never more than was said to be safe; ``step`` octets at a time at most."""
    taken, wanted = 0, MIN_PROXY_HEADER_SIZE
    while True:
        taken += min(wanted, step or wanted)
        if taken > len(stream):
            raise EOFError
        found = parse_proxy_header(stream[:taken])
        if isinstance(found, ProxyHeader):
            return found, stream[taken:]
        assert found > 0
        wanted = found


SSL = struct.pack("!BI", 7, 0) + b"".join(
    tlv(kind, value)
    for kind, value in (
        (0x21, b"TLSv1.3"),
        (0x22, b"cli\r\nent"),
        (0x23, b"AES"),
        (0x24, b"SHA256"),
        (0x25, b"RSA2048"),
    )
)
HEADERS = {
    b"PROXY UNKNOWN\r\n": None,
    b"PROXY UNKNOWN ff:: ee:: 1 2\r\n": None,
    b"PROXY TCP4 192.0.2.1 198.51.100.2 4000 25\r\n": "192.0.2.1",
    b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n": "1.1.1.1",
    b"PROXY TCP6 2001:db8::1 2001:db8::2 4000 25\r\n": "2001:db8::1",
    b"PROXY TCP6 ::1 ::2 4 5\r\n": "::1",
    b"PROXY TCP6 " + b" ".join([b"ffff:f...f:ffff".replace(b"f...f", b":".join([b"ffff"] * 6))] * 2)
    + b" 65535 65535\r\n": "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    binary(0x11, FOUR): "192.0.2.1",
    binary(0x21, SIX): "2001:db8::1",
    binary(0x21, ip_address("::ffff:192.0.2.9").packed + SIX[16:]): "192.0.2.9",
    binary(0x31, bytes(216)): None,
    binary(0x00, b""): None,
    binary(0x11, b"", 0x20): None,
    binary(0x00, b"whatever", 0x20): None,
    binary(0x11, FOUR + tlv(4, bytes(500)) + tlv(0x20, SSL) + tlv(1, b"smtp") + tlv(2, b"mx.example.org")
           + tlv(5, b"id")): "192.0.2.1",
}  # fmt: skip


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("step", [0, 1, 2, 7])
@pytest.mark.parametrize("behind", [b"", b"EHLO x\r\n", b"\x16\x03\x01", b"\n"])
def test_every_header_is_read_to_its_last_octet_and_no_further(header: bytes, step: int, behind: bytes) -> None:
    preamble, rest = fed(header + behind, step)
    assert rest == behind
    expected = HEADERS[header]
    assert (None if preamble.source is None else str(preamble.source[0])) == expected


def test_the_fields_of_a_tls_client_become_variables() -> None:
    preamble, _ = fed(list(HEADERS)[-1])
    assert preamble.destination == (ip_address("198.51.100.2"), 25)
    assert preamble.variables == {
        "proxy_ssl": "on",
        "proxy_ssl_version": "TLSv1.3",
        "proxy_ssl_client_cn": "cli??ent",
        "proxy_ssl_cipher": "AES",
        "proxy_ssl_sig_alg": "SHA256",
        "proxy_ssl_key_alg": "RSA2048",
        "proxy_ssl_client_certificate": "yes",
        "proxy_ssl_client_verified": "yes",
        "proxy_alpn": "smtp",
        "proxy_authority": "mx.example.org",
        "proxy_unique_id": "id",
    }


@pytest.mark.parametrize(("client", "verify", "verified"), [(7, 1, "no"), (1, 0, "no"), (5, 0, "yes")])
def test_a_client_is_verified_only_with_a_certificate_that_was(client: int, verify: int, verified: str) -> None:
    preamble, _ = fed(binary(0x11, FOUR + tlv(0x20, struct.pack("!BI", client, verify))))
    assert preamble.variables["proxy_ssl_client_verified"] == verified


def test_the_checksum_is_checked() -> None:
    assert _crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
    body = FOUR + tlv(2, b"x") + tlv(3, bytes(4))
    whole = binary(0x11, body)
    good = whole[:-4] + _crc32c(whole).to_bytes(4, "big")
    assert fed(good)[0].proxied
    with pytest.raises(ProxyHeaderError, match="checksum"):
        fed(good.replace(b"\xc0\x00\x02\x01", b"\xc0\x00\x02\x02"))
    with pytest.raises(ProxyHeaderError, match="more than one checksum"):
        fed(binary(0x11, body + tlv(3, bytes(4))))


@pytest.mark.parametrize(
    "bad",
    [
        b"EHLO client.example\r\n",
        b"QUIT\r\n" + bytes(20),
        b"\x16\x03\x01" + bytes(20),
        b"PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n" + bytes(200),
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 70000\r\n",
        b"PROXY TCP4 ::1 ::2 1 2\r\n",
        b"PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 1.1.1.01 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n" + bytes(200),
        b"PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 " + b"1" * 200,
        b"PROXY UNKNOWN " + b"x" * 200,
        b"proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
        binary(0x11, FOUR, 0x11),
        binary(0x11, FOUR, 0x22),
        binary(0x12, FOUR),
        binary(0x41, FOUR),
        binary(0x11, FOUR[:-1]),
        binary(0x31, FOUR),
        binary(0x11, FOUR + b"\x01"),
        binary(0x11, FOUR + b"\x01\x00\x05abc"),
        binary(0x11, FOUR + tlv(0x20, b"\x01")),
        binary(0x11, FOUR + tlv(0x20, struct.pack("!BI", 1, 0) + b"\x21\x00\x05abc")),
        binary(0x11, FOUR + tlv(5, bytes(129))),
        binary(0x11, FOUR + tlv(3, bytes(3))),
        SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 0xFFFF) + bytes(0xFFFF),
    ],
)
@pytest.mark.parametrize("step", [0, 1])
def test_an_invalid_header_is_refused(bad: bytes, step: int) -> None:
    with pytest.raises(ProxyHeaderError):
        fed(bad, step)


def mutated(header: bytes, seed: int) -> bytes:
    chance = random.Random(seed)
    octets = bytearray(header)
    for _ in range(chance.randint(1, 4)):
        match chance.randrange(3):
            case 0:
                octets[chance.randrange(len(octets))] = chance.randrange(256)
            case 1:
                del octets[chance.randrange(len(octets)) :]
                octets += bytes(1)
            case _:
                octets.insert(chance.randrange(len(octets)), chance.randrange(256))
    return bytes(octets)


def outcome(stream: bytes, step: int) -> object:
    try:
        preamble, rest = fed(stream, step)
    except ProxyHeaderError:
        return "refused"
    except EOFError:
        return "unfinished"
    return preamble, rest


@settings(max_examples=1500)
@given(st.sampled_from(list(HEADERS)), st.integers(), st.binary(max_size=20))
def test_any_input_is_a_header_or_refused_both_whole_and_octet_by_octet(header: bytes, seed: int, tail: bytes) -> None:
    stream = mutated(header, seed) + tail
    whole, single = outcome(stream, 0), outcome(stream, 1)
    if isinstance(whole, tuple) and isinstance(single, tuple):
        assert whole == single
    else:
        # Octet by octet a fault is seen sooner; never does one of them take what the other one does not.
        assert {type(whole), type(single)} == {str}


@settings(max_examples=500)
@given(st.binary(max_size=300))
def test_noise_is_refused_within_bounds(noise: bytes) -> None:
    assert outcome(SIGNATURE + noise, 0) is not None
    assert outcome(noise + bytes(MAX_PROXY_HEADER_SIZE), 1) == "refused" or noise.startswith((b"PROXY ", SIGNATURE))
