"""What is wrong only as a whole: certificates that are asked for, Listens, Pathways."""

import pytest

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
def test_refused(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    assert told in str(caught.value)
    assert len(caught.value.problems) == 1


def test_what_many_peers_inherit_is_told_once() -> None:
    peers = " ".join(f'Peer "10.0.0.{i}" {{ Idle_Time = {i + 1} }}' for i in range(50))
    with pytest.raises(ConfigError) as caught:
        parse_config(listen(STARTTLS + peers))
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        (CERT + listen(STARTTLS), True),
        (CERT + STARTTLS + listen(""), True),
        (CERT + STARTTLS + listen("Use_SSL = true"), False),  # inherited: simply not offered
        (CERT + listen("Use_SSL = true", STARTTLS), False),
        (CERT + listen("", "Use_SSL = true " + STARTTLS), False),
        (CERT + listen(f"{STARTTLS} Use_SSL = false", "Use_SSL = true"), True),
        (CERT + listen(STARTTLS + ' Peer "::1" { Use_SSL = true }'), True),  # inherited by the Peer
        (listen("Enable = false " + STARTTLS) + 'ESMTP_Listener { Listen ":26" { } }', False),
        (listen("TLS_Verify_Mode = require TLS_Client_CA = /ca.pem"), False),
        ('Pathway "p" { ' + CERT + " }" + listen(f'Pathway = "p" {STARTTLS}'), True),
    ],
)
def test_accepted(text: str, offered: bool) -> None:
    config = parse_config(text)
    assert config.resolve(config.listens[0], None).offers_starttls is offered


def test_port_0_may_stand_on_several_addresses() -> None:
    config = parse_config("ESMTP_Listener { Listen ':0' { } Listen '*:0' { } Listen '127.0.0.1:0' { } }")
    assert len(config.listens) == 3
