"""The forms of Listen addresses."""

from pathlib import Path

import pytest

from triosmtp.config import ListenAddress, TCPAddress, UnixAddress, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":25", TCPAddress(None, 25)),
        ("*:25", TCPAddress(None, 25)),
        ("[*]:25", TCPAddress(None, 25, ipv6=True)),
        ("[::]:25", TCPAddress(None, 25, ipv6=True)),
        ("127.0.0.1:25", TCPAddress("127.0.0.1", 25)),
        ("0.0.0.0:25", TCPAddress("0.0.0.0", 25)),
        ("[fd82::1]:587", TCPAddress("fd82::1", 587, ipv6=True)),
        ("[FD82:0::1]:587", TCPAddress("fd82::1", 587, ipv6=True)),
        ("127.0.0.1:0", TCPAddress("127.0.0.1", 0)),
        ("/run/triosmtp/smtp", UnixAddress("/run/triosmtp/smtp")),
        ("./smtp", UnixAddress("/etc/triosmtp/smtp")),
    ],
)
def test_forms(text: str, address: ListenAddress) -> None:
    assert parse_address(text, Path("/etc/triosmtp")) == address


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("25", 'expected ":25" for that port on every address'),
        ("127.0.0.1", "the port is missing"),
        ("[::1]", "the port is missing"),
        ("::1:25", "an IPv6 address is bracketed here"),
        ("fd82::1:587", "an IPv6 address is bracketed here"),
        (":65536", "expected a port from 0 to 65535"),
        (":smtp", "expected"),
        ("localhost:25", "a host name will not do"),
        ("127.0.0:25", "expected an IPv4 address"),
        ("[::g]:25", "expected an IPv6 address or"),
        ("[127.0.0.1]:25", "expected an IPv6 address or"),
        ("/" + "x" * 107, "at most 107 bytes"),
        ("", "expected"),
    ],
)
def test_an_invalid_address_is_refused_with_the_expected_form(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told.replace('"', ".")):
        parse_address(text)
