"""The TLS options of a configuration as a whole: pairs of files, demands, options without effect."""

import pytest

from triosmtp.config import parse_config
from triosmtp.errors import ConfigError, Severity

CERT = 'TLS_Certificate = "/cert.pem"'


STARTTLS = "SMTP_Extensions = ( STARTTLS )"


def listen(body: str, around: str = "") -> str:
    return f'ESMTP_Listener {{ {around} Listen ":25" {{ {body} }} }}'


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
def test_starttls_is_offered_if_listed_with_a_certificate(text: str, offered: bool) -> None:
    config = parse_config(text)
    assert config.resolve(config.listens[0], None).offers_starttls is offered


HEX = "00" * 32


CA = "TLS_Client_CA = /ca.pem"


RELAY = "TLS_Verified_Peer_Can_Relay = true"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            listen("TLS_Certificate = ( /a.pem /b.pem )\nTLS_Key = /a.key"),
            ('<string>:2:11: error: TLS_Key: 1 file cannot pair with the 2 files of TLS_Certificate that are in force '
            'for Listen ":25" (<string>:1:52): one for each, or none where each holds its key'),
        ),
        (
            "TLS_Key = ( /a.key /b.key ) " + listen('Peer "::1" { TLS_Certificate = /a.pem }'),
            ('<string>:1:11: error: TLS_Key: 2 files cannot pair with the 1 file of TLS_Certificate that is in force '
            'for Listen ":25", Peer "::1" (<string>:1:93): one for each, or none where each holds its key'),
        ),
        (
            listen("TLS_Certificate = ( /a.pem /b.pem /c.pem ) TLS_Key_Password_File = ( /1 /2 )"),
            ("TLS_Key_Password_File: 2 files cannot pair with the 3 files of TLS_Certificate that are in force for "
            'Listen ":25" (<string>:1:52): one for all keys, or one for each'),
        ),
        (
            listen("TLS_Certificate = ( /a.pem /b.pem ) TLS_OCSP_Response = /a.der"),
            ("TLS_OCSP_Response: 1 file cannot pair with the 2 files of TLS_Certificate that are in force for "
            'Listen ":25" (<string>:1:52): one for each, or none'),
        ),
        (
            CERT + listen("TLS_Verify_Mode = require"),
            ("TLS_Verify_Mode: require needs a TLS_Client_CA, or fingerprints in TLS_Relay_Clients with "
            'TLS_Verified_Peer_Can_Relay, and none is in force for Listen ":25"'),
        ),
        (CERT + listen(f"TLS_Verify_Mode = require TLS_Relay_Clients = sha256:{HEX}"), "needs a TLS_Client_CA"),
        (CERT + listen(f"TLS_Verify_Mode = require TLS_Relay_Clients = dns:a {RELAY}"), "needs a TLS_Client_CA"),
    ],
)  # fmt: skip
def test_options_that_exclude_one_another_are_errors(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    assert told in str(caught.value)
    assert sum(problem.severity is Severity.ERROR for problem in caught.value.problems) == 1


@pytest.mark.parametrize(
    "text",
    [
        listen("TLS_Certificate = ( /a.pem /b.pem )"),
        listen("TLS_Certificate = ( /a.pem /b.pem ) TLS_Key = ( /a.key /b.key ) TLS_Key_Password_File = /p"),
        listen("TLS_Certificate = ( /a.pem /b.pem ) TLS_Key_Password_File = ( /p /q ) TLS_OCSP_Response = ( /a /b )"),
        "TLS_Key = ( /a.key /b.key ) " + listen("TLS_Certificate = /a.pem TLS_Key = none"),
        "TLS_Certificate = ( /a /b ) TLS_Key = ( /a /b ) " + listen('Peer "::1" { TLS_Certificate = none }'),
        "TLS_Key = ( /a.key /b.key ) " + listen(""),
        CERT
        + listen(f"TLS_Verify_Mode = require {STARTTLS} Require_TLS = true TLS_Relay_Clients = spki:{HEX} {RELAY}"),
        CERT + listen(f"TLS_Verify_Mode = require Use_SSL = true {CA}"),
        CERT + "Require_TLS = true " + listen(f"TLS_Verify_Mode = require {STARTTLS} {CA}"),
        CERT + listen(f"TLS_Relay_Clients = ( dns:a.example sha256:{HEX} ) {RELAY} {CA}"),
        CERT + f"TLS_Relay_Clients = sha256:{HEX} " + listen(f'Peer "::1" {{ {RELAY} }}'),
        CERT + "TLS_Relay_Clients = dns:a.example " + listen(f'Peer "::1" {{ {RELAY} {CA} }}'),
        CERT + "TLS_Client_CRL = /crl.pem " + listen(f'Peer "::1" {{ {CA} }}'),
    ],
)
def test_options_that_fit_together_cause_no_warning(text: str) -> None:
    assert parse_config(text).warnings == ()


NO_RELAY = "TLS_Relay_Clients: has no effect: TLS_Verified_Peer_Can_Relay is not true where this holds"


EMPTY = "TLS_Relay_Clients: an empty list restricts nothing: every client whose certificate verifies may relay"


NO_NAMES = (
    "TLS_Relay_Clients: dns: and email: entries have no effect without a TLS_Client_CA, by which no certificate can be "
    "verified here"
)


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        (f"TLS_Relay_Clients = sha256:{HEX} " + listen(""), 21, NO_RELAY),
        ("TLS_Relay_Clients = dns:a " + listen(CA), 21, NO_RELAY),
        ("TLS_Relay_Clients = dns:a " + listen(f'{CA} TLS_Relay_Clients = dns:b {RELAY} Peer "::1" {{ }}'), None, None),
        ("TLS_Relay_Clients = dns:a " + listen(""), 21, NO_RELAY),
        (f"TLS_Relay_Clients = sha256:{HEX} TLS_Client_CRL = /crl.pem " + listen(CA), 21, NO_RELAY),
        (f"TLS_Relay_Clients = ( dns:a spki:{HEX} ) " + listen(RELAY), 21, NO_NAMES),
        ("TLS_Relay_Clients = email:a@b.example " + listen(f'{RELAY} Peer "::1" {{ Idle_Time = 1 }}'), 21, NO_NAMES),
        (
            "TLS_Client_CRL = /crl.pem " + listen(""),
            18,
            "TLS_Client_CRL: has no effect without a TLS_Client_CA, or fingerprints in TLS_Relay_Clients",
        ),
        ("TLS_Relay_Clients = ( ) " + listen(f"{CA} {RELAY}"), 21, EMPTY),
        ("TLS_Relay_Clients = ( ) " + listen(""), 21, EMPTY),
    ],
)
def test_an_option_without_effect_causes_a_warning(text: str, column: int | None, message: str | None) -> None:
    told = [(problem.severity, str(problem.position), problem.message) for problem in parse_config(text).warnings]
    assert told == ([] if message is None else [("warning", f"<string>:1:{column}", message)])


@pytest.mark.parametrize(
    ("text", "column", "where"),
    [
        (CERT + listen(f"TLS_Verify_Mode = require {STARTTLS} {CA}"), 81, 'Listen ":25"'),
        (listen(f"TLS_Verify_Mode = require {CA}"), 52, 'Listen ":25"'),  # nobody is asked at all
        ("TLS_Verify_Mode = require " + CERT + listen(f'{CA} Peer "::1" {{ Idle_Time = 1 }}'), 19, 'Listen ":25"'),
        (
            CERT
            + f"TLS_Verify_Mode = require Require_TLS = true {STARTTLS} {CA} "
            + listen('Peer "::1" { Require_TLS = false }'),
            48,
            'Listen ":25", Peer "::1"',
        ),
    ],
)
def test_require_without_require_tls_causes_a_warning(text: str, column: int, where: str) -> None:
    [problem] = parse_config(text).warnings
    assert (problem.severity, str(problem.position)) == ("warning", f"<string>:1:{column}")
    assert problem.message == (
        "TLS_Verify_Mode: require refuses no client that stays in plaintext, and TLS is not required "
        f"for {where}: set Require_TLS"
    )


WIDE = "TLS_Client_Purpose = client-or-server"


BY_NAME = "a dns: entry of TLS_Relay_Clients lets every server of that name relay"


BY_BUNDLE = "every server that TLS_Client_CA vouches for may relay"


AS_ITSELF = "every server may authenticate by AUTH EXTERNAL as its name"


EXTERNAL = "AuthExternalParameters = [ map = dns ]"


@pytest.mark.parametrize(
    ("options", "rights"),
    [
        (f"{WIDE} {CA}", ""),
        (f"{WIDE} {CA} {RELAY} TLS_Relay_Clients = dns:a.example", BY_NAME),
        (f"{WIDE} {CA} {RELAY} TLS_Relay_Clients = ( email:a@b.example spki:{HEX} )", ""),
        (f"{WIDE} {CA} TLS_Verified_Peer_Can_Relay = false", ""),
        (f"{WIDE} {CA} {RELAY}", BY_BUNDLE),
        (f"{WIDE} {CA} {EXTERNAL}", AS_ITSELF),
        (f"{WIDE} {CA} AuthExternalParameters = [ map = email ]", ""),
        (f"{WIDE} {CA} {RELAY} TLS_Relay_Clients = dns:a {EXTERNAL}", f"{BY_NAME} and {AS_ITSELF}"),
        (f"TLS_Client_Purpose = client {CA} {RELAY} TLS_Relay_Clients = dns:a.example {EXTERNAL}", ""),
    ],
)
def test_a_warning_names_the_rights_of_server_certificates(options: str, rights: str) -> None:
    told = [problem.message for problem in parse_config(CERT + listen(options)).warnings]
    what = f'TLS_Client_Purpose: with client-or-server {rights}, web servers included, for Listen ":25"'
    assert told == ([what] if rights else [])


def test_a_purpose_has_no_effect_without_authorities() -> None:
    [told] = parse_config(f"{WIDE} " + listen("")).warnings
    assert told.message == "TLS_Client_Purpose: has no effect without a TLS_Client_CA"
    assert parse_config("TLS_Client_Purpose = client " + listen("")).warnings == ()
