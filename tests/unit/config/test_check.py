"""Checks of a whole configuration: Listens, addresses, Pathways."""

import pytest
from config_text import config_errors, read_settings

from triosmtp.config import parse_config
from triosmtp.errors import ConfigError

CERT = 'TLS_Certificate = "/cert.pem"'


STARTTLS = "SMTP_Extensions = ( STARTTLS )"


def listen(body: str, around: str = "") -> str:
    return f'ESMTP_Listener {{ {around} Listen ":25" {{ {body} }} }}'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "<string>:1:1: error: no Listen is enabled: expected ESMTP_Listener"),
        ("ESMTP_Listener { }", "<string>:1:1: error: no Listen is enabled"),
        (listen("Enable = false"), "<string>:1:26: error: no Listen is enabled"),
        (listen(STARTTLS), "STARTTLS needs a TLS_Certificate, and none is in force for Listen \":25\""),
        (STARTTLS + listen(""), "<string>:1:19: error: SMTP_Extensions: STARTTLS needs a TLS_Certificate"),
        (CERT + STARTTLS + listen("TLS_Certificate = none"), "STARTTLS needs a TLS_Certificate"),
        (listen(f'Peer "10.0.0.1" {{ {STARTTLS} }}'), 'none is in force for Listen ":25", Peer "10.0.0.1"'),
        (listen("Use_SSL = true"), "<string>:1:44: error: Use_SSL: TLS from the first byte needs a TLS_Certificate"),
        (CERT + listen('Use_SSL = true Peer "::1" { TLS_Certificate = none }'), 'Listen ":25", Peer "::1"'),
        (CERT + listen(f"Use_SSL = true {STARTTLS}"), "STARTTLS excludes Use_SSL"),
        (CERT + listen(STARTTLS, "Use_SSL = true"), "STARTTLS excludes Use_SSL"),
        (CERT + listen("TLS_Verify_Mode = require"), "require needs a TLS_Client_CA"),
        (CERT + listen('Peer "10.0.0.1" { TLS_Verify_Mode = require }'), 'for Listen ":25", Peer "10.0.0.1"'),
        (CERT + listen("", 'Peer "10.0.0.1" { TLS_Verify_Mode = require }'), 'for Listen ":25", Peer "10.0.0.1"'),
        ("ESMTP_Listener { Listen ':25' { } Listen '*:25' { } }", 'Listen "*:25" is the address of Listen ":25"'),
        (
            "ESMTP_Listener { Listen '0.0.0.0:25' { } Listen '[::ffff:0.0.0.0]:25' { } }",
            'Listen "[::ffff:0.0.0.0]:25" is the address of Listen "0.0.0.0:25" at <string>:1:25 too',
        ),
        ("ESMTP_Listener { Listen ':25' { } Listen '0.0.0.0:25' { } }", 'Listen "0.0.0.0:25" and Listen ":25" at'),
        (
            "ESMTP_Listener { Listen '[fe80::1%eth0]:25' { } Listen '[*]:25' { } }",
            'Listen "[*]:25" and Listen "[fe80::1%eth0]:25" at',
        ),
        (
            "ESMTP_Listener { Listen '127.0.0.1:9' { } } Status_Listener { Token_File = t Listen ':9' { } }",
            'Listen ":9" and Listen "127.0.0.1:9" at',
        ),
        ("ESMTP_Listener { Listen '/s' { } } ESMTP_Listener b { Listen '/s' { } }", 'Listen "/s" is the address of'),
        ("ESMTP_Listener { Listen ':0' { } } ESMTP_Listener b { Listen ':0' { } }", 'Listen ":0" is the address of'),
        (listen('Pathway = "p"'), 'there is no Pathway "p"'),
        (listen("", 'Enable = false Pathway = "p"'), 'there is no Pathway "p"'),
        (
            'Pathway "p" { } Pathway_Group "g" { Pathway "p" { } }' + listen(""),
            '1:45: error: Pathway "p" stands in the global scope too, at <string>:1:9',
        ),
    ],
)  # fmt: skip
def test_a_configuration_is_refused_with_one_error(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    assert told in str(caught.value)
    assert len([each for each in caught.value.problems if "no Listen" in told or "no Listen" not in each.message]) == 1


def test_an_error_that_many_peers_inherit_is_reported_once() -> None:
    peers = " ".join(f'Peer "10.0.0.{i}" {{ Idle_Time = {i + 1} }}' for i in range(50))
    with pytest.raises(ConfigError) as caught:
        parse_config(listen(STARTTLS + peers))
    assert len(caught.value.problems) == 1


def test_port_0_may_stand_on_several_addresses() -> None:
    config = parse_config("ESMTP_Listener { Listen ':0' { } Listen '*:0' { } Listen '127.0.0.1:0' { } }")
    assert len(config.listens) == 3


def test_ports_that_do_not_overlap() -> None:
    """One port for IPv4 and IPv6 apart, different ports, and ports that the kernel picks."""
    listens = ("0.0.0.0:25", "[*]:25", ":24", "[::1]:24", "127.0.0.1:23", "127.0.0.2:23", "0.0.0.0:0", "127.0.0.1:0")
    parse_config("".join(f"ESMTP_Listener {{ Listen '{listen}' {{ }} }}\n" for listen in listens))


def test_socket_options_of_a_listen_beside_a_wildcard_cause_a_warning() -> None:
    text = """ESMTP_Listener {
        Listen_Backlog = 7
        Listen "*:25" { TCP_Send_Buffer_Size = 9000 Listen_Backlog = 8 }
        Listen "127.0.0.1:25" { TCP_Recv_Buffer_Size = 9000 TCP_Send_Buffer_Size = 9000 Disable_Nagle_Algorithm = 0 }
        Listen "127.0.0.1:26" { TCP_Recv_Buffer_Size = 9000 }
    }"""
    by = 'has no effect for Listen "127.0.0.1:25": its connections come by the socket of Listen "*:25" at <string>:3:16'
    found = [(str(each.position), each.message) for each in parse_config(text).warnings]
    assert found == [
        ("<string>:2:26", f"Listen_Backlog {by}"),
        ("<string>:4:56", f"TCP_Recv_Buffer_Size {by}"),
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "ESMTP_Listener { Listen '/c' { } } Control_Listener { Listen '/c' { } }",
            '1:62: error: Listen "/c" is the address of Listen "/c" at e.conf:1:25 too',
        ),
        ("Pathway = 'Default'", '1:11: error: there is no Pathway "Default"'),
        ("Pathway = 'in' Pathway 'inn' { }", '1:11: error: there is no Pathway "in"; did you mean inn?'),
    ],
)
def test_each_error_has_its_position_and_text(text: str, line: str) -> None:
    others = f"\n{config_errors(text)}".replace(
        "\ne.conf:1:1: error: no Listen is enabled: ", "\n"
    )  # which most lack, too
    assert f"\ne.conf:{line}" in others


def test_the_pathway_default_may_be_missing() -> None:
    assert read_settings("Pathway = default").pathway == "default"
    assert read_settings("Pathway = default Pathway default { Idle_Time = 7 }").idle_time == 7.0
