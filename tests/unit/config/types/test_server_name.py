"""Server_Name scopes: their names, what may stand in them, and what they are asked for."""

from pathlib import Path
from textwrap import dedent

import pytest
from config_text import config_errors

from triosmtp.config import Config, ServerName, evaluate, find_query, parse_config, problem_at, show
from triosmtp.errors import Severity

CERT = "TLS_Certificate = /cert.pem"


def listen(body: str, around: str = "") -> str:
    return f'{around} ESMTP_Listener {{ Listen ":25" {{ {body} }} }}'


def names(config: Config) -> list[ServerName]:
    return list(config.server_names(config.listens[0]))


TWO = """
TLS_Certificate = "/cert.pem"
TLS_Key = "/key.pem"
ESMTP_Listener {
  Listen ":25" {
    SMTP_Extensions = ( "STARTTLS" )
    Server_Name "MX.example.org" {
      TLS_Certificate = ( "/rsa.pem" "/ecdsa.pem" )
      TLS_Key = ( "/rsa.key" "/ecdsa.key" )
      TLS_Key_Password_File = "/password"
      TLS_OCSP_Response = ( "/rsa.der" "/ecdsa.der" )
    }
    Server_Name "*.Bücher.example" { TLS_Certificate = "/both.pem" }
  }
  Listen ":26" { }
}
"""


def test_a_listen_has_its_server_names() -> None:
    config = parse_config(TWO)
    assert config.warnings == ()
    assert names(config) == [
        ServerName(
            name="mx.example.org",
            tls_certificate=(Path("/rsa.pem"), Path("/ecdsa.pem")),
            tls_key=(Path("/rsa.key"), Path("/ecdsa.key")),
            tls_key_password_file=(Path("/password"),),
            tls_ocsp_response=(Path("/rsa.der"), Path("/ecdsa.der")),
        ),
        ServerName(name="*.xn--bcher-kva.example", tls_certificate=(Path("/both.pem"),)),
    ]
    assert config.server_names(config.listens[1]) == ()
    assert config.resolve(config.listens[0], None).tls_certificate == (Path("/cert.pem"),)


def test_a_later_problem_has_the_position_that_set_the_value() -> None:
    first, second = names(parse_config(TWO, "e.conf"))
    assert str(problem_at(first, "tls_key", "does not exist")) == (
        "e.conf:9:17: error: TLS_Key: does not exist\n"
        '          TLS_Key = ( "/rsa.key" "/ecdsa.key" )\n'
        "                    ^"
    )
    assert str(problem_at(second, "tls_key", "is missing", Severity.WARNING)) == "warning: TLS_Key: is missing"


def test_one_that_is_repeated_merges() -> None:
    found = names(
        parse_config(
            listen(f'{CERT} Server_Name "a.b" {{ TLS_Certificate = /a.pem }} Server_Name "a.b" {{ TLS_Key = /a.key }}')
        )
    )
    assert found == [ServerName(name="a.b", tls_certificate=(Path("/a.pem"),), tls_key=(Path("/a.key"),))]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", 'expected "mx.example.org", found an empty string'),
        ("*", "a wildcard is the whole left-most label"),
        ("*example.org", "a wildcard is the whole left-most label"),
        ("mx*.example.org", "a wildcard is the whole left-most label"),
        ("mx.*.org", "a wildcard is the whole left-most label"),
        ("*.*.org", "a wildcard is the whole left-most label"),
        ("*.", 'expected the name of a server, such as mx.example.org or *.example.org, found "*."'),
        ("mx.example.org.", "expected the name of a server"),
        (".example.org", "expected the name of a server"),
        ("mx example.org", "expected the name of a server"),
        ("mx.example.org:25", "expected the name of a server"),
        ("-mx.example.org", "expected the name of a server"),
        ("ü" * 64 + ".example", "expected the name of a server"),
        ("a." * 126 + "ab", "expected the name of a server"),
        ("☃\ufffe.example", "expected the name of a server"),
        ("192.0.2.1", "clients ask by name, never by address (RFC 6066)"),
        ("::1", "expected the name of a server"),
    ],
)
def test_a_bad_name(name: str, message: str) -> None:
    text = config_errors(listen(f"{CERT} Server_Name '{name}' {{ TLS_Certificate = /a.pem }}"))
    assert text.startswith("e.conf:1:74: error: Server_Name: ")
    assert message in text
    assert text.count("error:") == 1


@pytest.mark.parametrize("name", ["mx", "a_b.example.org", "1.example.org", "xn--bcher-kva.example", "*.org"])
def test_a_good_name(name: str) -> None:
    (found,) = names(parse_config(listen(f"{CERT} Server_Name {name} {{ TLS_Certificate = /a.pem }}")))
    assert found.name == name


VALID = "TLS_Certificate, TLS_Key, TLS_Key_Password_File, TLS_OCSP_Response"


@pytest.mark.parametrize(
    ("statement", "name", "suggestion"),
    [
        ("TLS_Client_CA = /ca.pem", "TLS_Client_CA", ""),
        ("tls_verify_mode = none", "TLS_Verify_Mode", ""),
        ("TLS_Certifcate = /a.pem", "TLS_Certifcate", "; did you mean TLS_Certificate?"),
        ("Xyzzy = 3", "Xyzzy", ""),
        ("Retry_Interval = 3", "Retry_Interval", ""),  # Momentum's, but Momentum has no Server_Name
        ("Peer '::1' { }", "Peer", ""),
        ("Server_Name 'c.d' { }", "Server_Name", ""),
        ("scriptlet 'a' { }", "scriptlet", ""),
        ("TLS_Key { }", "TLS_Key", ""),
    ],
)
def test_a_misplaced_option_names_the_valid_options(statement: str, name: str, suggestion: str) -> None:
    text = config_errors(f"{CERT}\n" + listen(f'Server_Name "a.b" {{ TLS_Certificate = /a.pem\n {statement} }}'))
    assert text.splitlines()[0] == (
        f"e.conf:3:2: error: {name} is not valid in a Server_Name; what is: {VALID}{suggestion}"
    )


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("{}", "the global scope"),
        ("ESMTP_Listener {{ {} }}", "an ESMTP_Listener"),
        ("Pathway 'p' {{ {} }}", "a Pathway"),
        ("ESMTP_Listener {{ Peer '::1' {{ {} }} }}", "a Peer"),
    ],
)
def test_a_server_name_is_valid_only_in_a_listen(text: str, scope: str) -> None:
    found = config_errors(text.format('Server_Name "a.b" { TLS_Certificate = /a.pem }') + listen(""))
    assert f"error: Server_Name is not valid in {scope}; it is in: Listen\n" in found


def test_it_has_a_name() -> None:
    assert 'error: expected an instance: Server_Name "mx.example.org" { … }' in config_errors(listen("Server_Name { }"))


def test_two_of_one_name() -> None:
    text = """
    TLS_Certificate = "/cert.pem"
    ESMTP_Listener {
      Listen ":25" {
        Server_Name "mx.example.org" { TLS_Certificate = "/a.pem" }
        Server_Name "MX.Example.org" { TLS_Certificate = "/b.pem" }
      }
    }
    """
    assert config_errors(dedent(text).lstrip()) == (
        'e.conf:5:17: error: Server_Name "MX.Example.org" is the name of Server_Name "mx.example.org" '
        "at e.conf:4:17 too\n"
        '        Server_Name "MX.Example.org" { TLS_Certificate = "/b.pem" }\n'
        "                    ^"
    )


@pytest.mark.parametrize("body", ["", "TLS_Key = /a.key", "TLS_Certificate = none"])
def test_a_server_name_inherits_no_option(body: str) -> None:
    text = config_errors(listen(f'Server_Name "a.b" {{ {body} }}', "TLS_Certificate = /cert.pem TLS_Key = /key.pem"))
    assert 'error: Server_Name "a.b" needs a TLS_Certificate of its own: nothing in it is inherited\n' in text
    assert text.count("error:") == 1


@pytest.mark.parametrize(
    ("option", "told_as"),
    [
        ("TLS_Key = /a.key", "TLS_Key: 1 file cannot pair"),
        ("TLS_Key_Password_File = ( /1 /2 /3 )", "TLS_Key_Password_File: 3 files cannot pair"),
        ("TLS_OCSP_Response = /a.der", "TLS_OCSP_Response: 1 file cannot pair"),
    ],
)
def test_files_pair_by_position(option: str, told_as: str) -> None:
    text = config_errors(listen(f'{CERT} Server_Name "a.b" {{ TLS_Certificate = ( /1.pem /2.pem )\n{option} }}'))
    assert text.startswith(f"e.conf:2:{option.index('=') + 3}: error: {told_as}")
    assert 'for Server_Name "a.b"' in text


def test_a_default_certificate_is_required_beside_server_names() -> None:
    text = config_errors(listen('SMTP_Extensions = STARTTLS\nServer_Name "a.b" { TLS_Certificate = /a.pem }'))
    assert text.splitlines()[0] == (
        "e.conf:1:52: error: SMTP_Extensions: STARTTLS needs a TLS_Certificate, and none is in force for "
        'Listen ":25" (those of its Server_Names are for clients that ask for these names alone)'
    )
    assert "(those of its Server_Names" in config_errors(
        listen('Use_SSL = true Server_Name "a.b" { TLS_Certificate = /a.pem }')
    )


def test_the_shown_text_reads_as_the_same_settings() -> None:
    config = parse_config(TWO)
    again = parse_config("\n".join(show(config.root, recurse=True)))
    assert names(again) == names(config)
    assert again.resolve(again.listens[0], None) == config.resolve(config.listens[0], None)


def test_questions() -> None:
    config = parse_config(TWO, "e.conf")
    scope = ["ESMTP_Listener", "Listen", ":25", "Server_Name", "mx.EXAMPLE.org"]
    query = find_query(config, scope)
    assert list(show(query.own_block)) == [
        'TLS_Certificate = ( "/rsa.pem" "/ecdsa.pem" )  # e.conf:8',
        'TLS_Key = ( "/rsa.key" "/ecdsa.key" )  # e.conf:9',
        'TLS_Key_Password_File = "/password"  # e.conf:10',
        'TLS_OCSP_Response = ( "/rsa.der" "/ecdsa.der" )  # e.conf:11',
    ]
    other = find_query(config, [*scope[:4], "*.bücher.example"]).settings(config)
    assert other.tls_certificate == (Path("/both.pem"),)
    assert other.tls_key == ()  # not the Listen's, as nothing in it is inherited
    assert other.smtp_extensions == ("STARTTLS",)
    option = find_query(config, [*scope, "TLS_Key"])
    assert evaluate(option.settings(config), option.options) == ['TLS_Key = ( "/rsa.key" "/ecdsa.key" )  # e.conf:9']
