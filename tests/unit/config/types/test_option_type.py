"""The types of option values: what each takes, what each refuses, and that what is written reads as the same again."""

from ipaddress import ip_network
from pathlib import Path

import pytest
from config_text import option_error, read_option, read_settings


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
        ("Relay_Domains", "( *.Example.COM *a.org * '[192.0.2.1]' )", ("*.example.com", "*a.org", "*", "[192.0.2.1]")),
        ("Relay_Hosts", "( 10.0.0.0/8 2001:db8::1 )", (ip_network("10.0.0.0/8"), ip_network("2001:db8::1"))),
        ("Banner_Hostname", "mx.example.org", "mx.example.org"),
        ("Banner_Hostname", '"[192.0.2.1]"', "[192.0.2.1]"),
        ("Domain_For_Unqualified_Sender_Address", "bücher.example", "bücher.example"),
        ("Proxy_Protocol_Timeout", "60", 60.0),
    ],
)  # fmt: skip
def test_values(name: str, text: str, value: object) -> None:
    if text == "Require":
        text += " TLS_Client_CA = /ca.pem"
    assert read_option(name, text) == value


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
        ("Starttls_Injection_Policy", "accept", "expected reject, ignore or allow"),
        ("Relay_Domains", "a.*.example", "a wildcard only at its left end"),
        ("Relay_Domains", "user@example.org", "a wildcard only at its left end"),
        ("Relay_Domains", ".example.org", "a wildcard only at its left end"),
        ("Relay_Domains", '""', "a wildcard only at its left end"),
        ("Relay_Hosts", "mail.example.org", "expected an address or a CIDR block"),
        ("Relay_Hosts", '"[::1]"', "not bracketed here"),
        ("Relay_Hosts", "10.0.0.0/33", "expected an address or a CIDR block"),
        ("Banner_Hostname", '"mx example"', "expected a host name"),
        ("Banner_Hostname", '""', "expected a host name"),
        ("Domain_For_Unqualified_Sender_Address", "@example.org", "expected a domain"),
        ("Context", "( a b )", "expected a dictionary"),
        ("Context", "[ tls = on ]", "written by the TLS engine alone"),
        ("Context", "[ tls_client_verified = yes ]", "written by the TLS engine alone"),
        ("Context", "[ a = ( b ) ]", "expected a string for a"),
    ],
)
def test_bad_values(name: str, text: str, told: str) -> None:
    assert told in option_error(name, text)


def test_a_relative_path_is_meant_from_the_folder_of_its_file() -> None:
    folder = Path("/etc/triosmtp")
    assert read_option("TLS_Key", "key.pem", folder) == (folder / "key.pem",)
    assert read_option("TLS_Certificate", "tls/cert.pem", folder) == (folder / "tls/cert.pem",)
    assert read_option("Deliver_To", "maildir:mail", folder) == ("maildir:/etc/triosmtp/mail",)
    assert read_option("TLS_Key", "/key.pem", folder) == (Path("/key.pem"),)
    assert read_option("TLS_Key", "key.pem") == (Path("key.pem"),)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        *[(word, True) for word in ("true", "on", "enabled", "yes", "1", '"TRUE"', "'On'", "Yes")],
        *[(word, False) for word in ("false", "off", "disabled", "no", "0", '"no"', "OFF")],
    ],
)
def test_booleans(word: str, value: bool) -> None:
    assert read_settings(f"Require_EHLO = {word}").require_ehlo is value
