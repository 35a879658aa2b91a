"""The types of option values: what each takes, what each refuses, and that what is written reads as the same again."""

from ipaddress import ip_network
from pathlib import Path

import attrs
import pytest

from triosmtp.config import OPTIONS, Settings, parse_config, problem_at
from triosmtp.config.option import GLOBAL, LISTEN
from triosmtp.config.types.trusted_proxies import TrustedProxies
from triosmtp.errors import ConfigError, Severity

LISTENER = 'ESMTP_Listener { Listen ":25" { } }'


def read(name: str, text: str, folder: Path | None = None) -> object:
    setting, listen = f"{name} = {text}", 'ESMTP_Listener { Listen ":25" { '
    is_global = OPTIONS[name.lower()].scopes == ("global",)
    config = parse_config(f"{setting} {listen} }} }}" if is_global else f"{listen} {setting} }} }}", folder=folder)
    return getattr(config.resolve(config.listens[0], None), name.lower())


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("Idle_Time", "0.5", 0.5),
        ("Max_Message_Size", "0", 0),
        ("Max_Message_Size", "010", 10),
        ("File_Mode", "0660", 0o660),
        ("File_Mode", "0o600", 0o600),
        ("TLS_Verify_Mode", "Require", "require"),
        ("TLS_Verify_Mode", "none", "none"),
        ("Starttls_Injection_Policy", "ignore", "ignore"),
        ("RFC2822_Lone_LF_In_Body", "fix", "fix"),
        ("TLS_Ciphers", '"ECDHE+AESGCM:!aNULL:TLS_AES_128_GCM_SHA256"', "ECDHE+AESGCM:!aNULL:TLS_AES_128_GCM_SHA256"),
        ("TLS_Certificate", "/cert.pem", (Path("/cert.pem"),)),
        ("TLS_Certificate", '"NONE"', ()),
        ("SMTP_Extensions", "starttls", ("STARTTLS",)),
        ("SMTP_Extensions", "( PIPELINING 8BITMIME SIZE SMTPUTF8 )", ("PIPELINING", "8BITMIME", "SIZE", "SMTPUTF8")),
        ("SMTP_Extensions", "( )", ()),
        ("Relay_Domains", "( *.Example.COM *a.org * '[192.0.2.1]' )", ("*.example.com", "*a.org", "*", "[192.0.2.1]")),
        ("Relay_Hosts", "( 10.0.0.0/8 2001:db8::1 )", (ip_network("10.0.0.0/8"), ip_network("2001:db8::1"))),
        ("Banner_Hostname", "mx.example.org", "mx.example.org"),
        ("Banner_Hostname", '"[192.0.2.1]"', "[192.0.2.1]"),
        ("Static_Banner", '"220 mx ESMTP"', "220 mx ESMTP"),
        ("Domain_For_Unqualified_Sender_Address", "bücher.example", "bücher.example"),
        ("Policy", '( "python:a.b:C" "python:a:B.c" )', ("python:a.b:C", "python:a:B.c")),
        ("Deliver_To", '"maildir:/var/mail"', "maildir:/var/mail"),
        ("Deliver_To", '"discard:"', "discard:"),
        ("Deliver_To", '"python:mail.store:Inbox.take"', "python:mail.store:Inbox.take"),
        ("Proxy_Protocol", "false", TrustedProxies()),
        ("Proxy_Protocol", '"OFF"', TrustedProxies()),
        ("Proxy_Protocol", "( )", TrustedProxies()),
        ("Proxy_Protocol", "( 10.0.0.0/8 unix )", TrustedProxies((ip_network("10.0.0.0/8"),), unix=True)),
        ("Proxy_Protocol_Timeout", "60", 60.0),
    ],
)  # fmt: skip
def test_values(name: str, text: str, value: object) -> None:
    if name == "SMTP_Extensions" and "starttls" in text:
        text += " TLS_Certificate = /cert.pem"
    if text == "Require":
        text += " TLS_Client_CA = /ca.pem"
    assert read(name, text) == value


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("Idle_Time", "1h", "without a unit or a separator: write 3600, found"),
        ("Idle_Time", "'1.5 minutes'", "write 90, found"),
        ("Idle_Time", "500ms", "write 0.5, found"),
        ("Idle_Time", "7x", 'without a unit or a separator, found "7x"'),
        ("Max_Message_Size", "10m", "write 10485760 or 600 for seconds, found"),
        ("Max_Message_Size", "2GiB", "write 2147483648, found"),
        ("Max_Session_Time", "1day", "write 86400 for seconds, found"),
        ("Inbound_Throttle_Messages", "3", 'or off: write "3/60" for 3 a minute, found "3"'),
        ("Inbound_Throttle_Messages", "3/hour", 'write "3/3600", found'),
        ("Proxy_Protocol", "true", '"true" would let every client pretend to be another one: list the proxies instead'),
        ("Proxy_Protocol", '"on"', '"on" would let every client pretend to be another one'),
        ("Proxy_Protocol", "1", '"1" would let every client'),
        ("Proxy_Protocol", "( 10.0.0.1 yes )", '"yes" would let every client'),
        ("Proxy_Protocol", "( no )", '"no" stands alone, not in a list'),
        ("Idle_Time", "0", "expected a number of seconds, more than 0"),
        ("Idle_Time", "-1", "expected a number of seconds"),
        ("Idle_Time", "nan", "expected a number of seconds"),
        ("Idle_Time", "1e9", "expected a number of seconds"),
        ("Idle_Time", "٣", "expected a number of seconds"),
        ("Idle_Time", "( 3 )", "found a list"),
        (
            "Max_Message_Size",
            "50M",
            "0 or more, without a unit or a separator: write 52428800, found",
        ),
        ("Max_Message_Size", "1.5", "expected a whole number"),
        ("Max_Message_Size", "9" * 5000, "at most 15 digits"),
        ("Open_Relay", "2", "expected true or false"),
        ("Open_Relay", "[ a = b ]", "found a dictionary"),
        ("File_Mode", "660", "in octal with a leading 0, such as 0660"),
        ("File_Mode", "0999", "in octal"),
        ("File_Mode", "01777", "in octal"),
        ("TLS_Certificate", '""', "expected the path of a file"),
        ("TLS_Key", '""', "expected the path of a file"),
        ("TLS_Ciphers", '""', "expected an OpenSSL cipher list"),
        ("TLS_Ciphers", "NORMAL", "is a GnuTLS priority string"),
        ("TLS_Ciphers", '"NORMAL:-VERS-SSL3.0"', "is a GnuTLS priority string"),
        ("TLS_Ciphers", '"SECURE256:+SECURE128"', "is a GnuTLS priority string"),
        ("Starttls_Injection_Policy", "accept", "expected reject, ignore or allow"),
        ("SMTP_Extensions", "( STARTLS )", "did you mean STARTTLS?"),
        ("SMTP_Extensions", "( '' )", "expected an SMTP extension"),
        ("Relay_Domains", "a.*.example", "a wildcard only at its left end"),
        ("Relay_Domains", "user@example.org", "a wildcard only at its left end"),
        ("Relay_Domains", ".example.org", "a wildcard only at its left end"),
        ("Relay_Domains", '""', "a wildcard only at its left end"),
        ("Relay_Hosts", "mail.example.org", "expected an address or a CIDR block"),
        ("Relay_Hosts", '"[::1]"', "not bracketed here"),
        ("Relay_Hosts", "10.0.0.0/33", "expected an address or a CIDR block"),
        ("Banner_Hostname", '"mx example"', "expected a host name"),
        ("Banner_Hostname", '""', "expected a host name"),
        ("Static_Banner", "mx", "holds its own 220"),
        ("Static_Banner", "'220 " + "x" * 481 + "'", "at most 484"),
        ("Domain_For_Unqualified_Sender_Address", "@example.org", "expected a domain"),
        ("Context", "( a b )", "expected a dictionary"),
        ("Context", "[ tls = on ]", "written by the TLS engine alone"),
        ("Context", "[ tls_client_verified = yes ]", "written by the TLS engine alone"),
        ("Context", "[ a = ( b ) ]", "expected a string for a"),
        ("Policy", "python:a", "expected python:package.module:Name"),
        ("Policy", "'python:a-b:C'", "expected python:package.module:Name"),
        ("Policy", "lua:a:b", "expected python:package.module:Name"),
        ("Deliver_To", "discard", "expected maildir:/path, discard: or python:package.module:function"),
        ("Deliver_To", "discard:x", "expected maildir:/path, discard: or python:package.module:function"),
        ("Deliver_To", "maildir:", "expected maildir:/path, discard: or python:package.module:function"),
        ("Deliver_To", "python:store", "expected maildir:/path, discard: or python:package.module:function"),
        ("Deliver_To", "python:a-b:c", "expected maildir:/path, discard: or python:package.module:function"),
        ("Deliver_To", "pythn:a:c", "did you mean python:?"),
        ("Deliver_To", "lmtp:host", "expected maildir:/path, discard: or python:package.module:function"),
    ],
)
def test_bad_values(name: str, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(name, text)
    (problem,) = caught.value.problems
    assert told in problem.message
    assert OPTIONS[name.lower()].name in problem.message


def test_a_relative_path_is_meant_from_the_folder_of_its_file() -> None:
    folder = Path("/etc/triosmtp")
    assert read("TLS_Key", "key.pem", folder) == (folder / "key.pem",)
    assert read("TLS_Certificate", "tls/cert.pem", folder) == (folder / "tls/cert.pem",)
    assert read("Deliver_To", "maildir:mail", folder) == "maildir:/etc/triosmtp/mail"
    assert read("TLS_Key", "/key.pem", folder) == (Path("/key.pem"),)
    assert read("TLS_Key", "key.pem") == (Path("key.pem"),)


def test_every_default_reads_as_itself() -> None:
    defaults = Settings()
    for option in OPTIONS.values():
        may_stand = not {GLOBAL, LISTEN}.isdisjoint(option.scopes)
        if option.write_default() != "unset" and may_stand:
            assert read(option.name, option.write_default()) == getattr(defaults, option.field), option.name


def test_the_table_is_complete_and_names_its_fields() -> None:
    fields = {field.name for field in attrs.fields(Settings)}
    assert fields == {"places", *OPTIONS}
    for field, option in OPTIONS.items():
        assert option.field == option.name.lower() == field
        assert option.doc.endswith(".")
        assert option.default == getattr(Settings(), field)


def test_a_problem_found_later_stands_where_the_value_was_set() -> None:
    config = parse_config('ESMTP_Listener { Listen ":25" {\n  TLS_Key = "/key.pem"\n} }', "e.conf")
    settings = config.resolve(config.listens[0], None)
    assert str(problem_at(settings, "tls_key", "does not exist")) == (
        'e.conf:2:13: error: TLS_Key: does not exist\n      TLS_Key = "/key.pem"\n                ^'
    )
    assert str(problem_at(settings, "deliver_to", "is full", Severity.WARNING)) == "warning: Deliver_To: is full"
    assert str(config.listens[0].problem("in use")).startswith("e.conf:1:25: error: in use")
