"""The Listens of a configuration: which are enabled, their order, and how one is found."""

from pathlib import Path

import pytest

from triosmtp.config import UnixAddress, parse_config

STANZA = """
ESMTP_Listener {
  Listen ":25" {
    TLS_Certificate = "/path/to/cert.pem"
    TLS_Key = "/path/to/key.pem"
    TLS_Client_CA = "/path/to/clientca.bundle"
    TLS_Ciphers = "DEFAULT"
    TLS_Verify_Mode = "require"
    SMTP_Extensions = ( "ENHANCEDSTATUSCODES" "STARTTLS" )
  }
}
"""


def test_the_stanza_of_the_documentation_loads() -> None:
    config = parse_config(STANZA)
    [warning] = config.warnings
    assert warning.message.startswith("TLS_Verify_Mode: require refuses no client that stays in plaintext")
    (listen,) = config.listens
    found = config.resolve(listen, None)
    assert found.tls_certificate == (Path("/path/to/cert.pem"),)
    assert found.tls_key == (Path("/path/to/key.pem"),)
    assert found.tls_client_ca == Path("/path/to/clientca.bundle")
    assert found.tls_ciphers == "DEFAULT"
    assert found.tls_verify_mode == "require"
    assert found.smtp_extensions == ("ENHANCEDSTATUSCODES", "STARTTLS")
    assert found.offers_starttls
    assert str(found.origins["tls_key"]) == "<string>:5:15"
    assert "idle_time" not in found.origins


def test_a_repeated_scope_merges_and_the_later_option_wins() -> None:
    config = parse_config(
        """
        ESMTP_Listener { Listen ":25" { Idle_Time = 1  Max_Message_Size = 7 } }
        esmtp_listener { Max_Recipients_Per_Message = 3  listen ":25" { Idle_Time = 2 } }
        """
    )
    (listen,) = config.listens
    found = config.resolve(listen, None)
    assert (found.idle_time, found.max_message_size, found.max_recipients_per_message) == (2.0, 7, 3)
    assert found.origins["idle_time"].line == 3


@pytest.mark.parametrize(
    ("policy", "of_peer", "descriptors"),
    [
        ("", "", 1),
        ('"python:a:B" "policyd:unix:/p" "filter:lua"', "", 1),
        ('"milter:unix:/m" "filter:m"', "", 3),
        ('"filter:m"', '"filter:m" "milter:unix:/m" "milter:unix:/n"', 4),
    ],
)
def test_a_session_needs_a_descriptor_for_each_milter(policy: str, of_peer: str, descriptors: int) -> None:
    config = parse_config(f"""
        Filter "m" {{ Connect_To = "milter:unix:/x" }}
        Filter "lua" {{ Connect_To = "policyd:unix:/x" }}
        Filter "a" {{ Connect_To = "milter:unix:/x" }}
        Policy = ( {policy} )
        ESMTP_Listener {{ Listen ":25" {{ Peer "10.0.0.0/8" {{ Policy = ( {of_peer} ) }} }} Listen ":26" {{ }} }}
    """)
    assert config.descriptors_per_session == descriptors


def test_listeners_of_different_instances_do_not_merge() -> None:
    config = parse_config(
        """
        ESMTP_Listener "a" { Idle_Time = 1 Listen ":25" { } }
        ESMTP_Listener "b" { Listen ":26" { } }
        """
    )
    assert [config.resolve(listen, None).idle_time for listen in config.listens] == [1.0, 300.0]


@pytest.mark.parametrize("text", ["Enable = false Listen ':25' { }", "Listen ':25' { Enable = off }"])
def test_enable_false_leaves_the_socket_unbound(text: str) -> None:
    config = parse_config(f'ESMTP_Listener "on" {{ Listen ":26" {{ }} }} ESMTP_Listener "off" {{ {text} }}')
    assert [listen.name for listen in config.listens] == [":26"]


def test_listens_keep_the_order_of_the_file() -> None:
    config = parse_config('ESMTP_Listener { Listen ":3" { } Listen ":1" { } Listen ":2" { } }')
    assert [listen.name for listen in config.listens] == [":3", ":1", ":2"]


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
