"""Scopes and options by name and place, and the text of each error as ``triosmtp check`` prints it."""

# ruff: noqa: E501 - lines of output are not broken

from textwrap import dedent

import pytest
from config_text import LISTENER, config_errors

from triosmtp.config import parse_config
from triosmtp.errors import Severity


def golden(text: str) -> str:
    return dedent(text).strip("\n")


def test_a_misplaced_option_lists_where_it_is_valid() -> None:
    assert config_errors(f"  Use_SSL = true\n{LISTENER}") == golden(
        """
        e.conf:1:3: error: Use_SSL is not valid in the global scope; it is in: Pathway_Group, Pathway, ESMTP_Listener, Listen, Peer
              Use_SSL = true
              ^
        """
    )


def test_a_bad_value_has_the_column_of_the_value() -> None:
    assert config_errors(f"\tIdle_Time =\t5m\n{LISTENER}") == (
        "e.conf:1:14: error: Idle_Time: expected a number of seconds, more than 0, without a unit or a separator: "
        'write 300, found "5m"\n    \tIdle_Time =\t5m\n    \t           \t^'
    )


def test_several_errors_and_warnings_in_one_run_in_the_order_of_the_file() -> None:
    text = """
    Idle_Time =
    TLS_Ciphers = HIGH !aNULL
    Retry_Interval = 3
    Banner_Hostname = hello world
    Policy = ( "python:a:B"
    Open_Relay = maybe
    ESMTP_Listener {
      Listn ":26" { }
      Listen ":25" {
        Static_Banner = "hello
        TLS_Verify_Mode = requre
      }
      Listen { }
    """
    assert config_errors(dedent(text).lstrip()) == golden(
        """
        e.conf:1:11: error: expected a value for Idle_Time after this `=`
            Idle_Time =
                      ^
        e.conf:2:20: error: expected a statement after this value (one that holds white space must be quoted), found `!aNULL`
            TLS_Ciphers = HIGH !aNULL
                               ^
        e.conf:3:1: warning: Retry_Interval is an option of Momentum's that triosmtp does not implement: it has no effect
            Retry_Interval = 3
            ^
        e.conf:4:25: error: expected a statement after this value (one that holds white space must be quoted), found `world`
            Banner_Hostname = hello world
                                    ^
        e.conf:6:12: error: expected a value or the `)` of the list of line 5, found `=`
            Open_Relay = maybe
                       ^
        e.conf:6:14: error: Open_Relay: expected true or false (or on/off, enabled/disabled, yes/no, 1/0), found "maybe"
            Open_Relay = maybe
                         ^
        e.conf:7:16: error: this `{` is never closed: expected `}` at the end of ESMTP_Listener
            ESMTP_Listener {
                           ^
        e.conf:8:3: warning: Listn is taken for a module of Momentum's: all in it is skipped; did you mean Listen?
              Listn ":26" { }
              ^
        e.conf:10:21: error: this string does not end on its line: expected a closing "
                Static_Banner = "hello
                                ^
        e.conf:11:23: error: TLS_Verify_Mode: expected none, optional or require, found "requre"; did you mean require?
                TLS_Verify_Mode = requre
                                  ^
        e.conf:13:3: error: expected an instance: Listen ":25" { … }
              Listen { }
              ^
        """
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Peer = {", "1:1: error: Peer is not valid"),
        ("x {", "1:1: warning: x is taken"),
        ('include "a.conf"', "1:9: error: cannot include a.conf: e.conf has no folder to look in"),
        ("Listen = ':25'", '1:1: error: Listen is a scope, not an option: expected Listen ":25" { … }'),
        ("ESMTP_Listener = 5", "1:1: error: ESMTP_Listener is a scope, not an option: expected ESMTP_Listener { … }"),
        ("Idle_Time { }", "1:1: error: Idle_Time is an option, not a scope: expected Idle_Time = value"),
        ("Listen ':25' { }", "1:1: error: Listen is not valid in the global scope; it is in: ESMTP_Listener"),
        ("Peer '::' { }", "1:1: error: Peer is not valid in the global scope; it is in: ESMTP_Listener, Listen"),
        ("Pathway { }", '1:1: error: expected an instance: Pathway "name" { … }'),
        ("Pathway '' { }", '1:9: error: Pathway: expected "name", found an empty string'),
        ("ESMTP_Listener { Peer 'x' { } }", "1:23: error: Peer: expected an address or a CIDR block"),
        ("ESMTP_Listener { Peer '[::1]' { } }", '1:23: error: Peer: IPv6 addresses are not bracketed here, found "['),
        ("ESMTP_Listener { Listen '::1:25' { } }", "1:25: error: Listen: an IPv6 address is bracketed here"),
        ("Control_Listener { Listen '2025' { } }", '1:27: error: Listen: expected ":2025" for that port on every addr'),
        (
            "Control_Listener { Listen '/c' { Idle_Time = 3 } }",
            "1:34: error: Idle_Time is not valid in a Listen of a Control_Listener; it is in: global",
        ),
        ("Policy_Listener { Peer '::' { } }", "1:19: error: Peer is not valid in a Policy_Listener; it is in:"),
        (
            "Policy_Listener { Listen '/c' { Peer '::' { } } }",
            "1:33: error: Peer is not valid in a Listen of a Policy_Listener; it is in: ESMTP_Listener, Listen",
        ),
        (
            "Idle_Time = 5m;",
            "1:13: error: Idle_Time: expected a number of seconds, more than 0, without a unit or a sep",
        ),
    ],
)
def test_each_error_has_its_position_and_text(text: str, line: str) -> None:
    others = f"\n{config_errors(text)}".replace(
        "\ne.conf:1:1: error: no Listen is enabled: ", "\n"
    )  # which most lack, too
    assert f"\ne.conf:{line}" in others


def test_an_error_in_a_nested_scope_does_not_hide_the_rest() -> None:
    text = "ESMTP_Listener { Listen ':25' { Foo bar baz { A = 1 } Idle_Time = x } } Idle_Tme = 1"
    assert [line.split(": ")[0] for line in config_errors(text).splitlines()[::3]] == [
        "e.conf:1:41",
        "e.conf:1:67",
        "e.conf:1:73",
    ]


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("Retry_Interval = 3", "Retry_Interval is an option of Momentum's that triosmtp does not implement"),
        ("TLS_Engine = 'x'", "TLS_Engine is an option of Momentum's that triosmtp does not implement"),
        ("Binding 'a' { x { y = ( z ) } }", "Binding is a scope of Momentum's that triosmtp does not implement"),
        ("scriptlet scriptlet { script_ttl = 5 script b { source = c } }", "script_ttl has no effect"),
        ("scriptlet scriptlet { script b { source = c priority = 5 } }", "priority has no effect in a script: "),
        ("ESMTP_Listner { }", "did you mean ESMTP_Listener?"),
        ("SMTP_Extensions = ( 'AUTH PLAIN PLAN' )", "AUTH PLAN is not offered: what is built is EXTERNAL, "),
        ("SMTP_Extensions = ( xclient )", "XCLIENT is offered to every client"),
        ("Relay_Hosts = 10.1.1.1/8", "10.1.1.1/8 means 10.0.0.0/8"),
        ("ESMTP_Listener { Peer '10.0.0.1' { Listen_Backlog = 5 } }", "Listen_Backlog has no effect in a Peer"),
        (
            "Control_Listener { Listen_Backlog = 5 }",
            "Listen_Backlog has no effect in a Control_Listener: only its Unix",
        ),
        ("Control_Listener { Always_Allow = true }", "Always_Allow has no effect in a Control_Listener"),
        ("Control_Listener { Enable_Authentication = true }", "Enable_Authentication is an option of Momentum's"),
        ("Control_Listener { AuthDigestMD5Parameters = 1 }", "AuthDigestMD5Parameters has no effect in a Control_List"),
        ("Control_Listener { AuthPlainParameters = 1 }", "AuthPlainParameters has no effect in a Control_Listener"),
        ("Control_Listener { Peer '::1' { x = y } }", "Peer has no effect in a Control_Listener"),
        ("Control_Listener { Listen ':2025' { } }", 'Listen ":2025" is not served: only its Unix sockets are served'),
        ("Control_Listener { Listen '[::1]:25' { } }", 'Listen "[::1]:25" is not served'),
        (
            "Control_Listener { Listen '/c' { TCP_Recv_Buffer_Size = 1 } }",
            "TCP_Recv_Buffer_Size has no effect in a Listen of a Control_Listener",
        ),
        ("Pathway = default", 'there is no Pathway "default": no options are taken from it'),
        ("ESMTP_Listener { TLS_Verify = require }", "it has no effect; did you mean TLS_Verify_Mode?"),
        ("ESMTP_Listener { Peer '::1' { Idle_Timeout = 3 } }", "it has no effect; did you mean Idle_Time?"),
        ("Use_DANE = true", "Use_DANE is an option of Momentum's"),
        ("Curfew { Timezone = 'UTC' }", "Curfew is a scope of Momentum's"),
        ("Logs { Manager { } File_Mode = 0600 }", "Logs is a scope of Momentum's"),
    ],
)
def test_warnings_do_not_keep_a_configuration_from_loading(text: str, warning: str) -> None:
    config = parse_config(f"{text}\n{LISTENER}")
    (problem,) = config.warnings
    assert problem.severity is Severity.WARNING
    assert warning in problem.message
    assert problem.position is not None
    assert problem.position.line == 1


def test_a_long_configuration_that_is_sound_loads() -> None:
    pathways = "\n".join(f'Pathway "p{i}" {{ Idle_Time = {i + 1} }}' for i in range(3_000))
    peers = "\n".join(f'Peer "10.0.{i // 256}.{i % 256}" {{ Pathway = "p{i}" }}' for i in range(3_000))
    config = parse_config(f'{pathways}\nESMTP_Listener {{ Listen ":25" {{ {peers} }} }}')
    assert len(config.variants(config.listens[0])) == 3_001
