"""What a reader is told: every text below is what `check` prints, to the letter."""

# ruff: noqa: E501 - lines of output are not broken

from textwrap import dedent

import pytest

from triosmtp.config import parse_config
from triosmtp.errors import ConfigError, Severity

LISTENER = 'ESMTP_Listener { Listen ":25" { } }'


def told(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "e.conf")
    return str(caught.value)


def golden(text: str) -> str:
    return dedent(text).strip("\n")


def test_an_unknown_option_names_the_nearest() -> None:
    assert told(f"Idle_Tme = 3\n{LISTENER}") == golden(
        """
        e.conf:1:1: error: unknown option Idle_Tme; did you mean Idle_Time?
            Idle_Tme = 3
            ^
        """
    )


def test_a_name_that_is_like_none_has_no_suggestion() -> None:
    assert told("Xyzzy = 3").splitlines()[0] == "e.conf:1:1: error: unknown option Xyzzy"


def test_a_misplaced_option_lists_where_it_is_valid() -> None:
    assert told(f"  Use_SSL = true\n{LISTENER}") == golden(
        """
        e.conf:1:3: error: Use_SSL is not valid in the global scope; it is in: Pathway_Group, Pathway, ESMTP_Listener, Listen, Peer
              Use_SSL = true
              ^
        """
    )


def test_a_bad_value_has_the_column_of_the_value() -> None:
    assert told(f"\tIdle_Time =\t5m\n{LISTENER}") == (
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
    assert told(dedent(text).lstrip()) == golden(
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
        ("}", "1:1: error: this `}` closes nothing"),
        (
            "Idle_Time",
            "1:10: error: expected `=`, `{` or an instance name after `Idle_Time`, found the end of the file",
        ),
        ("Idle_Time =", "1:11: error: expected a value for Idle_Time after this `=`"),
        ("Peer = {", "1:1: error: Peer is not valid"),
        ("x {", "1:1: warning: x is taken"),
        ("Idle_Time 5", "1:12: error: expected `=` before `5`, or `{` after it, found the end of the file"),
        ("= 5", "1:1: error: expected a statement (`Name = value`"),
        ("{ }", "1:1: error: expected a statement (`Name = value`"),
        ('"Idle_Time" = 5', "1:1: error: expected a statement (`Name = value`"),
        ("5 = 5", "1:1: error: expected a statement (`Name = value`"),
        ("Relay_Domains = ( a", "1:17: error: this `(` is never closed: expected `)`"),
        ("Relay_Domains = a )", "1:19: error: expected a statement after this value (one that holds white space must"),
        ("Context = [ a = b", "1:11: error: this `[` is never closed: expected `]`"),
        ("Context = [ a b ]", "1:15: error: expected `=` and a value after the key `a`, found `b`"),
        ("Context = [ a = ]", "1:17: error: expected a value for the key `a`, found `]`"),
        ("Context = [ = b ]", "1:13: error: expected `key = value` or the `]` of the dictionary of line 1, found `=`"),
        ("/* a", "1:1: error: this comment is never closed: expected `*/`"),
        ("Idle_Time = 'a\n'", "1:13: error: this string does not end on its line: expected a closing '"),
        ('Banner_Hostname = "a\\"', '1:19: error: this string does not end on its line: expected a closing "'),
        (
            "Banner_Hostname = \xa0a",
            "1:19: error: expected an ordinary character, found the white space character U+00A0",
        ),
        ("Banner_Hostname = 'a\x00'", "1:19: error: this string holds the control character U+0000"),
        ("include", "1:8: error: expected `=`, `{` or an instance name after `include`, found the end of the file"),
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
            "Control_Listener { Listen_Backlogg = 1 }",
            "1:20: error: unknown option Listen_Backlogg; did you mean Listen",
        ),
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
            "ESMTP_Listener { Listen '/c' { } } Control_Listener { Listen '/c' { } }",
            '1:62: error: Listen "/c" is the address of Listen "/c" at e.conf:1:25 too',
        ),
        (
            "Reconfig_Message = '5.3.2 x'",
            "1:20: error: Reconfig_Message: expected an enhanced code of the class of 421",
        ),
        (
            "Reconfig_Message = 'später'",
            "1:20: error: Reconfig_Message: expected a line of at most 480 ASCII characters",
        ),
        (
            'AuthPlainParameters = [ uri = "fil:///a" ]',
            '1:31: error: AuthPlainParameters: expected file:///path or digest:///path, found "fil://"; did you mean file://?',
        ),
        (
            "AuthLoginParameters = [ uri = 'radus://' ]",
            "1:31: error: AuthLoginParameters: expected file:///path or digest",
        ),
        (
            "AuthScramParameters = [ uri = 'mine://' ] x_ds { mine = [ ] }",
            "1:31: error: AuthScramParameters: expected fil",
        ),
        (
            "AuthPlainParameters = [ uri = 'file://a' ]",
            "1:31: error: AuthPlainParameters: expected file:///path or dig",
        ),
        ("AuthPlainParameters = [ uri = 'file' ]", "1:31: error: AuthPlainParameters: expected file:///path or digest"),
        (
            "AuthPlainParameters = [ uri = 'file:///a' foo = b ]",
            "1:43: error: AuthPlainParameters: expected one of uri",
        ),
        (
            "Max_Recipients = 3",
            "1:1: error: unknown option Max_Recipients; did you mean Max_Recipients_Per_Connection or M",
        ),
        (
            "AuthLoginParameters = [ uri = 'filr:///a' ]",
            '1:31: error: AuthLoginParameters: expected file:///path or digest:///path, found "filr://"; did you mean file:/',
        ),
        (
            "Idle_Time = 5m;",
            "1:13: error: Idle_Time: expected a number of seconds, more than 0, without a unit or a sep",
        ),
        ("Idle_Time = 5m;", "1:15: error: no `;` stands after a value: leave it out"),
        ("TLS_Key_File = x", "1:1: error: unknown option TLS_Key_File; did you mean TLS_Key?\n"),
        ("TLS_KeyFile = x", "1:1: error: unknown option TLS_KeyFile; did you mean TLS_Key?\n"),
        ("TLS_CRL_Path = x", "1:1: error: unknown option TLS_CRL_Path; did you mean TLS_Client_CRL?\n"),
        ("mail_spool = '/x'", "1:1: error: unknown option mail_spool\n"),
        ("Cert = x", "1:1: error: unknown option Cert; did you mean TLS_Certificate?\n"),
        ("Retry_Intervall = 3", "1:1: error: unknown option Retry_Intervall; did you mean retry_interval?\n"),
        ("Max = 3", "1:1: error: unknown option Max\n"),
        ("Idle_Time = 5 m\nRetry_Interval = 3", "1:15: error: expected a statement after this value (one that holds"),
        (f"Max_Message_Size = 10 MB\n{LISTENER}", "1:23: error: expected a statement after this value (one that holds"),
        (
            "Idle_Time = 3;",
            "1:14: error: no `;` stands after a value: leave it out (a value that ends with it must be quoted)",
        ),
        ("TLS_Ciphers = DEFAULT;", "1:22: error: no `;` stands after a value"),
        ("Relay_Domains = ( a.b; c.d )", "1:22: error: no `;` stands after a value"),
        ("Context = [ a = b; ]", "1:18: error: no `;` stands after a value"),
        ("TLS_Ciphers = 'DEFAULT';", "1:24: error: expected a statement (no `;` stands between them), found `;`"),
        ("Pathway 'x' { };", "1:16: error: expected a statement (no `;` stands between them), found `;`"),
        ("Context = [ a = 'b\n' ]", "1:17: error: this string does not end on its line: expected a closing '"),
        ("Context [ 'a\n' = b ]", "1:11: error: this string does not end on its line: expected a closing '"),
        ('Deliver_To = "discard:\n"', '1:14: error: this string does not end on its line: expected a closing "'),
        ("Static_Banner = '220 a\r\n250 b'", "1:17: error: this string does not end on its line"),
        ("Pathway 'a\nb' { }", "1:9: error: Pathway: this string does not end on its line"),
        ("include 'a\nb'", "1:9: error: this string does not end on its line"),
        ('Banner_Hostname = "a\nIdle_Time = "3"', "1:19: error: this string does not end on its line"),
        ('Retry_Interval = "a\nIdle_Tme = ""', "1:18: error: this string does not end on its line"),
        ('Retry_Interval = "a\rb"', "1:18: error: this string holds the white space character U+000D"),
        ("Relay_Domains ( a", "1:15: error: this `(` is never closed: expected `)`"),
        ("Idle_Time =\nRelay_Domains ( a )", "1:11: error: expected a value for Idle_Time after this `=`"),
        ("Pathway = 'Default'", '1:11: error: there is no Pathway "Default"'),
        ("Pathway = 'in' Pathway 'inn' { }", '1:11: error: there is no Pathway "in"; did you mean inn?'),
    ],
)
def test_one_error_each(text: str, line: str) -> None:
    others = f"\n{told(text)}".replace("\ne.conf:1:1: error: no Listen is enabled: ", "\n")  # which most lack, too
    assert f"\ne.conf:{line}" in others


def test_an_error_in_a_nested_scope_does_not_hide_the_rest() -> None:
    text = "ESMTP_Listener { Listen ':25' { Foo bar baz { A = 1 } Idle_Time = x } } Idle_Tme = 1"
    assert [line.split(": ")[0] for line in told(text).splitlines()[::3]] == [
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
        ("scriptlet 'a' { script 'b' { source = 'c' } }", "scriptlet is taken for a module of Momentum's"),
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
        *(
            (
                f'AuthPlainParameters = [ uri = "{scheme}://" ]',
                f"AuthPlainParameters: {scheme}:// is answered by a module",
            )
            for scheme in ("ac_auth", "ecauth", "mysqlauth", "radius", "smtp_auth_proxy", "RADIUS")
        ),
        (
            'AuthLoginParameters = [ key = "x" URI = "radius://10.0.0.1:1812/x" realm = ( a ) ]',
            "AuthLoginParameters: radius:// is answered by a module of Momentum's: the mechanism is not offered",
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


def test_a_value_before_a_semicolon_is_read() -> None:
    text = told("Pathway = no; ESMTP_Listener { Listen ':25' { } }")
    assert "e.conf:1:13: error: no `;` stands after a value" in text
    assert 'e.conf:1:11: error: there is no Pathway "no"' in text


def test_options_for_delivery_that_are_global_suggest_nothing() -> None:
    (problem,) = parse_config(f"TLS_Verify = require\n{LISTENER}").warnings
    assert "did you mean" not in problem.message


def test_the_hundredth_error_is_the_last() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config("Foo = 1\n" * 50_000)
    assert len(caught.value.problems) == 101
    assert caught.value.problems[-1].message == "100 errors: the rest was not read"


def test_warnings_are_bounded_too() -> None:
    config = parse_config("Retry_Interval = 1\n" * 5_000 + LISTENER)
    assert len(config.warnings) == 1001
    assert config.warnings[-1].message == "more than 1000 warnings: the rest is left out"


def test_a_very_long_line_is_not_shown_whole() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(" " * 100_000 + "Foo = 1" + " " * 100_000)
    assert len(str(caught.value)) < 2000
    assert "<string>:1:100001: error: unknown option Foo" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "a { " * 100_000,
        "{" * 100_000,
        "a = " + "( " * 100_000,
        "a = " + "[ a = " * 100_000,
        "ESMTP_Listener { " * 100_000 + "}" * 100_000,
        "a" * 1_000_000,
        "a " * 300_000,
        "= " * 300_000,
        '"' * 100_000,
        '\\"\n' * 100_000,
        "x = 'a\n" * 100_000,
        '\\"\n' * 100_000 + '"x',
        "/*" * 100_000,
        "(" * 100_000 + "\n" + ")" * 100_000,
    ],
)
def test_depth_and_size_end_in_a_configuration_error(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_config(text)


def test_a_long_configuration_that_is_sound_loads() -> None:
    pathways = "\n".join(f'Pathway "p{i}" {{ Idle_Time = {i + 1} }}' for i in range(3_000))
    peers = "\n".join(f'Peer "10.0.{i // 256}.{i % 256}" {{ Pathway = "p{i}" }}' for i in range(3_000))
    config = parse_config(f'{pathways}\nESMTP_Listener {{ Listen ":25" {{ {peers} }} }}')
    assert len(config.variants(config.listens[0])) == 3_001


@pytest.mark.parametrize(
    "stanza",
    [
        "auth_ds 'mine' { }",
        "auth_ds { mine = [ query = 'a' ] }",
        "AUTH_DS x { Mine { } }",
        "auth_ds x { scheme 'mine' { } }",
    ],
)
def test_a_scheme_that_a_stanza_of_auth_ds_names_is_a_module_of_momentum(stanza: str) -> None:
    config = parse_config(f"AuthPlainParameters = [ uri = 'mine://' ]\n{stanza}\n{LISTENER}")
    told, _ = config.warnings
    assert (
        told.message
        == "AuthPlainParameters: mine:// is answered by a module of Momentum's: the mechanism is not offered"
    )
