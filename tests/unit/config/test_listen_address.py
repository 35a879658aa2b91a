"""The forms of Listen addresses."""

from pathlib import Path

import pytest

from triosmtp.config import ListenAddress, TCPAddress, UnixAddress, parse_address, parse_config


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
def test_what_is_no_address(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told.replace('"', ".")):
        parse_address(text)


@pytest.mark.parametrize(
    ("set_mode", "mode"), [("", 0o660), ("File_Mode = 0600", 0o600), ('File_Mode = "0777"', 0o777)]
)
def test_a_unix_socket_has_the_mode_of_file_mode(set_mode: str, mode: int) -> None:
    config = parse_config(f'ESMTP_Listener {{ Listen "/run/s" {{ {set_mode} }} }}')
    assert config.listens[0].address == UnixAddress("/run/s", mode)


LISTENS = parse_config(
    """
    ESMTP_Listener {
      Listen ":25" { }  Listen "127.0.0.1:25" { }
      Listen "[::]:25" { }  Listen "127.0.0.1:587" { }  Listen "*:465" { }  Listen "/run/s" { }
    }
    """
)


@pytest.mark.parametrize(
    ("local", "name"),
    [
        (":25", ":25"),
        ("*:25", ":25"),
        ("192.0.2.1:25", ":25"),
        ("127.0.0.1:25", "127.0.0.1:25"),
        ("[::ffff:127.0.0.1]:25", "127.0.0.1:25"),
        ("[::]:25", "[::]:25"),
        ("[2001:db8::1]:25", "[::]:25"),
        ("[2001:db8::1]:465", "*:465"),
        ("127.0.0.1:587", "127.0.0.1:587"),
        ("127.0.0.2:587", None),
        ("/run/s", "/run/s"),
        ("/run/t", None),
        ("nonsense", None),
    ],
)
def test_a_listen_is_found_as_written_or_by_an_address_that_it_takes(local: str, name: str | None) -> None:
    found = LISTENS.find_listen(local)
    assert (found and found.name) == name
